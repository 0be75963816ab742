"""Private keys on disk: files of mode 0600, optionally encrypted under a passphrase.

scrypt makes the key, an AEAD encrypts the text of the file.
"""

from __future__ import annotations

import os
import secrets
import stat
import unicodedata
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, NoReturn, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from fl_he.atomic import write_new
from fl_he.crypto.encoding.canonical import encode_fields
from fl_he.crypto.encoding.fields import between, check_fields, constant, form_of
from fl_he.crypto.encoding.strict_json import Document, base64url
from fl_he.crypto.errors import CryptoError, KeyFileError

_FORMAT = "fl-he protected key file 1"
_MARK = '"fl-he protected key file'  # of any version; no plain key file has it in its text
_KDF, _CIPHER = "scrypt", "ChaCha20-Poly1305"
_SALT_BYTES, _NONCE_BYTES, _KEY_BYTES = 32, 12, 32
_MAXIMUM_WORK = 2**27  # bytes that scrypt writes: what the default needs, in a second


@dataclass(frozen=True, slots=True)
class ScryptCost:
    """Cost of one guess of the passphrase (scrypt's parameters, RFC 7914, section 2).

    The default, 128 MiB and half a second to a second, is OWASP's recommendation (Password Storage
    Cheat Sheet).

    Parameters
    ----------
    n : int
        Cost, a power of 2 of at least 2 and below ``2**(16 * r)``.
    r : int
        Block size, at least 1.
    p : int
        Parallelisation, at least 1.

    Raises
    ------
    CryptoError
        If one of them is out of range, or ``128 * n * r * p`` is above 128 MiB, the default: a
        hostile file must not cost more than ours. Whoever raises the one raises the other.
    """

    n: Annotated[int, between(2, _MAXIMUM_WORK)] = 2**17
    r: Annotated[int, between(1, _MAXIMUM_WORK)] = 8
    p: Annotated[int, between(1, _MAXIMUM_WORK)] = 1

    def __post_init__(self) -> None:
        check_fields(self)
        if self.n & (self.n - 1):
            raise CryptoError(f"scrypt's n must be a power of 2, got {self.n}")
        if self.n.bit_length() > 16 * self.r:
            raise CryptoError(f"scrypt's n must be below 2**(16 * r), got {self.n} with r={self.r}")
        work = 128 * self.n * self.r * self.p
        if work > _MAXIMUM_WORK:
            raise CryptoError(f"scrypt must write at most {_MAXIMUM_WORK} bytes, got {work}")


DEFAULT_COST = ScryptCost()


def save_secret(path: Path, text: str, kind: str, passphrase: str | None, cost: ScryptCost) -> None:
    """Write a secret to a new file of mode 0600, which appears whole or not at all.

    Parameters
    ----------
    path : Path
        Where no file is yet, on a file system with hard links.
    text : str
        The secret, ASCII.
    kind : str
        What the secret is, so that one file cannot take the place of another.
    passphrase : str or None
        With one, the text is encrypted; without, it is written as it is.
    cost : ScryptCost
        Only tests have a reason to change it.

    Raises
    ------
    CryptoError
        If the passphrase is empty.
    KeyFileError
        If the file exists already.
    OSError
        If it cannot be written.
    """
    if passphrase is not None:
        text = _protect(text, kind, passphrase, cost)
    try:
        write_new(path, f"{text}\n".encode("ascii"), 0o600)
    except FileExistsError:
        raise KeyFileError(f"a key file must not replace another file, got {path}") from None


class Uncopied:
    """Base of private numbers, which must be in no pickle."""

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private key must not be copied or pickled")


class Secret(Uncopied):
    """Base of private keys that are kept in files."""

    __slots__ = ()
    KIND: ClassVar[str]  # see `save_secret`
    DOCUMENT: ClassVar[Document]

    def to_json(self) -> str:
        """Return the key as JSON text, which is secret."""
        raise NotImplementedError

    @classmethod
    def from_json(cls, *text: Any, **options: Any) -> Self:
        """Read what `to_json` returned.

        Raises
        ------
        CryptoError
            If the text is not exactly such a key. It shows nothing of the text.
        """
        raise NotImplementedError

    def save(
        self, path: Path, passphrase: str | None = None, *, cost: ScryptCost = DEFAULT_COST
    ) -> None:
        """Write the key to a new file that only its owner may read; see `save_secret`."""
        save_secret(path, self.to_json(), self.KIND, passphrase, cost)

    @classmethod
    def load(cls, path: Path, passphrase: str | None = None, **options: Any) -> Self:
        """Read what `save` wrote, with the options of `from_json`; see `load_secret`."""
        text = load_secret(path, cls.KIND, passphrase, cls.DOCUMENT.limit)
        return cls.from_json(text, **options)


