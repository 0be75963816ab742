from __future__ import annotations

import copy
import re
from html import unescape
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from example_metrics import make_deployed, make_metrics, make_private
from example_pages import (
    EXAMPLES,
    HOSTILE,
    make_capc,
    make_classes,
    make_deployed_capc,
    make_many_labels,
    make_newton,
    make_sealed,
    make_table,
)
from quick import slow_but

from fl_he.report.files import write_comparison, write_page
from fl_he.report.tables.sweep import SweepRow, differences
from fl_he.report.tables.table1 import as_markdown
from fl_he.run_files.metrics_contract import check_metrics

ROOT = Path(__file__).parents[3]


def page(folder: Path, metrics: dict[str, Any]) -> str:
    check_metrics(metrics)
    return write_page(folder, metrics).read_text("utf-8")


def words(html: str) -> str:
    """Return the text of a page without its markup."""
    body = re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", body)).split())


def cells(html: str, first: str) -> list[str]:
    """Return the texts of the first row of a table that begins with a name."""
    for row in re.findall(r"<tr[^>]*>(.*?)</tr>", html, flags=re.DOTALL):
        found = [words(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)]
        if found and found[0] == first:
            return found[1:]
    raise AssertionError(f"no row {first!r}")


def row_names(html: str) -> list[str]:
    return re.findall(r'<th scope="row">(.*?)</th>', html)


@pytest.mark.usefixtures("rendered")
@pytest.mark.parametrize("name", slow_but(EXAMPLES, "newton", "classes", "capc", "table"))
def test_the_page_needs_nothing_but_itself(tmp_path: Path, name: str) -> None:
    html = page(tmp_path, copy.deepcopy(EXAMPLES[name]))
    assert "<script" not in html
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", html)
    assert not re.search(r'(?:src|href)="(?!#|data:,")', html)
    assert "default-src 'none'" in html


@pytest.mark.parametrize("name", ["newton", "classes", "capc", "table"])
def test_names_from_elsewhere_are_text(tmp_path: Path, name: str) -> None:
    text = words(page(tmp_path, copy.deepcopy(EXAMPLES[name])))
    assert HOSTILE in text, "and no template evaluates what is in the braces"


def strings(value: Any, text: str) -> Any:
    """Put a text in the place of every text, but for those that choose between pages."""
    if isinstance(value, dict):
        keep = {"version", "protocol", "topology", "key_fingerprint"}
        return {k: v if k in keep else strings(v, text) for k, v in value.items()}
    if isinstance(value, list):
        return [strings(inner, text) for inner in value]
    return text if isinstance(value, str) else value


@pytest.mark.usefixtures("rendered")
@pytest.mark.parametrize("name", slow_but(EXAMPLES, "newton", "classes", "capc", "table"))
def test_every_text_of_the_metrics_is_escaped(tmp_path: Path, name: str) -> None:
    metrics = strings(copy.deepcopy(EXAMPLES[name]), "</style><img src=x onerror=alert(1)>\"'")
    html = page(tmp_path, metrics)
    assert "<img" not in html
    assert html.count("</style>") == 1
    assert "onerror=alert(1)>" not in html


def test_the_same_figures_as_in_the_metrics(tmp_path: Path) -> None:
    html = page(tmp_path, make_metrics())
    assert cells(html, "hospital-2 alone") == ["102", "0.030", "0.040", "0.050", "0.060"]
    assert cells(html, "federated (encrypted)") == ["180", "0.810", "0.820", "0.830", "0.840"]
    assert cells(html, "pooled (scikit-learn)") == ["190", "0.910", "0.920", "0.930", "0.940"]
    assert cells(html, "seconds to decrypt") == ["0.0500", "0.2000"]
    assert cells(html, "data sent") == ["2.5 kB", "10.0 kB"]
    assert "0123456789abcdef" * 4 in words(html)
    assert "One update: 1 ciphertext, 537 bytes" in words(html)
    metrics = make_metrics()
    metrics["crypto"] |= {"bytes_per_update": 14_904, "masked_set": 5}
    assert "14.9 kB, masked pairwise: company X" in words(page(tmp_path, metrics))


def headlines(html: str) -> dict[str, str]:
    """Return the figures at the top of a page, by their names."""
    (tiles,) = re.findall(r'<dl class="tiles">(.*?)</dl>', html, flags=re.DOTALL)
    found = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", tiles)
    return {unescape(name): value for name, value in found}


