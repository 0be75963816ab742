"""Rounds of gamma models, whose losses' Hessians differ from their expectation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from plain_rounds import trained
from quick import release

from fl_he.learning.optimizers.task import Task
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.moments import Limbs

NAMES = ("age", "dose")


def hospitals(seed: int, shape: float, sizes: tuple[int, ...]) -> list[Dataset]:
    rng, found = np.random.default_rng(seed), list[Dataset]()
    for place, rows in enumerate(sizes):
        features = np.column_stack([rng.normal(50.0, 10.0, rows), rng.normal(size=rows)])
        means = np.exp(1.0 + 0.3 * place + 0.04 * (features[:, 0] - 50.0) - 0.5 * features[:, 1])
        found.append(Dataset(features, rng.gamma(shape, means / shape), NAMES, family="gamma"))
    return found


@pytest.mark.parametrize("own", [False, True], ids=["one intercept", "one of each site"])
@pytest.mark.parametrize(
    ("shape", "sizes", "seed"),
    [
        (1.0, (40, 20, 20), 1),
        (0.3, (300, 60, 20), 1),
        *release(*((shape, (40, 20, 20), seed) for shape in (0.3, 1.0, 6.0) for seed in (2, 3, 4))),
    ],
)
def test_nine_rounds_come_to_the_optimum(
    shape: float, sizes: tuple[int, ...], seed: int, own: bool
) -> None:
    tables = hospitals(seed, shape, sizes)
    task = Task(
        *(len(NAMES), 0, "newton", 0.5, None, "federated", (), (), False),
        *(1e-7, None, None, Limbs(24, 24)),
        family="gamma",
        site_intercepts=own,
    )
    training = trained(tables, task)
    assert training.converged
    assert training.steps <= 9
    columns = pd.DataFrame(np.concatenate([one.features for one in tables]), columns=[*NAMES])
    sites = pd.Series(np.repeat(range(len(tables)), [len(one.labels) for one in tables]))
    design = columns.join(pd.get_dummies(sites, dtype=float)) if own else sm.add_constant(columns)
    labels = np.concatenate([one.labels for one in tables])
    model = sm.GLM(labels, design, family=sm.families.Gamma(sm.families.links.Log()))
    fitted = model.fit(tol=1e-14, maxiter=500)
    coefficients = training.parameters[0][0] / training.scale
    errors = fitted.bse[[*NAMES]].to_numpy()
    np.testing.assert_allclose(
        coefficients / errors, fitted.params[[*NAMES]] / errors, rtol=0, atol=1e-6
    )
    assert training.hessian is not None
    information = training.examples * training.hessian
    inverse = np.linalg.inv(information[:2, :2] if own else information)[:2, :2]
    dispersion = training.pearson / (len(labels) - design.shape[1])
    found = np.sqrt(dispersion * np.diag(inverse)) / training.scale
    np.testing.assert_allclose(found, errors, rtol=1e-5)
