from __future__ import annotations

import shlex
import warnings
from pathlib import Path

import numpy as np
import pytest
from experiments import experiment
from numpy.typing import NDArray
from quick import slow, slow_but

from fl_he import simulation
from fl_he.config.constraints import ConfigError
from fl_he.experiment.data import SimulatedData, simulated_data, warn_of_few
from fl_he.learning.errors import DataError, DataWarning
from fl_he.learning.tables.built_in import load_built_in
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.partition import partition
from fl_he.wire.records import PrivateReasonError


def data_of(folder: Path, *overrides: str) -> SimulatedData:
    return simulated_data(experiment(*overrides, folder=folder))


def rows(features: NDArray[np.float64]) -> set[bytes]:
    return {row.tobytes() for row in features}


def test_every_patient_is_in_one_hospital_or_held_out(tmp_path: Path) -> None:
    data = data_of(tmp_path, "hospitals=4", "partition=uneven")
    parts = [*(rows(part.features) for part in data.hospitals), rows(data.test.features)]
    assert (
        sum(map(len, parts)) == len(set().union(*parts)) == load_built_in("breast_cancer").examples
    )
    assert set().union(*parts[:-1]) == rows(data.train.features)


def test_the_share_that_is_held_out_is_the_configurations(tmp_path: Path) -> None:
    assert data_of(tmp_path, "test_size=0.5").test.examples == 569 // 2 + 1


def test_nothing_is_held_out_if_the_configuration_says_so(tmp_path: Path) -> None:
    data = data_of(tmp_path, "test_size=0")
    assert data.held_out is None
    assert data.test_share(0) is None
    assert data.train.examples == sum(part.examples for part in data.hospitals) == 569
    with pytest.raises(DataError, match="test_size must be above 0 for a test set, got 0"):
        _ = data.test


@pytest.mark.parametrize(
    ("settings", "got"),
    [
        (
            ["test_size=0.999"],
            "got 3 hospitals and 1 row, as test_size=0.999 holds out 1499 of 1500",
        ),
        (
            ["hospitals=1200"],
            "got 1200 hospitals and 1125 rows, as test_size=0.25 holds out 375 of 1500",
        ),
        (["hospitals=1501", "test_size=0"], "got 1501 hospitals and 1500 rows"),
    ],
)
def test_too_few_rows_to_train_on_are_told_with_the_settings(
    tmp_path: Path, settings: list[str], got: str
) -> None:
    lines = "\n".join(f"{number},{number % 2}" for number in range(1500))
    (tmp_path / "table.csv").write_text(f"age,y\n{lines}\n")
    table = ["data=csv", f"data.path={tmp_path}/table.csv", "data.target=y"]
    with pytest.raises(DataError) as refused:
        data_of(tmp_path, *table, *settings)
    least = "hospitals must be at most the number of rows to train on, "
    assert str(refused.value) == least + got


def warnings_of(data: SimulatedData, *settings: str) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_few(data, experiment(*(settings or ("C=1.0",)), folder=Path()))
    return [str(entry.message) for entry in caught]


def few(examples: int, features: int, rare: int) -> Dataset:
    names = tuple(f"x{number}" for number in range(features))
    return Dataset(
        np.zeros((examples, features)), (np.arange(examples) < rare).astype(np.float64), names
    )


def test_fewer_patients_than_features_are_warned_of() -> None:
    enough, fewer = few(20, 20, 9), few(20, 21, 9)
    assert warnings_of(SimulatedData((enough,), enough, enough, ("north",))) == []
    (warning,) = warnings_of(SimulatedData((fewer,), fewer, enough, ("north",)))
    assert warning.startswith("there are 20 patients to train on and 21 features: ")


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        (("C=null",), "; set penalty=firth"),
        (("C=null", "class_weight=balanced"), "; set penalty=firth class_weight=equal"),
        (("C=1.0",), None),
        (("C=null", "penalty=firth", "optimizer=newton"), None),
        (("C=null", "privacy=gaussian", "scaling=none"), None),
    ],
)
def test_few_events_for_each_coefficient_are_warned_of(
    settings: tuple[str, ...], remedy: str | None
) -> None:
    enough, rare = few(200, 2, 10), few(200, 2, 9)
    assert warnings_of(SimulatedData((enough,), enough, None, ("north",)), *settings) == []
    found = warnings_of(SimulatedData((rare,), rare, None, ("north",)), *settings)
    assert len(found) == (remedy is not None)
    for warning in found:
        assert warning.startswith("the rarer class has 9 patients to train on for 2 coefficients, ")
        assert warning.endswith(remedy or "")


