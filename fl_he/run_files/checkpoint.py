"""checkpoint.json: what a coordinator that died needs to continue, written after every round.

It holds the configuration, all that totals have changed of the training, company X's session and
key fingerprint, and the sum that was last sent to company X if its total has not come back. Lists
that grow with the rounds are in further files, to which a line is added for each round, so that a
round costs the same however many came before; ``checkpoint.json`` says how many of their entries
count. Nothing in the files is more than the coordinator has seen, but they are the owner's alone to
read (mode 0600). They stay when the run ends, marked as finished.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fl_he.atomic import append, replace_file
from fl_he.crypto.encoding.fields import Form, Place, constant, form_of
from fl_he.crypto.encoding.strict_json import parse
from fl_he.errors import FlHeError, written
from fl_he.run_files.metrics import flat_settings

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

NAME = "checkpoint.json"
#: The copy of the schema by which the tables were read, if there is one.
SCHEMA = "schema.yaml"
VERSION = 4
#: Members that are lists of a file each, and what numbers their entries, in ascending order.
LISTS = {"rounds": "round", "opened": "number"}
#: What may differ when a run is resumed, keys and groups: it changes no number of the result.
FREE_KEYS = frozenset(
    {
        "resume",
        "output_dir",
        "tracking",
        "verbose",
        "hop_timeout",
        "key_holder_timeout",
        "on_dropout",
        "dropout_timeout",
    }
    | {"simulation"}
)


class CheckpointError(FlHeError):
    """A folder that holds no run that could be resumed, or not this one."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A run between two rounds.

    Attributes
    ----------
    config : dict
        The configuration, as plain data.
    features : list of str
        The feature names in the order of the coefficients.
    session, key_fingerprint : str
        Company X's.
    training : dict or None
        The training after the last finished round, see :mod:`fl_he.learning.optimizers.state`;
        ``None`` in a sealed chain, where the coordinator has no model.
    null_loss : list of float or None
        Of an outcome that is a number, or with intercepts of sites: mean loss of intercepts alone,
        and of how many examples.
    class_counts : list of float or None
        Patients of each class in the first total, without class weights and privacy.
    rounds : list of dict
        The entries of metrics.json so far.
    opened : list of dict
        All totals as company X has told them: signed in the open, or sealed to each hospital.
    crypto : dict
        ``crypto`` of metrics.json; empty before the first round.
    seconds : float
        Wall time so far.
    finished : bool
        Whether the run's files are written.
    first_sum : dict or None
        Of the iteration at work, if that takes two sums and the second is in ``unopened``.
    null_log_likelihood : float or None
        That of the first total's patients by the best model of zeros, with Firth's penalty.
    profile_seconds : float
        Of all sums of the search for profile likelihood intervals.
    unopened : dict or None
        The sum of the round at work, see :mod:`fl_he.strategies.opened_sum`.
    sealed : dict or None
        State of a sealed chain other than ``opened``, see
        :mod:`fl_he.strategies.sealed.progress`.
    """

    config: dict[str, Any]
    features: list[str]
    session: str
    key_fingerprint: str
    training: dict[str, Any] | None = None
    class_counts: list[float] | None = None
    null_loss: list[float] | None = None
    rounds: list[dict[str, Any]] = field(default_factory=list)
    opened: list[dict[str, Any]] = field(default_factory=list)
    crypto: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    finished: bool = False
    first_sum: dict[str, Any] | None = None
    null_log_likelihood: float | None = None
    profile_seconds: float = 0.0
    unopened: dict[str, Any] | None = None
    sealed: dict[str, Any] | None = None


_MEMBERS = {"version": constant(VERSION), **form_of(Checkpoint).members}


class CheckpointFile:
    """Writes the checkpoint of one run; each is on the disk when `write` returns.

    Parameters
    ----------
    folder : Path
        The run's folder; must exist when something is written.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._lists = {name: _ListFile(folder / _list_name(name)) for name in LISTS}

    def write(self, checkpoint: Checkpoint) -> None:
        """Replace the folder's checkpoint at once, and add what is new of its lists before.

        Raises
        ------
        OSError
            If the disk takes no more; the earlier checkpoint is then still whole.
        """
        members = {"version": VERSION}
        members |= {field.name: getattr(checkpoint, field.name) for field in fields(checkpoint)}
        for name, file in self._lists.items():
            file.write(getattr(checkpoint, name))
            members[name] = len(getattr(checkpoint, name))
        text = json.dumps(members, indent=1, allow_nan=False, ensure_ascii=False)
        replace_file(self._path, f"{text}\n".encode(), 0o600)


