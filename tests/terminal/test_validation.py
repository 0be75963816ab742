from __future__ import annotations

import numpy as np

from fl_he.learning.regression.gaussian import GAUSSIAN
from fl_he.learning.regression.validation import validate
from fl_he.learning.tables.data import Dataset
from fl_he.report.blocks import Sheet
from fl_he.terminal.validation import validation_page


def figures(margins: np.ndarray) -> dict[str, str]:
    data = Dataset(margins, margins[:, 0] + 0.5, ("margin",), family="gaussian")
    page = validation_page(validate(GAUSSIAN, margins, data), "run", "new.csv", ["said"])
    assert [note.text for note in page.notes] == ["said"]
    assert page.subtitle.startswith("4 rows of new.csv. Computed on this machine")
    (sheet,) = page.sections[0].blocks
    assert isinstance(sheet, Sheet)
    return {row.cells[0]: row.cells[1] for row in sheet.rows}


def test_a_ratio_of_sums_is_of_predictions_on_one_side_of_0() -> None:
    above = figures(np.array([[1.0], [2.0], [3.0], [4.0]]))
    assert (above["observed"], above["expected"]) == ("12", "10")
    assert above["observed / expected"] == "1.200"
    assert figures(np.array([[-1.0], [2.0], [3.0], [4.0]]))["observed / expected"] == "n/a"
    large = figures(np.array([[1000.25], [2000.0], [3000.0], [4000.0]]))
    assert (large["observed"], large["expected"]) == ("10,002", "10,000")
    assert (above["calibration in the large"], above["D2"]) == ("0.500", "0.800")
