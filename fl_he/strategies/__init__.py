"""The server's side of fl-he; modules in the order in which they import each other.

``exchange`` (messages out, replies in), ``grid`` (grids in front of Flower's), ``roster`` (which
nodes take part), ``mean_only`` (which strategies can be wrapped), ``skipped`` (who is missing in a
round), ``topologies`` (fold and chain), ``update_sum`` (what is summed of updates),
``unopened_sum`` and ``encrypted_sum`` (a sum before and after company X has opened it),
``sequential_paillier`` (the wrapper), ``gradient_descent`` (what to do with a gradient). Of CaPC:
``capc_steps`` (one step), ``capc_votes`` (what is summed of votes), ``capc`` (all of them).
"""

from fl_he.strategies.gradient_descent import GradientDescent
from fl_he.strategies.sequential_paillier import SequentialPaillier

__all__ = ["GradientDescent", "SequentialPaillier"]
