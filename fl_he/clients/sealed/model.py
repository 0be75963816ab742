"""The model of a sealed chain, which every hospital keeps and advances by itself."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from hashlib import sha256

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, RecordDict

from fl_he.clients.node.enrolment import Enrolment
from fl_he.clients.sealed.learner import Learner
from fl_he.clients.sealed.payload import Total, total_binding
from fl_he.clients.sealed.state import ChainState, Contribution
from fl_he.crypto.encoding.canonical import encode_fields
from fl_he.crypto.envelopes.sealing import unseal
from fl_he.crypto.paillier.packing import Packing
from fl_he.wire.arrays import array_fields
from fl_he.wire.encrypted_sum import SERVER_ROUND
from fl_he.wire.model import model_message_content, read_arrays
from fl_he.wire.records import CONFIG, ProtocolError, withheld
from fl_he.wire.sealed_messages import News, SealedTotal, without_chain
from fl_he.wire.update_layout import UpdateLayout

_logger = logging.getLogger(__name__)


class ModelKeeper:
    """Applies totals to the model in a node's state.

    Parameters
    ----------
    learner : Learner
    initial : callable or None
        Returns the initial model of the node that asks; ``None``: that of the first message.
    packing : callable
        Returns the node's own.
    """

    def __init__(
        self,
        learner: Learner,
        initial: Callable[[Context], ArrayRecord] | None,
        packing: Callable[[Context], Packing],
    ) -> None:
        self.learner = learner
        self._initial = initial
        self.packing = packing

    def learn(
        self,
        news: News,
        content: RecordDict,
        state: ChainState,
        context: Context,
        enrolment: Enrolment,
    ) -> ConfigRecord:
        """Apply the totals; return the train config.

        Parameters
        ----------
        news : News
        content : RecordDict
            Of the message. Beside fl-he's own records it may hold the train config and the initial
            model, and nothing else that could differ from hospital to hospital.
        state : ChainState
        context : Context
        enrolment : Enrolment

        Raises
        ------
        ProtocolError
            If the message holds something else, or a total is not the next one.
        """
        content = without_chain(content)
        _require_known(content)
        config = content.config_records.get(CONFIG, ConfigRecord())
        text = canonical(config)
        remembers = state.has_begun
        if not remembers:
            initial = self._initial
            learnt = self.learner.begin(
                config,
                self.packing(context),
                lambda: read_arrays(content) if initial is None else initial(context),
            )
            state.begin(text, terms_of(text, learnt.model), learnt)
        elif text != state.config:
            raise ProtocolError(
                f"the train config must stay as it was when the run began, {state.config}, "
                f"got {text:.500}"
            )
        for total in news.totals:
            self._apply(total, numbered(config, total.round), state, context, enrolment)
            if remembers:
                _compare(total, state.contribution, enrolment.name)
        return config

    def _apply(
        self,
        total: SealedTotal,
        config: ConfigRecord,
        state: ChainState,
        context: Context,
        enrolment: Enrolment,
    ) -> None:
        if total.round <= state.after:
            raise ProtocolError(
                f"totals are applied once, in order: round {state.after} is applied already, "
                f"got round {total.round}"
            )
        payload, opened = open_total(total, state.session, enrolment)
        if opened.after != state.after or opened.previous != state.chain:
            raise ProtocolError(
                f"the total of round {total.round} must follow that of round {opened.after}, and "
                f"this hospital's model is the one after round {state.after}"
            )
        packing = self.packing(context)
        with withheld():  # the coordinator must not know the total
            mean = UpdateLayout.from_json(opened.layout).mean(opened.values, np.empty(0))
            own = self.learner.step(state.learnt, mean, config, packing)
            learnt = self.learner.signed(own, opened.memory, config, packing)
        state.advance(total.round, learnt, sha256(payload).digest())


def open_total(total: SealedTotal, session: str, enrolment: Enrolment) -> tuple[bytes, Total]:
    """Open a total that company X has sealed for this node; return its bytes as well."""
    binding = total_binding(session, total.round, total.contributors)
    company_x = enrolment.manifest.key_holder
    payload = unseal(total.envelope, enrolment.identity, company_x, binding)
    return payload, Total.from_bytes(payload)


def _require_known(content: RecordDict) -> None:
    """Refuse records that no digest covers: the app could train by them."""
    if extra := sorted(set(content.keys()) - {CONFIG, *model_message_content(ArrayRecord())}):
        raise ProtocolError(
            f"a message of a sealed chain must hold no records but the train config, as "
            f"{CONFIG!r}, and the initial model, got {extra}"
        )


def numbered(config: ConfigRecord, round_: int | None) -> ConfigRecord:
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


def canonical(config: ConfigRecord) -> str:
    """Return the train config as text, without what changes from round to round."""
    items = {key: value for key, value in sorted(config.items()) if key != SERVER_ROUND}
    return json.dumps(items, default=lambda value: {"bytes": value.hex()})


def terms_of(config: str, model: ArrayRecord) -> bytes:
    """Return a digest of what all contributors must have in common from the start."""
    return sha256(encode_fields(config.encode(), *array_fields(model))).digest()
