"""Planted secrets are looked for wherever they could come out: texts, chains, logs, messages."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import fl_he
from deployed_nodes import KEY, deployed_nodes
from flwr.app import Message, RecordDict
from identities import NORTH
from local_grid import LocalGrid
from message_search import factors
from small_keys import SHORT, SMALL, SMALL_BITS, dgk, paillier, short

from fl_he import client_app
from fl_he.capc.node.keys import KeyPair
from fl_he.clients.node.enrolment import Enrolment
from fl_he.crypto.comparison.argmax import PairSecrets
from fl_he.crypto.comparison.dgk_private_key import DgkPrivateKey
from fl_he.crypto.envelopes.identity import Identity
from fl_he.crypto.envelopes.manifest import Manifest
from fl_he.crypto.envelopes.sealing_key import SealingKey
from fl_he.crypto.key_files import (
    ScryptCost,
    load_secret,
    read_passphrase_file,
    save_secret,
)
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.learning.tables.data import load_table
from fl_he.wire.encrypted_sum import DESCRIBE, Description, Role

PLANTED = "PLANTED-7c1e5a"
NUMBER = 271828182845904523  # of a patient
CHEAP = ScryptCost(n=2, r=1)

pytestmark = pytest.mark.filterwarnings("ignore::fl_he.crypto.errors.ShortKeyWarning")


def secret_texts(document: str) -> list[str]:
    """Return the private members of a key's JSON, as it spells them and as numbers."""
    members = json.loads(document)
    texts = [
        members[name]
        for name in ("p", "q", "p1", "q1", "v_p", "v_q", "signing", "sealing")
        if members.get(name)
    ]
    if "p" in members:
        texts += [str(prime) for prime in (*SMALL[:2], *SHORT[:4])]
    return texts


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and all that it was raised from, suppressed ones as well."""
    while error is not None:
        yield error
        if error.__cause__ is not None:
            yield from chain(error.__cause__)
        error = error.__context__


def everything_of(error: BaseException) -> str:
    """Return all that a log, a pickle or a debugger could take from an exception."""
    seen = "".join(traceback.format_exception(error))
    for one in chain(error):
        seen += f"{one!s} {one!r} {one.args!r} {getattr(one, '__dict__', {})!r}"
        if isinstance(one, UnicodeDecodeError):
            seen += repr(one.object)
    return seen


HOLDERS: dict[str, Callable[[], tuple[object, str]]] = {
    "Paillier": lambda: ((key := paillier(*SMALL)), key.to_json()),
    "short Paillier": lambda: ((key := short(*SHORT)), key.to_json()),
    "Paillier with tickets": lambda: ((key := PrivateKey.generate(1024)), key.to_json()),
    "DGK": lambda: ((key := dgk()), key.to_json()),
    "identity": lambda: (NORTH, NORTH.to_json()),
    "pair": lambda: (KeyPair(paillier(*SMALL), dgk()), dgk().to_json()),
    "enrolment": lambda: (
        Enrolment(Manifest((NORTH.public, Identity.generate("x", "key-holder").public)), NORTH),
        NORTH.to_json(),
    ),
}


@pytest.mark.parametrize("name", HOLDERS)
def test_what_holds_a_private_key_neither_shows_it_nor_hands_it_out(name: str) -> None:
    holder, document = HOLDERS[name]()
    shown = f"{holder!r} {holder!s} {holder} {[holder]} {vars(type(holder)).get('__doc__')}"
    assert not any(secret in shown for secret in secret_texts(document))
    for copying in (copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="must not be copied or pickled"):
            copying(holder)


def test_masks_orders_and_seeds_are_not_shown() -> None:
    kept = PairSecrets([[NUMBER]], [[1, 0]])
    assert str(NUMBER) not in repr(kept)
    seed = PLANTED.encode().ljust(32, b"\0")
    assert PLANTED not in repr(SealingKey(seed))


def spoilt(document: str) -> Iterator[str]:
    """Yield a key's JSON with each member gone, of another type, or broken, and cut off."""
    members = json.loads(document)
    for name, value in members.items():
        yield json.dumps({k: v for k, v in members.items() if k != name})
        for wrong in (None, [value], f"{value}!", str(value)[:-1], str(value) + "A"):
            yield json.dumps({**members, name: wrong})
    yield document[:-1]
    yield document + document
    yield document.replace(":", "=", 1)


READERS: dict[str, tuple[Callable[[], str], Callable[[str], object]]] = {
    "Paillier": (
        lambda: paillier(*SMALL).to_json(),
        lambda text: PrivateKey.from_json(text, minimum_bits=SMALL_BITS),
    ),
    "short Paillier": (
        lambda: short(*SHORT).to_json(),
        lambda text: PrivateKey.from_json(text, minimum_bits=SMALL_BITS),
    ),
    "DGK": (
        lambda: dgk().to_json(),
        lambda text: DgkPrivateKey.from_json(text, minimum_bits=SMALL_BITS),
    ),
    "identity": (NORTH.to_json, Identity.from_json),
}


