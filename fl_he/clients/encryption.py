"""The client's half of the encrypted sum: a Flower mod that lets nothing leave in plain."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence
from copy import copy, deepcopy
from dataclasses import replace
from time import perf_counter

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.clientapp.typing import ClientAppCallable
from numpy.typing import NDArray

from fl_he.clients.node.app import read_node
from fl_he.clients.node.form_memory import FormMemory
from fl_he.clients.node.node import Node
from fl_he.clients.node.outgoing import answered, is_public, own_words, require_encryptable
from fl_he.clients.node.pace import within
from fl_he.clients.node.run_key_check import require_run_key
from fl_he.clients.node.settings import accepted_schemes
from fl_he.clients.node.value_keys import unseal_value_key
from fl_he.clients.pair_memory import PairMemory
from fl_he.clients.pairing import paired_memory
from fl_he.config.groups import AUTO
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.paillier.public_key import PublicKey
from fl_he.crypto.tickets.occasion import Occasion
from fl_he.crypto.tickets.ticketed_sum import TicketedSum
from fl_he.learning.tables.table_file import some
from fl_he.wire.encrypted_sum import (
    FINISH,
    NUM_EXAMPLES,
    RESTRICTED,
    EncryptedReply,
    EncryptionRequest,
    Role,
)
from fl_he.wire.occasions import asked_digest, purpose_of
from fl_he.wire.records import (
    RECORD,
    PrivateReasonError,
    ProtocolError,
    kept_config,
    record_of,
    refused_as,
)
from fl_he.wire.selection import ALL, MEAN, Selection, require_scheme
from fl_he.wire.update import Form, Update, flatten, joined, layout_of, zeros
from fl_he.wire.update_layout import CONTRIBUTORS, UpdateLayout, counterpart, first_value

_logger = logging.getLogger(__name__)

_STATE = "fl-he.encryption"
_LOCAL = "fl-he.local-arrays."
_FINGERPRINT = "pinned-fingerprint"
_KNOWN = "checked-fingerprint"

#: Lays an update's values on fixed-point integers, which are private then.
Release = Callable[[UpdateLayout, NDArray[np.float64]], NDArray[np.int64]]


Packings = Callable[[Context], Packing]


def node_packing(context: Context) -> Packing:
    """Return the packing that is the node's own."""
    return read_node(context).packing