def heading(html: str) -> str:
    (found,) = re.findall(r"<h1>(.*?)</h1>", html)
    return unescape(found)


@pytest.mark.parametrize(
    ("family", "config", "outcome", "title"),
    [
        ("logistic", {}, "died = yes", "Logistic regression of died = yes"),
        (
            "logistic",
            {"penalty": "firth"},
            "died",
            "Logistic regression of died with Firth's penalty",
        ),
        ("softmax", {"C": 1.0}, None, "Penalised multinomial logistic regression on breast_cancer"),
        ("poisson", {}, "visits", "Poisson regression of visits"),
        ("gaussian", {}, "log(stay)", "Linear regression of log(stay)"),
        ("cox", {}, "months", "Cox regression of months"),
    ],
)
def test_the_title_names_model_and_outcome(
    tmp_path: Path, family: str, config: dict[str, Any], outcome: str | None, title: str
) -> None:
    metrics = make_newton() | {"family": family}
    metrics["config"] |= config
    metrics["inference"]["outcome"] = outcome
    assert heading(page(tmp_path, metrics)) == title


def test_the_headlines_are_area_and_log_loss_not_accuracy(tmp_path: Path) -> None:
    found = headlines(page(tmp_path, make_metrics()))
    assert found["ROC AUC on the test set"] == "0.830"
    assert found["log loss of the pooled fit"] == "0.940"
    assert not any("accuracy" in name for name in found)
    counted = headlines(
        page(tmp_path, make_deployed() | {"evaluation": make_newton()["evaluation"]})
    )
    assert counted["ROC AUC on held-out examples"] == "0.88"
    assert counted["log loss on held-out examples"] == "0.9"


def test_the_headline_of_a_model_without_a_test_is_its_deviance(tmp_path: Path) -> None:
    metrics = make_deployed() | {"inference": make_newton()["inference"]}
    metrics["inference"]["fit"]["deviance"] = 913.4135
    html = page(tmp_path, metrics)
    assert headlines(html)["deviance on the training data"] == "913.41"
    test = metrics["inference"]["fit"]["likelihood_ratio"]
    assert headlines(html)[f"likelihood-ratio test, {test['df']} df"].startswith("p ")


@pytest.mark.parametrize(("reason", "first"), [(None, True), ("there is a penalty", False)])
def test_coefficients_come_first_if_they_have_standard_errors(
    tmp_path: Path, reason: str | None, *, first: bool
) -> None:
    metrics = make_newton()
    metrics["inference"] |= {"withheld": reason}
    titles = re.findall(r"<h2.*?>(.*?)</h2>", page(tmp_path, metrics))
    assert (titles.index("Coefficients") < titles.index("Round by round")) is first


@pytest.mark.parametrize(("C", "penalty"), [(None, "none"), (1.0, "l2")])
def test_a_run_without_a_penalty_has_none_in_its_configuration(
    tmp_path: Path, C: float | None, penalty: str
) -> None:
    metrics = make_metrics()
    metrics["config"] |= {"penalty": "l2", "C": C}
    assert f"penalty</dt><dd>{penalty}</dd>" in page(tmp_path, metrics)


def test_the_headline_of_a_time_to_an_event_is_concordance(tmp_path: Path) -> None:
    metrics = make_metrics() | {"family": "cox"}
    metrics["federated"]["concordance"] = 0.6170003
    found = headlines(page(tmp_path, metrics))
    assert found["concordance on the test set"] == "0.617"
    assert not any("log loss" in name for name in found)


def test_borders_of_bins_have_the_digits_that_tell_them_apart(tmp_path: Path) -> None:
    metrics = copy.deepcopy(make_newton())
    rest = {"examples": 7, "predicted": 0.0, "observed": 0.0}
    borders = [0.0, 0.00012, 0.00031, 1.0]
    metrics["evaluation"]["calibration"] = [
        {"lower": low, "upper": high, **rest} for low, high in pairwise(borders)
    ]
    assert cells(page(tmp_path, metrics), "0.0001 to 0.0003")[0] == "7"


def test_the_page_says_where_the_penalties_differ(tmp_path: Path) -> None:
    metrics = copy.deepcopy(make_metrics())
    metrics["pooled"]["C"] = 1.0
    said = "no penalty; scikit-learn's models (hospitals alone, pooled) have its default"
    assert said in words(page(tmp_path, metrics))


