"""Nodes for the crypto tests, with keys that are written down here: test only."""

from __future__ import annotations

import hashlib

from fl_he.crypto.envelopes.identity import Identity


def make(name: str, role: str = "hospital", number: int = 0) -> Identity:
    """Return the same identity each time; another number gives other keys."""
    signing, sealing = (
        hashlib.sha256(f"{name} {kind} {number}".encode()).digest() for kind in ("sign", "seal")
    )
    return Identity(name, role, signing, sealing)


NORTH = make("north")
SOUTH = make("south")
EAST = make("east")
COMPANY = make("company-x", "key-holder")
