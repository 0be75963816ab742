"""Whole encrypted runs with Firth's penalty and profile likelihoods, against firthmodels."""

from __future__ import annotations

import functools
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deployed_nodes import HEADER, ROWS, deployed_nodes
from experiments import experiment
from firthmodels import FirthLogisticRegression
from flwr.app import Message
from flwr.app.user_config import UserConfig
from local_grid import LocalGrid, simulated_nodes
from lost_replies import error_of
from penalised_fits import intervals, table
from quick import release, slow, slow_but

from fl_he import client_app, server_app
from fl_he.config.composition import compose
from fl_he.config.constraints import ConfigError
from fl_he.config.run import Config
from fl_he.experiment.profile import ProfileIntervals, check_classes
from fl_he.experiment.terms import train_config
from fl_he.learning.optimizers.training import Training
from fl_he.learning.regression.logistic import LOGISTIC
from fl_he.learning.tables.moments import Limbs
from fl_he.learning.tables.scaling import Scaling
from fl_he.run_files.checkpoint import load_checkpoint
from fl_he.wire.encrypted_sum import DECRYPT, FIRTH, PROFILE
from fl_he.wire.events import Event, ProfileAdvanced
from fl_he.wire.learning_terms import task_of
from fl_he.wire.records import ProtocolError


def configured(
    folder: Path, features: np.ndarray, labels: np.ndarray, *more: str, penalty: str = "firth"
) -> Config:
    names = [f"x{number}" for number in range(features.shape[1])]
    rows = [
        ",".join([*map(repr, row), "yes" if label else "no"])
        for row, label in zip(features.tolist(), labels.tolist(), strict=True)
    ]
    (folder / "table.csv").write_text("\n".join([",".join([*names, "sick"]), *rows]))
    return experiment(
        *("data=csv", f"data.path={folder}/table.csv", "data.target=sick", "data.positive=yes"),
        *("optimizer=newton", "test_size=0", "rounds=200", f"penalty={penalty}", *more),
        folder=folder / "run",
    )


def grid_of(config: Config) -> LocalGrid:
    return LocalGrid(client_app.build(lambda _: config), simulated_nodes(config.hospitals))


def run(config: Config, grid: LocalGrid | None = None) -> dict[str, Any]:
    folder = Path(str(config.output_dir))
    return server_app.train(grid or grid_of(config), config, folder)


def reference(features: np.ndarray, labels: np.ndarray, weight: float = 0.5) -> Any:
    """Return the fit of all rows; without a penalty if its weight is 0."""
    fit = FirthLogisticRegression(
        max_iter=500, xtol=1e-9, gtol=1e-8, max_halfstep=50, penalty_weight=weight
    )
    return fit.fit(features, labels)


def check_intervals(found: dict[str, Any], fit: Any, errors: np.ndarray, name: str = "") -> None:
    expected, rows = intervals(fit, name), found["intervals"]
    bounds = np.array([[row["lower"], row["upper"]] for row in rows])
    np.testing.assert_allclose((bounds - expected) / errors[:, None], 0.0, atol=1e-6)
    ratios = [[row["odds_ratio_lower"], row["odds_ratio_upper"]] for row in rows]
    np.testing.assert_allclose(ratios, np.exp(bounds))


def test_a_large_tolerance_publishes_no_first_step(tmp_path: Path) -> None:
    features, labels = table("rare")
    inference = run(configured(tmp_path, features, labels, "tolerance=1e12"))["inference"]
    assert inference["withheld"] is None
    fit, rows = reference(features, labels), inference["coefficients"]
    errors = np.array([row["standard_error"] for row in rows])
    estimates = np.array([row["estimate"] for row in rows])
    expected = np.append(fit.coef_, fit.intercept_)
    np.testing.assert_allclose((estimates - expected) / errors, 0.0, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["separated", "quasi", *release(("overlapping",), ("rare",))])
