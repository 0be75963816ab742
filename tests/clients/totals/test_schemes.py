"""Sealed chains with masks: the models of Paillier's, and a coordinator that mixes schemes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from flwr.app import MessageType
from sealed_federation import COMPANY, Federation, pooled_descent
from sealed_steps import Steps, reason, sealed

from fl_he.clients.totals.payload import RunningSum
from fl_he.crypto.schemes import MASKS, PAILLIER, SCHEMES, Scheme
from fl_he.crypto.tickets.ticketed_sum import TicketedSum
from fl_he.learning.regression.logistic import LogisticModel
from fl_he.strategies.sealed.progress import SealedSum
from fl_he.wire.records import ProtocolError
from fl_he.wire.sealed_messages import OPEN, OpenReply, SealedTotal

HOSPITALS = {"north": 40, "south": 25, "east": 60, "west": 31}
NORTH, SOUTH, EAST, WEST = HOSPITALS
OTHERS = pytest.mark.parametrize(("scheme", "other"), [SCHEMES, SCHEMES[::-1]])


def kept(federation: Federation, name: str) -> RunningSum:
    """Return the sum that a hospital has sealed last, from its own disk."""
    contribution = federation.state(name).contribution
    assert contribution is not None
    return contribution.running_sum


def scheme_of(federation: Federation, name: str) -> str:
    summed = TicketedSum.from_bytes(kept(federation, name).vector, federation.key.public_key)
    assert summed.vector.tagged
    return summed.vector.scheme


def models(federation: Federation) -> Mapping[str, str]:
    return {name: federation.model(name).read_text() for name in HOSPITALS}


def test_the_models_are_those_of_paillier(tmp_path: Path) -> None:
    found = {}
    for scheme in SCHEMES:
        folder = tmp_path / scheme
        folder.mkdir()
        federation = Federation(folder, HOSPITALS)
        federation.scheme = scheme
        federation.run(4, check(federation, scheme), C=0.1)
        found[scheme] = models(federation)
    assert found[MASKS] == found[PAILLIER], "bit for bit"
    w, b = pooled_descent(federation.data.values(), 4, 0.1)
    saved = LogisticModel.load(federation.model(NORTH))
    np.testing.assert_allclose([*saved.coefficients, saved.intercept], [*w, b], atol=1e-6)


def check(federation: Federation, scheme: str) -> Callable[[SealedSum], None]:
    """Return a check after each round that all hospitals have added by the scheme."""

    def after_round(_: SealedSum) -> None:
        assert {scheme_of(federation, name) for name in HOSPITALS} == {scheme}

    return after_round


def steps_of(folder: Path, scheme: Scheme) -> Steps:
    steps = Steps(Federation(folder, HOSPITALS), scheme)
    steps.start()
    return steps


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_lost_reply_and_a_reseal_send_the_very_same_sum(tmp_path: Path, scheme: Scheme) -> None:
    """Send one vector with one seed, sealed for one node or another, without new masks."""
    steps = steps_of(tmp_path, scheme)
    first = sealed(steps.hop(NORTH, 1, [], SOUTH))
    before = kept(steps.federation, NORTH)
    again = sealed(steps.hop(NORTH, 1, [], SOUTH))
    assert kept(steps.federation, NORTH) == before
    assert first != again, "an envelope is fresh"
    resealed = sealed(steps.reseal(NORTH, 1, EAST))
    assert kept(steps.federation, NORTH) == before
    second = sealed(steps.hop(EAST, 1, [NORTH], WEST, resealed))
    third = sealed(steps.hop(WEST, 1, [NORTH, EAST], COMPANY, second))
    names, key = (NORTH, EAST, WEST), steps.federation.key.public_key
    mine, summed = (
        TicketedSum.from_bytes(kept(steps.federation, name).vector, key) for name in (NORTH, WEST)
    )
    assert summed.contributors == [*names]
    assert summed.tickets[0] == mine.tickets[0]
    totals = OpenReply.from_content(steps.open(1, names, third).content).totals
    assert steps.finish(SOUTH, [SealedTotal(1, names, totals[SOUTH])]).has_content()
    saved = LogisticModel.load(steps.federation.model(SOUTH))
    w, b = pooled_descent((steps.federation.data[name] for name in names), 1)
    np.testing.assert_allclose([*saved.coefficients, saved.intercept], [*w, b], atol=1e-6)


@OTHERS
def test_schemes_are_not_mixed_in_a_chain(tmp_path: Path, scheme: Scheme, other: Scheme) -> None:
    steps = steps_of(tmp_path, scheme)
    envelope = sealed(steps.hop(NORTH, 1, [], SOUTH))
    steps.scheme = other
    assert reason(steps.hop(SOUTH, 1, [NORTH], EAST, envelope)) == (
        f"the scheme of a sum must be one of ['{other}']"
    )
    assert steps.federation.state(SOUTH).contribution is None
    steps.scheme = scheme
    envelope = sealed(steps.hop(SOUTH, 1, [NORTH], EAST, envelope))
    envelope = sealed(steps.hop(EAST, 1, [NORTH, SOUTH], COMPANY, envelope))
    assert steps.open(1, [NORTH, SOUTH, EAST], envelope).has_content()


@OTHERS
def test_a_round_is_answered_in_one_scheme(tmp_path: Path, scheme: Scheme, other: Scheme) -> None:
    """The same request for another scheme is another request."""
    steps = steps_of(tmp_path, scheme)
    sealed(steps.hop(NORTH, 1, [], SOUTH))
    before = kept(steps.federation, NORTH)
    steps.scheme = other
    assert reason(steps.hop(NORTH, 1, [], SOUTH)) == (
        "a hospital contributes to each round once, in order: this one has contributed to round 1 "
        "and was asked for round 1"
    )
    assert kept(steps.federation, NORTH) == before


@OTHERS
def test_a_hospital_that_accepts_one_scheme_alone_refuses_the_other_by_name(
    tmp_path: Path, scheme: Scheme, other: Scheme
) -> None:
    steps = steps_of(tmp_path, other)
    steps.federation.context(NORTH).node_config["scheme"] = scheme
    assert (f"the scheme must be one that this node accepts ({scheme}), got '{other}'") in reason(
        steps.hop(NORTH, 1, [], SOUTH)
    )
    assert steps.federation.state(NORTH).contribution is None


@OTHERS
def test_company_x_that_accepts_one_scheme_alone(
    tmp_path: Path, scheme: Scheme, other: Scheme
) -> None:
    steps = steps_of(tmp_path, other)
    steps.federation.context(COMPANY).node_config["scheme"] = scheme
    envelope = steps.chain(1, [NORTH, SOUTH, EAST])
    words = f"the scheme of a sum must be one of ['{scheme}']"
    assert reason(steps.open(1, [NORTH, SOUTH, EAST], envelope)) == words
    assert steps.opened_rounds() == []


@pytest.mark.parametrize("place", [SOUTH, COMPANY])
@OTHERS
def test_the_router_asks_for_what_all_nodes_accept(
    tmp_path: Path, place: str, scheme: Scheme, other: Scheme
) -> None:
    federation = Federation(tmp_path, HOSPITALS)
    federation.context(place).node_config["scheme"] = scheme
    federation.scheme = other
    with pytest.raises(ProtocolError, match=rf"all nodes accept \({scheme}\), got '{other}'"):
        federation.run(1)
    sent = {message.metadata.message_type for message in federation.grid.sent}
    assert not {MessageType.TRAIN, OPEN} & sent
    federation.scheme = "auto"
    federation.run(1, check(federation, scheme))
