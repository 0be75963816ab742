"""Look for secrets in a CaPC role's view of whole runs.

The obvious means only: search for plaintexts, ciphertexts without randomness or seen before, and
with the role's own keys, decrypted numbers that are not hidden or results that depend on secrets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, combinations
from math import factorial, prod

import numpy as np
from capc_parties import Parties
from dgk_decryption import slot_numbers
from flwr.app import Message
from integer_scores import integer_scores
from message_search import leaks as plaintexts
from numpy.typing import NDArray
from scipy.stats import chi2_contingency, chisquare

from fl_he.capc.messages import CapcReply
from fl_he.capc.node.keys import KeyPair
from fl_he.capc.protocol import CapcStep
from fl_he.capc.terms import VOTE_BITS
from fl_he.crypto.comparison.argmax import pair_batch, pairs, tie_bits, winner
from fl_he.crypto.comparison.comparison import Batch
from fl_he.crypto.comparison.relu import unit_batch
from fl_he.crypto.comparison.slot_layout import SlotLayout
from fl_he.crypto.paillier.encrypted_vector import EncryptedVector

#: A p-value below it happens once in a million tests of an honest run.
RARE = 1e-6
_WHOLE = ("<f8", ">f8", "<i8", ">i8")
#: Under whose key the parts of a step's replies are, and in which scheme; in the querying party's
#: they are named after the parties that they are for.
_PAILLIER = {
    CapcStep.ASK: "querying",
    CapcStep.EVALUATE: "querying",
    CapcStep.PRODUCTS: "querying",
    CapcStep.RECTIFY: "querying",
    CapcStep.VOTE: "guardian",
    CapcStep.COLLECT: "guardian",
    CapcStep.NOISE: "guardian",
    CapcStep.COUNT: "guardian",
    CapcStep.RELEASE: "querying",
}
_DGK = {
    CapcStep.UNIT_BITS: "querying",
    CapcStep.COMPARE_UNITS: "querying",
    CapcStep.LOGIT_BITS: "querying",
    CapcStep.COMPARE: "querying",
    CapcStep.COUNT_BITS: "guardian",
    CapcStep.COMPARE_COUNTS: "guardian",
    CapcStep.DECIDE: "guardian",
    CapcStep.ANY: "guardian",
}


@dataclass
class Run:
    """One batch: its parties, the nodes' replies, and secrets that only the test knows."""

    parties: Parties
    replies: dict[CapcStep, list[CapcReply]] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)

    def parts(self, step: CapcStep) -> Iterator[tuple[str, bytes]]:
        for reply in self.replies.get(step, []):
            yield from reply.parts.items()

    def given(self, name: str, *steps: CapcStep) -> list[bytes]:
        """Return a part of all replies that hold it."""
        return [data for step in steps for key, data in self.parts(step) if key == name]


def recorded(parties: Parties, batches: int) -> list[Run]:
    """Have the same queries answered several times."""
    runs = []
    for _ in range(batches):
        start = len(parties.grid.sent), len(parties.grid.received)
        run = Run(parties, labels=list(parties.ask()))
        sent, received = parties.grid.sent[start[0] :], parties.grid.received[start[1] :]
        run.messages = [*sent, *received]
        # Replies come in any order; a party's scores are compared with its own.
        for message in sorted(received, key=lambda reply: reply.metadata.src_node_id):
            run.replies.setdefault(CapcStep(message.metadata.message_type), []).append(
                CapcReply.from_content(message.content)
            )
        runs.append(run)
    return runs


def leaks(parties: Parties, runs: Sequence[Run]) -> set[str]:
    """Return the findings, as "role: finding"; almost surely none in honest runs."""
    return {
        *_in_messages(parties, runs),
        *_in_ciphertexts(parties, runs),
        *_of_querying_party(parties, runs),
        *_of_units(parties, runs),
        *_of_guardian(parties, runs),
        *_of_coordinator(parties, runs),
    }