def test_the_encrypted_federation_finds_the_pooled_estimates(tmp_path: Path, name: str) -> None:
    features, labels = table(name)
    columns = [f"x{number}" for number in range(features.shape[1])]
    chosen = f"inference.profile=[{','.join(columns)}]"
    metrics = run(configured(tmp_path, features, labels, chosen))
    fit, inference = reference(features, labels), metrics["inference"]
    rows = inference["coefficients"]
    errors = np.array([row["standard_error"] for row in rows])
    estimates = np.array([row["estimate"] for row in rows])
    expected = np.append(fit.coef_, fit.intercept_)
    np.testing.assert_allclose((estimates - expected) / errors, 0.0, atol=1e-6)
    design = np.column_stack([features, np.ones(len(features))])
    p = fit.predict_proba(features)[:, 1]
    pooled = np.linalg.inv((design * (p * (1 - p))[:, None]).T @ design)
    np.testing.assert_allclose(errors, np.sqrt(np.diag(pooled)), rtol=1e-6)
    score = design.T @ (labels - p)
    assert inference["penalty_shift"] == pytest.approx(np.sqrt(score @ pooled @ score), rel=1e-5)
    assert inference["fit"]["penalised_log_likelihood"] == pytest.approx(fit.loglik_, abs=1e-6)
    assert inference["withheld"] is None
    check_intervals(inference["profile"], fit, errors[:-1], name)
    assert metrics["pooled"]["largest_difference"] < 1e-6
    assert metrics["optimizer"]["reason"] == "penalty=firth needs the information of all patients"


def test_profile_intervals_without_a_penalty_and_in_a_chain(tmp_path: Path) -> None:
    features, labels = table("overlapping")
    config = configured(
        *(tmp_path, features, labels, "inference.profile=[x2,x0]", "topology=chain", "C=null"),
        penalty="l2",
    )
    grid, heard = grid_of(config), list[Event]()
    metrics = server_app.train(grid, config, tmp_path / "run", heard.append)
    fit = reference(features, labels, weight=0.0)
    inference = metrics["inference"]
    errors = np.array([row["standard_error"] for row in inference["coefficients"]])
    assert [row["name"] for row in inference["profile"]["intervals"]] == ["x2", "x0"]
    profile = dict(inference["profile"])
    profile["intervals"] = profile["intervals"][::-1]
    fit_of_both = type("", (), {"conf_int": lambda _, **how: fit.conf_int(**how)[[0, 2, -1]]})()
    check_intervals(profile, fit_of_both, errors[[0, 2]])
    iterations = profile["iterations"]
    asked = [m for m in grid.sent if m.metadata.message_type == PROFILE]
    assert len(asked) == 3 * iterations, "all bounds advance in one message"
    assert not [m for m in grid.sent if m.metadata.message_type == FIRTH]
    told = [event for event in heard if isinstance(event, ProfileAdvanced)]
    assert [event.iteration for event in told] == list(range(1, iterations + 1))
    assert (told[-1].ended, told[-1].bounds) == (4, 4)


@pytest.mark.slow
def test_the_likelihood_ratio_test_has_the_penalty_on_both_sides(tmp_path: Path) -> None:
    """With one column it is firthmodels' test of that column."""
    features, labels = table("rare")
    metrics = run(configured(tmp_path, features[:, :1], labels))
    fit = reference(features[:, :1], labels)
    fit.lrt()
    found = metrics["inference"]["fit"]
    assert found["likelihood_ratio"]["p_value"] == pytest.approx(fit.lrt_pvalues_[0], rel=1e-5)
    assert found["likelihood_ratio"]["df"] == 1
    assert found["aic"] is found["deviance"] is found["mcfadden_r2"] is None
    difference = found["penalised_log_likelihood"] - found["penalised_null_log_likelihood"]
    assert found["likelihood_ratio"]["chi2"] == pytest.approx(2 * difference)


def deployed(folder: Path, timeout: float = 600.0) -> Config:
    config = experiment(
        *("experiment=firth", "inference.profile=[age]", "rounds=40"), folder=folder / "run"
    )
    return replace(config, key_holder_timeout=timeout)


def overlapping_nodes(folder: Path) -> list[UserConfig]:
    """Return deployed nodes of hospitals whose classes overlap: few iterations find the bounds."""
    nodes, rng = deployed_nodes(folder), np.random.default_rng(1)
    for number in ROWS:
        values = rng.integers(-3, 4, size=(20, 2))
        sick = rng.random(20) < 1 / (1 + np.exp(-values[:, 0] / 2))
        rows = [
            f"{age},{size},{'sick' if one else 'well'}"
            for (age, size), one in zip(values.tolist(), sick, strict=True)
        ]
        (folder / f"{number}.csv").write_text(HEADER + "\n".join(rows))
    return nodes


@functools.cache
def unbroken() -> tuple[dict[str, Any], list[str]]:
    """Return the figures of a deployed run, and the purposes of its sums in their order."""
    with tempfile.TemporaryDirectory() as name:
        config, nodes = deployed(Path(name)), overlapping_nodes(Path(name))
        grid = LocalGrid(client_app.build(lambda _: config), nodes, run_id=3)
        metrics = run(config, grid)
        return metrics, [str(message.content["fl-he"]["purpose"]) for message in sums_sent(grid)]


