"""The coordinator's side: who takes part, how ciphertexts are summed, what follows from a total.

Start with ``encrypted_sum``, the strategy that wraps another; ``update_sum`` and ``opened_sum``
are its two halves. ``gradient_descent`` is an inner strategy. The coordinator never has a private
key.

skipping             skip a hospital: which replies are errors, and how that is noted
exchange             send messages, take one reply to each
dropouts             how long nodes are waited for; hospitals that are missing from a sum
grid                 grids in front of Flower's: for hospitals only, and to time each hop
descriptions         ask nodes to describe themselves, compare hospitals' features
roster               the nodes of a run: take in, drop, ask company X
pairing              carry the seeds of pairwise masks between hospitals
roll_call            discover nodes until all that a run needs are there
mean_only            which strategies can be wrapped
opened_sum           one sum: finished, opened by company X, read as a mean
update_sum           running sum of the hospitals' encrypted updates, by fold or chain
total_chain          totals that hospitals compute the model by, and who has them
made_sums            sums one after another: made or resumed, opened, noted
encrypted_sum        the strategy that wraps another
gradient_descent     gradient descent for apps that send fl-he's models by themselves
sealed               the sealed chain, which routes envelopes
"""

from fl_he.strategies.encrypted_sum import EncryptedSum, SequentialPaillier
from fl_he.strategies.gradient_descent import GradientDescent

__all__ = ["EncryptedSum", "GradientDescent", "SequentialPaillier"]
