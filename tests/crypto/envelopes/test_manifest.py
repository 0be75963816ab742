from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from identities import COMPANY, EAST, NORTH, SOUTH, make

from fl_he.crypto.envelopes.manifest import Manifest
from fl_he.crypto.envelopes.public_identity import PublicIdentity
from fl_he.crypto.errors import CryptoError

PAILLIER = "ab" * 32  # of format 2
NODES = (NORTH.public, COMPANY.public, SOUTH.public)
PLANS = ("cd" * 32, "ef" * 32)
MANIFEST = Manifest(NODES)


def test_lookups() -> None:
    assert MANIFEST.key_holder == COMPANY.public
    assert MANIFEST.hospitals == (NORTH.public, SOUTH.public)
    assert MANIFEST.nodes == (COMPANY.public, NORTH.public, SOUTH.public)
    assert MANIFEST.node("south") == SOUTH.public
    message = "a node must be one of ['company-x', 'north', 'south'], got 'east'"
    with pytest.raises(CryptoError, match=re.escape(message)):
        MANIFEST.node("east")


def test_the_fingerprint_is_of_everything_but_the_order() -> None:
    fields = [b"fl-he federation 3", b""]
    fields += [node.digest for node in (COMPANY.public, NORTH.public, SOUTH.public)]
    encoded = b"".join(struct.pack(">I", len(field)) + field for field in fields)
    assert MANIFEST.fingerprint == hashlib.sha256(encoded).hexdigest()
    assert Manifest(NODES[::-1]).fingerprint == MANIFEST.fingerprint
    assert Manifest(NODES[::-1]) == MANIFEST
    others = [
        Manifest((*NODES, EAST.public)),
        Manifest(NODES[:2]),
        Manifest((make("north", number=1).public, *NODES[1:])),
        Manifest(NODES, PLANS),
        Manifest(NODES, PLANS[:1]),
    ]
    assert len({manifest.fingerprint for manifest in (MANIFEST, *others)}) == 6
    assert Manifest(NODES, PLANS[::-1]) == others[-2]


def test_json_round_trip(tmp_path: Path) -> None:
    text = MANIFEST.to_json()
    assert list(json.loads(text)) == ["format", "plans", "nodes"]
    assert Manifest.from_json(text) == MANIFEST
    path = tmp_path / "federation.json"
    path.write_text(text)
    assert Manifest.load(path) == MANIFEST
    assert repr(MANIFEST) == f"Manifest(3 nodes, {MANIFEST.fingerprint[:16]})"
    members = json.loads(text)
    members["nodes"].reverse()
    assert Manifest.from_json(json.dumps(members)) == MANIFEST


def test_a_manifest_is_made_of_what_nodes_print() -> None:
    entries = [json.loads(identity.public.to_json()) for identity in (SOUTH, COMPANY, NORTH)]
    members = {"format": "fl-he federation 3", "plans": [], "nodes": entries}
    assert Manifest.from_json(json.dumps(members)) == MANIFEST
    planned = Manifest.from_json(json.dumps(members | {"plans": list(PLANS)}))
    assert planned == Manifest(NODES, PLANS)


def test_an_older_manifest_says_what_to_do() -> None:
    members = json.loads(MANIFEST.to_json()) | {"format": "fl-he federation 1"}
    del members["plans"]
    message = (
        "federation manifest is of the older format 'fl-he federation 1': make the manifest anew "
        "with `fl-he federation`"
    )
    with pytest.raises(CryptoError, match=message):
        Manifest.from_json(json.dumps(members))


def format_2(**changes: object) -> str:
    members = json.loads(Manifest(NODES, PLANS).to_json())
    return json.dumps(members | {"format": "fl-he federation 2", "paillier": PAILLIER} | changes)


