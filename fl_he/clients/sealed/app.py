"""The sealed chain on a node: which messages belong to it, and that no other way is left open."""

from __future__ import annotations

from collections.abc import Callable

from flwr.app import ArrayRecord, Context, Message, MessageType
from flwr.clientapp import ClientApp

from fl_he.clients.key_holder import KeyHolderPolicy
from fl_he.clients.node.enrolment import Enrolment, read_enrolment
from fl_he.clients.node.refusal import refusal_mod
from fl_he.clients.node.role import read_node
from fl_he.clients.node.setting import is_sealed_only, least_contributors
from fl_he.clients.node.wrapped_app import WrappedApp
from fl_he.clients.sealed.hospital import SealedHospital
from fl_he.clients.sealed.key_holder import SealedKeyHolder
from fl_he.clients.sealed.model import ModelKeeper, Step, average_step
from fl_he.clients.sealed.state import ChainState
from fl_he.crypto.paillier.packing import Packing
from fl_he.wire.encrypted_sum import DESCRIBE, FINISH, ProtocolError, Role
from fl_he.wire.sealed_messages import (
    OPEN,
    RESEAL,
)
from fl_he.wire.session_messages import (
    JOIN,
    SESSION,
    News,
)

_Handler = Callable[[Message, Context, Enrolment], Message]


def with_sealed_chain(
    app: ClientApp,
    policy: Callable[[Context], KeyHolderPolicy] = lambda _: KeyHolderPolicy(),
    *,
    step: Step = average_step,
    initial: Callable[[Context], ArrayRecord] | None = None,
    packing: Callable[[Context], Packing] = lambda _: Packing(),
) -> ClientApp:
    """Return an app that takes part in sealed chains as well.

    A node needs ``federation`` and ``identity`` in its node configuration for it. With ``sealed``
    as well it refuses to take part in anything else, and without it from its first message of a
    sealed chain on, for the rest of the run. So a coordinator cannot ask in the open for what it
    could not read in a sealed chain.

    Parameters
    ----------
    app : ClientApp
        The app of hospitals and key holder: what ``with_key_holder`` returns.
    policy : callable
        Returns the key holder's policy. Its ``min_contributors``, or the node configuration's, is
        also the fewest updates for which a hospital seals a sum for company X.
    step : callable
        Takes the model, the weighted mean of a round's replies and the train config, and returns
        the next model, on every hospital. By default the mean is the next model.
    initial : callable or None
        Returns the initial model; ``None``: the arrays of the first train message.
    packing : callable
        The same as that of the app's ``EncryptionMod``.
    """
    return SealedChainApp(
        app,
        SealedHospital(
            app,
            keeper=ModelKeeper(step, initial),
            packing=packing,
            min_contributors=lambda context: least_contributors(
                context, policy(context).min_contributors
            ),
        ),
        SealedKeyHolder(policy),
    )


class SealedChainApp(WrappedApp):
    """The app in front; see :func:`with_sealed_chain`."""

    def __init__(
        self, app: ClientApp, hospital: SealedHospital, key_holder: SealedKeyHolder
    ) -> None:
        super().__init__(app)
        self._key_holder = key_holder
        self._sealed: dict[str, tuple[Role, _Handler]] = {
            JOIN: (Role.HOSPITAL, hospital.join),
            MessageType.TRAIN: (Role.HOSPITAL, hospital.train),
            RESEAL: (Role.HOSPITAL, hospital.reseal),
            FINISH: (Role.HOSPITAL, hospital.finish),
            SESSION: (Role.KEY_HOLDER, key_holder.session),
            OPEN: (Role.KEY_HOLDER, key_holder.open),
        }

    def __call__(self, message: Message, context: Context) -> Message:
        """Answer a message; an exception becomes an error reply that is safe to send."""
        return refusal_mod(message, context, self._answer)

    def _answer(self, message: Message, context: Context) -> Message:
        action = message.metadata.message_type
        shared = action in (MessageType.TRAIN, FINISH)
        if action in self._sealed and not (shared and not News.is_in(message.content)):
            role, handler = self._sealed[action]
            if read_node(context).role is not role:
                raise ProtocolError(f"{action!r} must go to a {role}, and this node is none")
            enrolment = read_enrolment(context)
            if enrolment is None:
                raise ProtocolError(
                    "a sealed chain must be of nodes with a manifest: give this node federation "
                    "and identity in its node configuration"
                )
            return handler(message, context, enrolment)
        if action != DESCRIBE and self._is_closed(context):
            raise ProtocolError(
                f"this node takes part in sealed chains only, got an open {action!r} message"
            )
        return self._app(message, context)

    def _is_closed(self, context: Context) -> bool:
        return (
            is_sealed_only(context)
            or ChainState.is_begun(context)
            or self._key_holder.is_begun(context)
        )
