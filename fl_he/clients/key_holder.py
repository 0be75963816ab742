"""Company X: publishes its public key and opens totals, and nothing but totals.

The policy is the key holder's own, never the coordinator's. A sum is opened if it belongs to the
session that it began, is packed as the policy says, comes after all rounds opened for that purpose,
is not one that was opened before, and brings a ticket of each of at least ``min_contributors``
different hospitals (see :mod:`fl_he.crypto.tickets`). With a manifest, hospitals have signed their
tickets, all were asked the same, and no total may single a hospital out (see
:mod:`fl_he.clients.set_rule`). All this is checked before the round is noted and the sum is
decrypted. Then the tags must fit, and the contributor count inside must be the claimed one. A sum
that fails there has used up its round, and the answer says no more than that it failed: what a
decryption shows must not depend on what is asked next.

Counts on held-out data are opened once in a session, and do not leave: see
:mod:`fl_he.learning.regression.disclosure`. Nor do counts of examples on the sides of a model, once
in a session and after its last round of training: what leaves is whether each is 0. Hospitals mark
both within the ciphertext, so that they pass for no other sum, and no other sum for them.

A mean of a metric that fewer than ``min_contributors`` hospitals have does not leave either. Of a
sum in which some hospitals had values that did not fit, nothing leaves but that.

What was opened is in the ledger, on the disk of a deployed key holder, and outlives its process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter

import numpy as np
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from fl_he.clients.ledger import Follows, Ledger
from fl_he.clients.node.app import NodeApp, read_node
from fl_he.clients.node.node import KeyHolderPolicy, Node, OwnKey
from fl_he.clients.node.outgoing import Answer
from fl_he.clients.node.settings import least_cell, least_contributors, whole_setting
from fl_he.clients.node.value_keys import seal_value_key
from fl_he.clients.opened_sets import OpenedSets
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.crypto.tickets.occasion import Occasion
from fl_he.crypto.tickets.opening import TicketError, opened, require_tickets, value_key_of
from fl_he.crypto.tickets.ticketed_sum import TicketedSum
from fl_he.learning.regression.disclosure import Figures, figures
from fl_he.learning.regression.evaluation import Counts
from fl_he.version import __version__
from fl_he.wire.encrypted_sum import (
    DECRYPT,
    DESCRIBE,
    RESTRICTED,
    DecryptReply,
    DecryptRequest,
    Description,
    FiguresReply,
    MisfitReply,
    Role,
)
from fl_he.wire.records import ProtocolError, kept_config, refused_as
from fl_he.wire.update_layout import (
    CONTRIBUTORS,
    EXAMPLES,
    FIRST_VALUE,
    METRIC_SLOTS,
    read_first_value,
)

_STATE = "fl-he.key-holder"
_FINGERPRINT = "fingerprint"
#: Counts of one separation: examples against a model, and on it.
_SIDES = 2


@dataclass(frozen=True, slots=True)
class Asked:
    """Question to hospitals about a sum, as company X computes it.

    Attributes
    ----------
    purpose : str
    digest : bytes of length 32
        See `fl_he.wire.occasions.asked_digest`.
    length : int
        How many numbers the sum must hold.
    """

    purpose: str
    digest: bytes
    length: int


Policy = Callable[[Context], KeyHolderPolicy]
Names = Callable[[Context], Sequence[str]]


def node_policy(context: Context) -> KeyHolderPolicy:
    """Return the policy that is the node's own."""
    return read_node(context).policy


@dataclass(frozen=True, slots=True)
class OwnPolicy(KeyHolderPolicy):
    """A policy with all that is a node's own; see :func:`own_policy`."""

    packing: Packing = field(kw_only=True)


def with_key_holder(
    app: ClientApp,
    policy: Policy = node_policy,
    features: Names = lambda _: (),
    classes: Names = lambda _: (),
) -> ClientApp:
    """Return an app that plays company X as well, on the node whose role says so.

    It encrypts nothing: that is ``encryption_mod``'s part, on the hospitals. But it refuses to let
    a reply leave that nobody has encrypted.

    Parameters
    ----------
    app : ClientApp
        The hospitals' app, with ``encryption_mod`` as its first mod.
    policy : callable
        Returns the key holder's policy on the key holder's node.
    features : callable
        Returns the feature names on a hospital's node; hospitals must agree on them.
    classes : callable
        Returns the names of more than two classes there; likewise.

    Raises
    ------
    ProtocolError
        If the app is a legacy one with a ``client_fn``.
    """
    return NodeApp.of(app, KeyHolder(policy, features, classes))


def key_holder_app(policy: Policy = node_policy) -> ClientApp:
    """Return an app for a node that is company X and nothing else.

    Parameters
    ----------
    policy : callable
        Returns the key holder's policy; the default one if it is not given.
    """
    return with_key_holder(ClientApp(), policy)