def sums_sent(*grids: LocalGrid) -> list[Message]:
    sent = [message for grid in grids for message in grid.sent]
    return [message for message in sent if message.metadata.message_type == DECRYPT]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("purpose", "which", "lost"),
    [
        ("firth", -1, "answer"),  # the second of two sums of the search
        *slow(("firth", 2, "answer"), ("profile", 2, "answer")),
        *release(("train", 2, "request"), ("firth", -1, "request")),
    ],
)
def test_a_run_goes_on_in_the_middle_of_an_iteration(
    tmp_path: Path, purpose: str, which: int, lost: str
) -> None:
    """The coordinator dies while company X has one of the two sums, opened or not."""
    whole, purposes = unbroken()
    cut = [at for at, found in enumerate(purposes) if found == purpose][which]
    config, nodes = deployed(tmp_path, 0.1), overlapping_nodes(tmp_path)

    def grid(run_id: int) -> LocalGrid:
        return LocalGrid(client_app.build(lambda _: config), nodes, run_id=run_id)

    first, opened = grid(1), list[Message]()

    def away(reply: Message) -> Message | None:
        if reply.metadata.message_type == DECRYPT:
            opened.append(reply)
            if len(opened) == cut + 1 and lost == "answer":
                return None
            if len(opened) == cut and lost == "request":
                first.leave(1003)
        return reply

    first.tamper = away
    with pytest.raises(ProtocolError, match="company X must open a sum within"):
        run(config, first)
    checkpoint = load_checkpoint(tmp_path / "run")
    assert checkpoint.unopened is not None
    assert (checkpoint.first_sum is not None) == (purpose == "firth")

    second = grid(2)
    going_on = compose("config", [f"resume={tmp_path / 'run'}", "key_holder_timeout=600"])
    metrics = server_app.train(second, going_on, tmp_path / "run")
    sums = [m.content.array_records["fl-he.sum"]["sum"].data for m in sums_sent(first, second)]
    assert len(set(sums)) == len(purposes), "no round has two sums"
    assert metrics["federated"] == whole["federated"]
    mine, its = metrics["inference"]["profile"], whole["inference"]["profile"]
    assert mine["intervals"] == its["intervals"]
    assert mine["iterations"] == its["iterations"]
    assert all(row["lower"] < row["upper"] for row in its["intervals"])
    assert len(metrics["rounds"]) == len(whole["rounds"])


def failing_once(grid: LocalGrid, action: str, number: int) -> None:
    """Replace the given answer of one hospital to an action by a failure, once."""
    seen = list[str]()

    def fail(reply: Message) -> Message:
        if reply.metadata.message_type != action or reply.metadata.src_node_id != 1000:
            return reply
        seen.append(reply.metadata.message_id)
        if len(seen) != number:
            return reply
        return error_of(reply, 6, "away")

    grid.tamper = fail


@pytest.mark.slow
@pytest.mark.parametrize("action", slow_but([FIRTH, PROFILE], PROFILE))
def test_a_hospital_that_is_away_from_one_sum_only_costs_a_step(
    tmp_path: Path, action: str
) -> None:
    features, labels = table("quasi")
    config = configured(
        *(tmp_path, features, labels, "inference.profile=[x0]", "hospitals=4"),
    )
    grid = grid_of(config)
    failing_once(grid, action, 3)
    metrics = run(config, grid)
    rows = metrics["inference"]["coefficients"]
    fit = reference(features, labels)
    errors = np.array([row["standard_error"] for row in rows])
    estimates = np.array([row["estimate"] for row in rows])
    expected = np.append(fit.coef_, fit.intercept_)
    np.testing.assert_allclose((estimates - expected) / errors, 0.0, atol=1e-6)
    check_intervals(
        metrics["inference"]["profile"],
        type("", (), {"conf_int": lambda _, **how: fit.conf_int(**how)[[0, -1]]})(),
        errors[:1],
    )
    unmoved = [entry["round"] for entry in metrics["rounds"] if entry["distance"] is None]
    assert unmoved == ([3] if action == FIRTH else [])


