"""The keys of a CaPC node: a Paillier and a DGK key, of the querying party and of the guardian."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from fl_he.capc.agreement import KeyPins
from fl_he.capc.protocol import CapcRole
from fl_he.clients.node.node import Node, OwnKey
from fl_he.crypto.comparison.argmax import pair_batch, pairs, winners
from fl_he.crypto.comparison.comparison import Batch, bits, results
from fl_he.crypto.comparison.dgk_key import DgkPublicKey
from fl_he.crypto.comparison.dgk_private_key import DgkPrivateKey
from fl_he.crypto.comparison.slot_layout import SlotLayout, merged_count, split_merged
from fl_he.crypto.paillier.key_kind import KeyKind
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.crypto.paillier.public_key import PublicKey
from fl_he.wire.records import ProtocolError

_PAILLIER, _DGK = "paillier", "dgk"
_PAILLIER_SETTING, _DGK_SETTING = "capc-private-key", "capc-dgk-key"


@dataclass(frozen=True, slots=True)
class PublicKeys:
    """Both public keys of a node that owns keys."""

    paillier: PublicKey
    dgk: DgkPublicKey

    def to_texts(self) -> dict[str, str]:
        """Return both as JSON."""
        return {_PAILLIER: self.paillier.to_json(), _DGK: self.dgk.to_json()}

    @classmethod
    def from_texts(cls, texts: Mapping[str, str], owner: CapcRole, key_bits: int) -> PublicKeys:
        """Read the keys of the querying party or of the guardian from a message.

        Longer keys are refused before their numbers are checked, which takes time.

        Raises
        ------
        ProtocolError, CryptoError
            If one is not a key of `key_bits` bits.
        """
        found = cls(
            PublicKey.from_json(texts.get(f"{owner}-{_PAILLIER}", ""), maximum_bits=key_bits),
            DgkPublicKey.from_json(texts.get(f"{owner}-{_DGK}", ""), maximum_bits=key_bits),
        )
        for key in (found.paillier, found.dgk):
            if key.key_bits != key_bits:
                raise ProtocolError(f"the {owner}'s keys must have {key_bits} bits, got {key!r}")
        return found


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Both private keys of a node, and Bob's part in comparisons."""

    paillier: PrivateKey
    dgk: DgkPrivateKey

    @property
    def public(self) -> PublicKeys:
        """The public halves."""
        return PublicKeys(self.paillier.public_key, self.dgk.public_key)

    def open_pairs(
        self, layout: SlotLayout, blinded: bytes, classes: int, queries: int
    ) -> list[int]:
        """Open what `argmax.blind_pairs` made, by pair, then by query."""
        numbers = len(pairs(classes))
        count = merged_count(layout, numbers, queries)
        ciphertexts = self.paillier.public_key.from_bytes(blinded, count)
        return split_merged(layout, self.paillier.decrypt(ciphertexts), numbers, queries)

    def open(self, layout: SlotLayout, blinded: bytes, numbers: int, queries: int) -> list[int]:
        """Open blinded numbers, by number, then by query."""
        key = self.paillier.public_key
        packs = layout.packs(queries)
        ciphertexts = key.from_bytes(blinded, numbers * packs)
        plaintexts = self.paillier.decrypt(ciphertexts)
        return [
            z
            for at in range(0, len(plaintexts), packs)
            for z in layout.split(plaintexts[at : at + packs], queries)
        ]

    def bits(self, batch: Batch, opened: Sequence[int]) -> bytes:
        """Encrypt the digits of opened numbers."""
        return self.dgk.public_key.to_bytes(bits(self.dgk, batch, opened))

    def results(self, batch: Batch, compared: bytes) -> list[int]:
        """Return the results of comparisons."""
        ciphertexts = self.dgk.public_key.from_bytes(compared, batch.returned)
        return results(self.dgk, batch, ciphertexts)

    def winners(self, value_bits: int, compared: bytes, classes: int, queries: int) -> list[int]:
        """Return each query's winner, a position in the order that the other side has chosen."""
        batch = pair_batch(self.dgk.public_key, value_bits, classes, queries)
        return winners(classes, queries, self.results(batch, compared))


def own_keys(
    node: Node, key_bits: int, pins: KeyPins | None = None, *, kind: KeyKind = KeyKind.short
) -> KeyPair:
    """Return a node's keys: a simulated node's, which the first call makes, or those in its files.

    Parameters
    ----------
    node : Node
    key_bits : int
        Length of the keys that a simulated node makes.
    pins : KeyPins or None
        Those of a deployed node.
    kind : KeyKind
        Of the Paillier key that a simulated node makes.

    Raises
    ------
    ProtocolError
        If a file does not open, or its key is not the one that is pinned for this node.
    """
    # A key that was checked before is known by its fingerprint.
    known = None if pins is None else pins.paillier
    generate = partial(PrivateKey.generate, key_bits, kind=kind)
    load = partial(PrivateKey.load, known=known)
    paillier = OwnKey(_PAILLIER_SETTING, generate, PrivateKey.from_json, load)
    make = partial(DgkPrivateKey.generate, key_bits)
    dgk = OwnKey(_DGK_SETTING, make, DgkPrivateKey.from_json, DgkPrivateKey.load)
    pair = KeyPair(node.private_key(paillier), node.private_key(dgk))
    if pins is not None:
        for setting, key, pinned in (
            (_PAILLIER_SETTING, pair.public.paillier, pins.paillier),
            (_DGK_SETTING, pair.public.dgk, pins.dgk),
        ):
            if key.fingerprint != pinned:
                raise ProtocolError(
                    f"{setting} in the node configuration must name the agreement's key, "
                    f"{pinned}, got {key.fingerprint}"
                )
    return pair
