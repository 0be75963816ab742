"""Comparisons of the hospitals, against statsmodels' cluster-robust figures and a meta-analysis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from deployed_nodes import deployed_nodes
from experiments import experiment
from flwr.app import Message
from local_grid import LocalGrid
from quick import release, slow
from scipy.stats import chi2
from sites import COLUMNS, SITE_FAMILIES, fixed_effects, site_tables, write_sites

from fl_he import client_app, server_app, simulation
from fl_he.config.composition import compose
from fl_he.config.constraints import ConfigError
from fl_he.config.run import Config
from fl_he.wire.encrypted_sum import DECRYPT, SITES, DecryptRequest
from fl_he.wire.records import ProtocolError

SEEDS = [1, *slow((2,)), *release(*((seed,) for seed in range(3, 5)))]
#: Twelve hospitals, one of them without events.
SIZES = (90, 60, 40, 30, 80, 50, 60, 70, 40, 50, 90, 60)


def run(folder: Path, tables: list[pd.DataFrame], family: str, *more: str) -> dict[str, Any]:
    """Train on a hospital for each table; return the comparison in metrics.json."""
    config = experiment(
        *("experiment=inference", "data=csv", *write_sites(folder, tables, family)),
        *("inference.sites=true", "simulation.engine=local", *more),
        folder=folder / "run",
    )
    metrics = simulation.run(config, folder / "run")
    found: dict[str, Any] = metrics["inference"]["sites"]
    return found


def own_fits(tables: list[pd.DataFrame], family: str) -> list[Any]:
    """Return statsmodels' fit of each hospital that has finite estimates."""
    informing = [table for table in tables if has_events(table, family)]
    return [fixed_effects([table], family) for table in informing]


def has_events(table: pd.DataFrame, family: str) -> bool:
    outcome = table[SITE_FAMILIES[family][0]]
    return bool(outcome.nunique() > 1)


@pytest.mark.parametrize("family", SITE_FAMILIES)
@pytest.mark.parametrize("seed", SEEDS)
def test_heterogeneity_is_that_of_a_meta_analysis(tmp_path: Path, family: str, seed: int) -> None:
    tables = site_tables(seed, SIZES)
    sites, fits = run(tmp_path, tables, family), own_fits(tables, family)
    assert sites["fits"] == len(fits)
    assert [row["name"] for row in sites["heterogeneity"]] == [*COLUMNS]
    for row in sites["heterogeneity"]:
        effects = np.array([fit.params[row["name"]] for fit in fits])
        weights = np.array([fit.bse[row["name"]] ** -2 for fit in fits])
        mean = weights @ effects / weights.sum()
        q, df = weights @ (effects - mean) ** 2, len(fits) - 1
        assert row["estimate"] == pytest.approx(mean, rel=1e-6)
        assert row["standard_error"] == pytest.approx(weights.sum() ** -0.5, rel=1e-6)
        assert row["q"] == pytest.approx(q, rel=1e-6)
        assert row["p_value"] == pytest.approx(chi2.sf(q, df), rel=1e-5)
        assert row["i2"] == pytest.approx(max(0.0, 1 - df / q), abs=1e-6)


@pytest.mark.parametrize("site_intercepts", [False, True])
@pytest.mark.parametrize("family", [one for one in SITE_FAMILIES if one != "gamma"])
@pytest.mark.parametrize("seed", SEEDS)
def test_robust_errors_are_those_of_statsmodels(
    tmp_path: Path, family: str, seed: int, site_intercepts: bool
) -> None:
    tables = site_tables(seed, SIZES)
    sites = run(tmp_path, tables, family, f"site_intercepts={str(site_intercepts).lower()}")
    kept = [table for table in tables if not site_intercepts or has_events(table, family)]
    groups = np.repeat(np.arange(len(kept)), [len(table) for table in kept])
    options: dict[str, Any] = {"cov_type": "cluster", "cov_kwds": {"groups": groups}}
    fitted = fixed_effects(kept, family, dummies=site_intercepts, **options)
    assert sites["clusters"] == len(kept)
    names = [*COLUMNS, *([] if site_intercepts else ["(intercept)"])]
    assert [row["name"] for row in sites["robust"]] == names
    for row in sites["robust"]:
        name = "const" if row["name"] == "(intercept)" else row["name"]
        assert row["standard_error"] == pytest.approx(fitted.bse[name], rel=1e-5)
        assert row["t"] == pytest.approx(fitted.params[name] / fitted.bse[name], rel=1e-5)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Robust standard errors of fewer than 30 hospitals tend to be too small" in page
    assert "Own estimates of" in page