def _in_messages(parties: Parties, runs: Sequence[Run]) -> Iterator[str]:
    """Search for plaintexts as text, integers and floats; the coordinator sees all messages."""
    # small numbers stand everywhere; as eight bytes they do not come by chance
    numbers = [*parties.queries[:5].flatten().tolist()]
    for model in [model for run in runs for model in run.parties.models]:
        numbers += integer_scores(model, parties.queries[:5]).flatten().tolist()
    values = {f"{number}": float(number) for number in numbers if abs(number) > 999}
    for run in runs:
        if plaintexts(run.messages, values, _WHOLE):
            yield "coordinator: plaintext"


def _in_ciphertexts(parties: Parties, runs: Sequence[Run]) -> Iterator[str]:
    """Look for ciphertexts without randomness, and for those that occur in two replies."""
    keys = {"querying": parties.keys(parties.querying), "guardian": parties.keys(parties.guardian)}
    seen: set[int] = set()
    for run in runs:
        for step in run.replies:
            for name, data in run.parts(step):
                if step is CapcStep.DECIDE and name == "winners":
                    continue  # positions, in plain
                if step is CapcStep.ASK and name != next(iter(dict(run.parts(step)))):
                    continue  # all get the same
                if name == "units":
                    data = data[1:]  # noqa: PLW2901 - behind the bits of a unit
                if step in _PAILLIER or name == "coins":
                    owner = "querying" if name == "coins" else _PAILLIER[step]
                    found, bare = _paillier(keys[owner], data)
                elif step in _DGK:
                    found, bare = _dgk(keys[_DGK[step]], data)
                else:
                    continue
                if bare:
                    yield f"coordinator: {step.value} without randomness"
                if len(set(found)) < len(found) or seen & set(found):
                    yield f"coordinator: {step.value} repeats ciphertexts"
                seen.update(found)


