"""Votes in files: counted as by hand, and hostile files are refused by name in little memory."""

from __future__ import annotations

import io
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib import format as npy

from fl_he.learning.errors import DataError
from fl_he.learning.voting.vote_files import count_votes, read_labels, read_scores

KINDS = ("votes.npy", "float votes.npy", "logits.npy", "votes.csv", "logits.csv")


def written(folder: Path, party: int, kind: str, votes: list[int], classes: int) -> Path:
    """Write a party's votes in one of `KINDS`; logits have a random largest one there."""
    rng = np.random.default_rng(party)
    logits = rng.normal(size=(len(votes), classes)) - 50.0
    logits[np.arange(len(votes)), votes] = rng.uniform(0.0, 9.0, size=len(votes))
    path = folder / f"{party} {kind}"
    match kind:
        case "votes.npy":
            np.save(path, np.array(votes, dtype=np.uint8))
        case "float votes.npy":
            np.save(path, np.array(votes, dtype=">f4"))
        case "logits.npy":
            np.save(path, np.asfortranarray(logits.astype(np.float32)))
        case "votes.csv":
            path.write_text("vote\n" + "".join(f"{vote}\n" for vote in votes))
        case _:
            rows = [",".join(map(repr, row)) for row in logits.tolist()]
            path.write_text(
                "\n".join([",".join(f"class {k}" for k in range(classes)), *rows]) + "\n"
            )
    return path