class EncryptionMod:
    """Flower mod that encrypts the app's replies to ``train`` and ``evaluate``.

    The app computes its ordinary reply: arrays, metrics and ``num-examples``. The mod weights the
    reply, encrypts it under company X's public key, adds the running sum if the message has one of
    the same layout, and replaces the reply. It answers only with an error if the message has no
    usable key, another key than the node pinned, or another packing or weight than the node's.
    There is no plaintext fallback.

    The form of a reply does not depend on data: ``declared`` decides it, or else the app's first
    reply in the session. Random numbers are encrypted in place of the reply if the app fails or
    takes too long, if its reply has another form, or if a value does not fit. A mark in the
    ciphertext then tells company X to discard the sum, and the node's own log has the reason.
    Random numbers hide the sum of the others from company X: it could subtract that sum from a
    later one of the round. An app that fails before its form is known is refused, and its node
    leaves the run.

    A metric that is NaN, or does not fit, is left out of the mean of that metric, and the node's
    log names it. The coordinator learns how many hospitals lack the metric, not which.

    A deployed hospital has the key's fingerprint in its node configuration, or a manifest: then it
    takes only keys that company X's identity has signed for the session. In a simulation a node
    pins the first key of the run.

    Put the mod first in ``ClientApp(mods=[encryption_mod, ...])``: Flower calls the first mod first
    and hands it the reply last, so the other mods work on the plain reply.

    Parameters
    ----------
    packing : callable
        Returns the fixed-point format of the node that asks. The node chooses the format: a
        coordinator that chose it could make values overflow.
    weighted_by : str
        The metric that weights the mean.
    encrypt : "all" or sequence of str
        Patterns of the names of the arrays to encrypt; the strategy must be given the same. All
        others leave in plain, and the number of examples can be told from them.
    integers : {"mean", "local", "plain", "refuse"}
        Treatment of encrypted arrays of integers or truth values, such as BatchNorm's
        ``num_batches_tracked``; the strategy must be given the same. ``mean``: like floats, and the
        coordinator rounds the mean to the array's type. ``local``: each hospital keeps its own
        array, which takes the place of the coordinator's in the next message. ``plain``: the
        coordinator sees them. ``refuse``: the hospital refuses.
    scheme : {"auto", "paillier", "masks"}
        The only scheme of sums that the app accepts; ``auto``: any that its node accepts, by
        ``scheme`` in the node configuration.
    required_metrics : bool
        Whether the app replies each metric always. A metric that does not fit is then treated like
        an array, and takes one slot instead of three.
    privacy : callable
        Asked about each train or evaluate message, as the app gets it, and its request; returns
        what makes the reply private, or ``None``. See :mod:`fl_he.clients.private_release`.
    group : str
        Group of the packing's settings in the app's configuration, with the dot, for errors.
    columns : callable
        Returns the columns of the node's table behind a value of an array, by the array's name and
        the value's position, for the node's own log.
    declared : callable
        Returns a reply of the form that the app's reply to a message has, made without data;
        ``None``: the form is that of the first reply.
    """

    def __init__(
        self,
        packing: Packings = node_packing,
        weighted_by: str = NUM_EXAMPLES,
        encrypt: str | Sequence[str] = ALL,
        privacy: Callable[[Message, Context, EncryptionRequest], Release | None] = lambda *_: None,
        *,
        integers: str = MEAN,
        scheme: str = AUTO,
        required_metrics: bool = False,
        group: str = "",
        columns: Callable[[Context, str, Sequence[int]], Sequence[str]] = lambda *_: (),
        declared: Callable[[Message, Context], RecordDict | None] = lambda *_: None,
    ) -> None:
        self.packing = packing
        self.group = group
        self.columns = columns
        self.declared = declared
        self.privacy = privacy
        self.weighted_by = weighted_by
        self.selection = Selection.of(encrypt, integers)
        self.scheme = require_scheme(scheme)
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
            if record_of(message.content, RECORD, ConfigRecord) is None:
                raise ProtocolError(
                    "the server's strategy does not encrypt. Wrap it, as in "
                    f"SequentialPaillier(FedAvg()): the message has no config record {RECORD!r}"
                )
        if node.role is not Role.HOSPITAL:
            raise ProtocolError(f"{action!r} must go to a hospital, got {node.role.value!r}")
        if action == FINISH:
            return _finished(message, node, call_next)
        state = kept_config(context.state, _STATE)
        request = EncryptionRequest.from_content(message.content)
        # In a deployment every message meets a new process, which need not check again.
        known = str(state[_KNOWN]) if _KNOWN in state else None
        public_key = PublicKey.from_json(request.public_key, known=known)
        _check_key(public_key, request, node, state)
        state[_KNOWN] = public_key.fingerprint
        self._check_format(request, context)
        form = self._form(request, context, restricted=action in RESTRICTED)
        sent = EncryptionRequest.remove_from(message.content)
        message.content = _with_local(RecordDict({**sent}), context)
        release = self.privacy(message, context, request)
        blank = self.declared(message, context)
        memory = FormMemory(node.forms(), context.run_id, request.session)
        declared = _remembered(memory, action) if blank is None else layout_of(blank, form)
        if declared is not None and request.running_sum is None:
            _require_expected(declared, form)
        update, told = self._update(
            message, node, call_next, form=form, declared=declared, release=release, memory=memory
        )
        if request.running_sum is None:
            _require_expected(update.layout, form)
        elif update.layout != form.expected:  # it answers alone: most may have its arrays
            request = replace(request, running_sum=None)
        for record, arrays in update.local.items():
            context.state[f"{_LOCAL}{record}"] = ArrayRecord(arrays)
        integers, misfit = self._integers(update, form, context, release)
        finite = np.isfinite(update.plain)
        if not finite.all():
            misfit = misfit or "a value of an array that is not encrypted is not finite"
            update = replace(update, plain=np.where(finite, update.plain, 0.0))
        told = told or misfit
        asked = asked_digest(action, sent, context.run_config, update.layout)
        occasion = Occasion(
            public_key.fingerprint,
            request.session,
            purpose_of(action),
            request.round,
            asked,
            form.packing,
            len(update.layout),
            update.layout.metric_values,
            request.scheme,
        )
        pairs = paired_memory(node, request.session)
        if told:
            integers = _random_update(form, len(integers), occasion, pairs)
        answer = _encrypted(
            *(update, integers, request, public_key), occasion=occasion, node=node, pairs=pairs
        )
        answer = _with_log(answer, node, action, told)
        return Message(answer.to_content(), reply_to=message)

    def form(self, packing: Packing) -> Form:
        """Return how the replies to a request without a layout become vectors of a packing."""
        return Form(self.weighted_by, self.selection, packing, required=self.required_metrics)

    def _form(self, request: EncryptionRequest, context: Context, *, restricted: bool) -> Form:
        exact = request.exact or request.running_sum is not None
        return replace(
            self.form(self.packing(context)),
            restricted=restricted,
            expected=UpdateLayout.from_json(request.layout) if request.layout or exact else None,
            exact=exact,
        )

    def _update(
        self,
        message: Message,
        node: Node,
        call_next: ClientAppCallable,
        *,
        form: Form,
        declared: UpdateLayout | None,
        release: Release | None,
        memory: FormMemory,
    ) -> tuple[Update, str]:
        """Return the app's update, or one without numbers and the node's own words for why."""
        action, context = message.metadata.message_type, node.context
        fixed = declared
        try:
            content = within(node.app_seconds, lambda: _reply(message, context, call_next)).content
            if fixed is None:
                own = layout_of(content, form)
                with refused_as("the coordinator could not read this reply:"):
                    UpdateLayout.from_json(own.to_json())
                self.selection.require_use([slot.name for slot in own.arrays])
                fixed = own
            update = flatten(content, form, fixed)
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        # BaseException: the panics of libraries written in Rust are no Exception.
        except BaseException as error:
            if fixed is None:
                memory.fail(action.partition(".")[0])
            # Under privacy no patient can make the app fail: its sums are clipped.
            if fixed is None or release is not None:
                raise (PrivateReasonError(str(error)) if is_public(error) else error) from None
            update, told = zeros(fixed, form), own_words(error, action, node)
        else:
            told = ""
        if declared is None:
            memory.fix(action, fixed)
        _tell(update)
        return update, told

    def _integers(
        self, update: Update, form: Form, context: Context, release: Release | None
    ) -> tuple[NDArray[np.int64], str]:
        """Return fixed-point integers, and the node's own words for a value that does not fit."""
        if release is not None:
            return release(update.layout, update.values), ""
        integers, misfits = form.packing.saturate(update.values)
        if not len(misfits):
            return integers, ""
        index, layout = int(misfits[0]), update.layout
        columns = some(self._columns_behind(context, layout, index), 10)
        now, most = form.packing.integer_bits, form.packing.most_integer_bits
        fault = "does not fit its slot"
        remedies = [f"raise {self.group}integer_bits (now {now}, at most {most})"]
        if not np.isfinite(update.values[index]):
            fault = "is NaN or infinite"
            remedies = ["lower the learning rate if the model diverged"]
        if columns:
            remedies += ["save the column in a larger unit", "leave the column out"]
        return integers, (
            f"{layout.locate(index)}{columns and f', of column {columns},'} {fault} once "
            f"weighted by {layout.weighted_by!r}: {', or '.join(remedies)}"
        )

    def _columns_behind(self, context: Context, layout: UpdateLayout, index: int) -> Sequence[str]:
        name, position = layout.place(index)
        return () if position is None else self.columns(context, name, position)

    def _check_format(self, request: EncryptionRequest, context: Context) -> None:
        packing = self.packing(context)
        if Packing.from_json(request.packing) != packing:
            raise ProtocolError(
                f"the packing must be this node's own, {packing}, got {request.packing!r:.120}: "
                "give all nodes the same manifest or none, and all apps the same packing"
            )
        accepted = [one for one in accepted_schemes(context) if self.scheme in (AUTO, one)]
        if request.scheme not in accepted:
            raise ProtocolError(
                f"the scheme must be one that this node accepts ({', '.join(accepted) or 'none'}), "
                f"got {request.scheme!r}: give the strategy, and the mod of this node's app, the "
                "same scheme as the node configuration"
            )
        if request.weighted_by != self.weighted_by:
            raise ProtocolError(
                f"the mean must be weighted by {self.weighted_by!r}, "
                f"got {request.weighted_by!r:.40}: give the mod of this node's app the same "
                "weighted_by as the strategy"
            )


