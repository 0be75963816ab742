"""Nodes whose processors round differently, over Flower's own processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from federation_processes import HOLDER, HOSPITALS, Federation
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from fl_he.learning.regression.logistic import LogisticModel

#: Kernels of OpenBLAS, which add in different orders.
_NAMES = ("Prescott", "Haswell", "Nehalem", "Haswell")
KERNELS = {
    name: {"OPENBLAS_CORETYPE": kernel}
    for name, kernel in zip((*HOSPITALS, HOLDER), _NAMES, strict=True)
}


def table(name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return every third patient."""
    X, y = load_breast_cancer(return_X_y=True)
    own = slice(HOSPITALS.index(name), None, len(HOSPITALS))
    return X[own], y[own].astype(float)


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    federation = Federation(tmp_path, KERNELS, table)
    yield federation
    federation.stop()


def solved(kernel: dict[str, str]) -> str:
    """Return bits of what a process with a kernel makes of the numbers of a Newton step."""
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
def test_all_hospitals_hold_the_same_bits(federation: Federation, tmp_path: Path) -> None:
    assert len({solved(kernel) for kernel in KERNELS.values()}) > 1, "the kernels must differ"
    folder = tmp_path / "run"
    settings = (f"hospitals={len(HOSPITALS)}", "rounds=20", "hop_timeout=120")
    sealed = ("topology=chain", "sealed=true", "optimizer=newton", "scaling=federated", "C=1.0")
    process = federation.run(*settings, *sealed, f"output_dir={folder}")
    metrics: Any = federation.finish(folder, process)
    assert metrics["rounds"][-1]["converged"]

    X, y = load_breast_cancer(return_X_y=True)
    fit = LogisticRegression(C=1.0, tol=1e-10, max_iter=1000)
    fit.fit(StandardScaler().fit_transform(X), y)
    paths = [federation.folder / f"{name}.json" for name in HOSPITALS]
    assert len({path.read_text() for path in paths}) == 1
    model = LogisticModel.load(paths[0])
    np.testing.assert_allclose(model.coefficients, fit.coef_[0], rtol=0, atol=1e-5)
    assert model.intercept == pytest.approx(fit.intercept_[0], abs=1e-5)
