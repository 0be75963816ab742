"""Tables of three hospitals by an encrypted sum, against polars and statsmodels on pooled rows."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from command_line import fl_he
from described_patients import SIZES, STAGES, settings, write_patients
from experiments import experiment
from flwr.app import RecordDict
from flwr.serverapp.strategy import FedAvg
from local_grid import LocalGrid, simulated_nodes
from quick import slow, slow_but
from scipy.optimize import brentq
from scipy.stats import norm
from statsmodels.duration.survfunc import SurvfuncRight, survdiff

from fl_he import client_app, simulation
from fl_he.clients.table_cells import blank_table
from fl_he.config.constraints import ConfigError
from fl_he.experiment.data import simulated_data
from fl_he.experiment.plan import described_form
from fl_he.learning.describing.form import table_form
from fl_he.learning.errors import DataError
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.moments import Limbs
from fl_he.run_files.metrics import read_metrics
from fl_he.strategies.encrypted_sum import EncryptedSum
from fl_he.strategies.opened_sum import MisfitError, RefusedError, UnopenedSum
from fl_he.wire.encrypted_sum import DECRYPT
from fl_he.wire.records import ProtocolError
from fl_he.wire.table import TableReply, TableRequest, table_question

TABLE1 = ("experiment=table1", "simulation.engine=local")


def run(folder: Path, *more: str) -> dict[str, Any]:
    config = experiment(*settings(folder), *TABLE1, *more, folder=folder / "run")
    return simulation.run(config, folder / "run")


def variables(metrics: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in metrics["table"]["variables"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("table1")


@pytest.fixture(scope="module")
def whole(folder: Path) -> pl.DataFrame:
    tables = write_patients(folder)
    return pl.concat(tables).with_columns(pl.col("stage").replace({"": None}))


@pytest.fixture(scope="module")
def metrics(folder: Path, whole: pl.DataFrame) -> dict[str, Any]:
    return run(folder, "describe.by=outcome", "describe.bins=60")


def test_figures_are_those_of_the_pooled_rows(metrics: dict[str, Any], whole: pl.DataFrame) -> None:
    table, found = metrics["table"], variables(metrics)
    groups = [whole, *(whole.filter(pl.col("died") == label) for label in ("no", "yes"))]
    assert (table["rows"], table["groups"]) == (len(whole), ["not yes", "yes"])
    assert table["sizes"] == [len(one) for one in groups[1:]]
    assert (metrics["hospitals"], table["min_cell"]) == (3, 5)
    for name in ("age", "crp", "offset", "nyha"):
        for summary, own in zip(found[name]["summaries"], groups, strict=True):
            cells = own[name].drop_nulls()
            assert summary["present"] == len(cells)
            assert summary["missing"] == own[name].null_count()
            assert summary["mean"] == pytest.approx(cells.mean(), rel=1e-9)
            assert summary["sd"] == pytest.approx(cells.std(), rel=1e-9)
    for name, levels in (("sex", ("F", "M")), ("smoker", ("no", "yes")), ("stage", STAGES)):
        assert found[name]["levels"] == [[level] for level in levels]
        for summary, own in zip(found[name]["summaries"], groups, strict=True):
            assert summary["counts"] == [(own[name] == level).sum() for level in levels]
            assert summary["missing"] == own[name].null_count()
    for summary, own in zip(found["age"]["summaries"], groups, strict=True):
        exact = np.quantile(own["age"].to_numpy(), (0.25, 0.5, 0.75), method="inverted_cdf")
        for (low, high), value in zip(summary["quartiles"], exact, strict=True):
            assert low < value <= high
    assert found["crp"]["summaries"][0]["quartiles"] == []
    assert found["sex"]["difference"] == pytest.approx(_difference(groups[1:], "sex", "F"))


def _difference(groups: list[pl.DataFrame], name: str, level: str) -> float:
    first, second = ((one[name] == level).to_numpy().mean() for one in groups)
    spread = (first * (1 - first) + second * (1 - second)) / 2
    return float(abs(first - second) / np.sqrt(spread))


def test_the_table_is_written_and_shown(folder: Path, metrics: dict[str, Any]) -> None:
    written = folder / "run"
    assert read_metrics(written) == metrics
    names = {path.name for path in written.iterdir()}
    assert {"metrics.json", "table1.csv", "table1.md", "report.html"} <= names
    rows = list(csv.reader((written / "table1.csv").read_text().splitlines()))
    sizes = metrics["table"]["sizes"]
    heads = ["by outcome", "all rows (n=480)", f"not yes (n={sizes[0]})", f"yes (n={sizes[1]})"]
    assert rows[0] == [*heads, "std. difference"]
    by_name = {row[0]: row[1:] for row in rows}
    age = variables(metrics)["age"]["summaries"][0]
    assert by_name["age (years), mean (SD)"][0] == f"{age['mean']:.1f} ({age['sd']:.1f})"
    count = variables(metrics)["sex"]["summaries"][0]["counts"][0]
    assert by_name["  F"][0] == f"{count} ({100 * count / 480:.1f})"
    markdown = (written / "table1.md").read_text()
    assert f"| &nbsp;&nbsp;F | {count} ({100 * count / 480:.1f})" in markdown
    code, printed, errors = fl_he(folder, "report", "run")
    assert (code, errors) == (0, "")
    assert "mean (SD)" in printed
    assert "each quartile is shown as the bin that contains it" in printed
    page = (written / "report.html").read_text()
    assert "<h2" in page
    assert "Who could see what" in page
    assert "age (years), mean (SD)" in page
    assert "each quartile is shown as the bin that contains it" in page


def test_nothing_smaller_than_the_cell_leaves(folder: Path, whole: pl.DataFrame) -> None:
    rare = folder / "rare"
    rare.mkdir()
    tables = write_patients(rare)
    tables[0] = tables[0].with_columns(
        pl.when(pl.int_range(pl.len()) < 3).then(pl.lit("IV")).otherwise("stage").alias("stage")
    )
    tables[0].write_csv(rare / "site1.csv")
    found = variables(run(rare, "describe.columns=[stage,age]"))
    assert [*found] == ["stage", "age"]
    assert found["stage"]["levels"] == [["I"], ["II"], ["III", "IV"]]
    assert "levels are merged" in found["stage"]["withheld"]


@pytest.mark.parametrize("sizes", [SIZES, *slow(((3000, 400, 60),))])
def test_curves_and_the_log_rank_test_are_statsmodels(
    tmp_path: Path, sizes: tuple[int, ...]
) -> None:
    whole = pl.concat(write_patients(tmp_path, "cox", sizes=sizes))
    grid = np.array([3.0, 6.0, 12.0, 24.0, 60.0])
    times = f"describe.grid=[{','.join(map(str, grid))}]"
    metrics = run(tmp_path, "describe.by=sex", "describe.columns=[age]", times)
    survival = metrics["table"]["survival"]
    assert survival["times"] == grid.tolist()
    assert metrics["table"]["time"] == "months (30 days)"
    months, event = whole["months"].to_numpy(), whole["event"].to_numpy()
    rounded, sex = grid[np.searchsorted(grid, months)], whole["sex"].to_numpy()
    for curve, group in zip(survival["curves"], (None, "F", "M"), strict=True):
        own = sex == group if group else np.ones(len(sex), bool)
        theirs = SurvfuncRight(rounded[own], event[own])
        assert curve["survival"] == pytest.approx(theirs.surv_prob, abs=1e-9)
        assert curve["standard_error"] == pytest.approx(theirs.surv_prob_se, abs=1e-9)
        assert curve["median"] == theirs.quantile(0.5)
    chi2, p = survdiff(rounded, event, sex)
    test = survival["log_rank"]
    assert (test["chi2"], test["p_value"]) == pytest.approx((chi2, p), rel=1e-9)
    csv_text = (tmp_path / "run" / "table1.csv").read_text()
    assert (
        f"log-rank test of times rounded up to the grid: chi2 {chi2:.3f} with 1 degrees of freedom"
        in csv_text
    )


@pytest.mark.parametrize(
    "setting",
    slow_but(
        (
            *("topology=chain", "crypto.scheme=masks", "crypto.collusion=resistant"),
            "topology=chain crypto.scheme=masks crypto.collusion=resistant",
        ),
        "crypto.scheme=masks",
    ),
)
def test_the_table_is_the_same_however_it_is_summed(
    folder: Path, metrics: dict[str, Any], setting: str
) -> None:
    own = experiment(
        *(*settings(folder), *TABLE1, "describe.by=outcome", "describe.bins=60"),
        *setting.split(),
        folder=folder / "summed",
    )
    assert simulation.run(own, folder / "summed")["table"] == metrics["table"]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("describe.by=age", "declares as category or boolean, got 'age', a column of numbers"),
        ("describe.by=site", "schema's terms, .*, got 'site': add the column to terms"),
        ("describe.columns=[weight]", "columns of a table must be among"),
        ("describe.grid=[12]", "must be of an outcome of family cox"),
        ("describe.grid=[12,6]", "describe.grid must be times above 0 that ascend"),
        ("test_size=0.2", "test_size must be 0 with describe.enabled=true"),
        ("describe.enabled=false describe.by=sex", "describe.by must come with"),
        ("evaluate=true", "must be"),
        ("describe.columns=[age,age]", "no column twice"),
    ],
)
def test_what_a_table_has_not_is_refused(
    folder: Path, whole: pl.DataFrame, setting: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        run(folder, *setting.split())


@pytest.fixture(scope="module")
def bounded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder whose schema has bounds of all numbers, and no mean of missing cells."""
    made = tmp_path_factory.mktemp("bounded")
    write_patients(made)
    schema = (made / "schema.yaml").read_text()
    schema = schema.replace("number, missing: mean", "number, missing: indicator, bounds: [0, 300]")
    schema = schema.replace("offset: {type: number}", "offset: {type: number, bounds: [0, 2e6]}")
    (made / "schema.yaml").write_text(schema.replace("bounds: [0, 300]", 'bounds: ["0", "300"]'))
    return made


