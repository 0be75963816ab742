from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from example_metrics import FIGURES, make_deployed, make_metrics, make_private, row, text
from rich.console import RenderableType

from fl_he.report.blocks import Note
from fl_he.report.files import write_run
from fl_he.report.tables.coefficients import coefficient_sheets, coefficient_table, profile_sheet
from fl_he.report.tables.comparison import (
    calibration_rows,
    comparison_table,
    counted_text,
    difference_note,
    others_note,
    withheld_note,
)
from fl_he.report.tables.cost import cost_table, update_size
from fl_he.report.tables.diagnostics import columns_left_out, diagnostics
from fl_he.report.tables.privacy import privacy_facts, privacy_table
from fl_he.run_files.metrics_contract import COEFFICIENT, MetricsError, check_metrics


def test_comparison_table() -> None:
    lines = text(comparison_table(make_metrics()))
    assert "breast_cancer, 3 hospitals, topology fold, 4 rounds" in lines[0]
    assert row(lines, "hospital-2 alone") == ["102", "0.030", "0.040", "0.050", "0.060"]
    assert row(lines, "hospitals alone, mean") == ["102", "0.030", "0.040", "0.050", "0.060"]
    assert row(lines, "federated (encrypted)") == ["180", "0.810", "0.820", "0.830", "0.840"]
    assert row(lines, "pooled (scikit-learn)") == ["190", "0.910", "0.920", "0.930", "0.940"]


def test_a_table_of_ones_own_is_called_by_its_file() -> None:
    metrics = make_metrics()
    metrics["config"]["data"] = {"name": "csv", "path": "/home/me/patients.csv"}
    assert "test set: patients.csv, 3 hospitals" in text(comparison_table(metrics))[0]


def test_the_mean_skips_figures_that_are_unknown() -> None:
    metrics = make_metrics()
    metrics["local"][0]["roc_auc"] = None
    lines = text(comparison_table(metrics))
    assert row(lines, "hospital-1 alone")[3] == "n/a"
    assert row(lines, "hospitals alone, mean")[3] == f"{np.mean([0.05, 0.06]):.3f}"


@pytest.mark.parametrize(("hospitals", "alone"), [(12, 12), (13, 12), (50, 12)])
def test_many_hospitals_are_counted(hospitals: int, alone: int) -> None:
    lines = text(comparison_table(make_metrics(hospitals)))
    assert sum(" alone " in line and "hospital-" in line for line in lines) == alone
    others = [line for line in lines if " more" in line]
    assert len(others) == (hospitals > alone)
    assert all(f"... {hospitals - alone} more " in line for line in others)
    mean = np.mean([n + 1 for n in range(1, hospitals + 1)]) / 100
    assert row(lines, "hospitals alone, mean")[1] == f"{mean:.3f}"


def test_names_are_shown_as_they_are() -> None:
    metrics = make_metrics()
    metrics["local"][0]["hospital"] = "[red]St. Mary[/red]"
    assert row(text(comparison_table(metrics), width=120), "[red]St. Mary[/red] alone")


def test_tables_of_a_deployment() -> None:
    lines = text(comparison_table(make_deployed()))
    assert "n/a" not in " ".join(lines)
    assert "180 examples" in " ".join(" ".join(lines).split())
    assert not any("alone" in line or "pooled" in line for line in lines)
    assert row(text(cost_table(make_deployed())), "data sent") == ["2.5 kB", "10.0 kB"]


@pytest.mark.parametrize("width", [60, 120])
def test_the_table_says_where_the_penalties_differ(width: int) -> None:
    metrics = make_metrics()
    metrics["pooled"]["C"] = 1.0
    shown = " ".join(" ".join(text(comparison_table(metrics), width=width)).split())
    assert "models (hospitals alone, pooled) have its default, C=1" in shown
    metrics["pooled"]["C"] = None
    shown = " ".join(" ".join(text(comparison_table(metrics), width=width)).split())
    assert "models (hospitals alone) have its default, C=1" in shown
    metrics["local"] = None
    assert "penalty" not in " ".join(text(comparison_table(metrics), width=width))
    metrics["config"]["C"] = 1.0
    assert "penalty" not in " ".join(text(comparison_table(metrics), width=width))


def test_withheld_figures_are_named_as_elsewhere() -> None:
    reasons = dict.fromkeys(("log_loss", "brier_score", "roc_auc"), "too few")
    said = "Company X withheld log loss, Brier score, ROC AUC: too few."
    assert withheld_note({"withheld": reasons}) == said


def test_the_distance_from_the_pooled_fit_is_told() -> None:
    metrics = make_metrics()
    assert difference_note(metrics) == ""
    metrics["pooled"]["largest_difference"] = 5.4e-8
    assert difference_note(metrics).endswith(
        "pooled fit: 5.4e-08 (coefficients of scaled features)"
    )
    unscaled = metrics | {"config": metrics["config"] | {"scaling": "none"}}
    assert difference_note(unscaled).endswith(" (coefficients of the tables' features)")
    assert "noise" not in difference_note(metrics)
    metrics["privacy"] = {"epsilon": 1.0}
    assert "the noise of privacy included" in difference_note(metrics)
    assert difference_note({"pooled": None}) == ""


