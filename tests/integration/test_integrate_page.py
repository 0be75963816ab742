"""The Python of docs/integrate.md runs, block after block, and its figures are right."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from flwr.clientapp import ClientApp

from fl_he import Packing
from fl_he.strategies import EncryptedSum

PAGE = (Path(__file__).parents[2] / "docs" / "integrate.md").read_text()


@pytest.mark.filterwarnings("ignore:only arrays named like")
def test_its_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 12
    names: dict[str, Any] = {}
    packings = []
    for block in blocks:
        exec(block, names)  # noqa: S102 - it is ours
        assert isinstance(names["app"], ClientApp)
        assert isinstance(names["strategy"], EncryptedSum)
        packings.append(names["strategy"].packing)
    assert (tmp_path / "company-x.json").stat().st_mode & 0o777 == 0o600
    assert Packing(integer_bits=30) in packings


def test_its_figures() -> None:
    text = " ".join(PAGE.split())
    packing = Packing()
    assert f"({2**packing.integer_bits:,} by default)" in text
    three = Packing(max_contributors=3)
    assert f"`max_contributors` hospitals | {packing.headroom} | {three.headroom} |" in text
    assert f"| together | {packing.slot_bits} | {three.slot_bits} |" in text
    assert f"{packing.tag_bits} bits with room for 512 hospitals" in text
    numbers = three.values_per_ciphertext(2048, tagged=True)
    assert f"Slots for three hospitals hold {numbers} numbers" in text
    assert packing.fraction_bits == 24
    slots = packing.values_per_ciphertext(2048, tagged=True)
    untagged = packing.slots_per_ciphertext(2048)
    assert f"without tags ({untagged} numbers in a ciphertext)" in text
    megabytes = packing.ciphertexts(1_000_000, 2048, tagged=True) * 512 / 1e6
    update = f"{slots} numbers in each ciphertext of 512 bytes | {megabytes:.1f} MB |"
    assert update in text
    assert 16_777_216 // 10_000 == 1677
    assert "values may reach 1,677; with 1,000,000 examples 16" in text
