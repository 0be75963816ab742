"""Company X's memory on its disk: crashes, torn lines, several processes, random interleavings."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import pytest
from flwr.app import ConfigRecord
from full_disk import full_disk
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_he.clients.ledger import NOTHING, Ledger, Mark, Place
from fl_he.clients.ledger_file import FileStore
from fl_he.clients.overviews import session_overviews
from fl_he.clients.state_store import StateStore
from fl_he.clients.stores import LedgerError, Lines
from fl_he.wire.encrypted_sum import DecryptRequest, Purpose
from fl_he.wire.permission import PermitRequest
from fl_he.wire.records import ProtocolError

KEY = "ab" * 32


def request(
    session: str,
    round_: int = 1,
    purpose: str = "train",
    encrypted_sum: bytes = b"sum",
    contributors: int = 3,
) -> DecryptRequest:
    return DecryptRequest(session, cast(Purpose, purpose), round_, contributors, encrypted_sum)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


@pytest.fixture
def ledger(path: Path) -> Ledger:
    return Ledger(FileStore(path), KEY)


def test_a_new_ledger_is_its_owners_alone(ledger: Ledger, path: Path) -> None:
    before = os.umask(0)
    try:
        session = ledger.session(1)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    ledger.note(request(session))
    assert path.read_bytes().count(b"\n") == 2
    ledger.note(request(session))
    assert path.read_bytes().count(b"\n") == 2, "the same request leaves no second line"


def test_the_folder_of_a_new_ledger_is_synchronised(
    ledger: Ledger, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds: list[bool] = []
    fsync = os.fsync

    def spy(descriptor: int) -> None:
        kinds.append(stat.S_ISDIR(os.fstat(descriptor).st_mode))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", spy)
    ledger.session(1)
    ledger.session(2)
    assert kinds == [True, False, False]


def test_a_session_is_of_one_run_and_one_key(ledger: Ledger, path: Path) -> None:
    other = Ledger(FileStore(path), "cd" * 32)
    session = ledger.session(1)
    assert ledger.session(1) == session != ledger.session(2)
    with pytest.raises(ProtocolError, match="the key with which the run began"):
        other.session(1)
    with pytest.raises(ProtocolError, match="with its key"):
        other.note(request(session))


def test_a_line_is_on_the_disk_before_the_answer(
    ledger: Ledger, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = ledger.session(1)
    synchronised: list[bytes] = []
    fsync = os.fsync

    def spy(descriptor: int) -> None:
        synchronised.append(path.read_bytes())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", spy)
    ledger.note(request(session))
    assert synchronised[-1] == path.read_bytes()
    assert b'"round":1' in synchronised[-1]


def test_a_disk_that_fails_gives_no_answer(
    ledger: Ledger,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    session = ledger.session(1)

    def fail(descriptor: int) -> None:
        raise OSError(28, "no space left")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(ProtocolError, match="cannot write to its ledger, so nothing was no"):
            ledger.note(request(session))
    assert f"cannot write to the ledger {path}: No space left on device" in caplog.text
    ledger.note(request(session, encrypted_sum=b"another, since the first was never answered"))


@pytest.mark.parametrize("room", [0, 1, 100])
def test_a_session_goes_on_when_a_full_disk_has_room_again(
    ledger: Ledger, path: Path, room: int
) -> None:
    session = ledger.session(1)
    before = path.read_bytes()
    with full_disk(len(before) + room):
        for round_ in (1, 1, 2):
            with pytest.raises(ProtocolError, match="nothing was noted or answered"):
                ledger.note(request(session, round_))
    assert path.read_bytes() == before
    assert ledger.session(1) == session
    ledger.note(request(session))
    ledger.note(request(session, 2, encrypted_sum=b"other"))


def test_a_line_that_was_cut_off_closes_the_sessions_before_it(path: Path) -> None:
    ledger = Ledger(FileStore(path), KEY)
    session = ledger.session(1)
    ledger.note(request(session))
    ledger.note(request(session, 2, encrypted_sum=b"other"))
    whole = path.read_bytes()
    start = whole.rindex(b"\n", 0, -1) + 1
    for end in range(start + 1, len(whole)):
        path.write_bytes(whole[:end])
        for again in range(2):
            for round_ in (1, 2, 3):
                with pytest.raises(ProtocolError, match="session must be one"):
                    ledger.note(request(session, round_, encrypted_sum=b"third"))
            with pytest.raises(ProtocolError, match="session must be one"):
                ledger.note(request(session))  # not even its opened sums
            later = ledger.session(1)
            assert later != session
            ledger.note(request(later, 1 + again, encrypted_sum=bytes([again])))


def test_a_cut_off_line_that_is_cut_off_once_more(path: Path) -> None:
    ledger = Ledger(FileStore(path), KEY)
    session = ledger.session(1)
    path.write_bytes(path.read_bytes() + b'{"sess#cut o')
    assert ledger.session(1) != session
    assert b'{"sess#cut o#cut off\n{"run":' in path.read_bytes()


def test_a_line_without_end_is_not_read_to_its_end(path: Path) -> None:
    path.touch(0o600)
    store = FileStore(path, longest=8)
    path.write_bytes(b"1234567\n1234567\n")
    with store.exclusively() as lines:
        assert list(lines) == ["1234567", "1234567"]
    for long in (b"12345678", b"12345678\n", b"1" * 100):
        path.write_bytes(b"1234567\n" + long)
        with store.exclusively() as lines:
            read = iter(lines)
            assert next(read) == "1234567"
            with pytest.raises(LedgerError, match=rf"line must be shorter, got {path}"):
                next(read)


def test_a_first_line_of_which_a_byte_was_written(path: Path) -> None:
    path.touch(0o600)
    path.write_bytes(b"{")
    ledger = Ledger(FileStore(path), KEY)
    session = ledger.session(1)
    assert path.read_bytes().startswith(b'{#cut off\n{"run":')
    assert ledger.session(1) == session


def _line(**members: bytes) -> bytes:
    """Return the line of an opening, with some members replaced."""
    line = {
        "session": b'"a"',
        "purpose": b'"train"',
        "round": b"1",
        "contributors": b"3",
        "metric_values": b"0",
        "sum": b'"b"',
    }
    return b"{%s}" % b",".join(b'"%s":%s' % (k.encode(), v) for k, v in {**line, **members}.items())


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"\xff",
        b"\0" * 20,
        b'{"run":1,"session":"a","key":"b"}',
        b'{"run":"1","session":"a","key":"b","more":1}',
        b'{"run":"1","session":"a"}',
        _line(round=b"0"),
        _line(round=b"1.0"),
        _line(round=b"true"),
        _line(purpose=b'"other"'),
        _line(metric_values=b"-1"),
        _line(session=b'"a","session":"b"'),
        _line(session=b'"' + b"a" * 2000 + b'"'),
    ],
)
def test_a_line_of_another_form_stops_the_key_holder(path: Path, line: bytes) -> None:
    ledger = Ledger(FileStore(path), KEY)
    session = ledger.session(1)
    path.write_bytes(path.read_bytes() + line + b"\n")
    for use in (lambda: ledger.session(2), lambda: ledger.note(request(session))):
        with pytest.raises(LedgerError):
            use()


def test_a_ledger_is_a_file_of_its_owners(path: Path, tmp_path: Path) -> None:
    ledger = Ledger(FileStore(path), KEY)
    ledger.session(1)
    for mode in (0o640, 0o604, 0o620):
        path.chmod(mode)
        with pytest.raises(LedgerError, match="by its owner only"):
            ledger.session(1)
    link = tmp_path / "link"
    link.symlink_to(path)
    with pytest.raises(LedgerError, match="symbolic links"):
        Ledger(FileStore(link), KEY).session(1)
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(LedgerError, match="regular file"):
        Ledger(FileStore(tmp_path / "pipe"), KEY).session(1)


def test_reading_makes_and_changes_nothing(ledger: Ledger, path: Path, tmp_path: Path) -> None:
    store = FileStore(path)
    assert store.read() == []
    assert not path.exists()
    ledger.note(request(ledger.session(1)))
    path.write_bytes(path.read_bytes() + b'{"session":')
    path.chmod(0o400)
    before = path.read_bytes()
    first, second, third = store.read()
    assert '{"run":"1"' in (first or "")
    assert '"round":1' in (second or "")
    assert third is None, "a line that was cut off"
    assert path.read_bytes() == before
    path.chmod(0o604)
    with pytest.raises(LedgerError, match="by its owner only"):
        store.read()
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(LedgerError, match=r"that this node can read.*symbolic links"):
        FileStore(tmp_path / "link").read()


def test_a_reader_waits_for_the_writer(path: Path) -> None:
    store, found = FileStore(path), list[list[str | None]]()
    reader = threading.Thread(target=lambda: found.append(store.read()))
    with store.exclusively() as lines:
        lines.append("first")
        reader.start()
        reader.join(0.2)
        assert not found
        lines.append("second")
    reader.join()
    assert found == [["first", "second"]]


def test_an_overview_has_the_last_rounds(ledger: Ledger, path: Path) -> None:
    first, second = ledger.session(1), ledger.session(2)
    for session, round_, purpose in (
        (first, 1, "prepare"),
        (first, 1, "train"),
        (first, 3, "train"),
        (first, 4, "train"),
        (second, 2, "train"),
    ):
        ledger.note(request(session, round_, purpose, f"{session}{purpose}{round_}".encode()))
    ledger.discard(request(first, 4, "train", f"{first}train4".encode()))
    shown = session_overviews(FileStore(path).read())
    assert [(one.session, one.key, one.last, one.closed) for one in shown] == [
        (first, KEY, {"prepare": 1, "train": 3}, False),
        (second, KEY, {"train": 2}, False),
    ]
    assert ledger.latest(first) == 3
    path.write_bytes(path.read_bytes() + b"{")
    third = ledger.session(3)
    shown = session_overviews(FileStore(path).read())
    assert [(one.session, one.closed) for one in shown] == [
        (first, True),
        (second, True),
        (third, False),
    ]


def test_many_threads_open_a_round_once(path: Path) -> None:
    session = Ledger(FileStore(path), KEY).session(1)
    outcomes: list[bool] = []

    def ask(number: int) -> None:
        try:
            Ledger(FileStore(path), KEY).note(request(session, encrypted_sum=bytes([number])))
            outcomes.append(True)
        except ProtocolError:
            outcomes.append(False)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [False] * 15 + [True]


def test_what_is_read_and_what_is_written_are_under_one_lock(path: Path) -> None:
    events: list[str] = []

    class Watched(FileStore):
        @contextmanager
        def exclusively(self) -> Iterator[Any]:
            with super().exclusively() as lines:
                events.append("lock")
                yield WatchedLines(lines)
            events.append("unlock")

    class WatchedLines:
        def __init__(self, lines: Lines) -> None:
            self.lines = lines

        def append(self, line: str) -> None:
            events.append("write")
            self.lines.append(line)

        def __iter__(self) -> Iterator[str | None]:
            events.append("read")
            return iter(self.lines)

    ledger = Ledger(Watched(path), KEY)
    session = ledger.session(1)
    ledger.note(request(session))
    assert events == [
        *("lock", "read", "write", "unlock"),
        *("lock", "read", "write", "unlock"),
    ]


def test_who_has_the_ledger_keeps_others_waiting(path: Path) -> None:
    ledger = Ledger(FileStore(path), KEY)
    session = ledger.session(1)
    thread = threading.Thread(target=ledger.note, args=(request(session),))
    with FileStore(path).exclusively() as lines:
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        assert len(list(lines)) == 1
    thread.join()
    assert path.read_bytes().count(b"\n") == 2


_ASKS = """
import sys
from pathlib import Path
from fl_he.clients.ledger import Ledger
from fl_he.clients.ledger_file import FileStore
from fl_he.clients.overviews import session_overviews
from fl_he.wire.encrypted_sum import DecryptRequest
ledger = Ledger(FileStore(Path(sys.argv[1])), "ab" * 32)
session = ledger.session(1)
for number in range(1, 100000):
    ledger.note(DecryptRequest(session, "train", number, 3, b"%d" % number))
    print(number, flush=True)