@pytest.mark.parametrize(
    ("difference", "optimizer", "reached", "included"),
    [
        (7.6e-5, "newton", True, True),
        (2e-8, "newton", True, True),
        (9e-10, "newton", True, False),
        (7.6e-5, "gd", True, False),
        (7.6e-5, "newton", False, False),
    ],
)
def test_the_stopping_error_of_the_pooled_fit_is_told(
    difference: float, optimizer: str, *, reached: bool, included: bool
) -> None:
    metrics = make_metrics() | {"optimizer": {"name": optimizer}}
    metrics["rounds"][-1] |= {"gradient_norm": 1e-9, "converged": reached}
    metrics["pooled"]["largest_difference"] = difference
    assert ("the pooled fit's own stopping error included)" in difference_note(metrics)) is included


def test_a_run_without_a_test_set_is_called_untested() -> None:
    assert "On the held-out test set: breast_cancer" in text(comparison_table(make_metrics()))[0]
    assert "Trained, not tested: " in text(comparison_table(make_deployed()))[0]
    metrics = make_metrics() | {"tested_on": 143}
    assert "On the held-out test set of 143 examples: " in text(comparison_table(metrics))[0]


def test_a_missing_comparison_with_the_pooled_fit_says_why() -> None:
    metrics = make_metrics()
    metrics["pooled"] |= {"C": 1.0, "largest_difference": None}
    metrics["config"]["C"] = None
    assert "not compared with the pooled fit: it has another penalty" in difference_note(metrics)
    said = others_note(metrics)
    assert said.endswith("Without a penalty scikit-learn found no optimum of the pooled data.")
    metrics["diagnostics"] = {"separation": {"kind": "complete", "columns": ["age"]}}
    assert others_note(metrics).endswith(
        "Separated classes have no finite optimum without a penalty."
    )
    metrics["pooled"]["C"] = None
    assert difference_note(metrics).endswith(": separated classes have no finite optimum")


def test_a_family_without_a_pooled_fit_is_named() -> None:
    metrics = make_metrics() | {"family": "cox", "pooled": None, "local": None}
    words = "scikit-learn has no model of family cox: no pooled fit to compare."
    assert others_note(metrics | {"simulated": True}) == words
    assert words in "\n".join(text(comparison_table(metrics | {"simulated": True})))
    assert others_note(metrics | {"simulated": False}) == "", "nobody holds the pooled rows"


def test_cost_table() -> None:
    lines = text(cost_table(make_metrics()))
    assert row(lines, "seconds to encrypt") == ["0.0250", "0.1000"]
    assert row(lines, "seconds to add") == ["0.0025", "0.0100"]
    assert row(lines, "seconds to decrypt") == ["0.0500", "0.2000"]
    assert row(lines, "data sent") == ["2.5 kB", "10.0 kB"]
    assert row(lines, "seconds in rounds") == ["0.5000", "2.0000"]
    assert row(lines, "seconds to start up") == ["", "3.2500"]
    assert row(lines, "seconds to compare and save") == ["", "7.2500"]
    assert row(lines, "seconds in all") == ["", "12.5000"]
    caption = " ".join(" ".join(lines[-3:]).split())
    assert caption == (
        "one update: 1 ciphertext, 537 bytes 35 slots in each, Paillier with a 2048-bit key "
        "0123456789ab (not post-quantum)"
    )
    metrics = make_metrics()
    metrics["crypto"]["ticket_bytes_per_update"] = 1333
    check_metrics(metrics)
    assert update_size(metrics) == (
        "one update: 1 ciphertext, 537 bytes, and a ticket of 1.3 kB",
        "35 slots in each, Paillier with a 2048-bit key 0123456789ab (not post-quantum); tickets "
        "by HPKE with X-Wing (post-quantum)",
    )
    metrics["crypto"]["key_kind"] = "short"
    check_metrics(metrics)
    assert "with a 2048-bit key of kind short, 0123456789ab (not" in update_size(metrics)[1]
    metrics["crypto"]["masked_set"] = 4
    check_metrics(metrics)
    assert update_size(metrics)[0].endswith(
        "1.3 kB, masked pairwise: company X learns one only with 3 of the 4 hospitals"
    )
    metrics["crypto"]["masked_set"] = 0
    metrics["crypto"] |= {"scheme": "masks", "bytes_per_update": 7518}
    check_metrics(metrics)
    assert update_size(metrics) == (
        "one update: masks, 7.5 kB, and a ticket of 1.3 kB",
        "AES-256-CTR with HKDF-SHA-256, tickets by HPKE with X-Wing (all post-quantum), key "
        "0123456789ab",
    )


def test_the_cost_of_a_run_whose_start_was_not_measured() -> None:
    metrics = make_metrics()
    del metrics["start_seconds"]
    check_metrics(metrics)
    lines = text(cost_table(metrics))
    assert row(lines, "seconds before and after") == ["", "10.5000"]
    metrics["rounds"][0]["seconds"] = None
    assert row(text(cost_table(metrics)), "seconds in rounds") == ["0.5000", "1.5000"]


