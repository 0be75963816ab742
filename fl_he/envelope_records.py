"""Sealed envelopes as Flower's records carry them, among the hostile records of a message."""

from __future__ import annotations

from collections.abc import Mapping

from flwr.app import Array, ArrayRecord, RecordDict

from fl_he.records import ProtocolError

ENVELOPE_STYPE = "fl-he.envelope"


def envelope_arrays(envelopes: Mapping[str, bytes]) -> ArrayRecord:
    """Return the record that carries envelopes under their names."""
    return ArrayRecord(
        {
            name: Array(dtype="envelope", shape=(len(data),), stype=ENVELOPE_STYPE, data=data)
            for name, data in envelopes.items()
        }
    )


def read_envelopes(content: RecordDict, key: str) -> dict[str, bytes]:
    """Return the envelopes of a record; raises :class:`ProtocolError`."""
    record = content.array_records.get(key)
    if record is None:
        raise ProtocolError(f"a message must hold envelopes in the record {key!r}")
    for array in record.values():
        if array.stype != ENVELOPE_STYPE:
            raise ProtocolError(f"an array must be of type {ENVELOPE_STYPE!r}, got {array.stype!r}")
    return {name: array.data for name, array in record.items()}


def read_envelope(content: RecordDict, key: str) -> bytes:
    """Return the one envelope of a record, named as the record; raises :class:`ProtocolError`."""
    envelopes = read_envelopes(content, key)
    if list(envelopes) != [key]:
        raise ProtocolError(f"the record {key!r} must hold one envelope")
    return envelopes[key]
