from __future__ import annotations

import io
import sqlite3
from pathlib import Path

from database_record import record


def test_what_was_deleted_stays_recorded_once(tmp_path: Path) -> None:
    database, out, seen = tmp_path / "a b.db", io.BytesIO(), set[bytes]()
    connection = sqlite3.connect(database)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE objects (name TEXT, content BLOB)")
    connection.execute("INSERT INTO objects VALUES ('first', X'00ff00')")
    connection.commit()
    record(database, out, seen)
    connection.execute("DELETE FROM objects")
    connection.execute("INSERT INTO objects VALUES ('second', X'00ff00')")
    connection.commit()
    record(database, out, seen)
    connection.close()
    assert out.getvalue() == b"first\n\x00\xff\x00\nsecond\n"