def test_one_event_is_one_patient() -> None:
    one = few(200, 1, 1)
    (*_, warning) = warnings_of(SimulatedData((one,), one, None, ("north",)), "C=null")
    assert "has 1 patient to train on for 1 coefficient, fewer" in warning


def test_a_handful_of_a_class_is_warned_of() -> None:
    enough, rare, one = few(40, 2, 5), few(40, 2, 4), few(40, 2, 40)
    assert warnings_of(SimulatedData((enough,), enough, None, ("north",))) == []
    train, test = warnings_of(SimulatedData((rare,), rare, one, ("north",)))
    assert train.startswith("the rarest class has 4 patients to train on: ")
    assert (
        test
        == "the rarest class has no patient to test on: what the figures say of it means nothing"
    )


def test_the_seed_decides_the_splits(tmp_path: Path) -> None:
    first, again, other = (data_of(tmp_path, f"seed={seed}") for seed in (1, 1, 2))
    assert first.test.features.tolist() == again.test.features.tolist()
    assert first.test.features.tolist() != other.test.features.tolist()
    for data, seed in ((first, 1), (other, 2)):
        parts = partition(data.train.labels, 3, "even", 0.5, seed)
        for hospital, part in zip(data.hospitals, parts, strict=True):
            np.testing.assert_array_equal(hospital.features, data.train.features[part])


def test_the_scheme_decides_the_sizes(tmp_path: Path) -> None:
    even, uneven = (
        [part.examples for part in data_of(tmp_path, f"partition={scheme}").hospitals]
        for scheme in ("even", "uneven")
    )
    assert max(even) - min(even) <= 1
    assert max(uneven) - min(uneven) > 1


TABLE = "id,age,size,state\n" + "".join(
    f"{i},{i % 7},{-i % 5},{'sick' if i % 3 else 'well'}\n" for i in range(60)
)