@pytest.mark.parametrize("name", READERS)
def test_a_private_file_that_is_spoilt_is_refused_without_its_content(name: str) -> None:
    make, read = READERS[name]
    document = make()
    refused = 0
    for text in spoilt(document):
        try:
            read(text)
        except ValueError as error:
            refused += 1
            seen = everything_of(error)
            for secret in secret_texts(document):
                assert secret[:20] not in seen
    assert refused > 10


def _write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def _protected(folder: Path) -> object:
    save_secret(folder / "key", PLANTED, "test", f"{PLANTED} words", CHEAP)
    return load_secret(folder / "key", "test", f"{PLANTED} other words", 99)


@pytest.mark.parametrize(
    "read",
    [
        _protected,
        lambda folder: read_passphrase_file(_write(folder, "words", PLANTED.encode() + b"\xff")),
        lambda folder: load_secret(
            _write(folder, "k", PLANTED.encode() + b"\xff"), "test", PLANTED, 99
        ),
    ],
)
def test_neither_secret_nor_passphrase_comes_with_a_refusal(
    tmp_path: Path, read: Callable[[Path], object]
) -> None:
    with pytest.raises(ValueError, match=r"key file|passphrase") as caught:
        read(tmp_path)
    assert PLANTED not in everything_of(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        f"age,state\n{PLANTED},sick\n1,well\n".encode(),
        f"age,state\n{NUMBER},{PLANTED}\n1,well\n2,sick\n".encode(),
        f"age,state\n{PLANTED}".encode() + b"\xff\xfe,sick\n",
        f'age,state\n"{PLANTED},sick\n'.encode(),
        f"age,state\n{NUMBER},sick,{PLANTED}\n".encode(),
        f"{NUMBER},sick\n{PLANTED},well\n".encode(),
    ],
)
def test_no_cell_comes_with_the_refusal_of_a_table(tmp_path: Path, content: bytes) -> None:
    path = _write(tmp_path, "data.csv", content)
    with pytest.raises(ValueError, match=r"must|is not") as caught:
        load_table(path, "state", positive="sick")
    seen = everything_of(caught.value)
    assert PLANTED not in seen
    assert str(NUMBER) not in seen


def test_making_keys_prints_and_leaves_no_secret(tmp_path: Path) -> None:
    words = _write(tmp_path, "words", f"{PLANTED}\n".encode())
    arguments = ["--out", str(tmp_path / "keys"), "--key-bits", "1024"]
    code, printed, errors = fl_he(tmp_path, "keygen", *arguments, "--passphrase-file", str(words))
    assert code == 0, errors
    key = PrivateKey.load(tmp_path / "keys" / "private-key.json", PLANTED)
    members = json.loads(key.to_json())
    for secret in (PLANTED, members["p"], members["q"]):
        assert secret not in printed + errors
        for path in (tmp_path / "keys").iterdir():
            assert secret.encode() not in path.read_bytes()
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "keys").iterdir()}
    private = {name for name, mode in modes.items() if mode == 0o600}
    assert private == {"private-key.json", "dgk-private-key.json"}


def test_a_deployed_node_logs_and_sends_no_secret(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Everything that leaves the nodes, metadata and errors included, and all that they log."""
    caplog.set_level(logging.DEBUG)
    nodes = deployed_nodes(tmp_path)
    table = tmp_path / "1.csv"
    table.write_text(f"age,size,state\n{NUMBER},2,sick\n{PLANTED},1,well\n")
    grid = LocalGrid(client_app.app, nodes)
    actions = (DESCRIBE, "train", "evaluate", "query.decrypt", "query.finish")
    messages = [
        Message(content, node, action)
        for node in grid.contexts
        for action in actions
        for content in (RecordDict(), Description.to_content(_description()))
    ]
    grid.send_and_receive(messages)
    seen = caplog.text + "".join(repr(vars(message.metadata)) for message in grid.received)
    seen += "".join(str(message.error.reason) for message in grid.received if message.has_error())
    assert grid.received
    for secret in (PLANTED, str(NUMBER), *_members(KEY)):
        assert secret not in seen
    assert factors(grid.received, KEY.public_key.n) == []
    for context in grid.contexts.values():
        state = repr({name: dict(record) for name, record in context.state.items()})
        assert not any(secret in state for secret in _members(KEY))


def _members(key: PrivateKey) -> list[str]:
    members: dict[str, Any] = json.loads(key.to_json())
    return [members["p"], members["q"]]


def _description() -> Description:
    return Description(Role.HOSPITAL, "x", "1", ("a",))