def test_a_note_begins_with_a_capital(tmp_path: Path) -> None:
    metrics = copy.deepcopy(make_metrics())
    metrics["config"]["C"] = None
    metrics["pooled"] |= {"C": 1.0, "largest_difference": None}
    said = "Coefficients are not compared with the pooled fit: it has another penalty."
    assert said in words(page(tmp_path, metrics))


def test_a_newton_run_has_standard_errors_hops_and_versions(tmp_path: Path) -> None:
    html = page(tmp_path, make_newton())
    interval = "0.0625 to 0.0625"
    assert cells(html, HOSTILE) == [
        *("0.0625", "0.0625", interval, "0.06", "0.062"),
        *[f"0.062 ({interval.replace('0.0625', '0.062')})"] * 2,
    ]
    assert "chi-square 2.50, df 2, p = 0.250" in words(html)
    assert cells(html, "hospital-2") == ["6", "0.8750", "1.5000", "0"]
    text = words(html)
    for part in ("3.11.9", "1.41.0", "2026-01-02", "round 3: without", "second moments"):
        assert part in text
    assert "mean and variance of every feature" in text


def test_an_evaluation_says_what_left_company_x(tmp_path: Path) -> None:
    html = page(tmp_path, make_newton())
    assert cells(html, "0.500 to 1.000") == ["9", "0.875", "1.000"]
    text = words(html)
    for part in (
        "whose Brier score is 0.1 and whose calibration error is 0.1",
        "Company X withheld confusion: such a figure, or a difference, would count 1 to 4 patients",
        "once, to company X alone: held-out patients, counted in fine bins",
        "no count in them is of 1 to 4 patients. Hospitals get none of it",
    ):
        assert part in text
    assert "no forecasts" not in text
    weighted = make_newton()
    weighted["config"]["class_weight"] = "balanced"
    comparison = words(page(tmp_path, weighted)).partition("Comparison")[2]
    assert "no forecasts of the share of patients: log loss, Brier score" in comparison
    earlier = make_newton()
    for key in ("brier_score", "min_cell", "withheld", "calibration"):
        del earlier["evaluation"][key]
    text = words(page(tmp_path, earlier))
    assert "counts of right and wrong predictions on held-out patients, in fine bins" in text
    assert "company X alone" not in text
    nobody = words(page(tmp_path, make_newton() | {"evaluation": None}))
    assert "of fewer patients than its min_cell. Hospitals" in nobody


def test_the_page_says_whether_training_converged(tmp_path: Path) -> None:
    metrics = copy.deepcopy(make_metrics())
    last = metrics["rounds"][-1]
    last.update(converged=False, gradient_norm=0.25)
    shown = words(page(tmp_path, metrics))
    norm = f"before the last of {len(metrics['rounds'])} steps the gradient's norm was 0.25"
    assert f"before it converged, so the model is not the optimum: {norm}" in shown
    last.update(converged=True)
    shown = words(page(tmp_path, metrics))
    assert "within the tolerance, which does not show that the optimum is finite." in shown
    assert "Warning: separation was not looked for" in shown
    assert "before it converged" not in shown
    metrics["config"]["C"] = 1.0
    assert "Training converged: the last step was within the tolerance." in words(
        page(tmp_path, metrics)
    )


@pytest.mark.parametrize("topology", ["fold", "chain"])
def test_the_promise_is_that_of_the_readme(tmp_path: Path, topology: str) -> None:
    metrics = make_metrics()
    metrics["config"]["topology"] = topology
    html = page(tmp_path, metrics)
    table = (ROOT / "README.md").read_text().partition("## Who learns what")[2]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table.splitlines()
        if line.startswith("| ") and "|---" not in line
    ][1:5]
    for name, *readme in rows:
        ours = cells(html, "company X (key holder)" if name == "company X" else name)
        for theirs, here in zip(readme, ours, strict=True):
            assert theirs.startswith(re.split(r"[,:;]", here)[0])


def test_how_many_must_work_together_where_updates_are_masked_pairwise(tmp_path: Path) -> None:
    metrics = make_metrics()
    assert "unless it colludes with the coordinator" in page(tmp_path, metrics)
    metrics["crypto"]["masked_set"] = 5
    update = cells(page(tmp_path, metrics), "company X (key holder)")[1]
    assert "unless it colludes with 4 of the 5 hospitals" in update


def test_who_could_see_what_in_a_sealed_chain(tmp_path: Path) -> None:
    html = page(tmp_path, make_sealed())
    assert cells(html, "coordinator")[2:] == ["no", "no"]
    assert "cannot read" in cells(html, "coordinator")[1]
    assert "What the coordinator knows of this run" in words(html)
    assert "simulation" not in words(html)
    assert "Only the hospitals have the model" in words(html)