class KeyHolder:
    """The part of a node's app that describes the node, and opens sums if it is company X.

    Parameters
    ----------
    policy, features, classes : callable
        See `with_key_holder`.
    """

    def __init__(self, policy: Policy, features: Names, classes: Names) -> None:
        self._policy = policy
        self._features = features
        self._classes = classes

    def __call__(self, message: Message, node: Node, answer: Answer) -> Message:
        """Answer a message; see `fl_he.clients.node.app.Part`."""
        action = message.metadata.message_type
        if action == DESCRIBE:
            return Message(self._described(node).to_content(), reply_to=message)
        if action == DECRYPT:
            return Message(self._answered(message, node).to_content(), reply_to=message)
        return answer(message, node)

    def _described(self, node: Node) -> Description:
        description = Description(node.role, node.name, __version__, simulated=node.simulated)
        if node.role is Role.HOSPITAL:
            features, classes = self._features(node.context), self._classes(node.context)
            return replace(description, features=tuple(features), classes=tuple(classes))
        policy = own_policy(node.context, self._policy(node.context))
        key, ledger = key_and_ledger(node, policy)
        return replace(
            description,
            public_key=key.public_key.to_json(),
            session=ledger.session(node.context.run_id),
            packing=policy.packing.to_json(),
            value_keys=value_keys(node, key),
        )

    def _answered(self, message: Message, node: Node) -> DecryptReply | FiguresReply | MisfitReply:
        if node.role is not Role.KEY_HOLDER:
            raise ProtocolError("only the key holder can open a sum, and this node is a hospital")
        request = DecryptRequest.from_content(message.content)
        start = perf_counter()
        policy = own_policy(node.context, self._policy(node.context))
        total = open_sum(request, policy, node, *key_and_ledger(node, policy))
        if total is None:
            return MisfitReply()
        seconds = perf_counter() - start if node.simulated else 0.0
        if request.purpose == "figures":
            return FiguresReply(figures_of(total, policy), seconds)
        if request.purpose == "separation":
            total = some_or_none(total)
        return DecryptReply(total, seconds)


def own_policy(context: Context, policy: KeyHolderPolicy) -> OwnPolicy:
    """Return the policy with the node's own ``min-contributors`` and ``min-cell``, if any.

    A policy without a packing gets the node's own.
    """
    return OwnPolicy(
        min_contributors=least_contributors(context, policy.min_contributors),
        min_cell=least_cell(context, policy.min_cell),
        key_bits=policy.key_bits,
        packing=policy.packing or read_node(context).packing,
    )


def key_and_ledger(node: Node, policy: KeyHolderPolicy) -> tuple[PrivateKey, Ledger]:
    """Return the key and what the key holder remembers; the first call of a simulation makes it.

    Raises
    ------
    ProtocolError
        If the key file does not open, or holds another key than the manifest says.
    """
    record = kept_config(node.context.state, _STATE)
    # The fingerprint of a key that was checked before; see `PrivateKey.load`.
    known = str(record[_FINGERPRINT]) if _FINGERPRINT in record else None
    own = OwnKey(
        "private-key",
        generate=lambda: PrivateKey.generate(policy.key_bits),
        parse=lambda text: PrivateKey.from_json(text, known=known),
        load=lambda path, passphrase: PrivateKey.load(path, passphrase, known=known),
    )
    key = node.private_key(own)
    fingerprint = key.public_key.fingerprint
    if node.pinned_fingerprint not in (None, fingerprint):
        raise ProtocolError(
            "private-key in the node configuration must name the manifest's key, "
            f"{node.pinned_fingerprint}, got {fingerprint}"
        )
    record[_FINGERPRINT] = fingerprint
    limits = (whole_setting(node.context, name) for name in ("max-rounds", "max-sessions"))
    return key, Ledger(node.opened(), fingerprint, *limits)


def value_keys(node: Node, key: PrivateKey) -> dict[str, bytes]:
    """Return company X's value key, sealed to each hospital; none without a manifest."""
    if node.enrolment is None:
        return {}
    return seal_value_key(value_key_of(key), key.public_key.fingerprint, node.enrolment)