def test_a_table_is_read_as_the_configuration_says(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text(TABLE)
    csv = ("data=csv", f"data.path={tmp_path}/table.csv", "data.drop=[id]")
    classes = data_of(tmp_path, *csv, "data.target=state", "data.positive=sick", "data.drop=[id]")
    assert classes.train.feature_names == ("age", "size")
    assert classes.train.labels.sum() + classes.test.labels.sum() == 40
    above = data_of(
        tmp_path, *csv[:2], "data.target=age", "data.threshold=5", "data.drop=[id,state]"
    )
    assert above.train.feature_names == ("size",)
    assert above.train.labels.sum() + above.test.labels.sum() == sum(i % 7 >= 5 for i in range(60))


POSITIVE = "data.positive=LABEL or data.threshold=NUMBER says what counts as 1"


@pytest.mark.parametrize(
    ("table", "overrides", "end"),
    [
        (TABLE, ["data.target=kind", "data.positive=sick"], f"=COLUMN names it, and {POSITIVE}"),
        (
            TABLE,
            ["data.target=age", "data.threshold=9", "data.drop=[state]"],
            f"none of 60 rows have 'age >= 9'; {POSITIVE}",
        ),
        (
            TABLE,
            ["data.target=age", "data.threshold=1", "data.drop=[x]"],
            "; data.drop=[COLUMN,...] names them",
        ),
        *slow(
            (TABLE, ["data.target=state", "data.positive=ill"], f"got 'ill'; {POSITIVE}"),
            (TABLE, ["data.target=age", "data.positive=1"], "names more than two labels"),
            (
                TABLE,
                ["data.target=state", "data.threshold=1"],
                f"(the header is row 1); {POSITIVE}",
            ),
            (
                TABLE,
                ["data.target=age", "data.threshold=0", "data.drop=[state]"],
                f"all of 60 rows have 'age >= 0'; {POSITIVE}",
            ),
        ),
        (
            TABLE.replace("3,3,2,", "3,,2,", 1),
            ["data.target=age", "data.threshold=3", "data.drop=[id,state]"],
            "(the header is row 1); fill missing values in, or leave their rows out ('age')",
        ),
        ("a,y\n1,\n2,b\n", ["data.target=y", "data.positive=b"], "leave their rows out ('y')"),
    ],
)
def test_a_refused_table_says_which_key_may_help(
    tmp_path: Path, table: str, overrides: list[str], end: str
) -> None:
    (tmp_path / "table.csv").write_text(table)
    with pytest.raises(DataError) as caught:
        data_of(tmp_path, "data=csv", f"data.path={tmp_path}/table.csv", *overrides)
    assert str(caught.value).endswith(end)


@pytest.mark.parametrize(
    "name",
    slow_but(
        ["name", "Serial No.", "1st", "true", 'a "b" c', "it's, (x)", "größe"],
        *("Serial No.", 'a "b" c'),
    ),
)
def test_a_column_can_be_left_out_as_the_refusal_says(tmp_path: Path, name: str) -> None:
    header = name.replace('"', '""')
    rows = "".join(f"{i},x{i},{i % 7},{i % 2},z\n" for i in range(20))
    (tmp_path / "table.csv").write_text(f'id,"{header}",age,y,other\n{rows}')
    csv = ["data=csv", f"data.path={tmp_path}/table.csv", "data.target=y", "data.positive=1"]
    with pytest.raises(DataError, match=r"got 20 cells of text, .* row 2; .* row 2 ") as caught:
        data_of(tmp_path, *csv, "data.drop=[id]")
    (drop,) = shlex.split(str(caught.value).partition("leave out the 2 columns: ")[2])
    assert data_of(tmp_path, *csv, drop).train.feature_names == ("age",)


@pytest.mark.parametrize(
    ("overrides", "meant"),
    [
        (["data.target=y", "data.drop=[ID,a,b]"], ["id", "a, b"]),
        (["data.target=y", "data.drop=[SIZE,id]"], ["size", "id"]),
        (["data.target=True"], "true"),
    ],
)
def test_a_name_that_was_read_as_another_is_told_as_it_must_be_written(
    tmp_path: Path, overrides: list[str], meant: str | list[str]
) -> None:
    rows = "".join(f"{i},{i % 7},{i % 5},{i % 2},{i % 2}\n" for i in range(20))
    (tmp_path / "table.csv").write_text(f'id,"a, b",size,y,true\n{rows}')
    csv = ["data=csv", f"data.path={tmp_path}/table.csv"]
    with pytest.raises(DataError) as caught:
        data_of(tmp_path, *csv, *overrides)
    (told,) = shlex.split(str(caught.value).partition("did you mean ")[2].removesuffix("?"))
    found = data_of(tmp_path, *csv, *overrides[:-1], told).train.feature_names
    assert set(found).isdisjoint([meant] if isinstance(meant, str) else meant)


def test_a_hundred_faults_are_told_in_a_message_of_bounded_length(tmp_path: Path) -> None:
    names = ",".join(f"{'long ' * 50}{number}" for number in range(100))
    (tmp_path / "table.csv").write_text(f"{names},y\n{'x,' * 100}1\n{'z,' * 100}0\n")
    with pytest.raises(DataError) as caught:
        data_of(tmp_path, "data=csv", f"data.path={tmp_path}/table.csv", "data.target=y")
    more, _, end = str(caught.value).partition("; and 80 more like these (the header is row 1); ")
    assert end.startswith("code categories as columns of 0 and 1 ('long long ")
    end, _, last = end.partition("; or describe text")
    assert end.endswith(" and 90 more)")
    assert last.endswith("; fix the file or leave out the 100 columns: data.drop=[COLUMN,...]")
    assert more.count("must be numeric") == 20
    assert len(str(caught.value)) < 5000


def test_all_that_is_wrong_with_a_table_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text(
        "id,age,age,,sex,crp,died\n1,2,3,4,F,inf,yes\n5,6,7,8,M,,no\n5,6,7,8,M,1,no,9\n5,6,7,8,M,1,\n"
    )
    with pytest.raises(DataError) as caught:
        data_of(tmp_path, "data=csv", f"data.path={tmp_path}/table.csv", "data.target=died")
    assert str(caught.value) == (
        "data file must name every column, got 1 without a name, the first is column 4 of 7; "
        "column names must differ, got several columns called 'age': rename them in the file; "
        "every row must have 7 cells as the header has, got 8 in line 4; "
        "column 'sex' must be numeric, got 4 cells of text, the first in row 2; "
        "column 'crp' must hold finite numbers only, got 1 infinite cell in row 2 and 1 missing "
        "cell in row 3; "
        "column 'died' must have no missing values, got 1 missing cell in row 5; "
        "target 'died' must hold 0 and 1, or true and false, where no positive label is named, got "
        "2 other labels, one of them only in row 2 (the header is row 1); "
        "code categories as columns of 0 and 1 ('sex'); "
        "correct infinite cells, or leave their rows out ('crp'); "
        "fill missing values in, or leave their rows out ('crp'); "
        "fill missing labels in, or leave their rows out ('died'); "
        "or describe text, dates and missing cells by a schema, which fl-he schema "
        f"{tmp_path}/table.csv --target died drafts; "
        "fix the file or leave out the 3 columns: 'data.drop=[\"\",sex,crp]'; "
        f"{POSITIVE}, and data.classes=[LABEL,...] names more than two labels"
    )


def test_a_column_without_a_name_can_be_left_out_as_advised(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text(
        ",x,y\n" + "".join(f"{i},{i * i},{i % 2}\n" for i in range(60))
    )
    csv = ["data=csv", f"data.path={tmp_path}/table.csv", "data.target=y"]
    with pytest.raises(DataError) as caught:
        data_of(tmp_path, *csv)
    (_, advised, _) = str(caught.value).split("'")
    assert data_of(tmp_path, *csv, advised).train.feature_names == ("x",)


def test_a_label_in_another_case_is_proposed(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text(TABLE)
    csv = ["data=csv", f"data.path={tmp_path}/table.csv", "data.target=state"]
    with pytest.raises(DataError, match=r"got 'Sick'; did you mean data.positive=sick\?$"):
        data_of(tmp_path, *csv, "data.positive=Sick")


def test_a_class_that_nobody_has_is_refused(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text(TABLE)
    csv = ["data=csv", f"data.path={tmp_path}/table.csv", "data.target=state"]
    with pytest.raises(DataError, match=r"; none of 60 rows has 'dead'$"):
        data_of(tmp_path, *csv, "data.classes=[well,sick,dead]")


def test_what_helps_is_told_by_the_kind_of_cell(tmp_path: Path) -> None:
    rows = "".join(
        f'{i % 7},{"<5" if i == 3 else i},"1,{i}",2024-02-0{i % 9 + 1},{i % 9 + 1}.12.1999,'
        f"{'' if i else 'F'},{i % 2}\n"
        for i in range(20)
    )
    (tmp_path / "table.csv").write_text(f"age,crp,dose,seen,born,sex,y\n{rows}")
    with pytest.raises(DataError) as caught:
        data_of(tmp_path, "data=csv", f"data.path={tmp_path}/table.csv", "data.target=y")
    faults, _, remedies = str(caught.value).partition(" (the header is row 1); ")
    assert faults.split("; ") == [
        "column 'crp' must be numeric, got 1 cell of text in row 5",
        "column 'dose' must be numeric, got 20 decimal commas, the first in row 2",
        "column 'seen' must be numeric, got 20 dates, the first in row 2",
        "column 'born' must be numeric, got 20 dates, the first in row 2",
        "column 'sex' must hold finite numbers only, got 1 cell of text in row 2 and 19 missing "
        "cells, the first in row 3",
    ]
    assert remedies.split("; ")[:-2] == [
        "correct the cells of text ('crp')",
        "write decimal points ('dose')",
        "write dates as numbers, such as years or days ('seen', 'born')",
        "code categories as columns of 0 and 1 ('sex')",
        "fill missing values in, or leave their rows out ('sex')",
    ]


def test_blanks_around_labels_are_warned_of(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text(TABLE.replace(",well", ",well ", 2))
    csv = ["data=csv", f"data.path={tmp_path}/table.csv", "data.target=state", "data.drop=[id]"]
    with pytest.warns(DataWarning) as caught:
        data = data_of(tmp_path, *csv, "data.positive=sick")
    assert [str(entry.message) for entry in caught] == [
        "column 'state' had blanks around 2 labels, the first in row 2: they are left off"
    ]
    assert data.train.labels.sum() + data.test.labels.sum() == 40


def test_the_path_of_a_table_is_the_configurations(tmp_path: Path) -> None:
    csv = ["data=csv", "data.target=y", "data.positive=1"]
    with pytest.raises(DataError, match=rf"got the folder '{tmp_path}'; data.path=FILE names it$"):
        data_of(tmp_path, *csv, f"data.path={tmp_path}")
    with pytest.raises(
        DataError, match=r"which was not found: give the place .* data.path=\.\.\.$"
    ):
        data_of(tmp_path, *csv, f"data.path={tmp_path}/no.csv")


def test_a_cell_too_large_for_sums_is_named_by_its_file_and_row(tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.csv" for name in "abc"]
    for file in files:
        file.write_text("age,y\n1,0\n2,1\n3,0\n")
    files[1].write_text("age,y\n1,0\n1e20,1\n3,0\n")
    path = f"data.path=[{','.join(map(str, files))}]"
    config = experiment(
        *("experiment=inference", "data=csv", path, "data.target=y"),
        folder=tmp_path / "run",
    )
    with pytest.raises(PrivateReasonError) as caught:
        simulation.run(config, tmp_path / "run")
    assert str(caught.value).startswith(f"{files[1]}: sums over a hospital's numbers")
    assert "column 'age' (1 cell above 1e+14 in row 3)" in str(caught.value)
    assert "a.csv" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_category_stands_for_its_levels_and_no_warning_precedes_a_refusal(
    tmp_path: Path,
) -> None:
    (tmp_path / "schema.yaml").write_text(
        "columns:\n  age: {type: number, bounds: [0, 99]}\n"
        "  kind: {type: category, levels: [a, b, 'c:d']}\n"
        "outcome: {column: y}\nterms: age + kind\n"
    )
    rows = [f"{20 + row * row % 37},{'abc'[row % 3]},{row * 7 % 11 % 2},0" for row in range(120)]
    text = "\n".join(["age,kind,y,extra", *rows]).replace(",c,", ",c:d,")
    (tmp_path / "table.csv").write_text(f"{text}\n")

    def run(group: str, name: str, seed: int) -> list[str]:
        config = experiment(
            *("experiment=inference", "data=csv", f"data.path={tmp_path}/table.csv"),
            *(f"data.schema={tmp_path}/schema.yaml", f"inference.groups=[[{group}]]"),
            *("simulation.engine=local", "crypto.key_bits=1024", f"seed={seed}"),
            folder=tmp_path / name,
        )
        found = simulation.run(config, tmp_path / name)["inference"]["groups"]
        return list(found[0]["columns"])

    with warnings.catch_warnings(record=True) as told, pytest.raises(ConfigError, match="'kinds'"):
        run("kinds", "refused", 1)
    assert not told
    with pytest.warns(DataWarning, match="not read, as the schema does not name it"):
        assert run("kind", "run", 2) == ["kind[b]", "kind[c:d]"]


def test_a_row_of_totals_is_named_instead_of_columns(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("age,hb,y\n1,2,0\n3,4,1\nTotal,,17\n")
    with pytest.raises(DataError) as caught:
        data_of(tmp_path, "data=csv", f"data.path={tmp_path}/table.csv", "data.target=y")
    assert str(caught.value) == (
        "column 'age' must be numeric, got 1 cell of text in row 4; column 'hb' must have no "
        "missing values, got 1 missing cell in row 4; target 'y' must hold 0 and 1, or true and "
        "false, where no positive label is named, got 1 other label in row 4 (the header is "
        "row 1); correct row 4, the last, or leave it out"
    )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["data.target=visitz"], "target must be one of the columns 'age', 'visits', got 'visitz'"),
        (
            ["data.target=visits", "data.family=poisson", "data.exposure=visits"],
            "exposure must be another column than target, got 'visits'; data.exposure=COLUMN names",
        ),
    ],
)
def test_a_fault_of_settings_is_told_once_for_all_files(
    tmp_path: Path, settings: list[str], words: str
) -> None:
    files = [tmp_path / f"{name}.csv" for name in "abc"]
    for file in files:
        file.write_text("age,visits\n1,0\n2,1\n")
    path = f"data.path=[{','.join(map(str, files))}]"
    with pytest.raises(DataError) as caught:
        data_of(tmp_path, "data=csv", path, *settings)
    assert str(caught.value).startswith(words)
    assert str(caught.value).count("must be") == 1
    files[1].write_text("age,visits\n1,0\n2,-1\n")
    with pytest.raises(DataError) as caught:
        data_of(tmp_path, "data=csv", path, "data.target=visits", "data.family=poisson")
    assert str(caught.value) == (
        f"{files[1]}: target 'visits' must hold whole numbers of 0 or more for family poisson, got "
        "1 other in row 3 (the header is row 1); correct such cells, or leave their rows out "
        "('visits')"
    )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["data.family=cox"], "data.event=COLUMN must be set with data.family=cox"),
        (["data.family=poisson", "data.event=x"], "data.event must be left out unless data.family"),
    ],
)
def test_a_missing_event_and_one_too_many_are_told_apart(
    tmp_path: Path, settings: list[str], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        data_of(tmp_path, "data=csv", "data.path=a.csv", "data.target=y", *settings)
