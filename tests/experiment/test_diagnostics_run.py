"""Diagnostics of whole encrypted runs: tables of hospitals, and the right answers."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
from experiments import experiment, on_round
from local_grid import LocalGrid, simulated_nodes
from numpy.typing import NDArray
from patients import patients, write_csv
from quick import slow, slow_but
from scipy.optimize import linprog
from sklearn.exceptions import ConvergenceWarning

from fl_he import client_app, server_app
from fl_he.config.composition import compose
from fl_he.experiment.data import FewDataWarning, simulated_data, warn_of_few
from fl_he.learning.regression.registry import load_model
from fl_he.report.files import draw_run
from fl_he.report.tables.coefficients import left_out_notes
from fl_he.report.tables.diagnostics import findings
from fl_he.run_files.convergence import CONSTANT, separation, subject
from fl_he.run_files.metrics import read_metrics
from fl_he.wire.encrypted_sum import DECRYPT, DecryptRequest
from fl_he.wire.events import Listener, unheard

Table = dict[str, NDArray[Any]]
#: Estimates and standard errors of numeric.csv, by statsmodels 0.14 on the pooled rows.
RIGHT = {
    "age": (0.031397, 0.007433),
    "male": (0.461500, 0.175149),
    "bmi": (0.076555, 0.023061),
    "crp": (0.024789, 0.007148),
    "(intercept)": (-6.000420, 0.832170),
}

CLASSES = subject("logistic")
ALIASED = (
    "it is a linear combination of age and a constant in the training data: its effect is in the "
    "estimate of age"
)


def numeric(**more: NDArray[Any]) -> Table:
    """Return the columns of numeric.csv, and more in front of the outcome."""
    columns = patients(900, 0.15, 1)
    died = columns.pop("died")
    return {**columns, **more, "died": died}


class Ran:
    """One encrypted run of a table on all rows, and its grid."""

    def __init__(
        self, folder: Path, table: Table, *settings: str, on_event: Listener = unheard
    ) -> None:
        write_csv(folder / "table.csv", table)
        self.folder = folder / "run"
        self.config = experiment(
            *("data=csv", f"data.path={folder}/table.csv", "data.target=died"),
            *("data.positive=yes", "test_size=0", "experiment=inference", *settings),
            folder=self.folder,
        )
        nodes = simulated_nodes(self.config.hospitals)
        self.grid = LocalGrid(client_app.build(lambda _: self.config), nodes)
        self.metrics = server_app.train(self.grid, self.config, self.folder, on_event)
        self.found = self.metrics["diagnostics"]

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        return {row["name"]: row for row in self.metrics["inference"]["coefficients"]}

    def check_rows(self, right: dict[str, tuple[float, float]]) -> None:
        for name, (estimate, error) in right.items():
            assert self.rows[name]["estimate"] == pytest.approx(estimate, abs=2e-6)
            assert self.rows[name]["standard_error"] == pytest.approx(error, abs=2e-6)

    def models(self) -> set[str | None]:
        """Return how training ended, by the model.json of the run and of each hospital."""
        files = [self.folder / "model.json", *self.folder.glob("hospitals/*/model.json")]
        assert len(files) == 1 + self.config.hospitals
        return {load_model(file).training for file in files}

    def asked(self) -> list[str]:
        """Return the purposes of the sums that company X opened in addition to the rounds."""
        sent = [m for m in self.grid.sent if m.metadata.message_type == DECRYPT]
        purposes = [DecryptRequest.from_content(message.content).purpose for message in sent]
        return [purpose for purpose in purposes if purpose not in ("train", "prepare")]


def fit(table: Table, *names: str) -> dict[str, tuple[float, float]]:
    design = sm.add_constant(np.column_stack([table[name] for name in names]), prepend=False)
    found = sm.Logit(table["died"] == "yes", design).fit(disp=False, tol=1e-12)
    return dict(
        zip([*names, "(intercept)"], zip(found.params, found.bse, strict=True), strict=True)
    )


@pytest.mark.parametrize("scaling", slow_but(["federated", "none"], "federated"))
def test_a_constant_column_is_named_and_left_out(tmp_path: Path, scaling: str) -> None:
    ran = Ran(tmp_path, numeric(constant=np.full(900, 7.3)), f"scaling={scaling}")
    assert ran.found["constant"] == ["constant"]
    assert ran.found["aliased"] == {}
    assert ran.found["converged"]
    ran.check_rows(RIGHT)
    assert ran.rows["constant"]["estimate"] is None
    assert ran.rows["constant"]["left_out"] == CONSTANT
    fitted = ran.metrics["inference"]["fit"]
    assert fitted["log_likelihood"] == pytest.approx(-422.327005, abs=1e-6)
    assert fitted["aic"] == pytest.approx(854.654009, abs=1e-6)
    model = json.loads((ran.folder / "model.json").read_text())
    assert model["coefficients"][4] == 0.0
    assert ran.metrics["pooled"]["largest_difference"] < 1e-5


@pytest.mark.parametrize(
    "settings", [*slow((["optimizer=lbfgs", "C=1"],)), ["optimizer=newton", "C=1"]]
)
def test_a_constant_column_is_named_with_a_penalty(tmp_path: Path, settings: list[str]) -> None:
    ran = Ran(tmp_path, numeric(constant=np.full(900, 7.3)), *settings)
    assert ran.found["constant"] == ["constant"]
    assert ran.metrics["federated"]["coefficients"][4] == 0.0
    assert ran.metrics["rounds"][-1]["converged"]
    said = "constant does not vary in the training data and is left out."
    assert said in list(findings(ran.metrics))


@pytest.mark.parametrize("scaling", slow_but(["federated", "none"], "federated"))
def test_an_aliased_column_is_named_and_the_others_have_their_estimates(
    tmp_path: Path, scaling: str
) -> None:
    table = numeric()
    ran = Ran(tmp_path, numeric(double_age=2 * table["age"]), f"scaling={scaling}")
    assert ran.found["aliased"] == {"double_age": ["age"]}
    ran.check_rows(RIGHT)
    assert ran.rows["double_age"]["estimate"] is None
    assert ran.rows["double_age"]["left_out"] == ALIASED
    assert ran.metrics["rounds"][-1]["converged"]
    assert ran.metrics["pooled"]["largest_difference"] < 1e-5
    assert ran.asked() == []


def test_an_aliased_column_is_kept_with_a_penalty(tmp_path: Path) -> None:
    table = numeric()
    ran = Ran(tmp_path, numeric(double_age=2 * table["age"]), "C=1")
    assert ran.found["aliased"] == {"double_age": ["age"]}
    coefficients = ran.metrics["federated"]["coefficients"]
    assert coefficients[4] == pytest.approx(coefficients[0], rel=1e-4)
    assert ran.metrics["pooled"]["largest_difference"] < 1e-5
    assert any("kept" in line for line in findings(ran.metrics))


def test_all_levels_of_a_code_leave_the_last_one_out(tmp_path: Path) -> None:
    table = numeric()
    codes = np.random.default_rng(9).integers(0, 4, 900)
    levels = {name: (codes == code).astype(int) for code, name in enumerate("CEIJ")}
    table = {"age": table["age"], **levels, "died": table["died"]}
    ran = Ran(tmp_path, table)
    assert ran.found["aliased"] == {"J": ["C", "E", "I"]}
    ran.check_rows(fit(table, "age", "C", "E", "I"))


@pytest.mark.release
def test_what_is_left_out_is_left_out_of_firths_penalty_and_of_profiles(tmp_path: Path) -> None:
    table = separable()
    more = {"constant": np.full(900, 7.3), "double_age": 2 * table["age"]}
    columns = {name: column for name, column in table.items() if name != "died"}
    found = []
    for name, added in (("with", more), ("without", {})):
        (tmp_path / name).mkdir()
        profiled = "inference.profile=[" + ",".join(["bmi", *added]) + "]"
        whole = {**columns, **added, "died": table["died"]}
        found.append(Ran(tmp_path / name, whole, "penalty=firth", profiled))
    ran, right = found
    assert ran.found["constant"] == ["constant"]
    assert ran.found["aliased"] == {"double_age": ["age"]}
    assert ran.found["separation"] is None
    assert ran.found["converged"]
    for name, row in right.rows.items():
        for key in ("estimate", "standard_error", "p_value"):
            assert ran.rows[name][key] == pytest.approx(row[key], rel=1e-5, abs=1e-9)
    fitted, expected = (one.metrics["inference"]["fit"] for one in found)
    for key in ("penalised_log_likelihood", "parameters"):
        assert fitted[key] == pytest.approx(expected[key], rel=1e-6)
    bounds, (only,) = (one.metrics["inference"]["profile"]["intervals"] for one in found)
    assert bounds[0]["lower"] == pytest.approx(only["lower"], rel=1e-4)
    assert [row["lower_reason"] for row in bounds[1:]] == [
        CONSTANT,
        ALIASED,
    ]


def found_by(kind: str, column: str) -> dict[str, Any]:
    return {"kind": kind, "columns": [column], "largest": [column]}


def separable() -> Table:
    table = numeric()
    return {**table, "died": np.where(table["age"] > 62, "yes", "no")}


def lacking(ran: Ran) -> dict[str, list[str]]:
    """Return the names of the rows without an estimate, by the report's reason."""
    found = dict[str, list[str]]()
    for name, row in ran.rows.items():
        found.setdefault(re.split("[,:]", row["left_out"] or "")[0], []).append(name)
    return found


