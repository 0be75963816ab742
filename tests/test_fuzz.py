"""The fuzzed readers take their valid inputs, and a few hundred others do them no harm.

`make fuzz` tries many more, guided by coverage; see docs/security.md.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from fuzz.target import Target
from fuzz.targets import TARGETS

_INPUTS, _SEEDS = 100, 25

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize(
    "target",
    [
        # Each of its inputs is answered by a node, so it is slow.
        pytest.param(one, marks=pytest.mark.slow) if one.name == "node-messages" else one
        for one in TARGETS
    ],
    ids=lambda target: target.name,
)
def test_hostile_input_is_refused_by_the_documented_errors_alone(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    seeds = target.seeds()
    target.read(seeds[0])  # else only refusals would be tried
    choose = random.Random(target.name)
    most = round(_SEEDS * min(1.0, target.weight + 0.3))
    refused = sum(map(target.refuses, choose.sample(seeds[1:], min(len(seeds) - 1, most))))
    for _ in range(round(_INPUTS * min(1.0, target.weight + 0.05))):
        data = bytearray(choose.choice(seeds))
        for _ in range(choose.randint(1, 8)):
            at = choose.randint(0, len(data))
            data[at : at + choose.randint(0, 4)] = choose.randbytes(choose.randint(0, 4))
        refused += target.refuses(bytes(data[: target.limit]))
    assert refused
