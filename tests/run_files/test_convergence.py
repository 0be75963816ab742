from __future__ import annotations

import math
from typing import Any

import pytest

from fl_he.run_files.convergence import converged, divergence, listed, unseen_separation, warnings


def rounds(*losses: float | None, test_loss: float | None) -> list[dict[str, float | None]]:
    return [{"loss": loss, "test_loss": test_loss} for loss in losses]


@pytest.mark.parametrize(
    ("losses", "test_loss"),
    [
        ((), None),
        ((0.7,), None),
        ((0.7,), 1.4),
        ((0.7, 0.6), 1.3),
        ((0.7, 0.1), 90.0),
        ((0.7, 1.4), 1.3),
        ((0.7, None), 1.5),
        ((None,), 9.0),
        ((0.7, 90.0, 0.6), 0.8),
    ],
)
def test_training_whose_loss_did_not_double_does_not_diverge(
    losses: tuple[float | None, ...], test_loss: float | None
) -> None:
    assert divergence(rounds(*losses, test_loss=test_loss), "gd") == ""


@pytest.mark.parametrize(
    ("losses", "values"),
    [
        ((0.6931, 1.5e7), "from 0.693 to 1.5e+07"),
        ((0.5, 0.7, 1.25), "from 0.5 to 1.25"),
        ((0.5, math.nan), "from 0.5 to nan"),
        ((0.5, math.inf), "from 0.5 to inf"),
    ],
)
@pytest.mark.parametrize(
    ("optimizer", "advice"),
    [
        ("gd", ": lower optimizer.lr"),
        ("nesterov", ": lower optimizer.lr"),
        ("newton", ""),
        ("lbfgs", ""),
        (None, ""),
    ],
)
def test_a_training_loss_that_grew_is_told_with_the_rate_if_there_is_one(
    losses: tuple[float, ...], values: str, optimizer: str | None, advice: str
) -> None:
    assert divergence(rounds(*losses, test_loss=0.5), optimizer) == (
        f"the training loss went {values}, so training diverges{advice}"
    )


def test_the_first_step_is_judged_by_the_test_loss_if_it_has_a_rate() -> None:
    for loss, shown in ((1.5, "1.5"), (math.nan, "nan")):
        assert divergence(rounds(0.6931, test_loss=loss), "gd") == (
            f"the loss was 0.693, and on the test set {shown} after the first step, so the step "
            "was too long: lower optimizer.lr"
        )
        assert divergence(rounds(0.6931, test_loss=loss), "newton") == ""


@pytest.mark.parametrize("ended_early", [False, True])
@pytest.mark.parametrize(
    ("config", "advice"),
    [
        ({"C": 10.0}, "lower C, now 10"),
        ({"C": None}, "set C=1.0"),
        ({"C": None, "penalty": "firth"}, "set penalty=l2 C=1.0"),
    ],
    ids=str,
)
def test_a_test_loss_that_grew_alone_is_overfitting(
    config: dict[str, Any], advice: str, *, ended_early: bool
) -> None:
    metrics = run(converged=not ended_early, gradient_norm=0.25) | {"config": config}
    metrics["rounds"][0] = metrics["rounds"][0] | {"loss": 0.6931}
    metrics["rounds"][1] = metrics["rounds"][1] | {"loss": 0.1, "distance": 0.5}
    metrics["federated"] = {"log_loss": 2.06}
    metrics["optimizer"] = {"name": "newton"}
    assert warning(metrics) == (
        "the training loss fell from 0.693 to 0.1, but the loss on the test set is 2.06, so the "
        "model is overfitted, or rows of the test set are far from the others: look for wrong "
        f"values, {advice}, or train with fewer columns (data.drop) or more patients"
    )
    metrics["federated"]["log_loss"] = 1.3
    assert "overfitted" not in warning(metrics)


def run(*, converged: bool, gradient_norm: float | None, privacy: object = None) -> dict[str, Any]:
    entry = {"loss": 0.5, "test_loss": None, "gradient_norm": gradient_norm, "converged": converged}
    return {
        **{"rounds": [entry, entry], "privacy": privacy, "config": {"C": 1.0}},
        "federated": {"log_loss": None},
    }


