"""A deployed hospital's rows between sessions: few that differ are refused, or noted as one set."""

from __future__ import annotations

import logging
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cpu_time import at_most
from deployed_nodes import KEY, deployed_nodes
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.app.user_config import UserConfig
from full_disk import full_disk

from fl_he import client_app
from fl_he.clients.hospital import HospitalData
from fl_he.clients.ledger_file import FileBytes
from fl_he.clients.node.deployed import DeployedNode
from fl_he.clients.node.outgoing import PRIVATE_REFUSAL
from fl_he.clients.node.row_memory import Columns, RowMemory, parse
from fl_he.clients.stores import LedgerError
from fl_he.crypto.paillier.packing import Packing
from fl_he.learning.tables.data import Dataset
from fl_he.wire.encrypted_sum import DESCRIBE, FIGURES, MOMENTS, EncryptionRequest
from fl_he.wire.learning_terms import MomentsRequest
from fl_he.wire.model import model_arrays, model_message_content
from fl_he.wire.records import ProtocolError
from fl_he.wire.sealed_messages import News, OpenNews
from fl_he.wire.study_plan import Outcome

APP = client_app.build(lambda _: pytest.fail("a deployed node has no run configuration"))
HEADER = "age,size,pulse,state\n"
ROWS = [f"{n},{n % 7},{60 + n},{'sick' if n % 3 else 'well'}\n" for n in range(12)]
MORE = [f"{n},1,70,sick\n" for n in range(50, 55)]
REFUSED = (
    "must hold the rows of earlier sessions, or differ in 5 or more, and their number by 5 or more"
)


class Hospital:
    """A deployed hospital, and the sessions that it is asked in."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.table, self.rows, self.key = (
            folder / name for name in ("1.csv", "1.csv.rows", "1.csv.rows-key")
        )
        self.node: UserConfig = {**deployed_nodes(folder)[0], **changes}
        self.sessions = 0
        self.write(ROWS)

    def write(self, rows: list[str], header: str = HEADER) -> None:
        self.table.write_text(header + "".join(rows))

    def ask(self, session: str, action: str = MOMENTS, **records: RecordDict) -> str:
        """Return why the hospital refuses, an empty text if it answers."""
        content = RecordDict()
        if action != DESCRIBE:
            request = EncryptionRequest(KEY.public_key.to_json(), Packing().to_json(), session, 1)
            asked = MomentsRequest(sums=True).to_content()
            if action == FIGURES:
                features = len(self.table.read_text().split("\n")[0].split(",")) - 1
                model = model_arrays(np.zeros(features), 0.0)
                asked = model_message_content(model, ConfigRecord({}))
            content = request.add_to(asked)
            for one in records.values():
                content.update(one)
        context = Context(self.sessions, 5, self.node, RecordDict(), {})
        reply = APP(Message(content, 5, action), context)
        return str(reply.error.reason) if reply.has_error() else ""

    def begin(self, action: str = MOMENTS) -> str:
        """Begin another session of another run."""
        self.sessions += 1
        return self.ask(f"session-{self.sessions}", action)


def test_one_row_more_is_refused_until_there_are_five(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hospital = Hospital(tmp_path)
    assert hospital.begin() == ""
    hospital.write(ROWS + MORE[:1])
    reason = hospital.begin()
    assert reason == (
        f"data {REFUSED}: put the earlier table back, or change at least 5 rows together, so "
        "that there are at least 5 more or fewer; this node's log says how"
    )
    assert f"{REFUSED}: 1 row differs from those of earlier sessions: put" in caplog.text
    assert f"delete {hospital.rows} to forget the earlier rows" in caplog.text
    assert REFUSED in hospital.ask("session-2"), "a refused session has not begun"
    hospital.write([*ROWS[1:], "0,0,61,well\n"])
    assert REFUSED in hospital.begin(), "a corrected cell"
    assert ": 2 rows differ from" in caplog.text
    hospital.write(ROWS[::-1] + MORE)
    assert hospital.begin() == hospital.ask("session-2") == ""
    hospital.write(ROWS + MORE[:1])
    assert REFUSED in hospital.begin(), "one of the five"
    hospital.write(ROWS)
    assert hospital.begin() == "", "the first table"


def test_corrected_rows_that_could_cover_one_patient_are_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without the corrected column the tables would differ in one patient, or in two."""
    hospital = Hospital(tmp_path)
    corrected = [f"1{row}" for row in ROWS]
    assert hospital.begin() == ""
    for rows, told in (
        (corrected, "as many rows as"),
        ([*corrected, *MORE[:1]], "only 1 more or fewer rows than"),
        (corrected[1:], "only 1 more or fewer rows than"),
        ([*corrected[1:], *MORE[:1]], "as many rows as"),
        ([*corrected, *MORE[:4]], "only 4 more or fewer rows than"),
    ):
        hospital.write(rows)
        assert REFUSED in hospital.begin()
        assert f": it has other rows, and {told} a table of an earlier session: put" in caplog.text
        caplog.clear()
    hospital.write([*corrected, *MORE])
    assert hospital.begin() == ""
    hospital.write(ROWS)
    assert hospital.begin() == "", "the first table"