#: The mod with the default packing, as :class:`EncryptionMod` describes it.
encryption_mod = EncryptionMod()


def _finished(message: Message, node: Node, call_next: ClientAppCallable) -> Message:
    """Return the empty reply to the final model; only a disk's failure is another one."""
    try:
        reply = _reply(message, node.context, call_next)
    except (KeyboardInterrupt, SystemExit, GeneratorExit, OSError):
        raise
    except BaseException as error:
        if is_public(error):
            raise
        _logger.error("%s: %s", FINISH, own_words(error, FINISH, node))
        return Message(RecordDict(), reply_to=message)
    if list(reply.content.keys()):
        raise ProtocolError(f"a reply to {FINISH!r} must be empty: it leaves in plain")
    return Message(RecordDict(), reply_to=message)


def _remembered(memory: FormMemory, action: str) -> UpdateLayout | None:
    """Return the form of the app's replies to an action; refuse if the app failed at its first."""
    kind = action.partition(".")[0]
    if memory.has_failed(MessageType.TRAIN):
        raise ProtocolError(
            "its first reply in this run was refused, so this node stays out of the run"
        )
    if kind == MessageType.EVALUATE and memory.has_failed(kind):
        raise ProtocolError(
            "its first evaluate reply in this run was refused, so this node does not evaluate again"
        )
    return memory.form(action)


