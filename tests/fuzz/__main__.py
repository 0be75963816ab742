"""Fuzz every reader of hostile input: ``PYTHONPATH=tests python -m fuzz --help``."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
from pathlib import Path

from fuzz.engine import MEGABYTES, SECONDS, instrumented, run


def main() -> int:
    """Fuzz the targets that were asked for, print one line for each."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="all of them by default")
    parser.add_argument("--inputs", type=int, default=20_000, help="inputs in all, %(default)s")
    parser.add_argument("--seed", type=int, default=1, help="from 1 on, %(default)s")
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"), help="a folder")
    parser.add_argument("--list", action="store_true", help="print the targets and stop")
    options = parser.parse_args()
    os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
    sys.stderr.write("importing fl_he with instruments for coverage\n")
    with contextlib.redirect_stderr(io.StringIO()), instrumented():  # a line for each module
        from fuzz.targets import TARGETS  # noqa: PLC0415 - instrumented: its imports
    known = {target.name: target for target in TARGETS}
    if options.list:
        sys.stdout.write("".join(f"{name}\n" for name in known))
        return 0
    if unknown := set(options.targets) - set(known):
        parser.error(f"targets must be of those that --list prints, got {sorted(unknown)}")
    chosen = [known[name] for name in options.targets or known]
    options.findings.mkdir(parents=True, exist_ok=True)
    weights = sum(target.weight for target in chosen)
    total, broken = 0, 0
    head = ("target", "inputs", "refused", "seconds", "CPU ms", "MB", "edges")
    sys.stdout.write(f"{head[0]:24}" + "".join(f"{word:>9}" for word in head[1:]) + "\n")
    for target in chosen:
        inputs = max(1, round(options.inputs * target.weight / weights))
        found = run(target, inputs, options.seed, options.findings.absolute())
        total += found.inputs
        sys.stdout.write(
            f"{found.name:24}{found.inputs:9}{found.refused:9}{found.seconds:9.1f}"
            f"{1000 * found.slowest:9.1f}{found.megabytes:9.1f}{found.edges or 0:9}\n"
        )
        if found.finding:
            broken += 1
            sys.stdout.write(f"  FINDING {found.finding}\n")
        sys.stdout.flush()
    sys.stdout.write(
        f"{total} inputs, {broken} targets with findings "
        f"(limits: {SECONDS:g} s of CPU, {MEGABYTES:g} MB)\n"
    )
    return 1 if broken else 0


sys.exit(main())