def test_a_table_is_noted_once_a_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that comes again, and a run that is resumed, meet the same note."""
    hospital = Hospital(tmp_path)
    assert hospital.begin() == ""
    monkeypatch.setattr(RowMemory, "note", lambda *_: pytest.fail("it was noted"))
    assert hospital.ask("session-1") == ""
    hospital.sessions = 7
    assert hospital.ask("session-1") == ""


def test_a_description_notes_nothing(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path)
    assert hospital.ask("", DESCRIBE) == ""
    assert not hospital.rows.exists()


def test_no_session_without_a_name_and_none_under_two_names(tmp_path: Path) -> None:
    """Both would let a table pass without a comparison."""
    hospital = Hospital(tmp_path)
    assert hospital.begin() == ""
    hospital.write(ROWS + MORE[:1])
    assert "must name company X's session" in hospital.ask("")
    for other in (News("session-2"), OpenNews("session-2")):
        told = hospital.ask("session-1", other=other.to_content())
        assert told == "the message names two sessions"


def test_training_and_test_tables_are_apart(tmp_path: Path) -> None:
    test = tmp_path / "test.csv"
    hospital = Hospital(tmp_path, **{"test-data": str(test)})
    test.write_text(HEADER + "".join(MORE))
    assert hospital.begin() == hospital.ask("session-1", FIGURES) == ""
    hospital.write(ROWS + MORE[:1])
    assert f"data {REFUSED}" in hospital.begin()
    hospital.write(ROWS)
    test.write_text(HEADER + "".join(MORE + ROWS[:1]))
    assert hospital.begin() == ""
    assert f"test-data {REFUSED}" in hospital.ask(f"session-{hospital.sessions}", FIGURES)
    assert len(parse(hospital.rows.read_bytes()[:-32])) == 2


class TestColumns:
    """Two studies of one table, of which one sees a patient more."""

    def test_a_study_of_other_columns_is_compared_by_those_of_the_first(
        self, tmp_path: Path
    ) -> None:
        hospital = Hospital(tmp_path, drop="pulse")
        assert hospital.begin() == ""
        hospital.node["drop"] = "size"
        hospital.write(ROWS + MORE[:1])
        assert REFUSED in hospital.begin()
        hospital.write(ROWS)
        assert hospital.begin() == ""
        assert len(parse(hospital.rows.read_bytes()[:-32])) == 2
        hospital.write([*ROWS[1:], "0,3,60,well\n"])
        assert REFUSED in hospital.begin(), "another size, which the second study does not see"
        hospital.write(ROWS + MORE)
        assert hospital.begin() == ""
        hospital.node["drop"] = "pulse"
        hospital.write(ROWS + MORE[:1])
        assert REFUSED in hospital.begin()

    def test_another_outcome_is_another_choice(self, tmp_path: Path) -> None:
        hospital = Hospital(tmp_path)
        assert hospital.begin() == ""
        hospital.node["positive"] = "well"
        hospital.write(ROWS + MORE[:1])
        assert REFUSED in hospital.begin()

    @pytest.mark.parametrize(
        "outcome",
        [{"family": "poisson", "exposure": "pulse"}, {"family": "cox", "event": "event"}],
    )
    def test_an_exposure_or_event_is_compared_and_read_again(
        self, tmp_path: Path, outcome: dict[str, str], caplog: pytest.LogCaptureFixture
    ) -> None:
        hospital = Hospital(tmp_path, target="size", **outcome)
        del hospital.node["positive"]
        header, drop = "age,weight,size,pulse,event,state\n", "state,event,weight"
        drop = drop if "exposure" in outcome else "state,pulse,weight"
        hospital.node["drop"] = drop
        rows = [f"{n},{n % 5},{n % 7},{60 + n},{n % 2},x\n" for n in range(12)]
        hospital.write(rows, header)
        assert hospital.begin() == ""
        hospital.write([*rows[:-1], "11,1,4,70,0,x\n"], header)
        assert REFUSED in hospital.begin() == hospital.ask("session-1")
        hospital.node["drop"] = drop.replace("weight", "age")
        assert REFUSED in hospital.begin()
        assert "it lacks columns" not in caplog.text
        assert "1 row differs" in caplog.text or "2 rows differ" in caplog.text
        hospital.write(rows, header)
        assert hospital.begin() == ""

    def test_an_exposure_by_a_schema_is_compared(self, tmp_path: Path) -> None:
        hospital = Hospital(tmp_path)
        del hospital.node["target"], hospital.node["positive"]
        schema = "columns: {age: {type: number}}\noutcome: {column: size, family: poisson, "
        (tmp_path / "schema.yaml").write_text(f"{schema}exposure: pulse}}\n")
        hospital.node["schema"] = str(tmp_path / "schema.yaml")
        assert hospital.begin() == ""
        hospital.write([*ROWS[:-1], ROWS[-1].replace(",71,", ",70,")])
        assert REFUSED in hospital.begin()
        hospital.write(ROWS)
        assert hospital.begin() == ""

    def test_the_order_of_columns_does_not_matter(self, tmp_path: Path) -> None:
        hospital = Hospital(tmp_path)
        assert hospital.begin() == ""
        cells = [",".join(reversed(row.strip().split(","))) for row in ROWS + MORE[:1]]
        hospital.write([f"{row}\n" for row in cells], "state,pulse,size,age\n")
        assert REFUSED in hospital.begin()
        assert len(parse(hospital.rows.read_bytes()[:-32])) == 1

    def test_a_table_that_lacks_columns_of_an_earlier_one_is_refused(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        hospital = Hospital(tmp_path)
        assert hospital.begin() == ""
        hospital.write(ROWS, "age,size,heart,state\n")
        assert REFUSED in hospital.begin()
        assert "it lacks columns of an earlier session" in caplog.text
        hospital.rows.unlink()
        assert hospital.begin() == ""

    def test_cells_that_an_earlier_study_could_not_have_read(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        hospital = Hospital(tmp_path, drop="pulse")
        hospital.node["drop"] = "size"
        assert hospital.begin() == ""
        hospital.node["drop"] = "pulse"
        hospital.write([row.replace(",60,", ",,") for row in ROWS])
        assert REFUSED in hospital.begin()
        assert "data, with the columns of an earlier session: column 'pulse'" in caplog.text


PRIVACY: UserConfig = {
    **{"privacy-epsilon": 1.0, "privacy-delta": 1e-5, "privacy-clip": 1.0, "privacy-rounds": 4},
    "privacy-ledger": "privacy.jsonl",
}


def read(node_config: UserConfig, run_id: int) -> HospitalData:
    """Have a node read its table for a message of a run, and of its session."""
    node = DeployedNode(Context(run_id, 5, node_config, RecordDict(), {}))
    node.session = f"session-{run_id}"
    node.begun = True
    return node.hospital


def columns(*features: str) -> Columns:
    return Columns("data", features, Outcome("state", "sick", None, ()))


def memory(folder: Path) -> RowMemory:
    return RowMemory(FileBytes(folder / "rows"), FileBytes(folder / "rows-key"))


def dataset(rows: int) -> Dataset:
    return Dataset(np.arange(2.0 * rows).reshape(rows, 2), np.zeros(rows), ("a", "b"))


def no_other(_: Columns) -> Dataset | None:
    return None


class TestPrivacy:
    def test_under_privacy_a_table_is_noted_and_never_refused(self, tmp_path: Path) -> None:
        hospital = Hospital(tmp_path)
        private: UserConfig = {**hospital.node, **PRIVACY}
        assert read(private, 1).dataset.examples == len(ROWS)
        before = hospital.rows.read_bytes()
        hospital.write(ROWS + MORE[:1])
        assert read(private, 2).dataset.examples == len(ROWS) + 1
        assert hospital.rows.read_bytes() != before
        with pytest.raises(ProtocolError, match=REFUSED):
            read(hospital.node, 3)

    def test_other_columns_that_the_table_lacks_are_passed_over(self, tmp_path: Path) -> None:
        rows = memory(tmp_path)
        assert rows.note(columns("a", "b"), dataset(9), no_other, None) is None
        assert rows.note(columns("b"), dataset(9), no_other, None) is None
        assert "it lacks columns" in str(rows.note(columns("b"), dataset(9), no_other, 5))


def test_a_node_may_ask_for_more_rows_and_not_for_fewer(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path, **{"min-cell": 6})
    assert hospital.ask("", DESCRIBE) == hospital.begin() == ""
    hospital.write(ROWS + MORE)
    assert "their number by 6 or more" in hospital.begin()
    hospital.write([*ROWS, *MORE, "7,7,7,sick\n"])
    assert hospital.begin() == ""
    hospital.node["min-cell"] = 4
    least = "min-cell in the node configuration must be at least 5, got 4"
    assert least in hospital.ask("", DESCRIBE)
    assert least in hospital.begin()


class TestFiles:
    def test_hashes_and_key_are_private_files(self, tmp_path: Path) -> None:
        hospital = Hospital(tmp_path)
        assert hospital.begin() == ""
        for path in (hospital.rows, hospital.key):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert len(hospital.key.read_bytes()) == 32
        line, _, rest = hospital.rows.read_bytes().partition(b"\n")
        assert len(rest) == len(ROWS) * 20 + 32
        assert b"sick" in line, "the outcome's settings"

    def test_they_stand_beside_the_state_if_there_is_one(self, tmp_path: Path) -> None:
        hospital = Hospital(tmp_path, state=str(tmp_path / "kept.jsonl"))
        assert hospital.begin() == ""
        assert (tmp_path / "kept.jsonl.rows").exists()
        assert (tmp_path / "kept.jsonl.rows-key").exists()

    def test_each_node_makes_a_key(self, tmp_path: Path) -> None:
        found = []
        for name in "ab":
            (tmp_path / name).mkdir()
            hospital = Hospital(tmp_path / name)
            hospital.begin()
            found.append((hospital.key.read_bytes(), hospital.rows.read_bytes()))
        assert found[0][0] != found[1][0]
        line = found[0][1].partition(b"\n")[0]
        hashes = [{one[n : n + 16] for n in range(len(line) + 1, 200, 16)} for _, one in found]
        assert not hashes[0] & hashes[1]

    def test_the_key_is_in_no_log_error_or_repr(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        hospital = Hospital(tmp_path)
        said = hospital.begin()
        key = hospital.key.read_bytes()
        hospital.write(ROWS[1:])
        said += hospital.begin()
        hospital.rows.write_bytes(b"x" * 50)
        files = FileBytes(hospital.rows), FileBytes(hospital.key)
        said += hospital.begin() + repr(files) + repr(RowMemory(*files))
        for text in (key.hex(), repr(key)[2:-1]):
            assert text not in caplog.text + said

    @pytest.mark.parametrize("at", [0, 5, 300, 420, -40, -1])
    def test_a_damaged_file_is_refused(
        self, tmp_path: Path, at: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        hospital = Hospital(tmp_path)
        assert hospital.begin() == ""
        content = bytearray(hospital.rows.read_bytes())
        content[at] ^= 1
        hospital.rows.write_bytes(content)
        assert hospital.begin() == PRIVATE_REFUSAL
        assert "noted rows must be as this node wrote them, with its key" in caplog.text
        assert hospital.rows.read_bytes() == content

    @pytest.mark.parametrize("size", [1, 31, 32, 200, -1])
    def test_a_file_that_was_cut_off_is_refused(self, tmp_path: Path, size: int) -> None:
        hospital = Hospital(tmp_path)
        hospital.begin()
        hospital.rows.write_bytes(hospital.rows.read_bytes()[:size])
        assert hospital.begin() == PRIVATE_REFUSAL

    @pytest.mark.parametrize("key", [None, b"", b"short", bytes(32)])
    def test_rows_without_their_key_are_refused(
        self, tmp_path: Path, key: bytes | None, caplog: pytest.LogCaptureFixture
    ) -> None:
        """With another key all rows would seem new."""
        hospital = Hospital(tmp_path)
        hospital.begin()
        hospital.key.unlink()
        if key is not None:
            hospital.key.touch(0o600)
            hospital.key.write_bytes(key)
        assert hospital.begin() == PRIVATE_REFUSAL
        assert f"{hospital.rows}" in caplog.text
        assert hospital.key.exists() is bool(key), "no other key takes its place"

    @pytest.mark.parametrize("which", ["rows", "key"])
    def test_a_file_that_others_may_read_or_that_is_a_link_is_refused(
        self, tmp_path: Path, which: str
    ) -> None:
        hospital = Hospital(tmp_path)
        hospital.begin()
        path: Path = getattr(hospital, which)
        path.chmod(0o640)
        assert hospital.begin() == PRIVATE_REFUSAL
        path.chmod(0o600)
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
        assert hospital.begin() == PRIVATE_REFUSAL

    def test_a_file_with_a_checksum_of_other_content_is_refused(self) -> None:
        for text in (b"", b"{}\n", b"\xff\n", b'{"format":"fl-he rows 3","histories":[]}\nrest'):
            with pytest.raises(LedgerError):
                parse(text)

    @pytest.mark.parametrize("room", [10, 40], ids=["key", "rows"])
    def test_a_full_disk_begins_no_session(self, tmp_path: Path, room: int) -> None:
        hospital = Hospital(tmp_path)
        with full_disk(room):
            reason = hospital.begin()
        assert "cannot write to its ledger" in reason
        assert hospital.key.exists() is (room == 40)
        assert not hospital.rows.exists()
        assert hospital.ask("session-1") == ""
        assert hospital.rows.exists(), "the session was noted when it began"

    def test_forgotten_rows_are_noted_anew(self, tmp_path: Path) -> None:
        hospital = Hospital(tmp_path)
        hospital.begin()
        hospital.write(ROWS[1:])
        assert REFUSED in hospital.begin()
        hospital.rows.unlink()
        assert hospital.begin() == ""
        hospital.write(ROWS)
        assert REFUSED in hospital.begin()


def test_a_large_table_is_noted_in_linear_time(tmp_path: Path) -> None:
    rows = memory(tmp_path)
    with at_most(millions=70):
        assert rows.note(columns("a", "b"), dataset(200_000), no_other, 5) is None
        assert rows.note(columns("a", "b"), dataset(200_010), no_other, 5) is None
    assert (tmp_path / "rows").stat().st_size < 200_010 * 20 + 500