def warning(metrics: dict[str, Any]) -> str:
    """Return the only warning, if there is any."""
    *others, said = ["", *warnings(metrics)]
    assert all(one.startswith("class_weight=balanced") for one in filter(None, others))
    return said


@pytest.mark.parametrize("reached", [True, False])
def test_a_run_converged_if_its_last_round_did(reached: bool) -> None:
    assert converged(run(converged=reached, gradient_norm=0.25)) is reached


def test_nobody_can_tell_with_noise_or_without_the_totals() -> None:
    for metrics in (
        run(converged=False, gradient_norm=0.25, privacy={"epsilon": 1.0}),
        run(converged=False, gradient_norm=None),
    ):
        assert converged(metrics) is None
        assert warning(metrics) == ""


@pytest.mark.parametrize(
    ("names", "end"),
    [
        ("abcdefghij", "i and j"),
        ("abcdefghijk", "i, j and 1 more column"),
        ("abcdefghijkl", "i, j and 2 more columns"),
    ],
)
def test_columns_that_are_many_are_counted(names: str, end: str) -> None:
    assert listed([*names]).endswith(f", {end}")


def test_a_run_that_ended_early_says_so() -> None:
    said = warning(run(converged=False, gradient_norm=0.25))
    assert said.startswith("training ended before it converged")
    assert "before the last of 2 steps the gradient's norm was 0.25; raise rounds" in said
    assert warning(run(converged=True, gradient_norm=1e-9)) == ""
    metrics = run(converged=False, gradient_norm=0.25) | {"optimizer": {"name": "newton"}}
    metrics["rounds"][-1]["distance"] = 0.5
    assert "before the last of 2 steps 0.5 standard errors were left; raise rounds" in warning(
        metrics
    )


def separated(kind: str, columns: list[str], *, classes: object = None, **config: object) -> str:
    found = {"kind": kind, "columns": columns}
    metrics = run(converged=False, gradient_norm=0.25) | {"classes": classes, "config": config}
    metrics["inference"] = {
        "reference": "a",
        "coefficients": [
            {
                **{"name": name, "class": "c" if classes else None, "estimate": value},
                "left_out": "no finite estimate: it separates" if name == "age" else None,
            }
            for name, value in (("age", None), ("double", None), ("crp", 0.5))
        ],
    }
    return warning(metrics | {"diagnostics": {"separation": found, "aliased": {"double": ["age"]}}})


@pytest.mark.parametrize(
    ("config", "classes", "remedy"),
    [
        ({}, None, "set penalty=firth, or C=1.0"),
        ({"inference": {"groups": [], "profile": []}}, None, "set penalty=firth, or C=1.0"),
        ({}, ["a", "b", "c"], "set C=1.0"),
        (
            {"inference": {"groups": [["age"]], "profile": ["age"]}},
            None,
            "set penalty=firth, or C=1.0 without inference.groups and inference.profile",
        ),
        ({"sealed": True}, None, "set penalty=firth, or C=1.0"),
        (
            {"class_weight": "balanced", "optimizer": {"name": "lbfgs"}},
            None,
            "set penalty=firth class_weight=equal optimizer=newton, or C=1.0",
        ),
    ],
    ids=str,
)
def test_only_settings_that_are_not_refused_are_advised(
    config: dict[str, Any], classes: object, remedy: str
) -> None:
    said = separated("complete", ["age"], classes=classes, **config)
    assert said.endswith(f"have no finite estimate; {remedy}")


def test_a_combination_names_its_largest_part_and_hides_no_single_column() -> None:
    assert "completely separated by age: " in separated("complete", ["age"])
    assert (
        "completely separated by a linear combination of crp and age, in which crp has the largest "
        "part (fewer columns may suffice): "
    ) in separated("complete", ["crp", "age"])


