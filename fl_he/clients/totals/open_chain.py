"""The same chain of totals in the open: nobody is told a model by the coordinator.

A message about a model brings the task and the totals that a node may lack. A hospital verifies
that company X has signed them, computes the model, and answers the question that follows from it.
Company X is given the last total with each sum. It computes what the sum must be of, so that the
coordinator cannot rename slots, opens one sum over each model, takes the step itself, and signs the
next total.

Without a manifest, as in a simulation, totals are not signed, and all parties are taken to be
honest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
from flwr.app import ConfigRecord, Message, RecordDict

from fl_he.clients.blank_replies import blank_hospital, blank_reply
from fl_he.clients.encryption import EncryptionMod
from fl_he.clients.given_out import given_out
from fl_he.clients.key_holder import Policy
from fl_he.clients.ledger import NOTHING
from fl_he.clients.node.node import Node
from fl_he.clients.node.outgoing import Answer
from fl_he.clients.node.run_key_check import require_session
from fl_he.clients.opening import Asked, Opener
from fl_he.clients.totals.learner import Course, Learnt
from fl_he.clients.totals.model import (
    ModelKeeper,
    canonical,
    final_content,
    require_total,
    terms_of,
)
from fl_he.clients.totals.payload import link_of, verified_total
from fl_he.clients.totals.state import chain_state
from fl_he.crypto.paillier.packing import Packing
from fl_he.wire.encrypted_sum import (
    DECRYPT,
    FINISH,
    DecryptReply,
    DecryptRequest,
    EncryptionRequest,
    MisfitReply,
    Role,
)
from fl_he.wire.occasions import asked_digest
from fl_he.wire.permission import PERMIT, PermitRequest
from fl_he.wire.records import CONFIG, ProtocolError, refused_as, sent_config
from fl_he.wire.sealed_messages import OpenNews
from fl_he.wire.totals import Opening, SignedTotal, Total
from fl_he.wire.training_messages import MODEL_LINKS, PURPOSES
from fl_he.wire.update import layout_of
from fl_he.wire.update_layout import UpdateLayout


@dataclass(frozen=True, slots=True)
class _Before:
    """Company X's training before a sum, and the last of the totals that led to it."""

    course: Course
    terms: bytes
    last: SignedTotal | None

    @property
    def number(self) -> int:
        return 0 if self.last is None else self.last.opening.number

    @property
    def digest(self) -> bytes:
        return self.terms if self.last is None else self.last.digest


