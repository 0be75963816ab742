"""Release of a hospital's updates under differential privacy.

`private_release` stands inside ``EncryptionMod``, between an update and its encryption. It compares
what the coordinator asks with the node's own terms, lets through only sums that one patient moves
by a known distance, and the number of patients, adds this hospital's share of noise to the
fixed-point integers, and counts.

Such sums are those of clipped gradients, and, once, if the terms have a share of the budget for it,
those of values within ranges, by which the features are scaled. The cells of a table of descriptive
statistics are the only release of their budget.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from hashlib import sha256

import numpy as np
from flwr.app import ConfigRecord, Context, Message, MessageType
from numpy.typing import NDArray

from fl_he.clients.encryption import Release
from fl_he.clients.node.app import read_node
from fl_he.clients.privacy_ledger import Kind, PrivacyLedger
from fl_he.crypto.encoding.canonical import encode_fields
from fl_he.crypto.paillier.packing import Packing
from fl_he.learning.describing.cells import Bounded
from fl_he.learning.describing.noisy import noisy_sum
from fl_he.learning.errors import PrivacyError
from fl_he.learning.privacy.discrete_gaussian import discrete_gaussian
from fl_he.learning.privacy.gradients import (
    LARGEST_INTEGER_BITS,
    GaussianPrivacy,
    Lattice,
    noise_variance,
)
from fl_he.learning.privacy.scaling import scaling_variance
from fl_he.wire.arrays import array_fields
from fl_he.wire.encrypted_sum import MOMENTS, SERVER_ROUND, TABLE, EncryptionRequest
from fl_he.wire.learning_terms import PRIVACY_KEYS, MomentsRequest, described, read_privacy
from fl_he.wire.model import read_arrays
from fl_he.wire.records import CONFIG, PrivateReasonError, ProtocolError, config_of, sent_config
from fl_he.wire.selection import ENCRYPTED
from fl_he.wire.table import TableRequest
from fl_he.wire.update_layout import EXAMPLES, FIRST_VALUE, UpdateLayout

#: The chance that noise is larger than this many standard deviations is below 2**-180.
_REACH = 16
#: Keys that a train config may have: none changes how much a patient weighs in a sum.
_HARMLESS = {SERVER_ROUND, "lr", "C", "scaling", "mean", "scale", "outcome-bounds", *PRIVACY_KEYS}
#: Keys of a request for sums within ranges; no range changes how far a patient moves a sum.
_WITHIN_RANGES = {"sums", "counts", "low", "high", *PRIVACY_KEYS}


def private_release(
    message: Message, context: Context, request: EncryptionRequest
) -> Release | None:
    """Return what makes a reply private, ``None`` for a node without terms of privacy.

    Parameters
    ----------
    message : Message
        A train or evaluate message as the app gets it.
    context : Context
        Of the node, which has its own terms.
    request : EncryptionRequest
        Says for which session and round of company X's the reply is encrypted.

    Raises
    ------
    ProtocolError
        If the terms asked for are not the node's own, or the reply could not be made private.
    """
    node = read_node(context)
    own = node.privacy
    asked = read_privacy(sent_config(message.content))
    action = message.metadata.message_type
    if own is not None and action not in (MessageType.TRAIN, MOMENTS, TABLE):
        raise ProtocolError(
            f"a node with privacy answers train messages only, got {action!r}: nothing else is "
            "in its budget"
        )
    if asked != own:
        raise ProtocolError(
            f"the privacy must be this node's own, {described(own)}, got {described(asked)}"
        )
    if own is None:
        return None
    calibrated: Callable[[GaussianPrivacy, Lattice], int]
    if action == MOMENTS:
        _check_moments(own, message)
        kind, calibrated = Kind.scaling, scaling_variance
    elif action == TABLE:
        kind, calibrated = Kind.gradient, _table_variance(own, message)
    else:
        _check_config(message)
        kind, calibrated = Kind.gradient, noise_variance
    packing, ledger = node.packing, PrivacyLedger(node.released())
    question = _digest(message, request, node.plan)

    def release(layout: UpdateLayout, values: NDArray[np.float64]) -> NDArray[np.int64]:
        _check_layout(layout)
        lattice = Lattice(packing.fraction_bits, len(values) - FIRST_VALUE)

        def answer(variance: int) -> NDArray[np.int64]:
            _check_range(own, packing, float(values[EXAMPLES]), variance)
            # Clipped sums fit with their noise: what does not is of no app of ours.
            integers, _ = packing.saturate(values)
            integers[FIRST_VALUE:] += discrete_gaussian(variance, lattice.dimensions)
            most = packing.maximum_integer
            return np.clip(integers, -most, most)

        def variance() -> int:
            try:
                return calibrated(own, lattice)
            except PrivacyError as error:
                raise ProtocolError(str(error)) from None

        return ledger.release(own, kind, lattice, question, variance=variance, answer=answer)

    return release


def _table_variance(
    terms: GaussianPrivacy, message: Message
) -> Callable[[GaussianPrivacy, Lattice], int]:
    """Return what gives the noise of a table, which is all that its budget is for."""
    if (terms.rounds, terms.scaling) != (1, 0.0):
        raise ProtocolError(
            "for a table a node's privacy budget must be of 1 round and 0 for scaling, got "
            f"{terms.rounds} rounds and {terms.scaling:g} for scaling"
        )
    _check_keys(sent_config(message.content), set(PRIVACY_KEYS))
    form = TableRequest.from_content(message.content).form

    def variance(own: GaussianPrivacy, lattice: Lattice) -> int:
        return noisy_sum(form, Bounded(lattice.fraction_bits)).variance(1.0, own)

    return variance


def _digest(message: Message, request: EncryptionRequest, plan: str) -> bytes:
    """Return a digest of a sum's session, purpose and round, and of all on which it may depend.

    Company X opens one sum for them, and in another round or session another sum, perhaps with
    other hospitals in it. If this one's part was the same in both, the difference of the totals
    would tell the others' with less noise than was counted. Another attempt at the same sum is the
    same question.
    """
    config = sent_config(message.content)
    items = {key: value for key, value in sorted(config.items()) if key != SERVER_ROUND}
    asks_for_model = message.metadata.message_type == MessageType.TRAIN
    fields = array_fields(read_arrays(message.content)) if asks_for_model else []
    if TableRequest.is_in(message.content):
        fields = [repr(TableRequest.from_content(message.content).form).encode()]
    asked = request.session, message.metadata.message_type, str(request.round), plan, repr(items)
    return sha256(encode_fields(*(text.encode() for text in asked), *fields)).digest()


def _check_config(message: Message) -> None:
    """Refuse requests that the accounting does not know, such as a scaling by the own data.

    Mean, scale and bounds of the outcome in the config are as harmless as a model: they
    are the same for all rows, and each row's gradient is clipped after them.
    """
    config = sent_config(message.content)
    if config.get("scaling") == "local":
        raise ProtocolError(
            "scaling must be none, or by a mean and scale that the message holds, in a private "
            "run, got local: one patient would change how all others are scaled"
        )
    _check_keys(config, _HARMLESS)


def _check_moments(terms: GaussianPrivacy, message: Message) -> None:
    """Refuse sums that are not those of values within ranges, or that the terms do not pay for."""
    if terms.scaling <= 0.0:
        raise ProtocolError(
            "a node with privacy answers train messages only, got 'train.moments': nothing of its "
            "budget is for scaling"
        )
    _check_keys(config_of(message.content, CONFIG), _WITHIN_RANGES)
    request = MomentsRequest.from_content(message.content)
    if request.sums or request.counts or not request.low:
        raise ProtocolError(
            "a node with privacy must be asked for sums of values within ranges alone"
        )


def _check_keys(config: ConfigRecord, allowed: set[str]) -> None:
    if unknown := sorted(set(config) - allowed):
        raise ProtocolError(
            f"the train config of a private run must hold only {sorted(allowed)}, "
            f"got {unknown}: what they do to a patient's weight is not counted"
        )


def _check_layout(layout: UpdateLayout) -> None:
    """Refuse a reply that holds anything whose clipping is not counted."""
    floats = layout.arrays and all(a.way == ENCRYPTED and not a.whole for a in layout.arrays)
    if layout.metrics or not floats:
        raise ProtocolError(
            "a private reply must hold encrypted gradients and the number of examples only, "
            f"got the metrics {[metric.name for metric in layout.metrics]} and "
            f"{layout.plain_length} plain values"
        )


def _check_range(terms: GaussianPrivacy, packing: Packing, examples: float, variance: int) -> None:
    """Refuse, by public numbers alone, a sum that might not fit its slot with the noise."""
    if packing.integer_bits + packing.fraction_bits > LARGEST_INTEGER_BITS:
        raise ProtocolError(
            f"integer_bits + fraction_bits must be at most {LARGEST_INTEGER_BITS} with privacy, "
            f"got {packing.integer_bits + packing.fraction_bits}"
        )
    largest = math.ldexp(examples * max(terms.clip, 1.0), packing.fraction_bits)
    largest += _REACH * math.sqrt(variance)
    if largest > packing.maximum_integer:
        raise PrivateReasonError(  # by the number of patients
            "a private sum must fit its slot with its noise, and it might not: raise "
            "crypto.integer_bits, or lower privacy.clip or rounds"
        )
