from __future__ import annotations

import io
import re
import time
from pathlib import Path

import pytest
import rich.console
from command_line import fl_he
from gmpy2 import mpz

from fl_he.commands import keygen
from fl_he.crypto.comparison.dgk_key import DgkPublicKey
from fl_he.crypto.comparison.dgk_private_key import DgkPrivateKey
from fl_he.crypto.errors import CryptoError, KeyFileError
from fl_he.crypto.paillier.key_kind import KeyKind
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.crypto.paillier.public_key import PublicKey

SHORT = ("keygen", "--key-bits", "1024", "--out", "keys")


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_it_makes_a_key(tmp_path: Path) -> None:
    code, out, err = fl_he(tmp_path, "keygen", "--out", "new/keys")
    assert (code, err) == (0, "")
    private, public = tmp_path / "new/keys/private-key.json", tmp_path / "new/keys/public-key.json"
    key, published = PrivateKey.load(private), PublicKey.from_json(public.read_text().rstrip("\n"))
    assert key.public_key.key_bits == 2048
    assert key.decrypt(published.encrypt([42])) == [42]
    assert f"fingerprint: {published.fingerprint}\n" in out
    assert mode(private) == 0o600
    names = {"private-key.json", "public-key.json", "dgk-private-key.json", "dgk-public-key.json"}
    assert {path.name for path in private.parent.iterdir()} == names
    secrets = set(re.findall(r"[\w-]{30,}", private.read_text())) - set(
        re.findall(r"[\w-]{30,}", public.read_text())
    )
    assert len(secrets) == 5, "two primes with a prime divisor each, and a sealing key"
    assert not any(secret in out for secret in secrets)


def test_it_makes_a_dgk_key_as_well(tmp_path: Path) -> None:
    code, out, _ = fl_he(tmp_path, *SHORT)
    assert code == 0
    private, public = (tmp_path / "keys" / f"dgk-{kind}-key.json" for kind in ("private", "public"))
    key, published = DgkPrivateKey.load(private), DgkPublicKey.from_json(public.read_text())
    assert published.key_bits == 1024
    ciphertexts = published.encrypt([0, 1, 256])
    assert key.are_zero([mpz(c) for c in ciphertexts]) == [True, False, False]
    assert out.endswith(f"DGK fingerprint: {published.fingerprint}\n")
    assert mode(private) == 0o600
    secrets = set(re.findall(r"[\w-]{20,}", private.read_text())) - set(
        re.findall(r"[\w-]{20,}", public.read_text())
    )
    assert len(secrets) >= 4
    assert not any(secret in out + public.read_text() for secret in secrets)
    code, out, _ = fl_he(tmp_path, "show", "keys/dgk-public-key.json")
    assert (code, out) == (0, f"{published.fingerprint} DGK key of 1024 bits\n")


@pytest.mark.parametrize("kind", KeyKind)
def test_it_makes_a_key_of_the_kind_that_is_asked_for(tmp_path: Path, kind: KeyKind) -> None:
    assert fl_he(tmp_path, *SHORT, "--key-kind", kind)[0] == 0
    key = PrivateKey.load(tmp_path / "keys" / "private-key.json").public_key
    assert key.key_kind is kind
    shown = fl_he(tmp_path, "show", "keys/public-key.json")[1]
    assert shown == f"{key.fingerprint} Paillier key of 1024 bits, kind {kind}\n"


def test_a_short_key_warns_in_one_line(tmp_path: Path) -> None:
    code, _, err = fl_he(tmp_path, *SHORT)
    assert code == 0
    assert err.startswith("fl-he: a key should have at least 2048 bits")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "existing", ["private-key.json", "public-key.json", "dgk-private-key.json"]
)
def test_it_replaces_no_file(tmp_path: Path, existing: str) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / existing).write_text("in use")
    code, out, err = fl_he(tmp_path, *SHORT)
    assert (code, out) == (1, "")
    assert err == f"fl-he: keys/{existing} already exists; not overwriting it\n"
    assert [path.name for path in (tmp_path / "keys").iterdir()] == [existing]
    assert (tmp_path / "keys" / existing).read_text() == "in use"


def test_a_key_that_is_too_short_is_refused(tmp_path: Path) -> None:
    code, out, err = fl_he(tmp_path, "keygen", "--key-bits", "512", "--out", "keys")
    assert (code, out) == (1, "")
    assert err.startswith("fl-he: ")
    assert "between 1024 and 8192 bits, got 512" in err
    assert not (tmp_path / "keys").exists()


@pytest.mark.parametrize(
    "typed", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["file", "typed"]
)
def test_a_passphrase_protects_the_private_key(tmp_path: Path, typed: bool) -> None:
    file = tmp_path / "passphrase"
    file.touch(0o600)
    file.write_text("käse\nnot this line\n")
    option = ["--ask-passphrase"] if typed else ["--passphrase-file", file.name]
    code, out, _ = fl_he(tmp_path, *SHORT, *option, typed="käse\nkäse\n" if typed else "")
    assert code == 0
    assert "käse" not in out
    private = tmp_path / "keys" / "private-key.json"
    assert PrivateKey.load(private, "käse").public_key.fingerprint in out
    with pytest.raises(KeyFileError, match="must be given"):
        PrivateKey.load(private)
    dgk = tmp_path / "keys" / "dgk-private-key.json"
    assert DgkPrivateKey.load(dgk, "käse").public_key.fingerprint in out
    with pytest.raises(KeyFileError, match="must be given"):
        DgkPrivateKey.load(dgk)
    with pytest.raises(CryptoError, match="kind must be"):
        DgkPrivateKey.load(private, "käse")


def test_passphrases_that_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "passphrase"
    file.write_text("secret")
    file.chmod(0o644)
    (tmp_path / "empty").touch(0o600)
    (tmp_path / "empty").write_text("\nsecret")
    for options, words in (
        (
            ["--passphrase-file", "empty"],
            "the first line of empty is empty: it must be the passphrase",
        ),
        (["--passphrase-file", "passphrase"], "accessible by its owner only"),
        (["--passphrase-file", "nowhere"], "No such file"),
        (["--passphrase-file", "passphrase", "--ask-passphrase"], "one of --passphrase-file and"),
    ):
        code, out, err = fl_he(tmp_path, *SHORT, *options)
        assert code != 0
        assert out == ""
        assert words in err
        assert "Traceback" not in err
        assert not list(tmp_path.glob("keys/*"))


def test_a_long_search_shows_a_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    terminal = rich.console.Console(file=shown, force_terminal=True)
    monkeypatch.setattr(rich.console, "Console", lambda **_: terminal)
    monkeypatch.setattr(keygen, "_PATIENCE", 0.0)
    with keygen._signs_of_life("making a key"):
        deadline = time.monotonic() + 120
        while "making a key" not in shown.getvalue():
            assert time.monotonic() < deadline
            time.sleep(0.01)
