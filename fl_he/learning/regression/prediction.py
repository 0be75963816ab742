"""A saved model's predictions for a table."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fl_he.learning.errors import DataError
from fl_he.learning.regression.trained import TrainedModel
from fl_he.learning.tables.table import numbers
from fl_he.learning.tables.table_file import read_table


def predictions(model: TrainedModel, path: Path) -> tuple[list[str], list[list[str]]]:
    """Predict every row of a table.

    Parameters
    ----------
    model
    path
        A CSV or Parquet file with the model's features among its columns, in any order.

    Returns
    -------
    header : list of str
        ``predicted`` and ``probability`` of label 1; or of more than two classes ``predicted`` and
        the classes' names.
    rows : list of list of str
        Numbers with the digits that give back the same float64.

    Raises
    ------
    DataError
        If the table lacks a feature, or a cell is no finite number. It never shows a cell.
    """
    table, rows = read_table(path, None)
    missing = [name for name in model.feature_names if name not in table.columns]
    if missing:
        raise DataError(
            f"a table to predict must have the model's {len(model.feature_names)} features, got "
            f"one without {', '.join(map(repr, missing[:5]))}"
            + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        )
    features = np.column_stack([numbers(table[name], rows) for name in model.feature_names])
    return model.predictions(features)
