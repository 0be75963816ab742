"""The client's half of the encrypted sum: a Flower mod that lets nothing leave in plain."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from time import perf_counter

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.clientapp.typing import ClientAppCallable
from numpy.typing import NDArray

from fl_he.clients.node.app import read_node
from fl_he.clients.node.node import Node
from fl_he.clients.node.outgoing import answered, is_public, require_encryptable
from fl_he.crypto.errors import RangeError
from fl_he.crypto.paillier.encrypted_vector import EncryptedVector
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.paillier.public_key import PublicKey
from fl_he.learning.tables.table_file import some
from fl_he.wire.encrypted_sum import (
    FINISH,
    NUM_EXAMPLES,
    RESTRICTED,
    EncryptedReply,
    EncryptionRequest,
    Role,
)
from fl_he.wire.records import PrivateReasonError, ProtocolError
from fl_he.wire.selection import ALL, MEAN, Selection
from fl_he.wire.update import Form, Update, flatten
from fl_he.wire.update_layout import UpdateLayout, counterpart

_logger = logging.getLogger(__name__)

_STATE = "fl-he.encryption"
_LOCAL = "fl-he.local-arrays."
_FINGERPRINT = "pinned-fingerprint"
_KNOWN = "checked-fingerprint"
_SPENT = "refused-for-a-private-reason"
_SPENT_EVALUATION = "refused-to-evaluate-for-a-private-reason"

#: Lays an update's values on fixed-point integers, which are private then.
Release = Callable[[UpdateLayout, NDArray[np.float64]], NDArray[np.int64]]


Packings = Callable[[Context], Packing]


def node_packing(context: Context) -> Packing:
    """Return the packing that is the node's own."""
    return read_node(context).policy.packing


