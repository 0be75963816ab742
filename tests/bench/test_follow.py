from __future__ import annotations

from io import StringIO

from rich.console import Console

from fl_he.bench.timing import follow


def test_plain_lines_where_nobody_watches() -> None:
    out = StringIO()
    with follow(Console(file=out, width=80)) as show:
        show("one")
        show("two", 1, 4)
        show("two", 2, 4)
        show("one")
    assert out.getvalue() == "one\ntwo\n"


def test_a_terminal_sees_how_far_it_is() -> None:
    out = StringIO()
    console = Console(file=out, width=80, force_terminal=True)
    with follow(console) as show:
        show("encrypting", 3, 4)
        show("decrypting")
    assert "decrypting" in out.getvalue()
