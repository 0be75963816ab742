"""Tables as hospitals have them: each was refused, misread or slow once."""

from __future__ import annotations

import csv
import json
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import pytest
from cpu_time import at_most
from deployed_nodes import KEY, deployed_nodes
from experiments import experiment
from flwr.app import Message, RecordDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from local_grid import LocalGrid
from patients import patients, write_csv
from quick import slow_but
from reply_forms import form_of

from fl_he import client_app, simulation
from fl_he.config.composition import compose
from fl_he.crypto.paillier.packing import Packing
from fl_he.errors import FlHeError
from fl_he.learning.errors import DataError
from fl_he.learning.regression.registry import load_model
from fl_he.learning.regression.trained import TrainedModel
from fl_he.learning.tables.data import load_table
from fl_he.learning.tables.table import read_features
from fl_he.wire.encrypted_sum import MOMENTS, EncryptionRequest
from fl_he.wire.learning_terms import MomentsRequest
from fl_he.wire.records import ProtocolError

DIED = np.random.default_rng(1).random(90) < 0.3


def table(**columns: object) -> pl.DataFrame:
    """Return 90 patients with columns of the test's own."""
    rng = np.random.default_rng(2)
    age, crp = rng.normal(62, 12, 90).round(), np.exp(rng.normal(2, 0.8, 90)).round(1)
    return pl.DataFrame({"id": [f"P{row}" for row in range(90)], "age": age, "crp": crp, **columns})


def saved(folder: Path, kind: str, frame: pl.DataFrame) -> Path:
    path = folder / f"table.{kind}"
    frame.write_csv(path) if kind == "csv" else frame.write_parquet(path)
    return path


TARGETS = {
    "zero_one": DIED.astype(int),
    "boolean": DIED,
    "small": pl.Series(DIED.astype(int), dtype=pl.UInt8),
    "decimals": DIED.astype(float),
    "python": [str(died) for died in DIED],
    "capitals": [str(died).upper() for died in DIED],
    "blanks": [f" {int(died)}" for died in DIED],
}


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("target", TARGETS)
def test_one_and_true_are_positive(tmp_path: Path, kind: str, target: str) -> None:
    data = load_table(saved(tmp_path, kind, table(died=TARGETS[target])), "died", drop=["id"])
    np.testing.assert_array_equal(data.labels, DIED)
    assert data.feature_names == ("age", "crp")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_dirty_label_is_read_and_told(tmp_path: Path, kind: str) -> None:
    clean = ["yes" if died else "no" for died in DIED]
    dirty = [*clean[:7], " yes", *clean[8:]]
    data = load_table(saved(tmp_path, kind, table(died=dirty)), "died", positive="yes", drop=["id"])
    np.testing.assert_array_equal(data.labels, [*DIED[:7], True, *DIED[8:]])
    row = 9 if kind == "csv" else 8
    assert data.notes == (
        f"column 'died' had blanks around 1 label in row {row}: they are left off",
    )


