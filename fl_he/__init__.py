"""fl-he: encrypted aggregation for Flower.

Hospitals train one model; their updates travel Paillier-encrypted, are summed under encryption,
and only company X can open the sum. The public names are loaded when they are first used, so that
a client does not pay for the server's imports.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "encryption_mod": "fl_he.clients.encryption",
    "with_key_holder": "fl_he.clients.key_holder",
    "SequentialPaillier": "fl_he.strategies.sequential_paillier",
    "GradientDescent": "fl_he.strategies.gradient_descent",
    "EncryptedVector": "fl_he.crypto.encrypted_vector",
    "Packing": "fl_he.crypto.packing",
    "PrivateKey": "fl_he.crypto.private_key",
    "PublicKey": "fl_he.crypto.public_key",
}

__all__ = [*_HOMES, "__version__"]  # noqa: PLE0604 - the keys are strings


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
