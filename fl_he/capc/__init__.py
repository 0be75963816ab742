"""CaPC, the label protocol: parties with different models label each other's queries.

Start with ``protocol``, the table of the steps, which nodes, coordinator and envelopes all read.
Then ``node``, whose files ``querying``, ``answering`` and ``guardian`` have one function for each
step, and ``coordinator``, which carries the parts from node to node and never has a private key.
``data``, ``simulation`` and ``plain`` are for studies on one machine. docs/capc.md says in words
what each step does and who learns what.

protocol     steps, roles and parts, as one table
messages     one form of request and one of reply
terms        what the steps have to know of an agreement, in a simulation or deployed
agreement    the file that parties of a deployed CaPC agree on
networks     networks in files without pickle, for deployed nodes and for runs
coordinator  the coordinator's side: who takes part, whose turn it is, what goes where
all_labels   batches of a run with several labels, and one result from those of all labels
run          a run: one querying party after another, the budget, the run's files
node         a node's side: the step functions, keys, envelopes, the ledger of budgets
data         data of a simulated run: each party's own, pools to ask about, a test set
simulation   a simulated node's part in CaPC
plain        the same votes in one process, without encryption
"""

from fl_he.capc.networks import save_network
from fl_he.learning.voting.answering import Layer
from fl_he.learning.voting.layers import Convolution
from fl_he.learning.voting.sequential import Residual

__all__ = ["Convolution", "Layer", "Residual", "save_network"]
