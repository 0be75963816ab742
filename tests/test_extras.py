"""The package works without its extras, and says which one is missing where it needs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: Blocks the imports of extras' packages, in this process and in those that it starts.
BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {extras}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
"""


@pytest.mark.slow
def test_all_of_it_is_imported_without_any_extra(tmp_path: Path) -> None:
    script = ROOT / ".ci" / "import_base.py"
    (extras,) = (
        line.split("= ", 1)[1] for line in script.read_text().splitlines() if "EXTRAS = (" in line
    )
    (tmp_path / "sitecustomize.py").write_text(BLOCKED.format(extras=extras))
    code = f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "modules of" in done.stdout