"""


def test_kill_9_forgets_no_round_that_was_answered(path: Path) -> None:
    for _ in range(2):
        command = [sys.executable, "-c", _ASKS, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            answered = [int(process.stdout.readline()) for _ in range(20)]
            process.send_signal(signal.SIGKILL)
            answered += [int(line) for line in process.stdout if line.endswith("\n")]
        ledger = Ledger(FileStore(path), KEY)
        session = ledger.session(1)
        with pytest.raises(ProtocolError, match="open already"):
            ledger.note(request(session, answered[-1], encrypted_sum=b"another"))
        ledger.note(request(session, answered[-1], encrypted_sum=b"%d" % answered[-1]))
        path.unlink()  # the next process would begin with a round that is open


Request = tuple[int, str, int, int, bytes]
REQUESTS: st.SearchStrategy[list[Request | None]] = st.lists(
    st.none()
    | st.tuples(
        st.integers(0, 1),
        st.sampled_from(["train", "evaluate"]),
        st.integers(1, 4),
        st.integers(3, 4),
        st.sampled_from([b"a", b"b", b"c", b"d"]),
    ),
    max_size=30,
)


@pytest.mark.parametrize("on_disk", [True, False])
def test_whatever_is_asked_no_round_is_opened_twice(on_disk: bool) -> None:
    @settings(max_examples=60, deadline=None)
    @given(REQUESTS)
    def check(asked: list[Request | None]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            record = ConfigRecord()
            path = Path(folder) / "ledger"

            def restart() -> Ledger:
                return Ledger(FileStore(path) if on_disk else StateStore(record), KEY)

            ledger = restart()
            sessions = [ledger.session(number) for number in (1, 2)]
            opened: list[Request] = []
            for one in asked:
                if one is None:
                    ledger = restart()
                    assert [ledger.session(number) for number in (1, 2)] == sessions
                    continue
                number, purpose, round_, contributors, encrypted = one
                same = [o for o in opened if o[0] == number]
                fresh = all(o[4] != encrypted for o in same) and all(
                    o[2] < round_ for o in same if o[1] == purpose
                )
                try:
                    ledger.note(request(sessions[number], round_, purpose, encrypted, contributors))
                except ProtocolError:
                    assert not fresh
                    assert one not in opened
                else:
                    assert fresh or one in opened
                    opened += [one] if fresh else []
            rounds = [(o[0], o[1], o[2]) for o in opened]
            assert len(set(rounds)) == len(rounds)

    check()


def test_a_sum_follows_the_round_that_was_opened_last(ledger: Ledger) -> None:
    session = ledger.session(1)
    ledger.note(request(session, 2), follows=NOTHING)
    ledger.note(request(session, 3, "evaluate", b"e"))
    for wrong in (0, 1, 3, 4):
        with pytest.raises(ProtocolError, match=f"after train 2, .* after train {wrong}$"):
            ledger.note(request(session, 4, encrypted_sum=b"b"), follows=("train", wrong))
    ledger.note(request(session, 4, encrypted_sum=b"b"), follows=("train", 2))
    ledger.note(request(session, 2), follows=NOTHING)  # the same request as before
    ledger.note(request(session, 4, encrypted_sum=b"b"), follows=("train", 2))
    for wrong in (0, 1, 4):  # the very same sum, said to be over another model
        with pytest.raises(ProtocolError, match=f"after train 2, .* after train {wrong}$"):
            ledger.note(request(session, 4, encrypted_sum=b"b"), follows=("train", wrong))
    with pytest.raises(ProtocolError, match="opened once, in order"):
        ledger.note(request(session, 3, encrypted_sum=b"c"), follows=("train", 2))


def test_a_counter_is_the_place_among_all_openings(ledger: Ledger, path: Path) -> None:
    def note(by: Ledger, asked: DecryptRequest) -> int:
        mark = by.note(asked)
        assert mark is not None
        return mark.counter

    first, second = ledger.session(1), ledger.session(2)
    assert note(ledger, request(first)) == 1
    assert note(ledger, request(second)) == 2
    assert note(ledger, request(second, 1, "evaluate", b"e")) == 3
    ledger.discard(request(second, 1, "evaluate", b"e"))
    other = Ledger(FileStore(path), "cd" * 32)
    assert note(other, request(other.session(3))) == 4
    for again in (Ledger(FileStore(path), KEY), ledger):
        assert note(again, request(first)) == 1
        assert note(again, request(second)) == 2
    assert note(ledger, request(first, 2, encrypted_sum=b"2")) == 5


def test_a_head_is_of_all_openings_so_far(ledger: Ledger, path: Path) -> None:
    session = ledger.session(1)
    begun = path.read_bytes()
    first, second = (request(session, one, encrypted_sum=b"%d" % one) for one in (1, 2))
    noted = [ledger.note(first), ledger.note(second)]
    lines, head, expected = path.read_bytes().splitlines()[1:], bytes(32), list[Mark]()
    for counter, line in enumerate(lines, 1):
        head = sha256(head + line).digest()
        expected.append(Mark(counter, head))
    assert noted == expected
    path.write_bytes(begun)  # put back: the same openings have the same marks, others have not
    assert ledger.note(first) == expected[0]
    other = ledger.note(request(session, 2, encrypted_sum=b"other"))
    assert other is not None
    assert other.counter == 2
    assert other != expected[1]


def test_a_sum_after_a_total_of_another_ledger(ledger: Ledger, path: Path) -> None:
    handed = Handed()
    session = ledger.session(1)
    begun = path.read_bytes()
    old = ledger.note(request(session))
    path.write_bytes(begun)
    new = ledger.note(request(session, encrypted_sum=b"other"))
    second, before = request(session, 2, encrypted_sum=b"2"), path.read_bytes()
    with pytest.raises(ProtocolError, match="the ledger was rolled back"):
        ledger.note(second, check=handed, after=old)
    assert path.read_bytes() == before
    with pytest.raises(ProtocolError, match="the ledger was rolled back"):
        ledger.permit(unsent(session, 2), None, never_called, old)
    assert len(handed.places) == 1
    assert ledger.note(second, after=new) == ledger.note(second, after=new)


def test_a_discarded_request_that_comes_again_is_noted_once(ledger: Ledger, path: Path) -> None:
    session = ledger.session(1)
    asked = request(session)
    ledger.note(asked)
    ledger.discard(asked)
    before = path.read_bytes()
    for _ in range(3):
        assert ledger.note(asked, check=never_called) is None
    assert path.read_bytes() == before
    assert ledger.note(request(session, encrypted_sum=b"another")) is not None


def test_an_opening_says_how_long_the_opened_sets_were(ledger: Ledger, path: Path) -> None:
    session, asked, counts = ledger.session(1), list[int](), iter((3, 5, 4, 9, 6))

    def check(place: Place) -> int:
        asked.append(place.sets)
        return next(counts)

    for round_ in (1, 2, 3, 3, 4):
        ledger.note(request(session, round_, encrypted_sum=b"%d" % round_), check=check)
    assert asked == [0, 3, 5, 5, 5]
    assert [line.split('"sets":')[1] for line in path.read_text().splitlines()[1:]] == [
        *("3}", "5}", "4}", "6}")
    ]


def test_an_opening_knows_the_place_of_its_session(ledger: Ledger) -> None:
    sessions, places = [ledger.session(run) for run in (1, 2, 3)], list[Place]()

    def check(place: Place) -> int:
        places.append(place)
        return 5

    for session in (*sessions[1:], sessions[1]):
        ledger.note(request(session, encrypted_sum=session.encode()), check=check)
    assert places == [
        Place(sets=0, session=2, sessions=3, noted=False),
        Place(sets=5, session=3, sessions=3, noted=False),
        Place(sets=5, session=2, sessions=3, noted=True),
    ]


def test_openings_of_an_earlier_release_say_nothing_of_sets(ledger: Ledger, path: Path) -> None:
    session = ledger.session(1)
    ledger.note(request(session), check=lambda _: 7)
    older = path.read_text().replace(',"sets":7', "")
    assert older != path.read_text()
    path.write_text(older)

    def check(place: Place) -> int:
        assert place.sets == 0
        return 8

    assert ledger.note(request(session), check=check)
    assert ledger.note(request(session, 2, encrypted_sum=b"2"), check=check)


def test_the_latest_round_of_a_session(ledger: Ledger, path: Path) -> None:
    session, other = ledger.session(1), ledger.session(2)
    assert ledger.latest(session) == 0
    for number, purpose in ((2, "train"), (5, "train"), (7, "evaluate")):
        ledger.note(request(session, number, purpose, f"{number}".encode()))
    assert ledger.latest(session) == 5
    assert ledger.latest(other) == 0
    for unknown, key in (("0" * 32, KEY), (session, "cd" * 32)):
        with pytest.raises(ProtocolError, match="the session must be one that company X"):
            Ledger(FileStore(path), key).latest(unknown)
    with path.open("a") as file:
        file.write('{"session":"')
    with pytest.raises(ProtocolError, match="the session must be one"):
        ledger.latest(session)


def test_a_session_has_at_most_so_many_totals_of_a_purpose(path: Path) -> None:
    ledger = Ledger(FileStore(path), KEY, max_rounds=2)
    first, second = ledger.session(1), ledger.session(2)
    for session in (first, second):
        for round_ in (1, 4):
            ledger.note(request(session, round_, encrypted_sum=b"%d" % round_))
            ledger.note(request(session, round_, "evaluate", b"e%d" % round_))
    before = path.read_bytes()
    for purpose in ("train", "evaluate"):
        words = (
            rf"at most 2 totals of one purpose in a session \(max-rounds in its node configuration"
            rf"\), and 2 for {purpose} are open already"
        )
        with pytest.raises(ProtocolError, match=words):
            ledger.note(request(first, 5, purpose, b"new"), check=(handed := Handed()))
        assert len(handed.places) == 1
        with pytest.raises(ProtocolError, match=words):
            ledger.permit(unsent(first, 5, purpose), None, never_called, None)
    ledger.note(request(first, 4, encrypted_sum=b"4"))  # the answer may have been lost
    ledger.note(request(first, 1, "prepare", b"p"))
    assert path.read_bytes().startswith(before)
    assert path.read_bytes().count(b"\n") == before.count(b"\n") + 1


def never_called(_: Place) -> int:
    pytest.fail("the set rule would keep a set whose sum company X does not have")


class Handed:
    """Keeps the set of a sum that company X has, and cannot; the ledger's refusal goes first."""

    def __init__(self) -> None:
        self.places: list[Place] = []

    def __call__(self, place: Place) -> int:
        self.places.append(place)
        raise LedgerError("the disk is full")


