"""Refuse all changes that a coordinator makes to masked sums with a manifest and a plan.

Hospitals have a value key, so every sum has a tag. Each refusal has the same constant text, and
uses the round up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lying_coordinator import CLINICS, LyingCoordinator, clinics, update_of
from sealed_steps import reason
from study_plans import PLAN
from ticketed_sums import MadeSum

from fl_he.crypto.masks.masked_vector import HEADER_BYTES, MaskedVector
from fl_he.crypto.paillier.packing import TAG_MODULUS, Packing
from fl_he.crypto.schemes import MASKS, PAILLIER
from fl_he.crypto.tickets.opening import TicketError
from fl_he.crypto.tickets.tags import product
from fl_he.crypto.tickets.ticket import Ticket
from fl_he.crypto.tickets.ticketed_sum import TicketedSum
from fl_he.wire.encrypted_sum import DecryptReply

GRADIENTS = replace(PLAN, optimizers=("gd",), C=(None,))
NAMES = ("clinic-1", "clinic-2", "clinic-3")
UNFIT = str(TicketError())


class MaskingCoordinator(LyingCoordinator):
    """Asks for masks unless told otherwise."""

    def __init__(self, folder: Path) -> None:
        super().__init__(clinics(folder, GRADIENTS), GRADIENTS)

    def update(self, node: int, scheme: str = MASKS, **asked: Any) -> TicketedSum:
        """Return a hospital's fresh update."""
        more = {"scheme": scheme}
        return self.read(update_of(self.ask(node, more=more, **asked)))

    def read(self, data: bytes) -> TicketedSum:
        """Return a sum that may be added to and changed."""
        return TicketedSum.from_bytes(data, self.public_key)

    def updates(self) -> list[TicketedSum]:
        return [self.update(node) for node in CLINICS]

    def sum_of(self, parts: Sequence[TicketedSum]) -> TicketedSum:
        total = self.read(parts[0].to_bytes())
        for part in parts[1:]:
            total.add_in_place(part, self.public_key)
        return total

    def answer(self, summed: TicketedSum) -> str:
        """Return why company X does not open a sum."""
        return reason(self.open(summed.to_bytes()))


@pytest.fixture
def liar(tmp_path: Path) -> MaskingCoordinator:
    return MaskingCoordinator(tmp_path)


def masked(summed: TicketedSum) -> MaskedVector:
    assert isinstance(summed.vector, MaskedVector)
    assert summed.vector.tagged, "hospitals have a value key"
    return summed.vector


def with_vector(
    summed: TicketedSum,
    change: Callable[[bytearray, int], object] = lambda body, width: None,
    **header: Any,
) -> TicketedSum:
    """Return a sum whose words or header are changed."""
    vector = masked(summed)
    body = bytearray(vector.to_bytes()[HEADER_BYTES:])
    change(body, vector.header.width)
    changed = MaskedVector(replace(vector.header, **header), body)
    return TicketedSum(changed, summed.tickets)


def with_tickets(summed: TicketedSum, *tickets: Ticket) -> TicketedSum:
    return TicketedSum(summed.vector, tickets)


def refused_for_good(liar: MaskingCoordinator, sent: TicketedSum, honest: TicketedSum) -> None:
    assert liar.answer(sent) == UNFIT
    assert "open already" in liar.answer(honest), "a second try would be a question more"


def refused_unopened(liar: MaskingCoordinator, sent: TicketedSum, honest: TicketedSum) -> None:
    """The hospitals have not signed these tickets for such a sum: no seed is opened."""
    assert liar.answer(sent) == UNFIT
    assert liar.open(honest.to_bytes()).has_content()


def test_honest_sums_are_opened(liar: MaskingCoordinator) -> None:
    for number in (1, 2):
        summed = liar.sum_of([liar.update(node, round_=number) for node in CLINICS])
        opened = DecryptReply.from_content(liar.open(summed.to_bytes(), number).content)
        assert opened.total[0] == 3.0
        liar.totals.append(opened.signed or b"")


WORDS: dict[str, Callable[[bytearray, int], object]] = {
    "lowest bit": lambda body, width: body.__setitem__(0, body[0] ^ 1),
    "highest bit": lambda body, width: body.__setitem__(width - 1, body[width - 1] ^ 0x80),
    "last word": lambda body, width: body.__setitem__(-1, body[-1] ^ 1),
    "zeros": lambda body, width: body.__setitem__(slice(None), bytes(len(body))),
    "two values change places": lambda body, width: body.__setitem__(
        slice(None), body[width : 2 * width] + body[:width] + body[2 * width :]
    ),
}


@pytest.mark.parametrize("change", WORDS.values(), ids=WORDS)
def test_altered_words(
    liar: MaskingCoordinator, change: Callable[[bytearray, int], object]
) -> None:
    honest = liar.sum_of(liar.updates())
    refused_for_good(liar, with_vector(honest, change), honest)


@pytest.mark.parametrize(
    "header",
    [
        lambda header: {"tag": (header.tag + 1) % TAG_MODULUS},
        lambda header: {"tag": None},
        lambda header: {"occasion": bytes(32)},
    ],
    ids=["tag", "no tag", "occasion"],
)
def test_an_altered_header(liar: MaskingCoordinator, header: Callable[[Any], Any]) -> None:
    honest = liar.sum_of(liar.updates())
    changed = header(masked(honest).header)
    refused_for_good(liar, with_vector(honest, **changed), honest)


