"""Models of counts with an alpha, federated, against statsmodels on the pooled rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from command_line import fl_he
from experiments import experiment
from overdispersed_counts import FEATURES, count_tables, pooled_nb2, write_counts
from quick import release, slow

from fl_he import simulation
from fl_he.config.constraints import ConfigError
from fl_he.learning.regression.negative_binomial import NegativeBinomialModel
from fl_he.learning.regression.registry import load_model
from fl_he.strategies.opened_sum import RefusedError

INFERENCE = ("experiment=inference",)


def run(folder: Path, tables: list[pd.DataFrame], *more: str) -> dict[str, Any]:
    """Train on three hospitals by a schema; return the content of metrics.json."""
    files = write_counts(folder, tables)
    config = experiment(
        *("data=csv", files, f"data.schema={folder}/schema.yaml", *more),
        *(["optimizer=auto"] if not any("optimizer=" in one for one in more) else []),
        *("rounds=50", "simulation.engine=local"),
        folder=folder / "run",
    )
    return simulation.run(config, folder / "run")


def assert_like_statsmodels(metrics: dict[str, Any], fitted: Any) -> None:
    rows = {row["name"]: row for row in metrics["inference"]["coefficients"]}
    for name, theirs in zip((*FEATURES, "(intercept)"), (*FEATURES, "const"), strict=True):
        row, error = rows[name], fitted.bse[theirs]
        assert row["estimate"] == pytest.approx(fitted.params[theirs], abs=1e-6 * error)
        assert row["standard_error"] == pytest.approx(error, rel=1e-5)
        assert row["p_value"] == pytest.approx(fitted.pvalues[theirs], abs=1e-5)
        assert row["rate_ratio"] == pytest.approx(np.exp(fitted.params[theirs]))
    alpha = metrics["inference"]["overdispersion"]
    assert alpha["alpha"] == pytest.approx(fitted.params["alpha"], abs=1e-6 * fitted.bse["alpha"])
    assert alpha["standard_error"] == pytest.approx(fitted.bse["alpha"], rel=1e-5)
    reach = 1.959964 * fitted.bse["alpha"] / fitted.params["alpha"]
    ends = fitted.params["alpha"] * np.exp([-reach, reach])
    assert [alpha["lower"], alpha["upper"]] == pytest.approx([*ends], rel=1e-5)
    fit = metrics["inference"]["fit"]
    assert fit["log_likelihood"] == pytest.approx(fitted.llf, rel=1e-9)
    assert fit["null_log_likelihood"] == pytest.approx(fitted.llnull, rel=1e-8)
    assert fit["likelihood_ratio"]["chi2"] == pytest.approx(fitted.llr, rel=1e-5)
    assert fit["likelihood_ratio"]["df"] == 2
    assert fit["aic"] == pytest.approx(fitted.aic, rel=1e-9)
    assert fit["mcfadden_r2"] == pytest.approx(fitted.prsquared, rel=1e-5)
    assert (fit["deviance"], fit["null_deviance"], fit["d2"]) == (None, None, None)
    assert metrics["rounds"][-1]["loss"] == pytest.approx(-fitted.llf / fitted.nobs, rel=1e-9)
    assert len(metrics["rounds"]) <= 12
    assert metrics["diagnostics"]["converged"]


@dataclass(frozen=True)
class Run:
    """A finished run, its folder's parent and the tables."""

    folder: Path
    tables: list[pd.DataFrame]
    metrics: dict[str, Any]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder, tables = tmp_path_factory.mktemp("counts"), with_a_silent_site(1)
    return Run(folder, tables, run(folder, tables, *INFERENCE))


def with_a_silent_site(seed: int) -> list[pd.DataFrame]:
    """Return three tables, of which the last one has 20 rows and counts of 0 alone."""
    *tables, last = count_tables(seed)
    return [*tables, last.assign(visits=0)]


def test_estimates_and_tests_are_those_of_the_pooled_rows(finished: Run) -> None:
    assert_like_statsmodels(finished.metrics, pooled_nb2(finished.tables))


@pytest.mark.parametrize("seed", [*slow((2,)), *release(*((seed,) for seed in range(3, 7)))])
def test_further_seeds_have_the_estimates_of_the_pooled_rows(tmp_path: Path, seed: int) -> None:
    tables = with_a_silent_site(seed)
    assert_like_statsmodels(run(tmp_path, tables, *INFERENCE), pooled_nb2(tables))


@pytest.mark.parametrize("seed", [*slow((1,)), *release(*((seed,) for seed in range(2, 7)))])
def test_rare_events_have_the_estimates_of_the_pooled_rows(tmp_path: Path, seed: int) -> None:
    tables = count_tables(seed, alpha=4.0, intercept=-2.5, sizes=(900, 400, 20))
    assert_like_statsmodels(run(tmp_path, tables, *INFERENCE), pooled_nb2(tables))