class OpenChain:
    """A node's answers to messages that bring totals in the open.

    Parameters
    ----------
    keeper : ModelKeeper
        Applies the totals.
    policy : callable
        Returns company X's policy.
    mod : EncryptionMod
        Encrypts the hospitals' replies.
    """

    def __init__(self, keeper: ModelKeeper, policy: Policy, mod: EncryptionMod) -> None:
        self._keeper, self._policy, self._mod = keeper, policy, mod

    def __call__(self, message: Message, node: Node, answer: Answer) -> Message:
        """Answer a message with `OpenNews`; see `fl_he.clients.node.app.Part`."""
        action, news = message.metadata.message_type, OpenNews.from_content(message.content)
        if action in (DECRYPT, PERMIT):
            kind = DecryptRequest if action == DECRYPT else PermitRequest
            request = kind.from_content(message.content)
            _require_same(news, request.session)
            if request.purpose not in MODEL_LINKS:
                return answer(message, node)
            content = self._opened(request, news, sent_config(message.content), node)
            return Message(content, reply_to=message)
        if node.role is not Role.HOSPITAL:
            raise ProtocolError(f"{action!r} must go to a hospital, got {node.role.value!r}")
        message.content = self._asked(message, news, node)
        return answer(message, node)

    def _asked(self, message: Message, news: OpenNews, node: Node) -> RecordDict:
        """Return what the app is asked, by the hospital's own model."""
        action, content = message.metadata.message_type, message.content
        rest = OpenNews.remove_from(content)
        request = None
        if action != FINISH:
            request = EncryptionRequest.from_content(content)
            _require_same(news, request.session)
            rest = EncryptionRequest.remove_from(rest)
        if others := sorted(set(rest) - {CONFIG}):
            raise ProtocolError(
                f"a message with totals must hold the train config and no other records, "
                f"got {others}"
            )
        require_session(message, node)
        totals = [verified_total(one, news.session, node.enrolment) for one in news.totals]
        with chain_state(node, news.session) as state:
            if request is None and not totals:
                require_total(state)
            config, course = self._keeper.learn(map(link_of, totals), rest, state, node)
            if request is None:
                return final_content(state, course, config)
            if action not in PURPOSES:
                raise ProtocolError(f"a model must be asked about, got {action!r:.40}")
            purpose = PURPOSES[action]
            _, question = course.question(config, purpose)
            if purpose in MODEL_LINKS:
                state.ask(purpose, request.round)
        return request.add_to(question)

    def _opened(
        self,
        request: DecryptRequest | PermitRequest,
        news: OpenNews,
        config: ConfigRecord,
        node: Node,
    ) -> RecordDict:
        """Return company X's answer to a sum, or to the question whether it may be sent."""
        start = perf_counter()
        if node.role is not Role.KEY_HOLDER:
            raise ProtocolError("only company X can open a sum, and this node is a hospital")
        opener = Opener.of(node, self._policy(node.context), request.session)
        packing = opener.policy.packing
        before = self._before(news, config, packing, node)
        course = before.course
        layout, digest = self._asked_of(course, request, config, packing, node)
        last = before.last
        follows = NOTHING if last is None else (last.opening.purpose, last.opening.round)
        # A simulated one has forgotten what it opened before a run was resumed.
        model = None if node.simulated else follows
        after = None if last is None else last.total
        asked = Asked(request.purpose, digest, len(layout))
        request = replace(request, metric_values=layout.metric_values)
        if isinstance(request, PermitRequest):
            opener.permit(request, follows=model, after=after, asked=asked)
            return RecordDict()
        opened = opener.open(request, follows=model, after=after, asked=asked)
        if opened is None:
            return MisfitReply().to_content()
        minimum = opener.policy.min_contributors
        total = given_out(request.purpose, opened.total, layout, minimum)
        mean = layout.mean(total, np.empty(0))
        course.step(mean, config, request.purpose, opener.policy.min_cell)
        opener.note_trained(request, opened)
        number = before.number + 1
        signed = SignedTotal(
            Opening(request.session, request.purpose, request.round, number, before.terms),
            Total(
                *(before.number, layout.to_json(), total, before.digest),
                *(opened.mark.counter, opened.mark.head, course.memory),
            ),
        )
        if node.enrolment is not None:
            signed = replace(signed, signature=node.enrolment.identity.sign(signed.statement))
        seconds = perf_counter() - start if node.simulated else 0.0
        return DecryptReply(total, seconds, signed.to_bytes()).to_content()

    def _before(
        self, news: OpenNews, config: ConfigRecord, packing: Packing, node: Node
    ) -> _Before:
        start = self._keeper.learner.begin(config, packing, None)
        model = start.model
        terms = terms_of(canonical(config), model, node.plan)
        if len(news.totals) > 1:
            raise ProtocolError(
                f"a sum must come with the last total alone, got {len(news.totals)} totals"
            )
        for data in news.totals:
            last = verified_total(data, news.session, node.enrolment)
            if last.opening.terms != terms:
                raise ProtocolError("the train config must be as in the totals so far")
            return _Before(start.at(Learnt(model, last.total.memory)), terms, last)
        return _Before(start, terms, None)

    def _asked_of(
        self,
        course: Course,
        request: DecryptRequest | PermitRequest,
        config: ConfigRecord,
        packing: Packing,
        node: Node,
    ) -> tuple[UpdateLayout, bytes]:
        """Return what the slots of a sum must hold, and the digest of what hospitals were asked."""
        action, question = course.question(config, request.purpose)
        with refused_as("the train config:"):
            hospital = blank_hospital(config, packing)
        blank = blank_reply(action, question, hospital)
        if blank is None:
            raise ProtocolError(f"hospitals must have an answer to {action!r}")
        layout = layout_of(blank, self._mod.form(packing))
        return layout, asked_digest(action, question, node.context.run_config, layout)


def _require_same(news: OpenNews, session: str) -> None:
    if news.session != session:
        raise ProtocolError("the message names two sessions")