def test_equal_parts_of_a_combination_are_all_named() -> None:
    found = {"kind": "complete", "columns": ["b", "a", "c"], "largest": ["b", "a"]}
    metrics = run(converged=False, gradient_norm=0.25) | {"config": {}}
    said = warning(metrics | {"diagnostics": {"separation": found}})
    assert "a linear combination of b, a and c, in which b and a have the largest parts" in said


@pytest.mark.parametrize("privacy", [None, {"epsilon": 0.5}])
@pytest.mark.parametrize(
    ("reached", "warned"),
    [(0.993, True), (0.561, False), (0.5614, False), (0.5616, True), (None, False)],
)
def test_a_model_that_is_worse_than_the_class_shares_is_warned_of(
    privacy: object, reached: float | None, warned: bool
) -> None:
    metrics = run(converged=True, gradient_norm=0.25, privacy=privacy)
    metrics |= {"federated": {"log_loss": reached}, "class_shares": {"log_loss": 0.561}}
    said = warning(metrics)
    shown = "" if reached is None else f"log loss {reached:.3f} on the test set, against 0.561;"
    assert said.startswith("the model's probabilities") is warned
    assert (shown in said) or not warned
    assert bool(said) is warned


@pytest.mark.parametrize(("reached", "warned"), [(0.33, False), (0.32, False), (0.34, True)])
def test_rounded_counts_are_compared_by_the_decimals_that_they_have(
    reached: float, warned: bool
) -> None:
    metrics = run(converged=True, gradient_norm=0.25) | {"federated": {"log_loss": None}}
    counts = {"examples": 100, "min_cell": 5, "log_loss": reached, "roc_auc": 0.5}
    by_class = [{"examples": 90}, {"examples": 10}]  # of an entropy of 0.325
    said = warning(metrics | {"evaluation": counts | {"by_class": by_class}})
    assert bool(said) is warned
    if warned:
        assert "log loss 0.34 in the encrypted counts, against 0.33; use its" in said


@pytest.mark.parametrize(
    ("area", "ranks"),
    [(0.81, "; it may still rank patients (ROC AUC 0.810), but use its"), (0.5, ""), (None, "")],
)
@pytest.mark.parametrize("counted", [True, False])
def test_only_a_model_that_ranks_is_said_to_rank(
    area: float | None, ranks: str, *, counted: bool
) -> None:
    known = {"log_loss": 0.993, "roc_auc": area}
    metrics = run(converged=True, gradient_norm=0.25) | {"federated": {"log_loss": None}}
    if counted:
        metrics |= {"evaluation": known | {"by_class": [{"examples": 90}, {"examples": 10}]}}
    else:
        metrics |= {"federated": known, "class_shares": {"log_loss": 0.561}}
    said = warning(metrics)
    assert said.endswith("use its probabilities only after calibration on other data")
    assert (ranks in said) if ranks else ("rank" not in said)


@pytest.mark.parametrize(
    ("reached", "sizes", "warned"),
    [(0.6, [90, 10], True), (0.3, [90, 10], False), (0.6, [90, None], False), (0.1, [9, 0], True)],
)
def test_where_nobody_holds_test_data_the_encrypted_counts_tell_the_class_shares(
    reached: float, sizes: list[int | None], warned: bool
) -> None:
    metrics = run(converged=True, gradient_norm=0.25) | {"federated": {"log_loss": None}}
    by_class = [{"examples": size} for size in sizes]
    said = warning(metrics | {"evaluation": {"log_loss": reached, "by_class": by_class}})
    assert bool(said) is warned
    if sizes == [90, 10] and warned:
        assert "log loss 0.600 in the encrypted counts, against 0.325;" in said


def test_probabilities_of_weighted_classes_are_said_to_be_no_forecasts() -> None:
    metrics = run(converged=True, gradient_norm=0.25)
    assert warnings(metrics | {"config": {"C": 1.0, "class_weight": "equal"}}) == []
    (said,) = warnings(metrics | {"config": {"C": 1.0, "class_weight": "balanced"}})
    assert "no forecasts of the share of patients: log loss, Brier score and calibration" in said


