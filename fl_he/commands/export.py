"""``fl-he export``: a saved model for another program."""
# ruff: noqa: PLC0415 - see the package

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fl_he.commands.predict import model_file, schema_of
from fl_he.commands.public_file import require_absent
from fl_he.terminal.errors import plain_errors

_TARGETS = ("sklearn",)


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN")],
    to: Annotated[str, typer.Option(metavar="sklearn", help="For which program.")] = "sklearn",
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="If absent, RUN/model.skops.")
    ] = None,
) -> None:
    """Save a run's model for scikit-learn: a fitted Pipeline, in skops' format.

    RUN is a run's folder, or its model.json. A model that was trained by a schema takes the columns
    that the schema's terms make of a table: docs/schema.md.
    """
    with plain_errors():
        from fl_he.learning.regression.glm import GlmModel
        from fl_he.learning.regression.registry import load_model
        from fl_he.learning.regression.sklearn_export import save_pipeline

        if to not in _TARGETS:
            raise typer.BadParameter(f"--to must be one of {', '.join(_TARGETS)}, got {to!r}")
        source = model_file(run)
        if out is not None:
            require_absent(out)
        target = out or source.with_suffix(".skops")
        model = load_model(source)
        save_pipeline(model, target)
        by_schema = model.schema is not None or schema_of(run) is not None
        takes = ". It takes the columns of the schema's terms: docs/schema.md" if by_schema else ""
        exposure = model.exposure if isinstance(model, GlmModel) else None
        takes += f". It predicts for 1 of the exposure {exposure!r}" if exposure else ""
        typer.echo(f"{target}: read it with skops.io.load{takes}")
