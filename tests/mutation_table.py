"""The figures of `make mutation`, module by module, as the table of docs/security.md.

    python tests/mutation_table.py [PATTERN]

counts the mutants whose names match, as in ``fl_he.crypto.slots.*``. A timeout counts as killed:
it is a loop that does not end, or a process that waits for ever.
"""

from __future__ import annotations

import sys
from collections import Counter
from fnmatch import fnmatch

from mutmut.mutation.data import SourceFileMutationData
from mutmut.stats import status_by_exit_code
from mutmut.utils.file_utils import walk_mutatable_files


def main(pattern: str) -> None:
    """Print one row for each module, and one for all."""
    rows: dict[str, Counter[str]] = {}
    for path in walk_mutatable_files():
        data = SourceFileMutationData(path=path)
        data.load()
        counts = Counter(
            status_by_exit_code[code]
            for name, code in data.exit_code_by_key.items()
            if fnmatch(name, pattern)
        )
        if counts.total():
            rows["/".join(path.parts[1:])] = counts
    print("| module | mutants | killed | timeout | survived | no test | killed |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name, counts in [*rows.items(), ("**all**", sum(rows.values(), Counter()))]:
        tried = counts.total() - counts["not checked"]
        killed = counts["killed"] + counts["timeout"]
        numbers = (counts[kind] for kind in ("killed", "timeout", "survived", "no tests"))
        percent = f"{killed / tried:.1%}" if tried else "not tried"
        print(f"| {name} | {tried} | {' | '.join(map(str, numbers))} | {percent} |")


if __name__ == "__main__":
    main(*(sys.argv[1:2] or ["*"]))
