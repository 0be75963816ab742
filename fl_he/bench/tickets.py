"""Cost of tickets, apart from the encryption of the same updates: section `kernel` has both.

A hospital seals a seed to company X, signs, and computes a tag for each ciphertext, and pairwise
masks where it has them. Company X verifies the signatures, opens the seeds, and compares the tags
of the sum.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from fl_he.bench.fresh import BenchError
from fl_he.bench.schemes import Vector
from fl_he.bench.timing import Effort, Follow, in_turn
from fl_he.crypto.encoding.streams import KEY_BYTES
from fl_he.crypto.envelopes.identity import Identity
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.crypto.tickets.occasion import Occasion
from fl_he.crypto.tickets.pairs import PairMasks
from fl_he.crypto.tickets.tags import fit, products, tags_of
from fl_he.crypto.tickets.ticket import Ticket

#: Hospitals that mask for each other.
PAIRED = 20


@dataclass(frozen=True, slots=True)
class TicketRun:
    """Seconds of one run.

    Attributes
    ----------
    seal_seconds, sign_seconds, tag_seconds, pair_seconds : float
        Of one update: mean of all. Pairwise masks are of `PAIRED` hospitals.
    verify_seconds, unseal_seconds, check_seconds : float
        Of one opening, of all updates.
    """

    seal_seconds: float
    sign_seconds: float
    tag_seconds: float
    pair_seconds: float
    verify_seconds: float
    unseal_seconds: float
    check_seconds: float


def measure_tickets(
    key: PrivateKey, updates: Sequence[Vector], effort: Effort, follow: Follow
) -> dict[str, Any]:
    """Measure the tickets of updates, with a manifest: signed, and with a value key.

    Returns
    -------
    dict
        ``key_bits``, ``length``, ``paired`` (`PAIRED`), medians of the members of `TicketRun`,
        ``ticket_bytes`` of one update, ``ciphertexts`` of one update with tags and
        ``untagged_ciphertexts`` without.
    """
    public, packing, length = key.public_key, Packing(), len(updates[0])
    about = f"{public.key_bits} bits, {length:,} values: tickets"
    work = _Work(key, updates)
    runs = in_turn({about: work.run}, effort, follow)[about]
    return {
        "key_bits": public.key_bits,
        "length": length,
        "paired": PAIRED,
        **{
            part.name: median(getattr(run, part.name) for run in runs) for part in fields(TicketRun)
        },
        "ticket_bytes": work.ticket_bytes,
        "ciphertexts": packing.ciphertexts(length, public.key_bits, tagged=True),
        "untagged_ciphertexts": packing.ciphertexts(length, public.key_bits),
    }


class _Work:
    """Hospitals and company X, with keys that die with the benchmark."""

    def __init__(self, key: PrivateKey, updates: Sequence[Vector]) -> None:
        self._key, packing = key, Packing()
        self._integers = [packing.encode(values) for values in updates]
        self._hospitals = [
            Identity.generate(f"hospital-{number}", "hospital") for number, _ in enumerate(updates)
        ]
        self._value_key = secrets.token_bytes(KEY_BYTES)
        self._occasion = Occasion(
            *(key.public_key.fingerprint, secrets.token_hex(16), "train", 1, bytes(32), packing),
            len(updates[0]),
        )
        use = self._occasion.pair_info(bytes(32), self._value_key)
        halves = {f"other-{number}": secrets.token_bytes(KEY_BYTES) for number in range(PAIRED - 1)}
        self._masks = [
            PairMasks(hospital.public.name, secrets.token_bytes(KEY_BYTES), halves, use)
            for hospital in self._hospitals
        ]
        self.ticket_bytes = 0

    def run(self) -> TicketRun:
        """Make the tickets and tags of all updates, and check those of their sum."""
        public, occasion, hospitals = self._key.public_key, self._occasion, self._hospitals
        packing, info = occasion.packing, occasion.value_info()
        names = [hospital.public.name for hospital in hospitals]
        marks = [perf_counter()]
        issued = [Ticket.issue(public, occasion, name, None) for name in names]
        marks.append(perf_counter())
        tickets = [
            replace(ticket, signature=hospital.sign(ticket.statement(occasion)))
            for hospital, (ticket, _) in zip(hospitals, issued, strict=True)
        ]
        marks.append(perf_counter())
        tags = [
            tags_of(
                products(
                    packing.rows(integers, public.key_bits, tagged=True), self._value_key, info
                ),
                seed,
                occasion.to_bytes(name),
            )
            for integers, (_, seed), name in zip(self._integers, issued, names, strict=True)
        ]
        marks.append(perf_counter())
        for masks in self._masks:
            masks.plaintexts(len(tags[0]), int(public.n))
        marks.append(perf_counter())
        self.ticket_bytes = max(len(ticket.to_bytes()) for ticket in tickets)
        # Company X decrypts both: section `kernel` measures that.
        total, sums = np.sum(self._integers, axis=0), list(map(sum, zip(*tags, strict=True)))
        marks.append(perf_counter())
        right = [
            hospital.public.verifies(ticket.signature, ticket.statement(occasion))
            for hospital, ticket in zip(hospitals, tickets, strict=True)
        ]
        marks.append(perf_counter())
        infos = [occasion.to_bytes(name) for name in names]
        seeds = [
            self._key.open_sealed(ticket.sealed, own)
            for ticket, own in zip(tickets, infos, strict=True)
        ]
        marks.append(perf_counter())
        rows = packing.rows(total, public.key_bits, tagged=True)
        fits = fit(sums, products(rows, self._value_key, info), zip(seeds, infos, strict=True))
        marks.append(perf_counter())
        if not (fits and all(right)):
            raise BenchError("the tickets do not fit their own sum")
        steps = [end - start for start, end in pairwise(marks)]
        return TicketRun(*(step / len(hospitals) for step in steps[:4]), *steps[5:])