def test_a_word_and_the_tag_by_a_value_key_of_choice(liar: MaskingCoordinator) -> None:
    honest = liar.sum_of(liar.updates())
    shift = np.zeros(len(honest.vector), dtype=np.int64)
    shift[0] = 1
    tag = masked(honest).header.tag
    assert tag is not None
    tag = (tag + product(shift, bytes(32), b"")) % TAG_MODULUS
    # The word's lowest byte is below 255 but once in 256 runs, and then the carry is lost.
    changed = with_vector(honest, lambda body, _: body.__setitem__(0, (body[0] + 1) % 256), tag=tag)
    refused_for_good(liar, changed, honest)


def test_a_vector_with_the_ticket_of_another_hospital(liar: MaskingCoordinator) -> None:
    """The second vector is left out, the first is there twice, and each ticket once."""
    first, second, third = liar.updates()
    honest = liar.sum_of([first, second, third])
    vectors = liar.sum_of([first, with_tickets(first, *second.tickets), third])
    refused_for_good(liar, vectors, honest)


def test_swapped_tickets_are_the_same_sum(liar: MaskingCoordinator) -> None:
    """Within one sum the order of tickets says nothing: company X opens the same total."""
    honest = liar.sum_of(liar.updates())
    assert liar.open(with_tickets(honest, *honest.tickets[::-1]).to_bytes()).has_content()


def test_a_repeated_request(liar: MaskingCoordinator) -> None:
    """One vector of a hospital with the ticket of its other answer to the same request."""
    first, second, third = liar.updates()
    again = liar.update(CLINICS[0])
    honest = liar.sum_of([first, second, third])
    assert again.tickets[0].asked == first.tickets[0].asked
    assert again.tickets != first.tickets
    mixed = with_tickets(honest, *again.tickets, *honest.tickets[1:])
    refused_for_good(liar, mixed, honest)


@pytest.mark.parametrize("place", [0, 1])
def test_a_hospital_twice(liar: MaskingCoordinator, place: int) -> None:
    """One answer twice, or its answers to a request that was sent twice."""
    first, second, third = liar.updates()
    honest = liar.sum_of([first, second, third])
    again = (first, liar.update(CLINICS[0]))[place]
    refused_unopened(liar, liar.sum_of([first, again, third]), honest)


def test_an_update_of_another_round(liar: MaskingCoordinator) -> None:
    """The header can be rewritten; the ticket is for its own round alone."""
    honest = liar.sum_of(liar.updates())
    reply = liar.open(honest.to_bytes())
    liar.totals.append(DecryptReply.from_content(reply.content).signed or b"")
    first, second, third = (liar.update(node, round_=2) for node in CLINICS)
    old = with_vector(liar.read(honest.to_bytes()), occasion=masked(first).header.occasion)
    names = (*first.tickets, *second.tickets, honest.tickets[2])
    mixed = with_tickets(liar.sum_of([first, second, third]), *names)
    for sent in (old, mixed):
        assert reason(liar.open(sent.to_bytes(), 2)) == UNFIT
    assert liar.open(liar.sum_of([first, second, third]).to_bytes(), 2).has_content()


@pytest.mark.parametrize("asked", [PAILLIER, MASKS])
def test_a_hospital_of_the_other_scheme_in_a_sum(liar: MaskingCoordinator, asked: str) -> None:
    """Its vector cannot be added, so its ticket comes alone."""
    other = MASKS if asked == PAILLIER else PAILLIER
    first, second = (liar.update(node, asked) for node in CLINICS[:2])
    third, odd = (liar.update(CLINICS[2], scheme) for scheme in (asked, other))
    honest = liar.sum_of([first, second, third])
    mixed = with_tickets(honest, *first.tickets, *second.tickets, *odd.tickets)
    refused_unopened(liar, mixed, honest)


def test_a_sum_that_claims_another_scheme(liar: MaskingCoordinator) -> None:
    """Words of choice under the tickets of Paillier updates, with any tag."""
    made = [liar.update(node, PAILLIER) for node in CLINICS]
    honest = liar.sum_of(made)
    length = len(honest.vector)
    packing = Packing(max_contributors=len(CLINICS))
    fake = MadeSum(
        *(liar.public_key, np.zeros(length), NAMES, packing), scheme=MASKS, value_key=bytes(32)
    ).made(liar.session)
    claimed = with_tickets(fake, *honest.tickets)
    refused_unopened(liar, claimed, honest)


def test_a_magic_of_the_other_scheme(liar: MaskingCoordinator) -> None:
    """Refuse a vector of the wrong scheme before any ticket is read."""
    honest = liar.sum_of(liar.updates())
    data = honest.to_bytes()
    other = data.replace(b"FLHM", liar.update(CLINICS[0], PAILLIER).vector.to_bytes()[:4], 1)
    assert reason(liar.open(other)) not in ("", UNFIT)
    assert liar.open(data).has_content(), "nothing was unmasked"


@pytest.mark.parametrize("value_key", [None, bytes(32)], ids=["no tag", "any tag"])
def test_made_up_words(liar: MaskingCoordinator, value_key: bytes | None) -> None:
    """Words of choice, under tickets that nobody has signed and under the hospitals' own."""
    honest = liar.sum_of(liar.updates())
    packing = Packing(max_contributors=len(CLINICS))
    numbers = [3.0, 12.0, *[1.0] * (len(honest.vector) - 2)]
    made = MadeSum(
        *(liar.public_key, numbers, NAMES, packing), scheme=MASKS, value_key=value_key
    ).made(liar.session)
    assert liar.answer(made) == UNFIT
    refused_for_good(liar, with_tickets(made, *honest.tickets), honest)