@pytest.mark.parametrize(("most", "advice"), [(2, "raise rounds, or set"), (50, "no more; set")])
def test_more_rounds_are_advised_only_where_rounds_ended_the_run(most: int, advice: str) -> None:
    said = separated("not proved", ["age"], rounds=most)

    assert f"{advice} penalty=firth" in said
    assert ("raise rounds" in said) == (most == 2)


@pytest.mark.parametrize(
    ("kind", "classes", "words"),
    [
        ("complete", None, "optimum, and all coefficients have no finite estimate; set"),
        ("quasi-complete", None, "optimum, and the coefficient of age has no finite estimate;"),
        ("quasi-complete", ["a", "b", "c"], "the coefficient of age (c against a) has no finite"),
    ],
)
def test_the_columns_without_a_finite_estimate_are_named(
    kind: str, classes: object, words: str
) -> None:
    said = separated(kind, ["age"], classes=classes)
    assert words in said
    limits = "; the other estimates in the table are finite limits; set "
    assert (limits in said) == (kind != "complete")


def test_of_estimates_that_are_withheld_no_limit_is_promised() -> None:
    found = {"separation": {"kind": "quasi-complete", "columns": ["age"]}}
    metrics = run(converged=False, gradient_norm=0.25) | {"diagnostics": found}
    said = warning(metrics)
    assert "the coefficients of the columns that separate have no finite estimate" in said
    assert "finite limits" not in said


def trained(optimizer: str, *, converged: bool = True, **config: object) -> dict[str, Any]:
    metrics = run(converged=converged, gradient_norm=0.25)
    metrics["rounds"][-1]["distance"] = 0.5
    return metrics | {"config": config, "optimizer": {"name": optimizer}}


def test_a_first_order_optimizer_without_a_penalty_warns_that_separation_may_be_missed() -> None:
    (said,) = warnings(trained("lbfgs", C=None))
    assert said.startswith("separation was not looked for, as only optimizer=newton shows")
    assert len(warnings(trained("lbfgs", C=None, converged=False))) == 2
    for optimizer, config in (
        ("newton", {"C": None}),
        ("lbfgs", {"C": 1.0}),
        ("newton", {"C": None, "penalty": "firth"}),
    ):
        assert warnings(trained(optimizer, **config)) == []


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        (trained("newton", C=None), ""),
        (
            trained("newton", C=None, converged=False),
            "separation cannot be told after 2 rounds",
        ),
        (trained("gd", C=None) | {"privacy": {}, "diagnostics": None}, "separation was not looked"),
        *(
            (
                trained("newton", **config),
                "separation was not looked for, since a penalised model has finite estimates",
            )
            for config in ({"C": 1.0}, {"C": None, "penalty": "firth"})
        ),
    ],
)
def test_only_a_search_that_ended_finds_no_separation(metrics: dict[str, Any], said: str) -> None:
    assert unseen_separation(metrics).startswith(said)
    assert bool(unseen_separation(metrics)) is bool(said)


def test_a_private_model_of_features_that_are_not_scaled_is_not_to_be_calibrated() -> None:
    metrics = run(converged=False, gradient_norm=0.25, privacy={"epsilon": 0.5})
    metrics |= {"federated": {"log_loss": 5.38}, "class_shares": {"log_loss": 0.561}}
    assert "only after calibration" in warning(metrics)
    metrics["config"] = {"scaling": "none"}
    assert warning(metrics).endswith(
        "log loss 5.380 on the test set, against 0.561; its features were not scaled: declare "
        "their ranges with ranges=FILE in place of scaling=none"
    )


@pytest.mark.parametrize(
    ("dispersion", "p_value", "warned"),
    [(1.1, 0.0009, True), (1.09, 1e-9, False), (1.5, 0.001, False), (1.5, None, False)],
)
def test_only_a_clear_dispersion_of_counts_is_warned_of(
    dispersion: float, p_value: float | None, warned: bool
) -> None:
    metrics = run(converged=True, gradient_norm=0.0)
    metrics["inference"] = {"fit": {"dispersion": dispersion, "dispersion_p_value": p_value}}
    assert bool(warnings(metrics)) is warned