def test_at_which_level_of_trust_the_coordinators_row_holds(tmp_path: Path) -> None:
    open_run, sealed = make_metrics() | {"simulated": False}, make_sealed()
    for metrics in (open_run, sealed):
        assert "All parties are taken to be honest" in words(page(tmp_path, metrics))
        metrics["config"]["plan"] = "plan.json"
        assert "coordinator's row holds also if it lied" in words(page(tmp_path, metrics))
    shown = words(page(tmp_path, open_run | {"simulated": True}))
    assert "All parties are taken to be honest" in shown


def test_a_simulation_says_that_it_provides_no_isolation(tmp_path: Path) -> None:
    metrics = make_metrics()
    assert "provided no isolation" in words(page(tmp_path, metrics))
    assert "provided no isolation" not in words(page(tmp_path, metrics | {"simulated": False}))


def test_the_promise_to_patients(tmp_path: Path) -> None:
    text = words(page(tmp_path, make_private()))
    for part in ("1.25", "1e-05", "epsilon 1.5", "epsilon 2.75", "patients with several rows"):
        assert part in text
    assert "the noisy sum of clipped gradients" not in text, "the configuration says no privacy"
    assert "No differential privacy" in words(page(tmp_path, make_metrics()))


def test_a_private_scaling_opens_noisy_sums_alone(tmp_path: Path) -> None:
    metrics = make_private()
    metrics["config"] |= {"privacy": {"name": "gaussian"}, "scaling": "federated"}
    text = words(page(tmp_path, metrics))
    assert "once: noisy sums of every feature, clipped to its range, and of its square" in text
    assert "mean and variance of every feature" not in text


def test_capc(tmp_path: Path) -> None:
    html = page(tmp_path, make_capc())
    assert cells(html, f"{HOSTILE}, before")[2:] == ["0.500", "0.250"]
    assert cells(html, f"{HOSTILE}, after") == ["57 of 60", "0.938", "0.625", "0.375"]
    assert cells(html, "logit bits") == ["1", "1.50", "0.50", "2.0 kB"]
    assert cells(html, "all steps") == ["2", "3.00", "1.00", "3.1 kB"]
    assert "9.5 at delta 1e-05" in words(html)
    assert f"Paillier {'ab' * 32}, DGK {'cd' * 32}" in words(html)
    assert "NOT ENCRYPTED" not in html


def test_many_labels(tmp_path: Path) -> None:
    text = words(page(tmp_path, make_many_labels()))
    assert f"{HOSTILE} {HOSTILE} 0.375 > 0.625 0.500 > 0.750" in text
    assert f"{HOSTILE} effusion 0.375 > 0.625 n/a > n/a" in text


def test_deployed_capc_says_what_nobody_tells(tmp_path: Path) -> None:
    html = page(tmp_path, make_deployed_capc())
    assert cells(html, HOSTILE) == ["60"]
    assert "tells nobody" in words(html)
    assert "ef" * 32 in words(html)
    assert "simulation" not in words(html)


def test_a_table(tmp_path: Path) -> None:
    html = page(tmp_path, make_table())
    assert cells(html, f"{HOSTILE}, mean (SD)") == [*["3.50 (1.25)"] * 3, "0.250"]
    assert cells(html, f"{HOSTILE}, median [Q1, Q3] within") == ["3 [1 to 2, 4 to 5]"] * 3 + [""]
    assert cells(html, "II or III") == ["20 (66.7)"] * 3 + [""]
    assert cells(html, "missing, n (%)") == ["10 (25.0)"] * 3 + [""]
    assert cells(html, "crp") == ["withheld"] * 3 + [""]
    assert cells(html, "median of months (30 days)") == ["12 to 24"] * 3 + [""]
    assert cells(html, "at 12") == ["0.750 (0.062), 20"] * 3 + [""]
    assert cells(html, "at 24") == ["0.000 (n/a), withheld"] * 3 + [""]
    assert cells(html, "at 12, exact times: at least") == ["0.625"] * 3 + [""]
    assert cells(html, "F") == ["20 (10)", "withheld (30)"], "left at 12 and 24, and events"
    text = words(html)
    assert "n (%) of a level: percent of the rows of that group that have a value" in text
    assert "missing, n (%): percent of all rows of that group" in text
    assert "(bins of 1 to 4 rows are merged with neighbours)" in text
    assert "times of the grid without a line of their own (6 and 18) are merged into the" in text
    assert "With exact times it is lower, by at most 0.125; a finer describe.grid" in text
    assert "log-rank test of times rounded up to the grid: chi2 4.000 with 1 degrees of" in text
    assert "stage: levels are merged" in text
    assert "survival withheld: few events" in text
    assert "No count of 1 to 4 rows can be computed" in text
    assert html.count("<figure") == 1
    assert "Survival by Kaplan-Meier: F from 0.75 to 0; M from 0.75 to 0." in html
    markdown = as_markdown(make_table())
    assert "| crp | withheld | withheld | withheld |  |" in markdown
    assert "| &nbsp;&nbsp;II or III | 20 (66.7) |" in markdown
    assert HOSTILE not in markdown, "and nothing of a name is markup"
    hostile = copy.deepcopy(make_table())
    hostile["table"]["withheld"] = {"survival": "few\x1b[2J events"}
    assert "- survival withheld: few \\[2J events" in as_markdown(hostile)


