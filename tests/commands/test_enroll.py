from __future__ import annotations

from pathlib import Path

import pytest
from command_line import fl_he

from fl_he.crypto.envelopes.identity import Identity
from fl_he.crypto.envelopes.public_identity import PublicIdentity
from fl_he.crypto.errors import KeyFileError


def enroll(folder: Path, *options: str, name: str = "st-mary", role: str = "hospital") -> str:
    code, out, err = fl_he(
        folder, "enroll", "--name", name, "--role", role, "--out", "keys", *options
    )
    assert (code, err) == (0, "")
    return out


def test_it_makes_an_identity_and_prints_its_fingerprint_last(tmp_path: Path) -> None:
    out = enroll(tmp_path)
    private = tmp_path / "keys" / "identity.json"
    entry = PublicIdentity.from_json((tmp_path / "keys" / "st-mary.public.json").read_text())
    assert (entry.name, entry.role) == ("st-mary", "hospital")
    assert Identity.load(private).public == entry
    assert max(map(len, out.splitlines())) < 80  # what must be written down is easily found
    assert out.splitlines()[-1] == f"fingerprint:  {entry.fingerprint}"
    assert private.stat().st_mode & 0o777 == 0o600
    assert len(list(private.parent.iterdir())) == 2


def test_a_key_holder_is_enrolled_too(tmp_path: Path) -> None:
    enroll(tmp_path, role="key-holder")
    entry = PublicIdentity.from_json((tmp_path / "keys" / "st-mary.public.json").read_text())
    assert entry.role == "key-holder"


def test_a_passphrase_protects_the_identity(tmp_path: Path) -> None:
    file = tmp_path / "passphrase"
    file.touch(0o600)
    file.write_text("secret")
    out = enroll(tmp_path, "--passphrase-file", "passphrase")
    private = tmp_path / "keys" / "identity.json"
    assert Identity.load(private, "secret").public.fingerprint in out
    with pytest.raises(KeyFileError, match="must be given"):
        Identity.load(private)


@pytest.mark.parametrize(
    ("name", "role", "words"),
    [
        ("../st-mary", "hospital", "a node's name must be 1 to 64 ASCII letters"),
        ("st-mary", "boss", "role must be one of hospital, key-holder, got 'boss'"),
    ],
)
def test_a_wrong_name_or_role_makes_nothing(
    tmp_path: Path, name: str, role: str, words: str
) -> None:
    code, out, err = fl_he(tmp_path, "enroll", "--name", name, "--role", role, "--out", "keys")
    assert (code, out) == (1, "")
    assert err.startswith(f"fl-he: {words}")
    assert err.count("\n") == 1
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize("existing", ["identity.json", "st-mary.public.json"])
def test_it_replaces_no_file(tmp_path: Path, existing: str) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / existing).write_text("in use")
    code, out, err = fl_he(
        tmp_path, "enroll", "--name", "st-mary", "--role", "hospital", "--out", "keys"
    )
    assert (code, out) == (1, "")
    assert err == f"fl-he: keys/{existing} already exists; not overwriting it\n"
    assert [path.name for path in (tmp_path / "keys").iterdir()] == [existing]
