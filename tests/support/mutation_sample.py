"""The mutants that `make mutation SAMPLE=5` judges: 5 percent of each module, at random.

    python tests/support/mutation_sample.py PERCENT PATTERN ...

names those that match and have not been judged. A larger sample contains the smaller ones. The
mutants must have been made, by `make mutation`, however soon it was interrupted.
"""

from __future__ import annotations

import random
import sys
from fnmatch import fnmatch
from math import ceil

from mutmut.mutation.data import SourceFileMutationData
from mutmut.utils.file_utils import walk_mutatable_files

_SEED = 8


def main(percent: int, patterns: list[str]) -> None:
    """Print the names, one a line."""
    for path in sorted(walk_mutatable_files()):
        data = SourceFileMutationData(path=path)
        data.load()
        names = sorted(
            name
            for name in data.exit_code_by_key
            if any(fnmatch(name, pattern) for pattern in patterns)
        )
        random.Random(f"{_SEED} {path}").shuffle(names)
        for name in names[: ceil(len(names) * percent / 100)]:
            if data.exit_code_by_key[name] is None:
                print(name)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
