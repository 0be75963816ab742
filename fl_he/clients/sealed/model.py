"""The model of a sealed chain, which every hospital keeps and advances by itself."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from hashlib import sha256

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, RecordDict

from fl_he.clients.node.enrolment import Enrolment
from fl_he.clients.sealed.payload import Total, total_binding
from fl_he.clients.sealed.state import ChainState, Contribution
from fl_he.crypto.encoding.canonical import encode_fields
from fl_he.crypto.envelopes.sealing import unseal
from fl_he.wire.arrays import array_fields
from fl_he.wire.encrypted_sum import SERVER_ROUND
from fl_he.wire.model import model_message_content, read_arrays
from fl_he.wire.records import CONFIG, ProtocolError
from fl_he.wire.sealed_messages import News, SealedTotal, without_chain
from fl_he.wire.update_layout import UpdateLayout

Step = Callable[[ArrayRecord, RecordDict, ConfigRecord], ArrayRecord]


_logger = logging.getLogger(__name__)


def average_step(model: ArrayRecord, mean: RecordDict, config: ConfigRecord) -> ArrayRecord:
    """Return the mean as the next model: federated averaging."""
    return next(iter(mean.array_records.values()))


class ModelKeeper:
    """Applies totals to the model in a node's state.

    Parameters
    ----------
    step : callable
        Takes the model, the weighted mean of a round's replies and the train config, and returns
        the next model. All hospitals must come to the same one.
    initial : callable or None
        Returns the initial model of the node that asks; ``None``: that of the first message.
    """

    def __init__(self, step: Step, initial: Callable[[Context], ArrayRecord] | None) -> None:
        self._step = step
        self._initial = initial

    def learn(
        self,
        news: News,
        content: RecordDict,
        state: ChainState,
        context: Context,
        enrolment: Enrolment,
        *,
        round_: int | None = None,
    ) -> RecordDict:
        """Apply the totals; return the content as the app expects it, with the own model.

        Parameters
        ----------
        news : News
        content : RecordDict
            Of the message. Beside fl-he's own records it may hold the train config and the initial
            model, and nothing else that could differ from hospital to hospital.
        state : ChainState
        context : Context
        enrolment : Enrolment
        round_ : int or None
            The round that the message is about, ``None`` if about none.

        Raises
        ------
        ProtocolError, CryptoError
            If the message holds something else, or a total is not the next one.
        """
        content = without_chain(content)
        _require_known(content)
        config = content.config_records.get(CONFIG, ConfigRecord())
        text = _canonical(config)
        remembers = state.config is not None
        if not remembers:
            model = read_arrays(content) if self._initial is None else self._initial(context)
            state.begin(text, _terms(text, model), model)
        elif text != state.config:
            raise ProtocolError(
                f"the train config must stay as it was when the run began, {state.config}, "
                f"got {text:.500}"
            )
        for total in news.totals:
            self._apply(total, _numbered(config, total.round), state, enrolment)
            if remembers:
                _compare(total, state.contribution, enrolment.name)
        return RecordDict({**model_message_content(state.model), CONFIG: _numbered(config, round_)})

    def _apply(
        self, total: SealedTotal, config: ConfigRecord, state: ChainState, enrolment: Enrolment
    ) -> None:
        if total.round <= state.after:
            raise ProtocolError(
                f"totals are applied once, in order: round {state.after} is applied already, "
                f"got round {total.round}"
            )
        binding = total_binding(state.session, total.round, total.contributors)
        company_x = enrolment.manifest.key_holder
        opened = Total.from_bytes(unseal(total.envelope, enrolment.identity, company_x, binding))
        if opened.after != state.after:
            raise ProtocolError(
                f"the total of round {total.round} must follow that of round {opened.after}, and "
                f"this hospital's model is the one after round {state.after}"
            )
        mean = UpdateLayout.from_json(opened.layout).mean(opened.values, np.empty(0))
        _check_like(state.model, mean)
        state.advance(total.round, self._step(state.model, mean, config))


def _require_known(content: RecordDict) -> None:
    """Refuse records that no digest covers: the app could train by them."""
    if extra := sorted(set(content.keys()) - {CONFIG, *model_message_content(ArrayRecord())}):
        raise ProtocolError(
            f"a message of a sealed chain must hold no records but the train config, as "
            f"{CONFIG!r}, and the initial model, got {extra}"
        )


def _numbered(config: ConfigRecord, round_: int | None) -> ConfigRecord:
    """Return the train config with the round's own number, where it has one at all.

    Flower's strategies write it into every config. The coordinator's word for it is not taken:
    hospitals could be told different ones.
    """
    items = {key: value for key, value in config.items() if key != SERVER_ROUND}
    if SERVER_ROUND in config and round_ is not None:
        items[SERVER_ROUND] = round_
    return ConfigRecord(items)


def _compare(total: SealedTotal, last: Contribution | None, name: str) -> None:
    """Warn if a total is said to have this hospital's update and has it not, or the other way.

    Only a hospital that has kept its state since can tell.
    """
    sent = last is not None and last.round == total.round
    if sent and name not in total.contributors:
        _logger.warning(
            "round %d was opened without this hospital's update, which it had sent", total.round
        )
    if not sent and name in total.contributors and (last is None or last.round < total.round):
        _logger.warning(
            "round %d was opened with an update in this hospital's name that it had not sent",
            total.round,
        )


def _canonical(config: ConfigRecord) -> str:
    """Return the train config as text, without what changes from round to round."""
    items = {key: value for key, value in sorted(config.items()) if key != SERVER_ROUND}
    return json.dumps(items, default=lambda value: {"bytes": value.hex()})


def _terms(config: str, model: ArrayRecord) -> bytes:
    """Return a digest of what all contributors must have in common from the start."""
    return sha256(encode_fields(config.encode(), *array_fields(model))).digest()


def _check_like(model: ArrayRecord, mean: RecordDict) -> None:
    """Refuse a mean that is not of the model's arrays."""
    records = list(mean.array_records.values())
    if len(records) != 1 or _shapes(records[0]) != _shapes(model):
        raise ProtocolError("a total must be of arrays like the model's, and it is not")


def _shapes(arrays: ArrayRecord) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {name: (array.dtype, tuple(array.shape)) for name, array in arrays.items()}
