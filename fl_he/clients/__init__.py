"""The client's side of fl-he; modules in the order in which they import each other.

``node`` (who this node is), ``refusal`` (errors that may leave a node), ``encryption`` (the mod
that encrypts), ``key_holder`` (company X), ``hospital`` (plain logistic learning).
"""

from fl_he.clients.encryption import EncryptionMod, encryption_mod
from fl_he.clients.key_holder import KeyHolderPolicy, key_holder_app, with_key_holder

__all__ = [
    "EncryptionMod",
    "KeyHolderPolicy",
    "encryption_mod",
    "key_holder_app",
    "with_key_holder",
]
