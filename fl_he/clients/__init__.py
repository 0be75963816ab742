"""The client's side of fl-he; modules in the order in which they import each other.

``setting`` (one setting of a node's configuration), ``node_config`` (which there are), ``node``
(who this node is), ``enrolment`` (its manifest and its identity), ``pin`` (the one key it works
with), ``refusal`` (errors that may leave a node), ``wrapped_app`` (an app in front of another),
``encryption`` (the mod that encrypts), ``guard`` (the last look at what leaves),
``private_key_file``, ``ledger``, ``ledger_file`` and ``key_holder`` (company X, its key and what it
has opened), ``privacy_ledger``, ``privacy_settings`` and ``private_release`` (differential privacy:
what was released, the node's own terms, and the gate), ``deployment`` (what a deployed node checks
first), ``hospital`` (plain logistic learning),
``sealed_payload`` (what is inside the envelopes of a sealed chain), ``sealed_state`` (what a
hospital remembers of it), ``sealed_model`` (the model that it keeps), ``sealed_hospital`` and
``sealed_key_holder`` (their halves), ``sealed_chain`` (the app that takes part in it). Of CaPC:
``capc_keys``, ``capc_memory`` and ``capc_party`` (what a node has), ``capc_budget`` (what its
patients' budget was spent on), ``capc_querying``, ``capc_answering`` and ``capc_guardian`` (the
parts), ``capc_envelopes`` (how a deployed node's parts travel), ``capc_deployed`` (what it has on
its disk), ``capc`` (the app that takes part in it).
"""

from fl_he.clients.encryption import EncryptionMod, encryption_mod
from fl_he.clients.key_holder import KeyHolderPolicy, key_holder_app, with_key_holder
from fl_he.clients.sealed_chain import with_sealed_chain

__all__ = [
    "EncryptionMod",
    "KeyHolderPolicy",
    "encryption_mod",
    "key_holder_app",
    "with_key_holder",
    "with_sealed_chain",
]