@pytest.mark.slow
def test_robust_errors_of_gamma_are_those_of_the_expected_information(tmp_path: Path) -> None:
    tables = site_tables(1, SIZES)
    sites, pooled = run(tmp_path, tables, "gamma"), pd.concat(tables)
    design = sm.add_constant(pooled[[*COLUMNS]].astype(float)).to_numpy()
    means = fixed_effects(tables, "gamma", dummies=False).fittedvalues.to_numpy()
    residuals = design * ((pooled["stay"] - means) / means).to_numpy()[:, None]
    starts = np.cumsum([0, *SIZES[:-1]])
    scores = np.add.reduceat(residuals, starts)
    inverse, n = np.linalg.inv(design.T @ design), len(design)
    covariance = 12 / 11 * (n - 1) / (n - 3) * inverse @ scores.T @ scores @ inverse
    errors = {row["name"]: row["standard_error"] for row in sites["robust"]}
    assert errors["age"] == pytest.approx(covariance[1, 1] ** 0.5, rel=1e-6)
    assert errors["(intercept)"] == pytest.approx(covariance[0, 0] ** 0.5, rel=1e-6)


def test_of_few_hospitals_nothing_is_told(tmp_path: Path) -> None:
    tables = site_tables(3)
    for table in tables[1:3]:
        table["died"] = np.where(table["age"] > 62, "yes", "no")
    sites = run(tmp_path, tables, "logistic")
    assert (sites["fits"], sites["heterogeneity"], sites["robust"]) == (None, [], [])
    assert sites["withheld"].startswith("fewer hospitals than min_contributors have finite")
    assert sites["robust_withheld"].startswith("they need at least 10 hospitals")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("C=1",), "C must be null with inference.sites"),
        (("penalty=firth",), "penalty must be l2 with inference.sites"),
        (("class_weight=balanced",), "class_weight must be equal with inference.sites"),
        (("scaling=local",), "scaling must be federated, ranges or none with inference.sites"),
        (("optimizer=lbfgs",), "optimizer must be auto or newton with inference.sites"),
    ],
)
def test_settings_without_a_comparison_are_refused(
    tmp_path: Path, settings: tuple[str, ...], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        run(tmp_path, site_tables(1), "logistic", *settings)


def test_a_sealed_run_is_refused_a_comparison(tmp_path: Path) -> None:
    settings = ("data=breast_cancer", "sealed=true", "topology=chain", "optimizer=newton")
    with pytest.raises(ConfigError, match=r"sealed must be false with inference\.sites"):
        experiment(*settings, "inference.sites=true", folder=tmp_path)


def test_a_comparison_that_company_x_did_not_answer_is_resumed(tmp_path: Path) -> None:
    tables = site_tables(5, (90, 70, 60))
    write_sites(tmp_path, tables, "logistic")
    nodes = deployed_nodes(tmp_path)
    for number, node in enumerate(nodes[:3], 1):
        node |= {"data": f"{tmp_path}/site{number}.csv", "target": "died", "positive": "yes"}
    config = experiment(
        *("experiment=inference", "inference.sites=true", "key_holder_timeout=1"),
        folder=tmp_path / "run",
    )
    first = LocalGrid(client_app.build(lambda _: Config()), nodes)

    def lose_the_comparison(reply: Message) -> Message | None:
        last = first.sent[-1]
        is_lost = reply.metadata.message_type == DECRYPT
        return (
            None
            if is_lost and DecryptRequest.from_content(last.content).purpose == "sites"
            else reply
        )

    first.tamper = lose_the_comparison
    with pytest.raises(ProtocolError, match="company X must open a sum within"):
        server_app.train(first, config, tmp_path / "run")
    assert [m for m in first.sent if m.metadata.message_type == SITES]
    second = LocalGrid(client_app.build(lambda _: Config()), nodes, run_id=8)
    going_on = compose("config", [f"resume={tmp_path / 'run'}", "key_holder_timeout=600"])
    metrics = server_app.train(second, going_on, tmp_path / "run")
    actions = {m.metadata.message_type for m in second.sent}
    assert not {SITES, "train"} & actions, "company X opens the sum that it was handed"
    sites, fits = metrics["inference"]["sites"], own_fits(tables, "logistic")
    assert sites["fits"] == len(fits) == 3
    for row in sites["heterogeneity"]:
        effects = np.array([fit.params[row["name"]] for fit in fits])
        weights = np.array([fit.bse[row["name"]] ** -2 for fit in fits])
        assert row["estimate"] == pytest.approx(weights @ effects / weights.sum(), rel=1e-6)
