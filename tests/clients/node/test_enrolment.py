from __future__ import annotations

from pathlib import Path

import pytest
from flwr.app import Context, Message, RecordDict
from flwr.app.user_config import UserConfig
from identities import COMPANY, EAST, NORTH, SOUTH, make

from fl_he.clients.node.deployed import DeployedNode
from fl_he.clients.node.enrolment import Enrolment, read_enrolment, read_manifest, read_passphrase
from fl_he.clients.node.node import Node
from fl_he.clients.node.outgoing import answered
from fl_he.crypto.envelopes.identity import Identity
from fl_he.crypto.envelopes.manifest import Manifest
from fl_he.crypto.errors import CryptoError, KeyFileError
from fl_he.crypto.key_files import ScryptCost
from fl_he.wire.records import ProtocolError

MANIFEST = Manifest((NORTH.public, SOUTH.public, COMPANY.public))
CHEAP = ScryptCost(n=2, r=1, p=1)


class Files:
    """A folder with a manifest and identities."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.federation = folder / "federation.json"
        self.federation.write_text(MANIFEST.to_json())

    def identity(self, identity: Identity, passphrase: str | None = None) -> str:
        path = self.folder / f"{identity.public.name}.json"
        identity.save(path, passphrase, cost=CHEAP)
        return str(path)

    def passphrase(self, content: bytes) -> str:
        path = self.folder / "passphrase"
        path.write_bytes(content)
        path.chmod(0o600)
        return str(path)

    def north(self, **changes: str | None) -> UserConfig:
        """Return the configuration of the hospital north with changes; None leaves a setting out.

        Underscores become hyphens.
        """
        settings: dict[str, str | None] = {
            "role": "hospital",
            "federation": str(self.federation),
            "identity": str(self.folder / "north.json"),
            **{key.replace("_", "-"): value for key, value in changes.items()},
        }
        if not (self.folder / "north.json").exists():
            self.identity(NORTH)
        return {key: value for key, value in settings.items() if value is not None}


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def context(node_config: UserConfig) -> Context:
    return Context(run_id=1, node_id=9, node_config=node_config, state=RecordDict(), run_config={})


def enrolled(node_config: UserConfig) -> Enrolment:
    enrolment = read_enrolment(context(node_config))
    assert enrolment is not None
    return enrolment


def test_a_node_finds_its_manifest_and_its_identity(files: Files) -> None:
    enrolment = enrolled(files.north(name="north"))
    assert enrolment.manifest == MANIFEST
    assert enrolment.identity.public == NORTH.public
    assert enrolment.name == "north"
    assert read_manifest(context(files.north())) == MANIFEST


def test_a_node_without_a_name_has_its_identitys(files: Files) -> None:
    # A coordinator waits for the hospitals by the names in the manifest.
    assert DeployedNode(context(files.north())).name == "north"
    assert DeployedNode(context({"role": "hospital", "key-fingerprint": "ab"})).name == "node-9"


def test_company_x_is_enrolled_like_a_hospital(files: Files) -> None:
    node_config = files.north(role="key-holder", identity=files.identity(COMPANY))
    assert enrolled(node_config).name == "company-x"


def test_a_node_without_a_manifest_has_no_enrolment() -> None:
    configs: list[UserConfig] = [{"role": "hospital"}, {"partition-id": 0, "num-partitions": 4}]
    for node_config in configs:
        assert read_enrolment(context(node_config)) is None
        assert read_manifest(context(node_config)) is None


def test_the_repr_shows_no_key(files: Files) -> None:
    shown = repr(enrolled(files.north()))
    assert shown.startswith("Enrolment(Identity(north, hospital, ")
    secret = (files.folder / "north.json").read_text().split('"sealing":"')[1][:43]
    assert secret not in shown


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"identity": None}, "holds federation must be given identity as well"),
        ({"federation": None}, "holds identity must be given federation as well"),
        ({"role": "key-holder"}, "role .* must be 'hospital', .* got 'key-holder'"),
        ({"role": None}, "role .* must be 'hospital', .* got None"),
        ({"name": "south"}, "name .* must be 'north', .* got 'south'"),
        ({"federation": " "}, "federation in the node configuration must be a text"),
    ],
)
def test_settings_that_do_not_fit_together(
    files: Files, changes: dict[str, str | None], words: str
) -> None:
    with pytest.raises(ProtocolError, match=words):
        read_enrolment(context(files.north(**changes)))


def test_an_identity_that_is_not_in_the_manifest(files: Files) -> None:
    with pytest.raises(CryptoError, match=r"must be one of .* got 'east'"):
        read_enrolment(context(files.north(identity=files.identity(EAST))))


def test_another_identity_of_the_same_name(files: Files) -> None:
    other = files.identity(make("north", number=1))
    with pytest.raises(CryptoError, match=r"the identity of north must be .* as in the manifest"):
        read_enrolment(context(files.north(identity=other)))


@pytest.mark.parametrize("setting", ["federation", "identity", "passphrase-file"])
def test_no_path_leaves_the_node(files: Files, setting: str) -> None:
    node_config = {**files.north(), setting: str(files.folder / "nowhere")}

    def app(message: Message, node: Node) -> Message:
        _ = node.enrolment
        raise AssertionError("a node without its files must not be enrolled")

    node = DeployedNode(context(node_config))
    reply = answered(Message(RecordDict(), 1, "train"), node, app)
    assert reply.error.reason == (
        f"cannot read the file named by {setting} in the node configuration (FileNotFoundError)"
    )


def test_an_identity_that_others_may_read(files: Files) -> None:
    node_config = files.north()
    (files.folder / "north.json").chmod(0o644)
    with pytest.raises(KeyFileError, match="accessible by its owner only"):
        read_enrolment(context(node_config))


@pytest.mark.parametrize("content", ["käse".encode(), "käse\n".encode(), "käse\r\nmore".encode()])
def test_a_protected_identity_is_opened_with_the_passphrase_file(
    files: Files, content: bytes
) -> None:
    files.identity(NORTH, "käse")
    node_config = files.north(passphrase_file=files.passphrase(content))
    assert enrolled(node_config).identity.public == NORTH.public
    with pytest.raises(KeyFileError, match="a passphrase must be given"):
        read_enrolment(context(files.north()))


def test_a_wrong_passphrase(files: Files) -> None:
    files.identity(NORTH, "käse")
    node_config = files.north(passphrase_file=files.passphrase(b"kase"))
    with pytest.raises(KeyFileError, match="the passphrase does not open the key file"):
        read_enrolment(context(node_config))


def test_passphrase_files(files: Files) -> None:
    assert read_passphrase(context({})) is None
    with pytest.raises(KeyFileError, match="must be UTF-8 text"):
        read_passphrase(context({"passphrase-file": files.passphrase(b"\xff")}))
    path = Path(files.passphrase(b"secret"))
    path.chmod(0o644)
    with pytest.raises(KeyFileError, match="accessible by its owner only"):
        read_passphrase(context({"passphrase-file": str(path)}))
