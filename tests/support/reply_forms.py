"""All that the coordinator sees of a node's reply, but for the bytes of its ciphertexts."""

from __future__ import annotations

from flwr.app import Array, Message


def form_of(reply: Message) -> object:
    """Return the part of a reply that is visible without decryption: names, types, sizes, words."""
    if reply.has_error():
        return reply.error.code, reply.error.reason
    return [
        (
            *(key, name, type(value).__name__),
            (value.dtype, value.shape, value.stype, len(value.data))
            if isinstance(value, Array)
            else value,
        )
        for key, record in reply.content.items()
        for name, value in record.items()
    ]
