"""Short keys that are written down here, so that tests are fast and repeatable.

They are public by that, and far too short: test only.
"""

from __future__ import annotations

from fl_he.crypto.comparison.dgk_key import DgkPublicKey
from fl_he.crypto.comparison.dgk_private_key import DgkPrivateKey
from fl_he.crypto.envelopes.sealing_key import SealingKey
from fl_he.crypto.paillier.key_kind import KeyKind
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.crypto.paillier.public_key import PublicKey

SMALL_BITS = 512
SMALL = (
    0xCC086AAF9D8D0A794AFF9E395034F06928560CB9710AB634EEF3A9C0253435AB,
    0xE592769021928972E44FEA5193399398B405C268C46377D04EA63413C69353CF,
    0x1234567,
)
OTHER_SMALL = (
    0xC4A69C7EAFFA479D367439148A41F204D491ED8E924530E12D4471C968FF8623,
    0xEDDB82BD58CACAEBCD86CE752E8668626ACFC2E243C2A4711944A00B73124337,
    0x7654321,
)
#: p, q, p1 and q1 of a key of kind ``short``, and x.
SHORT = (
    0xC3BFE1B9077105FE7D19F469FE6D5CF3AE6808F3281A6286B43E6B651BD84AD7,
    0xC75165850D97CFCD669D5A50E6053184725D730B09BCEE4BD876D0ADA9E89793,
    0xC4FED2359910BCA43A1BF9EC0B25A347,
    0xCEB8F1DA20A060D1D846247FDDA3EC07,
    0x1234567,
)

SMALL_DGK = {  # u is 257
    "p": 0xC9C0B9019E44AB9AEFB9386F86EEF20E0FCD83F9CCE704E14F933763860454E3,
    "q": 0xF47D27912C9E7E476ED2F190CF60D8A2303ED9DE34275A1E99E573D68BE3A347,
    "v_p": 0xC9A7ADE9BA923175D503713DFBD8DE57D08A98A1,
    "v_q": 0x8B7A585744790E1A1D81208C5E9842EAE32F2F83,
    "g": int(
        "B1E81B26B3B8B497D0B62D14A14D69B02121EDB52E19064B57F8B035B4B191C0"
        "C68768F22E5895C96442F502BD3705FC8DF41D9C09CB8DE439C4A13EF591B3FA",
        16,
    ),
    "h": int(
        "5B6C4CD797C27CEA5FC83AC3CEB933E5DD011DA906467D96AA1DB30C1309C504"
        "5D8C6BC3DE37250BC45EE469ED1EC53D339D6A55712B922F2181A5D127F30B63",
        16,
    ),
}


def paillier(p: int, q: int, x: int, seed: bytes = b"") -> PrivateKey:
    """Return the key of two primes whose published base comes from x; a seed is of tickets."""
    n = p * q
    h_s = pow(-x * x % n, n, n * n)
    sealing = SealingKey(seed).public_bytes if seed else b""
    return PrivateKey(PublicKey(n, h_s, sealing, minimum_bits=SMALL_BITS), p, q, seed)


def short(p: int, q: int, p1: int, q1: int, x: int) -> PrivateKey:
    """Return the key of kind ``short`` of two primes whose published base comes from x."""
    n, cofactor = p * q, (p - 1) // (2 * p1) * ((q - 1) // (2 * q1))
    h_s = pow(-pow(x, 2 * cofactor, n) % n, n, n * n)
    public = PublicKey(n, h_s, key_kind=KeyKind.short, minimum_bits=SMALL_BITS)
    return PrivateKey(public, p, q, p1=p1, q1=q1)


def dgk() -> DgkPrivateKey:
    """Return a DGK key whose u is 257."""
    k = SMALL_DGK
    public = DgkPublicKey(k["p"] * k["q"], k["g"], k["h"], 257, minimum_bits=SMALL_BITS)
    return DgkPrivateKey(public, k["p"], k["q"], k["v_p"], k["v_q"])
