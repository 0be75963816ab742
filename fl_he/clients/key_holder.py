"""Company X: publishes its public key and opens totals, and only totals.

The policy is company X's own, never the coordinator's. A sum is opened if it belongs to the
session that it began, is packed as the policy says, comes after all rounds opened for that purpose,
is not one that was opened before, and brings a ticket of each of at least ``min_contributors``
different hospitals (see :mod:`fl_he.crypto.tickets`). With a manifest, hospitals have signed their
tickets, all were asked the same, and no total may single a hospital out (see
:mod:`fl_he.clients.set_rule`). All this is checked before the round is noted and the sum is
decrypted. Then the tags must fit, and the contributor count inside must be the claimed one. A sum
that fails there has used up its round, and the answer says no more than that it failed: what a
decryption shows must not depend on what is asked next.

Counts on held-out data are opened once in a session, and do not leave: see
:mod:`fl_he.learning.regression.disclosure`. Sums that compare hospitals leave as far as
:mod:`fl_he.clients.given_out` says. Nor do counts of examples on the sides of a model, once
in a session and after its last round of training: what leaves is whether each is 0. Hospitals mark
both within the ciphertext, so that they pass for no other sum, and no other sum for them.

A mean of a metric that fewer than ``min_contributors`` hospitals have does not leave either. If at
some hospitals the app failed, or a value did not fit, nothing leaves but that.

What was opened is in the ledger, on the disk of a deployed company X, and outlives its process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from time import perf_counter

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fl_he.clients.given_out import figures_of, some_or_none
from fl_he.clients.node.app import NodeApp, read_node
from fl_he.clients.node.node import KeyHolderPolicy, Node
from fl_he.clients.node.outgoing import Answer
from fl_he.clients.node.settings import accepted_schemes
from fl_he.clients.opening import Opener
from fl_he.clients.pairing import answer_pairing, own_identity
from fl_he.version import __version__
from fl_he.wire.encrypted_sum import (
    DECRYPT,
    DESCRIBE,
    END,
    DecryptReply,
    DecryptRequest,
    DescribeRequest,
    Description,
    EndRequest,
    FiguresReply,
    MisfitReply,
    Role,
)
from fl_he.wire.permission import PERMIT, PermitRequest
from fl_he.wire.records import ProtocolError

Policy = Callable[[Context], KeyHolderPolicy]
Names = Callable[[Context], Sequence[str]]


def node_policy(context: Context) -> KeyHolderPolicy:
    """Return the policy that is the node's own."""
    return read_node(context).policy


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
        Returns company X's policy on company X's node.
    features : callable
        Returns the feature names on a hospital's node; hospitals must agree on them.
    classes : callable
        Returns the names of more than two classes there; likewise.

    Raises
    ------
    ProtocolError
        If the app is a legacy one with a ``client_fn``.

    Examples
    --------
    >>> from fl_he import encryption_mod, with_key_holder
    >>> app = with_key_holder(ClientApp(mods=[encryption_mod]))
    >>> isinstance(app, ClientApp)
    True
    """
    return NodeApp.of(NodeApp.of(app, answer_pairing), KeyHolder(policy, features, classes))


def key_holder_app(policy: Policy = node_policy) -> ClientApp:
    """Return an app for a node that is company X and nothing else.

    Parameters
    ----------
    policy : callable
        Returns company X's policy; the default one if it is not given.
    """
    return with_key_holder(ClientApp(), policy)


class KeyHolder:
    """The part of a node's app that describes the node, and opens sums if it is company X.

    Parameters
    ----------
    policy, features, classes : callable
        See `with_key_holder`.
    family : callable
        Returns the family of an outcome that is a number, on a hospital's node; hospitals must
        agree on it.
    exposure : callable
        Returns the name of the column of exposures; likewise.
    imputed : callable
        Returns the names of a hospital's columns whose missing cells get the mean of all
        hospitals' cells; likewise.
    """

    def __init__(
        self,
        policy: Policy,
        features: Names,
        classes: Names,
        family: Callable[[Context], str] = lambda _: "",
        imputed: Names = lambda _: (),
        *,
        exposure: Callable[[Context], str] = lambda _: "",
    ) -> None:
        self._policy = policy
        self._imputed = imputed
        self._features = features
        self._classes = classes
        self._family, self._exposure = family, exposure

    def __call__(self, message: Message, node: Node, answer: Answer) -> Message:
        """Answer a message; see `fl_he.clients.node.app.Part`."""
        action = message.metadata.message_type
        if action == DESCRIBE:
            asked = DescribeRequest.from_content(message.content)
            return Message(self._described(node, asked).to_content(), reply_to=message)
        if action == DECRYPT:
            return Message(self._answered(message, node).to_content(), reply_to=message)
        if action == PERMIT:
            if node.role is not Role.KEY_HOLDER:
                raise ProtocolError(f"{PERMIT!r} must go to company X, and this node is a hospital")
            asked_set = PermitRequest.from_content(message.content)
            policy = self._policy(node.context)
            Opener.of(node, policy, asked_set.session).permit(asked_set)
            return Message(RecordDict(), reply_to=message)
        if action == END:
            _end(EndRequest.from_content(message.content), node)
            return Message(RecordDict(), reply_to=message)
        return answer(message, node)

    def _described(self, node: Node, asked: DescribeRequest) -> Description:
        description = Description(
            *(node.role, node.name, __version__),
            simulated=node.simulated,
            schemes=accepted_schemes(node.context),
            resistant=node.resistant,
        )
        if node.resistant and node.simulated:
            identity = own_identity(node).public.to_json()
            description = replace(description, identity=identity)
        if node.role is Role.HOSPITAL:
            features, classes, imputed = (
                tuple(names(node.context))
                for names in (self._features, self._classes, self._imputed)
            )
            return replace(
                description,
                features=features,
                classes=classes,
                imputed=imputed,
                family=self._family(node.context),
                exposure=self._exposure(node.context),
            )
        opener = Opener.of(node, self._policy(node.context), asked.resumed)
        return replace(
            description,
            public_key=opener.key.public_key.to_json(),
            session=opener.session,
            packing=opener.policy.packing.to_json(),
            value_keys=opener.value_keys,
            run_key=opener.run_key,
        )

    def _answered(self, message: Message, node: Node) -> DecryptReply | FiguresReply | MisfitReply:
        if node.role is not Role.KEY_HOLDER:
            raise ProtocolError("only company X can open a sum, and this node is a hospital")
        request = DecryptRequest.from_content(message.content)
        if request.purpose == "sites":
            raise ProtocolError("a comparison of hospitals must come with the totals before it")
        if request.purpose == "table":
            raise ProtocolError("the cells of a table must come with its form")
        start = perf_counter()
        opener = Opener.of(node, self._policy(node.context), request.session)
        opened = opener.open(request)
        if opened is None:
            return MisfitReply()
        total = opened.total
        seconds = perf_counter() - start if node.simulated else 0.0
        if request.purpose == "figures":
            packing, min_cell = opener.policy.packing, opener.policy.min_cell
            return FiguresReply(figures_of(total, packing, min_cell), seconds)
        if request.purpose == "separation":
            total = some_or_none(total)
        opener.note_trained(request, opened)
        return DecryptReply(total, seconds)


def _end(request: EndRequest, node: Node) -> None:
    """Delete the key of a session whose run is over; a key of all sessions stays."""
    if node.role is not Role.KEY_HOLDER:
        raise ProtocolError(f"{END!r} must go to company X, and this node is a hospital")
    if node.run_keys is not None:
        node.run_keys.end(request.session)
