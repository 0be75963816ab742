from __future__ import annotations

import base64
import hashlib
import json
import traceback
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from fl_he.crypto.envelopes.identity import Identity
from fl_he.crypto.errors import CryptoError, KeyFileError
from fl_he.crypto.key_files import DEFAULT_COST, ScryptCost, load_secret, save_secret
from fl_he.crypto.paillier.private_key import PrivateKey

CHEAP = ScryptCost(n=2, r=1)
TEXT = '{"secret":"attack at dawn"}'
WORDS = "correct horse battery staple"


def protected(folder: Path, cost: ScryptCost = CHEAP, kind: str = "test") -> Path:
    path = folder / "key.json"
    save_secret(path, TEXT, kind, WORDS, cost)
    return path


def rewrite(path: Path, text: str) -> None:
    path.write_text(text)
    assert path.stat().st_mode & 0o777 == 0o600


def decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "==")


def test_the_file_opens_by_its_description(tmp_path: Path) -> None:
    path = protected(tmp_path, ScryptCost(n=16, r=4, p=3))
    assert path.stat().st_mode & 0o777 == 0o600
    members = json.loads(path.read_text())
    assert {name: members[name] for name in ("format", "kind", "kdf", "cipher", "n", "r", "p")} == {
        **{"format": "fl-he protected key file 1", "kind": "test"},
        **{"kdf": "scrypt", "cipher": "ChaCha20-Poly1305", "n": 16, "r": 4, "p": 3},
    }
    salt = decode(members["salt"])
    key = hashlib.scrypt(WORDS.encode(), salt=salt, n=16, r=4, p=3, dklen=32)
    numbers = (number.to_bytes(8, "big") for number in (16, 4, 3))
    fields = (b"fl-he protected key file 1", b"test", b"scrypt", *numbers, salt)
    associated = b"".join(len(field).to_bytes(4, "big") + field for field in fields)
    nonce, ciphertext = decode(members["nonce"]), decode(members["ciphertext"])
    assert ChaCha20Poly1305(key).decrypt(nonce, ciphertext, associated) == TEXT.encode()
    assert load_secret(path, "test", WORDS, 99) == TEXT


def test_the_same_passphrase_gives_another_key_each_time(tmp_path: Path) -> None:
    members = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        members.append(json.loads(protected(tmp_path / name).read_text()))
    for member in ("salt", "nonce", "ciphertext"):
        assert members[0][member] != members[1][member]
    assert len(decode(members[0]["salt"])) == 32


def test_the_default_cost(tmp_path: Path) -> None:
    assert ScryptCost() == DEFAULT_COST == ScryptCost(n=131072, r=8, p=1)
    assert load_secret(protected(tmp_path, DEFAULT_COST), "test", WORDS, 99) == TEXT


def test_the_passphrase_must_be_the_right_one(tmp_path: Path) -> None:
    path = protected(tmp_path)
    with pytest.raises(KeyFileError) as caught:
        load_secret(path, "test", None, 99)
    expected = f"the key file is protected: a passphrase must be given for {path}"
    assert str(caught.value) == expected
    for wrong in (WORDS[:-1], WORDS.upper(), WORDS + " ", "\ud800"):
        with pytest.raises(KeyFileError) as caught:
            load_secret(path, "test", wrong, 99)
        assert str(caught.value) == "the passphrase does not open the key file"
    with pytest.raises(CryptoError, match="a passphrase must not be empty"):
        load_secret(path, "test", "", 99)


def test_no_file_is_made_with_an_empty_passphrase(tmp_path: Path) -> None:
    with pytest.raises(CryptoError, match="a passphrase must not be empty"):
        save_secret(tmp_path / "key.json", TEXT, "test", "", CHEAP)
    assert list(tmp_path.iterdir()) == []


