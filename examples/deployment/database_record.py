"""Record all that a SuperLink's database ever holds: ``python database_record.py DATABASE OUT``.

It reads the database repeatedly until SIGTERM, since Flower deletes delivered messages.
Each different value of each table is written once.
"""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import sys
from hashlib import sha256
from pathlib import Path
from threading import Event
from typing import BinaryIO

_PAUSE = 0.2  # seconds; Flower's own programs look for messages less often


def record(database: Path, out: BinaryIO, seen: set[bytes]) -> None:
    """Append the values that were not seen before."""
    with contextlib.closing(
        sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)
    ) as connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        for (name,) in names.fetchall():
            for row in connection.execute(f'SELECT * FROM "{name}"'):  # noqa: S608 - its own names
                for value in row:
                    data = value if isinstance(value, bytes) else str(value).encode()
                    digest = sha256(data).digest()
                    if digest not in seen:
                        seen.add(digest)
                        out.write(data + b"\n")


def main() -> None:
    """Record until SIGTERM, and a last time after it."""
    ended = Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    database, seen = Path(sys.argv[1]).resolve(), set[bytes]()
    with Path(sys.argv[2]).open("xb") as out:
        while True:
            last = ended.wait(_PAUSE)
            with contextlib.suppress(sqlite3.OperationalError):  # busy, or not there yet
                record(database, out, seen)
            if last:
                return


if __name__ == "__main__":
    main()
