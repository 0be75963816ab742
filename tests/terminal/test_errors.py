from __future__ import annotations

import warnings

import pytest
import typer

from fl_he.errors import FlHeError, FlHeWarning
from fl_he.terminal.errors import explain, format_warning, plain_errors


def test_a_refusal_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, plain_errors():
        raise FlHeError("it must be so")
    assert ended.value.exit_code == 1
    assert capsys.readouterr() == ("", "fl-he: it must be so\n")


@pytest.mark.parametrize("error", [ValueError, RuntimeError])
def test_any_other_error_keeps_its_traceback(
    capsys: pytest.CaptureFixture[str], error: type[Exception]
) -> None:
    with pytest.raises(error, match="a bug"), plain_errors():
        raise error("a bug")
    assert capsys.readouterr() == ("", "")


def test_a_warning_that_several_nodes_give_is_told_once() -> None:
    first, *others = (format_warning("no room", FlHeWarning, f"{n}.py", n) for n in range(3))
    assert first == "fl-he: warning: no room\n"
    assert others == ["", ""]


def test_texts_of_others_do_not_control_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    named = "north\x1b[2J\r is wrong"
    shown = "north [2J  is wrong"
    explain(FlHeError(named))
    with plain_errors():
        warnings.warn(f"perhaps {named}", FlHeWarning, stacklevel=1)
    with pytest.raises(typer.Exit), plain_errors():
        raise FlHeError(named)
    lines = (shown, f"perhaps {shown}", shown)
    assert capsys.readouterr() == ("", "".join(f"fl-he: {line}\n" for line in lines))
    assert format_warning(named, FlHeWarning, "a.py", 1) == f"fl-he: warning: {shown}\n"