def test_a_plain_file_cannot_take_the_place_of_a_protected_one(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    save_secret(path, TEXT, "test", None, CHEAP)
    assert path.read_text() == TEXT + "\n"
    assert load_secret(path, "test", None, 99) == TEXT + "\n"
    with pytest.raises(KeyFileError, match="a passphrase was given, but the key file is not prot"):
        load_secret(path, "test", WORDS, 99)


def test_accents_may_be_typed_in_either_way(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    save_secret(path, TEXT, "test", "h\u00f4pital", CHEAP)
    assert load_secret(path, "test", "ho\u0302pital", 99) == TEXT
    with pytest.raises(KeyFileError, match="does not open"):
        load_secret(path, "test", "hopital", 99)


def test_bytes_of_the_environment_that_are_not_utf8_are_a_passphrase(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    save_secret(path, TEXT, "test", "h\udcf4pital", CHEAP)
    assert load_secret(path, "test", "h\udcf4pital", 99) == TEXT


def test_a_file_in_other_layout_is_still_protected(tmp_path: Path) -> None:
    path = protected(tmp_path)
    rewrite(path, json.dumps(json.loads(path.read_text()), indent=4, sort_keys=True))
    assert load_secret(path, "test", WORDS, 99) == TEXT


def test_every_changed_character_is_found(tmp_path: Path) -> None:
    path = protected(tmp_path)
    original = path.read_text().rstrip()
    for at, character in enumerate(original):
        changed = "3" if character == "2" else "2"
        rewrite(path, original[:at] + changed + original[at + 1 :])
        with pytest.raises(CryptoError) as caught:
            load_secret(path, "test", WORDS, 99)
        shown = "".join(traceback.format_exception(caught.value)) + repr(vars(caught.value))
        assert WORDS not in shown
        assert "attack" not in shown


@pytest.mark.parametrize(
    ("member", "value", "message"),
    [
        ("format", "fl-he protected key file 2", "format must be 'fl-he protected key file 1'"),
        ("kind", "other", "kind must be 'test'"),
        ("kdf", "none", "kdf must be 'scrypt'"),
        ("cipher", "none", "cipher must be 'ChaCha20-Poly1305'"),
        ("n", 2**37, r"n must be between 2 and 134217728, got 137438953472"),
        ("n", 10**400, r"n must be between 2 and 134217728, got 1329 bits$"),
        ("n", 2**18, r"scrypt must write at most 134217728 bytes, got 268435456"),
        ("n", 0, r"n must be between"),
        ("n", -2, r"n must be between"),
        ("n", 6, r"scrypt's n must be a power of 2, got 6"),
        ("n", 4.0, r"n must be an integer, got a decimal number"),
        ("n", True, r"n must be an integer, got true or false"),
        ("n", "4", r"n must be an integer, got text"),
        ("r", 0, r"r must be between 1 and"),
        ("r", 2**30, r"r must be between 1 and 134217728, got 1073741824"),
        ("r", 2**23, r"scrypt must write at most 134217728 bytes, got 2147483648"),
        ("p", 0, r"p must be between 1 and"),
        ("p", 2**23, r"scrypt must write at most"),
        ("p", None, r"p must be an integer, got null"),
        ("p", 2, r"the passphrase does not open the key file"),
        ("salt", "A" * 42, r"salt must be base64url text of 43 characters, got 42"),
        ("salt", "A" * 43, r"the passphrase does not open the key file"),
        ("nonce", "A" * 17, r"nonce must be base64url text of 16 characters, got 17"),
        ("nonce", "A" * 16, r"the passphrase does not open the key file"),
        ("ciphertext", "", r"the passphrase does not open the key file"),
        ("ciphertext", "A", r"ciphertext must be base64url text without padding"),
        ("extra", 1, r"protected key file must have exactly the members"),
    ],
)
def test_a_wrong_member_is_refused(
    tmp_path: Path, member: str, value: object, message: str
) -> None:
    path = protected(tmp_path, ScryptCost(n=2, r=8))
    rewrite(path, json.dumps(json.loads(path.read_text()) | {member: value}))
    with pytest.raises(CryptoError, match=message):
        load_secret(path, "test", WORDS, 99)


def test_a_cost_that_scrypt_does_not_know_is_refused() -> None:
    ScryptCost(n=2**15, r=1)
    with pytest.raises(CryptoError, match=r"n must be below 2\*\*\(16 \* r\), got 65536 with r=1"):
        ScryptCost(n=2**16, r=1)


def test_open_or_long_files_are_refused(tmp_path: Path) -> None:
    path = protected(tmp_path)
    path.chmod(0o644)
    with pytest.raises(KeyFileError, match="must be accessible by its owner only"):
        load_secret(path, "test", WORDS, 99)
    path.chmod(0o600)
    rewrite(path, path.read_text() + " " * 2000)
    with pytest.raises(KeyFileError, match="must have at most 1222 bytes"):
        load_secret(path, "test", WORDS, 99)


def test_a_paillier_key_with_a_passphrase(small_key: PrivateKey, tmp_path: Path) -> None:
    path = tmp_path / "private-key.json"
    small_key.save(path, WORDS, cost=CHEAP)
    members = json.loads(small_key.to_json())
    assert not any(members[name] in path.read_text() for name in ("p", "q"))
    again = PrivateKey.load(path, WORDS, minimum_bits=512)
    assert again.decrypt(small_key.public_key.encrypt([42])) == [42]
    with pytest.raises(KeyFileError, match="a passphrase must be given"):
        PrivateKey.load(path, minimum_bits=512)
    with pytest.raises(KeyFileError, match="the passphrase does not open the key file"):
        PrivateKey.load(path, "another", minimum_bits=512)
    with pytest.raises(CryptoError, match=r"kind must be 'identity' \(value withheld\)"):
        Identity.load(path, WORDS)
    plain = tmp_path / "plain.json"
    small_key.save(plain)
    assert plain.read_text() == small_key.to_json() + "\n"
    with pytest.raises(
        KeyFileError, match="a passphrase was given, but the key file is not protected"
    ):
        PrivateKey.load(plain, WORDS, minimum_bits=512)


def test_the_kind_is_authenticated(tmp_path: Path) -> None:
    path = protected(tmp_path, kind="other")
    rewrite(path, path.read_text().replace('"other"', '"test"'))
    with pytest.raises(KeyFileError, match="the passphrase does not open the key file"):
        load_secret(path, "test", WORDS, 99)
