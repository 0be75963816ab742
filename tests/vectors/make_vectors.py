"""Make crypto.json, the fixed vectors of the crypto layer: ``python make_vectors.py``.

The keys are in this file and so public: for tests only. Paillier's and DGK's numbers are
computed with plain ``pow``, so that they are independent of the code under test; envelope and
protected file are made by it, once, and stand for what later versions must still open.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from identities import COMPANY, EAST, NORTH, SOUTH
from small_keys import SMALL, SMALL_DGK

from fl_he.crypto.envelopes.manifest import Manifest
from fl_he.crypto.envelopes.sealing import Binding, seal
from fl_he.crypto.key_files import ScryptCost, save_secret
from fl_he.crypto.paillier.packing import Packing

FILE = Path(__file__).with_name("crypto.json")
#: A 2048-bit TEST key: p, q and x. Never use it.
TEST_2048 = (
    int(
        "C9CC99F29CD22ADFF8E759A59D60FD17ADFE90F5357109A7307DB5E17E86F7BCF0A80F25DE3D2A5D39DF44BA"
        "1116B893E34F7487C790DBBF3675EC3D77414339F47F9EFE90CE66D695346CC11E22D20035C8EF64669F3D83"
        "8C83EC46CB0B1467C96BA720D4D4483AB1655739FC409C4D06E17E55A8B4627F6312EFDCF1593D37",
        16,
    ),
    int(
        "FA13993E8D949756029718E7D23A97EEC929D67690F2C79F12AA550664E0A64CDF6BEA0178D0B381A388A430"
        "E03B19ED0FF9CACBC71525559F2E806013A4F7510B8B296249EBA9819C6AD24EBB5DEE609B6C4D86772B9268"
        "CFB7835FB040F5E67C0091513DA7D610B1D01C284224BB2F413C452415BFA1AD414B8F0567C47B03",
        16,
    ),
    0x9E3779B97F4A7C15,
)
PASSPHRASE = "a pass phrase with an é"  # noqa: S105 - of a test file
VALUES = [0.0, 1.0, -1.0, 0.5, -(2.0**-24), 2.0**23, -12345.678]


def paillier(p: int, q: int, x: int) -> dict[str, Any]:
    """Return a key, obfuscators, ciphertexts, and a packed vector of `VALUES`, all by pow."""
    n = p * q
    square = n * n
    h_s = pow(-x * x % n, n, square)
    exponents = [3, 2**64 + 13, 2 ** (n.bit_length() // 2) - 1]
    plaintexts = [0, 1, -1, 2**100, -(2**100), n // 2, -(n // 2)]
    masks = [pow(h_s, r, square) for r in exponents]
    ciphertexts = [
        (1 + n * (m % n)) * masks[i % len(masks)] % square for i, m in enumerate(plaintexts)
    ]
    packing = Packing()
    slots = (n.bit_length() - 1) // packing.slot_bits
    integers = [round(value * 2**packing.fraction_bits) for value in VALUES]
    body = b""
    for start in range(0, len(integers), slots):
        plaintext = sum(
            number << (packing.slot_bits * place)
            for place, number in enumerate(integers[start : start + slots])
        )
        ciphertext = (1 + n * (plaintext % n)) * masks[0] % square
        body += ciphertext.to_bytes(-(-2 * n.bit_length() // 8), "big")
    return {
        "p": f"{p:x}",
        "q": f"{q:x}",
        "n": f"{n:x}",
        "h_s": f"{h_s:x}",
        "exponents": [f"{r:x}" for r in exponents],
        "obfuscators": [f"{mask:x}" for mask in masks],
        "plaintexts": [str(m) for m in plaintexts],
        "ciphertexts": [f"{c:x}" for c in ciphertexts],
        "values": VALUES,
        "vector_body": body.hex(),
    }


def dgk() -> dict[str, Any]:
    """Return DGK ciphertexts of 0, 1 and 256, by pow."""
    k = SMALL_DGK
    n = k["p"] * k["q"]
    exponents = [5, 2**400 + 1, 2**300]
    plaintexts = [0, 1, 256]
    ciphertexts = [
        pow(k["g"], m, n) * pow(k["h"], r, n) % n
        for m, r in zip(plaintexts, exponents, strict=True)
    ]
    return {
        "exponents": [f"{r:x}" for r in exponents],
        "plaintexts": plaintexts,
        "ciphertexts": [f"{c:x}" for c in ciphertexts],
    }


def sealed() -> dict[str, Any]:
    """Return an envelope from north to south, and the manifest of four test identities."""
    binding = Binding("run-1", "running-sum", 3, 1, ("north",))
    nodes = tuple(node.public for node in (NORTH, SOUTH, EAST, COMPANY))
    manifest = Manifest(nodes, ("cd" * 32, "ab" * 32))
    return {
        "binding": binding.to_bytes().hex(),
        "payload": "the payload",
        "envelope": seal(b"the payload", NORTH, SOUTH.public, binding).hex(),
        "manifest": manifest.to_json(),
        "manifest_fingerprint": manifest.fingerprint,
    }


def protected() -> str:
    """Return a protected key file's text."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        save_secret(path, "the secret", "test", PASSPHRASE, ScryptCost(n=4, r=2))
        return path.read_text()


def main() -> None:
    """Write the file anew."""
    vectors = {
        "warning": "TEST KEYS, public by being here: never use them",
        "paillier": {"512": paillier(*SMALL), "2048": paillier(*TEST_2048)},
        "dgk": dgk(),
        "sealed": sealed(),
        "protected_file": protected(),
    }
    FILE.write_text(json.dumps(vectors, indent=1) + "\n")


if __name__ == "__main__":
    main()