def test_alpha_is_published_and_predictions_are_means(finished: Run) -> None:
    folder, run_folder = finished.folder, finished.folder / "run"
    model = load_model(run_folder / "model.json")
    assert isinstance(model, NegativeBinomialModel)
    assert model.alpha == finished.metrics["inference"]["overdispersion"]["alpha"]
    assert (finished.metrics["local"], finished.metrics["pooled"]) == (None, None)
    columns = pd.concat(finished.tables)[[*FEATURES]]
    columns.to_csv(folder / "new.csv", index=False)
    code, printed, errors = fl_he(folder, "predict", "run", "new.csv")
    assert code == 0, errors
    heading, *rows = printed.splitlines()
    assert heading == "expected"
    expected = model.expected(columns.to_numpy(float))
    np.testing.assert_allclose(np.array(rows, dtype=float), expected, rtol=1e-14)
    code, _, errors = fl_he(folder, "export", "run")
    assert code == 1
    assert "no estimator for a model of format 'fl-he negative binomial model'" in errors
    page = (run_folder / "report.html").read_text()
    code, printed, errors = fl_he(folder, "report", "run")
    assert code == 0, errors
    for words in ("dispersion alpha", "std. error", "95% interval"):
        assert words in page
        assert words in " ".join(printed.split())
    assert "the derivatives by the logarithm of alpha" in page
    assert "Negative log likelihood by patient" in page


@pytest.mark.slow
def test_a_test_set_has_figures_of_the_models_alpha(tmp_path: Path) -> None:
    metrics = run(tmp_path, count_tables(4), *INFERENCE, "test_size=0.25")
    assert 0.0 < metrics["federated"]["d2"] < 1.0
    last = metrics["rounds"][-1]
    assert last["test_loss"] == pytest.approx(last["loss"], rel=0.2)


@pytest.mark.parametrize("seed", [1, *slow((2,)), *release(*((seed,) for seed in range(3, 7)))])
def test_site_intercepts_are_fixed_effects(tmp_path: Path, seed: int) -> None:
    tables = with_a_silent_site(seed)
    tables.insert(0, count_tables(seed + 50, intercept=1.5, sizes=(60,))[0])
    metrics = run(tmp_path, tables, *INFERENCE, "site_intercepts=true")
    filled = [
        table.assign(s1=float(at == 1), s2=float(at == 2)) for at, table in enumerate(tables[:3])
    ]
    fitted = pooled_nb2(filled, (*FEATURES, "s1", "s2"))
    null = pooled_nb2(filled, ("s1", "s2"))
    *rows, intercept = metrics["inference"]["coefficients"]
    for row, name in zip(rows, FEATURES, strict=True):
        error = fitted.bse[name]
        assert row["estimate"] == pytest.approx(fitted.params[name], abs=1e-6 * error)
        assert row["standard_error"] == pytest.approx(error, rel=1e-5)
    assert intercept["estimate"] is None
    alpha = metrics["inference"]["overdispersion"]
    assert alpha["alpha"] == pytest.approx(fitted.params["alpha"], abs=1e-6 * fitted.bse["alpha"])
    assert alpha["standard_error"] == pytest.approx(fitted.bse["alpha"], rel=1e-5)
    fit = metrics["inference"]["fit"]
    assert fit["log_likelihood"] == pytest.approx(fitted.llf, rel=1e-9)
    assert fit["null_log_likelihood"] == pytest.approx(null.llf, rel=1e-8)
    assert fit["aic"] == pytest.approx(fitted.aic, rel=1e-9)
    assert metrics["inference"]["site_intercepts"]["contributing"] == 3
    design = sm.add_constant(pd.concat(filled)[[*FEATURES, "s1", "s2"]].astype(float))
    means = np.split(np.asarray(fitted.predict(design)), np.cumsum([len(one) for one in filled]))
    predicted = [site["predicted"] for site in metrics["sites"]]
    assert predicted[:3] == pytest.approx([one.mean() for one in means[:3]], rel=1e-6)
    assert len(metrics["rounds"]) <= 12


@pytest.mark.slow
def test_a_level_without_events_is_named(tmp_path: Path) -> None:
    tables = count_tables(5)
    for table in tables:
        table["male"] = (np.arange(len(table)) % 5 == 0).astype(int)
        table.loc[table["male"] == 1, "visits"] = 0
    metrics = run(tmp_path, tables, *INFERENCE)
    assert metrics["diagnostics"]["separation"] == {
        **{"kind": "quasi-complete", "columns": ["male"], "largest": ["male"]}
    }
    rows = {row["name"]: row for row in metrics["inference"]["coefficients"]}
    assert rows["male"]["estimate"] is None
    kept = [table[table["male"] == 0] for table in tables]
    fitted = pooled_nb2(kept, ("age",))
    assert rows["age"]["estimate"] == pytest.approx(fitted.params["age"], abs=1e-6)
    assert rows["age"]["standard_error"] == pytest.approx(fitted.bse["age"], rel=1e-5)
    alpha = metrics["inference"]["overdispersion"]
    assert alpha["alpha"] == pytest.approx(fitted.params["alpha"], rel=1e-5)
    assert alpha["standard_error"] == pytest.approx(fitted.bse["alpha"], rel=1e-5)


def test_counts_that_are_not_overdispersed_are_refused(tmp_path: Path) -> None:
    tables = count_tables(7)
    for table in tables:
        table["visits"] = np.arange(len(table)) % 3
    with pytest.raises(RefusedError, match="vary more than Poisson's do, and given the features"):
        run(tmp_path, tables, *INFERENCE)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("penalty=firth", "C=null"), "penalty must be l2 with family negative_binomial"),
        (
            ("inference.sites=true", "test_size=0", "C=null"),
            "inference.sites must be false with family negative_binomial",
        ),
    ],
)
def test_settings_of_other_families_are_refused(
    tmp_path: Path, settings: tuple[str, ...], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        run(tmp_path, count_tables(1), *settings)