def test_of_many_times_a_few_have_numbers_of_rows_left(tmp_path: Path) -> None:
    metrics = copy.deepcopy(make_table())
    times = [float(month) for month in range(1, 31)]
    curve: dict[str, Any] = {"remaining": [*range(90, 0, -3)], "events": [2] * 30}
    curve |= {"at_risk": [90] * 30, "survival": [0.5] * 30, "least": [0.5] * 30}
    curve |= {"standard_error": [0.0625] * 30, "median": 12.0}
    metrics["table"]["survival"] |= {"times": times, "curves": [curve] * 3}
    html = page(tmp_path, metrics)
    found = cells(html, "M")
    assert found[:2] == ["81 (8)", "69 (16)"], "at 4 and 8 months"
    assert len(found) == 7
    (heads,) = re.findall(r"Rows with a later time.*?<thead>(.*?)</thead>", html, flags=re.DOTALL)
    assert re.findall(r"\d+", words(heads)) == ["4", "8", "12", "16", "20", "24", "28"]


def test_capc_in_plain_says_so_loudly(tmp_path: Path) -> None:
    html = page(tmp_path, make_capc(encrypted=False))
    header = html.partition("<header>")[2].partition("</header>")[0]
    assert '<p class="warning">NOT ENCRYPTED.' in header
    assert "WITHOUT ENCRYPTION" in header


def test_several_runs_are_compared(tmp_path: Path) -> None:
    runs = [make_metrics(), make_metrics(rounds=6), make_capc(encrypted=False), make_table()]
    runs[1]["config"] |= {"topology": "chain", "seed": HOSTILE}
    folders = [tmp_path / name for name in ("a b#", "1", "2", "3")]
    for folder, metrics in zip(folders, runs, strict=True):
        folder.mkdir()
        page(folder, metrics)
    (folders[1] / "report.html").unlink()
    settings = differences([metrics["config"] for metrics in runs])
    rows = [
        SweepRow(one, folder.name, metrics)
        for one, folder, metrics in zip(settings, folders, runs, strict=True)
    ]
    path = tmp_path / "comparison.html"
    write_comparison(path, [*rows, SweepRow(("seed=3",), "4", None)], [*folders, tmp_path / "4"])
    html = path.read_text()
    assert 'href="a%20b%23/report.html"' in html
    assert 'href="1/report.html"' not in html, "there is no page"
    assert "Failed: seed=3" in words(html)
    assert "NOT ENCRYPTED" in words(html)
    assert HOSTILE in words(html)
    assert "<script" not in html
    assert html.count("<figure") == 3
    assert "best accuracy" not in words(html)
    assert "the test sets differ by seed, so figures on them are of" in words(html)
    (chain,) = (label for label in map(words, row_names(html)) if "topology=chain" in label)
    assert cells(html, chain)[:3] == ["0.810", "0.830", "0.840"]


