"""Print what a message costs: ``flwr ls --format json | python overhead.py TOPOLOGY:MESSAGES...``.

For each topology, in the order of the arguments, fl-he has sent so many messages to nodes of
``fl-he node``, and then the empty app as many in the same steps to Flower's SuperNodes. Flower
measures a ClientApp from when its process asks for the message until it hands over the reply. For
``fl-he node`` that is all that a message costs beside the fork of a process, which waits for it
already, and may include a wait for the rest of the message. For Flower's SuperNode it is loading
the app and running it, in a process that has started meanwhile.

The last line is by the nodes' own logs, ``*.log`` in this folder: our own code, from when a message
is complete until its reply is handed over, and the CPU time of its process since it has the task.
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
