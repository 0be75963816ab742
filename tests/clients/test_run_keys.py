"""Company X's keys of sessions: one each, made once, deleted when it is time."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest
from deployed_nodes import enrolled_nodes
from flwr.app import Context, Message, RecordDict
from session_keys import key_files

from fl_he import client_app
from fl_he.clients import run_keys
from fl_he.clients.ledger import Ledger, Mark
from fl_he.clients.ledger_file import FileStore
from fl_he.clients.run_keys import RunKeys
from fl_he.clients.stores import LedgerError
from fl_he.crypto.envelopes.identity import Identity
from fl_he.crypto.errors import KeyFileError
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.wire.encrypted_sum import DESCRIBE, DecryptRequest
from fl_he.wire.records import ProtocolError

DAY = 24 * 60 * 60
GONE = "the key of this session was deleted"


class Keys:
    """Keys in a folder, by a clock that a test moves."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.time, self.made = folder, 1_000_000, 0
        self.store = FileStore(folder / "x.json.opened.jsonl")
        monkeypatch.setattr(run_keys, "now", lambda: self.time)

    def kept(self, days: int = 30, most_unused: int = 50) -> RunKeys:
        return RunKeys(self.store, self.folder / "x.json.key", days, most_unused)

    def make(self, path: Path) -> str:
        self.made += 1
        path.touch(0o600)
        return f"{self.made:064x}"

    def begin(self, run_id: int = 1, days: int = 30) -> str:
        return self.kept(days).begin(run_id, self.make)

    def files(self) -> list[Path]:
        return sorted(self.folder.glob("x.json.key.*"))

    def refused(self, session: str) -> str:
        with pytest.raises(ProtocolError) as caught:
            self.kept().find(session)
        return str(caught.value)


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keys:
    return Keys(tmp_path, monkeypatch)


def test_a_session_has_one_key(keys: Keys) -> None:
    session = keys.begin()
    assert keys.begin() == session
    assert keys.begin(2) != session
    assert keys.made == len(keys.files()) == 2
    found = keys.kept().find(session)
    assert (found.session, found.fingerprint, found.opened) == (session, f"{1:064x}", Mark())
    assert found.expires == keys.time + 30 * DAY
    assert found.path in keys.files()
    assert session not in found.path.name
    assert Ledger(keys.store, found.fingerprint).session(1) == session