@pytest.mark.parametrize(("border", "finite"), [(62.0, False), *slow((0.0, True))])
def test_the_intercept_is_infinite_where_finite_ones_separate_no_classes(
    tmp_path: Path, border: float, *, finite: bool
) -> None:
    """Compare with a linear program: do classes around `border` need the intercept?"""
    ages = border + np.concatenate([-np.arange(1, 31), np.arange(1, 31)]).astype(float)
    died = ages > border
    signed = np.where(died, 1.0, -1.0)
    found = linprog(
        np.zeros(1), A_ub=-(signed * ages)[:, None], b_ub=-np.ones(60), bounds=[(None, None)]
    )
    assert (found.status == 0) is finite
    ran = Ran(tmp_path, {"age": ages, "died": np.where(died, "yes", "no")})
    assert ran.found["separation"]["kind"] == "complete"
    infinite = ["age"] if finite else ["age", "(intercept)"]
    assert lacking(ran)["no finite estimate"] == infinite
    every = "all coefficients have no finite estimate" in separation(ran.metrics)
    assert every is not finite


def test_complete_separation_is_named_and_nothing_is_estimated(tmp_path: Path) -> None:
    ran = Ran(tmp_path, separable())
    assert ran.found["separation"] == found_by("complete", "age")
    assert ran.found["converged"] is False
    assert ran.metrics["rounds"][-1]["converged"] is False
    assert ran.models() == {"separated"}
    assert ran.metrics["inference"]["withheld"] == f"{CLASSES} are separated by age"
    assert all(row["estimate"] is None for row in ran.rows.values())
    assert ran.metrics["inference"]["fit"] is None
    assert ran.asked() == ["separation"]
    assert read_metrics(ran.folder)["diagnostics"] == ran.found
    # Any value of the other columns is as likely, but classes that part at an age of 62 need an
    # intercept that is -62 times the coefficient of age.
    assert lacking(ran) == {
        "no finite estimate": ["age", "(intercept)"],
        "no unique estimate": ["male", "bmi", "crp"],
    }
    said = (
        "the coefficients of age and (intercept) have no finite estimate and the coefficients of "
        "male, bmi and crp have no unique estimate; set penalty=firth"
    )
    assert said in separation(ran.metrics)
    page = (ran.folder / "report.html").read_text()
    assert "completely separated by age" in page
    assert (ran.folder / "model.json").exists()
    draw_run(ran.folder, read_metrics(ran.folder))


