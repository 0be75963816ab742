"""The model that every hospital keeps and advances by itself, from totals sealed or in the open."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from hashlib import sha256

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, RecordDict

from fl_he.clients.node.counters import Counters
from fl_he.clients.node.node import Node
from fl_he.clients.totals.learner import Course, Learner
from fl_he.clients.totals.payload import Link
from fl_he.clients.totals.state import ChainState, Contribution
from fl_he.crypto.encoding.canonical import encode_fields
from fl_he.crypto.paillier.packing import Packing
from fl_he.wire.arrays import array_fields
from fl_he.wire.encrypted_sum import SERVER_ROUND
from fl_he.wire.model import model_message_content, read_arrays
from fl_he.wire.records import CONFIG, ProtocolError, sent_config, withheld
from fl_he.wire.sealed_messages import without_chain
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
        self, links: Iterable[Link], content: RecordDict, state: ChainState, node: Node
    ) -> tuple[ConfigRecord, Course]:
        """Apply the totals that are new; return the train config and the model's course.

        Parameters
        ----------
        links : iterable of Link
            Oldest first.
        content : RecordDict
            The train config and, where the app does not make it itself, the initial model.
        state : ChainState
        node : Node

        Raises
        ------
        ProtocolError
            If the train config has changed, or a total is not the next one.
        """
        config, packing = sent_config(content), self.packing(node.context)
        text, initial = canonical(config), self._initial
        remembers = state.has_begun
        if not remembers:
            node.require_no_result()
            course = self.learner.begin(
                config,
                packing,
                lambda: read_arrays(content) if initial is None else initial(node.context),
            )
            state.begin(text, terms_of(text, course.model, node.plan), course.learnt)
        elif text != state.config:
            raise ProtocolError(
                f"the train config must stay as it was when the run began, {state.config}, "
                f"got {text:.500}"
            )
        else:
            course = self.learner.begin(config, packing, None).at(state.learnt)
        for link in links:
            if link.number > state.after:
                with _counted(link, state.session, node):
                    _apply(link, numbered(config, link.number), state, course)
                if remembers and link.contributors and node.enrolment is not None:
                    _compare(link, state.contribution, node.enrolment.name)
        return config, course


def final_content(state: ChainState, course: Course, config: ConfigRecord) -> RecordDict:
    """Return the content of the message with which the app saves the model; see `require_total`."""
    require_total(state)
    return course.final(config)


def require_total(state: ChainState) -> None:
    """Refuse to end a session of which the hospital has no total, such as a made-up one."""
    if not state.after:
        raise ProtocolError(
            "a model is saved after the first total of its session, and this hospital has none"
        )


def _counted(link: Link, session: str, node: Node) -> AbstractContextManager[None]:
    """Have a node with a manifest compare a total's counter, and keep it once it is applied."""
    if node.enrolment is None:
        return nullcontext()
    return Counters.of(node, node.enrolment).hearing_total(session, link.total, link.digest)


def _apply(link: Link, config: ConfigRecord, state: ChainState, course: Course) -> None:
    total = link.total
    if link.terms not in (None, state.terms):
        raise ProtocolError("the train config must be the one that the totals are of")
    if total.after != state.after or total.previous != state.chain:
        raise ProtocolError(
            f"total {link.number} must follow total {total.after}, and this hospital's model "
            f"is the one after total {state.after}"
        )
    with withheld():  # the coordinator of a sealed chain must not know the total
        mean = UpdateLayout.from_json(total.layout).mean(total.values, np.empty(0))
        course.step(mean, config, link.purpose)
        course.adopt(total.memory)
    state.advance(link.number, course.learnt, link.digest)


def sealed_content(content: RecordDict) -> RecordDict:
    """Return train config and initial model; refuse records that no digest covers.

    The app could train by them, and they could differ from hospital to hospital.
    """
    content = without_chain(content)
    if extra := sorted(set(content.keys()) - {CONFIG, *model_message_content(ArrayRecord())}):
        raise ProtocolError(
            f"a message of a sealed chain must hold no records but the train config, as "
            f"{CONFIG!r}, and the initial model, got {extra}"
        )
    return content


def numbered(config: ConfigRecord, round_: int | None) -> ConfigRecord:
    """Return the train config with the round's own number, where it has one at all.

    Flower's strategies write it into every config. The coordinator's word for it is not taken:
    hospitals could be told different ones.
    """
    items = {key: value for key, value in config.items() if key != SERVER_ROUND}
    if SERVER_ROUND in config and round_ is not None:
        items[SERVER_ROUND] = round_
    return ConfigRecord(items)


def _compare(total: Link, last: Contribution | None, name: str) -> None:
    """Warn if a total of the round to which this hospital has contributed is without its update.

    Only a hospital that has kept its state since can tell.
    """
    if last is not None and last.round == total.number and name not in total.contributors:
        _logger.warning(
            "round %d was opened without this hospital's update, which it had sent", total.number
        )


def canonical(config: ConfigRecord) -> str:
    """Return the train config as text, without what changes from round to round."""
    items = {key: value for key, value in sorted(config.items()) if key != SERVER_ROUND}
    return json.dumps(items, default=lambda value: {"bytes": value.hex()})


def terms_of(config: str, model: ArrayRecord, plan: str) -> bytes:
    """Return a digest of what all contributors must have in common from the start.

    Parameters
    ----------
    config : str
        The train config as text.
    model : ArrayRecord
        The initial one.
    plan : str
        Digest of the study plan; empty without.
    """
    fields = array_fields(model)
    return sha256(encode_fields(plan.encode(), config.encode(), *fields)).digest()