def test_a_comparison_draws_a_curve_for_each_run(tmp_path: Path) -> None:
    def row(name: str, losses: list[float]) -> SweepRow:
        metrics = make_metrics(rounds=len(losses))
        for entry, loss in zip(metrics["rounds"], losses, strict=True):
            entry.update(loss=loss, gradient_norm=loss / 10)
        return SweepRow((f"optimizer={name}",), name, metrics)

    path = tmp_path / "comparison.html"
    rows = [row("gd", [0.75, 0.5]), row("newton", [0.75, 0.5, 0.125]), SweepRow(("x",), "x", None)]
    write_comparison(path, rows, [tmp_path] * 3)
    assert "best accuracy on a test set" in words(path.read_text())
    labels = re.findall(r'<figure role="img" aria-label="(.*?)">', path.read_text())
    curves = "optimizer=gd from {} to {}; optimizer=newton from {} to {}."
    assert f"Log loss on the hospitals&#39; data: {curves.format(0.75, 0.5, 0.75, 0.125)}" in labels
    assert f"Norm of the gradient: {curves.format(0.075, 0.05, 0.075, 0.0125)}" in labels
    write_comparison(path, [row(str(n), [0.5]) for n in range(13)], [tmp_path] * 13)
    assert "The first 12 of 13 runs are drawn." in path.read_text()
    assert "optimizer=12 from" not in path.read_text()


def test_the_page_shows_profile_intervals_and_who_sees_their_sums(tmp_path: Path) -> None:
    metrics = make_newton()
    metrics["config"] |= {"penalty": "firth", "inference": {"profile": [HOSTILE]}}
    metrics["inference"] |= {"penalty": "firth", "penalised": True, "penalty_shift": 1.0}
    metrics["pooled"]["C"] = None
    metrics["inference"]["fit"] |= {
        "penalised_log_likelihood": -2.5,
        "penalised_null_log_likelihood": None,
    }
    said = words(page(tmp_path, metrics))
    assert "Profile penalised likelihood intervals" in said
    assert "0.500 to beyond 100 standard errors" in said
    assert "Wald's, from the information without the penalty" in said
    assert said.count("events are rare, or a category has few events") == 1
    assert said.count("the estimates may be those of a lower one") == 1
    assert "so they learn the estimates' covariance" in said
    assert "at the models of the search for profile likelihood intervals" in said
    assert "pooled (not encrypted)" in said


def test_a_model_of_very_many_features_has_no_table_of_them(tmp_path: Path) -> None:
    metrics = copy.deepcopy(make_classes())
    federated = metrics["federated"]
    federated["coefficients"] = [[0.5] * 1001 for _ in federated["intercept"]]
    assert "The model has too many coefficients: see model.json." in words(page(tmp_path, metrics))


def test_the_page_shows_the_confusion_matrix_and_each_classs_accuracy(tmp_path: Path) -> None:
    metrics = make_newton()
    metrics["evaluation"]["confusion"] = [[61, 7], [9, 83]]
    metrics["evaluation"]["by_class"] = [
        {"examples": n, "accuracy": accuracy, "roc_auc": None, "brier_score": None}
        for n, accuracy in ((68, 0.8971), (92, 0.9022))
    ]
    said = words(page(tmp_path, metrics))
    assert "by predicted class" in said
    assert "all others 61 7 0.897" in said
    assert f"{HOSTILE} 9 83 0.902" in said, "the outcome, not label 1"
    metrics["evaluation"] |= {"confusion": None, "by_class": []}
    assert "by predicted class" not in words(page(tmp_path, metrics))


def test_a_search_that_did_not_take_place_opened_nothing(tmp_path: Path) -> None:
    metrics = make_newton()
    metrics["config"]["inference"] = {"profile": [HOSTILE]}
    metrics["inference"]["profile"] |= {"iterations": 0, "intervals": [], "withheld": "no optimum"}
    assert "models of the search" not in words(page(tmp_path, metrics))


@pytest.mark.parametrize(
    ("scheme", "named", "key"),
    [
        ("paillier", "2048-bit Paillier", "2048-bit Paillier"),
        (None, "2048-bit Paillier", "2048-bit Paillier"),
        ("masks", "masks", "X-Wing"),
    ],
)
def test_the_page_names_the_encryption_that_the_run_had(
    tmp_path: Path, scheme: str | None, named: str, key: str
) -> None:
    metrics = make_newton()
    metrics["crypto"] = {k: v for k, v in metrics["crypto"].items() if k != "scheme"}
    metrics["crypto"] |= {} if scheme is None else {"scheme": scheme}
    metrics["config"].get("crypto", {}).pop("scheme", None)
    html = page(tmp_path, metrics)
    assert f", newton, {named} " in words(html)
    assert words(html).count("Paillier") == (0 if scheme == "masks" else 3)
    fingerprint = metrics["crypto"]["key_fingerprint"]
    assert f"public key {key}, fingerprint {fingerprint}" in words(html)
