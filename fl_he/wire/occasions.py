"""Occasions of sums, as hospitals and company X know them."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256

from flwr.app import MessageType, RecordDict

from fl_he.crypto.encoding.canonical import encode_fields
from fl_he.wire.encrypted_sum import TABLE, Purpose
from fl_he.wire.training_messages import PURPOSES
from fl_he.wire.update_layout import UpdateLayout

#: Purposes of sums, by the action that hospitals answer.
SUMMED: Mapping[str, Purpose] = {MessageType.EVALUATE: "evaluate", TABLE: "table", **PURPOSES}


def purpose_of(action: str) -> Purpose:
    """Return the purpose of the sum of replies to an action; ``prepare`` for an app's own."""
    return SUMMED.get(action, "prepare")


def asked_digest(
    action: str, content: RecordDict, run_config: Mapping[str, object], layout: UpdateLayout
) -> bytes:
    """Return a digest of all that an app sees of a message, and of the reply's layout.

    Parameters
    ----------
    action : str
        The message's type.
    content : RecordDict
        As the coordinator has sent it, or as it follows from company X's totals.
    run_config : mapping
        Of the Flower run.
    layout : UpdateLayout
        Of the reply.
    """
    fields = [action.encode(), layout.to_json().encode(), *_items(run_config)]
    for key, record in sorted(content.array_records.items()):
        fields += [b"arrays", key.encode()]
        for name, array in record.items():
            form = repr((name, array.dtype, tuple(array.shape), array.stype))
            fields += [form.encode(), array.data]
    for key, values in sorted(content.config_records.items()):
        fields += [b"config", key.encode(), *_items(values)]
    for key, metrics in sorted(content.metric_records.items()):
        fields += [b"metrics", key.encode(), *_items(metrics)]
    return sha256(encode_fields(*fields)).digest()


def _items(values: Mapping[str, object]) -> list[bytes]:
    return [encode_fields(*(repr(item).encode() for item in sorted(values.items())))]
