"""Models of a million and of ten million parameters through a real SuperLink, in a fold."""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from federation_processes import PATIENCE, ROOT, Processes

from fl_he import PrivateKey
from fl_he.bench.fresh import PeakMemory


@pytest.mark.release
@pytest.mark.parametrize(
    ("hidden_units", "parameters"),
    [(960, "992,650"), (3200, "10,476,810")],
    ids=["million", "ten-million"],
)
def test_a_large_model_over_a_superlink(hidden_units: int, parameters: str, tmp_path: Path) -> None:
    app = Path(shutil.copytree(ROOT / "examples" / "large-model", tmp_path / "large-model"))
    key = PrivateKey.generate(2048)
    key.save(tmp_path / "key.json")
    nodes = {
        f"hospital-{number}": f'role="hospital" name="hospital-{number}" partition-id={number} '
        f'num-partitions=3 key-fingerprint="{key.public_key.fingerprint}" reply-seconds=0'
        for number in range(3)
    }
    nodes["company-x"] = f'role="key-holder" name="company-x" private-key="{tmp_path}/key.json"'
    saved = tmp_path / "model.npz"
    with ExitStack() as stack:
        memory = stack.enter_context(PeakMemory(os.getpid()))
        processes = Processes(tmp_path, nodes, dict.fromkeys(nodes, ("flower-supernode",)))
        stack.callback(processes.stop)
        settings = f"num-server-rounds=2 hidden-units={hidden_units} save-to='{saved}'"
        processes.run_app(app, settings).wait(4 * PATIENCE)
        printed = processes.log("run")
    assert f"{parameters} parameters" in printed, printed + processes.log("superlink")
    assert "train 2: 3 hospitals in the sum" in printed
    accuracy = float(printed.split("round 2: accuracy ")[1].split()[0])
    assert accuracy > 0.8
    assert all(np.isfinite(values).all() for values in np.load(saved).values())
    print(f"{parameters} parameters: {memory.bytes / 2**30:.2f} GiB at the peak")
    assert 0 < memory.bytes < 8 * 2**30
