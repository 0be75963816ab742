"""Print what a message costs: ``flwr ls --format json | python overhead.py MESSAGES``.

Both apps, fl-he's and the empty one, have sent so many messages to the same nodes in the same
steps. Flower measures a ClientApp from when its process asks for the message until it hands over
the reply: that is loading the app and running it.
"""

from __future__ import annotations

import json
import sys


def main() -> None:
    """Read Flower's list of runs and print the comparison."""
    messages = int(sys.argv[1])
    listed = json.load(sys.stdin)["runs"]
    runs = {run["fab-name"]: run for run in listed if run["status"] == "finished:completed"}
    ours, empty = (
        (
            float(runs[name]["compute-time"]["clientapp-seconds"]) / messages,
            float(runs[name]["elapsed"]),
        )
        for name in ("fl-he", "empty")
    )
    print(f"{messages} messages         each ClientApp    the whole run")
    print(f"Flower's empty message  {empty[0]:7.3f} s        {empty[1]:7.1f} s")
    print(f"fl-he                   {ours[0]:7.3f} s        {ours[1]:7.1f} s")
    print(f"our own code, per hop   {ours[0] - empty[0]:7.3f} s")


if __name__ == "__main__":
    main()
