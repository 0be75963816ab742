"""Print a message's cost: ``flwr ls --format json | python overhead.py TOPOLOGY:MESSAGES...``.

For each topology, in the order of the arguments, fl-he has sent MESSAGES messages to nodes of
``fl-he node``; then the empty app has sent the same number, in the same steps, to Flower's
SuperNodes. Flower measures a ClientApp from its process's request for the message to the reply. For
``fl-he node`` this time is the whole cost of a message, except the fork of a process, which was
made before. It may include a wait for the rest of the message. For Flower's SuperNode it is the
time to load the app and run it, in a process that has started meanwhile.

The last line is from the nodes' own logs, ``*.log`` in this folder: the time of fl-he's code, from
a complete message to its reply, and the CPU time of its process since it got the task.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Read Flower's list of runs and print the comparison."""
    listed = json.load(sys.stdin)["runs"]
    completed = sorted(
        (run for run in listed if run["status"] == "finished:completed"),
        key=lambda run: str(run["pending-at"]),
    )
    ours, empty = ([r for r in completed if r["fab-name"] == name] for name in ("fl-he", "empty"))
    print(f"{'':30}each ClientApp    the whole run")
    for argument, our, of_flower in zip(sys.argv[1:], ours, empty, strict=True):
        topology, _, messages = argument.partition(":")
        seconds = [_seconds(run, int(messages)) for run in (our, of_flower)]
        print(f"{topology}, {messages} messages")
        for name, (each, whole) in zip(("fl-he node", "Flower, empty"), seconds, strict=True):
            print(f"  {name:28}{each:10.3f} s {whole:14.1f} s")
    logs = "".join(path.read_text(errors="replace") for path in Path().glob("*.log"))
    answered = re.findall(r"Answered: \S+ message in ([0-9.]+) s \(CPU: ([0-9.]+) s\)", logs)
    own, cpu = (sum(map(float, column)) / len(answered) for column in zip(*answered, strict=True))
    print(f"our own code, {len(answered)} messages: {own:.3f} s a hop, {cpu:.3f} s of CPU time")


def _seconds(run: dict[str, Any], messages: int) -> tuple[float, float]:
    return float(run["compute-time"]["clientapp-seconds"]) / messages, float(run["elapsed"])


if __name__ == "__main__":
    main()