@pytest.mark.parametrize("width", [20, 40, 60, 73, 74, 80, 120])
def test_no_figure_is_ever_cut(width: int) -> None:
    metrics = make_metrics(hospitals=30)
    metrics["local"][0]["hospital"] = "Saint-Bartholomew-of-the-Northern-Valley"
    metrics["local"][1]["examples"] = 12_345_678
    metrics["rounds"][0]["bytes_sent"] = 123_456_789_012
    models = [*metrics["local"][:12], metrics["federated"], metrics["pooled"]]
    shown = text(comparison_table(metrics), width)
    words = " ".join(shown).replace("│", " ").split()
    for model in models:
        assert f"{model['examples']:,}" in words
        assert all(f"{model[name]:.3f}" in words for name in FIGURES)
    cost = " ".join(text(cost_table(metrics), width)).split()
    assert {"GB", "123.5", "0.1000", "12.5000", "0.0250"} <= set(cost)
    assert not any("…" in line for line in shown)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_tables_fit_the_terminal(width: int) -> None:
    for table in (comparison_table(make_metrics()), cost_table(make_metrics())):
        assert max(map(len, text(table, width))) <= width
    assert "hospitals alone, mean" in "\n".join(text(comparison_table(make_metrics()), width))


def test_short_headings_are_explained() -> None:
    narrow, wide = ("\n".join(text(comparison_table(make_metrics()), n)) for n in (60, 80))
    assert "n: trained on, bal. acc.: balanced accuracy" in narrow
    assert "bal." not in wide
    assert "trained" in wide


@pytest.mark.parametrize("key", ["without_noise", "epsilon_towards_a_hospital"])
def test_a_promise_may_lack_what_nobody_knows(key: str) -> None:
    metrics = make_private()
    metrics["privacy"][key] = None
    check_metrics(metrics)
    shown = "\n".join([*text(comparison_table(metrics)), *text(_privacy_table(metrics))])
    assert ("no promise" in shown) == (key == "epsilon_towards_a_hospital")
    assert ("the same without noise" in shown) == (key != "without_noise")


def test_the_noise_of_hospitals_that_are_not_counted_is_named() -> None:
    def noise(*contributors: int) -> str:
        metrics = make_private()
        for entry, number in zip(metrics["rounds"], contributors, strict=True):
            entry["contributors"] = number
        metrics["privacy"]["noise_in_last_total"] = 7.25 * contributors[-1] ** 0.5
        return privacy_facts(metrics)["noise per round"]

    assert noise(3, 3, 3, 3).startswith("standard deviation 12.56 is counted on each sum, 7.25 ")
    said = noise(5, 5, 5, 5)
    assert said.startswith(
        "standard deviation 16.21 on each sum, 7.25 from each of 5 hospitals; epsilon counts "
        "12.56, the noise of 3. min_contributors=5 would count the noise of 5"
    )
    said = noise(5, 4, 3, 4)
    assert said.startswith("standard deviation 14.5 on the last sum, 7.25 from each of 4 hospitals")
    assert said.endswith("epsilon counts 12.56, the noise of 3")


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_promise_is_shown_whole(width: int) -> None:
    lines = text(_privacy_table(make_private()), width)
    assert max(map(len, lines)) <= width
    words = " ".join(" ".join(lines).replace("│", " ").split())
    for part in ("1.25", "1e-05", "1.5:", "2.75,", "0.5", "12.56", "7.25", "[bold]other[/]"):
        assert part in words
    rows = text(comparison_table(make_private()), 200)
    assert row(rows, "federated (encrypted, epsilon 1.25)")[1] == "0.810"
    assert row(rows, "the same without noise") == ["180", *["0.875"] * 4]
    assert row(rows, "the class shares alone") == ["180", *["0.625"] * 4]


def _privacy_table(metrics: dict[str, Any]) -> RenderableType:
    table = privacy_table(metrics)
    assert table is not None
    return table


def counted() -> dict[str, Any]:
    metrics = make_metrics()
    figures = {"accuracy": 0.875, "balanced_accuracy": 0.75, "roc_auc": None, "log_loss": 0.5}
    metrics["evaluation"] = {
        **figures,
        "examples": 16,
        "hospitals": 3,
        "calibration_error": 0.125,
        "confusion": [[6, 2], [0, 8]],
        "calibration": [],
    }
    return metrics


def test_encrypted_counts_are_a_row_of_the_comparison(tmp_path: Path) -> None:
    lines = text(comparison_table(counted()), width=100)
    assert row(lines, "encrypted counts, 16 held out") == [
        *("180", "0.875", "0.750", "n/a", "0.500")
    ]
    metrics = counted()
    metrics["evaluation"] |= {"examples": 225, "min_cell": 5, "roc_auc": 0.68, "log_loss": 0.7}
    rounded = row(text(comparison_table(metrics), width=100), "encrypted counts, 225 held out")
    assert rounded == ["180", "0.875", "0.750", "0.68", "0.70"]
    metrics = counted()
    del metrics["evaluation"]["calibration_error"]
    with pytest.raises(MetricsError, match=r"evaluation\.calibration_error must be a number"):
        write_run(tmp_path, metrics, "{}")


