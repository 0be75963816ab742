"""``fl-he ledger``: company X's operator looks at opened sets, and decides on epochs."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from pathlib import Path

import pytest
from command_line import fl_he

from fl_he.clients.ledger import Ledger
from fl_he.clients.ledger_file import FileStore
from fl_he.clients.opened_sets import OpenedSets
from fl_he.clients.set_rule import LONGEST_SET_LINE
from fl_he.crypto.tickets.ticket import Ticket
from fl_he.wire.encrypted_sum import DecryptRequest
from fl_he.wire.records import ProtocolError

IDENTITY, FILE = "identity.json", "identity.json.sets.jsonl"
LEDGER = "identity.json.opened.jsonl"
SHOWN = """\
opened: a, b, c, d
class of 4: a, b, c, d
allow being singled out: none
"""
RUNS = count(1)
IDENTITIES = dict.fromkeys("abcdefghij", "ab" * 32)
ASKED = """\
new epoch: a total of a, b, c
new hospitals: none
exposed, for good: d
"""


def require(
    folder: Path, names: str, alone: str = "", identities: Mapping[str, str] = IDENTITIES
) -> None:
    """Open a total of a new session, as company X does."""
    tickets = [Ticket(name, bytes(32), b"", alone=name in alone) for name in names]
    sets = OpenedSets(FileStore(folder / FILE, LONGEST_SET_LINE))
    ledger = Ledger(FileStore(folder / LEDGER), "ab" * 32)
    session = ledger.session(next(RUNS))
    request = DecryptRequest(session, "train", 1, len(names), session.encode())
    ledger.note(request, check=lambda place: sets.require(tickets, 3, place, "train", identities))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return company X's folder, after a total of four hospitals."""
    require(tmp_path, "abcd")
    return tmp_path


def test_it_shows_what_was_opened(folder: Path) -> None:
    for named in (IDENTITY, FILE):
        assert fl_he(folder, "ledger", named) == (0, SHOWN, "")
    require(folder, "abcdefgh", alone="d")
    require(folder, "abcdefghi", alone="di")
    code, out, err = fl_he(folder, "ledger", IDENTITY)
    assert (code, err) == (0, "")
    assert out == (
        "opened: a, b, c, d\nopened: a, b, c, d, e, f, g, h\n"
        "opened: a, b, c, d, e, f, g, h, i\n"
        "class of 4: a, b, c, d\nclass of 4: e, f, g, h\nclass of 1: i\n"
        "allow being singled out: i\n"
        "allow it too late, as they are in totals without it: d\n"
    )


@pytest.mark.parametrize(("more", "typed"), [(("--yes",), ""), ((), "y\n")])
def test_an_epoch_lets_exactly_its_set_be_opened(
    folder: Path, more: tuple[str, ...], typed: str
) -> None:
    code, out, _ = fl_he(folder, "ledger", IDENTITY, "--open", "c,a,b", *more, typed=typed)
    assert (code, out) == (0, f"{SHOWN}{ASKED}the epoch has begun\n")
    for other in ("abd", "bcd", "abcde"):
        with pytest.raises(ProtocolError, match="would expose"):
            require(folder, other)
    require(folder, "abc")
    code, out, _ = fl_he(folder, "ledger", IDENTITY)
    assert out.startswith("opened: a, b, c, d\nepoch: a, b, c, exposes d\nopened: a, b, c\n")


def test_an_epoch_after_a_hospital_has_another_identity_names_everybody(folder: Path) -> None:
    changed = {**dict.fromkeys("abcd", "ab" * 32), "d": "cd" * 32}
    with pytest.raises(ProtocolError, match="no total is opened: d may be other hospitals"):
        require(folder, "abcd", identities=changed)
    code, out, _ = fl_he(folder, "ledger", IDENTITY, "--open", "a,b,c,d", "--yes")
    assert code == 0
    assert "another identity than in opened totals: d\n" in out
    assert "exposed, for good: a, b, c, d\nthe epoch has begun\n" in out
    require(folder, "abcd", identities=changed)


def test_a_new_name_is_told_from_a_new_identity(folder: Path) -> None:
    with pytest.raises(ProtocolError, match="no total is opened: d, e may be"):
        require(folder, "abce", identities=dict.fromkeys("abce", "ab" * 32))
    out = fl_he(folder, "ledger", IDENTITY)[1]
    assert "in opened totals, and not in the manifest: d\n" in out
    assert "in the manifest, perhaps under a new name: e\n" in out
    assert "another identity" not in out


