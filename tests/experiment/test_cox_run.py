"""Cox models stratified by hospital, federated, against statsmodels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from command_line import fl_he
from example_metrics import text
from experiments import experiment
from flwr.app import Message
from local_grid import LocalGrid, simulated_nodes
from quick import release, slow
from scipy.stats import chi2
from survival import (
    FEATURES,
    schema_text,
    stratified,
    survival_tables,
    trend_tests,
    write_tables,
)

from fl_he import client_app, server_app, simulation
from fl_he.config.composition import compose
from fl_he.config.constraints import ConfigError
from fl_he.learning.errors import DataError
from fl_he.learning.regression.hazards import NO_ESTIMATES, NO_TREND
from fl_he.learning.regression.registry import load_model
from fl_he.report.tables.coefficients import coefficient_table, rows_note
from fl_he.wire.encrypted_sum import FINISH

SEEDS = [1, *slow((2,)), *release(*((seed,) for seed in range(3, 7)))]
INFERENCE = ("experiment=inference",)
by_ties = pytest.mark.parametrize("ties", ["efron", "breslow"])


def run(
    folder: Path, tables: list[pd.DataFrame], *more: str, schema: str | None = None
) -> dict[str, Any]:
    """Train on three hospitals by a schema; return the content of metrics.json."""
    folder.mkdir(exist_ok=True)
    files = write_tables(folder, tables, schema or "")
    config = experiment(
        *("data=csv", files, f"data.schema={folder}/schema.yaml", *INFERENCE, *more),
        *(["optimizer=auto"] if not any("optimizer=" in one for one in more) else []),
        *("rounds=50", "simulation.engine=local"),
        folder=folder / "run",
    )
    return simulation.run(config, folder / "run")


def coefficients(metrics: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in metrics["inference"]["coefficients"]}


@by_ties
@pytest.mark.parametrize("seed", SEEDS)
def test_estimates_and_tests_are_those_of_the_stratified_rows(
    tmp_path: Path, ties: str, seed: int
) -> None:
    tables = survival_tables(seed)
    metrics = run(tmp_path, tables, schema=schema_text(ties))
    model = stratified(tables, ties)
    fitted = model.fit(disp=0)
    rows = coefficients(metrics)
    assert tuple(rows) == FEATURES
    for place, name in enumerate(FEATURES):
        row, error = rows[name], fitted.bse[place]
        assert row["estimate"] == pytest.approx(fitted.params[place], abs=1e-6 * error)
        assert row["standard_error"] == pytest.approx(error, rel=1e-6)
        assert row["p_value"] == pytest.approx(fitted.pvalues[place], abs=1e-6)
        assert row["hazard_ratio"] == pytest.approx(np.exp(fitted.params[place]))
    inference = metrics["inference"]
    fit, null = inference["fit"], model.loglike(np.zeros(len(FEATURES)))
    assert fit["log_likelihood"] == pytest.approx(fitted.llf, rel=1e-9)
    assert fit["null_log_likelihood"] == pytest.approx(null, rel=1e-9)
    assert fit["likelihood_ratio"]["chi2"] == pytest.approx(2 * (fitted.llf - null), rel=1e-6)
    assert fit["aic"] == pytest.approx(2 * len(FEATURES) - 2 * fitted.llf)
    trends, (each, together) = inference["proportional"], trend_tests(tables, fitted.params, ties)
    assert [row["name"] for row in trends["features"]] == [*FEATURES]
    assert [row["chi2"] for row in trends["features"]] == pytest.approx(each, rel=1e-4, abs=1e-5)
    assert (trends["chi2"], trends["df"]) == (pytest.approx(together, rel=1e-4), len(FEATURES))
    assert trends["p_value"] == pytest.approx(chi2.sf(together, len(FEATURES)), rel=1e-3)
    assert metrics["inference"]["events"] == sum(table["event"].sum() for table in tables)
    assert metrics["federated"]["intercept"] == 0.0
    assert metrics["diagnostics"]["converged"]
    assert len(metrics["rounds"]) <= 9


@by_ties
def test_heavy_ties_have_the_estimates_of_their_kind(tmp_path: Path, ties: str) -> None:
    tables = survival_tables(8, months=0.1)
    assert max(table["months"].max() for table in tables) <= 6
    metrics, fitted = run(tmp_path, tables, schema=schema_text(ties)), stratified(tables, ties)
    found = fitted.fit(disp=0)
    rows = coefficients(metrics)
    ours = [rows[name]["estimate"] for name in FEATURES]
    assert ours == pytest.approx(found.params, rel=1e-6)


def test_a_table_without_a_schema_names_its_event(tmp_path: Path) -> None:
    tables = survival_tables(9)
    files = write_tables(tmp_path, tables)
    outcome = ("data.target=months", "data.event=event", "data.family=cox", "data.ties=breslow")
    config = experiment(
        *("data=csv", files, *outcome, *INFERENCE, "optimizer=auto", "simulation.engine=local"),
        folder=tmp_path / "run",
    )
    metrics = simulation.run(config, tmp_path / "run")
    found = stratified(tables, "breslow").fit(disp=0)
    ours = [row["estimate"] for row in metrics["inference"]["coefficients"]]
    assert ours == pytest.approx(found.params, rel=1e-6)
    assert metrics["family"] == "cox-breslow"


def test_a_coefficient_that_falls_with_time_is_found(tmp_path: Path) -> None:
    tables = survival_tables(21, (400, 300, 200))
    for table in tables:  # men die early only, of the others none
        late = (table["male"] == 1) & (table["months"] > 3)
        table.loc[late, "months"] += 30
    with_unit = schema_text().replace("family: cox", "family: cox, unit: 30 days")
    metrics = run(tmp_path, tables, schema=with_unit)
    age, male = metrics["inference"]["proportional"]["features"]
    assert male["p_value"] < 1e-6
    assert age["p_value"] > 0.001
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Test of proportional hazards (small p: hazard ratio changes with log(1 + time))" in page
    assert "ties, of months (30 days)" in page
    events = sum(table["event"].sum() for table in tables)
    assert "(months" not in rows_note(metrics)
    assert f", events = {events:,}" in rows_note(metrics)


def test_events_at_one_time_have_a_reason_in_place_of_the_tests(tmp_path: Path) -> None:
    tables = [table.assign(months=5) for table in survival_tables(23)]
    metrics = run(tmp_path, tables)
    assert metrics["inference"]["proportional"]["withheld"] == NO_TREND
    table = coefficient_table(metrics)
    assert table is not None
    said = " ".join(" ".join(text(table)).split())
    assert f"No test of proportional hazards: {NO_TREND}." in said


def test_a_run_that_was_cut_off_at_its_end_has_the_tests_of_a_whole_one(tmp_path: Path) -> None:
    tables = survival_tables(22)
    whole = run(tmp_path / "whole", tables)["inference"]["proportional"]
    files, folder = write_tables(tmp_path, tables), tmp_path / "run"
    schema = f"data.schema={tmp_path}/schema.yaml"
    config = experiment("data=csv", files, schema, *INFERENCE, folder=folder)
    nodes, app = simulated_nodes(config.hospitals), client_app.build(lambda _: config)
    grid = LocalGrid(app, nodes)

    def cut_off(reply: Message) -> Message:
        if reply.metadata.message_type == FINISH:
            raise ConnectionError
        return reply

    grid.tamper = cut_off
    with pytest.raises(ConnectionError):
        server_app.train(grid, config, folder)
    kept = json.loads((folder / "checkpoint.json").read_text())
    assert len(kept["training"]["trends"]) == 2 + 3 + 3
    going_on = compose("config", [f"resume={folder}"])
    metrics = server_app.train(LocalGrid(app, nodes, run_id=8), going_on, folder)
    found = metrics["inference"]["proportional"]
    assert found["chi2"] == pytest.approx(whole["chi2"], rel=1e-9)
    assert found["df"] == len(FEATURES)


def test_a_hospital_without_events_contributes_nothing(tmp_path: Path) -> None:
    tables = survival_tables(10)
    tables[2]["event"] = 0
    metrics, found = run(tmp_path, tables), stratified(tables[:2]).fit(disp=0)
    rows = coefficients(metrics)
    assert [rows[name]["estimate"] for name in FEATURES] == pytest.approx(found.params, rel=1e-6)
    assert [rows[name]["standard_error"] for name in FEATURES] == pytest.approx(found.bse, rel=1e-5)
    assert len(metrics["rounds"]) <= 9


def test_no_event_at_all_is_refused(tmp_path: Path) -> None:
    tables = [table.assign(event=0) for table in survival_tables(11)]
    with pytest.raises(ConfigError, match="outcome 'months': there is no event in any"):
        run(tmp_path, tables)


def test_a_column_of_hospitals_is_left_out(tmp_path: Path) -> None:
    tables = [table.assign(beds=100.1 * n) for n, table in enumerate(survival_tables(12), 1)]
    for number, table in enumerate(tables):
        table["both"] = 2.0 * table["age"] + number
    columns = "\n  beds: {type: number}\n  both: {type: number}\noutcome"
    metrics = run(tmp_path, tables, schema=schema_text().replace("\noutcome", columns))
    assert metrics["diagnostics"]["constant"] == ["beds"]
    assert metrics["diagnostics"]["aliased"] == {"both": ["age"]}
    found, rows = stratified(tables).fit(disp=0), coefficients(metrics)
    assert [rows[name]["estimate"] for name in FEATURES] == pytest.approx(found.params, rel=1e-6)


def test_a_level_without_events_is_named_and_the_others_have_estimates(tmp_path: Path) -> None:
    tables = survival_tables(13)
    for table in tables:
        table.loc[table["male"] == 1, "event"] = 0
    metrics = run(tmp_path, tables)
    assert metrics["diagnostics"]["separation"] == {
        **{"kind": "quasi-complete", "columns": ["male"], "largest": ["male"]}
    }
    rows = coefficients(metrics)
    assert metrics["inference"]["proportional"] == {
        **dict.fromkeys(("chi2", "df", "p_value")),
        **{"features": [], "withheld": NO_ESTIMATES},
    }
    page = (tmp_path / "run" / "report.html").read_text()
    assert f"No test of proportional hazards: {NO_ESTIMATES}." in page
    assert rows["male"]["estimate"] is None
    assert rows["male"]["left_out"] == (
        "no finite estimate: events and the patients at risk in the training data are separated "
        "by male"
    )
    found = stratified([table[table["male"] == 0] for table in tables], features=("age",)).fit()
    assert rows["age"]["estimate"] == pytest.approx(found.params[0], abs=1e-6)
    assert rows["age"]["standard_error"] == pytest.approx(found.bse[0], rel=1e-5)


def test_one_event_against_a_direction_is_no_separation(tmp_path: Path) -> None:
    tables = survival_tables(14)
    for table in tables:
        table.loc[table["male"] == 1, "event"] = 0
    tables[0].loc[tables[0].index[tables[0]["male"] == 1][0], "event"] = 1
    metrics, found = run(tmp_path, tables), stratified(tables).fit(disp=0)
    assert metrics["diagnostics"]["separation"] is None
    rows = coefficients(metrics)
    assert [rows[name]["estimate"] for name in FEATURES] == pytest.approx(found.params, rel=1e-5)


@pytest.mark.slow
def test_events_in_the_order_of_a_feature_have_no_finite_estimate(tmp_path: Path) -> None:
    tables = [table.assign(event=1) for table in survival_tables(15)]
    for table in tables:
        table["months"] = 200 - table["age"]
    metrics = run(tmp_path, tables)
    assert metrics["diagnostics"]["separation"]["kind"] == "quasi-complete"
    assert metrics["diagnostics"]["separation"]["largest"] == ["age"]
    assert coefficients(metrics)["age"]["estimate"] is None


@pytest.mark.slow
def test_predictions_are_relative_risks_and_the_export_is_refused(tmp_path: Path) -> None:
    tables = survival_tables(16)
    metrics = run(tmp_path, tables, "test_size=0.25")
    assert 0.5 < metrics["federated"]["concordance"] < 0.9
    model = load_model(tmp_path / "run" / "model.json")
    tables[0][[*FEATURES]].to_csv(tmp_path / "new.csv", index=False)
    code, printed, errors = fl_he(tmp_path, "predict", "run", "new.csv")
    assert code == 0, errors
    heading, *rows = printed.splitlines()
    assert heading == "relative_risk"
    scaled = (tables[0][[*FEATURES]].to_numpy(dtype=float) - model.mean) / model.scale
    risks = np.exp(scaled @ model.theta[:-1])
    np.testing.assert_allclose(np.array(rows, dtype=float), risks, rtol=1e-12)
    code, _, errors = fl_he(tmp_path, "export", "run", "--to", "sklearn")
    assert code != 0
    assert "scikit-learn has no estimator for a model of format 'fl-he cox model'" in errors
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Log hazard, by hospital and with Efron" in page
    assert "concordance" in page
    assert "intercept" not in page.split("<h2")[5]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("penalty=firth", "penalty must be l2 with family cox"),
        ("inference.profile=[age]", "inference.profile must be left out with family cox"),
        ("class_weight=balanced", "class_weight must be equal with family cox"),
        ("optimizer=gd", "optimizer must be auto or newton with family cox"),
        ("site_intercepts=true", "site_intercepts must be false with family cox"),
    ],
)
def test_settings_of_classes_are_refused_by_name(tmp_path: Path, setting: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        run(tmp_path, survival_tables(17), setting)


def test_privacy_and_evaluation_are_refused_by_name(tmp_path: Path) -> None:
    tables = survival_tables(18)
    with pytest.raises(ConfigError, match=r"evaluate must be false .* times to an event"):
        run(tmp_path, tables, "evaluate=true", "test_size=0.25")
    with pytest.raises(ConfigError, match="privacy must be none with family cox"):
        run(tmp_path, tables, "privacy=gaussian", "scaling=none", "C=1.0")


def test_faults_of_both_columns_are_told_at_once(tmp_path: Path) -> None:
    tables = survival_tables(19)
    tables[0]["event"] = tables[0]["event"].astype(object)
    tables[0].loc[4, "months"], tables[0].loc[[7, 9], "event"] = -1.0, "dead"
    with pytest.raises(DataError) as refused:
        run(tmp_path, tables)
    assert "target 'months' must hold times of 0 or more for family cox" in str(refused.value)
    assert "1 other in row 6" in str(refused.value)
    events = "column 'event' must hold 0 and 1, or true and false, got 2 others, the first in row 9"
    assert events in str(refused.value)
    assert "write 1 for rows with the event and 0 for others" in str(refused.value)


def test_rows_without_a_time_or_an_event_may_be_left_out(tmp_path: Path) -> None:
    tables = survival_tables(20)
    tables[0]["event"] = tables[0]["event"].astype(object)
    tables[0].loc[4, "months"], tables[0].loc[7, "event"] = None, None
    kept = [tables[0].drop(index=[4, 7]).astype({"event": int}), *tables[1:]]
    schema = schema_text().replace("ties: efron", "missing: drop-row")
    metrics = run(tmp_path, tables, schema=schema)
    found, rows = stratified(kept).fit(disp=0), coefficients(metrics)
    assert [rows[name]["estimate"] for name in FEATURES] == pytest.approx(found.params, rel=1e-6)