def coefficient(name: str, **known: float) -> dict[str, Any]:
    return {**dict.fromkeys(COEFFICIENT), "name": name, "class": None, "left_out": None, **known}


def inferred(*rows: dict[str, Any], **more: Any) -> dict[str, Any]:
    inference = {
        **{"level": 0.95, "penalised": False, "outcome": "died = yes", "reference": None},
        **{"coefficients": list(rows), "withheld": None, "fit": None, "groups": []},
    }
    return make_metrics() | {"inference": inference | more}


AGE = coefficient(
    "[age]",
    **{"estimate": -0.03139718, "standard_error": 0.00743347, "z": -4.22, "p_value": 2.4e-5},
    **{"lower": -0.0459665, "upper": -0.0168279},
    **{"odds_ratio": 0.969091, "odds_ratio_lower": 0.955074, "odds_ratio_upper": 0.983313},
    **{"odds_ratio_sd": 0.69, "odds_ratio_sd_lower": 0.58, "odds_ratio_sd_upper": 0.82},
)
#: An interval that 0 is hardly in.
HARDLY = coefficient(
    "hardly",
    **{"estimate": 0.147, "standard_error": 0.075, "z": 1.96, "p_value": 0.05},
    **{"lower": -3.017e-7, "upper": 0.294},
    **{"odds_ratio": 1.158, "odds_ratio_lower": 0.9999997, "odds_ratio_upper": 1.341},
)
CELLS = coefficient(
    "cells",
    **{"estimate": 3e-9, "standard_error": 2e-10, "z": 15.0, "p_value": 0.0},
    **{"lower": 2.6e-9, "upper": 3.4e-9},
    **{"odds_ratio": 1.0, "odds_ratio_lower": 1.0, "odds_ratio_upper": 1.0},
    **{"odds_ratio_sd": 2e7, "odds_ratio_sd_lower": 0.0, "odds_ratio_sd_upper": 3e7},
)
BEYOND = coefficient(
    "(intercept)",
    **{"estimate": 750.0, "standard_error": 0.25, "z": 3000.0, "p_value": 0.0496},
    **{"lower": 749.51, "upper": 750.49},
)
WHOLE = {
    **{"log_likelihood": -422.327005, "null_log_likelihood": -447.576, "parameters": 5},
    **{"aic": 854.654009, "deviance": 844.65401, "null_deviance": 895.151, "mcfadden_r2": 0.0564},
    "likelihood_ratio": {"chi2": 50.5, "df": 4, "p_value": 0.25},
}


def test_an_end_of_an_interval_shows_on_which_side_of_no_effect_it_is() -> None:
    (sheet,) = coefficient_sheets(inferred(HARDLY))
    assert sheet.rows[0].cells[3] == "-3.0e-07 to 0.2940"
    assert sheet.rows[0].cells[6] == "1.158 (<1.000 to 1.341)"
    bounds = {"name": "hardly", "lower_reason": None, "upper_reason": None}
    bounds |= {key: HARDLY[key] for key in ("lower", "upper")}
    bounds |= {f"odds_ratio_{end}": HARDLY[f"odds_ratio_{end}"] for end in ("lower", "upper")}
    profile = {"iterations": 3, "seconds": 1.0, "withheld": None, "intervals": [bounds]}
    found = profile_sheet(inferred(HARDLY, profile=profile)["inference"])
    assert found is not None
    assert found.rows[0].cells[1:] == ("-3.0e-07 to 0.294", "<1.000 to 1.341")


@pytest.mark.parametrize(
    ("figures", "shown"),
    [
        ((1.110926, 1.100661, 1.123), "1.111 (1.101 to 1.123)"),
        ((1.0000003, 0.99999991, 1.010954), ">1.000 (<1.000 to 1.011)"),
        ((1.0, 1.0, 1.0), "1.000 (1.000 to 1.000)"),
    ],
)
def test_a_ratio_shows_its_side_of_1_if_its_digits_do_not(
    figures: tuple[float, float, float], shown: str
) -> None:
    keys = ("odds_ratio", "odds_ratio_lower", "odds_ratio_upper")
    (sheet,) = coefficient_sheets(inferred(HARDLY | dict(zip(keys, figures, strict=True))))
    assert sheet.rows[0].cells[6] == shown


