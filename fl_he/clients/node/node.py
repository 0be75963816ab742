"""Who this node is: its role and name, from the node's own configuration."""

from __future__ import annotations

from dataclasses import dataclass

from flwr.app import Context
from flwr.supercore.task_identity import TaskIdentity

from fl_he.clients.node.node_config import DEPLOYED_ONLY
from fl_he.clients.node.setting import node_setting
from fl_he.wire.encrypted_sum import ProtocolError, Role

_PARTITION = "partition-id"


@dataclass(frozen=True, slots=True)
class Node:
    """A node's identity.

    Attributes
    ----------
    role : Role
    name : str
        For messages to people.
    partition : int or None
        The node's number in a simulation, ``None`` for a deployed node.
    """

    role: Role
    name: str
    partition: int | None = None

    @property
    def simulated(self) -> bool:
        """Whether the node lives in a simulation."""
        return self.partition is not None


def is_simulated(context: Context) -> bool:
    """Return whether the node is one of Flower's simulation; False for any that says a role."""
    silent = "role" not in context.node_config and _PARTITION in context.node_config
    return silent and not _has_own_process(context)


def _has_own_process(context: Context) -> bool:
    """Return whether a SuperNode started this process, as a simulation starts none for a node.

    Deployed nodes may have partitions in their configuration too, as Flower's guides show it.
    """
    try:
        return TaskIdentity.node_id == context.node_id
    except RuntimeError:  # it is not set in the actors of a simulation
        return False


def read_node(context: Context) -> Node:
    """Return the node's identity.

    A deployed node says ``role`` and ``name`` in its node configuration. Flower's simulation
    configures nothing but partitions: there the last one is the key holder.

    Raises
    ------
    ProtocolError
        If the node configuration does not say enough.
    """
    if (role := node_setting(context, "role")) is not None:
        return _deployed(context, role)
    # Without a role they would be ignored, pins included.
    lost = sorted(DEPLOYED_ONLY & set(context.node_config))
    if lost:
        raise ProtocolError(f"a node whose configuration holds {lost} must say its role as well")
    if _PARTITION in context.node_config and not is_simulated(context):
        raise ProtocolError(
            f"a deployed node must say its role as well, {_PARTITION} alone is for simulations: "
            "there it would take whatever key it is sent, and its errors would be told in full"
        )
    partition = context.node_config.get(_PARTITION)
    partitions = context.node_config.get("num-partitions")
    if not isinstance(partition, int) or not isinstance(partitions, int):
        raise ProtocolError(
            "a node must say its role: start it with --node-config 'role=\"hospital\" ...' or "
            "'role=\"key-holder\" ...'"
        )
    if partition == partitions - 1:
        return Node(Role.KEY_HOLDER, "company X", partition)
    return Node(Role.HOSPITAL, f"hospital-{partition + 1}", partition)


def _deployed(context: Context, role: str) -> Node:
    if role not in list(Role):
        raise ProtocolError(
            f"role in the node configuration must be one of {list(map(str, Role))}, got {role!r}"
        )
    name = node_setting(context, "name") or f"node-{context.node_id}"
    pins = ("key-fingerprint", "federation")
    if role == Role.HOSPITAL and all(node_setting(context, pin) is None for pin in pins):
        raise ProtocolError(
            "a deployed hospital must be given key-fingerprint or federation in its node "
            "configuration: the fingerprint of company X's public key, or the manifest that holds "
            "it, by another way than the coordinator's"
        )
    return Node(Role(role), name)