@pytest.mark.slow
def test_a_search_with_other_hospitals_ends_with_words(tmp_path: Path) -> None:
    features, labels = table("quasi")
    config = configured(tmp_path, features, labels, "inference.profile=[x0]", "hospitals=4")
    grid = grid_of(config)

    def away(reply: Message) -> Message:
        if reply.metadata.message_type == PROFILE and reply.metadata.src_node_id == 1000:
            return error_of(reply, 6, "away")
        return reply

    grid.tamper = away
    profile = run(config, grid)["inference"]["profile"]
    words = "not found: other hospitals answered than in the last round of training"
    (row,) = profile["intervals"]
    assert (row["lower"], row["upper"]) == (None, None)
    assert (row["lower_reason"], row["upper_reason"]) == (words, words)
    assert profile["iterations"] == 3


def test_a_run_that_did_not_converge_has_no_profile_intervals(tmp_path: Path) -> None:
    features, labels = table("quasi")
    config = configured(tmp_path, features, labels, "inference.profile=[x0]", "rounds=2")
    profile = run(config)["inference"]["profile"]
    assert profile["withheld"] == "training ended before it converged"
    assert profile["intervals"] == []


@pytest.mark.slow
def test_a_constant_column_is_in_none_of_it(tmp_path: Path) -> None:
    features, labels = table("quasi")
    wider = np.column_stack([features[:, 0], np.full(50, 7.0), features[:, 1]])
    config = configured(tmp_path, wider, labels, "inference.profile=[x1,x0]")
    metrics = run(config)
    fit = reference(features, labels)
    found = np.delete(metrics["federated"]["coefficients"], 1) / features.std(axis=0)
    np.testing.assert_allclose(found, fit.coef_, rtol=1e-6)
    assert metrics["federated"]["coefficients"][1] == 0.0
    constant, other = metrics["inference"]["profile"]["intervals"]
    assert constant["lower_reason"] == "it does not vary in the training data"
    expected = fit.conf_int(method="pl", tol=1e-9, max_iter=500)[0]
    np.testing.assert_allclose([other["lower"], other["upper"]], expected, rtol=1e-6)


@pytest.mark.slow
def test_separated_classes_have_no_profile_interval_without_a_penalty(tmp_path: Path) -> None:
    features, labels = table("separated")
    config = configured(
        *(tmp_path, features, labels, "inference.profile=[x0]", "C=null"), penalty="l2"
    )
    profile = run(config)["inference"]["profile"]
    assert profile["withheld"] or profile["intervals"][0]["upper"] is None


@pytest.mark.slow
def test_a_bound_that_was_not_found_is_explained(tmp_path: Path) -> None:
    features, labels = table("quasi")
    config = configured(tmp_path, features, labels, "inference.profile=[x0]")
    run(config)
    members = json.loads((tmp_path / "run" / "checkpoint.json").read_text())["training"]
    members["search"]["iterations"] = 50
    terms = train_config(config, ["x0", "x1"], 2, "newton", None, family=LOGISTIC)
    for state, words in (
        ("none", "beyond 100 standard errors: the likelihood has not dropped far enough there"),
        ("open", "not found in 50 iterations: raise rounds"),
        ("lost", "not found: the search led nowhere"),
    ):
        members["search"]["bounds"][1]["state"] = state
        training = Training.from_members(task_of(terms, Limbs(24, 24)), members)
        figures = ProfileIntervals(config, 2).figures(training, 1.0, Scaling.none(2))
        assert figures is not None
        (row,) = figures["intervals"]
        assert row["upper"] is row["odds_ratio_upper"] is None
        assert row["upper_reason"] == words
        assert row["lower_reason"] is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("inference.profile=[x9]",), "inference.profile must name features .* got 'x9'"),
        (("data=wine",), "penalty=firth must be left out for more than two classes, got 3"),
        (
            ("data=wine", "penalty=l2", "inference.profile=[ash]"),
            "inference.profile must be left out for more than two classes, got 3",
        ),
    ],
)
def test_what_does_not_fit_the_table_is_refused_before_any_round(
    tmp_path: Path, settings: tuple[str, ...], words: str
) -> None:
    table_of_two = configured(tmp_path, *table("quasi"))
    own = (
        *("data=csv", f"data.path={table_of_two.data.path}", "data.target=sick"),
        "data.positive=yes",
    )
    base = () if settings[0].startswith("data=") else own
    names = *base, "experiment=firth", "crypto.key_bits=1024", *settings
    with pytest.raises(ConfigError, match=words):
        run(experiment(*names, folder=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_classes_that_only_the_nodes_know_are_counted_too(tmp_path: Path) -> None:
    config = configured(tmp_path, *table("quasi"))
    check_classes(config, 2)
    with pytest.raises(ConfigError, match="penalty=firth must be left out for more than two"):
        check_classes(config, 3)
