"""Missing cells that get the federated mean, against statsmodels on the pooled rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from command_line import fl_he
from experiments import experiment
from means import FEATURES, IMPUTED, SCHEMA, filled, pooled_fit, tables, write_tables
from quick import release, slow

from fl_he import simulation
from fl_he.capc.data import capc_data
from fl_he.experiment.data import simulated_data, with_sites
from fl_he.learning.errors import DataError

pytestmark = pytest.mark.filterwarnings("ignore:.*:fl_he.learning.errors.DataWarning")
PRIVATE = (
    *("privacy=gaussian", "privacy.epsilon=1", "privacy.delta=1e-5", "privacy.clip=1"),
    *("optimizer=gd", "rounds=3", "C=1.0", "scaling=none", "privacy.scaling=0.5"),
)


def settings(folder: Path, frames: list[pd.DataFrame], schema: str = SCHEMA) -> tuple[str, ...]:
    paths = ",".join(map(str, write_tables(folder, frames)))
    (folder / "schema.yaml").write_text(schema)
    return "data=csv", f"data.path=[{paths}]", f"data.schema={folder}/schema.yaml"


def trained(folder: Path, frames: list[pd.DataFrame], *more: str) -> dict[str, Any]:
    config = experiment(
        *("experiment=inference", "simulation.engine=local"),
        *(*settings(folder, frames), *more),
        folder=folder / "run",
    )
    return simulation.run(config, folder / "run")


def test_missing_cells_get_the_mean_of_all_hospitals(tmp_path: Path) -> None:
    frames = tables()
    metrics = trained(tmp_path, frames)
    means = filled(frames)[[*IMPUTED]].mean()
    assert list(metrics["imputed"]) == list(IMPUTED)
    np.testing.assert_allclose([*metrics["imputed"].values()], means, rtol=1e-13, atol=0)
    rows = {row["name"]: row for row in metrics["inference"]["coefficients"]}
    estimates, errors = pooled_fit(frames)
    assert list(rows) == [*FEATURES, "(intercept)"]
    order = [rows[name] for name in ("(intercept)", *FEATURES)]
    for key, expected in (("estimate", estimates), ("standard_error", errors)):
        np.testing.assert_allclose([row[key] for row in order], expected, rtol=1e-6, atol=1e-6)
    assert metrics["pooled"]["largest_difference"] < 1e-6


def test_a_saved_model_fills_missing_cells_in_alike(tmp_path: Path) -> None:
    frames = tables()
    metrics = trained(tmp_path, frames)
    pooled = pd.concat(frames, ignore_index=True)
    pooled.drop(columns="died").to_csv(tmp_path / "new.csv", index=False)
    expected = None
    for folder in ("run", "run/hospitals/2"):
        model = json.loads((tmp_path / folder / "model.json").read_text())
        assert (model["version"], model["imputed"]) == (8, metrics["imputed"])
        code, out, err = fl_he(tmp_path, "predict", folder, "new.csv")
        assert (code, err) == (0, "")
        found = [float(line.split(",")[1]) for line in out.splitlines()[1:]]
        expected = expected or found
        assert found == expected
    whole = filled(frames).drop(columns="died")
    days = pd.to_timedelta(whole["admitted"].round(), unit="D") + pd.Timestamp("2023-01-01")
    has_cells = pooled[["age", "male", "admitted"]].notna().all(axis=1)
    whole = whole.assign(admitted=days.dt.strftime("%Y-%m-%d"))[has_cells]
    whole.assign(age=whole["age"].astype(int)).to_csv(tmp_path / "whole.csv", index=False)
    code, out, err = fl_he(tmp_path, "predict", "run", "whole.csv")
    assert (code, err) == (0, "")
    found = [float(line.split(",")[1]) for line in out.splitlines()[1:]]
    np.testing.assert_allclose(found, np.array(expected)[has_cells], rtol=0, atol=1e-9)
    altered = json.loads((tmp_path / "run" / "model.json").read_text())
    del altered["imputed"]["crp"]
    (tmp_path / "run" / "model.json").write_text(json.dumps(altered))
    code, out, err = fl_he(tmp_path, "predict", "run", "new.csv")
    assert (code, out) == (1, "")
    assert "means must be those of the columns with missing: mean, 'admitted', 'age', " in err


@pytest.mark.parametrize(
    "more",
    [
        *slow(
            (("optimizer=gd", "scaling=local", "rounds=3", "C=1.0"),),
            (("optimizer=lbfgs", "scaling=none", "rounds=3", "C=1.0"),),
            (("optimizer=newton", "class_weight=balanced", "C=1.0"),),
            (("optimizer=newton", "evaluate=true", "test_size=0.2", "scaling=none"),),
        ),
        *release((("penalty=firth", "inference.profile=[bmi]"),)),
    ],
)
def test_the_comparison_has_the_same_means(tmp_path: Path, more: tuple[str, ...]) -> None:
    frames = tables()
    metrics = trained(tmp_path, frames, *more)
    assert list(metrics["imputed"]) == list(IMPUTED)
    if "rounds=3" not in more:
        assert metrics["pooled"]["largest_difference"] < 1e-6
    if "evaluate=true" in more:
        assert metrics["evaluation"]["roc_auc"] == pytest.approx(
            metrics["federated"]["roc_auc"], abs=0.01
        )


def test_means_are_of_the_training_rows(tmp_path: Path) -> None:
    frames = tables()
    metrics = trained(tmp_path, frames, "test_size=0.2")
    config = experiment(
        *("experiment=inference", *settings(tmp_path, frames), "test_size=0.2"),
        folder=tmp_path / "run",
    )
    waiting = simulated_data(with_sites(config)).train.incomplete
    assert waiting is not None
    means = np.nanmean(waiting.cells, axis=0)
    np.testing.assert_allclose([*metrics["imputed"].values()], means, rtol=1e-13)
    whole = filled(frames)[[*IMPUTED]].mean()
    assert not np.allclose(means, whole, rtol=1e-6)


def few(frames: list[pd.DataFrame], present: int, missing: int) -> list[pd.DataFrame]:
    """Set the number of present or of missing cells of bmi in all tables (-1: the other is set)."""
    pooled = pd.concat(frames, ignore_index=True)
    cells = pd.concat([pd.DataFrame(frame)["bmi"] for frame in frames], ignore_index=True)
    cells = cells.fillna(27.0)
    count = present if present >= 0 else len(cells) - missing
    pooled["bmi"] = cells.where(np.arange(len(cells)) < count, None)
    return [pooled[:300], pooled[300:500], pooled[500:]]


@pytest.mark.parametrize(("present", "missing"), [(4, -1), (-1, 1), (-1, 4)])
def test_a_small_cell_is_refused_by_name(tmp_path: Path, present: int, missing: int) -> None:
    with pytest.raises(DataError) as refusal:
        trained(tmp_path, few(tables(), present, missing))
    assert str(refusal.value) == (
        "a column with missing: mean must have at least 5 cells in all tables together, and none "
        "or at least 5 missing ones; too few in column 'bmi': declare missing: drop-row or "
        "indicator"
    )


def test_a_column_without_cells_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has a cell in column 'bmi' with missing: mean: leave it"):
        trained(tmp_path, few(tables(), 0, -1))


@pytest.mark.parametrize("missing", [0, 5])
def test_no_missing_cell_or_enough_are_no_small_cell(tmp_path: Path, missing: int) -> None:
    frames = few(tables(), -1, missing)
    assert trained(tmp_path, frames)["imputed"]["bmi"] == pytest.approx(
        filled(frames)["bmi"].mean()
    )


def test_means_are_refused_under_privacy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"left out of column 'age' of a schema with privacy=gauss"):
        trained(tmp_path, tables(), *PRIVATE)


def test_means_are_refused_in_capc(tmp_path: Path) -> None:
    data, _, schema = settings(tmp_path, tables())
    one = ("experiment=capc_breast_cancer", data, f"data.path={tmp_path}/1.csv", schema)
    config = experiment(*one, folder=tmp_path)
    with pytest.raises(DataError, match=r"left out of column 'age' of a schema in CaPC"):
        capc_data(config)


def test_a_report_says_that_means_were_opened(tmp_path: Path) -> None:
    metrics = trained(tmp_path, tables())
    page = (tmp_path / "run" / "report.html").read_text()
    assert "the present cells of each column with missing: mean" in page
    assert f"bmi {metrics['imputed']['bmi']:.6g}" in page


def test_a_table_with_missing_cells_has_no_fault(tmp_path: Path) -> None:
    settings(tmp_path, tables())
    code, out, err = fl_he(tmp_path, "check", "1.csv", "--schema", "schema.yaml")
    assert (code, err) == (0, "")
    assert "column 'bmi': 23 missing cells get the mean of all hospitals (missing: mean)" in out
    assert "1.csv: 300 rows, no fault" in out
