"""The mutants that `make mutation` did not kill, by the reason why no test fails for them.

    python tests/support/mutation_survivors.py [PATTERN ...]

prints those whose names match, as in ``fl_he.crypto.paillier.packing.*``. A reason fits a mutant
by the change itself; a mutant that fits none is printed last, as unexplained: a test or a reason is
missing.
"""

from __future__ import annotations

import re
import sys
from fnmatch import fnmatch
from itertools import groupby
from typing import NamedTuple

from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code
from mutmut.utils.file_utils import walk_mutatable_files

_UNEXPLAINED = "unexplained"


class Mutant(NamedTuple):
    """A mutant that no test has killed."""

    name: str
    before: str
    after: str
    timed_out: bool


#: Reasons, each with an expression for "function: before => after". The first that fits counts.
_REASONS = {
    "out of time: a loop that never ends, a process that waits for ever": r"^out of time ",
    "`strict` is a second lock: both have one length by construction": r"strict=True.* => ",
    "a default said aloud, or another name of the same encoding": (
        r"\"big\".* => |\"(utf-8|ascii)\"|: .*reshape\(.*-1|dtype=np\.bool_|np\.float64"
        r"|errstate\(over=|follow_symlinks=True|token_bytes\((KEY|SEED|SALT|_SALT)_BYTES"
    ),
    "blanks in the JSON of a key, which reads the same": r"separators=",
    "words of an error, or the line that a warning names": (
        r"check_(name|role): shown|_require_vector\(|require_members\(|__repr__"
        r"|: .*\"(key_bits|vector|values)\"|stacklevel=|filemode\("
    ),
    "a search for primes, tables or windows: slower, faster or larger, with the same result": (
        r"_prime:|_small_primes:|_random_prime:|_of_order:|_small_powers:|cheapest_window"
        r"|_prepare|linear_map: _small_powers|linear_map: if (window|weight)|linear_map: largest"
        r"|_rows: list|: for start in range|_done = 0|: row_bytes|\[block \* step"
        r"|best_window|FixedBaseTable\.__init__: digits"
        r"|Masker\.\w+: (bits|window|table|self\.prepare)|together\(queries\) > 1"
    ),
    "how many cores, threads or processes work, and whether they find the package": (
        r"cores|Worker\.__init__: (paths|stderr|env)|Worker\.__init__: self\._ready"
        r"|sched_getaffinity|os\.cpu_count|ThreadPoolExecutor|_WORTH_A_PROCESS|share = count"
        r"|threads: int = 1"
    ),
    "of a failed worker only that it failed is told": r"failures\.append|finished\.append",
    "a type in `cast`": r"cast\(",
    "what was checked before is not handed on: it is checked again, which takes longer": (
        r"known=known"
    ),
    "refused a line later, by another rule": (
        r"% 4 != 3|\"sealing\", SEED_BYTES|MAXIMUM_KEY_BITS|file\.read\(|\+ 12:|2 \* limit"
        r"|: if p < 1 |found\[2:4\]|: data = b|parsed: object"
    ),
    "the border of a limit that nothing honest comes near": (
        r"key_bits: int = 2048|_CONTEXT_LIMIT|_MAXIMUM_CONTRIBUTORS|_MAXIMUM_WORK|m > n // 2"
        r"|largest_difference|3 \* self\.count|self\.slots < 1|randbelow\(u - 1\)"
    ),
    "how a file gets its name or mode: another way to the same file": (
        r"_write_without_name|_write_aside"
    ),
    "cancels, or is the same for all there can be": (
        r"\)\[0\] == p|product = mpz|integer = 0|name\.lower|self\.n & |rstrip"
        r"|\* \([-+]len\(value\)|1 << \(slot_bits|\(power - 1\)|n \* rank|encrypt\(\[0\]"
        r"|first > second|plaintexts = \[0\]|strict=False|O_DIRECTORY"
    ),
}


def _survivors(patterns: list[str]) -> list[Mutant]:
    mutants = []
    for path in sorted(walk_mutatable_files()):
        data = SourceFileMutationData(path=path)
        data.load()
        for name, code in data.exit_code_by_key.items():
            status = status_by_exit_code[code]
            if status in ("survived", "timeout") and any(fnmatch(name, p) for p in patterns):
                lines = get_diff_for_mutant(name, path=path).split("\n")[2:]
                before, after = (
                    " ".join(line[1:].strip() for line in lines if line.startswith(sign))
                    for sign in "-+"
                )
                mutants.append(Mutant(_function(name), before, after, status == "timeout"))
    return mutants


def _function(name: str) -> str:
    """Return ``crypto.paillier.packing.split`` of mutmut's ``fl_he.[...].x_split__mutmut_3``."""
    module, _, function = name.rpartition("__mutmut_")[0].rpartition(".")
    # a letter that no name of ours has surrounds a method's class
    own = re.sub("^x_?", "", function).replace("ǁ", ".").lstrip(".")
    return f"{module.removeprefix('fl_he.')}.{own}"


def _reason(mutant: Mutant) -> str:
    text = f"{mutant.name}: {mutant.before} => {mutant.after}"
    if mutant.timed_out:
        text = f"out of time {text}"
    return next(
        (reason for reason, form in _REASONS.items() if re.search(form, text)), _UNEXPLAINED
    )


def main(patterns: list[str]) -> None:
    """Print the survivors, reason by reason."""
    found = sorted((_reason(mutant), mutant) for mutant in _survivors(patterns))
    for reason, mutants in groupby(found, key=lambda pair: pair[0]):
        listed = [mutant for _, mutant in mutants]
        print(f"\n{reason} ({len(listed)})")
        for mutant in listed:
            print(f"  {mutant.name}\n    - {mutant.before}\n    + {mutant.after}")


if __name__ == "__main__":
    main(sys.argv[1:])
