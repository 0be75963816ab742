"""Print what a message costs: ``flwr ls --format json | python overhead.py TOPOLOGY:MESSAGES...``.

For each topology, in the order of the arguments, fl-he and then the empty app have sent so many
messages to the same nodes in the same steps. Flower measures a ClientApp from when its process asks
for the message until it hands over the reply: that is loading the app and running it.
"""

from __future__ import annotations

import json
import sys
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
        for name, (each, whole) in zip(("fl-he", "Flower, empty"), seconds, strict=True):
            print(f"  {name:28}{each:10.3f} s {whole:14.1f} s")
        print(f"  {'our own code, per hop':28}{seconds[0][0] - seconds[1][0]:10.3f} s")


def _seconds(run: dict[str, Any], messages: int) -> tuple[float, float]:
    return float(run["compute-time"]["clientapp-seconds"]) / messages, float(run["elapsed"])


if __name__ == "__main__":
    main()