def test_coefficients_have_fixed_decimals_by_column(tmp_path: Path) -> None:
    left_out = coefficient("twice") | {"left_out": "it is a linear combination of [age]"}
    groups = [{"columns": ["[age]", "cells"], "chi2": 23.239, "df": 2, "p_value": 0.00001}]
    metrics = inferred(AGE, CELLS, left_out, BEYOND, fit=WHOLE, groups=groups)
    write_run(tmp_path, metrics, "{}")
    table = coefficient_table(metrics)
    assert table is not None
    lines = text(table, 160)
    assert lines[0].strip() == "Log odds of died = yes"
    shown = {line.split("  ")[0].strip(): re.split(r" {2,}", line.strip())[1:] for line in lines}
    assert shown["[age]"] == [
        *("-0.03140", "0.00743", "-0.04597 to -0.01683", "-4.22", "<0.001"),
        *("0.969 (0.955 to 0.983)", "0.690 (0.580 to 0.820)"),
    ]
    assert shown["cells"][:3] == ["3.00e-09", "2.00e-10", "2.60e-09 to 3.40e-09"]
    assert shown["cells"][-1] == "2.00e+07 (<0.001 to 3.00e+07)"
    assert shown["twice"] == ["NA"]
    assert shown["(intercept)"][-2:] == ["0.050", "too large"]
    said = "\n".join(lines)
    assert "twice: NA, it is a linear combination of [age]." in said
    assert "log likelihood: -422.327 (intercept only: -447.576)" in said
    assert "chi-square 50.50, df 4, p = 0.250 (against the intercept only)" in said
    assert shown["[age], cells"] == ["23.24", "2", "<0.001"]
    narrow = text(table, 80)
    assert max(map(len, narrow)) <= 80
    every = " ".join("\n".join(narrow).replace("(", " (").split())
    for figure in (
        "-0.04597 to -0.01683",
        "0.00743",
        "-4.22",
        "0.969 (0.955 to",
        "0.690 (0.580 to",
    ):
        assert figure in every, "a narrow terminal shows all columns, in several tables"
    assert "(continued)" in every


@pytest.mark.parametrize("width", [60, 80, 100])
def test_every_column_is_shown_however_long_a_name_is(width: int) -> None:
    long = AGE | {"name": "a_name_of_a_column_that_is_longer_than_most"}
    table = coefficient_table(inferred(long, CELLS, BEYOND, fit=WHOLE))
    assert table is not None
    lines = text(table, width)
    assert max(map(len, lines)) <= width
    said = " ".join(" ".join(lines).split())
    for figure in ("-0.03140", "0.00743", "-4.22", "<0.001", "0.969", "0.690", "15.00"):
        assert figure in said
    assert "…" not in said


@pytest.mark.parametrize("width", [60, 80, 100])
def test_short_names_leave_the_figures_whole(width: int) -> None:
    rows = [AGE | {"name": name} for name in ("age", "crp", "(intercept)")]
    table = coefficient_table(inferred(*rows, fit=WHOLE))
    assert table is not None
    said = " ".join("\n".join(text(table, width)).split())
    assert "…" not in said
    assert said.count("-0.04597 to -0.01683") == 3
    assert said.count("0.969 (0.955 to 0.983)") == 3
    assert said.count("age ") == 2 or width == 60


def test_a_group_without_a_test_and_columns_without_an_estimate_say_why_once() -> None:
    why = "no finite estimate: the classes are separated by rare"
    rare = coefficient("rare") | {"left_out": why}
    same = [coefficient(name) | {"left_out": "it does not vary"} for name in ("a", "b")]
    group = {"columns": ["[age]", "rare"], "chi2": None, "df": 2, "p_value": None}
    ends = dict.fromkeys(("lower_reason", "upper_reason"), "it does not vary")
    profile = {
        "iterations": 3,
        "seconds": 1.0,
        "withheld": None,
        "intervals": [interval("a", **ends)],
    }
    table = coefficient_table(
        inferred(AGE, rare, *same, fit=WHOLE, groups=[group], profile=profile)
    )
    assert table is not None
    said = "\n".join(text(table, 160))
    assert f"No Wald test of [age] and rare: rare: {why}." in said
    assert "a and b: NA, they do not vary." in said
    assert "bound" not in said
    assert "not found" not in said


def test_a_test_of_columns_says_which_of_them_it_leaves_out() -> None:
    last = coefficient("ward_4") | {"left_out": "it is a linear combination of the others"}
    wards = [f"ward_{number}" for number in (1, 2, 3, 4)]
    group = {"columns": wards, "chi2": 8.68, "df": 3, "p_value": 0.034}
    table = coefficient_table(inferred(AGE, last, fit=WHOLE, groups=[group]))
    assert table is not None
    said = "\n".join(text(table, 160))
    named = "ward_1, ward_2, ward_3 and ward_4"
    assert f"ward_4 is NA: 3 columns were tested of {named}." in said
    whole = coefficient_table(inferred(AGE, fit=WHOLE, groups=[group]))
    assert whole is not None
    assert "were tested" not in "\n".join(text(whole, 160))


def test_columns_aliased_by_the_same_columns_are_one_sentence() -> None:
    metrics = make_metrics()
    metrics["diagnostics"] = {"aliased": {"c": ["a", "b"], "d": ["a", "b"], "e": ["a"]}}
    metrics["config"]["C"] = None
    lines = list(columns_left_out(metrics))
    assert [line.split(" and a constant")[0] for line in lines] == [
        *("c and d are each a linear combination of a and b", "e is a linear combination of a")
    ]
    assert lines[0].endswith("left out, and their effects are in the estimates of a and b.")


def test_constant_columns_are_so_where_the_model_was_trained() -> None:
    metrics = make_metrics()
    metrics["diagnostics"] = {"constant": ["site", "one_case"], "aliased": {}}
    (line,) = columns_left_out(metrics)
    assert line == "site and one_case do not vary in the training data and are left out."