class EncryptionMod:
    """Flower mod that encrypts whatever the app replies to ``train`` and ``evaluate``.

    The app computes its ordinary reply: arrays, metrics and ``num-examples``. The mod weights it,
    encrypts it under company X's public key, adds the running sum if the message brought one, and
    replaces the whole reply. It answers with an error, and nothing else, if the message carries no
    usable key, another key than the one this node pinned, another packing or weight than its own,
    or if a value of an array does not fit its slot. There is no plaintext fallback.

    A metric that is NaN, or does not fit, is left out of the mean of that metric, and the node's
    log says so. The coordinator learns how many hospitals lack the metric, not which.

    A deployed hospital has the key's fingerprint in its node configuration, or in the manifest
    that it was handed. In a simulation, where there is nobody to tell it another way, a node pins
    the first key of the run.

    That a value does not fit, or that the app fails, may say something about the data, and who
    chooses the model could ask again and again. So after any error that is not about the message
    alone the node answers no further message of the run, ``query.finish`` included. After one in an
    evaluation the node answers no further evaluation. A deployed node gives no reason.

    Put it first in ``ClientApp(mods=[encryption_mod, ...])``: Flower calls the first mod first and
    hands it the reply last, so mods behind it work on the plain reply.

    Parameters
    ----------
    packing : callable
        Returns the fixed-point format of the node that asks. It is the node's own: a coordinator
        that could choose it could make values overflow at will.
    weighted_by : str
        The metric that weights the mean.
    encrypt : "all" or sequence of str
        Patterns of the names of the arrays to encrypt; the strategy must be given the same. All
        others leave in plain, and the number of examples can be told from them.
    integers : {"mean", "local", "plain", "refuse"}
        Way of arrays of integers or truth values, such as BatchNorm's ``num_batches_tracked``, that
        are to be encrypted; the strategy must be given the same. ``mean``: like floats, and the
        coordinator rounds the mean to the array's type. ``local``: each hospital keeps its own
        array, which takes the place of the coordinator's in the next message. ``plain``: the
        coordinator sees them. ``refuse``: the hospital refuses.
    required_metrics : bool
        Whether the app replies each metric always. A metric that does not fit is then refused like
        an array, and takes one slot instead of three.
    privacy : callable
        Asked about each train or evaluate message, as the app gets it, and its session; returns
        what makes the reply private, or ``None``. See :mod:`fl_he.clients.private_release`.
    group : str
        Group of the packing's settings in the app's configuration, with the dot, for errors.
    columns : callable
        Returns the columns of the node's table behind a value of an array, by the array's name and
        the value's position, for the node's own log.
    """

    def __init__(
        self,
        packing: Packings = node_packing,
        weighted_by: str = NUM_EXAMPLES,
        encrypt: str | Sequence[str] = ALL,
        privacy: Callable[[Message, Context, str], Release | None] = lambda *_: None,
        *,
        integers: str = MEAN,
        required_metrics: bool = False,
        group: str = "",
        columns: Callable[[Context, str, Sequence[int]], Sequence[str]] = lambda *_: (),
    ) -> None:
        self.packing = packing
        self.group = group
        self.columns = columns
        self.privacy = privacy
        self.weighted_by = weighted_by
        self.selection = Selection.of(encrypt, integers)
        self.required_metrics = required_metrics

    def __call__(self, message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        """Answer as the app behind would, encrypted."""
        return answered(
            message, read_node(context), lambda msg, node: self._answer(msg, node, call_next)
        )

    def _answer(self, message: Message, node: Node, call_next: ClientAppCallable) -> Message:
        action, context = message.metadata.message_type, node.context
        if action != FINISH:
            require_encryptable(action)
        if node.role is not Role.HOSPITAL:
            raise ProtocolError(f"{action!r} must go to a hospital, got {node.role.value!r}")
        state = context.state.config_records.setdefault(_STATE, ConfigRecord())
        evaluates = action.partition(".")[0] == MessageType.EVALUATE
        if _SPENT in state:
            raise ProtocolError("this node takes no part in the run any more: it refused before")
        if evaluates and _SPENT_EVALUATION in state:
            raise ProtocolError("this node evaluates no more in this run: it refused before")
        if action == FINISH:
            with _spending(state, _SPENT):
                reply = _reply(message, context, call_next)
            if list(reply.content.keys()):
                raise ProtocolError(f"a reply to {action!r} must be empty: it leaves in plain")
            return reply
        request = EncryptionRequest.from_content(message.content)
        # In a deployment every message meets a new process, which need not check again.
        known = str(state[_KNOWN]) if _KNOWN in state else None
        public_key = PublicKey.from_json(request.public_key, known=known)
        _check_pin(public_key, node, state)
        state[_KNOWN] = public_key.fingerprint
        self._check_format(request, context)
        form = self._form(request, context, restricted=action in RESTRICTED)
        message.content = _with_local(EncryptionRequest.remove_from(message.content), context)
        release = self.privacy(message, context, request.session)
        with _spending(state, _SPENT_EVALUATION if evaluates else _SPENT):
            reply = _reply(message, context, call_next)
            answer = self._update(
                *(reply, request, public_key, context), form=form, release=release
            )
        return Message(answer.to_content(), reply_to=message)

    def _form(self, request: EncryptionRequest, context: Context, *, restricted: bool) -> Form:
        exact = request.exact or request.running_sum is not None
        return Form(
            self.weighted_by,
            self.selection,
            self.packing(context),
            required=self.required_metrics,
            restricted=restricted,
            expected=UpdateLayout.from_json(request.layout) if request.layout or exact else None,
            exact=exact,
        )

    def _update(
        self,
        reply: Message,
        request: EncryptionRequest,
        public_key: PublicKey,
        context: Context,
        *,
        form: Form,
        release: Release | None,
    ) -> EncryptedReply:
        """Return an app's reply, encrypted."""
        update = flatten(reply.content, form)
        layout = update.layout
        self.selection.require_use([slot.name for slot in layout.arrays])
        if form.exact and form.expected is not None and layout != form.expected:
            difference = form.expected.array_difference(layout) or "its metrics are others"
            raise ProtocolError(
                "the running sum must have the layout of this hospital's update, and "
                f"{difference}: all hospitals must have the same model"
            )
        for record, arrays in update.local.items():
            context.state[f"{_LOCAL}{record}"] = ArrayRecord(arrays)
        _tell(update)
        try:
            answer = _encrypted(update, request, public_key, form.packing, release=release)
        except RangeError as error:
            columns = some(self._columns_behind(context, layout, error.index), 10)
            remedies = [f"raise {self.group}{error.setting}"] if error.setting else []
            if columns:
                remedies += ["save the column in a larger unit", "leave the column out"]
            raise PrivateReasonError(
                f"{layout.locate(error.index)}{columns and f', of column {columns},'} does not fit "
                f"its slot once weighted by {layout.weighted_by!r}: "
                f"{', or '.join(remedies) or 'it must be a finite number'}"
            ) from None
        extra = replace(layout, arrays=(), metrics=update.left_out)
        left_out = extra.to_json() if update.left_out else ""
        return replace(answer, plain=update.plain, left_out=left_out)

    def _columns_behind(self, context: Context, layout: UpdateLayout, index: int) -> Sequence[str]:
        name, position = layout.place(index)
        return () if position is None else self.columns(context, name, position)

    def _check_format(self, request: EncryptionRequest, context: Context) -> None:
        packing = self.packing(context)
        if Packing.from_json(request.packing) != packing:
            raise ProtocolError(
                f"the packing must be this node's own, {packing}, got {request.packing!r:.120}"
            )
        if request.weighted_by != self.weighted_by:
            raise ProtocolError(
                f"the mean must be weighted by {self.weighted_by!r}, "
                f"got {request.weighted_by!r:.40}: give the mod of this node's app the same "
                "weighted_by as the strategy"
            )


#: The mod with the default packing, as :class:`EncryptionMod` describes it.
encryption_mod = EncryptionMod()


@contextmanager
def _spending(state: ConfigRecord, spent: str) -> Iterator[None]:
    """Note that the node takes no further part, unless an error within is public."""
    try:
        yield
    except BaseException as error:
        if not is_public(error):
            state[spent] = True
        raise


def _reply(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Return the app's reply; raise PrivateReasonError for an error that the app replies."""
    reply = call_next(message, context)
    if reply.has_error():
        raise PrivateReasonError(reply.error.reason or f"error code {reply.error.code}")
    return reply


def _with_local(content: RecordDict, context: Context) -> RecordDict:
    """Return a message's content with the arrays that this node has kept, in their places."""
    state, sent = context.state.array_records, content.array_records
    local = {key.removeprefix(_LOCAL): state[key] for key in state if key.startswith(_LOCAL)}
    for key, record in sent.items():
        ours = counterpart(key, sent, local)
        kept = {} if ours is None else local[ours]
        same = {n: kept[n] for n, a in record.items() if n in kept and kept[n].shape == a.shape}
        content[key] = ArrayRecord({**record, **same})
    return content


def _tell(update: Update) -> None:
    for name in update.no_number:
        _logger.warning(
            "the metric %r is not in this round's mean: the app gave no number for it that fits",
            name,
        )
    for slot in update.left_out:
        _logger.warning("the metric %r is left out: the other hospitals do not have it", slot.name)


def _encrypted(
    update: Update,
    request: EncryptionRequest,
    public_key: PublicKey,
    packing: Packing,
    *,
    release: Release | None,
) -> EncryptedReply:
    values, layout = update.values, update.layout
    # Not timed: how long it takes to draw noise says something about the noise.
    integers = None if release is None else release(layout, values)
    start = perf_counter()
    if integers is None:
        integers = packing.encode(values)
    vector = EncryptedVector.encrypt_integers(public_key, packing, integers)
    encrypted = perf_counter()
    if request.running_sum is not None:
        running = EncryptedVector.from_bytes(request.running_sum, public_key)
        vector = running.add(vector, public_key)
    added = perf_counter()
    return EncryptedReply(
        encrypted_sum=vector.to_bytes(),
        layout=layout.to_json(),
        encrypt_seconds=encrypted - start,
        add_seconds=added - encrypted,
    )


def _check_pin(public_key: PublicKey, node: Node, state: ConfigRecord) -> None:
    pinned = node.pinned_fingerprint
    if pinned is None:
        pinned = str(state.setdefault(_FINGERPRINT, public_key.fingerprint))
    if public_key.fingerprint != pinned:
        raise ProtocolError(
            f"the public key must be the pinned one, {pinned}, got {public_key.fingerprint}"
        )