def open_sum(
    request: DecryptRequest,
    policy: OwnPolicy,
    node: Node,
    key: PrivateKey,
    ledger: Ledger,
    *,
    follows: Follows | None = None,
    asked: Asked | None = None,
    step: int | None = None,
    contributors: Sequence[str] | None = None,
) -> NDArray[np.float64] | None:
    """Decrypt a sum if the policy allows.

    Parameters
    ----------
    request : DecryptRequest
    policy : OwnPolicy
        See :func:`own_policy`.
    node : Node
    key : PrivateKey
    ledger : Ledger
    follows : pair of Purpose and int, or None
        See :meth:`Ledger.note`.
    asked : Asked or None
        Question to hospitals, where company X can compute it. ``None``: with a manifest, all
        tickets must name the same question; without, any.
    step : int or None
        The round for which hospitals made their tickets; ``None``: the request's.
    contributors : sequence of str or None
        Whose tickets there must be; ``None``: as many as the request claims.

    Returns
    -------
    ndarray or None
        The total, as long as the encrypted vector; ``None`` if some hospitals had values that did
        not fit. Then another sum may be opened for the round.

    Raises
    ------
    ProtocolError, CryptoError
        If the policy does not allow it. The module's docstring says when.
    """
    minimum = policy.min_contributors
    if not minimum <= request.contributors <= policy.packing.max_contributors:
        raise ProtocolError(
            f"a sum must have at least {minimum} and at most {policy.packing.max_contributors} "
            f"contributors, got {request.contributors} (the least is this key holder's own: where "
            "it is deployed, min-contributors in its node configuration)"
        )
    summed = TicketedSum.from_bytes(request.encrypted_sum, key.public_key)
    vector = summed.vector
    if vector.packing != policy.packing:
        raise ProtocolError(f"the packing must be {policy.packing}, got {vector.packing}")
    if len(vector) < FIRST_VALUE + METRIC_SLOTS * request.metric_values:
        raise ProtocolError(
            "a sum must hold a contributor count, a number of examples and the metrics claimed"
        )
    if asked is not None and asked.length != len(vector):
        raise ProtocolError(f"the sum must hold the {asked.length} numbers that were asked for")
    if request.metric_values and request.purpose in RESTRICTED.values():
        raise ProtocolError(f"a sum for {request.purpose} must have no metrics")
    if request.purpose == "separation" and len(vector) != FIRST_VALUE + _SIDES:
        raise ProtocolError(f"a sum for a separation must hold {_SIDES} counts and nothing else")
    if contributors is not None and sorted(contributors) != sorted(summed.contributors):
        raise TicketError
    if len(summed.tickets) != request.contributors:
        raise ProtocolError(
            f"the sum must hold the {request.contributors} contributors claimed, and it has "
            f"{len(summed.tickets)} tickets"
        )
    occasion = Occasion(
        key.public_key.fingerprint,
        request.session,
        request.purpose if asked is None else asked.purpose,
        request.round if step is None else step,
        summed.tickets[0].asked if asked is None else asked.digest,
        policy.packing,
        len(vector),
        request.metric_values,
    )
    enrolment = node.enrolment

    def check() -> None:
        # An app without a manifest may tell each hospital something else.
        same = asked is not None or enrolment is not None
        verify = None if enrolment is None else enrolment.verifies
        require_tickets(summed, occasion, verify, same=same)
        if enrolment is not None:
            OpenedSets(node.opened_sets()).require(summed.tickets, minimum)

    ledger.note(request, follows, check)
    claimed = request.contributors * (-1 if request.purpose in RESTRICTED.values() else 1)
    value_key = None if enrolment is None else value_key_of(key)
    total = policy.packing.decode(opened(summed, key, occasion, value_key))
    first = read_first_value(float(total[CONTRIBUTORS]), policy.packing)
    if first is None or first[0] != claimed:
        raise ProtocolError(
            f"the sum must hold the {request.contributors} contributors claimed, and it does not"
        )
    if first[1]:
        ledger.discard(request)
        return None
    return with_metric_means(total, request.metric_values, minimum)


def with_metric_means(
    total: NDArray[np.float64], metric_values: int, minimum: int
) -> NDArray[np.float64]:
    """Return a total with means and the weight 1 in place of its metrics' sums and weights.

    The weights would tell how many examples the hospitals have that lack a metric. A metric that
    fewer hospitals than `minimum` have gets the weight and the mean 0: its mean could be one
    hospital's. See :mod:`fl_he.wire.update_layout`.

    Examples
    --------
    >>> total = np.array([4.0, 70.0, 4.0, 70.0, 35.0])  # 4 hospitals, 70 examples, one metric
    >>> with_metric_means(total, 1, 3).tolist()
    [4.0, 70.0, 4.0, 1.0, 0.5]
    >>> with_metric_means(np.array([4.0, 70.0, 2.0, 30.0, 15.0]), 1, 3).tolist()
    [4.0, 70.0, 2.0, 0.0, 0.0]
    """
    start = len(total) - METRIC_SLOTS * metric_values
    counts, weights, sums = total[start:].reshape(METRIC_SLOTS, metric_values)
    enough = (counts >= minimum) & (weights > 0)
    means = np.divide(sums, weights, out=np.zeros_like(sums), where=enough)
    return np.concatenate([total[:start], counts, enough, means])


def figures_of(total: NDArray[np.float64], policy: KeyHolderPolicy) -> Figures:
    """Return what may leave of a total of hospitals' counts, by the policy's ``min_cell``.

    Raises
    ------
    ProtocolError
        If the total is no counts, or of fewer patients than ``min_cell``.
    """
    with refused_as("the hospitals'"):
        counts = Counts.of_vector(total[FIRST_VALUE:])
        if total[EXAMPLES] != counts.examples:
            raise ProtocolError("counts must be of all held-out examples, and they are not")
        return figures(counts, policy.min_cell)


def some_or_none(total: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what may leave of a total of counts: 1 for each that is not 0."""
    some = np.rint(total[FIRST_VALUE:]) != 0.0
    return np.array([-total[CONTRIBUTORS], total[EXAMPLES], *some], dtype=np.float64)