@pytest.mark.parametrize("private", [True, False])
def test_newtons_method_is_advised_where_it_is_allowed(*, private: bool) -> None:
    metrics = make_metrics() | {"privacy": {"epsilon": 1.0} if private else None}
    metrics["diagnostics"] = {"constant": None, "aliased": None}
    section = diagnostics(metrics)
    assert section is not None
    said = "Whether columns are linear combinations of others is not known"
    remedy = "" if private else ": optimizer=newton finds out"
    columns, separation = section.blocks
    assert columns == Note(f"{said}{remedy}.")
    assert isinstance(separation, Note)
    assert separation.text.startswith("Separation was not looked for")
    assert ("set optimizer=newton" in separation.text) is not private


@pytest.mark.parametrize(
    ("converged", "settings", "said"),
    [
        (True, {"C": None}, ["others, and no separation shows."]),
        (False, {"C": None}, ["others.", "Separation cannot be told after 4 rounds."]),
        (True, {"C": 1.0}, ["others.", "finite estimates."]),
        (True, {"C": None, "penalty": "firth"}, ["others.", "finite estimates."]),
    ],
)
def test_no_separation_shows_only_where_it_was_looked_for(
    *, converged: bool, settings: dict[str, object], said: list[str]
) -> None:
    metrics = make_metrics() | {"optimizer": {"name": "newton"}}
    metrics["diagnostics"] = {"constant": [], "aliased": {}, "separation": None}
    metrics["config"].update(settings)
    metrics["rounds"][-1].update(converged=converged, gradient_norm=0.25)
    section = diagnostics(metrics)
    assert section is not None
    for block, end in zip(section.blocks, said, strict=True):
        assert isinstance(block, Note)
        assert block.text.endswith(end)


def test_a_test_of_one_column_names_it_once() -> None:
    twice = coefficient("dup") | {"left_out": "it is a copy"}
    group = {"columns": ["dup"], "chi2": None, "df": 1, "p_value": None}
    table = coefficient_table(inferred(AGE, twice, fit=WHOLE, groups=[group]))
    assert table is not None
    assert "No Wald test of dup: it is a copy." in "\n".join(text(table, 160))


def test_a_null_model_that_nobody_knows_is_said_in_words() -> None:
    unknown = ("null_log_likelihood", "null_deviance", "mcfadden_r2", "likelihood_ratio")
    table = coefficient_table(inferred(AGE, fit=WHOLE | dict.fromkeys(unknown)))
    assert table is not None
    said = " ".join(text(table, 160))
    assert said.count("not the same hospitals were in the first and in the last total") == 2


def test_the_caption_explains_only_columns_that_are_there() -> None:
    bare = {key: value for key, value in AGE.items() if not key.startswith("odds_ratio_sd")}
    for one, there in ((AGE, True), (coefficient("[age]") | bare, False)):
        table = coefficient_table(inferred(one, fit=WHOLE))
        assert table is not None
        said = "\n".join(text(table, 160))
        assert "odds ratio: for one unit more of the feature" in said
        assert ("per SD: for one standard deviation more" in said) is there


def test_the_standard_deviations_of_a_private_run_are_called_noisy() -> None:
    table = coefficient_table(make_private() | {"inference": inferred(AGE)["inference"]})
    assert table is not None
    said = " ".join(text(table, 160))
    assert "per noisy SD (95% interval)" in said
    assert "per noisy SD: for one standard deviation more, known only with the noise" in said
    assert "per SD" not in said


@pytest.mark.parametrize("private", [True, False])
def test_the_heading_says_that_noise_and_clipping_are_in_the_estimates(*, private: bool) -> None:
    metrics = inferred(AGE, penalised=True)
    metrics["privacy"] = make_private()["privacy"] if private else None
    (sheet,) = coefficient_sheets(metrics)
    end = ", penalised, with the noise and clipping of differential privacy"
    assert sheet.caption.endswith(end if private else ", penalised")


def test_withheld_errors_are_a_sentence() -> None:
    row = coefficient("size", estimate=1.5, odds_ratio=4.48)
    table = coefficient_table(inferred(row, withheld="there is a penalty", penalised=True))
    assert table is not None
    assert text(table) == ["No standard errors, p values and intervals: there is a penalty."]
    assert coefficient_table(make_metrics() | {"inference": None}) is None


def test_classes_are_compared_with_the_reference() -> None:
    rows = (AGE | {"class": name} for name in ("red", "[blue]"))
    table = coefficient_table(inferred(*rows, outcome="kind", reference="grey"))
    assert table is not None
    titles = [line.strip() for line in text(table, 160) if "Log odds" in line]
    assert titles == [f"Log odds of kind = {name} against grey" for name in ("red", "[blue]")]


def interval(name: str, **known: Any) -> dict[str, Any]:
    ends = ("lower", "upper")
    keys = (*ends, *(f"odds_ratio_{end}" for end in ends), *(f"{end}_reason" for end in ends))
    return {**dict.fromkeys(keys), "name": name, **known}


