"""Command lines shown in errors: a shell and Hydra read the intended value from them."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from quick import slow_but

from fl_he.config.command_line import did_you_mean, override
from fl_he.config.composition import compose
from fl_he.config.constraints import ConfigError
from fl_he.config.explanation import explain
from fl_he.errors import FlHeWarning

OWN = ("data=csv", "data.path=t.csv", "C=null")
NAMES = (
    *("age", "Serial No.", "CRP (mg/l)", "größe", "a,b", "a, b", "a  b", "e[f]", "[a]", "k=l"),
    *("m$n", "$HOME", 'g"h', "i'j", "'q'", '"q"', "q'", "p\\q", "p\\", 'p\\"q', "t{u}", "#v"),
    *("null", "True", "nan", "1e5", "1_000", "5", "-1", "!x", "~x", "`x`", "*", "&", "a\u00a0b"),
)
#: Each key, the lists around a text, and the form without any quotes.
KEYS: dict[str, tuple[Callable[[str], Any], str]] = {
    "data.target": (lambda name: name, "{}"),
    "data.drop": (lambda name: ["id", name], "[id,{}]"),
    "inference.profile": (lambda name: ["id", name], "[id,{}]"),
    "inference.groups": (lambda name: [["id", name], ["x"]], "[[id,{}],[x]]"),
}


PARSER = OverridesParser.create()


def value_of(word: str) -> Any:
    return PARSER.parse_overrides([word])[0].value()


@pytest.mark.parametrize("key", slow_but(KEYS, "data.drop"))
def test_every_name_can_be_given_as_an_error_writes_it(key: str) -> None:
    values = [KEYS[key][0](name) for name in NAMES]
    command = "printf '%s\\0' " + " ".join(override(key, value) for value in values)
    shell = subprocess.run(["/bin/sh", "-c", command], check=True, capture_output=True, text=True)
    words = shell.stdout.split("\0")[:-1]
    assert list(map(value_of, words)) == values
    others = OWN if key == "data.target" else (*OWN, "data.target=y")
    assert attrgetter(key)(compose("config", [*others, words[2]])) == values[2]


@pytest.mark.parametrize("name", [*NAMES, "x (a, b)"])
@pytest.mark.parametrize("key", KEYS)
def test_a_refusal_shows_how_the_same_text_is_quoted(key: str, name: str) -> None:
    value, written = KEYS[key]
    try:
        value_of(f"{key}={written.format(name)}")
    except HydraException as error:
        (quoted,) = shlex.split(explain(error).partition(": ")[2])
        assert value_of(quoted) == value(name)


def test_commas_in_a_text_are_no_sweep() -> None:
    with pytest.raises(ConfigError, match=r"have one value.*; for a sweep.*, add -m$") as caught:
        compose("config", ["data=csv", "data.path=t.csv", "data.target=a,b"])
    (quoted,) = shlex.split(str(caught.value).partition(": ")[2].partition("; for a sweep")[0])
    assert value_of(quoted) == "a,b"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.drop=[a,null]", r'drop\[1\] must be text, got null; .*: \'data.drop=\["5","null"\]'),
        ("inference.groups=[[5]]", r'a list such as \[a,b\], got \[5\]; .*=\[\["5","null"\]\]'),
        ("data.drop=[[a]]", r"data.drop must be a list such as \[a,b\], got \[\['a'\]\]"),
        ("inference.profile=[[a]]", r"inference.profile must be a list such as"),
        ("inference.groups=[[[a]]]", r"inference.groups\[0\] must be a list such as"),
    ],
)
def test_what_is_in_a_list_is_texts(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose("config", [*OWN, "data.target=y", override])


@pytest.mark.parametrize(
    ("given", "known", "meant"),
    [
        ("Died", ["age", "died"], "died"),
        ("100000.0", ["1e5", "age"], "1e5"),
        (["True", "id"], ["id", "true"], ["true", "id"]),
        (["c", "d", "id"], ["id", "c, d"], ["c, d", "id"]),
        ([["smokr"], ["age"]], ["smoker", "age"], [["smoker"], ["age"]]),
        (["id", "weight"], ["id", "age"], None),
    ],
)
def test_near_names_are_proposed(given: Any, known: list[str], meant: Any) -> None:
    words = did_you_mean("data.drop", given, known)
    assert words == ("" if meant is None else f"; did you mean {override('data.drop', meant)}?")


def test_a_setting_that_is_given_twice_is_warned_of() -> None:
    with pytest.warns(FlHeWarning, match=r"^data.drop is given 2 times, .*: data.drop=\[b\]$"):
        config = compose("config", [*OWN, "data.target=y", *("data.drop=[a]", "data.drop=[b]")])
    assert config.data.drop == ["b"]
