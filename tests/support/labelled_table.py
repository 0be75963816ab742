"""A table of cases with several labels, made from a seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.datasets import make_multilabel_classification


def write_labelled_table(path: Path, labels: str = "abcde", rows: int = 600, seed: int = 0) -> None:
    """Write 12 features and a column of 0 and 1 for each letter of `labels`."""
    features, having = make_multilabel_classification(
        rows, n_features=12, n_classes=len(labels), n_labels=2, random_state=seed
    )
    names = [*(f"x{number}" for number in range(12)), *labels]
    table = np.hstack([features, having])
    np.savetxt(path, table, "%d", delimiter=",", header=",".join(names), comments="")
