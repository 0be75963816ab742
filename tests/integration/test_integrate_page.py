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
    assert len(blocks) == 10
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
    packing = Packing()
    assert f"({2**packing.integer_bits:,} by default)" in PAGE
    assert f"{packing.slot_bits} in all with a `Packing()` for 512 hospitals" in PAGE
    three = Packing(max_contributors=3)
    assert f"Slots for three hospitals have {three.slot_bits} bits" in PAGE
    numbers = three.values_per_ciphertext(2048, tagged=True)
    assert f"a ciphertext holds {numbers} numbers" in PAGE
    assert f"The highest {packing.tag_bits} bits of each" in PAGE
    assert packing.fraction_bits == 24
    slots = packing.values_per_ciphertext(2048, tagged=True)
    assert f"{slots} numbers in a ciphertext of 512 bytes" in PAGE
    assert f"of {packing.slots_per_ciphertext(2048)} numbers in a ciphertext, without tags" in PAGE
    megabytes = packing.ciphertexts(1_000_000, 2048, tagged=True) * 512 / 1e6
    assert f"| {megabytes:.1f} MB: " in PAGE
    assert 16_777_216 // 10_000 == 1677
    assert "values may reach 1,677; with 1,000,000 examples 16" in PAGE
