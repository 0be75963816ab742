"""The federation manifest: whose identities a node trusts, and its study plans.

It is handed to every node by another way than the coordinator's. A node takes only keys that are in
the manifest, or that an identity of the manifest has signed: a coordinator cannot swap them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from fl_he.crypto.encoding.canonical import encode_fields
from fl_he.crypto.encoding.fields import Fingerprint, Place, constant, kind_of, listed
from fl_he.crypto.encoding.strict_json import Document, Documented
from fl_he.crypto.envelopes.public_identity import FORM, PublicIdentity
from fl_he.crypto.errors import CryptoError

_FORMAT, _OLDER_FORMAT = "fl-he federation 3", "fl-he federation 2"
_FINGERPRINT = kind_of(Fingerprint)


@dataclass(frozen=True, slots=True, repr=False)
class Manifest(Documented):
    """All nodes of a federation, and study plans.

    Whoever may write a manifest's file decides whose keys a node trusts.

    Parameters
    ----------
    nodes : tuple of PublicIdentity
        In any order; kept in the order of their names. No two may share a name (in any case of
        letters) or a key; there must be exactly one company X, and a hospital.
    plans : tuple of str
        Digests of the study plans (:mod:`fl_he.wire.study_plan`), in any order; kept sorted. With
        any, nodes answer only what one of the plans allows.

    Raises
    ------
    CryptoError
        If they are no federation.
    """

    DOCUMENT: ClassVar[Document] = Document(
        "federation manifest",
        {
            "format": constant(_FORMAT),
            "plans": listed(_FINGERPRINT),
            "nodes": listed(FORM.kind),
        },
        limit=2**21,  # characters; room for about a thousand nodes
        indent=1,
        older={
            "fl-he federation 1": "make the manifest anew with `fl-he federation`, from the same "
            "entries, and give it to every node",
            _OLDER_FORMAT: "make a new one of it with `fl-he federation --from OLD.json --out "
            "NEW.json`, and give it to every node",
        },
    )

    nodes: tuple[PublicIdentity, ...]
    plans: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "nodes", tuple(sorted(self.nodes, key=lambda node: node.name)))
        object.__setattr__(self, "plans", tuple(sorted(self.plans)))
        for digest in self.plans:
            _FINGERPRINT.read(digest, Place("plans"))
        if len(set(self.plans)) < len(self.plans):
            raise CryptoError("plans must hold no digest twice")
        _check_different(self.nodes)
        holders = [node.name for node in self.nodes if node.role == "key-holder"]
        if len(holders) != 1:
            raise CryptoError(f"a federation must have exactly one company X, got {holders}")
        if len(self.nodes) == 1:
            raise CryptoError("a federation must have at least one hospital")

    @property
    def key_holder(self) -> PublicIdentity:
        """Company X."""
        return next(node for node in self.nodes if node.role == "key-holder")

    @property
    def hospitals(self) -> tuple[PublicIdentity, ...]:
        """The hospitals in the order of their names."""
        return tuple(node for node in self.nodes if node.role == "hospital")

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the whole manifest as 64 hexadecimal digits, for any order of nodes.

        Nodes with the same one trust the same keys, and compute under the same plans.
        """
        fields = (
            _FORMAT.encode(),
            encode_fields(*map(bytes.fromhex, self.plans)),
            *(node.digest for node in self.nodes),
        )
        return hashlib.sha256(encode_fields(*fields)).hexdigest()

    def node(self, name: str) -> PublicIdentity:
        """Return the entry of a node.

        Raises
        ------
        CryptoError
            If there is none of that name.
        """
        for node in self.nodes:
            if node.name == name:
                return node
        raise CryptoError(
            f"a node must be one of {[node.name for node in self.nodes]}, got {name[:80]!r}"
        )

    def require(self, identity: PublicIdentity) -> None:
        """Raise CryptoError unless exactly this identity is in the manifest.

        For a node's own identity, and for one that somebody else sent.
        """
        entry = self.node(identity.name)
        if entry != identity:
            raise CryptoError(
                f"the identity of {entry.name} must be {entry.fingerprint[:16]} as in the "
                f"manifest, got {identity.fingerprint[:16]}"
            )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """See the base."""
        return cls.DOCUMENT.loads(text, lambda plans, nodes: cls(nodes, plans))

    @classmethod
    def from_older(cls, text: str) -> Self:
        """Read a manifest of format 2, which pinned a Paillier key as well; that is left out."""
        added = {"format": constant(_OLDER_FORMAT), "paillier": _FINGERPRINT}
        older = replace(cls.DOCUMENT, members={**cls.DOCUMENT.members, **added}, older={})
        return older.loads(text, lambda plans, nodes, _: cls(nodes, plans))

    def __repr__(self) -> str:
        return f"Manifest({len(self.nodes)} nodes, {self.fingerprint[:16]})"


def _check_different(nodes: tuple[PublicIdentity, ...]) -> None:
    """Refuse nodes that share a name or a key."""
    seen: dict[tuple[str, str | bytes], str] = {}
    for node in nodes:
        for what, value in (
            ("name", node.name.lower()),
            ("signing key", node.signing_key),
            ("sealing key", node.sealing_key),
        ):
            if (what, value) in seen:
                raise CryptoError(
                    f"{seen[what, value]} and {node.name} have the same {what}; each node "
                    "needs its own"
                )
            seen[what, value] = node.name