def load_secret(path: Path, kind: str, passphrase: str | None, limit: int) -> str:
    """Read what `save_secret` wrote.

    Parameters
    ----------
    path : Path
        The file.
    kind : str
        What the secret must be.
    passphrase : str or None
        The passphrase if the file has one.
    limit : int
        Longest accepted secret in bytes.

    Raises
    ------
    KeyFileError
        If the file is refused by `read_key_bytes`, has a passphrase and none is given, has none
        and one is given, or has another one. The second guards against a file that was put in
        the place of the protected one.
    CryptoError
        If the file is malformed.
    OSError
        If it cannot be read.
    """
    text = read_key_bytes(path, 2 * limit + 1024).decode("ascii", errors="replace")
    if _MARK not in text:
        if passphrase is not None:
            raise KeyFileError(
                f"a passphrase was given, but the key file is not protected by one: {path}"
            )
        return text
    if passphrase is None:
        raise KeyFileError(f"the key file is protected: a passphrase must be given for {path}")
    return _unprotect(text, kind, passphrase, 2 * limit + 1024)


def _protect(text: str, kind: str, passphrase: str, cost: ScryptCost) -> str:
    salt, nonce = secrets.token_bytes(_SALT_BYTES), secrets.token_bytes(_NONCE_BYTES)
    cipher = ChaCha20Poly1305(_key(passphrase, salt, cost))
    ciphertext = cipher.encrypt(nonce, text.encode("ascii"), _associated_data(kind, salt, cost))
    return _document(kind, 0).dumps(cost, salt=salt, nonce=nonce, ciphertext=ciphertext)


def _unprotect(text: str, kind: str, passphrase: str, limit: int) -> str:
    def decrypt(n: int, r: int, p: int, *members: bytes) -> bytes:
        cost, (salt, nonce, ciphertext) = ScryptCost(n, r, p), members
        cipher = ChaCha20Poly1305(_key(passphrase, salt, cost))
        return cipher.decrypt(nonce, ciphertext, _associated_data(kind, salt, cost))

    try:
        return _document(kind, limit).loads(text, decrypt).decode("ascii")
    except InvalidTag:
        raise KeyFileError("the passphrase does not open the key file") from None


def _document(kind: str, limit: int) -> Document:
    return Document(
        "protected key file",
        {
            "format": constant(_FORMAT),
            "kind": constant(kind),
            "kdf": constant(_KDF),
            **form_of(ScryptCost).members,
            "salt": base64url(_SALT_BYTES),
            "cipher": constant(_CIPHER),
            "nonce": base64url(_NONCE_BYTES),
            "ciphertext": base64url(),
        },
        limit,
    )


def _key(passphrase: str, salt: bytes, cost: ScryptCost) -> bytes:
    if not passphrase:
        raise CryptoError("a passphrase must not be empty")
    # NFC as in RFC 8265, section 4.2.2: an accented letter is typed as one code point here and as
    # two there. Surrogates stand for bytes of the environment that are not UTF-8.
    secret = unicodedata.normalize("NFC", passphrase).encode("utf-8", "surrogatepass")
    return Scrypt(salt=salt, length=_KEY_BYTES, n=cost.n, r=cost.r, p=cost.p).derive(secret)


def _associated_data(kind: str, salt: bytes, cost: ScryptCost) -> bytes:
    numbers = (number.to_bytes(8, "big") for number in (cost.n, cost.r, cost.p))
    return encode_fields(_FORMAT.encode(), kind.encode(), _KDF.encode(), *numbers, salt)


def not_private(status: os.stat_result) -> str | None:
    """Return what a file that only its owner may touch must be, and what this one is instead."""
    if not stat.S_ISREG(status.st_mode):
        return f"a regular file, got type {stat.filemode(status.st_mode)[0]!r}"
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        mode = stat.S_IMODE(status.st_mode)
        return f"accessible by its owner only (chmod 600), got mode {mode:o}"
    return None


def read_key_bytes(path: Path, limit: int) -> bytes:
    """Read a file that only its owner may touch.

    Parameters
    ----------
    path : Path
        The file.
    limit : int
        Largest accepted number of bytes.

    Returns
    -------
    bytes
        Its content.

    Raises
    ------
    KeyFileError
        If it is not a regular file, is too long, or others than its owner may touch it.
    OSError
        If it cannot be read.
    """
    # O_NONBLOCK: opening a named pipe must not wait for somebody to write.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if (problem := not_private(status)) is not None:
            raise KeyFileError(f"a key file must be {problem} of {path}")
        if status.st_size > limit:
            raise KeyFileError(
                f"a key file must have at most {limit} bytes, got {status.st_size} of {path}"
            )
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(limit)
    finally:
        os.close(descriptor)


_LIMIT = 1024  # bytes


def read_passphrase_file(path: Path) -> str:
    """Return the first line of a file that only its owner may touch, without its line end.

    Raises
    ------
    KeyFileError
        If others may touch it, it is too long or empty, or it is not UTF-8.
    OSError
        If it cannot be read.
    """
    data = read_key_bytes(path, _LIMIT)
    text: str | None = None
    with suppress(UnicodeDecodeError):  # it holds what was read, so nothing is raised from it
        text = data.decode("utf-8")
    if text is None:
        raise KeyFileError(f"a passphrase file must be UTF-8 text: {path}")
    passphrase = text.partition("\n")[0].removesuffix("\r")
    if not passphrase:
        raise KeyFileError(f"the first line of {path} is empty: it must be the passphrase")
    return passphrase
