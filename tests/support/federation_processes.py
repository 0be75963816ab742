"""A SuperLink and SuperNodes as separate processes on loopback, which tests may kill."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType

import numpy as np
import psutil
from identities import make
from numpy.typing import NDArray

from fl_he.crypto.envelopes.manifest import Manifest
from fl_he.wire.study_plan import StudyPlan

ROOT = Path(__file__).parents[2]
HOSPITALS = ("st-anne", "st-john", "st-mary")
#: One hospital may be away.
ENOUGH = len(HOSPITALS) - 1
HOLDER = "company-x"
#: Seconds that anything may take on a machine that is busy.
PATIENCE = 1200.0


def table(name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the patients of a hospital."""
    random = np.random.default_rng(HOSPITALS.index(name))
    X = random.normal(size=(12 + 5 * HOSPITALS.index(name), 2)).round(3)
    return X, (X[:, 0] - 0.5 * X[:, 1] + random.normal(size=len(X)) > 0).astype(float)


def descent(
    rounds: list[tuple[str, ...]], lr: float, *, scaled: bool
) -> tuple[NDArray[np.float64], float]:
    """Return the model after rounds of gradient descent on the participants' pooled data.

    Everybody takes part in the scaling, which comes before the first round.
    """
    everybody = np.concatenate([table(name)[0] for name in HOSPITALS])
    mean, scale = (everybody.mean(axis=0), everybody.std(axis=0)) if scaled else (0.0, 1.0)
    w, b = np.zeros(2), 0.0
    for names in rounds:
        X = np.concatenate([table(name)[0] for name in names])
        X = (X - mean) / scale
        y = np.concatenate([table(name)[1] for name in names])
        error = 1.0 / (1.0 + np.exp(-(X @ w + b))) - y
        w, b = w - lr * X.T @ error / len(y), b - lr * float(error.mean())
    return w, b


