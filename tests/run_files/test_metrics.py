from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from example_metrics import make_metrics, make_private, text
from example_pages import make_capc
from hypothesis import given
from hypothesis import strategies as st

from fl_he.report.files import write_run
from fl_he.report.tables.comparison import comparison_table
from fl_he.report.tables.cost import cost_table
from fl_he.run_files.convergence import warnings
from fl_he.run_files.metrics import read_metrics, run_folders
from fl_he.run_files.metrics_contract import MetricsError, check_metrics


def test_written_files_are_read_back(tmp_path: Path) -> None:
    folder = tmp_path / "outputs" / "run"
    write_run(folder, make_metrics(), '{"version": 1}\n')
    assert sorted(path.name for path in folder.iterdir()) == [
        "comparison.png",
        "metrics.json",
        "model.json",
        "report.html",
    ]
    assert read_metrics(folder) == make_metrics()
    assert (folder / "model.json").read_text() == '{"version": 1}\n'


@pytest.mark.parametrize("value", [math.nan, math.inf, -1e300, 1e307, np.float64("nan")])
def test_numbers_that_are_not_finite_are_written_as_null(tmp_path: Path, value: float) -> None:
    metrics = make_metrics()
    metrics["local"][1]["roc_auc"] = value
    metrics["federated"]["coefficients"] = (np.float64(0.1), -2.0)
    write_run(tmp_path, metrics, "{}")
    written = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert written["local"][1]["roc_auc"] is None
    assert written["federated"]["coefficients"] == [0.1, -2.0]
    assert read_metrics(tmp_path) == written


def test_broken_metrics_leave_the_earlier_run_alone(tmp_path: Path) -> None:
    write_run(tmp_path, make_metrics(), "{}")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    broken = make_metrics()
    del broken["rounds"][2]["add_seconds"]
    with pytest.raises(MetricsError, match=r"rounds\[2\].add_seconds must be a number"):
        write_run(tmp_path, broken, '{"other": true}')
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("penalised", [None, 1, "no"])
def test_whether_coefficients_are_penalised_is_said(penalised: object) -> None:
    metrics = make_metrics()
    metrics["inference"] = {
        **{"level": 0.95, "penalised": True, "coefficients": [], "fit": None, "groups": []},
        **dict.fromkeys(("withheld", "outcome", "reference")),
    }
    check_metrics(metrics)
    metrics["inference"]["penalised"] = penalised
    with pytest.raises(MetricsError, match=r"inference\.penalised must be true or false"):
        check_metrics(metrics)


@pytest.mark.parametrize(
    ("member", "value", "message"),
    [
        (("querying", 0, "after"), None, r"querying\[0\]\.after must be an object"),
        (("querying", 0, "after", "per_class_accuracy"), ["x"], r"accuracy\[0\] must be a number"),
        (("privacy", "delta"), None, r"privacy\.delta must be a number"),
    ],
)
def test_capc_metrics_that_no_table_could_show_are_refused(
    member: tuple[Any, ...], value: object, message: str
) -> None:
    metrics = make_capc()
    check_metrics(metrics)
    *path, last = member
    place: Any = metrics
    for key in path:
        place = place[key]
    place[last] = value
    with pytest.raises(MetricsError, match=message):
        check_metrics(metrics)
    if "per_class_accuracy" not in member:
        del place[last]
        with pytest.raises(MetricsError):
            check_metrics(metrics)


def test_a_folder_without_metrics_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MetricsError, match=r"must hold metrics.json, got .* without one$"):
        read_metrics(tmp_path)


def test_what_is_no_folder_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "run" / "metrics.json").mkdir(parents=True)
    for name, message in (
        ("file", r"a run folder must be a folder, got .*/file, a file$"),
        ("nowhere", r"a run folder must be a folder, got .*/nowhere, which does not exist$"),
        ("file/x", r"a run folder must be a folder, got .*/file/x, which does not exist$"),
        ("run", r"cannot read .*/run/metrics.json$"),
    ):
        with pytest.raises(MetricsError, match=message):
            read_metrics(tmp_path / name)


def test_the_folder_of_a_sweep_stands_for_its_runs(tmp_path: Path) -> None:
    for number in (0, 2, 10):
        (tmp_path / "sweep" / str(number)).mkdir(parents=True)
        (tmp_path / "sweep" / str(number) / "metrics.json").touch()
    (tmp_path / "sweep" / "1").mkdir()
    sweep = tmp_path / "sweep"
    assert run_folders(sweep) == [sweep / "0", sweep / "2", sweep / "10"]
    assert run_folders(sweep / "2") == [sweep / "2"]
    for other in (tmp_path / "nowhere", sweep / "1", sweep / "2" / "metrics.json"):
        assert run_folders(other) == [other]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"version": NaN}',
        b"[" * 100_000,
        b"1" * 5000,
        b'{"version": 2}',
    ],
)
def test_files_that_are_not_metrics_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "metrics.json").write_bytes(content)
    with pytest.raises(MetricsError, match=r"metrics.json must follow the contract"):
        read_metrics(tmp_path)


def test_a_text_that_no_page_can_hold_is_refused(tmp_path: Path) -> None:
    metrics = make_metrics()
    metrics["config"]["data"]["name"] = "\ud800"
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(MetricsError, match=r"metrics.json must follow .*surrogates"):
        read_metrics(tmp_path)


@pytest.mark.parametrize("inner", [{}, []])
def test_nesting_that_no_table_could_show_is_refused(inner: Any) -> None:
    for _ in range(900):
        inner = {"a": inner} if isinstance(inner, dict) else [inner]
    with pytest.raises(MetricsError, match="metrics must be nested at most 50 deep"):
        check_metrics(changed(("config", "x"), inner))