COLUMNS = "describe.columns=[age,nyha,sex]"


def delta_of(epsilon: float, mu: float) -> float:
    """Return the delta of a Gaussian release (Balle, Wang 2018, theorem 8)."""
    above, below = -epsilon / mu + mu / 2, -epsilon / mu - mu / 2
    return float(norm.cdf(above) - math.exp(epsilon) * norm.cdf(below))


def epsilon_of_mu(mu: float) -> float:
    return float(brentq(lambda epsilon: delta_of(epsilon, mu) - 1e-5, 0.01, 50.0))


def mu_of_epsilon(epsilon: float) -> float:
    return float(brentq(lambda mu: delta_of(epsilon, mu) - 1e-5, 0.01, 10.0))


@pytest.mark.parametrize("epsilon", [1.0, 1e4])
def test_a_private_table_has_the_noise_of_its_budget(bounded: Path, epsilon: float) -> None:
    more = (COLUMNS, "describe.by=outcome", "privacy=gaussian", f"privacy.epsilon={epsilon}")
    found = run(bounded, *more, f"output_dir={bounded}/{epsilon}")
    table, privacy = found["table"], found["privacy"]
    assert privacy["epsilon"] == pytest.approx(epsilon, rel=1e-3)
    if epsilon == 1.0:
        counted = privacy["contributors_counted"]
        for key, of in (("epsilon_towards_a_hospital", counted - 1), ("epsilon_of_one_update", 1)):
            right = epsilon_of_mu(mu_of_epsilon(epsilon) * math.sqrt(counted / of))
            assert privacy[key] == pytest.approx(right, rel=1e-3)
            assert f": epsilon {privacy[key]:.4g}" in (bounded / "run" / "table1.md").read_text()
    assert (table["withheld"], table["rows"]) == ({}, 480)
    exact = run(bounded, COLUMNS, "describe.by=outcome")["table"]
    assert (exact["noise"], table["noise"] > 0.0) == (None, True)
    errors = [
        one - right
        for ours, theirs in zip(table["variables"], exact["variables"], strict=True)
        for summary, other in zip(ours["summaries"][1:], theirs["summaries"][1:], strict=True)
        for one, right in zip(summary["counts"], other["counts"], strict=True)
    ]
    assert len(errors) == 4
    assert max(map(abs, errors)) < 6 * table["noise"] + 1
    ages = [one["variables"][0]["summaries"][0]["mean"] for one in (table, exact)]
    assert abs(ages[0] - ages[1]) < 60 * 6 * 2 * table["noise"] / 480 + 1e-3
    if epsilon == 1.0:
        assert any(errors)
        assert 5 < table["noise"] < 100
    else:
        assert table["sizes"] == exact["sizes"]
    page = (bounded / "run" / "report.html").read_text()
    assert "No differential privacy" not in page


