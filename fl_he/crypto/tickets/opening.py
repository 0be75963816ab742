"""Company X's check of a sum: decrypt it, open the tickets, compare the tags."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fl_he.crypto.errors import CryptoError
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.crypto.tickets.occasion import Occasion
from fl_he.crypto.tickets.tags import fit, products
from fl_he.crypto.tickets.ticket import Ticket
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
    summed: TicketedSum, occasion: Occasion, verify: Verify | None, *, same: bool = True
) -> None:
    """Refuse tickets of other occasions, or of one hospital twice, before anything is decrypted.

    Parameters
    ----------
    summed : TicketedSum
    occasion : Occasion
    same : bool
        Whether all hospitals must have been asked what the occasion says.
    verify : callable or None
        ``None`` where hospitals have no identities.

    Raises
    ------
    TicketError
    """
    names = summed.contributors
    fits = len(set(names)) == len(names)
    for ticket in summed.tickets:
        fits = fits and (ticket.asked == occasion.asked or not same)
        fits = fits and (verify is None or verify(ticket, ticket.statement(occasion)))
    if not fits:
        raise TicketError


def opened(
    summed: TicketedSum, key: PrivateKey, occasion: Occasion, value_key: bytes | None = None
) -> NDArray[np.int64]:
    """Return the total of a sum whose tags fit.

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
    try:
        own = [(ticket, replace(occasion, asked=ticket.asked)) for ticket in summed.tickets]
        infos = [one.to_bytes(ticket.hospital) for ticket, one in own]
        seeds = [
            key.open_sealed(ticket.sealed, info)
            for ticket, info in zip(summed.tickets, infos, strict=True)
        ]
        total, sums, right = key.decrypt_tagged(vector)
    except CryptoError:
        raise TicketError from None
    rows = vector.packing.rows(total, vector.key_bits, tagged=True)
    expected = products(rows, value_key, occasion.value_info())
    shape = (len(vector), vector.packing, vector.fingerprint)
    right &= shape == (occasion.length, occasion.packing, occasion.key)
    right &= fit(sums, expected, zip(seeds, infos, strict=True))
    if not right:
        raise TicketError
    return total
