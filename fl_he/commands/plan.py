"""``fl-he plan``: draft a study plan from a configuration."""
# ruff: noqa: PLC0415 - see the package

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fl_he.commands.public_file import require_absent, write_public_file
from fl_he.terminal.errors import plain_errors

if TYPE_CHECKING:
    from fl_he.wire.study_plan import StudyPlan


#: What follows without a study plan.
UNPLANNED = "the coordinator chooses what is computed"


def plan(
    out: Annotated[Path, typer.Option(metavar="FILE", help="The study plan.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", show_default=False)
    ] = None,
    most_sessions: Annotated[
        int, typer.Option(help="Sessions in which a node answers under this plan; each run is one.")
    ] = 3,
    max_step: Annotated[
        float, typer.Option(help="Largest change of a coefficient in one step.")
    ] = 10.0,
    max_coefficient: Annotated[
        float | None,
        typer.Option(
            help="Largest size of a coefficient; by default 10 for each standard deviation "
            "(scaling=ranges: 50 for half a range).",
        ),
    ] = None,
) -> None:
    """Draft a study plan: what hospitals and company X will compute, and nothing else.

    KEY=VALUE are the settings of the run, as `fl-he run --help` lists them. data=csv data.path=FILE
    names a table with the hospitals' columns; one made-up row for each class is enough.
    Optimizers, lr and C are lists in the file: add what may be chosen as well, and look at the
    result with `fl-he show` before `fl-he federation` puts its digest into the manifest.
    """
    with plain_errors():
        from fl_he.config.composition import compose
        from fl_he.experiment.plan import drafted

        require_absent(out)
        made = drafted(
            compose("config", overrides or []),
            most_sessions=most_sessions,
            max_step=max_step,
            max_coefficient=max_coefficient,
        )
        write_public_file(out, made.to_json())
        _print(made)


def show_plan(text: str) -> None:
    """Print a plan's digest and what it allows."""
    from fl_he.wire.study_plan import StudyPlan

    _print(StudyPlan.from_json(text))


def _print(made: StudyPlan) -> None:
    from fl_he.errors import visible
    from fl_he.wire.study_plan import plain_words

    for line in plain_words(made):
        # People compare the line of the digest: no name in the plan may look like such a line.
        typer.echo(visible(line).replace("\n", " "))
    typer.echo(f"{made.digest} study plan")