def test_what_a_private_table_has_not_is_refused(folder: Path, bounded: Path) -> None:
    with pytest.raises(DataError, match="missing: mean must be left out"):
        run(folder, "privacy=gaussian")
    with pytest.raises(ConfigError, match=r"plan must be null with describe.enabled=true"):
        run(bounded, COLUMNS, "privacy=gaussian", "plan=plan.json")


def test_numbers_without_digits_end_the_run(tmp_path: Path) -> None:
    tables = write_patients(tmp_path)
    tables[1].with_columns(pl.lit(1e20).alias("offset")).write_csv(tmp_path / "site2.csv")
    with pytest.raises(MisfitError, match=r"numbers of column 'offset' must be below 1e.14"):
        run(tmp_path)


def test_a_table_of_features_needs_no_schema(tmp_path: Path) -> None:
    config = experiment(*TABLE1, "data=breast_cancer", folder=tmp_path)
    metrics = simulation.run(config, tmp_path)
    *features, outcome = metrics["table"]["variables"]
    assert len(features) == 30
    assert (outcome["name"], outcome["levels"]) == ("outcome", [["not benign"], ["benign"]])
    assert outcome["summaries"][0]["counts"] == [212, 357]
    assert json.loads((tmp_path / "metrics.json").read_text())["protocol"] == "table1"


