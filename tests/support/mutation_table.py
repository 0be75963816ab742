"""The figures of `make mutation`, module by module, as the table of docs/security-appendix.md.

    python tests/support/mutation_table.py [PATTERN ...]

counts the mutants whose names match, as in ``fl_he.crypto.paillier.packing.*``. Killed mutants are
those that a test found. A mutant that ran out of time is counted apart, not as killed: it may be an
endless loop, a process that waits forever, or a busy machine. If only a part of a module has been
judged, its share is an estimate with Wilson's 95% interval.
"""

from __future__ import annotations

import sys
from collections import Counter
from fnmatch import fnmatch

from mutmut.mutation.data import SourceFileMutationData
from mutmut.stats import status_by_exit_code
from mutmut.utils.file_utils import walk_mutatable_files
from statsmodels.stats.proportion import proportion_confint


def main(patterns: list[str]) -> None:
    """Print one row for each module, one for each package, and one for all."""
    rows: dict[str, Counter[str]] = {}
    for path in sorted(walk_mutatable_files()):
        data = SourceFileMutationData(path=path)
        data.load()
        counts = Counter(
            status_by_exit_code[code]
            for name, code in data.exit_code_by_key.items()
            if any(fnmatch(name, pattern) for pattern in patterns)
        )
        if counts.total():
            rows["/".join(path.parts[1:]).removesuffix(".py")] = counts
    print("| module | mutants | judged | killed | out of time | survived | killed |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name, counts in rows.items():
        print(_row(name, counts))
    packages = dict.fromkeys(name.partition("/")[0] for name in rows)
    for package in packages:
        print(_row(f"**{package}**", _sum(rows, package + "/")))
    if len(packages) > 1:
        print(_row("**all**", _sum(rows, "")))


def _sum(rows: dict[str, Counter[str]], prefix: str) -> Counter[str]:
    return sum((row for name, row in rows.items() if name.startswith(prefix)), Counter())


def _row(name: str, counts: Counter[str]) -> str:
    total, killed, timeout = counts.total(), counts["killed"], counts["timeout"]
    judged = total - counts["not checked"]
    share = f"{killed / judged:.1%}" if judged else ""
    if 0 < judged < total:
        low, high = proportion_confint(killed, judged, method="wilson")
        share += f" ({low:.0%} to {high:.0%})"
    numbers = (total, judged, killed, timeout, judged - killed - timeout)
    return f"| {name} | {' | '.join(map(str, numbers))} | {share} |"


if __name__ == "__main__":
    main(sys.argv[1:] or ["*"])