def _paillier(keys: KeyPair, data: bytes) -> tuple[list[int], bool]:
    key = keys.public.paillier
    if len(data) % key.ciphertext_bytes:
        found = EncryptedVector.from_bytes(data, key).to_integers()
    else:
        found = key.from_bytes(data, len(data) // key.ciphertext_bytes)
    # without randomness a ciphertext is a power of 1 + n
    return found, any(ciphertext % key.n == 1 for ciphertext in found)


def _dgk(keys: KeyPair, data: bytes) -> tuple[list[int], bool]:
    key = keys.public.dgk
    found = [int(c) for c in key.from_bytes(data, len(data) // key.ciphertext_bytes)]
    # without randomness a ciphertext is a power of g, of order u
    return found, any(pow(c, key.u, key.n) == 1 for c in found)


def _of_querying_party(parties: Parties, runs: Sequence[Run]) -> Iterator[str]:
    """Decrypt the parts from answering parties."""
    terms, keys = parties.terms, parties.keys(parties.querying)
    layout = SlotLayout(terms.value_bits, terms.key_bits)
    opened, hidden, orders = [], [], []
    places: list[list[int]] = []
    votes: list[list[int]] = []
    for run in runs:
        scores = [integer_scores(model, parties.queries) for model in run.parties.models]
        found: list[tuple[int, ...]] = []
        blinded = run.given("blinded", CapcStep.EVALUATE, CapcStep.RECTIFY)
        for score, part in zip(scores, blinded, strict=True):
            numbers = keys.open_pairs(layout, part, terms.classes, len(score))
            opened.append(np.array(numbers, dtype=object))
            hidden.append(_differences(score))
        for score, reply in zip(scores, run.replies[CapcStep.COMPARE], strict=True):
            found += _orders(
                keys, terms.value_bits, reply.part("compared"), terms.classes, len(score)
            )
            batch = pair_batch(keys.public.dgk, terms.value_bits, terms.classes, len(score))
            yield from _random_plaintexts("querying", keys, batch, reply.part("compared"))
        orders += found
        places.append([winner(terms.classes, order) for order in found])
        votes.append([vote for score in scores for vote in score.argmax(axis=1).tolist()])
    yield from _masked("querying", layout, opened, hidden, tie_bits(terms.classes))
    yield from _uniform("querying: orders", orders, factorial(terms.classes))
    seen, secret = chain.from_iterable(places), chain.from_iterable(votes)
    yield from _independent("querying: votes", list(seen), list(secret))
    yield from _together("querying", runs, places, votes)


def _of_units(parties: Parties, runs: Sequence[Run]) -> Iterator[str]:
    """Open what the querying party gets of networks with one hidden layer; none of others."""
    keys, queries = parties.keys(parties.querying), len(parties.queries)
    opened, hidden, layout = [], [], parties.terms.logit_layout
    seen: list[bool] = []
    positive: list[bool] = []
    for run in runs:
        parts = run.given("units", CapcStep.EVALUATE)
        answers = run.given("compared", CapcStep.COMPARE_UNITS)
        for model, part, compared in zip(
            run.parties.models if parts else (), parts, answers, strict=True
        ):
            layout = layout.narrowed(part[0])
            units = integer_scores(model[:1], parties.queries).T
            opened.append(np.array(keys.open(layout, part[1:], len(units), queries), dtype=object))
            hidden.append(units.flatten())
            batch = unit_batch(keys.public.dgk, layout, units.size)
            seen += map(bool, keys.results(batch, compared))
            positive += (units.flatten() >= 0).tolist()
            yield from _random_plaintexts("querying: units", keys, batch, compared)
    if opened:
        yield from _masked("querying: units", layout, opened, hidden, 0)
        yield from _uniform("querying: signs of units", seen, 2)
        yield from _independent("querying: signs of units", seen, positive)


def _of_guardian(parties: Parties, runs: Sequence[Run]) -> Iterator[str]:
    """Decrypt the parts from the querying party."""
    terms, keys = parties.terms, parties.keys(parties.guardian)
    layout, queries = SlotLayout(VOTE_BITS, terms.key_bits), len(parties.queries)
    opened, hidden, orders, labels = [], [], [], []
    places: list[list[int]] = []
    tests: list[bool] = []
    for run in runs:
        counts = run.parties.votes()
        (reply,) = run.replies[CapcStep.COUNT]
        numbers = keys.open_pairs(layout, reply.part("blinded"), terms.classes, queries)
        opened.append(np.array(numbers, dtype=object))
        hidden.append(_differences(counts.astype(object)))
        (reply,) = run.replies[CapcStep.COMPARE_COUNTS]
        found = _orders(keys, VOTE_BITS, reply.part("compared"), terms.classes, queries)
        orders += found
        places.append([winner(terms.classes, order) for order in found])
        labels += run.labels
        batch = pair_batch(keys.public.dgk, VOTE_BITS, terms.classes, queries)
        yield from _random_plaintexts("guardian", keys, batch, reply.part("compared"))
        for name, data in run.parts(CapcStep.ANY):
            if name == "compared":
                zero = keys.dgk.are_zero(keys.public.dgk.from_bytes(data, terms.classes * queries))
                each = terms.classes
                tests += [any(zero[at : at + each]) for at in range(0, len(zero), each)]
    yield from _masked("guardian", layout, opened, hidden, tie_bits(terms.classes))
    yield from _uniform("guardian: orders", orders, factorial(terms.classes))
    positions = list(chain.from_iterable(places))
    yield from _uniform("guardian: positions", positions, terms.classes)
    yield from _independent("guardian: labels", positions, labels)
    yield from _together("guardian", runs, places, [run.labels for run in runs])
    if tests:
        yield from _uniform("guardian: threshold", tests, 2)
        yield from _independent("guardian: answers", tests, [label >= 0 for label in labels])


def _of_coordinator(parties: Parties, runs: Sequence[Run]) -> Iterator[str]:
    positions: list[int] = []
    labels: list[int] = []
    for run in runs:
        for name, data in run.parts(CapcStep.DECIDE):
            if name == "winners":
                positions += data
                labels += run.labels
    if positions:
        yield from _uniform("coordinator: winners", positions, parties.terms.classes)
        yield from _independent("coordinator: labels", positions, labels)


def _masked(
    role: str,
    layout: SlotLayout,
    opened: Sequence[NDArray[np.object_]],
    hidden: Sequence[NDArray[np.object_]],
    shift: int,
) -> Iterator[str]:
    """Compare opened numbers z with the differences that their masks hide."""
    z, d = np.concatenate(opened), np.concatenate(hidden)
    offset = 1 << layout.value_bits
    plain = {*d.tolist(), *(d - 1).tolist()}
    exact = np.array([number in plain for number in (z - offset) >> shift]) & (d != 0)
    if exact.mean() > 0.01:
        yield f"{role}: plain numbers"
    # masks are uniform over a large range, in which no two come near each other
    gaps = np.diff(np.sort(z))
    if (gaps < 2 * offset).any():
        yield f"{role}: masks used twice"
    if _correlated(z, d):
        yield f"{role}: correlated numbers"
    yield from _uniform(f"{role}: high bits", (z >> (layout.mask_bits - 3)).tolist(), 8)
    yield from _uniform(f"{role}: low bits", (z % 8).tolist(), 8)


def _correlated(z: NDArray[np.object_], d: NDArray[np.object_]) -> bool:
    coefficient = np.corrcoef(z.astype(float), d.astype(float))[0, 1]
    return bool(abs(coefficient) * np.sqrt(len(z)) > 5.0)


def _differences(scores: NDArray[np.object_]) -> NDArray[np.object_]:
    """Return the differences of all pairs of classes, by pair, then by query."""
    chosen = pairs(scores.shape[1])
    return np.concatenate([scores[:, first] - scores[:, second] for first, second in chosen])


def _orders(
    keys: KeyPair, value_bits: int, compared: bytes, classes: int, queries: int
) -> list[tuple[int, ...]]:
    found = keys.results(pair_batch(keys.public.dgk, value_bits, classes, queries), compared)
    return [tuple(found[query::queries]) for query in range(queries)]


def _random_plaintexts(role: str, keys: KeyPair, batch: Batch, compared: bytes) -> Iterator[str]:
    """Open some comparisons in full: numbers other than 0 must be uniform."""
    each, ciphertexts = batch.digits.returned, keys.public.dgk.from_bytes(compared, batch.returned)
    quarters = []
    for at, group in enumerate(batch.groups[: max(1, 64 // each)]):
        primes = batch.primes[: len(group)]
        for ciphertext in ciphertexts[at * each : (at + 1) * each]:
            numbers = slot_numbers(keys.dgk, ciphertext)
            # a slot's numbers are times the other primes; without random factors they are small
            small = [numbers[p] * pow(prod(primes) // p, -1, p) % p for p in primes]
            quarters += [4 * (v - 1) // (p - 1) for v, p in zip(small, primes, strict=True) if v]
    yield from _uniform(f"{role}: plaintexts of comparisons", quarters, 4)


def _uniform(name: str, values: Sequence[object], cells: int) -> Iterator[str]:
    found = [values.count(value) for value in set(values)]
    found += [0] * (cells - len(found))
    if chisquare(found).pvalue < RARE:
        yield f"{name} not uniform"


def _together(
    role: str,
    runs: Sequence[Run],
    places: Sequence[Sequence[int]],
    secret: Sequence[Sequence[int]],
) -> Iterator[str]:
    """Test that positions in the votes for two labels do not show whether the votes are equal."""
    seen, equal = [], []
    for one, other in combinations(range(len(runs)), 2):
        if runs[one].parties.label != runs[other].parties.label:
            seen += [int(a == b) for a, b in zip(places[one], places[other], strict=True)]
            equal += [int(a == b) for a, b in zip(secret[one], secret[other], strict=True)]
    if seen:
        yield from _independent(f"{role}: two labels", seen, equal)


def _independent(name: str, seen: Sequence[int], secret: Sequence[int]) -> Iterator[str]:
    """Test that the view is independent of the secret."""
    table = np.array(
        [
            [sum((s, t) == (a, b) for s, t in zip(seen, secret, strict=True)) for b in set(secret)]
            for a in set(seen)
        ]
    )
    if min(table.shape) > 1 and chi2_contingency(table).pvalue < RARE:
        yield f"{name} show"