@pytest.mark.slow
def test_columns_that_separate_by_equal_parts_are_all_named(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    first, second = random.integers(0, 2, 300), (random.random(300) < 0.3).astype(int)
    difference = first - second
    died = np.where(difference == 0, random.random(300) < 0.5, difference > 0)
    table = {"first": first, "second": second, "died": np.where(died, "yes", "no")}
    ran = Ran(tmp_path, table)
    found = ran.found["separation"]
    assert found["kind"] == "quasi-complete"
    assert set(found["largest"]) == {"first", "second"}
    said = "in which first and second have the largest parts"
    assert said in (ran.folder / "report.html").read_text()
    assert said in ran.rows["first"]["left_out"]


def test_quasi_complete_separation_spares_the_other_columns(tmp_path: Path) -> None:
    table = numeric()
    rare = np.zeros(900, dtype=int)
    rare[np.flatnonzero(table["died"] == "yes")[:6]] = 1
    ran = Ran(tmp_path, numeric(rare=rare))
    assert ran.found["separation"] == found_by("quasi-complete", "rare")
    assert ran.rows["rare"]["estimate"] is None
    assert "separated by rare" in ran.rows["rare"]["left_out"]
    others = {name: column[rare == 0] for name, column in table.items()}
    ran.check_rows(fit(others, "age", "male", "bmi", "crp"))
    assert ran.metrics["pooled"]["largest_difference"] is None
    assert "separated by rare" in (ran.folder / "report.html").read_text()


def test_a_difference_of_nearly_equal_columns_separates_and_spares_the_others(
    tmp_path: Path,
) -> None:
    rng, rare = np.random.default_rng(0), np.arange(300) % 20 == 0
    age, bmi = rng.normal(50, 10, 300), rng.normal(25, 4, 300)
    died = rare | (rng.random(300) < 1 / (1 + np.exp((50 - age) / 10)))
    again = age + 2e-3 * rare * np.abs(rng.normal(size=300))
    table = {"age": age, "again": again, "bmi": bmi, "died": np.where(died, "yes", "no")}
    ran = Ran(tmp_path, table)
    assert ran.found["separation"]["kind"] == "quasi-complete"
    assert sorted(ran.found["separation"]["columns"]) == ["again", "age"]
    assert sorted(name for name, row in ran.rows.items() if row["left_out"]) == ["again", "age"]
    border = {name: values[~rare] for name, values in table.items()}
    right = fit(border, "age", "bmi")
    ran.check_rows({"bmi": right["bmi"]})
    intercept, error = right["(intercept)"]
    assert ran.rows["(intercept)"]["estimate"] == pytest.approx(intercept, abs=1e-6 * error)


def test_rounds_that_do_not_suffice_prove_nothing_and_say_so(tmp_path: Path) -> None:
    table = numeric()
    rare = np.zeros(900, dtype=int)
    rare[np.flatnonzero(table["died"] == "yes")[:6]] = 1
    ran = Ran(tmp_path, numeric(rare=rare), "rounds=12")
    assert ran.found["separation"] == found_by("not proved", "rare")
    assert ran.found["converged"] is False
    assert ran.metrics["inference"]["withheld"] == (
        f"{CLASSES} may be separated by rare, which was not proved"
    )
    assert ran.models() == {"not converged"}
    assert [name for name, row in ran.rows.items() if row["estimate"] is None] == ["rare"]
    assert lacking(ran)["no finite estimate was found"] == ["rare"]


@pytest.mark.slow
@pytest.mark.parametrize("after", [pytest.param(1, marks=pytest.mark.slow), 14])
def test_a_run_that_is_resumed_finds_the_same(tmp_path: Path, after: int) -> None:
    table = separable()
    more = {"double_age": 2 * table["age"], "constant": np.full(900, 7.3)}
    columns = {name: column for name, column in table.items() if name != "died"}
    whole = {**columns, **more, "died": table["died"]}

    def stop(entry: Mapping[str, Any]) -> None:
        if entry["round"] == after:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        Ran(tmp_path, whole, on_event=on_round(stop))
    config = compose("config", [f"resume={tmp_path}/run"])
    grid = LocalGrid(client_app.build(lambda _: config), simulated_nodes(config.hospitals))
    metrics = server_app.train(grid, config, tmp_path / "run")
    found = metrics["diagnostics"]
    assert found["aliased"] == {"double_age": ["age"]}
    assert found["constant"] == ["constant"]
    assert found["separation"] == found_by("complete", "age")


@pytest.mark.slow
def test_what_separates_with_first_derivatives_alone_is_proved_too(tmp_path: Path) -> None:
    ran = Ran(tmp_path, separable(), "optimizer=lbfgs", "rounds=40")
    assert ran.found["aliased"] is None
    assert ran.found["separation"]["kind"] == "complete"
    assert ran.found["separation"]["columns"][0] == "age"


@pytest.mark.slow
def test_breast_cancer_without_a_penalty_keeps_its_files(tmp_path: Path) -> None:
    config = experiment("experiment=inference", "rounds=60", folder=tmp_path / "run")
    grid = LocalGrid(client_app.build(lambda _: config), simulated_nodes(config.hospitals))
    metrics = server_app.train(grid, config, tmp_path / "run")
    assert metrics["diagnostics"]["separation"]["kind"] == "complete"
    assert len(metrics["rounds"]) < 40
    assert metrics["inference"]["withheld"].startswith(f"{CLASSES} are separated")
    assert (tmp_path / "run" / "model.json").exists()
    assert read_metrics(tmp_path / "run") == metrics


@pytest.mark.slow
def test_three_classes_that_are_separated_are_said_to_be(tmp_path: Path) -> None:
    config = experiment("data=wine", "experiment=inference", folder=tmp_path / "run")
    grid = LocalGrid(client_app.build(lambda _: config), simulated_nodes(config.hospitals))
    metrics = server_app.train(grid, config, tmp_path / "run")
    assert metrics["diagnostics"]["separation"]["kind"] == "complete"
    assert metrics["rounds"][-1]["converged"] is False
    page = (tmp_path / "run" / "report.html").read_text()
    names = [*metrics["feature_names"], "(intercept)"]
    for name in names:
        rows = re.findall(rf'<th scope="row">{re.escape(name)}</th>(.*?)</tr>', page, re.DOTALL)
        assert len(rows) == 2, "one of each contrast"
        assert not re.search(r">-?[0-9]", "".join(rows)), "no estimate is given"


@pytest.mark.slow
def test_contrasts_that_no_separation_touches_have_their_estimates(tmp_path: Path) -> None:
    """The third class is apart from the others, which have the estimates of their patients."""
    rng = np.random.default_rng(5)
    age, crp = rng.normal(60, 9, 300).round(), rng.normal(0, 1, 300).round(2)
    kind = np.array(["a", "b", "c"])[
        np.where(age > 66, 2, rng.random(300) < 1 / (1 + np.exp(-0.8 * crp))).astype(int)
    ]
    table = {"age": age, "crp": crp, "died": kind}
    ran = Ran(tmp_path, table, "data.positive=null", "data.classes=[a,b,c]")
    assert ran.found["separation"]["kind"] == "quasi-complete"
    together = kind != "c"
    design = sm.add_constant(np.column_stack([age, crp])[together], prepend=False)
    right = sm.Logit(kind[together] == "b", design).fit(disp=False, tol=1e-12)
    rows = ran.metrics["inference"]["coefficients"]
    found = [(row["estimate"], row["standard_error"]) for row in rows if row["class"] == "b"]
    np.testing.assert_allclose(found, np.column_stack([right.params, right.bse]), atol=2e-6)
    assert all(row["estimate"] is None for row in rows if row["class"] == "c")
    said = left_out_notes(ran.metrics["inference"])
    infinite = "age and (intercept) (c against a): NA, no finite estimate"
    assert said[0].startswith(f"{infinite}: {CLASSES} are separa")
    assert all(" (c against a): NA, " in note for note in said)


@pytest.mark.parametrize("reference", slow_but(["a", "b", "c"], "a"))
def test_a_code_of_one_class_only_is_infinite_against_it_and_not_unique_between_others(
    tmp_path: Path, reference: str
) -> None:
    """All with the code are c: the likelihood is the same for any coefficient of a against b."""
    rng = np.random.default_rng(8)
    kind = np.array(["a", "b", "c"])[rng.integers(0, 3, 120)]
    code = np.zeros(120, dtype=int)
    code[np.flatnonzero(kind == "c")[:9]] = 1
    table = {"age": rng.normal(60, 9, 120).round() + 4 * (kind == "b"), "code": code, "died": kind}
    settings = ("data.positive=null", "data.classes=[a,b,c]", f"data.reference={reference}")
    ran = Ran(tmp_path, table, *settings)
    assert ran.found["separation"] == found_by("quasi-complete", "code")
    rows = ran.metrics["inference"]["coefficients"]
    reasons = {row["class"]: row["left_out"] for row in rows if row["name"] == "code"}
    assert len(reasons) == 2
    finite, unique = list[str](), list[str]()
    for other, reason in reasons.items():
        with_c = "c" in (other, reference)
        assert reason.startswith("no finite estimate" if with_c else "no unique estimate, as")
        (finite if with_c else unique).append(f"code ({other} against {reference})")
    assert all(row["left_out"] is None for row in rows if row["name"] != "code")
    parts = [(finite, "no finite estimate"), (unique, "no unique estimate")]
    said = [
        f"the coefficient{'s' * (len(of) > 1)} of {' and '.join(of)} "
        f"{'have' if len(of) > 1 else 'has'} {lacks}"
        for of, lacks in parts
        if of
    ]
    assert f"{' and '.join(said)}; the other estimates" in separation(ran.metrics)
    notes = [note for note in left_out_notes(ran.metrics["inference"]) if note.startswith("code")]
    assert len(notes) == len(said)
    assert all(("against" in note) == (len(notes) > 1) for note in notes)


@pytest.mark.parametrize("C", ["null", "1.0"])
def test_a_table_that_tells_nothing_ends_no_run(tmp_path: Path, C: str) -> None:
    """Constant columns and equal classes: every fit starts at its optimum."""
    table = {"kind": np.ones(60, dtype=int), "died": np.array(["yes", "no"] * 30)}
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        ran = Ran(tmp_path, table, f"C={C}")
    assert ran.found["constant"] == ["kind"]
    for model in ("federated", "pooled"):
        assert ran.metrics[model]["coefficients"] == pytest.approx([0.0], abs=1e-9)
        assert ran.metrics[model]["intercept"] == pytest.approx(0.0, abs=1e-9)


def test_an_identifier_is_warned_of(tmp_path: Path) -> None:
    ran = Ran(tmp_path, {"patient": 1_000_000 + np.arange(900), **numeric()}, "rounds=2")
    assert ran.found["unique"] == ["patient"]
    with pytest.warns(FewDataWarning, match="the column 'patient' is a feature whose values"):
        warn_of_few(simulated_data(ran.config), ran.config)
