"""fl-he: encrypted aggregation for Flower.

Hospitals train one model; their updates travel encrypted, are summed under encryption, and only
company X can open the sum. The public names are loaded when they are first used, so that
a client does not pay for the server's imports.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fl_he.version import __version__

if TYPE_CHECKING:
    from fl_he.clients import encryption_mod, hospital_partition, with_key_holder
    from fl_he.crypto.paillier.encrypted_vector import EncryptedVector
    from fl_he.crypto.paillier.packing import Packing
    from fl_he.crypto.paillier.private_key import PrivateKey
    from fl_he.crypto.paillier.public_key import PublicKey
    from fl_he.strategies import EncryptedSum, GradientDescent, SequentialPaillier

_HOMES = {
    "encryption_mod": "fl_he.clients.encryption",
    "hospital_partition": "fl_he.clients.node.app",
    "with_key_holder": "fl_he.clients.key_holder",
    "EncryptedSum": "fl_he.strategies.encrypted_sum",
    "SequentialPaillier": "fl_he.strategies.encrypted_sum",
    "GradientDescent": "fl_he.strategies.gradient_descent",
    "EncryptedVector": "fl_he.crypto.paillier.encrypted_vector",
    "Packing": "fl_he.crypto.paillier.packing",
    "PrivateKey": "fl_he.crypto.paillier.private_key",
    "PublicKey": "fl_he.crypto.paillier.public_key",
}

__all__ = [
    "EncryptedSum",
    "EncryptedVector",
    "GradientDescent",
    "Packing",
    "PrivateKey",
    "PublicKey",
    "SequentialPaillier",
    "__version__",
    "encryption_mod",
    "hospital_partition",
    "with_key_holder",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
