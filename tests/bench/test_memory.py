from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fl_he.bench.fresh import PeakMemory, descendants, own_peak

MIB = 2**20
pytestmark = pytest.mark.skipif(not Path("/proc").exists(), reason="needs Linux's /proc")

#: Allocates so many MiB, gives them back, and waits; with a child it has the child do the same.
HUNGRY = """
import subprocess, sys
child = None
if len(sys.argv) > 2:
    child = subprocess.Popen([sys.executable, "-c", sys.argv[2], sys.argv[1]],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    child.stdout.readline()
data = b"x" * (int(sys.argv[1]) * 2**20)
del data
print("ready", flush=True)
sys.stdin.read()
if child is not None:
    child.communicate()
"""


@pytest.mark.parametrize("with_child", [False, True])
def test_peak_of_a_process_and_its_children(with_child: bool) -> None:
    mebibytes = 200
    arguments = [str(mebibytes), *([HUNGRY] if with_child else [])]
    with subprocess.Popen(
        [sys.executable, "-c", HUNGRY, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        with PeakMemory(process.pid) as peak:
            pass
        process.communicate()
    expected = mebibytes * MIB * (2 if with_child else 1)
    assert expected <= peak.bytes < expected + 60 * MIB, "no more than interpreters beside it"


def test_descendants_are_children_and_theirs() -> None:
    nested = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    leaf = "print('ready', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", nested, leaf], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = descendants(process.pid)
        assert len(found) == 1
        assert process.pid in descendants(os.getpid())
        assert set(found) <= set(descendants(os.getpid()))
        process.communicate(b"\n")
    assert descendants(process.pid) == []


def test_own_peak_is_of_this_process() -> None:
    status = Path("/proc/self/status").read_text().splitlines()
    high_water = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    assert own_peak() >= 0.9 * high_water
