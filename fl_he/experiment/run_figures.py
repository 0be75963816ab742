"""Figures that every kind of run writes to metrics.json: origin, costs, encryption."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from fl_he.config import CryptoConfig
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.paillier.public_key import PublicKey
from fl_he.run_files import metrics_contract
from fl_he.version import __version__, software_versions


def origin_figures() -> dict[str, Any]:
    """Return what metrics.json says first: its version, and by what and when it was made."""
    return {
        "version": metrics_contract.VERSION,
        "fl_he": __version__,
        "software": software_versions(),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def packing_of(crypto: CryptoConfig) -> Packing:
    """Return the packing that a configuration asks for."""
    return Packing(crypto.fraction_bits, crypto.integer_bits, crypto.max_contributors)


def crypto_figures(
    packing: Packing, key: PublicKey, ciphertexts: int, update_bytes: int
) -> dict[str, Any]:
    """Return the member ``crypto``; the last two arguments are of one hospital's update."""
    return {
        "key_bits": key.key_bits,
        "key_fingerprint": key.fingerprint,
        "slots_per_ciphertext": packing.slots_per_ciphertext(key.key_bits),
        "ciphertexts_per_update": ciphertexts,
        "bytes_per_update": update_bytes,
    }
