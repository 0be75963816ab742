"""Nodes whose processors round differently under one study plan, over Flower's own processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import study_plans
from federation_processes import ENOUGH, HOLDER, HOSPITALS, Federation, rounds_of, wait_for
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from fl_he.learning.regression.logistic import LogisticModel
from fl_he.wire.study_plan import Outcome

#: Kernels of OpenBLAS, which add in different orders.
_NAMES = ("Prescott", "Haswell", "Nehalem", "Haswell")
KERNELS = {
    name: {"OPENBLAS_CORETYPE": kernel}
    for name, kernel in zip((*HOSPITALS, HOLDER), _NAMES, strict=True)
}

#: The computations of `SETTINGS`, and no others.
PLAN = replace(
    study_plans.PLAN,
    features=tuple(f"x{column}" for column in range(30)),
    outcome=Outcome("label", "1", None, ()),
    scaling="federated",
    C=(1.0,),
    optimizers=("newton",),
    lr=(),
    tolerance=1e-7,
    most_rounds=20,
    most_sessions=1,
    min_contributors=ENOUGH,
)
SETTINGS = (
    *("optimizer=newton", "scaling=federated", "C=1.0", "tolerance=1e-7", "rounds=20"),
    *(f"hospitals={len(HOSPITALS)}", f"min_contributors={ENOUGH}", "hop_timeout=120"),
    "on_dropout=continue",  # a hospital without its files refuses until it gets all totals
)


def table(name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return every third patient."""
    X, y = load_breast_cancer(return_X_y=True)
    own = slice(HOSPITALS.index(name), None, len(HOSPITALS))
    return X[own], y[own].astype(float)


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    federation = Federation(tmp_path, KERNELS, table, PLAN)
    yield federation
    federation.stop()


def solved(kernel: dict[str, str]) -> str:
    """Return the bits of a Newton step's numbers, computed in a process with a given kernel."""
    program = (
        "import numpy as np; r = np.random.default_rng(0); a = r.normal(size=(99, 31)); "
        "print(np.linalg.eigh(a.T @ a)[1].tobytes().hex())"
    )
    environment = {**os.environ, **kernel, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.release
@pytest.mark.waits
@pytest.mark.parametrize(
    "topology",
    [("topology=fold",), ("topology=chain", "sealed=true")],
    ids=["open fold", "sealed chain"],
)
def test_all_hospitals_hold_the_same_bits(
    federation: Federation, tmp_path: Path, topology: tuple[str, ...]
) -> None:
    """A hospital that is killed after the first round, and loses all its files, has them, too."""
    assert len({solved(kernel) for kernel in KERNELS.values()}) > 1, "the kernels must differ"
    folder = tmp_path / "run"
    process = federation.run(
        *SETTINGS, *topology, f"plan={tmp_path}/plan.json", f"output_dir={folder}"
    )
    wait_for(lambda: rounds_of(folder) >= 1, lambda: federation.log("run"))
    federation.kill("st-john")
    federation.lose_state("st-john")
    federation.start_node("st-john")
    metrics: Any = federation.finish(folder, process)
    assert metrics["rounds"][-1]["converged"]
    assert metrics["rounds"][-1]["contributors"] == len(HOSPITALS)

    X, y = load_breast_cancer(return_X_y=True)
    fit = LogisticRegression(C=1.0, tol=1e-10, max_iter=1000)
    fit.fit(StandardScaler().fit_transform(X), y)
    paths = [federation.folder / f"{name}.json" for name in HOSPITALS]
    assert len({path.read_text() for path in paths}) == 1
    model = LogisticModel.load(paths[0])
    np.testing.assert_allclose(model.coefficients, fit.coef_[0], rtol=0, atol=1e-5)
    assert model.intercept == pytest.approx(fit.intercept_[0], abs=1e-5)