def unsent(session: str, round_: int = 1, purpose: str = "train") -> PermitRequest:
    """Return the question whether a sum of three may be sent."""
    tickets = dict.fromkeys("abc", b"")
    return PermitRequest(session, cast(Purpose, purpose), round_, tickets, 3)


def test_a_permission_keeps_its_set_and_no_round(ledger: Ledger, path: Path) -> None:
    session = ledger.session(1)
    ledger.note(request(session))
    before, places = path.read_bytes(), list[Place]()

    def check(place: Place) -> int:
        places.append(place)
        return 7

    for _ in range(2):
        ledger.permit(unsent(session, 2), ("train", 1), check, None)
    assert places == [Place(0, 1, 1, noted=False)] * 2
    for asked, follows, words in (
        (unsent(session, 1), None, "a round is opened once, in order: train 1 is open already"),
        (unsent(session, 2), NOTHING, "a sum must be over the model after train 1, the last"),
        (unsent("other"), None, "the session must be one"),
    ):
        with pytest.raises(ProtocolError, match=words):
            ledger.permit(asked, follows, never_called, None)
    assert path.read_bytes() == before
    ledger.note(request(session, 2, encrypted_sum=b"2"))


def test_totals_are_opened_in_at_most_so_many_sessions_under_all_keys(path: Path) -> None:
    Ledger(FileStore(path), "cd" * 32).note(request(Ledger(FileStore(path), "cd" * 32).session(1)))
    ledger = Ledger(FileStore(path), KEY, max_sessions=2)
    second, third = ledger.session(2), ledger.session(3)  # a session without a total is none
    ledger.note(request(second))
    with path.open("a") as file:
        file.write("{")  # closes all sessions so far, which count as before
    fourth = ledger.session(4)
    words = (
        r"at most 2 sessions \(max-sessions in its node configuration\), and has opened some in 2 "
        "others: let its operator raise max-sessions"
    )
    with pytest.raises(ProtocolError, match=words):
        ledger.note(request(fourth), check=(handed := Handed()))
    assert len(handed.places) == 1
    with pytest.raises(ProtocolError, match=words):
        ledger.permit(unsent(fourth), None, never_called, None)
    with pytest.raises(ProtocolError, match="the session must be one"):
        ledger.note(request(third))
    raised = Ledger(FileStore(path), KEY, max_sessions=3)
    raised.note(request(fourth))
    ledger = Ledger(FileStore(path), KEY, max_sessions=3)
    ledger.note(request(fourth, 2, encrypted_sum=b"2"))
    with pytest.raises(ProtocolError, match="some in 3 others"):
        ledger.note(request(ledger.session(5)))