def test_a_manifest_of_format_2_is_refused_and_made_anew_without_its_paillier_key() -> None:
    message = (
        "make a new one of it with `fl-he federation --from OLD.json --out NEW.json`, and give"
    )
    with pytest.raises(CryptoError, match=message):
        Manifest.from_json(format_2())
    assert Manifest.from_older(format_2()) == Manifest(NODES, PLANS)
    for member, value in (("paillier", 1), ("format", "fl-he federation 3"), ("nodes", [])):
        with pytest.raises(CryptoError):
            Manifest.from_older(format_2(**{member: value}))
    with pytest.raises(CryptoError):
        Manifest.from_older(MANIFEST.to_json())


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ((), r"exactly one company X, got \[\]"),
        ((NORTH.public, SOUTH.public), r"exactly one company X, got \[\]"),
        (
            (*NODES, make("company-y", "key-holder").public),
            r"exactly one company X, got \['company-x', 'company-y'\]",
        ),
        ((COMPANY.public,), "at least one hospital$"),
        ((*NODES, NORTH.public), "north and north have the same name; each node needs its own"),
        (
            (*NODES, make("north", number=1).public),
            "north and north have the same name; each node needs its own",
        ),
        (
            (*NODES, make("NORTH").public),
            "NORTH and north have the same name; each node needs its own",
        ),
        (
            (*NODES, dataclasses.replace(EAST.public, signing_key=SOUTH.public.signing_key)),
            "east and south have the same signing key; each node needs its own",
        ),
        (
            (*NODES, dataclasses.replace(EAST.public, sealing_key=SOUTH.public.sealing_key)),
            "east and south have the same sealing key; each node needs its own",
        ),
    ],
)
def test_what_is_no_federation_is_refused(nodes: tuple[PublicIdentity, ...], message: str) -> None:
    with pytest.raises(CryptoError, match=message):
        Manifest(nodes)


@pytest.mark.parametrize(
    ("member", "value", "message"),
    [
        ("format", "fl-he federation 4", "format must be 'fl-he federation 3'"),
        ("plans", ["AB" * 32], r"plans\[0\] must be a fingerprint of 64 lower-case"),
        ("plans", ["ab" * 32] * 2, "plans must hold no digest twice"),
        ("paillier", "ab" * 32, "must have exactly the members"),
        ("nodes", {}, "nodes must be a list, got an object"),
        ("nodes", [1], "must be a JSON object, got an integer"),
        ("nodes", [{}], "must have exactly the members"),
        (
            "nodes",
            [{**json.loads(NORTH.public.to_json()), "role": "key-holder"}],
            "fingerprint must be",
        ),
        ("nodes", [], "exactly one company X"),
        ("more", 1, "must have exactly the members"),
    ],
)
def test_a_wrong_member_is_refused(member: str, value: object, message: str) -> None:
    members = json.loads(MANIFEST.to_json())
    with pytest.raises(CryptoError, match=message):
        Manifest.from_json(json.dumps(members | {member: value}))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_mutated_json_is_refused(data: st.DataObject) -> None:
    text = list(MANIFEST.to_json())
    at = data.draw(st.integers(0, len(text) - 1))
    text[at : at + data.draw(st.integers(0, 2))] = data.draw(st.text(max_size=2))
    mutated = "".join(text)
    try:
        manifest = Manifest.from_json(mutated)
    except CryptoError:
        return
    assert json.loads(manifest.to_json()) == json.loads(mutated)
    assert manifest == MANIFEST  # fingerprints vouch for every value


def test_files_that_are_no_manifest(tmp_path: Path) -> None:
    path = tmp_path / "federation.json"
    for content in (b"", b"\xff\xfe", b"[]", b"[" * 100_000):
        path.write_bytes(content)
        with pytest.raises(CryptoError, match="federation manifest must be a JSON object"):
            Manifest.load(path)
    with path.open("wb") as file:
        file.truncate(2**21 + 1)
    with pytest.raises(CryptoError, match="must have at most 2097152 characters, got 2097153"):
        Manifest.load(path)
    with pytest.raises(FileNotFoundError):
        Manifest.load(tmp_path / "absent")


def test_swapped_keys_are_found() -> None:
    MANIFEST.require(NORTH.public)
    for swapped in (
        dataclasses.replace(NORTH.public, sealing_key=EAST.public.sealing_key),
        dataclasses.replace(NORTH.public, signing_key=EAST.public.signing_key),
        dataclasses.replace(NORTH.public, role="key-holder"),
    ):
        message = (
            f"the identity of north must be {NORTH.public.fingerprint[:16]} as in the manifest, "
            f"got {swapped.fingerprint[:16]}"
        )
        with pytest.raises(CryptoError, match=message):
            MANIFEST.require(swapped)
    with pytest.raises(CryptoError, match="a node must be one of"):
        MANIFEST.require(EAST.public)
