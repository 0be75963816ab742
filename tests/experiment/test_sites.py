"""Rehearsals: each file, or each value of a column, is a hospital with that name."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
from experiments import experiment, on_round
from local_grid import LocalGrid, simulated_nodes
from patients import patients, write_csv
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from fl_he import client_app, server_app, simulation
from fl_he.config.composition import compose
from fl_he.config.constraints import ConfigError
from fl_he.config.run import Config
from fl_he.experiment.data import simulated_data, with_sites
from fl_he.experiment.tables import whole_table
from fl_he.learning.errors import DataError, DataWarning
from fl_he.terminal.show import show_run

SIZES = {"north": 300, "St. Mary": 120, "coast": 90}
TABLES = {name: patients(rows, 0.2, seed) for seed, (name, rows) in enumerate(SIZES.items())}
OUTCOME = ("data=csv", "data.target=died", "data.positive=yes")
FITTED = ("experiment=inference", "simulation.engine=local")
SCHEMA = """
columns:
  age: {type: number}
  bmi: {type: number, missing: drop-row}
outcome: {column: died, positive: yes}
terms: age + bmi
"""


@pytest.fixture
def files(tmp_path: Path) -> str:
    """Write a file for each site, and one of all; return the override that names the files."""
    for name, table in TABLES.items():
        write_csv(tmp_path / f"{name}.csv", table)
    write_csv(tmp_path / "all.csv", pooled())
    return f"data.path=[{','.join(f'{tmp_path}/{name}.csv' for name in TABLES)}]"


def pooled() -> dict[str, np.ndarray]:
    columns = {
        name: np.concatenate([table[name] for table in TABLES.values()]) for name in TABLES["north"]
    }
    return {"hospital": np.repeat(list(TABLES), list(SIZES.values())), **columns}


def of_column(folder: Path, *, path: str = "all.csv", column: str = "hospital") -> tuple[str, ...]:
    return (f"data.path={folder}/{path}", "partition=column", f"partition.column={column}")


def trained(config: Config, folder: Path) -> dict[str, Any]:
    config = with_sites(config)
    grid = LocalGrid(client_app.build(lambda _: config), simulated_nodes(config.hospitals))
    return server_app.train(grid, config, folder)


@pytest.mark.usefixtures("files")
def test_groups_by_the_partition_column_are_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "schema.yaml").write_text(SCHEMA)
    settings = ("experiment=table1", "data=csv", f"data.schema={tmp_path}/schema.yaml")
    asked = (*of_column(tmp_path), "describe.by=hospital", "simulation.engine=local")
    config = experiment(*settings, *asked, folder=tmp_path / "run")
    with pytest.raises(ConfigError, match="copy the column in the file under a second name"):
        simulation.run(config, tmp_path / "run")


@pytest.mark.parametrize("by_column", [True, False])
def test_rows_that_are_left_out_are_counted(tmp_path: Path, files: str, *, by_column: bool) -> None:
    for name in ("all", *TABLES):
        header, *rows = (tmp_path / f"{name}.csv").read_text().splitlines()
        place = header.split(",").index("bmi")
        holes = [row.split(",") for row in rows]
        for row in holes:
            row[place] = "" if row[place].endswith("7") else row[place]
        lines = [header, *map(",".join, holes)]
        (tmp_path / f"{name}.csv").write_text("\n".join(lines))
    (tmp_path / "schema.yaml").write_text(SCHEMA)
    divided = of_column(tmp_path) if by_column else (files,)
    settings = ("data=csv", f"data.schema={tmp_path}/schema.yaml", "test_size=0.25", *divided)
    with pytest.warns(DataWarning, match="rows are left out") as caught:
        data = simulated_data(with_sites(compose("config", [*settings])))
    unread = [str(one.message) for one in caught if "not read" in str(one.message)]
    assert [one.endswith("columns 'male', 'crp'") for one in unread] == [True] * len(unread)
    left_out = sum(str(bmi).endswith("7") for bmi in pooled()["bmi"])
    assert 0 < left_out == data.rows["left_out"]
    assert data.rows["kept"] == sum(SIZES.values()) - left_out


def test_files_are_hospitals_whose_pooled_fit_is_found(tmp_path: Path, files: str) -> None:
    config = experiment(*FITTED, *OUTCOME, files, folder=tmp_path / "run")
    metrics = simulation.run(config, tmp_path / "run")
    table = pooled()
    X = np.column_stack([table[name] for name in ("age", "male", "bmi", "crp")])
    fit = sm.Logit(table["died"] == "yes", sm.add_constant(X)).fit(disp=False, tol=1e-12)
    rows = metrics["inference"]["coefficients"]
    found = np.array([[row["estimate"], row["standard_error"]] for row in rows])
    np.testing.assert_allclose(found[:, 0], np.roll(fit.params, -1), rtol=1e-6)
    np.testing.assert_allclose(found[:, 1], np.roll(fit.bse, -1), rtol=1e-6)
    assert metrics["config"]["hospitals"] == len(TABLES)
    assert metrics["config"]["partition"]["sites"] == list(TABLES)
    saved = {path.name for path in (tmp_path / "run" / "hospitals").iterdir()}
    assert saved == set(TABLES)


@pytest.mark.parametrize("test_size", ["0", "0.25"])
def test_each_site_has_its_figures(
    tmp_path: Path, files: str, test_size: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ("optimizer=newton", "C=1", "stratify=true", f"test_size={test_size}")
    config = experiment(*settings, *OUTCOME, files, folder=tmp_path / "run")
    metrics = trained(config, tmp_path / "run")
    model = json.loads((tmp_path / "run" / "model.json").read_text())
    data = simulated_data(config)
    assert sum(SIZES.values()) == sum(
        part.examples for part in (*data.hospitals, *filter(None, [data.held_out]))
    )
    for number, (site, (name, rows)) in enumerate(
        zip(metrics["sites"], SIZES.items(), strict=True)
    ):
        share = data.test_share(number)
        assert site["held_out"] == (share is not None) == (test_size != "0")
        own = share or data.hospitals[number]
        assert site["hospital"] == name
        assert site["examples"] == own.examples == (rows if share is None else -(-rows // 4))
        units = np.array([model["mean"], model["scale"]])
        margins = (own.features - units[0]) / units[1] @ model["coefficients"]
        risks = 1 / (1 + np.exp(-(margins + model["intercept"])))
        assert site["roc_auc"] == pytest.approx(roc_auc_score(own.labels, risks), abs=1e-9)
        assert site["log_loss"] == pytest.approx(log_loss(own.labels, risks), abs=1e-9)
        assert site["brier_score"] == pytest.approx(brier_score_loss(own.labels, risks), abs=1e-9)
        assert site["observed"] == pytest.approx(own.labels.mean())
        assert site["predicted"] == pytest.approx(risks.mean(), abs=1e-9)
    if test_size != "0":
        assert [one["hospital"] for one in metrics["local"]] == list(TABLES)
        # The rows that scikit-learn holds out of each site, with the same seed.
        from sklearn.model_selection import train_test_split  # noqa: PLC0415 - of this test alone

        died = TABLES["north"]["died"]
        _, test = train_test_split(died, test_size=0.25, random_state=config.seed, stratify=died)
        shared = data.test_share(0)
        assert shared is not None
        assert shared.labels.tolist() == [float(one == "yes") for one in test]
    show_run(metrics, tmp_path / "run")
    printed = " ".join(capsys.readouterr().out.split())
    assert "trained on" in printed if test_size == "0" else "holds out" in printed
    assert "St. Mary" in (tmp_path / "run" / "report.html").read_text()


def test_a_column_gives_the_same_hospitals_as_files(tmp_path: Path, files: str) -> None:
    config = experiment(*OUTCOME, files, "stratify=true", folder=tmp_path / "run")
    other = experiment(*OUTCOME, *of_column(tmp_path), "stratify=true", folder=tmp_path / "run")
    by_files, by_column = simulated_data(config), simulated_data(other)
    assert by_column.names == tuple(sorted(TABLES))
    for name, part in zip(by_files.names, by_files.hospitals, strict=True):
        same = by_column.hospitals[by_column.names.index(name)]
        np.testing.assert_array_equal(same.features, part.features)
        np.testing.assert_array_equal(same.labels, part.labels)
        assert same.feature_names == part.feature_names  # the column is no feature


def test_exact_figures_of_sites_are_told_beside_a_budget(tmp_path: Path, files: str) -> None:
    ranges = tmp_path / "ranges.csv"
    ranges.write_text("feature,low,high\nage,0,120\nmale,0,1\nbmi,10,60\ncrp,0,500\n")
    private = ("privacy=gaussian", "privacy.epsilon=5", "privacy.delta=1e-5", "privacy.clip=1")
    settings = ("scaling=ranges", f"ranges={ranges}", "rounds=2", *private)
    for path, told in ((files, True), (f"data.path={tmp_path}/all.csv", False)):
        drop = () if told else ("data.drop=[hospital]",)
        config = experiment(*OUTCOME, path, *drop, *settings, folder=tmp_path / str(told))
        words = trained(config, tmp_path / str(told))["privacy"]["not_covered"]
        assert any("at each site" in one for one in words) is told


def test_a_site_may_have_one_class_and_one_row(tmp_path: Path) -> None:
    columns = pooled()
    alive = {name: values[columns["died"] == "no"] for name, values in columns.items()}
    for name, table in (("a", columns), ("b", alive), ("c", {k: v[:1] for k, v in alive.items()})):
        write_csv(tmp_path / f"{name}.csv", {k: v for k, v in table.items() if k != "hospital"})
    path = f"data.path=[{','.join(f'{tmp_path}/{name}.csv' for name in 'abc')}]"
    metrics = trained(experiment(*OUTCOME, path, folder=tmp_path / "run"), tmp_path / "run")
    _, one_class, one_row = metrics["sites"]
    assert one_class["roc_auc"] is None
    assert one_class["observed"] == 0.0
    assert (one_row["examples"], one_row["held_out"]) == (1, False)


def test_a_rehearsal_is_resumed_with_its_sites_alone(tmp_path: Path, files: str) -> None:
    folder = tmp_path / "run"
    config = with_sites(experiment(*OUTCOME, *of_column(tmp_path), "rounds=3", folder=folder))

    def stop(entry: Any) -> None:
        if entry["round"] == 1:
            raise KeyboardInterrupt

    grid = LocalGrid(client_app.build(lambda _: config), simulated_nodes(config.hospitals))
    with pytest.raises(KeyboardInterrupt):
        server_app.train(grid, config, folder, on_round(stop))
    going_on = replace(compose("config", [f"resume={folder}"]))
    assert going_on.partition.sites == sorted(TABLES)
    table = pooled()
    renamed = np.where(table["hospital"] == "coast", "south", table["hospital"])
    for hospitals in (renamed, table["hospital"]):
        write_csv(tmp_path / "all.csv", {**table, "hospital": hospitals})
        simulated_data(experiment(folder=folder))  # in place of the table that is kept in memory
        if hospitals is renamed:
            with pytest.raises(DataError, match="sites must be those that the run began with"):
                simulated_data(going_on)
    assert len(trained(going_on, folder)["rounds"]) == 3


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("FILES", "hospitals=3"), r"hospitals must be left out, got 3: each file is a hospital"),
        (("COLUMN", "hospitals=3"), r"each value of 'hospital' is a hospital"),
        (("COLUMN", "partition.sites=[a,b]"), r"partition.sites must be left out"),
        (("FILES", "partition=uneven"), r"partition must be left out with several files"),
        (("FILES", "partition=column", "partition.column=a"), r"data.path must be one file"),
        (("partition=column",), r"partition.column must be set"),
        (("partition=column", "partition.column=died"), r"another column than data.target"),
        (("partition.column=site",), r"must come with partition=column"),
        (("data=wine", "partition=column", "partition.column=a"), r"for data=wine, got column"),
        (
            ("FILES", "capc.enabled=true"),
            r"one file and partition even, .* in CaPC",
        ),
        (("FILES", "sealed=true", "topology=chain"), r"with sealed=true"),
        (("data.path=[one.csv]",), r"data.path must be a file, a list of two or more files"),
        (("data.path=[a.csv,[b.csv]]",), r"data.path must be a file, a list of two or more files"),
    ],
)
def test_settings_that_do_not_go_with_sites(
    tmp_path: Path, files: str, settings: tuple[str, ...], words: str
) -> None:
    kinds = {"FILES": (files,), "COLUMN": of_column(tmp_path)}
    given = [one for setting in settings for one in kinds.get(setting, (setting,))]
    table = () if "data=wine" in given else OUTCOME
    path = () if any("data.path" in one for one in given) or not table else ("data.path=a.csv",)
    with pytest.raises(ConfigError, match=words):
        compose("config", [*table, *path, *given])


@pytest.fixture
def refused(tmp_path: Path) -> Callable[..., str]:
    def words(*settings: str) -> str:
        with pytest.raises((DataError, ConfigError)) as refusal:
            with_sites(experiment(*OUTCOME, *settings, folder=tmp_path / "run"))
        return str(refusal.value)

    return words


@pytest.mark.usefixtures("files")
def test_faults_of_sites_are_named(tmp_path: Path, refused: Callable[..., str]) -> None:
    assert "one column 'site'; it has only 'hospital', 'age'" in refused(
        *of_column(tmp_path, column="site")
    )
    columns = pooled()
    names = columns["hospital"].astype(object)
    for name, said in (
        ("a/b", "the name in row 3 cannot be the name of a folder"),
        ("a\tb", "the name in row 3 has characters that nobody can see"),
        ("COMPANY X", "the name in row 3 is company X's"),
        ("", "1 missing cell in row 3"),
    ):
        names[1] = name
        write_csv(tmp_path / "odd.csv", {**columns, "hospital": names})
        words = refused(*of_column(tmp_path, path="odd.csv"))
        assert said in words
        assert not name or name not in words
    write_csv(tmp_path / "odd.csv", {**columns, "hospital": np.char.add(columns["hospital"], " ")})
    with pytest.warns(DataWarning, match="column 'hospital' had blanks around 510 labels"):
        assert with_sites(
            experiment(*OUTCOME, *of_column(tmp_path, path="odd.csv"), folder=tmp_path / "run")
        ).partition.sites == sorted(TABLES)
    write_csv(tmp_path / "two.csv", {**columns, "hospital": np.where(names == "north", "a", "b")})
    assert "hospitals must be at least min_contributors (3), got 2" in refused(
        *of_column(tmp_path, path="two.csv")
    )
    write_csv(tmp_path / ".csv", TABLES["coast"])
    words = refused(f"data.path=[{tmp_path}/north.csv,{tmp_path}/coast.csv,{tmp_path}/.csv]")
    assert words.endswith("/.csv': its name is empty")
    (tmp_path / "again").mkdir()
    write_csv(tmp_path / "again" / "north.csv", TABLES["coast"])
    assert "several called 'north'" in refused(
        f"data.path=[{tmp_path}/north.csv,{tmp_path}/coast.csv,{tmp_path}/again/north.csv]"
    )
    write_csv(tmp_path / "wide.csv", {"height": TABLES["coast"]["age"], **TABLES["coast"]})
    write_csv(tmp_path / "renamed.csv", {"old": TABLES["coast"]["age"], **TABLES["coast"]})
    words = refused(
        f"data.path=[{tmp_path}/north.csv,{tmp_path}/coast.csv,{tmp_path}/wide.csv,"
        f"{tmp_path}/renamed.csv]"
    )
    for name in ("wide", "renamed"):
        assert f"the table of {name} must be as that of north: number of features must be" in words
    other_case = np.char.capitalize(TABLES["coast"]["died"])
    write_csv(tmp_path / "case.csv", {**TABLES["coast"], "died": other_case})
    words = refused(f"data.path=[{tmp_path}/north.csv,{tmp_path}/coast.csv,{tmp_path}/case.csv]")
    assert words.endswith("; write the labels of all files in one way")
    write_csv(tmp_path / "bad.csv", {**TABLES["coast"], "age": np.full(90, "old")})
    assert f"{tmp_path}/bad.csv: " in refused(
        f"data.path=[{tmp_path}/north.csv,{tmp_path}/bad.csv,{tmp_path}/coast.csv]"
    )


@pytest.mark.usefixtures("files")
def test_notes_name_their_file_where_there_are_several(tmp_path: Path) -> None:
    coast = TABLES["coast"]
    write_csv(tmp_path / "ids.csv", {**coast, "age": 2**53 + 1 + np.arange(90)})
    places = [f"{tmp_path}/{name}.csv" for name in ("north", "ids")]
    said = "column 'age' has 45 integers, the first in row 2"
    with pytest.warns(DataWarning) as found:
        whole_table(compose("config", [*OUTCOME, f"data.path=[{','.join(places)}]"]).data)
    (note,) = [str(one.message) for one in found]
    assert note.startswith(f"{places[1]}: {said}, of more digits")
    with pytest.warns(DataWarning, match=f"^{said}"):
        whole_table(compose("config", [*OUTCOME, f"data.path={places[1]}"]).data)


@pytest.mark.usefixtures("files")
def test_the_faults_of_all_files_are_told_at_once(
    tmp_path: Path, refused: Callable[..., str]
) -> None:
    coast = TABLES["coast"]
    write_csv(tmp_path / "bad.csv", {**coast, "age": np.full(90, "old"), "dose": np.full(90, "?")})
    write_csv(tmp_path / "odd.csv", {**coast, "age": np.full(90, "young")})
    places = [f"{tmp_path}/{name}.csv" for name in ("bad", "north", "odd", "absent")]
    words = refused(f"data.path=[{','.join(places)}]")
    bad, odd = (
        "must be numeric, got 90 cells of text, the first in row 2",
        " (the header is row 1); leave out a column that does not vary ('age'",
    )
    assert f"{places[0]}: column 'age' {bad}; column 'dose' {bad}{odd}, 'dose'); " in words
    assert f"; {places[2]}: column 'age' {bad}{odd}); {places[3]}: data file must exist" in words
    assert places[1] not in words
    remedy = "; fix the file or leave out the 2 columns: 'data.drop=[age,dose]'"
    assert (remedy in words, words.count("data.drop")) == (True, 1)
    columns = pooled()
    write_csv(tmp_path / "text.csv", {**columns, "age": np.full(len(columns["age"]), "old")})
    words = refused(*of_column(tmp_path, path="text.csv"))
    assert words.endswith("; fix the file or leave out the column: 'data.drop=[age]'")
    many = [f"{tmp_path}/m{number}.csv" for number in range(13)]
    words = refused(f"data.path=[{','.join(many)}]")
    assert (many[9] in words, many[10] in words) == (True, False)
    assert words.endswith("; and faults in 3 more files")


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_sites_have_their_names_on_ray(tmp_path: Path, files: str) -> None:
    config = experiment(*OUTCOME, files, "rounds=2", folder=tmp_path / "run")
    metrics = simulation.run(config, tmp_path / "run")
    hops = {hop["node"] for entry in metrics["rounds"] for hop in entry["hops"]}
    assert set(TABLES) < hops
