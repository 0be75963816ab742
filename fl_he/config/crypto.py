"""``crypto``: the Paillier key and the packing."""

from __future__ import annotations

from dataclasses import dataclass

from fl_he.config.refusal import ConfigError, require_count

#: Bits of one number in a plaintext: sign, integer, fraction and room for the contributors.
SLOT_LIMIT = 64
#: Bits of the largest modulus that the crypto layer takes.
KEY_BITS_LIMIT = 8192


@dataclass
class CryptoConfig:
    """The Paillier key and the fixed-point numbers inside a ciphertext.

    Attributes
    ----------
    key_bits : int
        Bits of the modulus, from 1024 (which warns) to 8192; 3072 for 128-bit security.
    fraction_bits, integer_bits : int
        Bits after and before the binary point of one weighted value, at least 0 and 1. With the
        sign and the room for the contributors they must fit 64 bits.
    max_contributors : int
        The most updates that one sum has room for.
    """

    key_bits: int = 2048
    fraction_bits: int = 24
    integer_bits: int = 24
    max_contributors: int = 512


def check_crypto(crypto: CryptoConfig) -> None:
    """Refuse a key that nobody makes, and numbers that fit no slot; raises ConfigError."""
    require_count("crypto.key_bits", crypto.key_bits, 1024, KEY_BITS_LIMIT)
    if crypto.key_bits % 2:
        raise ConfigError(f"crypto.key_bits must be even, got {crypto.key_bits}")
    require_count("crypto.fraction_bits", crypto.fraction_bits, 0)
    require_count("crypto.integer_bits", crypto.integer_bits, 1)
    require_count("crypto.max_contributors", crypto.max_contributors, 1)
    headroom = (crypto.max_contributors - 1).bit_length()
    slot = 1 + crypto.integer_bits + crypto.fraction_bits + headroom
    if slot > SLOT_LIMIT:
        raise ConfigError(
            f"crypto.fraction_bits + crypto.integer_bits must be at most "
            f"{SLOT_LIMIT - 1 - headroom} with crypto.max_contributors={crypto.max_contributors}, "
            f"got {slot - 1 - headroom}"
        )