def wait_for(condition: Callable[[], object], found: Callable[[], str]) -> None:
    """Wait until a condition holds, or fail with what was found in its place."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, found()
        time.sleep(0.1)


def kill_9(pid: int) -> None:
    """Kill a process and all that it has started."""
    family = psutil.Process(pid)
    for process in [family, *family.children(recursive=True)]:
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue


def rounds_of(folder: Path) -> int:
    """Return how many rounds of a run are finished."""
    path = folder / "checkpoint.json"
    return int(json.loads(path.read_text())["rounds"]) if path.exists() else 0


class Processes:
    """A SuperLink without TLS and SuperNodes without authentication.

    Parameters
    ----------
    folder : Path
        For everything that the processes write.
    settings : mapping of str to str
        Node configurations by the nodes' names.
    programs : mapping of str to sequence of str
        Commands that start nodes, with options; ``fl-he node`` for the nodes that are not in it.
    environments : mapping of str to mapping
        Additional variables of the environment, by the nodes' names.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, str],
        programs: Mapping[str, Sequence[str]] = MappingProxyType({}),
        environments: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
    ) -> None:
        self.folder = folder
        self._settings = settings
        self._programs = programs
        self._environments = environments
        with ExitStack() as stack:
            sockets = [stack.enter_context(socket.socket()) for _ in range(1 + len(settings))]
            for one in sockets:
                one.bind(("127.0.0.1", 0))
            ports = [one.getsockname()[1] for one in sockets]
        self._port = ports[0]
        self._ports = dict(zip(settings, ports[1:], strict=True))
        home = folder / "flwr"
        home.mkdir()
        (home / "config.toml").write_text(
            '[superlink]\ndefault = "test"\n[superlink.test]\n'
            f'address = "127.0.0.1:{self._port}"\ninsecure = true\n'
        )
        self._scripts = Path(sys.executable).parent
        self._environment = {
            **os.environ,
            "PATH": f"{self._scripts}{os.pathsep}{os.environ['PATH']}",
            "FLWR_HOME": str(home),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        }
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        address = ("--host", "127.0.0.1", "--port", str(self._port))
        self._start("superlink", "flower-superlink", "--insecure", *address)
        wait_for(self._is_up, lambda: self.log("superlink"))
        for name in settings:
            self.start_node(name)

    def start_node(self, name: str) -> None:
        """Start a SuperNode, for the first time or again."""
        superlink = ("--insecure", "--superlink", f"127.0.0.1:{self._port}")
        port = ("--port", str(self._ports[name]))
        program = self._programs.get(name, ("fl-he", "node"))
        self._start(name, *program, *superlink, *port, "--node-config", self._settings[name])

    def kill(self, name: str) -> None:
        """Kill a node as a power cut would."""
        kill_9(self._processes[name].pid)
        self._processes.pop(name).wait()

    def children(self, name: str) -> list[psutil.Process]:
        """Return the processes that a node has started, the oldest first."""
        found = psutil.Process(self._processes[name].pid).children()
        return sorted(found, key=psutil.Process.create_time)

    def kill_server_app(self) -> None:
        """Kill the coordinator's ServerApp, which runs under the SuperLink."""
        children = psutil.Process(self._processes["superlink"].pid).children(recursive=True)
        apps = [p for p in children if any("serverapp" in word for word in p.cmdline())]
        assert apps, [p.cmdline() for p in children]
        for app in apps:
            app.send_signal(signal.SIGKILL)

    def run(self, *overrides: str) -> subprocess.Popen[bytes]:
        """Start ``flwr run``; its output is the log "run"."""
        words = " ".join(overrides)
        return self.run_app(ROOT, f"overrides='{words}'")

    def run_app(self, app: Path, settings: str) -> subprocess.Popen[bytes]:
        """Start ``flwr run`` of an app with a run configuration, as `run`."""
        return self._start("run", "flwr", "run", str(app), "--stream", "--run-config", settings)

    def finish(self, folder: Path, process: subprocess.Popen[bytes]) -> dict[str, object]:
        """Wait for a run to end and return the content of its metrics.json."""
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired as slow:
            raise AssertionError(self.log("run") + self.log("superlink")) from slow
        path = folder / "metrics.json"
        assert path.exists(), self.log("run") + self.log("superlink")
        metrics: dict[str, object] = json.loads(path.read_text())
        return metrics

    def log(self, name: str) -> str:
        """Return the output of a process."""
        path = self.folder / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def stop(self) -> None:
        """End all processes."""
        for process in self._processes.values():
            if process.poll() is None:
                kill_9(process.pid)
                process.wait()

    def _is_up(self) -> bool:
        done = subprocess.run(
            [self._scripts / "flwr", "ls"], env=self._environment, capture_output=True, check=False
        )
        return done.returncode == 0

    def _start(self, name: str, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [self._scripts / program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env={**self._environment, **self._environments.get(name, {})},
            )
        return self._processes[name]


class Federation(Processes):
    """Enrolled hospitals with tables, and company X.

    Parameters
    ----------
    folder : Path
        For everything that the processes write.
    environments : mapping of str to mapping
        See Processes.
    tables : callable
        Returns features and labels of a hospital.
    plan : StudyPlan or None
        What the manifest names, in ``plan.json``.
    """

    def __init__(
        self,
        folder: Path,
        environments: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
        tables: Callable[[str], tuple[NDArray[np.float64], NDArray[np.float64]]] = table,
        plan: StudyPlan | None = None,
    ) -> None:
        identities = [*map(make, HOSPITALS), make(HOLDER, "key-holder")]
        for identity in identities:
            identity.save(folder / f"{identity.public.name}.identity.json")
        digests: tuple[str, ...] = ()
        planned = ""
        if plan is not None:
            (folder / "plan.json").write_text(plan.to_json())
            digests, planned = (plan.digest,), f'plan="{folder}/plan.json"'
        public = tuple(one.public for one in identities)
        manifest = Manifest(public, digests)
        (folder / "federation.json").write_text(manifest.to_json())
        own = {
            HOLDER: 'role="key-holder" key-bits=1024',
            **{name: _hospital(folder, name, *tables(name)) for name in HOSPITALS},
        }
        super().__init__(
            folder,
            {
                name: f'name="{name}" identity="{folder}/{name}.identity.json" '
                f'federation="{folder}/federation.json" min-contributors={ENOUGH} '
                f"{planned} {settings}"
                for name, settings in own.items()
            },
            environments=environments,
        )

    def lose_state(self, hospital: str) -> None:
        """Delete all files that a hospital has written next to its table."""
        kept = list(self.folder.glob(f"{hospital}.csv.*"))
        assert kept, f"{hospital} has kept nothing"
        for path in kept:
            path.unlink()


def _hospital(folder: Path, name: str, X: NDArray[np.float64], y: NDArray[np.float64]) -> str:
    header = [*(f"x{column}" for column in range(X.shape[1])), "label"]
    rows = [[*x, int(label)] for x, label in zip(X.tolist(), y, strict=True)]
    path = folder / f"{name}.csv"
    path.write_text("".join(f"{','.join(map(str, row))}\n" for row in (header, *rows)))
    return (
        f'role="hospital" data="{path}" target="label" positive="1" '
        f'model-path="{folder}/{name}.json" reply-seconds=0 alone="allow"'
    )
