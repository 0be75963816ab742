"""A deployed hospital's table that changes under a run: refused, and only its own log says how."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import pytest
from deployed_nodes import KEY, deployed_nodes, enrolled_nodes
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.app.user_config import UserConfig

from fl_he import client_app
from fl_he.clients.node import table_memory
from fl_he.clients.node.outgoing import PRIVATE_REFUSAL
from fl_he.clients.node.table_memory import TableMemory
from fl_he.clients.state_store import StateStore
from fl_he.crypto.paillier.packing import Packing
from fl_he.learning.tables.data import Dataset
from fl_he.wire.encrypted_sum import (
    DESCRIBE,
    FIGURES,
    FINISH,
    MOMENTS,
    Description,
    EncryptionRequest,
)
from fl_he.wire.learning_terms import MomentsRequest, TrainingTerms
from fl_he.wire.model import model_arrays, model_message_content
from fl_he.wire.sealed_messages import OpenNews

APP = client_app.build(lambda _: pytest.fail("a deployed node has no run configuration"))
TABLE = "age,size,state\n1,2,sick\n3,-1,well\n"
REFUSED = "must be the table with which the session began, and it has changed"
MODEL = model_message_content(model_arrays(np.array([0.25, -0.5]), 0.1), ConfigRecord({}))


class Hospital:
    """A deployed hospital whose coordinator resets its context before every message."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.table = folder / "1.csv"
        self.node: UserConfig = {**deployed_nodes(folder)[0], **changes}

    def ask(self, action: str, content: RecordDict | None = None, run_id: int = 1) -> str:
        """Return why the hospital refuses, an empty text if it answers."""
        context = Context(run_id, 5, self.node, RecordDict(), {})
        reply = APP(Message(content or RecordDict(), 5, action), context)
        return str(reply.error.reason) if reply.has_error() else ""

    def train(self, session: str = "a", run_id: int = 1, action: str = "train") -> str:
        request = EncryptionRequest(KEY.public_key.to_json(), Packing().to_json(), session, 1)
        content = MomentsRequest(sums=True).to_content() if action == MOMENTS else MODEL
        return self.ask(action, request.add_to(content), run_id)


CHANGES: list[tuple[str, str, str]] = [
    (
        "columns swapped, header too",
        "size,age,state\n2,1,sick\n-1,3,well\n",
        "feature 1 must be 'age', got 'size' (same names in another order)",
    ),
    (
        "renamed",
        "age,weight,state\n1,2,sick\n3,-1,well\n",
        "feature 2 must be 'size', got 'weight'",
    ),
    (
        "one more",
        "age,size,pulse,state\n1,2,0,sick\n3,-1,0,well\n",
        "number of features must be 2, got 3 (first unexpected: 'pulse')",
    ),
    (
        "a hundred times the rows",
        "age,size,state\n" + 100 * "1,2,sick\n3,-1,well\n",
        "number of rows must be 2, got 200",
    ),
    ("fewer rows", "age,size,state\n1,2,sick\n", "number of rows must be 2, got 1"),
    (
        "another label",
        "age,size,state\n1,2,sick\n3,-1,healthy\n",
        "labels must be ['sick', 'sick', 'well'], got ['sick', 'healthy', 'sick']",
    ),
]


@pytest.mark.parametrize(
    ("text", "words"), [one[1:] for one in CHANGES], ids=[c[0] for c in CHANGES]
)
@pytest.mark.parametrize("action", [DESCRIBE, MOMENTS, "train", "evaluate", FINISH])
def test_a_table_that_changes_under_a_run_is_refused(
    tmp_path: Path, text: str, words: str, action: str, caplog: pytest.LogCaptureFixture
) -> None:
    hospital = Hospital(tmp_path)

    def ask() -> str:
        if action in (DESCRIBE, FINISH):
            return hospital.ask(action, MODEL if action == FINISH else None)
        return hospital.train(action=action)

    assert hospital.ask(DESCRIBE) == hospital.train() == ask() == ""
    hospital.table.write_text(text)
    reason = ask()
    assert f"data {REFUSED}" in reason
    assert words not in reason
    assert not any(name in reason for name in ("age", "size", "weight", "pulse", "sick", "200"))
    assert words in caplog.text
    hospital.table.write_text(TABLE)
    assert ask() == "", "the table is back"


