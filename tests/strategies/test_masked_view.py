"""Words of masked runs, as the coordinator and other hospitals see them: uniform, and never again.

Each statistic is wrong about once in 10**9 times (`masked_transcripts.UNLIKELY`). This file has
about 200 of them, with those before a release: by chance it fails less than once in 10**6 times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from experiments import experiment
from local_grid import LocalGrid, simulated_nodes
from masked_transcripts import (
    UNLIKELY,
    Words,
    least_likely,
    neighbours_apart,
    same_streams,
    vectors_in,
    words_of,
)
from quick import release
from sealed_federation import Federation

from fl_he import client_app, server_app
from fl_he.crypto.encoding.streams import KeyStream
from fl_he.crypto.masks.masked_vector import MaskedVector, mask_stream
from fl_he.crypto.paillier.public_key import PublicKey
from fl_he.crypto.schemes import MASKS
from fl_he.crypto.tickets import opening, ticketed_sum
from fl_he.crypto.tickets.ticketed_sum import TicketedSum
from fl_he.wire.encrypted_sum import DESCRIBE, Description

ROUNDS = 8
FEW_OR_MORE_RUNS = pytest.mark.parametrize("runs", [3, *release((12,))])


def recorded(folder: Path, *overrides: str) -> LocalGrid:
    """Return all messages of a run of three hospitals on real tables, with scaling."""
    settings = (f"rounds={ROUNDS}", "crypto.scheme=masks", *overrides)
    config = experiment(*settings, folder=folder)
    grid = LocalGrid(client_app.build(lambda _: config), simulated_nodes(config.hospitals))
    server_app.train(grid, config, folder)
    return grid


def key_of(grid: LocalGrid) -> PublicKey:
    described = (
        Description.from_content(reply.content)
        for reply in grid.received
        if reply.metadata.message_type == DESCRIBE
    )
    return next(PublicKey.from_json(one.public_key) for one in described if one.public_key)


def by_occasion(sums: Sequence[TicketedSum]) -> list[list[TicketedSum]]:
    """Return sums for one total each; company X's request, which has them all, is the last."""
    found: dict[bytes, list[TicketedSum]] = {}
    for summed in sums:
        assert isinstance(summed.vector, MaskedVector)
        found.setdefault(summed.vector.header.occasion, []).append(summed)
    return list(found.values())


def updates_in(grid: LocalGrid, key: PublicKey) -> list[list[TicketedSum]]:
    """Return the hospitals' updates of each total of a fold, in the order of their names."""
    sums = by_occasion(vectors_in(grid.received, key))
    return [sorted(updates, key=lambda one: one.contributors) for updates in sums]


@FEW_OR_MORE_RUNS
def test_fold(tmp_path: Path, runs: int) -> None:
    """Single updates, and all sums of subsets that the coordinator can make of them."""
    seen: dict[tuple[int, ...], list[Words]] = {}
    singles: list[Words] = []
    for run in range(runs):
        grid = recorded(tmp_path / str(run))
        key = key_of(grid)
        for updates in updates_in(grid, key):
            assert [one.contributors for one in updates] == [[f"hospital-{k}"] for k in (1, 2, 3)]
            singles += [words_of(one) for one in updates]
            for size in (1, 2, 3):
                for subset in combinations(range(3), size):
                    first, *others = (updates[at] for at in subset)
                    total = TicketedSum.from_bytes(first.to_bytes(), key, [MASKS])
                    for other in others:
                        total.add_in_place(other, key)
                    seen.setdefault(subset, []).append(words_of(total))
    assert len(seen) == 7
    assert len(singles) >= runs * 3 * ROUNDS
    for vectors in seen.values():
        assert least_likely(np.concatenate(vectors)) > UNLIKELY
        assert least_likely(neighbours_apart(vectors)) > UNLIKELY
    assert same_streams(singles) == []


@pytest.mark.slow
@FEW_OR_MORE_RUNS
def test_chain(tmp_path: Path, runs: int) -> None:
    """Running sums, which the coordinator passes on and the next hospital sees."""
    seen: list[Words] = []
    for run in range(runs):
        grid = recorded(tmp_path / str(run), "topology=chain")
        returned, handed = (vectors_in(some, key_of(grid)) for some in (grid.received, grid.sent))
        assert {len(one.tickets) for one in returned} == {1, 2}
        assert {len(one.tickets) for one in handed} == {1, 3}, "to a hospital, and to company X"
        words = [words_of(one) for one in returned]
        known = {one.tobytes() for one in words}
        assert all(words_of(one).tobytes() in known for one in handed)
        seen += words
    check(seen, runs * 3 * ROUNDS)


def check(seen: list[Words], least: int) -> None:
    assert len(seen) >= least
    assert least_likely(np.concatenate(seen)) > UNLIKELY
    assert least_likely(neighbours_apart(seen)) > UNLIKELY
    assert same_streams(seen) == []


@pytest.mark.parametrize("runs", [1, *release((4,))])
def test_sealed_chain(tmp_path: Path, runs: int) -> None:
    """Running sums as each next hospital opens them; several sessions over the same data."""
    seen: list[Words] = []
    hospitals = {"north": 40, "south": 25, "east": 60, "west": 31}
    for run in range(runs):
        folder = tmp_path / str(run)
        folder.mkdir()
        federation = Federation(folder, hospitals)
        federation.scheme = MASKS

        def keep(_: object, federation: Federation = federation) -> None:
            for name in hospitals:
                contribution = federation.state(name).contribution
                assert contribution is not None
                data = contribution.running_sum.vector
                seen.append(
                    words_of(TicketedSum.from_bytes(data, federation.key.public_key, [MASKS]))
                )

        federation.run(25, keep)
    check(seen, runs * 25 * 4)


class TestPlanted:
    """Runs whose streams are wrong: hospitals and company X agree on them, so totals are right."""

    def test_one_stream_for_all_vectors(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        use(monkeypatch, lambda seed, info: mask_stream(bytes(32), b""))
        grid = recorded(tmp_path)
        singles = [words_of(one) for one in vectors_in(grid.received, key_of(grid))]
        assert least_likely(np.concatenate(singles)) < UNLIKELY
        assert least_likely(neighbours_apart(singles)) < UNLIKELY
        assert same_streams(singles)

    def test_one_seed_again_among_all(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The eighth update has the stream of the twentieth; else all is as it should be."""
        known: dict[bytes, bytes] = {}

        def reused(seed: bytes, info: bytes) -> KeyStream:
            known.setdefault(seed, info)
            seeds = list(known)
            at = seeds.index(seed)
            return mask_stream(seeds[7], known[seeds[7]]) if at == 19 else mask_stream(seed, info)

        use(monkeypatch, reused)
        grid = recorded(tmp_path)
        singles = [words_of(one) for one in vectors_in(grid.received, key_of(grid))]
        assert same_streams(singles) == [(7, 19)]

    def test_words_that_are_not_masked_in_one_byte(self, tmp_path: Path) -> None:
        grid = recorded(tmp_path)
        singles = [words_of(one) for one in vectors_in(grid.received, key_of(grid))]
        words = np.concatenate(singles)
        assert least_likely(words) > UNLIKELY
        words[:, -1] = 0
        assert least_likely(words) < UNLIKELY


def use(patch: pytest.MonkeyPatch, stream: Callable[[bytes, bytes], KeyStream]) -> None:
    for module in (ticketed_sum, opening):
        patch.setattr(module, "mask_stream", stream)