@pytest.mark.parametrize("typed", ["", "n\n", "\n"])
def test_no_epoch_without_a_yes(folder: Path, typed: str) -> None:
    code, out, err = fl_he(folder, "ledger", IDENTITY, "--open", "a,b,c", typed=typed)
    assert (code, out) == (1, SHOWN + ASKED)
    assert "begin this epoch? [y/N]" in err
    assert "Aborted" in err
    with pytest.raises(ProtocolError, match="would expose d:"):
        require(folder, "abc")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--open", "a,b,c,d", "--yes"), 1, "no epoch is needed"),
        (("--open", "a,b,c,x", "--yes"), 2, "opened sets, got x: correct the names"),
        (("--open", "a,b", "--yes"), 2, "at least 3 hospitals"),
        (("--open", "a,b,b,c", "--yes"), 2, "each name once"),
        (("--open", "a,b, c", "--yes"), 1, "a node's name must be"),
        (("--open", "a,b,c,", "--yes"), 1, "a node's name must be"),
        (("--min-contributors", "0"), 2, "min-contributors"),
    ],
)
def test_what_is_no_epoch_is_refused(
    folder: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    found = fl_he(folder, "ledger", IDENTITY, *arguments)
    assert found[0] == code
    assert words in " ".join(found[2].replace("│", "").split())
    assert "epoch" not in (folder / FILE).read_text()


def test_a_new_hospital_is_one_that_the_operator_has_said_is_new(folder: Path) -> None:
    arguments = ("--open", "a,b,c,d,e", "--new-hospital", "--yes")
    code, out, err = fl_he(folder, "ledger", IDENTITY, *arguments)
    assert (code, err) == (0, "")
    assert "new hospitals: e\nexposed, for good: e\n" in out
    require(folder, "abcde")


def test_a_larger_least_number_shows_more(folder: Path) -> None:
    arguments = ("--open", "a,b,c,d", "--min-contributors", "5", "--yes")
    assert fl_he(folder, "ledger", IDENTITY, *arguments)[0] == 2
    require(folder, "abcdefg")
    _, out, _ = fl_he(folder, "ledger", IDENTITY, "--open", "a,b,c,d", "--min-contributors", "4")
    assert "exposed, for good: e, f, g\n" in out


@pytest.mark.parametrize("line", ["?", '{"opened":["b","a"]}', '{"epoch":["a","b","c"]}'])
def test_a_damaged_file_is_one_line(folder: Path, line: str) -> None:
    with (folder / FILE).open("a") as file:
        file.write(f"{line}\n")
    for more in ((), ("--open", "a,b,c", "--yes")):
        code, out, err = fl_he(folder, "ledger", IDENTITY, *more)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert err.startswith(f"fl-he: cannot use {FILE}: ")


@pytest.mark.parametrize("more", [(), ("--open", "a,b,c,d,e", "--yes")])
def test_a_file_that_has_lost_lines_is_refused(folder: Path, more: tuple[str, ...]) -> None:
    """An epoch's line would fill the place of a lost one, and company X would notice nothing."""
    require(folder, "abcdefg")
    before = (folder / FILE).read_bytes()
    require(folder, "abcdefghij")
    (folder / FILE).write_bytes(before)
    code, out, err = fl_he(folder, "ledger", IDENTITY, *more)
    assert (code, out) == (1, "")
    assert err.startswith(f"fl-he: cannot use {FILE}: the file of opened sets has 5 lines, and had")
    assert (folder / FILE).read_bytes() == before


@pytest.mark.slow
def test_without_its_ledger_nothing_is_shown(folder: Path) -> None:
    (folder / LEDGER).rename(folder / IDENTITY)  # `state` names it
    assert fl_he(folder, "ledger", IDENTITY) == (0, SHOWN, "")
    for text in ("{an identity}", "{an identity}\n"):
        (folder / IDENTITY).write_text(text)
        code, out, err = fl_he(folder, "ledger", IDENTITY)
        assert (code, out) == (1, "")
        assert err.startswith(f"fl-he: cannot use {IDENTITY} as company X's ledger: ")
    (folder / IDENTITY).unlink()
    code, out, err = fl_he(folder, "ledger", IDENTITY)
    assert (code, out) == (1, "")
    assert err.startswith(f"fl-he: {IDENTITY} must exist: company X's ledger says how long {FILE}")


def test_no_file_is_made_and_no_other_is_read(tmp_path: Path) -> None:
    (tmp_path / IDENTITY).write_text("a secret")
    code, out, err = fl_he(tmp_path, "ledger", IDENTITY)
    assert (code, out) == (1, "")
    assert err.startswith(f"fl-he: {FILE} must exist")
    assert [path.name for path in tmp_path.iterdir()] == [IDENTITY]
