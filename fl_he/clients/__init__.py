"""The client's side of fl-he.

Modules, in the order in which they import each other:

setting            one setting of a node's configuration
node_config        which there are, and of what kind
node               who this node is
enrolment          its manifest and its identity
pin                the one key it works with
refusal            errors that may leave a node
wrapped_app        an app in front of another
encryption         the mod that encrypts
guard              the last look at what leaves
private_key_file   private keys on a node's disk
ledger             what company X remembers
ledger_file        a file for it that only grows
key_holder         company X: publishes its key and opens totals
privacy_ledger     what a hospital has released under differential privacy
privacy_settings   the node's own terms of it
private_release    the gate through which such sums leave
deployment         what a deployed node checks first
hospital_moments   a hospital's sums over its rows
clipping           what it sums up under differential privacy
hospital           plain logistic learning
sealed_payload     what is inside the envelopes of a sealed chain
sealed_state       what a hospital remembers of one
sealed_model       the model that it keeps
sealed_hospital    its half
sealed_key_holder  company X's half
sealed_chain       the app that takes part in one
capc_memory        what a node remembers between two steps of CaPC
capc_party         what it brings along
capc_keys          its keys
capc_budget        what its patients' budget was spent on
capc_querying      the querying party's steps
capc_answering     the answering party's
capc_guardian      the privacy guardian's
capc_envelopes     how a deployed node's parts travel
capc_deployed      what it has on its disk
capc               the app that takes part in CaPC
"""

from fl_he.clients.encryption import EncryptionMod, encryption_mod
from fl_he.clients.key_holder import KeyHolderPolicy, key_holder_app, with_key_holder
from fl_he.clients.sealed.app import with_sealed_chain

__all__ = [
    "EncryptionMod",
    "KeyHolderPolicy",
    "encryption_mod",
    "key_holder_app",
    "with_key_holder",
    "with_sealed_chain",
]