FIRTH = {
    **WHOLE,
    **{"aic": None, "deviance": None, "null_log_likelihood": None, "null_deviance": None},
    **{"penalised_log_likelihood": -415.25, "penalised_null_log_likelihood": -440.5},
    "mcfadden_r2": None,
}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            {"events": 1012},
            "n = 1,426 patients, events = 1,012 (died = yes); the test set of 143 is left out",
        ),
        (
            {"events": 5, "outcome": None, "tested_on": None},
            "n = 1,426 patients, events = 5 (label 1)",
        ),
        ({"tested_on": None}, "n = 1,426 patients"),  # of an earlier release
    ],
    ids=str,
)
def test_estimates_come_with_the_number_of_their_patients(
    tmp_path: Path, more: dict[str, Any], said: str
) -> None:
    tested_on = more.pop("tested_on", 143)
    metrics = inferred(AGE, fit=WHOLE, **more) | {"tested_on": tested_on}
    metrics["federated"] = metrics["federated"] | {"examples": 1426}
    table = coefficient_table(metrics)
    assert table is not None
    assert said in [line.strip() for line in text(table, 160)]
    write_run(tmp_path, metrics, "{}")
    assert f"{said}." in (tmp_path / "report.html").read_text()
    withheld = metrics["inference"] | {"withheld": "there is a penalty", "fit": None}
    write_run(tmp_path, metrics | {"inference": withheld}, "{}")
    assert f"{said}." in (tmp_path / "report.html").read_text()


def test_rows_left_out_and_reference_levels_are_told(tmp_path: Path) -> None:
    rows = {"kept": 790, "left_out": 120}
    references = {"sex": "female", "smoker": "never"}
    metrics = inferred(AGE) | {"rows": rows, "reference_levels": references}
    table = coefficient_table(metrics)
    assert table is not None
    write_run(tmp_path, metrics, "{}")
    html = (tmp_path / "report.html").read_text()
    for place in (" ".join(" ".join(text(table)).split()), html.replace("Reference", "reference")):
        assert "120 of 910 rows are left out, as cells are missing" in place
        assert "reference levels: sex[female] and smoker[never]" in place
    assert "rows left out, as cells are missing</dt><dd>120 of 910</dd>" in html
    write_run(tmp_path, metrics | {"rows": {"kept": 910, "left_out": 0}}, "{}")
    assert "left out" not in (tmp_path / "report.html").read_text()


def test_firths_penalty_is_named_and_its_test_is_penalised(tmp_path: Path) -> None:
    metrics = inferred(AGE, fit=FIRTH, penalised=True, penalty="firth")
    write_run(tmp_path, metrics, "{}")
    table = coefficient_table(metrics)
    assert table is not None
    said = "\n".join(text(table, 160))
    assert "Log odds of died = yes, with Firth's penalty" in said
    assert "penalised log likelihood: -415.250 (intercept only: -440.500)" in said
    assert "log likelihood without the penalty: -422.327" in said
    assert "penalised likelihood-ratio test: chi-square 50.50, df 4, p = 0.250" in said
    assert "AIC" not in said
    assert "deviance:" not in said


def test_profile_intervals_are_a_table_and_a_sentence_where_one_has_no_end(tmp_path: Path) -> None:
    beyond = "beyond 100 standard errors"
    rows = [
        interval("age", lower=-0.25, upper=1.5, odds_ratio_lower=0.779, odds_ratio_upper=4.482),
        interval(
            "[b]", lower=0.5, odds_ratio_lower=1.649, upper_reason=f"{beyond}: it does not drop"
        ),
        interval("wide", lower=-9.0, upper=25.0, odds_ratio_lower=1.2e-4, odds_ratio_upper=7.2e10),
        interval("far", lower_reason="not found: raise rounds", upper=800.0),
        interval("tiny", lower=-1.61e-6, upper=6.32e-6, odds_ratio_lower=1.0, odds_ratio_upper=1.0),
        interval("one end", upper=2.5e-7, odds_ratio_upper=1.0, lower_reason=f"{beyond}: it is"),
    ]
    profile = {"iterations": 7, "seconds": 1.5, "withheld": None, "intervals": rows}
    metrics = inferred(AGE, fit=WHOLE, profile=profile, penalty="l2")
    write_run(tmp_path, metrics, "{}")
    table = coefficient_table(metrics)
    assert table is not None
    lines = text(table, 160)
    shown = {line.split("  ")[0].strip(): re.split(r" {2,}", line.strip())[1:] for line in lines}
    assert "Profile likelihood intervals" in {line.strip() for line in lines}
    assert shown["age"] == ["-0.250 to 1.500", "0.779 to 4.482"]
    assert shown["tiny"] == ["-1.61e-06 to 6.32e-06", "1.000 to 1.000"]
    assert shown["one end"] == [f"{beyond} to 2.50e-07", f"{beyond} to 1.000"]
    assert shown["wide"] == ["-9.000 to 25.000", "<0.001 to 7.20e+10"]
    assert shown["[b]"] == [f"0.500 to {beyond}", f"1.649 to {beyond}"]
    assert shown["far"] == ["not found to 800.000", "not found to too large"]
    said = "\n".join(lines)
    assert f"[b], upper bound: {beyond}: it does not drop." in said
    assert "far, lower bound: not found: raise rounds." in said
    cost = "\n".join(text(cost_table(metrics)))
    assert re.search(r"seconds of profile likelihoods .* 1\.5000", cost)