def wide(columns: int) -> pl.DataFrame:
    cells = {f"c{i}": np.where((np.arange(20) + i) % 3, 0.5, 1.5) for i in range(columns)}
    return pl.DataFrame({**cells, "died": ["yes", "no"] * 10})


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_wide_tables_are_read_in_time_that_grows_as_they_do(tmp_path: Path, kind: str) -> None:
    path = saved(tmp_path, kind, wide(8000))
    with at_most(millions=30):
        data = load_table(path, "died", positive="yes")
    assert data.features.shape == (20, 8000)
    np.testing.assert_array_equal(data.features[:, 1], wide(2)["c1"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_hundred_thousand_columns_are_read(tmp_path: Path, kind: str) -> None:
    path = saved(tmp_path, kind, wide(100_000))
    with at_most(millions=300):
        assert load_table(path, "died", positive="yes").features.shape == (20, 100_000)


@pytest.mark.parametrize("length", [131_072, 131_073, 3_000_000])
def test_cells_of_columns_that_are_dropped_are_of_any_length(tmp_path: Path, length: int) -> None:
    note = ["x" * length, *["a"] * 89]
    path = saved(tmp_path, "csv", table(note=note, died=DIED))
    np.testing.assert_array_equal(load_table(path, "died", drop=["id", "note"]).labels, DIED)
    with pytest.raises(DataError, match=r"column 'note' must be numeric, got 90 cells of text"):
        load_table(path, "died", drop=["id"])


LARGE = {
    "alternating": np.array([1e308, -1e308] * 45),
    "one kind": np.full(90, 1e308),
    "1e20": np.random.default_rng(3).integers(1, 9, 90) * 1e20,
}


@pytest.mark.parametrize("large", LARGE)
@pytest.mark.parametrize("scaling", ["federated", "none"])
@pytest.mark.parametrize("optimizer", slow_but(["gd", "newton"], "gd"))
def test_a_column_that_does_not_fit_is_named(
    tmp_path: Path, large: str, scaling: str, optimizer: str
) -> None:
    path = saved(tmp_path, "csv", table(big=LARGE[large], died=DIED))
    config = experiment(
        *("data=csv", f"data.path={path}", "data.target=died", "data.drop=[id]"),
        *(f"scaling={scaling}", f"optimizer={optimizer}", "simulation.engine=local"),
        folder=tmp_path / "run",
    )
    with pytest.raises(ProtocolError, match=r"column 'big'.* save .* in a larger unit") as caught:
        simulation.run(config, tmp_path / "run")
    if scaling == "federated":  # else a gradient's slot may be too small for any row
        assert re.search(r"'big' \(.* in row \d+\): ", str(caught.value))


@pytest.mark.parametrize(
    ("scaling", "unit"),
    [
        ("federated", 1e-16),
        ("federated", 1e-200),
        ("none", 1e-16),
        ("none", 1e-200),
        ("local", 1e-200),
    ],
)
def test_a_column_that_varies_by_too_little_is_named_and_not_called_constant(
    tmp_path: Path, scaling: str, unit: float
) -> None:
    tiny = [unit * number for number in range(len(DIED))]
    path = saved(tmp_path, "csv", table(tiny=tiny, died=DIED))
    config = experiment(
        *("data=csv", f"data.path={path}", "data.target=died", "data.drop=[id]"),
        *(f"scaling={scaling}", "optimizer=newton", "simulation.engine=local"),
        folder=tmp_path / "run",
    )
    with pytest.raises(FlHeError, match=r"column 'tiny'.* save them in a smaller unit"):
        simulation.run(config, tmp_path / "run")


@pytest.mark.parametrize("scaling", ["federated", "none"])
def test_all_columns_that_do_not_fit_are_named_before_anything_starts(
    tmp_path: Path, scaling: str
) -> None:
    numbers = np.arange(len(DIED), dtype=np.float64)
    columns = {"big": 1e15 + 1e13 * numbers, "tiny": 1e-16 * numbers, "wide": 1e14 * numbers}
    path = saved(tmp_path, "csv", table(**columns, died=DIED))
    config = experiment(
        *("data=csv", f"data.path={path}", "data.target=died", "data.drop=[id]"),
        *(f"scaling={scaling}", "optimizer=newton"),
        folder=tmp_path / "run",
    )
    with pytest.raises(FlHeError) as caught:
        simulation.run(config, tmp_path / "run", lambda event: pytest.fail(f"{event} was told"))
    assert re.fullmatch(
        r"sums over .*; they are larger in column 'big' \(\d+ cells .*, the first in row \d+\), "
        r"column 'wide' \(.*\): correct such cells, .*; squares of .* in column 'tiny': save .*",
        str(caught.value),
    )


@pytest.mark.parametrize("large", LARGE)
def test_a_deployed_node_names_the_column_in_its_log_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, large: str
) -> None:
    nodes = deployed_nodes(tmp_path)
    path = saved(tmp_path, "csv", table(big=LARGE[large], died=DIED))
    nodes[0] |= {"data": str(path), "target": "died", "drop": "id"}
    del nodes[0]["positive"]
    app = client_app.build(lambda _: pytest.fail("a deployed node has no run configuration"))
    grid = LocalGrid(app, nodes)
    content = MomentsRequest(mean=(62.0, 7.0, 0.0)).add_to(RecordDict())
    request = EncryptionRequest(KEY.public_key.to_json(), Packing().to_json(), "session", 1)
    message = Message(request.add_to(content), next(iter(grid.contexts)), MOMENTS)
    with caplog.at_level(logging.ERROR):
        (reply,) = grid.send_and_receive([message])
    assert "big" not in str(form_of(reply))
    assert "they are larger in column 'big' (" in caplog.text
    assert re.search(r"in row \d+\): .* save the column in a larger unit", caplog.text)


RARE = patients(20_000, 0.008, 3)


@pytest.fixture(scope="module")
def rare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a table of which 1.1% of the patients died."""
    path = tmp_path_factory.mktemp("rare") / "rare.csv"
    write_csv(path, RARE)
    return path


def trained_on(path: Path, folder: Path, *settings: str) -> TrainedModel:
    config = compose(
        "config",
        [
            *("data=csv", f"data.path={path}", "data.target=died", "data.positive=yes"),
            *("simulation.engine=local", "crypto.key_bits=1024", *settings),
        ],
    )
    simulation.run(config, folder)
    return load_model(folder / "model.json")


def test_the_default_run_gives_rare_outcomes_their_risk(tmp_path: Path, rare: Path) -> None:
    model = trained_on(rare, tmp_path / "run")
    features, rows = read_features(rare, model.feature_names, "a table")
    _, predictions = model.predictions(features, rows)
    risks = [float(str(probability)) for _, probability in predictions]
    assert np.mean(risks) == pytest.approx(np.mean(RARE["died"] == "yes"), abs=5e-4)
    assert np.mean(risks) == pytest.approx(0.0113, abs=5e-4)


def test_rare_outcomes_have_the_pooled_estimates(tmp_path: Path, rare: Path) -> None:
    model = trained_on(rare, tmp_path / "run", "experiment=inference")
    assert model.feature_names == ("age", "male", "bmi", "crp")
    saved = json.loads((tmp_path / "run" / "model.json").read_text())
    estimates = np.array(saved["coefficients"]) / saved["scale"]
    np.testing.assert_allclose(estimates, [0.038644, 0.314710, 0.035793, 0.026977], atol=6e-7)


NAMES = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=5
).filter(lambda name: not name[0].isdigit() and name.lower() not in ("nan", "inf", "infinity"))
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
COLUMNS = st.integers(1, 5).flatmap(
    lambda rows: st.dictionaries(
        NAMES.map(lambda name: f"c {name}"),
        st.lists(NUMBERS, min_size=rows, max_size=rows),
        min_size=2,  # a lone column with a bar in its name may be a table with another separator
        max_size=4,
    )
)


@given(columns=COLUMNS, quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_what_is_written_is_read_back(
    tmp_path: Path, columns: dict[str, Sequence[float]], quoting: Literal[0, 1]
) -> None:
    frame = pl.DataFrame(columns)
    path = tmp_path / "table.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=quoting)
        writer.writerows([columns, *frame.rows()])
    by_python, rows = read_features(path, list(columns), "a table")
    np.testing.assert_array_equal(by_python, frame.to_numpy())
    assert rows.numbers.tolist() == list(range(2, frame.height + 2))
    for kind in ("csv", "parquet"):
        by_polars, _ = read_features(saved(tmp_path, kind, frame), list(columns), "a table")
        np.testing.assert_array_equal(by_polars, frame.to_numpy())
