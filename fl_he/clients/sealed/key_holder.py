"""Company X in a sealed chain: it tells hospitals its session and seals totals for them.

It opens a sum under the same policy as ever. Besides, the sum must come sealed and signed by the
last of its contributors, who must all be hospitals of the manifest, and over the model after the
round that was opened last: so all totals of a session lie on one line, and each hospital can tell
whether one is missing.
"""

from __future__ import annotations

from time import perf_counter

from flwr.app import ConfigRecord, Context, Message

from fl_he.clients.key_holder import (
    Policy,
    key_and_ledger,
    open_sum,
    own_policy,
    with_metric_means,
)
from fl_he.clients.node.enrolment import Enrolment
from fl_he.clients.node.node import Node
from fl_he.clients.node.outgoing import Answer
from fl_he.clients.sealed.payload import Total, session_binding, total_binding, unseal_sum
from fl_he.crypto.envelopes.sealing import seal
from fl_he.wire.encrypted_sum import DecryptRequest, Role
from fl_he.wire.records import ProtocolError
from fl_he.wire.sealed_messages import (
    OpenReply,
    OpenRequest,
    SessionReply,
    SessionRequest,
)
from fl_he.wire.update_layout import UpdateLayout

_STATE = "fl-he.chain-holder"
_LONGEST_CHALLENGE = 64


class SealedKeyHolder:
    """Company X's half of a sealed chain.

    Parameters
    ----------
    policy : callable
        Returns the policy of the node that asks.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    @staticmethod
    def is_begun(context: Context) -> bool:
        """Tell whether this node's session is one of sealed chains."""
        return _STATE in context.state.config_records

    def session(self, message: Message, node: Node, enrolment: Enrolment, _: Answer) -> Message:
        """State the session to each hospital that asks, signed together with its challenge."""
        request = SessionRequest.from_content(message.content)
        policy = self._policy(node.context)
        ledger = key_and_ledger(node, policy)[1]
        session = request.session or ledger.session(node.context.run_id)
        latest = ledger.latest(session)
        node.context.state.config_records.setdefault(_STATE, ConfigRecord())
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
        )
        return Message(reply.to_content(), reply_to=message)

    def open(self, message: Message, node: Node, enrolment: Enrolment, _: Answer) -> Message:
        """Open a round's sum once and seal the total for every hospital of the manifest.

        Who asks for the very same sum again, since the answer was lost, gets the same total again.
        """
        request = OpenRequest.from_content(message.content)
        policy = self._policy(node.context)
        key, ledger = key_and_ledger(node, policy)
        ledger.latest(request.session)  # refuses an unknown session
        start = perf_counter()
        summed = unseal_sum(
            request.envelope, request.session, request.round, request.contributors, enrolment
        )
        total = open_sum(
            DecryptRequest(
                session=request.session,
                purpose="train",
                round=request.round,
                contributors=len(request.contributors),
                encrypted_sum=summed.vector,
            ),
            own_policy(node.context, policy),
            key,
            ledger,
            follows=summed.after,
        )
        layout = UpdateLayout.from_json(summed.layout)
        if len(layout) != len(total):
            raise ProtocolError("the running sum must have the length of its layout")
        minimum = own_policy(node.context, policy).min_contributors
        total = with_metric_means(total, layout.metric_values, minimum)
        payload = Total(summed.after, summed.layout, total).to_bytes()
        binding = total_binding(request.session, request.round, request.contributors)
        reply = OpenReply(
            totals={
                hospital.name: seal(payload, enrolment.identity, hospital, binding)
                for hospital in enrolment.manifest.hospitals
            },
            decrypt_seconds=perf_counter() - start,
        )
        return Message(reply.to_content(), reply_to=message)