def test_a_total_of_too_many_numbers_is_refused_before_anything_is_made_for_it(
    folder: Path,
) -> None:
    classes = tuple(f"g{group}" for group in range(50))
    names = tuple(f"x{column}" for column in range(500))
    wide = Dataset(np.zeros((50, 500)), np.arange(50.0), names, classes=classes)
    config = experiment(*settings(folder), *TABLE1, "describe.by=outcome", folder=folder)
    words = "at most 200000 numbers in its total, got 225050"
    with pytest.raises(ConfigError, match=words):
        described_form(config, wide)
    with pytest.raises(ProtocolError, match=words):
        blank_table(table_form(wide, by="outcome"), Limbs(24, 24))


class StoppedError(Exception):
    pass


def test_company_x_answers_for_the_form_that_hospitals_were_asked(
    folder: Path, whole: pl.DataFrame
) -> None:
    """Cells are in the sum of all hospitals, and no other reading of them is answered."""
    config = experiment(*settings(folder), *TABLE1, folder=folder / "none")
    sums = list[UnopenedSum]()

    def keep(unopened: UnopenedSum) -> None:
        sums.append(unopened)
        raise StoppedError

    grid = LocalGrid(client_app.build(lambda _: config), simulated_nodes(3))
    strategy = EncryptedSum(FedAvg(min_available_nodes=3), on_summed=keep)
    roster = strategy.call_roll(grid)
    form = table_form(simulated_data(config).train, bins=8)
    with pytest.raises(StoppedError):
        strategy.table(1, table_question(form))
    request = sums[0].request.to_content()
    finer = TableRequest(replace(form, bins=9)).to_content()
    for form_content, words in (
        (RecordDict(), "the cells of a table must come with its form"),
        (finer, "the sum must hold the"),
        (TableRequest(replace(form, columns=form.columns[::-1])).to_content(), "made for this"),
    ):
        reply = roster.ask_company_x(DECRYPT, RecordDict({**request, **form_content}))
        assert reply.has_error()
        assert words in str(reply.error.reason)
    right = RecordDict({**request, **TableRequest(form).to_content()})
    table = TableReply.from_content(roster.ask_company_x(DECRYPT, right).content).table
    assert table.rows == len(whole)


def test_company_x_gives_out_one_table_in_a_session(folder: Path, whole: pl.DataFrame) -> None:
    config = experiment(*settings(folder), *TABLE1, folder=folder / "none")
    grid = LocalGrid(client_app.build(lambda _: config), simulated_nodes(3))
    strategy = EncryptedSum(FedAvg(min_available_nodes=3))
    strategy.call_roll(grid)
    form = table_form(simulated_data(config).train, bins=8)
    assert strategy.table(1, table_question(form)).rows == len(whole)
    with pytest.raises(RefusedError, match="tables are given out once in a session"):
        strategy.table(2, table_question(replace(form, bins=9)))