def test_with_a_manifest_the_coordinator_is_not_told_that_the_table_changed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "enrolled").mkdir()
    hospital = Hospital(tmp_path)
    own, *_, company_x = enrolled_nodes(tmp_path / "enrolled")
    hospital.node = {**own, "data": str(hospital.table)}
    described = APP(Message(RecordDict(), 5, DESCRIBE), Context(1, 5, company_x, RecordDict(), {}))
    told = Description.from_content(described.content)
    packing = Packing(max_contributors=3).to_json()
    request = EncryptionRequest(
        *(told.public_key, packing, told.session, 1),
        value_key=told.value_keys["clinic-1"],
        run_key=told.run_key,
    )
    content = request.add_to(OpenNews(told.session).to_content())
    content["config"] = TrainingTerms(2, 2, "gd", 0.5, None).to_config()
    assert hospital.ask("train", content.copy()) == ""
    hospital.table.write_text(f"{TABLE}1,1,sick\n")
    assert hospital.ask("train", content) == PRIVATE_REFUSAL
    assert f"{REFUSED}: number of rows must be 2, got 3" in caplog.text


@pytest.mark.parametrize(
    "text",
    ["age,size,state\n4,2,sick\n3,-1,well\n", "age,size,state\n1,2,well\n3,-1,sick\n"],
    ids=["a feature", "labels"],
)
def test_a_corrected_cell_is_a_row_that_differs(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    hospital = Hospital(tmp_path)
    assert hospital.ask(DESCRIBE) == hospital.train() == ""
    hospital.table.write_text(text)
    assert "the rows of earlier sessions" in hospital.train()
    assert "rows differ from those of earlier sessions" in caplog.text
    assert hospital.ask(DESCRIBE) == "", "no session is named"
    hospital.table.write_text(TABLE)
    assert hospital.train() == "", "the table is back"


def test_rows_in_another_order_and_five_corrected_and_new_ones_are_answered(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path)
    rows = ["1,2,sick\n", "3,-1,well\n", *(f"{n},{n},sick\n" for n in range(4, 12))]
    hospital.table.write_text("age,size,state\n" + "".join(rows))
    assert hospital.train() == ""
    hospital.table.write_text("age,size,state\n" + "".join(rows[::-1]))
    assert hospital.train() == ""
    corrected = [row.replace(",sick", ",well") for row in rows[5:]]
    hospital.table.write_text("age,size,state\n" + "".join(rows[:5] + corrected))
    assert "the rows of earlier sessions" in hospital.train()
    new = [f"{n},{n},well\n" for n in range(20, 25)]
    hospital.table.write_text("age,size,state\n" + "".join(rows[:5] + corrected + new))
    assert hospital.train("b", run_id=2) == ""


def test_a_session_that_began_early_answers_no_more_once_a_patient_is_replaced(
    tmp_path: Path,
) -> None:
    hospital = Hospital(tmp_path)
    large = TABLE + "4,4,sick\n" * 5
    hospital.table.write_text(large)
    assert hospital.train("a") == hospital.train("b", run_id=2) == ""
    hospital.table.write_text(large.replace("1,2,sick", "3,-3,sick"))
    assert "the rows of earlier sessions" in hospital.train("c", run_id=3)
    assert "the rows of earlier sessions" in hospital.train("b", run_id=2)


def test_a_resumed_run_is_of_the_same_table_and_a_new_one_need_not(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path)
    large = TABLE + "4,4,sick\n" * 5
    hospital.table.write_text(large)
    assert hospital.ask(DESCRIBE) == hospital.train("a") == ""
    hospital.table.write_text(large + "2,2,well\n" * 5)
    assert hospital.ask(DESCRIBE, run_id=2) == "", "which session it is for is not known yet"
    assert REFUSED in hospital.train("a", run_id=2)
    assert hospital.ask(DESCRIBE, run_id=3) == hospital.train("b", run_id=3) == ""
    hospital.table.write_text(large)
    assert REFUSED in hospital.train("b", run_id=3)
    assert hospital.train("a", run_id=4) == ""


def test_a_table_is_that_of_the_hospitals_description(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path)
    assert hospital.ask(DESCRIBE) == ""
    hospital.table.write_text("size,age,state\n2,1,sick\n-1,3,well\n")
    assert REFUSED in hospital.train(), "the coordinator knows the columns in their old order"


def test_the_held_out_table_stays_the_same_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    test = tmp_path / "test.csv"
    test.write_text(TABLE)
    hospital = Hospital(tmp_path, **{"test-data": str(test)})
    assert hospital.ask(DESCRIBE) == hospital.train() == hospital.train(action=FIGURES) == ""
    test.write_text(TABLE + "0,0,sick\n")
    assert f"test-data {REFUSED}" in hospital.train(action=FIGURES)
    assert "number of rows must be 2, got 3" in caplog.text
    assert hospital.train() == "", "the other table is as it was"


@pytest.mark.parametrize("configured", [True, False])
def test_the_memory_is_a_private_file_of_the_hospitals(tmp_path: Path, configured: bool) -> None:
    path = tmp_path / ("mine.jsonl" if configured else "1.csv.sessions.jsonl")
    hospital = Hospital(tmp_path, **({"state": str(path)} if configured else {}))
    assert [hospital.train(session) for session in "aab"] == ["", "", ""]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    lines = path.read_text().splitlines()
    assert [line[:10] for line in lines] == ['{"columns"', '{"run":"1"', '{"run":"1"']
    path.chmod(0o644)
    assert hospital.train() == PRIVATE_REFUSAL


def test_a_run_that_names_ever_new_sessions_does_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_memory, "MOST_SESSIONS", 3)
    hospital = Hospital(tmp_path)
    assert [hospital.train(session) for session in "abcab"] == [""] * 5
    size = (tmp_path / "1.csv.sessions.jsonl").stat().st_size
    assert hospital.train("d") == "a run must have at most 3 sessions"
    assert (tmp_path / "1.csv.sessions.jsonl").stat().st_size == size
    assert hospital.train("d", run_id=2) == ""