def _require_expected(layout: UpdateLayout, form: Form) -> None:
    """Refuse to answer in exactly a layout that this hospital's updates do not have."""
    layout, _ = joined(layout, form)
    if form.exact and form.expected is not None and layout != form.expected:
        difference = form.expected.array_difference(layout) or "its metrics are others"
        raise ProtocolError(
            "the layout that is asked for must be that of this hospital's update, and "
            f"{difference}: all hospitals must have the same model"
        )


def _reply(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Return the app's reply; raise PrivateReasonError for an error that the app replies.

    The app gets copies, which share the arrays' bytes: a note that it writes into its message or
    the run configuration would leave the node in the metadata or the digest of the reply.
    """
    own = copy(context)
    own.run_config = dict(context.run_config)
    try:
        reply = call_next(deepcopy(message), own)
    finally:
        context.state = own.state
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
    for name in update.undeclared:
        _logger.warning("the metric %r is left out: the app's first reply did not have it", name)
    for slot in update.left_out:
        _logger.warning("the metric %r is left out: the other hospitals do not have it", slot.name)


def _random_update(
    form: Form, length: int, occasion: Occasion, pairs: PairMemory | None
) -> NDArray[np.int64]:
    """Return random numbers that are marked as an update that did not fit."""
    read = secrets.token_bytes if pairs is None else pairs.random_stream(occasion).read
    integers = form.packing.random(length, read)
    mark = first_value(form.packing, fits=False, restricted=form.restricted)
    integers[CONTRIBUTORS] = form.packing.encode(np.array([mark]))[0]
    return integers


def _with_log(answer: EncryptedReply, node: Node, action: str, told: str) -> EncryptedReply:
    """Return an answer as it leaves: seconds, and what did not fit, stay on a deployed node."""
    if node.simulated:
        return replace(answer, simulated_log=told)
    if told:
        _logger.error("%s: %s", action, told)
    return replace(answer, encrypt_seconds=0.0, add_seconds=0.0)


def _encrypted(
    update: Update,
    integers: NDArray[np.int64],
    request: EncryptionRequest,
    public_key: PublicKey,
    *,
    occasion: Occasion,
    node: Node,
    pairs: PairMemory | None,
) -> EncryptedReply:
    start, enrolment, value_key = perf_counter(), node.enrolment, None
    if enrolment is not None:
        value_key = unseal_value_key(request.value_key, public_key.fingerprint, enrolment)
    masks = None
    if pairs is not None:
        masks = pairs.masks(occasion, integers.astype("<i8").tobytes(), value_key)
    summed = TicketedSum.encrypt(
        public_key,
        integers,
        occasion,
        node.name if enrolment is None else enrolment.name,
        value_key=value_key,
        sign=None if enrolment is None else enrolment.identity.sign,
        alone=node.alone,
        pairs=masks,
    )
    encrypted = perf_counter()
    if request.running_sum is not None:
        running = TicketedSum.from_bytes(request.running_sum, public_key, [request.scheme])
        running.add_in_place(summed, public_key)
        summed = running
    added = perf_counter()
    extra = replace(update.layout, arrays=(), metrics=update.left_out)
    return EncryptedReply(
        encrypted_sum=summed.to_bytes(),
        layout=update.layout.to_json(),
        encrypt_seconds=encrypted - start,
        add_seconds=added - encrypted,
        plain=update.plain,
        left_out=extra.to_json() if update.left_out else "",
    )


def _check_key(
    public_key: PublicKey, request: EncryptionRequest, node: Node, state: ConfigRecord
) -> None:
    """Refuse a key that company X has not signed; without a manifest, another than the pinned."""
    enrolment, fingerprint = node.enrolment, public_key.fingerprint
    if enrolment is not None:
        require_run_key(request.run_key, fingerprint, request.session, node, enrolment)
        return
    pinned = node.pinned_fingerprint
    if pinned is None:
        pinned = str(state.setdefault(_FINGERPRINT, fingerprint))
    if fingerprint != pinned:
        raise ProtocolError(f"the public key must be the pinned one, {pinned}, got {fingerprint}")
    node.begun = True