LIMITED = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(["train", "evaluate"]),
        st.integers(1, 4),
        st.sampled_from(["fits", "fits too", "misfit"]),
    ),
    max_size=25,
)


@given(LIMITED, st.integers(1, 3), st.integers(1, 2))
@settings(max_examples=100, deadline=None)
def test_a_ledger_with_limits_refuses_what_exceeds_them_and_nothing_else(
    asked: list[tuple[int, str, int, str]], max_rounds: int, max_sessions: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        limited = Ledger(FileStore(Path(folder) / "ledger"), KEY, max_rounds, max_sessions)
        free = Ledger(StateStore(ConfigRecord()), KEY)
        sessions = [(limited.session(number), free.session(number)) for number in range(3)]
        opened: set[tuple[int, str, int, str]] = set()
        discarded: set[tuple[int, str, int, str]] = set()
        for one in asked:
            number, purpose, round_, kind = one
            encrypted = repr(one).encode()
            ask, same = (request(name, round_, purpose, encrypted) for name in sessions[number])
            if one in discarded:
                assert limited.note(ask) is None
                continue
            try:
                free.note(same)
            except ProtocolError:
                with pytest.raises(ProtocolError):
                    limited.note(ask)
                continue
            totals = [other for other in opened if other[:2] == (number, purpose)]
            others = {other[0] for other in opened} - {number}
            if one in opened or (len(totals) < max_rounds and len(others) < max_sessions):
                limited.note(ask)
                if kind == "misfit":
                    limited.discard(ask)
                    free.discard(same)
                    discarded.add(one)
                else:
                    opened.add(one)
                continue
            with pytest.raises(ProtocolError, match=r"max-rounds|max-sessions"):
                limited.note(ask)
            free.discard(same)
