"""``fl-he agree``: what the parties of a deployed CaPC agree on, with the keys to be pinned."""
# ruff: noqa: PLC0415 - see the package

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fl_he.commands.keygen import DGK_PUBLIC, PUBLIC
from fl_he.commands.public_file import parse_public_file, write_public_file
from fl_he.terminal.errors import plain_errors


def agree(
    terms: Annotated[Path, typer.Argument(metavar="TERMS.json")],
    keys: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=FOLDER",
            help=f"{PUBLIC} and {DGK_PUBLIC} of company X, and of each who queries.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The agreement.")],
    schema: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The schema, if the features are of its terms."),
    ] = None,
) -> None:
    """Put the agreement of a deployed CaPC together; every node gets a copy of it.

    TERMS.json has the classes, features, noise and budget that all have agreed on: docs/capc.md.
    """
    with plain_errors():
        from fl_he.capc.agreement import Agreement, KeyPins
        from fl_he.crypto.comparison.dgk_key import DgkPublicKey
        from fl_he.crypto.paillier.public_key import PublicKey

        pins: dict[str, KeyPins] = {}
        for pair in keys:
            name, equals, folder = pair.partition("=")
            if not equals or name in pins:
                raise typer.BadParameter(f"--keys must be NAME=FOLDER, each name once, got {pair}")
            pins[name] = KeyPins(
                parse_public_file(Path(folder) / PUBLIC, PublicKey.from_json).fingerprint,
                parse_public_file(Path(folder) / DGK_PUBLIC, DgkPublicKey.from_json).fingerprint,
            )
        digest = None if schema is None else _digest(schema)
        agreement = parse_public_file(
            terms, lambda text: Agreement.from_terms_json(text, pins, digest)
        )
        write_public_file(out, agreement.to_json())
        show_agreement(agreement.to_json())


def _digest(schema: Path) -> str:
    from fl_he.learning.tables.schema.description import read_schema

    return read_schema(schema).digest


def show_agreement(text: str) -> None:
    """Print whose keys an agreement pins, what it promises, and its fingerprint."""
    from fl_he.capc.agreement import Agreement

    agreement = Agreement.from_json(text)
    for name, pins in sorted(agreement.keys.items()):
        typer.echo(f"{pins.paillier} Paillier key of {name}")
        typer.echo(f"{pins.dgk} DGK key of {name}")
    typer.echo(f"{', '.join(agreement.classes)} by {len(agreement.features)} features")
    typer.echo(
        f"epsilon {agreement.epsilon:g}, delta {agreement.delta:g}, sigma_gnmax "
        f"{agreement.sigma_gnmax:g}, sigma_threshold {agreement.sigma_threshold}, threshold "
        f"{agreement.threshold}, at least {agreement.min_contributors} votes"
    )
    if agreement.schema is not None:
        typer.echo(f"{agreement.schema} schema")
    typer.echo(f"{agreement.fingerprint} agreement")
