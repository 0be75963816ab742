"""Company X in a sealed chain: it tells hospitals its session and seals totals for them.

It opens a sum under the same policy as ever. In addition, the sum must come sealed and signed by
the last of its contributors, who must all be hospitals of the manifest, over the model after the
round that was opened last: so all totals of a session lie on one line, and each hospital can tell
whether one is missing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from flwr.app import ConfigRecord, Message, RecordDict

from fl_he.clients.key_holder import Policy
from fl_he.clients.ledger import NOTHING
from fl_he.clients.node.enrolment import Enrolment
from fl_he.clients.node.node import Node
from fl_he.clients.node.outgoing import Answer
from fl_he.clients.opening import Asked, Opener
from fl_he.clients.totals.learner import Course, Learner, Learnt, Stage
from fl_he.clients.totals.model import canonical, numbered, terms_of
from fl_he.clients.totals.payload import (
    RunningSum,
    session_binding,
    total_binding,
    unseal_sum,
    unseal_total,
)
from fl_he.clients.totals.sessions import Sessions
from fl_he.crypto.envelopes.sealing import seal
from fl_he.crypto.paillier.packing import Packing
from fl_he.wire.encrypted_sum import DecryptRequest, MisfitReply, Role
from fl_he.wire.occasions import asked_digest, purpose_of
from fl_he.wire.permission import SealedPermitRequest
from fl_he.wire.records import ProtocolError, sent_config, withheld
from fl_he.wire.sealed_messages import (
    News,
    OpenReply,
    OpenRequest,
    SessionReply,
    SessionRequest,
)
from fl_he.wire.totals import Total, padding
from fl_he.wire.update_layout import UpdateLayout

_LONGEST_CHALLENGE = 64


class SealedKeyHolder:
    """Company X's half of a sealed chain.

    Parameters
    ----------
    policy : callable
        Returns the policy of the node that asks.
    learner : Learner
        The hospitals'.
    """

    def __init__(self, policy: Policy, learner: Learner) -> None:
        self._policy = policy
        self._learner = learner

    def session(self, message: Message, node: Node, enrolment: Enrolment, _: Answer) -> Message:
        """State the session to each hospital that asks, signed together with its challenge."""
        request = SessionRequest.from_content(message.content)
        opener = Opener.of(node, self._policy(node.context), request.session)
        session = opener.session
        latest = opener.ledger.latest(session)
        Sessions(node).join(session)
        statements = {}
        for name, challenge in request.challenges.items():
            hospital = enrolment.manifest.node(name)
            if hospital.role != Role.HOSPITAL:
                raise ProtocolError(f"the session is stated to hospitals, got {name!r}")
            if len(challenge) > _LONGEST_CHALLENGE:
                raise ProtocolError(
                    f"a challenge must have at most {_LONGEST_CHALLENGE} characters, "
                    f"got {len(challenge)}"
                )
            statements[name] = seal(
                challenge.encode(), enrolment.identity, hospital, session_binding(session)
            )
        reply = SessionReply(
            name=enrolment.name,
            session=session,
            manifest=enrolment.manifest.fingerprint,
            latest=latest,
            statements=statements,
            value_keys=opener.value_keys,
        )
        return Message(reply.to_content(), reply_to=message)

    def permit(self, message: Message, node: Node, enrolment: Enrolment, _: Answer) -> Message:
        """Tell whether company X would open a sum of hospitals, before the sum is sent."""
        request = SealedPermitRequest.from_content(message.content)
        opener = Opener.of(node, self._policy(node.context), request.session)
        totals = News.from_content(message.content).totals
        if len(totals) > 1:
            raise ProtocolError(f"a sum must come with the last total alone, got {len(totals)}")
        follows, after = NOTHING, None
        for last in totals:
            follows = "train", last.round
            after = unseal_total(last, request.session, enrolment).total
        opener.permit_names(request, follows, after)
        return Message(RecordDict(), reply_to=message)

    def open(self, message: Message, node: Node, enrolment: Enrolment, _: Answer) -> Message:
        """Open a round's sum once and seal the total for every hospital of the manifest.

        If at some hospitals the app failed, or a value did not fit, the coordinator learns no more.
        Who asks for the very same sum again, since the answer was lost, gets the same total again.
        The message brings the total before it as well, which company X has sealed for itself, and
        the train config, whose digest the hospitals have signed.
        """
        request = OpenRequest.from_content(message.content)
        opener = Opener.of(node, self._policy(node.context), request.session)
        summed = unseal_sum(
            request.envelope, request.session, request.round, request.contributors, enrolment
        )
        before = self._before(message, summed, request.session, enrolment)
        config = sent_config(message.content)
        course = self._course(before.memory, config, opener.policy.packing, summed, node.plan)
        layout = UpdateLayout.from_json(summed.layout)
        due = DecryptRequest(
            session=request.session,
            purpose="train",
            round=request.round,
            contributors=len(request.contributors),
            encrypted_sum=summed.vector,
            metric_values=layout.metric_values,
        )
        opened = opener.open(
            due,
            follows=("train", summed.after) if summed.after else NOTHING,
            after=before.total,
            asked=None if course is None else self._asked(course, config, request, layout, node),
            step=summed.after + 1,
            contributors=request.contributors,
        )
        if opened is None:
            return Message(MisfitReply().to_content(), reply_to=message)
        total = opened.total
        if len(layout) != len(total):
            raise ProtocolError("the running sum must have the length of its layout")
        stage, memory, longest = Stage(), "", 0
        if course is not None:
            with withheld():  # the coordinator must not know the total
                mean = layout.mean(total, np.empty(0))
                course.step(mean, config, min_cell=opener.policy.min_cell)
            stage, memory, longest = course.stage(config), course.memory, course.longest_memory
        opener.note_trained(due, opened)
        payload = Total(
            *(summed.after, summed.layout, total, before.digest),
            *(opened.mark.counter, opened.mark.head, memory, padding(memory, longest)),
        ).to_bytes()
        binding = total_binding(request.session, request.round, request.contributors)
        reply = OpenReply(
            totals={
                node.name: seal(payload, enrolment.identity, node, binding)
                for node in enrolment.manifest.nodes
            },
            prepares=stage.prepares,
            over=stage.over,
        )
        return Message(reply.to_content(), reply_to=message)

    def _before(
        self, message: Message, summed: RunningSum, session: str, enrolment: Enrolment
    ) -> _Before:
        """Return the total after which the sum was made."""
        if not summed.after:
            return _Before(summed.terms, None)
        totals = News.from_content(message.content).totals
        if [total.round for total in totals] != [summed.after]:
            raise ProtocolError(
                f"a sum over the model after round {summed.after} must come with that round's "
                f"total, got {[total.round for total in totals]}"
            )
        last = unseal_total(totals[0], session, enrolment)
        return _Before(last.digest, last.total)

    def _asked(
        self,
        course: Course,
        config: ConfigRecord,
        request: OpenRequest,
        layout: UpdateLayout,
        node: Node,
    ) -> Asked:
        """Return what follows from the totals so far that hospitals were asked."""
        action, question = course.question(numbered(config, request.round))
        digest = asked_digest(action, question, node.context.run_config, layout)
        return Asked(purpose_of(action), digest, len(layout))

    def _course(
        self, memory: str, config: ConfigRecord, packing: Packing, summed: RunningSum, plan: str
    ) -> Course | None:
        """Return where company X's own training stands; ``None`` if it has no part in it."""
        if not self._learner.with_company_x:
            return None
        start = self._learner.begin(config, packing, None)
        if terms_of(canonical(config), start.model, plan) != summed.terms:
            raise ProtocolError("the train config must be the one that the hospitals have")
        return start.at(Learnt(start.model, memory)) if memory else start


@dataclass(frozen=True, slots=True)
class _Before:
    """The total before a sum, if any, and its digest or that of the terms."""

    digest: bytes
    total: Total | None

    @property
    def memory(self) -> str:
        return "" if self.total is None else self.total.memory