def test_a_memory_that_cannot_be_written_is_refused_before_training(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path, state="/dev/null/memory")
    assert "cannot write the file named by state in the node configuration" in hospital.ask(
        DESCRIBE
    )


@pytest.mark.parametrize("session", ["a" * 65, "é" * 65])
def test_a_session_without_end_is_refused(tmp_path: Path, session: str) -> None:
    assert "a session must have at most 64 characters" in Hospital(tmp_path).train(session)


def test_types_of_a_parquet_file_belong_to_the_table(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "table.parquet"
    table = pl.DataFrame({"age": [1, 3], "size": [2.0, -1.0], "state": ["sick", "well"]})
    table.write_parquet(path)
    hospital = Hospital(tmp_path, data=str(path))
    assert hospital.train() == ""
    table.with_columns(pl.col("age").cast(pl.Float64)).write_parquet(path)
    assert REFUSED in hospital.train()
    assert "type of column 'age' must be int64, got double" in caplog.text


def dataset(**changes: Any) -> Dataset:
    fields: dict[str, Any] = {
        **{"features": np.ones((2, 2)), "labels": np.array([0.0, 1.0])},
        **{"feature_names": ("a", "b"), "positive": "x"},
    }
    return Dataset(**{**fields, **changes})


def test_lines_that_were_cut_off_are_passed_over() -> None:
    record = ConfigRecord()
    memory = TableMemory(StateStore(record))
    assert memory.change(1, "s", "data", dataset()) is None
    schema, seen = cast("list[str]", record["ledger"])
    record["ledger"] = [schema]
    assert memory.change(1, "s", "data", dataset(positive="y")) is None, "that is its start"
    record["ledger"] = [seen]
    change = memory.change(1, "s", "data", dataset(positive="y"))
    assert change == "its columns, types or labels are others"


def test_many_columns_fit_a_line() -> None:
    names = tuple(f"a column of some length, number {number}" for number in range(100_000))
    wide = dataset(features=np.ones((2, 100_000)), feature_names=names, types=("String",) * 100_000)
    record = ConfigRecord()
    memory = TableMemory(StateStore(record))
    assert memory.change(1, "s", "data", wide) is memory.change(1, "s", "data", wide) is None
    assert max(map(len, record["ledger"])) < table_memory.LONGEST_LINE  # type: ignore[arg-type]
