"""Tables of descriptive statistics on a node: company X gives out figures without small counts.

A deployed node answers for the table of its study plan alone. The form of the table comes with the
sum, and company X computes from it what hospitals must have been asked: cells of one form pass for
no other. Under differential privacy the cells have noise, and none is withheld.
"""

from __future__ import annotations

from time import perf_counter

from flwr.app import Message, RecordDict

from fl_he.clients.encryption import EncryptionMod
from fl_he.clients.key_holder import Policy
from fl_he.clients.node.node import Node
from fl_he.clients.node.outgoing import Answer
from fl_he.clients.opening import Asked, Opener
from fl_he.clients.table_cells import blank_table
from fl_he.learning.describing.cells import Bounded
from fl_he.learning.describing.noisy import noise_of, noisy_table
from fl_he.learning.describing.statistics import table_of
from fl_he.learning.tables.moments import Limbs
from fl_he.wire.encrypted_sum import DECRYPT, TABLE, DecryptRequest, MisfitReply, Role
from fl_he.wire.learning_terms import read_privacy
from fl_he.wire.occasions import asked_digest
from fl_he.wire.permission import PERMIT, PermitRequest
from fl_he.wire.records import ProtocolError, refused_as, sent_config
from fl_he.wire.table import TableReply, TableRequest, table_question_in
from fl_he.wire.update import layout_of
from fl_he.wire.update_layout import EXAMPLES, FIRST_VALUE


class Describing:
    """The part of a node that answers for tables; see `fl_he.clients.node.app.Part`.

    Parameters
    ----------
    policy : callable
        Returns company X's policy.
    mod : EncryptionMod
        Encrypts the hospitals' replies.
    """

    def __init__(self, policy: Policy, mod: EncryptionMod) -> None:
        self._policy, self._mod = policy, mod

    def __call__(self, message: Message, node: Node, answer: Answer) -> Message:
        """Answer a message about a table, and pass any other on."""
        action, content = message.metadata.message_type, message.content
        if not TableRequest.is_in(content):
            return answer(message, node)
        if not (node.simulated or node.plan):
            raise ProtocolError("a deployed node must be asked for a table under a study plan")
        if action == TABLE:
            return answer(message, node)
        if action not in (DECRYPT, PERMIT):
            raise ProtocolError(f"the form of a table must come with its cells, got {action!r:.40}")
        if node.role is not Role.KEY_HOLDER:
            raise ProtocolError("only company X can open a sum, and this node is a hospital")
        kind = DecryptRequest if action == DECRYPT else PermitRequest
        return Message(self._opened(kind.from_content(content), content, node), reply_to=message)

    def _opened(
        self, request: DecryptRequest | PermitRequest, content: RecordDict, node: Node
    ) -> RecordDict:
        """Return company X's answer to a sum, or to the question whether it may be sent."""
        start = perf_counter()
        if request.purpose != "table":
            raise ProtocolError("the form of a table must come with the cells of a table")
        question = table_question_in(content)
        form, terms = TableRequest.from_content(question).form, read_privacy(sent_config(question))
        opener = Opener.of(node, self._policy(node.context), request.session)
        packing = opener.policy.packing
        limbs = Limbs(packing.fraction_bits, packing.integer_bits)
        sums = limbs if terms is None else Bounded(packing.fraction_bits)
        layout = layout_of(blank_table(form, sums), self._mod.form(packing))
        digest = asked_digest(TABLE, question, node.context.run_config, layout)
        asked = Asked("table", digest, len(layout))
        if isinstance(request, PermitRequest):
            opener.permit(request, asked=asked)
            return RecordDict()
        opened = opener.open(request, asked=asked)
        if opened is None:
            return MisfitReply().to_content()
        cells, examples = opened.total[FIRST_VALUE:], int(opened.total[EXAMPLES])
        with refused_as("the hospitals'"):
            cells = cells.reshape(form.parts, -1)
            if isinstance(sums, Limbs) or terms is None:
                table = table_of(cells, form, examples, limbs, opener.policy.min_cell)
            else:
                noise = noise_of(form, sums, terms, len(opened.contributors))
                table = noisy_table(cells, form, examples, sums, noise)
        seconds = perf_counter() - start if node.simulated else 0.0
        return TableReply(table, seconds).to_content()