@settings(max_examples=30)
@given(st.data())
def test_votes_are_counted_as_by_hand(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("votes")
    classes, queries = data.draw(st.integers(2, 5)), data.draw(st.integers(1, 6))
    one = st.lists(st.integers(0, classes - 1), min_size=queries, max_size=queries)
    parties = data.draw(st.lists(st.tuples(st.sampled_from(KINDS), one), min_size=1, max_size=5))
    files = [
        written(folder, party, kind, votes, classes) for party, (kind, votes) in enumerate(parties)
    ]
    counts = count_votes(files, classes)
    by_hand = [Counter(votes[query] for _, votes in parties) for query in range(queries)]
    assert counts.tolist() == [[counted[k] for k in range(classes)] for counted in by_hand]
    if any("logits" in kind for kind, _ in parties):
        assert count_votes(files).tolist() == counts.tolist()


def test_of_equal_scores_the_first_is_the_vote(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", [[1.0, 3.0, 3.0]])
    assert count_votes([tmp_path / "a.npy"]).tolist() == [[0, 1, 0]]


def test_classes_must_be_known(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", [0, 1])
    with pytest.raises(DataError, match="all files hold votes: give the number of classes"):
        count_votes([tmp_path / "a.npy"])
    for classes in (0, 1, 129):
        with pytest.raises(DataError, match=f"classes must be from 2 to 128, got {classes}"):
            count_votes([tmp_path / "a.npy"], classes)


def header(shape: Any, descr: str = "<f8") -> bytes:
    text = io.BytesIO()
    npy.write_array_header_1_0(text, {"descr": descr, "fortran_order": False, "shape": shape})
    return text.getvalue()


def array(values: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


TRUNCATED = "has fewer numbers than its header says"
SHAPE = "must hold votes, whole numbers .* got shape"
ANOTHER = "must be an array that numpy.save wrote "
HOSTILE: dict[str, tuple[str, bytes, str]] = {
    "empty": ("npy", b"", ANOTHER),
    "text": ("npy", b"0\n1\n", ANOTHER),
    "version": ("npy", b"\x93NUMPY\x09\x00" + bytes(200), ANOTHER),
    "nested header": ("npy", b"\x93NUMPY\x01\x00\x10\x27" + b"(" * 10_000, ANOTHER),
    "cut header": ("npy", header((5,))[:40], ANOTHER),
    "open header": ("npy", b"\x93NUMPY\x01\x00\x04\x00'''{", ANOTHER),
    "huge": ("npy", header((1 << 40,)), SHAPE),
    "huge product": ("npy", header((1 << 32, 1 << 32)), SHAPE),
    "most": ("npy", header((100_000, 128)), TRUNCATED),
    "cut": ("npy", array(np.zeros(9))[:-1], TRUNCATED),
    "negative": ("npy", header((-1,)), SHAPE),
    "no axis": ("npy", array(np.float64(1.0)), SHAPE),
    "three axes": ("npy", array(np.zeros((2, 2, 2))), SHAPE),
    "no query": ("npy", array(np.zeros(0)), SHAPE),
    "one class": ("npy", array(np.zeros((3, 1))), SHAPE),
    "many classes": ("npy", array(np.zeros((3, 129))), SHAPE),
    "objects": (
        "npy",
        header((3,), "|O") + b"cos\nsystem\n(S'false'\ntR.",
        "at most 64 bits, got ",
    ),
    "words": ("npy", array(np.array(["a", "b"])), "at most 64 bits, got "),
    "truth values": ("npy", array(np.array([True, False])), "at most 64 bits, got "),
    "records": ("npy", array(np.zeros(2, dtype=[("x", float)])), "at most 64 bits, got "),
    "long numbers": ("npy", array(np.zeros(2, dtype=np.longdouble)), "at most 64 bits, got "),
    "NaN": ("npy", array(np.array([[1.0, np.nan]])), "scores must be finite, got 1 values"),
    "NaN vote": ("npy", array(np.array([0.0, np.nan])), "from 0 to 127, got 1 others, .* query 1"),
    "half a vote": ("npy", array(np.array([0.0, 0.5])), "whole numbers .* got 1 others"),
    "no class": ("npy", array(np.array([2, 1, 3, 4])), "from 0 to 2, got 2 others, .* query 2"),
    "negative vote": ("npy", array(np.array([0, -1])), "whole numbers .* got 1 others"),
    "large vote": ("npy", array(np.array([1 << 63], np.uint64)), "whole numbers .* 1 others"),
    "no csv": ("csv", b"", "data file is empty, it has no header"),
    "numbers first": ("csv", b"1\n2\n", "must have a header of names"),
    "no row": ("csv", b"vote\n", "data file has no rows"),
    "name": ("csv", b"vote\ncat\n", "column 'vote' must be numeric, got 1 cell"),
    "gap": ("csv", b"a,b\n1,2\n1,\n", "column 'b' must have no missing values"),
    "twice": ("csv", b"a,a\n1,2\n", "column names must differ"),
    "half in csv": ("csv", b"vote\n0\n1.5\n", "whole numbers .* query 1"),
    "many columns": ("csv", b"a," * 128 + b"b\n", SHAPE),
    "many rows": ("csv", b"vote\n" + b"1\n" * 100_001, "data file has more than 100000 rows"),
    "large": ("csv", b"vote\n1\n" + b" " * (1 << 26), "has more than 67108864 bytes"),
    "other name": ("txt", b"vote\n1\n", "the name must end with .npy or .csv"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_by_its_name_in_little_memory(name: str, tmp_path: Path) -> None:
    ending, content, reason = HOSTILE[name]
    path = tmp_path / f"party.{ending}"
    path.write_bytes(content)
    np.save(tmp_path / "good.npy", [0, 1, 2, 0])
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=f"^{path}: .*{reason}") as refused:
            count_votes([tmp_path / "good.npy", path], 3)
        assert tracemalloc.get_traced_memory()[1] < 24 << 20
    finally:
        tracemalloc.stop()
    assert "good.npy" not in str(refused.value)


def test_all_faults_are_told_by_file(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {"a": [0, 1], "b": [0, 1, 1], "c": [0, 7], "d": [[1.0, 0.0, 0.0]] * 2}
    for name, votes in arrays.items():
        np.save(tmp_path / f"{name}.npy", votes)
    (tmp_path / "e.csv").write_text("cat,dog\n1,0\n0,1\n")
    (tmp_path / "f.csv").write_text("dog,cat\n1,0\n0,1\n")
    (tmp_path / "link.npy").hardlink_to(tmp_path / "a.npy")
    (tmp_path / "folder.npy").mkdir()

    def refusal(*names: str, classes: int | None = 2) -> str:
        with pytest.raises(DataError) as refused:
            count_votes([tmp_path / name for name in names], classes)
        return str(refused.value).replace(f"{tmp_path}/", "")

    assert refusal("a.npy", "link.npy", "none.npy", "folder.npy") == (
        "link.npy: each party must have one file; this one is given twice; "
        "none.npy: No such file or directory; folder.npy: Is a directory"
    )
    assert refusal("a.npy", "b.npy", "c.npy", "d.npy", "e.csv", "f.csv") == (
        "b.npy: must have 2 queries, got 3; "
        "c.npy: votes must be whole numbers from 0 to 1, got 1 others, the first for query 1; "
        "d.npy: must have scores of 2 classes, got 3; "
        "f.csv: must name the classes as the other files, in one order"
    )
    assert refusal("a.npy", "d.npy", "e.csv", classes=None) == (
        "e.csv: must have scores of 3 classes, got 2"
    )


@pytest.mark.parametrize(
    ("read", "values", "reason"),
    [
        (read_labels, [[1.0, 2.0]] * 3, "must hold labels, got scores"),
        (read_labels, [0, 1], "must have 3 queries, got 2"),
        (read_labels, [0, 1, 2], "from 0 to 1, got 1 others, the first for query 2"),
        (read_scores, [0, 1, 0], r"must have scores of shape \(3, 2\), got \("),
        (read_scores, [[1.0, 2.0]] * 2, r"must have scores of shape \(3, 2\), got \("),
        (read_scores, [[1.0, np.inf]] * 3, "scores must be finite, got 3"),
    ],
)
def test_labels_and_scores_of_another_form_are_refused(
    read: Callable[[Path, int, int], Any], values: Any, reason: str, tmp_path: Path
) -> None:
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(DataError, match=f"{tmp_path}/a.npy: .*{reason}"):
        read(tmp_path / "a.npy", 3, 2)
