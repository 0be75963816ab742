"""Messages that bring totals, sealed or in the open, and no way around a sealed chain."""

from __future__ import annotations

from collections.abc import Callable

from flwr.app import ArrayRecord, Context, Message, MessageType
from flwr.clientapp import ClientApp

from fl_he.clients.encryption import EncryptionMod, Packings, node_packing
from fl_he.clients.key_holder import Policy, node_policy
from fl_he.clients.node.app import NodeApp
from fl_he.clients.node.enrolment import Enrolment
from fl_he.clients.node.node import Node
from fl_he.clients.node.outgoing import Answer
from fl_he.clients.node.settings import checked_setting
from fl_he.clients.opening import own_policy
from fl_he.clients.totals.hospital import SealedHospital
from fl_he.clients.totals.key_holder import SealedKeyHolder
from fl_he.clients.totals.learner import Step, StepLearner, average_step
from fl_he.clients.totals.model import ModelKeeper
from fl_he.clients.totals.open_chain import OpenChain
from fl_he.clients.totals.sessions import Sessions
from fl_he.wire.encrypted_sum import DESCRIBE, END, FINISH, Role
from fl_he.wire.permission import PERMIT_SEALED
from fl_he.wire.planned_messages import is_planned
from fl_he.wire.records import ProtocolError
from fl_he.wire.sealed_messages import JOIN, OPEN, RESEAL, SESSION, OpenNews, is_sealed
from fl_he.wire.table import TableRequest

_Handler = Callable[[Message, Node, Enrolment, Answer], Message]


def with_sealed_chain(
    app: ClientApp,
    policy: Policy = node_policy,
    *,
    step: Step = average_step,
    initial: Callable[[Context], ArrayRecord] | None = None,
    packing: Packings = node_packing,
) -> ClientApp:
    """Return an app that takes part in sealed chains as well.

    A node needs ``federation`` and ``identity`` in its node configuration for it. With ``sealed``
    as well it refuses to take part in anything else, and without it from its first message of a
    sealed chain on, for the rest of the run. So a coordinator cannot ask in the open for what it
    could not read in a sealed chain.

    Parameters
    ----------
    app : ClientApp
        The app of hospitals and company X: what ``with_key_holder`` returns.
    policy : callable
        Returns company X's policy. Its ``min_contributors``, or the node configuration's, is
        also the fewest updates for which a hospital seals a sum for company X.
    step : callable
        Takes the model, the weighted mean of a round's replies and the train config, and returns
        the next model, on every hospital. By default the mean is the next model.
    initial : callable or None
        Returns the initial model; ``None``: the arrays of the first train message.
    packing : callable
        The same as that of the app's ``EncryptionMod``.
    """
    return NodeApp.of(app, SealedChain(ModelKeeper(StepLearner(step), initial, packing), policy))


class SealedChain:
    """The part of a node's app that takes part in sealed chains.

    Parameters
    ----------
    keeper : ModelKeeper
        Applies the totals.
    policy : callable
        See `with_sealed_chain`.
    mod : EncryptionMod or None
        The app's, where hospitals and company X compute its models in the open too.
    """

    def __init__(
        self, keeper: ModelKeeper, policy: Policy = node_policy, mod: EncryptionMod | None = None
    ) -> None:
        self._open = None if mod is None else OpenChain(keeper, policy, mod)
        hospital = SealedHospital(
            keeper=keeper,
            min_contributors=lambda context: own_policy(context, policy(context)).min_contributors,
        )
        key_holder = SealedKeyHolder(policy, keeper.learner)
        self._handlers: dict[str, tuple[Role, _Handler]] = {
            JOIN: (Role.HOSPITAL, hospital.join),
            MessageType.TRAIN: (Role.HOSPITAL, hospital.train),
            RESEAL: (Role.HOSPITAL, hospital.reseal),
            FINISH: (Role.HOSPITAL, hospital.finish),
            SESSION: (Role.KEY_HOLDER, key_holder.session),
            OPEN: (Role.KEY_HOLDER, key_holder.open),
            PERMIT_SEALED: (Role.KEY_HOLDER, key_holder.permit),
        }

    def __call__(self, message: Message, node: Node, answer: Answer) -> Message:
        """Answer a message; see `fl_he.clients.node.app.Part`."""
        action = message.metadata.message_type
        if is_sealed(action, message.content):
            role, handler = self._handlers[action]
            if node.role is not role:
                raise ProtocolError(f"{action!r} must go to a {role}, and this node is none")
            if node.enrolment is None:
                raise ProtocolError(
                    "a sealed chain must be of nodes with a manifest: give this node federation "
                    "and identity in its node configuration"
                )
            return handler(message, node, node.enrolment, answer)
        if action not in (DESCRIBE, END) and _is_closed(node):
            raise ProtocolError(
                f"this node takes part in sealed chains only, and the {action!r} message is open"
            )
        if self._open is None:
            return answer(message, node)
        if OpenNews.is_in(message.content):
            return self._open(message, node, answer)
        if TableRequest.is_in(message.content):
            return answer(message, node)
        if node.enrolment is not None and is_planned(action):
            raise ProtocolError(
                "a message to a node with a manifest must bring totals and no model: hospitals and "
                "company X compute the model themselves"
            )
        return answer(message, node)


def _is_closed(node: Node) -> bool:
    return checked_setting(node.context, "sealed") is True or Sessions(node).is_closed(node.session)