def test_a_constant_is_refused_by_name(tmp_path: Path) -> None:
    write_run(tmp_path, make_metrics(), "{}")
    path = tmp_path / "metrics.json"
    path.write_text(path.read_text().replace("12.5", "Infinity"))
    with pytest.raises(MetricsError, match="numbers must be finite or null, got Infinity"):
        read_metrics(tmp_path)


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return the path of everything in nested containers."""
    children = value.items() if isinstance(value, dict) else enumerate(value)
    found: list[tuple[str | int, ...]] = []
    for key, inner in children:
        found.append((*path, key))
        if isinstance(inner, dict | list):
            found += places(inner, (*path, key))
    return found


def changed(path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    metrics = make_metrics(hospitals=1, rounds=1)
    inner: Any = metrics
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return metrics


ALL_PLACES = places(make_metrics(hospitals=1, rounds=1))


@pytest.mark.parametrize("path", ALL_PLACES, ids=lambda path: ".".join(map(str, path)))
def test_a_value_of_another_type_is_refused_by_place(path: tuple[str | int, ...]) -> None:
    names = [part for part in path if isinstance(part, str)]
    with pytest.raises(MetricsError, match=rf"{names[-1]}.* must be "):
        check_metrics(changed(path, True))


@pytest.mark.parametrize("path", ALL_PLACES, ids=lambda path: ".".join(map(str, path)))
def test_a_missing_value_is_refused(path: tuple[str | int, ...]) -> None:
    metrics = make_metrics(hospitals=1, rounds=1)
    inner: Any = metrics
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    if path == ("start_seconds",) or (isinstance(path[-1], int) and path[0] != "rounds"):
        check_metrics(metrics)  # optional, and a list may be shorter
        return
    with pytest.raises(MetricsError, match="must "):
        check_metrics(metrics)


PRIVATE_PLACES = [("privacy", *path) for path in places(make_private()["privacy"])]


def changed_privacy(path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    metrics = inner = make_private()
    for key in path[:-1]:
        inner = inner[key]  # type: ignore[index]
    inner[path[-1]] = value  # type: ignore[index]
    return metrics


@pytest.mark.parametrize("path", PRIVATE_PLACES, ids=lambda path: ".".join(map(str, path)))
def test_a_promise_of_another_type_is_refused_by_place(path: tuple[str | int, ...]) -> None:
    check_metrics(make_private())
    names = [part for part in path if isinstance(part, str)]
    with pytest.raises(MetricsError, match=rf"{names[-1]}.* must be "):
        check_metrics(changed_privacy(path, True))


@pytest.mark.parametrize("key", sorted(make_private()["privacy"].keys() - {"without_noise"}))
def test_a_promise_is_whole(key: str) -> None:
    metrics = make_private()
    del metrics["privacy"][key]
    with pytest.raises(MetricsError, match=rf"privacy.{key} must be "):
        check_metrics(metrics)


@pytest.mark.parametrize("value", [1e300, -1e300, 10**400, math.inf, math.nan, "0.5", [], {}])
def test_only_numbers_of_a_sane_size_are_figures(value: object) -> None:
    with pytest.raises(MetricsError, match=r"federated.accuracy must be "):
        check_metrics(changed(("federated", "accuracy"), value))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(path=st.sampled_from(ALL_PLACES), value=JSON)
def test_what_passes_the_check_can_be_shown(path: tuple[str | int, ...], value: Any) -> None:
    metrics = changed(path, value)
    try:
        check_metrics(metrics)
    except MetricsError:
        return
    text(comparison_table(metrics))
    text(cost_table(metrics))


def test_warnings_need_no_more_than_the_contract() -> None:
    metrics = make_metrics() | {"optimizer": {"name": "newton", "reason": ""}}
    metrics["rounds"][-1] |= {"converged": False, "gradient_norm": 0.25}
    check_metrics(metrics)
    assert "the gradient's norm was 0.25" in warnings(metrics)[-1]
    metrics["diagnostics"] = {
        **{"constant": None, "aliased": None, "unique": None, "converged": False},
        "separation": {"kind": "not proved", "columns": ["age"]},
    }
    check_metrics(metrics)
    assert "separation was not proved: raise rounds" in warnings(metrics)[-1]
    for key in ("gradient_norm", "distance"):
        with pytest.raises(MetricsError, match=rf"rounds\[0\]\.{key} must be a number"):
            check_metrics(metrics | {"rounds": [metrics["rounds"][0] | {key: "0.25"}]})
    for key in ("rounds", "C", "inference", "optimizer"):
        with pytest.raises(MetricsError, match=rf"config\.{key} must be "):
            check_metrics(metrics | {"config": metrics["config"] | {key: ["newton"]}})


ORIGIN: dict[str, Any] = {
    "simulated": True,
    "feature_names": ["age", "size"],
    "classes": [],
    "software": {"python": "3.11.9"},
    "ended": "2026-01-02T03:04:05+00:00",
}


@pytest.mark.parametrize("metrics", [make_metrics(), make_capc()], ids=["training", "CaPC"])
@pytest.mark.parametrize(
    ("key", "value", "place"),
    [
        ("simulated", 1, "simulated"),
        ("feature_names", ["age", 2], r"feature_names\[1\]"),
        ("feature_names", "age", "feature_names"),
        ("classes", [None], r"classes\[0\]"),
        ("software", {"python": 3.11}, "software.python"),
        ("software", ["python"], "software"),
        ("ended", 2026, "ended"),
    ],
)
def test_what_a_run_says_of_itself_is_checked(
    metrics: dict[str, Any], key: str, value: object, place: str
) -> None:
    check_metrics(metrics | ORIGIN)
    with pytest.raises(MetricsError, match=rf"^{place} must be "):
        check_metrics(metrics | ORIGIN | {key: value})
