"""Descriptions of nodes: ask for them, and compare them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from flwr.app import Message
from flwr.serverapp import Grid

from fl_he.learning.tables.data import first_schema_difference
from fl_he.strategies.exchange import exchange
from fl_he.wire.encrypted_sum import DESCRIBE, DescribeRequest, Description, printable


def descriptions(
    grid: Grid, nodes: list[int], timeout: float, session: str
) -> Iterator[tuple[int, Message]]:
    """Ask nodes to describe themselves, in company X's session; yield each node and its answer."""
    asked = DescribeRequest(session)
    requests = [Message(asked.to_content(), node_id, DESCRIBE) for node_id in nodes]
    for reply in exchange(grid, requests, timeout):
        yield reply.metadata.src_node_id, reply


def difference(
    features: Sequence[str],
    classes: Sequence[str],
    imputed: Sequence[str],
    outcome: tuple[str, str],
    got: Description,
) -> str | None:
    """Return how a hospital's features, outcome or imputed columns differ from the others'.

    ``outcome``: the family and the column of exposures. The words are fit to show.
    """
    family, exposure = outcome
    found = first_schema_difference(features, got.features)
    if found is None and tuple(classes) != got.classes:
        wanted, others = (", ".join(map(repr, one)) or "two" for one in (classes, got.classes))
        found = f"classes must be {wanted}, got {others}"
    if found is None and tuple(imputed) != got.imputed:
        wanted, others = (", ".join(map(repr, one)) or "none" for one in (imputed, got.imputed))
        found = f"columns with missing: mean must be {wanted}, got {others}"
    if found is None and family != got.family:
        wanted, others = (one or "of classes" for one in (family, got.family))
        found = f"the outcome's family must be {wanted}, got {others}"
    if found is None and exposure != got.exposure:
        wanted, others = (repr(one) if one else "null" for one in (exposure, got.exposure))
        found = f"the outcome's exposure must be {wanted}, got {others}"
    return found and printable(found)