def test_processes_that_begin_together_make_one_key(keys: Keys) -> None:
    sessions: list[str] = []
    threads = [
        threading.Thread(target=lambda: sessions.append(keys.kept().begin(1, keys.make)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sessions) == 8
    assert len(set(sessions)) == keys.made == len(keys.files()) == 1


def test_openings_of_all_sessions_are_counted(keys: Keys) -> None:
    first, second = keys.begin(1), keys.begin(2)
    for session in (first, second):
        ledger = Ledger(keys.store, keys.kept().find(session).fingerprint)
        ledger.note(DecryptRequest(session, "train", 1, 3, session.encode()))
    assert keys.kept().find(first).opened.counter == keys.kept().find(second).opened.counter == 2


def test_keys_of_sessions_without_an_opened_sum_are_few_in_a_day(keys: Keys) -> None:
    used, ended, _ = (keys.begin(run) for run in (1, 2, 3))
    ledger = Ledger(keys.store, keys.kept().find(used).fingerprint)
    ledger.note(DecryptRequest(used, "train", 1, 3, b"a sum"))
    keys.kept().end(ended)
    keys.time += 60
    few = keys.kept(most_unused=3)
    assert few.begin(4, keys.make)
    with pytest.raises(ProtocolError, match="at most 3 keys in 24 hours for runs in which it open"):
        few.begin(5, keys.make)
    assert keys.made == 4
    assert few.begin(1, keys.make) == used, "a run that has its key continues"
    assert keys.kept(most_unused=4).begin(5, keys.make)
    keys.time += DAY - 61
    with pytest.raises(ProtocolError, match="and has made 4: begin a run tomorrow, or let its op"):
        keys.kept(most_unused=4).begin(6, keys.make)
    keys.time += 1
    assert keys.kept(most_unused=3).begin(6, keys.make), "two keys are older than a day"


def test_the_end_of_a_run_deletes_its_key_alone(keys: Keys) -> None:
    first, second = keys.begin(1), keys.begin(2)
    for _ in range(2):
        keys.kept().end(first)
    assert keys.refused(first) == f"{GONE} at the run's end: begin a new run"
    assert keys.files() == [keys.kept().find(second).path]
    assert keys.begin(1) == first, "no second key for a run that has ended"
    assert keys.made == 2
    with pytest.raises(ProtocolError, match="the session must be one that company X opened"):
        keys.kept().end("0" * 32)
    assert "the session must be one" in keys.refused("0" * 32)


@pytest.mark.parametrize("days", [1, 30])
def test_a_key_is_deleted_after_its_days(keys: Keys, days: int) -> None:
    session = keys.begin(days=days)
    keys.time += days * DAY - 1
    keys.kept(99).delete_old()
    assert keys.kept(99).find(session).path.exists()
    keys.time += 1
    keys.kept(99).delete_old()
    assert not keys.files()
    keys.time -= DAY
    assert keys.refused(session) == f"{GONE} after {days} days: begin a new run"


def test_a_lookup_deletes_old_keys_of_all_sessions(keys: Keys) -> None:
    keys.begin(1, days=1)
    keys.time += DAY
    second = keys.begin(2)
    assert len(keys.files()) == 2
    assert keys.files() != [keys.kept().find(second).path]
    assert keys.files() == [keys.kept().find(second).path]


def test_what_the_ledger_does_not_know_is_deleted_and_other_files_are_not(keys: Keys) -> None:
    session = keys.begin()
    known, name = keys.files()[0], keys.files()[0].name
    strangers = [known.with_name(f"x.json.key.{'0' * 32}.json"), known.with_name(f".{name}.ab12")]
    others = [
        known.with_name(other)
        for other in ("x.json", "x.json.key.old", f"{name}.bak", f"y{name}", "x.json.sets.jsonl")
    ]
    for path in (*strangers, *others):
        path.touch(0o600)
    keys.kept().delete_old()
    assert not any(path.exists() for path in strangers)
    assert all(path.exists() for path in (*others, known))
    keys.store = FileStore(keys.folder / "another.jsonl")
    keys.kept().delete_old()
    assert not known.exists(), "of a ledger that is lost no key is of use"
    assert session


def test_a_crash_before_the_files_deletion_is_made_good(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = keys.begin()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            keys.kept().end(session)
    assert keys.files()
    assert "at the run's end" in keys.refused(session)
    assert not keys.files()


def test_a_key_that_cannot_be_made_begins_no_session(keys: Keys) -> None:
    def full(path: Path) -> str:
        raise OSError(28, "no space left", str(path))

    with pytest.raises(ProtocolError, match="cannot write to its ledger"):
        keys.kept().begin(1, full)
    session = keys.begin()
    assert keys.kept().find(session).fingerprint == f"{1:064x}"


def test_a_session_under_a_key_file_has_no_key_of_its_own(keys: Keys) -> None:
    session = Ledger(keys.store, "ab" * 32).session(1)
    assert keys.refused(session) == (
        "the session must have a key of its own, and was begun under a key file: begin a new run"
    )
    keys.begin(2)
    keys.files()[0].unlink()
    assert "is not there any more" in keys.refused(keys.begin(2))


def test_nothing_is_made_where_there_is_nothing_to_delete(keys: Keys) -> None:
    keys.kept().delete_old()
    assert not list(keys.folder.iterdir())
    keys.begin()
    assert {stat.S_IMODE(path.stat().st_mode) for path in keys.folder.iterdir()} == {0o600}


def test_a_ledger_that_names_a_session_that_is_no_text_is_refused(keys: Keys) -> None:
    session = keys.begin()
    with keys.store.exclusively() as lines:
        lines.append('{"made":"\\udcf9","at":1000000,"days":30}')
    with pytest.raises(LedgerError, match="must hold no lone surrogates"):
        keys.kept().find(session)


def test_a_protected_identity_has_protected_keys_of_sessions(tmp_path: Path) -> None:
    company = enrolled_nodes(tmp_path)[-1]
    path, passphrase = Path(str(company["identity"])), tmp_path / "passphrase"
    identity = Identity.load(path)
    path.unlink()
    identity.save(path, "secret")
    passphrase.touch(0o600)
    passphrase.write_text("secret\n")
    app = client_app.build(lambda _: pytest.fail("a deployed node has no run configuration"))
    node = {**company, "passphrase-file": str(passphrase)}
    context = Context(1, 5, node, RecordDict(), {})
    assert not app(Message(RecordDict(), 5, DESCRIBE), context).has_error()
    (key,) = key_files(tmp_path)
    with pytest.raises(KeyFileError, match="passphrase"):
        PrivateKey.load(key)
    assert PrivateKey.load(key, "secret").public_key.key_bits == company["key-bits"]
