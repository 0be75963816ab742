"""The server's side of fl-he.

Modules, in the order in which they import each other:

exchange             messages out, replies in
grid                 grids in front of Flower's
hop_watch            one that tells of each message and its answer
roster               which nodes take part
mean_only            which strategies can be wrapped
skipped              who is missing in a round
topologies           fold and chain
update_sum           what is summed of updates
unopened_sum         a sum before company X has opened it
encrypted_sum        and after
sequential_paillier  the wrapper
gradient_descent     what to do with a gradient
preparation          sums before the first round
pooled_figures       sums of counts after the last
sealed_progress      where a sealed chain stands
sealed_members       who takes part in it
sealed_chain         the coordinator's part: it routes envelopes
capc_steps           one step of CaPC
capc_roster          who takes part in it
capc_votes           what is summed of votes
capc                 all of its steps
"""

from fl_he.strategies.gradient_descent import GradientDescent
from fl_he.strategies.sequential_paillier import SequentialPaillier

__all__ = ["GradientDescent", "SequentialPaillier"]
