"""A node's side of fl-he: what hospitals and company X do with the messages that they get.

Read `node` first, which says who a node is and what may leave it; then `encryption`, the mod that
encrypts a hospital's replies, and `key_holder`, which opens their sums. `hospital` is the learning
itself, `private_release` the gate of differential privacy, and `totals` how models follow from
totals, sealed or in the open.

Modules and folders, in the order in which they import each other:

clipping         clipped sums of bounded sensitivity for differential privacy
set_rule         sets of hospitals whose totals may be opened together
known_identities  whether the hospitals of a manifest are those of opened sets
row_rule         tables whose totals may be told, by their rows
row_sums         a hospital's sums over its rows, as digits
held_out         a hospital's counts of the patients that it holds out
hospital         learning on a hospital's own data
table_cells      a hospital's cells of a table of descriptive statistics
blank_replies    replies of a hospital without patients
stores           places of lines and texts that a node keeps
ledger           company X's sessions and opened sums
overviews        sessions as company X's ledger tells of them
state_store      ledgers and texts of a simulated node
opened_sets      company X's memory of the sets whose sums it may have
pair_memory      a hospital's seeds of pairwise masks, its set and what it has answered
ledger_file      a file for a ledger, which only grows
run_keys         company X's key of each session
plan_ledger      a node's sums under its study plans
privacy_ledger   a hospital's releases under differential privacy
node             who this node is, and what may leave it
pairing          exchange of the seeds of pairwise masks
encryption       the mod that encrypts
given_out        the part of a total that leaves company X
opening          company X opens a sum if its policy allows
key_holder       company X: publishes its key and opens totals
describing       tables of descriptive statistics on a node
private_release  release of updates under differential privacy
totals           models from totals, sealed or in the open
"""

from fl_he.clients.encryption import EncryptionMod, encryption_mod
from fl_he.clients.key_holder import key_holder_app, with_key_holder
from fl_he.clients.node.app import hospital_partition
from fl_he.clients.node.node import KeyHolderPolicy
from fl_he.clients.totals.app import with_sealed_chain

__all__ = [
    "EncryptionMod",
    "KeyHolderPolicy",
    "encryption_mod",
    "hospital_partition",
    "key_holder_app",
    "with_key_holder",
    "with_sealed_chain",
]
