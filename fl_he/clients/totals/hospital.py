"""A hospital in a sealed chain: what it accepts from a coordinator that may lie.

The hospital believes company X and the other hospitals of the manifest, as far as they have signed,
and the coordinator in nothing. Of each message it checks, in this order:

- the session: company X has signed it together with this hospital's own challenge, so it is
  neither made up nor an old one;
- the round: it contributes once to a round, to later rounds only;
- the totals: signed by company X, each to be applied to the model that this hospital has;
- the running sum: signed by the last contributor, for this hospital, this round and this place,
  over the same model and the same terms;
- the next node: one of the manifest that is not in the sum yet; company X only if enough are.

A hospital may be asked to seal its sum of the current round again, for another node, since the
next one may have failed. A coordinator that lies about that has the same sum sealed for several
hospitals, and sees as little of each as before. Each of them contributes to one of these sums,
and company X opens one sum over each model. What remains: the coordinator can hand company X two
envelopes over one model that differ by the hospitals it calls failed, and company X, if it breaks
its own rule and decrypts the second one too, learns their updates. That takes both, as in a fold. A
hospital that was called failed finds out: its log says that a round was opened without the update
that it had sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from flwr.app import ConfigRecord, Context, Message

from fl_he.clients.node.enrolment import Enrolment
from fl_he.clients.node.node import Node
from fl_he.clients.node.outgoing import Answer
from fl_he.clients.totals.learner import Course
from fl_he.clients.totals.model import ModelKeeper, final_content, numbered, sealed_content
from fl_he.clients.totals.payload import (
    RunningSum,
    running_sum_binding,
    session_binding,
    unseal_sum,
    unseal_total,
)
from fl_he.clients.totals.sessions import Sessions
from fl_he.clients.totals.state import ChainState, Contribution, chain_state
from fl_he.crypto.envelopes.public_identity import PublicIdentity
from fl_he.crypto.envelopes.sealing import seal, unseal
from fl_he.crypto.tickets.ticketed_sum import vector_bytes
from fl_he.wire.encrypted_sum import NUM_EXAMPLES, EncryptedReply, EncryptionRequest
from fl_he.wire.records import ProtocolError
from fl_he.wire.sealed_messages import (
    Hop,
    JoinReply,
    JoinRequest,
    News,
    ResealRequest,
    SealedReply,
)


class SealedHospital:
    """The hospital's half of a sealed chain.

    Parameters
    ----------
    keeper : ModelKeeper
        Applies the totals.
    min_contributors : callable
        Returns the fewest updates for which this node seals a sum for company X.
    """

    def __init__(
        self,
        *,
        keeper: ModelKeeper,
        min_contributors: Callable[[Context], int],
    ) -> None:
        self._keeper = keeper
        self._min_contributors = min_contributors

    def join(self, message: Message, node: Node, enrolment: Enrolment, _: Answer) -> Message:
        """Say who this hospital is, what it lacks, and what company X has to sign."""
        asked, sessions = JoinRequest.from_content(message.content).session, Sessions(node)
        if not sessions.session and sessions.knows(asked):
            sessions.join(asked)  # the run continues an earlier one's session
        session = sessions.session
        reply = JoinReply(
            name=enrolment.name,
            manifest=enrolment.manifest.fingerprint,
            challenge="" if session else sessions.challenge(),
            session=session,
            alone=node.alone,
        )
        if session:
            with chain_state(node, session) as state:
                last = state.contribution
                contributed = 0 if last is None else last.round
                reply = replace(reply, after=state.after, contributed=contributed)
        return Message(reply.to_content(), reply_to=message)

    def train(self, message: Message, node: Node, enrolment: Enrolment, answer: Answer) -> Message:
        """Add the own update to the running sum and seal it for the next node.

        The update is the answer of the app with its ``EncryptionMod``, encrypted.
        """
        news, hop = News.from_content(message.content), Hop.from_content(message.content)
        _check_session(news, node, enrolment)
        with chain_state(node, news.session) as state:
            return self._contributed(
                *(message, news, hop, state), node=node, enrolment=enrolment, answer=answer
            )

    def _contributed(
        self,
        message: Message,
        news: News,
        hop: Hop,
        state: ChainState,
        *,
        node: Node,
        enrolment: Enrolment,
        answer: Answer,
    ) -> Message:
        context, last = node.context, state.contribution
        if last is not None and hop.round == last.round and hop.digest == last.request:
            # A reply that was lost; nothing new is made.
            recipient = self._recipient(hop.next_node, last.contributors, context, enrolment)
            return _sealed(message, last, recipient, state, enrolment)
        if last is not None and hop.round <= last.round:
            raise ProtocolError(
                f"a hospital contributes to each round once, in order: this one has contributed to "
                f"round {last.round} and was asked for round {hop.round}"
            )
        config, course = self._learn(news, message, state, node, enrolment)
        if hop.round <= state.after:
            raise ProtocolError(
                f"a round must come after those that are open, round {state.after} is, "
                f"got {hop.round}"
            )
        received = _received(hop, state, enrolment)
        contributors = (*hop.contributors, enrolment.name)
        recipient = self._recipient(hop.next_node, contributors, context, enrolment)
        packing = self._keeper.packing(context)
        action, content = course.question(numbered(config, hop.round))
        request = EncryptionRequest(
            public_key=hop.public_key,
            packing=packing.to_json(),
            session=state.session,
            round=state.after + 1,  # not the attempt's number: the step that the sum is for
            weighted_by=NUM_EXAMPLES,
            running_sum=None if received is None else received.vector,
            layout="" if received is None else received.layout,
            value_key=hop.value_key,
            run_key=hop.run_key,
            scheme=hop.scheme,
        )
        message.content = request.add_to(content)
        with _as(message, action):
            reply = answer(message, node)
        if reply.has_error():
            return Message(reply.error, reply_to=message)
        update = EncryptedReply.from_content(reply.content)
        if update.plain.size:
            raise ProtocolError("a sealed chain must encrypt all arrays, and this app does not")
        contribution = Contribution(
            round=hop.round,
            request=hop.digest,
            contributors=contributors,
            running_sum=RunningSum(state.after, state.terms, update.layout, update.encrypted_sum),
        )
        state.contribute(contribution)
        return _sealed(message, contribution, recipient, state, enrolment)

    def reseal(self, message: Message, node: Node, enrolment: Enrolment, _: Answer) -> Message:
        """Seal the sum of the current round again, for another node."""
        request = ResealRequest.from_content(message.content)
        if not request.session or request.session != Sessions(node).session:
            raise ProtocolError(
                f"the session must be the one that this hospital takes part in, "
                f"got {request.session!r:.40}"
            )
        with chain_state(node, request.session) as state:
            last = state.contribution
            if last is None or request.round != last.round or request.round <= state.after:
                raise ProtocolError(
                    "a sum is sealed again in its own round only, as long as its total is not "
                    f"known, got round {request.round}"
                )
            recipient = self._recipient(
                request.next_node, last.contributors, node.context, enrolment
            )
            return _sealed(message, last, recipient, state, enrolment)

    def finish(self, message: Message, node: Node, enrolment: Enrolment, answer: Answer) -> Message:
        """Hand the own model, with the totals it lacked, to the app, which saves it."""
        news = News.from_content(message.content)
        _check_session(news, node, enrolment)
        with chain_state(node, news.session) as state:
            config, course = self._learn(news, message, state, node, enrolment)
            message.content = final_content(state, course, numbered(config, None))
        return answer(message, node)

    def _learn(
        self, news: News, message: Message, state: ChainState, node: Node, enrolment: Enrolment
    ) -> tuple[ConfigRecord, Course]:
        links = (unseal_total(total, news.session, enrolment) for total in news.totals)
        return self._keeper.learn(links, sealed_content(message.content), state, node)

    def _recipient(
        self, name: str, contributors: tuple[str, ...], context: Context, enrolment: Enrolment
    ) -> PublicIdentity:
        """Return whom to seal for; raises if it must not have the sum of these contributors."""
        node = enrolment.manifest.node(name)
        if node == enrolment.manifest.key_holder:
            minimum = self._min_contributors(context)
            if len(contributors) < minimum:
                raise ProtocolError(
                    f"a sum for company X must have at least {minimum} contributors, "
                    f"got {len(contributors)}"
                )
        elif name in contributors:
            raise ProtocolError(
                f"the next node must be company X or a hospital that is not in the sum yet, "
                f"got {name!r}"
            )
        return node


def _check_session(news: News, node: Node, enrolment: Enrolment) -> None:
    """Take part in the session that company X states; refuse any other later on."""
    sessions = Sessions(node)
    if session := sessions.session:
        if news.session != session:
            raise ProtocolError(
                f"the session must be {session!r} for the whole run, got {news.session!r:.40}"
            )
        node.begun = True
        return
    if news.statement is None:
        raise ProtocolError(
            "this hospital must be told the session first, in company X's own words"
        )
    binding = session_binding(news.session)
    answered = unseal(news.statement, enrolment.identity, enrolment.manifest.key_holder, binding)
    if answered != sessions.challenge().encode():
        raise ProtocolError(
            "company X's statement of the session answers another challenge than this hospital's: "
            "it may be old"
        )
    sessions.join(news.session)
    node.begun = True


def _received(hop: Hop, state: ChainState, enrolment: Enrolment) -> RunningSum | None:
    """Open the running sum that this hospital is handed, ``None`` if it is the first."""
    if enrolment.name in hop.contributors:
        raise ProtocolError("the running sum must not have this hospital's update already")
    if hop.envelope is None:
        return None
    received = unseal_sum(hop.envelope, state.session, hop.round, hop.contributors, enrolment)
    sender = hop.contributors[-1]
    if received.terms != state.terms:
        raise ProtocolError(
            f"{sender} must have the same initial model and train config as this hospital"
        )
    if received.after != state.after:
        raise ProtocolError(
            f"{sender} must have the model after round {state.after} as this hospital has, "
            f"got the one after round {received.after}"
        )
    return received


@contextmanager
def _as(message: Message, action: str) -> Iterator[None]:
    """Have a message be of another type for a while: the model decides what is summed up next."""
    own, message.metadata.message_type = message.metadata.message_type, action
    try:
        yield
    finally:
        message.metadata.message_type = own


def _sealed(
    message: Message,
    contribution: Contribution,
    recipient: PublicIdentity,
    state: ChainState,
    enrolment: Enrolment,
) -> Message:
    binding = running_sum_binding(state.session, contribution.round, contribution.contributors)
    payload = contribution.running_sum.to_bytes()
    reply = SealedReply(
        envelope=seal(payload, enrolment.identity, recipient, binding),
        update_bytes=vector_bytes(contribution.running_sum.vector),
    )
    return Message(reply.to_content(), reply_to=message)
