"""``fl-he ledger``: the sets whose totals company X has opened, and new epochs."""
# ruff: noqa: PLC0415 - see the package

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fl_he.terminal.errors import plain_errors

if TYPE_CHECKING:
    from fl_he.clients.opened_sets import KeptSets

_ENDING = ".sets.jsonl"


def ledger(
    file: Annotated[Path, typer.Argument(metavar="FILE")],
    open_: Annotated[
        str | None,
        typer.Option(
            "--open",
            metavar="NAME,...",
            help="Begin an epoch: let company X open totals of exactly these hospitals.",
        ),
    ] = None,
    min_contributors: Annotated[
        int,
        typer.Option(
            min=1, help="As company X has it: the largest of its own setting and its study plans'."
        ),
    ] = 3,
    new_hospital: Annotated[
        bool, typer.Option("--new-hospital", help="Take names that are in no opened set.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Begin the epoch without a question.")] = False,
) -> None:
    """Show the sets of hospitals whose totals company X has opened.

    FILE is company X's identity, or the file that `state` in its node configuration names: the
    opened sets are in FILE.sets.jsonl, the ledger that says how many lines they must have is in
    FILE.opened.jsonl or FILE. Company X opens no total that singles a hospital out. Its operator
    alone can decide otherwise, with --open. An epoch is for good: whoever has the totals can
    compute sums of the hospitals that it exposes.
    """
    with plain_errors():
        from fl_he.clients.ledger import lines_of_sets
        from fl_he.clients.ledger_file import FileStore
        from fl_he.clients.opened_sets import OpenedSets
        from fl_he.clients.overviews import session_overviews
        from fl_he.clients.set_rule import LONGEST_SET_LINE
        from fl_he.clients.stores import LedgerError

        own = file.with_name(file.name.removesuffix(_ENDING))
        path, opened = (own.with_name(own.name + ending) for ending in (_ENDING, ".opened.jsonl"))
        if not path.exists():
            raise FileNotFoundError(
                f"{path} must exist: company X makes it before it opens a total under a manifest"
            )
        if not opened.exists():  # `state` names the ledger itself
            opened = own
        if not opened.exists():
            raise FileNotFoundError(
                f"{opened} must exist: company X's ledger says how long {path} must be"
            )
        try:
            noted = FileStore(opened).read()
            if not session_overviews(noted):
                raise LedgerError("no session was ever begun in it")
            least = lines_of_sets(noted)
        except LedgerError as error:
            raise LedgerError(f"cannot use {opened} as company X's ledger: {error}") from None
        sets = OpenedSets(FileStore(path, LONGEST_SET_LINE))
        try:
            kept = sets.read(least)
        except LedgerError as error:
            raise LedgerError(f"cannot use {path}: {error}") from None
        print_sets(kept)
        if open_ is None:
            return
        hospitals = _names(open_)
        if len(hospitals) < min_contributors:
            raise typer.BadParameter(
                f"--open must name at least {min_contributors} hospitals (--min-contributors): "
                "company X opens no total of fewer"
            )
        new = hospitals.difference(*kept.history.classes)
        if new and not new_hospital:
            raise typer.BadParameter(
                f"--open must name hospitals of opened sets, got {_listed(new)}: correct the "
                "names, or add --new-hospital"
            )
        verdict = kept.judge(hospitals, min_contributors)
        if verdict.exposed:
            typer.echo(f"new epoch: a total of {_listed(hospitals)}")
            typer.echo(f"new hospitals: {_listed(new)}")
            typer.echo(f"exposed, for good: {_listed(verdict.exposed)}")
            if not yes:
                typer.confirm("begin this epoch?", abort=True, err=True)
        sets.begin_epoch(verdict, least)
        typer.echo("the epoch has begun")


def _names(text: str) -> frozenset[str]:
    from fl_he.crypto.envelopes.public_identity import check_name

    names = text.split(",")
    for name in names:
        check_name(name)
    if len(set(names)) < len(names):
        raise typer.BadParameter(f"--open must have each name once, got {text}")
    return frozenset(names)


def print_sets(kept: KeptSets) -> None:
    """Print opened sets, epochs, classes, and who allows being singled out."""
    from fl_he.clients.set_rule import Epoch, OpenedSet

    for entry in kept.entries:
        if isinstance(entry, Epoch):
            typer.echo(f"epoch: {_listed(entry.hospitals)}, exposes {_listed(entry.exposed)}")
        elif isinstance(entry, OpenedSet):
            typer.echo(f"opened: {_listed(entry.hospitals)}")
    for group in kept.history.classes:
        typer.echo(f"class of {len(group)}: {_listed(group)}")
    if doubted := kept.identities.doubted:
        known, enrolled = kept.identities.known.keys(), kept.identities.enrolled.keys()
        for what, names in (
            ("another identity than in opened totals", doubted & known & enrolled),
            ("in opened totals, and not in the manifest", (doubted & known) - enrolled),
            ("in the manifest, perhaps under a new name", (doubted & enrolled) - known),
        ):
            if names:
                typer.echo(f"{what}: {_listed(names)}")
    typer.echo(f"allow being singled out: {_listed(kept.counting)}")
    if late := kept.alone - kept.counting:
        typer.echo(f"allow it too late, as they are in totals without it: {_listed(late)}")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
