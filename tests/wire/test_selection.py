from __future__ import annotations

import warnings

import pytest

from fl_he.wire.records import ProtocolError
from fl_he.wire.selection import PlaintextWarning, Selection


def test_everything_is_encrypted_unless_somebody_says_otherwise() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        selection = Selection.of("all")
    assert selection == Selection()
    assert selection.encrypts("anything.at[0]")


def test_patterns_choose_and_warn() -> None:
    with pytest.warns(PlaintextWarning, match="the coordinator sees every hospital's other arrays"):
        selection = Selection.of(["classifier.*", "bias"])
    assert [selection.encrypts(n) for n in ("classifier.w", "bias", "body.w", "Bias")] == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("encrypt", ["classifier.*", "", [], ()])
def test_no_choice_is_refused(encrypt: str | list[str]) -> None:
    with pytest.raises(ProtocolError, match="encrypt must be 'all' or a list of patterns"):
        Selection.of(encrypt)


@pytest.mark.filterwarnings("ignore:only arrays named like")
def test_a_pattern_that_names_nothing_is_refused() -> None:
    selection = Selection.of(["clasifier.*", "bias"])
    selection.require_use([])
    selection.require_use(["clasifier.w", "bias", "body"])
    with pytest.raises(ProtocolError, match=r"\['body', 'bias'\], got \['clasifier\.\*'\]$"):
        selection.require_use(["body", "bias"])


@pytest.mark.filterwarnings("ignore:only arrays named like", "ignore:arrays of integers are not")
@pytest.mark.parametrize(
    ("integers", "way"), [("mean", "encrypted"), ("local", "local"), ("plain", "plain")]
)
def test_names_are_looked_at_before_types(integers: str, way: str) -> None:
    selection = Selection.of(["bn.*"], integers)
    assert selection.way("bn.count", "int64", whole=True) == way
    assert selection.way("bn.mean", "float32", whole=False) == "encrypted"
    assert selection.way("body.count", "int64", whole=True) == "plain"


@pytest.mark.filterwarnings("ignore:only arrays named like")
def test_integers_that_are_refused_are_those_that_a_pattern_names() -> None:
    selection = Selection.of(["bn.*"], "refuse")
    assert selection.way("body.count", "int64", whole=True) == "plain"
    with pytest.raises(ProtocolError, match=r"'bn\.count' must be of a float type, got int64"):
        selection.way("bn.count", "int64", whole=True)


def test_integers_in_plain_are_warned_of() -> None:
    with pytest.warns(PlaintextWarning, match="arrays of integers are not encrypted"):
        Selection.of("all", "plain")


def test_an_unknown_way_of_integers() -> None:
    with pytest.raises(ProtocolError, match=r"integers must be one of .*, got 'median'"):
        Selection.of("all", "median")
