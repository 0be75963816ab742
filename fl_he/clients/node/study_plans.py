"""The check of each message against the node's study plans, before anything else reads it."""

from __future__ import annotations

from flwr.app import Message

from fl_he.clients.node.node import Node
from fl_he.clients.node.run_key_check import require_session
from fl_he.clients.plan_ledger import PlanLedger
from fl_he.wire.planned_messages import Choice, check, is_planned
from fl_he.wire.records import ProtocolError


def require_planned(message: Message, node: Node) -> None:
    """Refuse a message that no study plan of the node allows, and note what it asks for.

    The coordinator's choice is taken out of the message: nothing behind this check reads it. A node
    whose manifest names no plans is asked without.

    Raises
    ------
    ProtocolError
        By the message and the plan alone; see :func:`fl_he.wire.planned_messages.check`.
    """
    content, action = message.content, message.metadata.message_type
    if Choice.HOME in content:
        message.content = Choice.remove_from(content)
    if not is_planned(action) or not node.plans:
        return
    if Choice.HOME not in content:
        raise ProtocolError(
            "a message must name a study plan, as this node's manifest does: start the run with "
            "plan=FILE"
        )
    digest = Choice.from_content(content).plan
    if digest not in node.plans:
        raise ProtocolError(
            f"a message must be under a study plan of this node, {_listed(node)}, got {digest[:16]}"
        )
    node.plan, plan = digest, node.plans[digest]
    node.check_plan(plan)
    asked, ledger = check(plan, action, content), PlanLedger(node.planned())
    require_session(message, node)
    if asked is None:
        ledger.require_begun(digest, node.session)
    else:
        ledger.note(plan, asked)


def _listed(node: Node) -> str:
    return " or ".join(known[:16] for known in node.plans)
