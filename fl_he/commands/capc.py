"""``fl-he capc``: CaPC outside of runs; ``votes`` labels queries by votes in files."""
# ruff: noqa: PLC0415 - see the package

from __future__ import annotations

import csv
import io
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fl_he.atomic import write_new
from fl_he.commands.public_file import require_absent
from fl_he.terminal.errors import plain_errors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

capc = typer.Typer(no_args_is_help=True, help="Label queries by noisy votes, outside of a run.")


@capc.callback()
def _group() -> None:
    """Keep the name of a group's only command."""


@capc.command()
def votes(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...")],
    *,
    truth: Annotated[
        Path | None, typer.Option(metavar="FILE", help="True labels, to judge the answers.")
    ] = None,
    classes: Annotated[
        int | None, typer.Option(help="Number of classes, if all files hold votes.")
    ] = None,
    sigma: Annotated[
        float | None, typer.Option(help="Standard deviation of the noise on each count.")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="Noisy count that the largest must reach; by default all are answered."),
    ] = None,
    sigma_threshold: Annotated[
        float | None, typer.Option(help="Standard deviation of the threshold test's noise.")
    ] = None,
    epsilon: Annotated[
        float | None, typer.Option(help="Budget, which limits the number of queries.")
    ] = None,
    delta: Annotated[float, typer.Option(help="Of (epsilon, delta).")] = 1e-5,
    own: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The querying party's own logits, to select queries by."),
    ] = None,
    selection: Annotated[
        str, typer.Option(help="With --own: entropy or margin of its chances.")
    ] = "entropy",
    queries: Annotated[
        int | None,
        typer.Option(min=1, help="Most queries: the first, or with --own the least certain."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="New CSV file for the labels (mode 0600).")
    ] = None,
) -> None:
    """Label queries by the noisy vote of parties whose votes are in files, WITHOUT ENCRYPTION.

    FILE... are one .npy or .csv file for each party: votes, whole numbers from 0, or logits, a
    column for each class. The mechanism and its epsilon are those of runs with
    capc.backend=plain. Noise is never seeded.
    """
    with plain_errors():
        from fl_he.capc.terms import variance_of
        from fl_he.learning.errors import DataError, PrivacyError
        from fl_he.learning.voting.gnmax import VotingBudget, epsilon_by_votes, noise_of
        from fl_he.learning.voting.noisy_vote import noisy_labels
        from fl_he.learning.voting.vote_files import count_votes, read_labels
        from fl_he.report.tables.capc import analysis_note, privacy_note

        if output is not None:
            require_absent(output)
        _check_numbers(sigma, sigma_threshold, threshold, epsilon, delta)
        if sigma_threshold is not None and threshold is None:
            raise DataError("--sigma-threshold must come with --threshold")
        noise = noise_of(sigma, sigma_threshold, threshold)
        if noise is None and epsilon is not None:
            raise PrivacyError(
                "--epsilon must come with noise on all that is released: --sigma, and with "
                "--threshold --sigma-threshold"
            )
        counts = count_votes(files, classes)
        every, known = counts.shape
        true = None if truth is None else read_labels(truth, every, known)
        asked = every if queries is None else min(every, queries)
        if noise is not None and epsilon is not None:
            asked = min(asked, VotingBudget(noise, epsilon, delta).affordable())
            if not asked:
                raise PrivacyError(f"--epsilon must allow one query at least, got {epsilon:g}")
        rows = _selected(own, selection, (every, known), asked)
        spent = None if noise is None else noise.epsilon(asked, delta)
        labels = noisy_labels(
            counts[rows],
            variance_of(sigma),
            None if threshold is None else ceil(threshold),
            variance_of(sigma_threshold),
        )
        if output is not None:
            _write(output, rows, labels)
        answered = labels >= 0
        typer.echo(f"{len(files)} parties, {known} classes, WITHOUT ENCRYPTION")
        typer.echo(f"answered: {answered.sum()} of {asked} queries ({every} in the files)")
        if true is not None and answered.any():
            right = (labels[answered] == true[rows][answered]).mean()
            typer.echo(f"labels right: {right:.3f}")
        typer.echo(privacy_note({"epsilon": spent, "delta": delta, "queries": asked}))
        if noise is not None:
            bound = epsilon_by_votes(list(counts[rows].astype(float)), noise, delta)
            typer.echo(analysis_note({"analysis": {"epsilon_by_votes": bound}}))


def _check_numbers(*values: float | None) -> None:
    """Refuse a number that the same setting of a run could not have."""
    from fl_he.config.capc import CapcConfig
    from fl_he.config.constraints import ConfigError, constraints

    keys = {
        **{"--sigma": "sigma_gnmax", "--sigma-threshold": "sigma_threshold"},
        **{"--threshold": "threshold", "--epsilon": "epsilon", "--delta": "delta"},
    }
    for (option, key), value in zip(keys.items(), values, strict=True):
        constraint = constraints(CapcConfig)[key]
        if not constraint.holds(value):
            words = constraint.words.removesuffix(", or null")
            raise ConfigError(f"{option} must be {words}, got {value:g}")


def _selected(
    own: Path | None, selection: str, shape: tuple[int, int], asked: int
) -> NDArray[np.int64]:
    """Return the queries to ask: the first ones, or those of which own logits are least certain."""
    import numpy as np

    from fl_he.learning.errors import DataError
    from fl_he.learning.voting.party_models import softmax
    from fl_he.learning.voting.query_selection import select_queries
    from fl_he.learning.voting.vote_files import read_scores

    if selection not in (known := ("entropy", "margin")):
        raise DataError(f"--selection must be one of {', '.join(known)}, got {selection!r}")
    if own is None:
        return np.arange(asked)
    chances = softmax(read_scores(own, *shape))
    rows = select_queries(selection, chances, chances, chances, count=asked, seed=0)
    return np.sort(rows)


def _write(output: Path, rows: NDArray[np.int64], labels: NDArray[np.int64]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("query", "label"))
    for row, label in zip(rows.tolist(), labels.tolist(), strict=True):
        writer.writerow((row, "" if label < 0 else label))
    write_new(output, text.getvalue().encode(), 0o600)
