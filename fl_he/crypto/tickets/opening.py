"""Company X's check of a sum: open the tickets, decrypt the sum or unmask it, compare the tags."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fl_he.crypto.errors import CryptoError
from fl_he.crypto.masks.masked_vector import MaskedVector, mask_stream
from fl_he.crypto.paillier.packing import TAG_MODULUS, within
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.crypto.paillier.summed_vector import SummedVector
from fl_he.crypto.tickets.occasion import Occasion
from fl_he.crypto.tickets.tags import fit, numbers, product, products
from fl_he.crypto.tickets.ticket import SEED_BYTES, Ticket
from fl_he.crypto.tickets.ticketed_sum import TicketedSum

_VALUE_KEY = b"fl-he value key 1"

#: Tells whether a ticket is signed by the hospital that it names.
Verify = Callable[[Ticket, bytes], bool]


class TicketError(CryptoError):
    """A sum whose tickets or tags do not fit. Its text is always the same."""

    def __init__(self) -> None:
        super().__init__(
            "the sum must be of updates made for this sum, one of each contributor, and unchanged"
        )


def value_key_of(key: PrivateKey) -> bytes:
    """Return the value key that goes with company X's key, which seals it to its hospitals."""
    return key.derived(_VALUE_KEY)


def require_tickets(
    tickets: Sequence[Ticket], occasion: Occasion, verify: Verify | None, *, same: bool = True
) -> None:
    """Refuse tickets of other occasions, or of one hospital twice, before anything is decrypted.

    Parameters
    ----------
    tickets : sequence of Ticket
        Of the sum.
    occasion : Occasion
    same : bool
        Whether all hospitals must have been asked what the occasion says.
    verify : callable or None
        ``None`` where hospitals have no identities.

    Raises
    ------
    TicketError
    """
    fits = _different(tickets)
    for ticket in tickets:
        fits = fits and (ticket.asked == occasion.asked or not same)
        fits = fits and (verify is None or verify(ticket, ticket.statement(occasion)))
    if not fits:
        raise TicketError


def _different(tickets: Sequence[Ticket]) -> bool:
    """Tell whether no hospital has two tickets."""
    return len({ticket.hospital for ticket in tickets}) == len(tickets)


def opened(
    summed: TicketedSum, key: PrivateKey, occasion: Occasion, value_key: bytes | None = None
) -> NDArray[np.int64]:
    """Return the total of a sum whose tickets and tags fit.

    Parameters
    ----------
    summed : TicketedSum
    key : PrivateKey
        Company X's.
    occasion : Occasion
        What the sum must be for. Each hospital's question is that of its ticket.
    value_key : bytes or None
        Company X's, where hospitals have it.

    Returns
    -------
    int64 array of shape (occasion.length,)
        Fixed-point integers.

    Raises
    ------
    TicketError
        If anything does not fit. All is computed before anything decrypted is judged: neither
        words nor time show more.
    """
    vector = summed.vector
    if not _different(summed.tickets):  # else a mask would be taken off twice
        raise TicketError
    own = [(ticket, replace(occasion, asked=ticket.asked)) for ticket in summed.tickets]
    infos = [one.to_bytes(ticket.hospital) for ticket, one in own]
    found = [_seed(key, ticket, info) for ticket, info in zip(summed.tickets, infos, strict=True)]
    seeds = [(seed or bytes(SEED_BYTES), info) for seed, info in zip(found, infos, strict=True)]
    try:
        if isinstance(vector, MaskedVector):
            total, right = _unmasked(vector, seeds, occasion, value_key)
        else:
            total, right = _decrypted(vector, seeds, occasion, value_key, key)
    except CryptoError:
        raise TicketError from None
    form = (vector.scheme, len(vector), vector.packing, vector.fingerprint)
    right &= None not in found
    right &= form == (occasion.scheme, occasion.length, occasion.packing, occasion.key)
    if not right:
        raise TicketError
    return total


def _seed(key: PrivateKey, ticket: Ticket, info: bytes) -> bytes | None:
    """Return a ticket's seed, ``None`` if its seal does not open."""
    try:
        return key.open_sealed(ticket.sealed, info)
    except CryptoError:
        return None


def _decrypted(
    vector: SummedVector,
    seeds: Sequence[tuple[bytes, bytes]],
    occasion: Occasion,
    value_key: bytes | None,
    key: PrivateKey,
) -> tuple[NDArray[np.int64], bool]:
    total, sums, right = key.decrypt_tagged(vector)
    rows = vector.packing.rows(total, key.public_key.key_bits, tagged=True)
    return total, right & fit(sums, products(rows, value_key, occasion.value_info()), seeds)


def _unmasked(
    vector: MaskedVector,
    seeds: Sequence[tuple[bytes, bytes]],
    occasion: Occasion,
    value_key: bytes | None,
) -> tuple[NDArray[np.int64], bool]:
    total = vector.unmask([mask_stream(seed, info) for seed, info in seeds])
    right = within(total, len(seeds) * vector.packing.maximum_integer)
    tag = None
    if value_key is not None:
        masks = (numbers(seed, info, 1)[0] for seed, info in seeds)
        tag = (product(total, value_key, occasion.value_info()) + sum(masks)) % TAG_MODULUS
    header = vector.header
    return total, right & ((header.tag, header.occasion) == (tag, occasion.digest()))
