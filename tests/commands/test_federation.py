from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import fl_he
from identities import COMPANY, EAST, NORTH

from fl_he.crypto.envelopes.manifest import Manifest
from fl_he.crypto.paillier.private_key import PrivateKey

KEY = PrivateKey.generate(2048)
EXPECTED = Manifest((NORTH.public, EAST.public, COMPANY.public))
FEDERATION = ("--out", "federation.json")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the public entries of three nodes and company X's public key."""
    for node in (NORTH, EAST, COMPANY):
        (tmp_path / f"{node.public.name}.json").write_text(node.public.to_json() + "\n")
    (tmp_path / "public-key.json").write_text(KEY.public_key.to_json() + "\n")
    return tmp_path


def test_it_puts_the_manifest_together(folder: Path) -> None:
    entries = ("north.json", "company-x.json", "east.json")
    code, out, err = fl_he(folder, "federation", *entries, *FEDERATION)
    assert (code, err) == (0, "")
    assert Manifest.load(folder / "federation.json") == EXPECTED
    assert out.splitlines() == [
        f"{COMPANY.public.fingerprint} key-holder company-x",
        f"{EAST.public.fingerprint} hospital east",
        f"{NORTH.public.fingerprint} hospital north",
        "no study plan: the coordinator chooses what is computed",
        f"{EXPECTED.fingerprint} manifest",
    ]
    assert fl_he(folder, "show", "federation.json") == (0, out, "")


def test_it_makes_a_manifest_of_an_older_one(folder: Path) -> None:
    plans = ("cd" * 32,)
    members = json.loads(Manifest(EXPECTED.nodes, plans).to_json())
    older = members | {"format": "fl-he federation 2", "paillier": "ab" * 32}
    (folder / "old.json").write_text(json.dumps(older))
    code, _, err = fl_he(folder, "show", "old.json")
    assert code == 1
    assert "make a new one of it with `fl-he federation --from OLD.json --out NEW.json`" in err
    code, out, err = fl_he(folder, "federation", "--from", "old.json", *FEDERATION)
    assert (code, err) == (0, "")
    made = Manifest.load(folder / "federation.json")
    assert made == Manifest(EXPECTED.nodes, plans)
    assert f"{made.fingerprint} manifest\nthe manifest's fingerprint is new: give" in out
    assert "take private-key and key-fingerprint out of the node configurations" in out


@pytest.mark.parametrize(
    "arguments",
    [(), ("north.json", "--from", "old.json"), ("--from", "old.json", "--plan", "plan.json")],
)
def test_a_manifest_is_made_of_entries_or_of_an_older_one(
    folder: Path, arguments: tuple[str, ...]
) -> None:
    code, out, err = fl_he(folder, "federation", *arguments, *FEDERATION)
    assert (code, out) == (2, "")
    assert "ENTRY.json with any --plan, or --from alone" in " ".join(err.split()).replace("│ ", "")
    assert not (folder / "federation.json").exists()


def test_every_public_file_can_be_shown(folder: Path) -> None:
    assert fl_he(folder, "show", "north.json", "public-key.json") == (
        0,
        f"{NORTH.public.fingerprint} hospital north\n"
        f"{KEY.public_key.fingerprint} Paillier key of 2048 bits, kind short\n",
        "",
    )


@pytest.mark.parametrize("text", ["", "[1]", '{"nodes": 1}', '{"kty": 1}', "[" * 99999, "ä"])
def test_other_files_are_not_shown(folder: Path, text: str) -> None:
    (folder / "other.json").write_text(text)
    code, out, err = fl_he(folder, "show", "other.json")
    assert (code, out) == (1, "")
    assert err.startswith("fl-he: ")
    assert err.count("\n") == 1


def test_a_private_file_is_not_shown(folder: Path) -> None:
    NORTH.save(folder / "identity.json")
    code, out, err = fl_he(folder, "show", "identity.json")
    assert (code, out) == (1, "")
    assert json.loads((folder / "identity.json").read_text())["signing"] not in err
    assert err.startswith("fl-he: identity.json: the file is not public: give a manifest, ")


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        (("north.json", "east.json"), "a federation must have exactly one company X, got []"),
        (("company-x.json",), "a federation must have at least one hospital"),
        (("north.json", "north.json", "company-x.json"), "north and north have the same name"),
        (("public-key.json",), "public-key.json: public identity must have exactly the members"),
        (("nowhere.json",), "nowhere.json: No such file or directory"),
    ],
)
def test_what_is_no_federation_is_refused(
    folder: Path, entries: tuple[str, ...], words: str
) -> None:
    code, out, err = fl_he(folder, "federation", *entries, *FEDERATION)
    assert (code, out) == (1, "")
    assert err.startswith(f"fl-he: {words}")
    assert not (folder / "federation.json").exists()


def test_it_replaces_no_manifest(folder: Path) -> None:
    (folder / "federation.json").write_text("in use")
    code, out, err = fl_he(
        folder, "federation", "north.json", "company-x.json", "east.json", *FEDERATION
    )
    assert (code, out) == (1, "")
    assert err == "fl-he: federation.json already exists; not overwriting it\n"
    assert (folder / "federation.json").read_text() == "in use"