@pytest.mark.parametrize("penalty", ["firth", "l2"])
@pytest.mark.parametrize("asked", [True, False])
def test_profile_intervals_are_preferred_with_firths_penalty(penalty: str, *, asked: bool) -> None:
    rows = [interval("age", lower=-0.25, upper=1.5)]
    profile: dict[str, Any] | None = None
    if asked:
        profile = {"iterations": 7, "seconds": 1.5, "withheld": None, "intervals": rows}
    fit = FIRTH if penalty == "firth" else WHOLE
    table = coefficient_table(inferred(AGE, fit=fit, profile=profile, penalty=penalty))
    assert table is not None
    said = "\n".join(text(table, 400))
    assert said.count("The p values and intervals of the table are Wald's") == 1
    for words in ("events are rare, or a category has few events (Heinze and", "then disagree."):
        assert said.count(words) == (penalty == "firth")
    assert ("which is no proof" in said) is (asked and penalty == "firth")


@pytest.mark.parametrize(
    ("shift", "words"),
    [(None, None), (0.49, None), (0.5, "about 0.5 standard"), (1.36, "about 1.4 standard")],
)
def test_estimates_far_from_the_likelihoods_are_not_sure(
    shift: float | None, words: str | None
) -> None:
    table = coefficient_table(inferred(AGE, fit=FIRTH, penalty="firth", penalty_shift=shift))
    assert table is not None
    said = "\n".join(text(table, 500))
    assert ("the estimates may be those of a lower one" in said) is (words is not None)
    assert (words or "") in said


def test_a_table_without_any_estimate_explains_none() -> None:
    missing = dict.fromkeys(AGE) | {"name": "age", "left_out": "no finite estimate"}
    table = coefficient_table(inferred(missing, fit=WHOLE))
    assert table is not None
    said = "\n".join(text(table, 160))
    assert "NA" in said
    assert "Wald's" not in said
    assert "odds ratio: for one unit" not in said


@pytest.mark.parametrize("bound", [1.5, None])
def test_bounds_of_firths_penalty_are_not_sure_where_there_are_any(bound: float | None) -> None:
    row = dict.fromkeys(("lower", "upper_reason", "odds_ratio_lower", "odds_ratio_upper"))
    rows = [{**row, "name": "age", "upper": bound, "lower_reason": "it has none"}]
    profile = {"iterations": 7, "seconds": 1.5, "withheld": None, "intervals": rows}
    table = coefficient_table(inferred(AGE, fit=FIRTH, profile=profile, penalty="firth"))
    assert table is not None
    said = "can have several maxima" in "\n".join(text(table, 400))
    assert said is (bound is not None)


def test_profile_intervals_that_are_withheld_are_a_sentence() -> None:
    why = "training ended before it converged"
    profile = {"iterations": 0, "seconds": 0.0, "withheld": why, "intervals": []}
    table = coefficient_table(inferred(AGE, fit=WHOLE, profile=profile))
    assert table is not None
    assert f"No profile likelihood intervals: {why}." in "\n".join(text(table, 160))


@pytest.mark.parametrize(
    ("member", "words"),
    [
        ("level", r"inference\.level must be a number, got nothing"),
        ("z", r"inference\.coefficients\[0\]\.z must be a number"),
    ],
)
def test_inference_without_a_figure_is_refused(tmp_path: Path, member: str, words: str) -> None:
    metrics = inferred(dict(AGE))
    write_run(tmp_path, metrics, "{}")
    metrics["inference"].pop(member, None)
    metrics["inference"]["coefficients"][0].pop(member, None)
    with pytest.raises(MetricsError, match=words):
        write_run(tmp_path, metrics, "{}")


def test_bins_of_a_calibration_have_the_digits_that_were_given() -> None:
    means = [(1.1, 1.07), (20.0, 19.5), (-0.3, 0.0)]
    bins = [{"examples": 1200, "predicted": one, "observed": other} for one, other in means]
    cells = [row.cells for row in calibration_rows({"calibration": bins})]
    assert cells == [
        ("1", "1,200", "1.10", "1.07"),
        ("2", "1,200", "20.00", "19.50"),
        ("3", "1,200", "-0.30", "0.00"),
    ]
    large = [{"examples": 9, "predicted": 120.0, "observed": 90.0}]
    assert [row.cells[2:] for row in calibration_rows({"calibration": large})] == [("120", "90")]
    tiny = [{"examples": 9, "predicted": 2e-5, "observed": 1e-4}]
    assert calibration_rows({"calibration": tiny})[0].cells[2:] == ("0.00002", "0.00010")
    assert calibration_rows({"calibration": None}) == []


def test_a_withheld_calibration_is_told_in_a_line() -> None:
    metrics = make_metrics() | {"family": "poisson"}
    metrics["evaluation"] = {"examples": 30, "hospitals": 3, "calibration": None}
    of = "of 30 held-out examples of 3 hospitals"
    assert counted_text(metrics) == f"outcomes {of} were added up"