class _ListFile:
    """A list on the disk, one entry a line; an entry that is changed is added again.

    What an earlier process has written is replaced as a whole by the first entries, so that no
    line which that process had not finished is built upon.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._count = 0
        self._last: dict[str, Any] | None = None

    def write(self, entries: Sequence[dict[str, Any]]) -> None:
        """Write what was added to the list, or changed at its end, since the last call."""
        start = self._count
        if start and entries[start - 1] != self._last:
            start -= 1
        if start == len(entries):
            return
        content = b"".join(map(_line, entries[start:]))
        if self._count == 0:
            replace_file(self._path, content, 0o600)
        else:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
            try:
                append(self._path, descriptor, content)
            finally:
                os.close(descriptor)
        self._count, self._last = len(entries), entries[-1]


def _line(entry: dict[str, Any]) -> bytes:
    return f"{json.dumps(entry, allow_nan=False, ensure_ascii=False)}\n".encode()


def _list_name(member: str) -> str:
    return f"{Path(NAME).stem}.{member}.jsonl"


def load_checkpoint(folder: Path, config: DataclassInstance | None = None) -> Checkpoint:
    """Read the checkpoint of a run that can be resumed.

    Parameters
    ----------
    folder : Path
        The run's folder.
    config : dataclass, optional
        Configuration to continue with.

    Raises
    ------
    CheckpointError
        If that is not the run's, if there is no checkpoint, if it is of another version or
        damaged, or if the run is finished.
    """
    path = folder / NAME
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise CheckpointError(
            f"resume must be the folder of a run with a {NAME}, got {folder} without one"
        ) from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} must be a checkpoint: {error}") from error

    def refusal(problem: str) -> CheckpointError:
        return CheckpointError(f"{path} must be a checkpoint of version {VERSION}: {problem}")

    at = Place(NAME, refusal)
    members = parse(text, at, len(text))
    if isinstance(members, dict):
        if members.get("version") in range(VERSION):
            raise CheckpointError(
                f"{path} is of version {members['version']}, of an earlier fl-he: continue with "
                "the fl-he that began the run, or begin a new one"
            )
        lists = {name: _entries(folder, name, members.get(name), refusal) for name in LISTS}
        members = {**members, **lists}
    checkpoint = Form(_MEMBERS, Checkpoint).read(members, at)
    if [entry.get("round") for entry in checkpoint.rounds] != [
        number for number, _ in enumerate(checkpoint.rounds, start=1)
    ]:
        raise refusal("rounds must be all from the first to the last")
    if checkpoint.finished:
        raise CheckpointError(
            f"resume must be the folder of a run that was cut off, got {folder} of a finished one"
        )
    if config is not None:
        # Settings that the earlier release had not are as they are by default.
        earlier = {
            **flat_settings(plain_config(type(config)())),
            **flat_settings(checkpoint.config),
        }
        difference = first_difference(earlier, plain_config(config))
        if difference is not None:
            raise CheckpointError(difference)
    return checkpoint


def _entries(
    folder: Path, name: str, count: object, refusal: Callable[[str], CheckpointError]
) -> list[object]:
    """Read this many entries of a list; later lines are of rounds that no checkpoint has ended."""
    if type(count) is not int or count < 0:
        raise refusal(f"{name} must be a number of entries")
    found: dict[int, object] = {}
    if count:
        path, key = folder / _list_name(name), LISTS[name]
        try:
            lines = path.read_text(encoding="utf-8").split("\n")[:-1]  # the last was cut off
        except (OSError, ValueError) as error:
            raise refusal(f"{path.name} must be there: {error}") from error
        for number, line in enumerate(lines, start=1):
            entry = parse(line, Place(f"{path.name}, line {number}", refusal), len(line))
            if not isinstance(entry, dict) or type(entry.get(key)) is not int:
                raise refusal(f"line {number} of {path.name} must have a whole number {key}")
            found[entry[key]] = entry  # a changed entry takes the place of the earlier one
    if len(found) < count:
        raise refusal(f"{_list_name(name)} must hold {count} entries, got {len(found)}")
    return list(found.values())[:count]


def first_difference(
    stored: Mapping[str, Any], given: Mapping[str, Any], key: str = ""
) -> str | None:
    """Return the first setting that differs, in words; None if the same run is meant.

    Parameters
    ----------
    stored, given : mapping
        Configurations as plain data.
    key : str
        Dotted name of the setting or group to compare; all if it is empty.
    """
    ours, theirs = flat_settings(stored), flat_settings(given)
    for name in [*ours, *(theirs.keys() - ours.keys())]:
        if name.partition(".")[0] in FREE_KEYS or (
            key and name != key and not name.startswith(f"{key}.")
        ):
            continue
        if ours.get(name) != theirs.get(name):
            return (
                f"{name} must be {written(ours.get(name))} as in the run that is resumed, "
                f"got {written(theirs.get(name))}"
            )
    return None


def plain_config(config: DataclassInstance) -> dict[str, Any]:
    """Return a configuration as what JSON gives back, without the key that resumes it."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    del plain["resume"]
    return plain
