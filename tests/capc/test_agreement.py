from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from capc_nodes import KEYS, TERMS, agreement
from command_line import fl_he

from fl_he.capc.agreement import Agreement
from fl_he.crypto.errors import CryptoError
from fl_he.learning.tables.schema.description import read_schema


def test_it_survives_its_json_and_gives_the_terms() -> None:
    agreed = agreement(sigma_gnmax=0.1)
    again = Agreement.from_json(agreed.to_json())
    assert again == agreed
    assert again.fingerprint == agreed.fingerprint
    terms = again.terms
    assert (terms.classes, terms.features, terms.threshold) == (2, 2, 2)
    assert terms.variance_gnmax == Fraction(1, 100), "the number as it was written"
    assert terms.key_bits == 1024


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": ["sick", "well"]},
        {"features": {"size": [0, 5], "age": [0, 100]}},
        {"features": {"age": [0, 101], "size": [0, 5]}},
        *({name: 3} for name in ("fraction_bits", "integer_bits", "threshold")),
        {"value_bits": 25},
        {"key_bits": 2048},
        {"min_contributors": 2},
        {"sigma_gnmax": 0.06},
        {"sigma_threshold": 0.06},
        {"epsilon": 1.0},
        {"delta": 1e-6},
    ],
    ids=str,
)
def test_every_part_of_it_is_in_the_fingerprint(changes: dict[str, Any]) -> None:
    assert agreement(**changes).fingerprint != agreement().fingerprint


@pytest.mark.parametrize("kind", ["paillier", "dgk"])
def test_so_is_every_key_and_whose_it_is(kind: str) -> None:
    agreed = agreement()
    (first, pins), (second, others), *rest = agreed.keys.items()
    for keys in (
        {first: replace(pins, **{kind: "0" * 64}), second: others, **dict(rest)},
        {first: others, second: pins, **dict(rest)},
        {first: pins, second: others},
    ):
        assert replace(agreed, keys=keys).fingerprint != agreed.fingerprint
    assert replace(agreed, keys=dict(reversed(agreed.keys.items()))).fingerprint == (
        agreed.fingerprint
    ), "the order does not matter"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"classes": ["a"]}, "classes must be between 2"),
        ({"classes": ["a", "a"]}, "all different"),
        ({"classes": "ab"}, "classes must be a list, got text"),
        ({"classes": [1, 2]}, r"classes\[0\] must be text, got an integer"),
        ({"classes": ["well", "sick\x1b[8m"]}, "printable characters"),
        ({"classes": ["well", "sick\n" + "0" * 64 + " agreement"]}, "printable characters"),
        ({"features": {"age\u202e": [0, 1]}}, "printable characters"),
        ({"fraction_bits": 61}, "fraction_bits \\+ integer_bits must be at most 62"),
        ({"value_bits": 81}, "value_bits must be between 1 and 80"),
        ({"value_bits": 2}, "value_bits must be above 2"),
        ({"features": {}}, "features must be at least 1"),
        ({"features": {"age": [1, 1]}}, "the lower one first"),
        ({"features": {"age": [0, 1, 2]}}, "must be a list of 2 values"),
        ({"features": {"age": ["0", 1]}}, "must be a number"),
        ({"features": {"age": [0, 10**400]}}, "below 1e300"),
        ({"features": {"age": [float("nan"), 1]}}, "below 1e300"),
        ({"features": []}, "JSON object"),
        ({"sigma_gnmax": None}, "must be a number"),
        ({"sigma_gnmax": 0}, "above 0"),
        ({"epsilon": None}, "must be a number"),
        ({"epsilon": -1}, "above 0"),
        ({"epsilon": 10**400}, "below 1e300"),
        ({"delta": 1}, "between 0 and 1"),
        ({"sigma_threshold": None}, "both be set"),
        ({"threshold": None}, "both be set"),
        ({"threshold": 1.5}, "threshold must be an integer, got a decimal number"),
        ({"key_bits": True}, "key_bits must be an integer, got true or false"),
        ({"min_contributors": 0}, "min_contributors must be at least 1, got 0"),
        ({"unheard_of": 1}, "exactly the members"),
    ],
    ids=str,
)
def test_terms_that_cannot_be_kept_are_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(CryptoError, match=reason):
        agreement(**changes)


ONE = {"paillier": "0" * 64, "dgk": "0" * 64}


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({}, "the guardian's and at least one querying party's"),
        ({"company-x": ONE}, "the guardian's and at least one querying party's"),
        ({"a b": ONE, "c": ONE}, "a node's name must be"),
        ({"a": ONE, "b": {**ONE, "dgk": "0" * 63}}, r"keys\.b\.dgk must be a fingerprint"),
        (
            {"a": {**ONE, "paillier": "F" * 64}, "b": ONE},
            r"keys\.a\.paillier must be a finger",
        ),
        ({"a": ONE, "b": {"paillier": "0" * 64}}, r"missing \['dgk'\]"),
        ({"a": ONE, "b": {**ONE, "more": ""}}, "1 unknown"),
        ({"a": ONE, "b": "0" * 64}, r"keys\.b must be a JSON object"),
        ([], "keys must be a JSON object"),
    ],
    ids=str,
)
def test_keys_that_are_none_are_refused(keys: Any, reason: str) -> None:
    members = {**json.loads(agreement().to_json()), "keys": keys}
    with pytest.raises(CryptoError, match=reason):
        Agreement.from_json(json.dumps(members))


def test_the_command_puts_it_together_and_shows_what_to_compare(tmp_path: Path) -> None:
    (tmp_path / "terms.json").write_text(json.dumps(TERMS))
    for name, (key, dgk) in KEYS.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "public-key.json").write_text(key.public_key.to_json())
        (tmp_path / name / "dgk-public-key.json").write_text(dgk.public_key.to_json())
    pairs = [word for name in KEYS for word in ("--keys", f"{name}={name}")]
    code, out, err = fl_he(tmp_path, "agree", "terms.json", *pairs, "--out", "capc.json")
    assert code == 0, err
    assert Agreement.load(tmp_path / "capc.json") == agreement()
    assert out.splitlines()[-1] == f"{agreement().fingerprint} agreement"
    for name, (key, dgk) in KEYS.items():
        assert f"{key.public_key.fingerprint} Paillier key of {name}\n" in out
        assert f"{dgk.public_key.fingerprint} DGK key of {name}\n" in out
    assert fl_he(tmp_path, "show", "capc.json")[1] == out
    for wrong in (["--keys", "company-x"], [*pairs, *pairs]):
        code, _, err = fl_he(tmp_path, "agree", "terms.json", *wrong, "--out", "other.json")
        assert code != 0
        assert "NAME=FOLDER" in err
    code, _, err = fl_he(tmp_path, "agree", "terms.json", *pairs, "--out", "capc.json")
    assert (code, "already exists; not overwriting it" in err) == (1, True)
    (tmp_path / "schema.yaml").write_text(
        "{columns: {age: {type: number}, size: {type: number}}, outcome: {column: state}}"
    )
    described = ("--schema", "schema.yaml", "--out", "described.json")
    code, out, err = fl_he(tmp_path, "agree", "terms.json", *pairs, *described)
    assert code == 0, err
    digest = read_schema(tmp_path / "schema.yaml").digest
    assert Agreement.load(tmp_path / "described.json") == agreement(schema=digest)
    assert f"{digest} schema\n" in out
    assert agreement(schema=digest).fingerprint != agreement().fingerprint
