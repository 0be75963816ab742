"""Inference of whole encrypted runs, beside statsmodels on the pooled rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from experiments import experiment
from local_grid import LocalGrid, simulated_nodes
from numpy.typing import NDArray

from fl_he import client_app, server_app

Numbers = NDArray[np.float64]


def write_table(path: Path, features: Numbers, labels: NDArray[Any]) -> None:
    names = [f"x{number}" for number in range(1, features.shape[1] + 1)]
    rows = [
        ",".join([*map(repr, row), str(label)])
        for row, label in zip(features.tolist(), labels.tolist(), strict=True)
    ]
    path.write_text("\n".join([",".join([*names, "sick"]), *rows]))


def inferred(folder: Path, features: Numbers, labels: NDArray[Any], *more: str) -> dict[str, Any]:
    """Return metrics.json of an encrypted run on all rows, without a penalty."""
    write_table(folder / "table.csv", features, labels)
    config = experiment(
        *("data=csv", f"data.path={folder}/table.csv", "data.target=sick"),
        *("optimizer=newton", "test_size=0", "rounds=60", *more),
        folder=folder / "run",
    )
    grid = LocalGrid(client_app.build(lambda _: config), simulated_nodes(config.hospitals))
    return server_app.train(grid, config, folder / "run")


def logit(features: Numbers, labels: NDArray[Any]) -> Any:
    """Return statsmodels' fit, intercept last."""
    import statsmodels.api as statsmodels  # noqa: PLC0415 - lazy: a second to import

    design = np.column_stack([features, np.ones(len(features))])
    return statsmodels.Logit(labels, design).fit(
        method="newton", disp=False, tol=1e-14, maxiter=200
    )


def check_coefficients(metrics: dict[str, Any], features: Numbers, labels: NDArray[Any]) -> None:
    """Hold estimates and standard errors against statsmodels on columns of unit deviation."""
    scale = np.append(features.std(axis=0), 1.0)
    fit = logit(features / scale[:-1], labels)
    rows = metrics["inference"]["coefficients"]
    errors = np.array([row["standard_error"] for row in rows])
    estimates = np.array([row["estimate"] for row in rows])
    np.testing.assert_allclose(errors, fit.bse / scale, rtol=1e-6)
    np.testing.assert_allclose((estimates - fit.params / scale) / errors, 0.0, atol=1e-6)
    assert metrics["rounds"][-1]["converged"]


def sick(margins: Numbers, seed: int) -> NDArray[np.int64]:
    rng = np.random.default_rng(seed)
    return (rng.random(len(margins)) < 1 / (1 + np.exp(-margins))).astype(np.int64)


@pytest.mark.parametrize("label", [0, 1])
def test_an_outlier_of_a_million_keeps_the_standard_errors(tmp_path: Path, label: int) -> None:
    X = np.random.default_rng(1).standard_normal((500, 2))
    y = sick(0.5 * X[:, 0] - 0.3, 2)
    X[7, 0], y[7] = 1e6, label
    check_coefficients(inferred(tmp_path, X, y, "data.positive=1"), X, y)


def test_columns_that_are_collinear_but_for_noise_have_their_standard_errors(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(3)
    first = rng.standard_normal(600)
    X = np.column_stack([first, first + 1e-3 * rng.standard_normal(600), rng.normal(50, 9, 600)])
    y = sick(0.8 * first + 0.02 * (X[:, 2] - 50), 4)
    check_coefficients(inferred(tmp_path, X, y, "data.positive=1"), X, y)
