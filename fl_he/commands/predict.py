"""``fl-he predict``: a saved model on a table."""
# ruff: noqa: PLC0415 - see the package

from __future__ import annotations

import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fl_he.atomic import write_new
from fl_he.commands.public_file import require_absent
from fl_he.commands.schema import READING, READING_FILE
from fl_he.learning.errors import DataError
from fl_he.terminal.errors import plain_errors, tell

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fl_he.learning.regression.trained import TrainedModel
    from fl_he.learning.tables.faulty_rows import FaultyRows
    from fl_he.learning.tables.schema.description import Schema
    from fl_he.learning.tables.table_file import RowNumbers
    from fl_he.report.blocks import Page

_MODEL = "model.json"
#: Of a mean that hospitals sum up under encryption.
_ROUNDING = 1e-8
_UNKNOWN_SCHEMA = (
    "the model has no digest of its schema, so only the names of its features were compared: make "
    "sure that the schema is that of its training"
)


class Form(StrEnum):
    """Forms of a comparison with outcomes, other than a table on the terminal."""

    md = "md"
    csv = "csv"


def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL")],
    data: Annotated[Path, typer.Argument(metavar="DATA")],
    *,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where to write; if absent, to standard output."),
    ] = None,
    schema: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The schema by which the tables were read in training; by default that of the "
            "run's folder, if it has one.",
        ),
    ] = None,
    reading: Annotated[Path | None, READING] = None,
    id_column: Annotated[
        str | None,
        typer.Option(
            "--id",
            metavar="COLUMN",
            help="Column of the table, of text or numbers, that becomes the first of the output.",
        ),
    ] = None,
    rate: Annotated[
        bool,
        typer.Option("--rate", help="Of a model with an exposure: predict for an exposure of 1."),
    ] = False,
    calibration: Annotated[
        bool,
        typer.Option(
            "--calibration",
            help="Compare the predictions with the outcomes of the table, here, and print that; "
            "predictions are written to --out alone.",
        ),
    ] = False,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="With --calibration: the column of outcomes, unless a schema names it.",
        ),
    ] = None,
    event: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="With --calibration of times without a schema: the column of events.",
        ),
    ] = None,
    form: Annotated[
        Form | None,
        typer.Option("--format", help="With --calibration: print Markdown or CSV, not a table."),
    ] = None,
) -> None:
    """Predict each row of a table; prints CSV in the order of its rows.

    MODEL is a run's folder, or a model.json; DATA is a CSV or Parquet table with its features, but
    for those without a coefficient. A model that was trained by a schema takes the hospital's own
    columns; a level that nobody had in training counts as the reference, with a warning. A model
    with an exposure predicts for each row's own, in the column of that name.

    A row with a wrong or missing cell has an empty prediction and a line on standard error, and the
    exit code is 1.
    """
    with plain_errors():
        from fl_he.learning.regression.registry import load_model

        if out is not None:
            require_absent(out)
        trained = load_model(model_file(model))
        if not calibration and (target or event or form):
            raise DataError("--target, --event and --format must come with --calibration")
        if calibration and rate:
            raise DataError("--calibration must come without --rate: outcomes are of the exposures")
        read = _read(trained, model, data, (schema, reading), rate=rate)
        ids = _ids(data, id_column, read) if id_column is not None else []
        _warn(model, trained, read)
        header, rows = _predictions(trained, read)
        if id_column in header:
            raise DataError(f"--id must name another column than {', '.join(header)}")
        text = _csv(header, rows, id_column, ids)
        found = _validated(trained, read, model, data, (target, event)) if calibration else None
        if out is None and found is None:
            sys.stdout.write(text)
        elif out is not None:
            write_new(out, text.encode())
        if found is not None:
            _print(found, form)
    if count := int(read.faulty.wrong.sum()):
        for line in read.faulty.lines(read.rows, ids):
            tell(line)
        note = f"{count} of {len(rows)} rows without a prediction{read.rows.note}"
        tell(f"{note}: correct their cells")
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class _Table:
    """A table to predict, as it was read.

    Attributes
    ----------
    features : NDArray[np.float64]
        Shape (rows, features); of faulty rows they are no numbers.
    rows : RowNumbers
    faulty : FaultyRows
    exposure : NDArray[np.float64] or None
        Shape (rows,); ``None``: 1 in each row.
    schema : Schema or None
    """

    features: NDArray[np.float64]
    rows: RowNumbers
    faulty: FaultyRows
    exposure: NDArray[np.float64] | None
    schema: Schema | None

    @property
    def right(self) -> NDArray[np.intp]:
        """Places of the rows that have a prediction."""
        import numpy as np

        return np.flatnonzero(~self.faulty.wrong)


def _read(
    trained: TrainedModel, model: Path, data: Path, forms: tuple[Path | None, ...], *, rate: bool
) -> _Table:
    """Read features and exposures by the files of a schema and of a reading; raises DataError."""
    import numpy as np

    from fl_he.learning.regression.glm import GlmModel
    from fl_he.learning.tables.faulty_rows import FaultyRows
    from fl_he.learning.tables.schema.description import read_schema
    from fl_he.learning.tables.table import read_features

    exposure = trained.exposure if isinstance(trained, GlmModel) else None
    schema, reading = forms
    if rate and exposure is None:
        raise DataError("--rate must come with a model with an exposure, and this has none")
    faulty, described = FaultyRows(), None
    if (of_run := schema or schema_of(model)) is not None:
        described = read_schema(of_run, reading, READING_FILE)
        features, rows = _features(data, of_run, described, trained, faulty)
        if trained.schema is None:
            tell(f"warning: {model}: {_UNKNOWN_SCHEMA}")
    elif trained.schema is not None:
        raise DataError(
            f"{model} was trained by the schema {trained.schema[:16]}: name its file with --schema"
        )
    elif reading is not None:
        raise DataError("--reading must come with a schema, and the model has none")
    else:
        names = np.array(trained.feature_names, dtype=object)[trained.used].tolist()
        known, rows = read_features(data, names, "a table to predict", faulty)
        features = np.tile(trained.mean, (len(known), 1))
        features[:, trained.used] = known
    found = None
    if exposure is not None and not rate:
        found = _exposure(data, of_run, described, exposure, faulty)
    if faulty.wrong.all():
        raise DataError(f"no row can be predicted: {'; '.join(faulty.lines(rows))}")
    trained.pass_over(features, rows, faulty)
    return _Table(features, rows, faulty, found, described)


def _ids(data: Path, name: str, read: _Table) -> list[str]:
    """Return the cells of the column that names the rows, as they stand."""
    from fl_he.learning.tables.table import read_texts

    ids, rows = read_texts(data, name, read.schema.reading.form if read.schema else None)
    _require_same(data, rows, read.rows)
    return ids


def _predictions(trained: TrainedModel, read: _Table) -> tuple[list[str], list[list[str]]]:
    """Return the header and a row for each row of the table, empty where it has no prediction."""
    from fl_he.learning.regression.glm import GlmModel
    from fl_he.learning.tables.table_file import RowNumbers

    right = read.right
    features, numbers = read.features[right], RowNumbers(read.rows.numbers[right], read.rows.header)
    if isinstance(trained, GlmModel) and read.exposure is not None:
        header, found = trained.predictions(features, numbers, read.exposure[right])
    else:
        header, found = trained.predictions(features, numbers)
    rows = [[""] * len(header)] * len(read.features)
    for place, row in zip(right.tolist(), found, strict=True):
        rows[place] = row
    return header, rows


def _csv(header: list[str], rows: list[list[str]], id_column: str | None, ids: list[str]) -> str:
    """Return predictions as CSV.

    Labels come with the model, so they are no formulas. Ids are the table's own, by which programs
    join it with the predictions, and stay as they are.
    """
    from fl_he.report.csv_text import csv_lines, text_cell

    lines = [[text_cell(cell) for cell in row] for row in (header, *rows)]
    if id_column is not None:
        lines = [[one, *line] for one, line in zip((id_column, *ids), lines, strict=True)]
    return csv_lines(lines)


def _validated(
    trained: TrainedModel, read: _Table, model: Path, data: Path, columns: tuple[str | None, ...]
) -> Page:
    """Compare predictions with the outcomes of the table."""
    import numpy as np

    from fl_he.learning.regression.registry import family_of_model
    from fl_he.learning.regression.validation import validate
    from fl_he.learning.tables.data import Dataset
    from fl_he.learning.tables.schema.application import outcomes_by_schema, schema_of_outcome
    from fl_he.report.figures import count
    from fl_he.terminal.validation import validation_page

    if read.schema is not None and any(columns):
        raise DataError("--target and --event must be left out: the schema names the outcome")
    schema = read.schema or schema_of_outcome(**_outcome(trained, *columns))
    outcomes, rows = outcomes_by_schema(data, schema)
    _require_same(data, rows, read.rows)
    known = ~np.isnan(outcomes)
    both = np.flatnonzero(known & ~read.faulty.wrong)
    if not both.size:
        raise DataError(
            "--calibration needs rows with an outcome and a prediction; the table has none"
        )
    dataset = Dataset(
        read.features[both],
        outcomes[both],
        trained.feature_names,
        classes=schema.outcome.classes,
        family=schema.outcome.models,
        exposure=None if read.exposure is None else read.exposure[both],
    )
    margins = trained.margins(read.features[both], None)
    found = validate(family_of_model(trained, schema.outcome.models), margins, dataset)
    left_out = (
        (int(np.count_nonzero(~known)), "outcome"),
        (int(np.count_nonzero(known & read.faulty.wrong)), "prediction"),
    )
    notes = [f"Left out: {count(rows)} rows without {what}." for rows, what in left_out if rows]
    return validation_page(found, str(model), data.name, notes)


def _outcome(trained: TrainedModel, target: str | None, event: str | None) -> dict[str, Any]:
    """Return the outcome of a model without a schema, by the columns that the user names."""
    from fl_he.learning.regression.cox import CoxModel
    from fl_he.learning.regression.glm import GlmModel
    from fl_he.learning.regression.logistic import LogisticModel
    from fl_he.learning.regression.registry import family_of_model
    from fl_he.learning.regression.softmax import SoftmaxModel

    of_time = isinstance(trained, CoxModel)
    if target is None or (event is None) is of_time:
        needed = "--target and --event" if of_time else "--target alone"
        raise DataError(
            f"--calibration without a schema must come with {needed}: the model file does not say "
            "in which columns the outcomes are"
        )
    settings: dict[str, Any] = {"column": target, "event": event}
    if isinstance(trained, LogisticModel):
        settings["positive"] = trained.positive
    elif isinstance(trained, SoftmaxModel):
        settings["classes"] = trained.classes
    elif isinstance(trained, GlmModel):
        settings["family"] = family_of_model(trained).name
    return settings


def _print(page: Page, form: Form | None) -> None:
    """Print a page as a table, or as Markdown or CSV."""
    from fl_he.report.page.text import as_csv, as_markdown
    from fl_he.terminal.show import show_page

    if form is None:
        show_page(page)
    else:
        sys.stdout.write(as_csv({page.title: page}) if form is Form.csv else as_markdown([page]))


def _require_same(data: Path, rows: RowNumbers, earlier: RowNumbers) -> None:
    if rows.numbers.tolist() != earlier.numbers.tolist():
        raise DataError(f"{data} must not change while it is read: predict it again")


def _warn(model: Path, trained: TrainedModel, read: _Table) -> None:
    """Tell of columns without a coefficient, and of a training that biases predictions."""
    import numpy as np

    from fl_he.learning.regression.trained import BALANCED, FIRTH, PRIVATE
    from fl_he.run_files.convergence import FIRTH_BIASED, NOISY, WEIGHTED, listed

    by_schema = read.schema is not None
    if by_schema:
        unused = _without_effect(trained, read.features[read.right])
    else:
        unused = np.array(trained.feature_names, dtype=object)[~trained.used].tolist()
    if unused:
        tell(
            f"warning: {model}: {'without effect' if by_schema else 'not read'}, as "
            f"without a coefficient: {listed(unused)}. Columns that did not vary in training, "
            "such as a level that nobody had, or were linear combinations of others, are taken "
            "to be so in this table"
        )
    weighted = WEIGHTED if trained.class_weight == BALANCED else ""
    method = {FIRTH: FIRTH_BIASED, PRIVATE: NOISY}.get(trained.method or "", "")
    for warning in filter(None, (_no_optimum(trained), weighted, method)):
        tell(f"warning: {model}: {warning}")


def schema_of(model: Path) -> Path | None:
    """Return the schema in the folder of a model's run, if there is one."""
    from fl_he.run_files.checkpoint import SCHEMA

    folder = model_file(model).parent
    if folder.parent.name == "hospitals":
        folder = folder.parents[1]
    file = folder / SCHEMA
    return file if file.is_file() else None


def _features(
    data: Path, schema: Path, described: Schema, trained: TrainedModel, faulty: FaultyRows
) -> tuple[NDArray[np.float64], RowNumbers]:
    """Return the features of a table by the schema of a model's training."""
    from fl_he.learning.tables.data import first_schema_difference
    from fl_he.learning.tables.schema.application import features_by_schema

    digest, known = described.shared_digest, trained.schema
    if known not in (None, digest):
        raise DataError(
            f"{schema} must be the schema of the model's training, {known[:16]}, got {digest[:16]}"
        )
    features, found, rows = features_by_schema(data, described, trained.imputed, faulty)
    if difference := first_schema_difference(trained.feature_names, found):
        raise DataError(f"{schema} must be the schema of the model's training: {difference}")
    return features, rows


def _exposure(
    data: Path, schema: Path | None, described: Schema | None, name: str, faulty: FaultyRows
) -> NDArray[np.float64]:
    """Return the exposures of a table, in a column that the model names."""
    from fl_he.learning.tables.schema.application import exposure_by_schema
    from fl_he.learning.tables.table import read_exposure

    if described is None:
        return read_exposure(data, name, faulty)
    found = exposure_by_schema(data, described, faulty)
    if found is None or described.outcome.exposure != name:
        raise DataError(
            f"{schema} must be the schema of the model's training: its outcome must have the "
            f"exposure {name!r}"
        )
    return found


def _without_effect(trained: TrainedModel, features: NDArray[np.float64]) -> list[str]:
    """Name columns without a coefficient and count the rows that are not as all were in training.

    A column that did not vary in training was its mean there, but for rounding.
    """
    import numpy as np

    others = ~np.isclose(features, trained.mean, rtol=_ROUNDING, atol=0.0)
    counts = np.where(trained.used, 0, others.sum(axis=0)).tolist()
    return [
        f"{name} ({count} row{'s' * (count > 1)})"
        for name, count in zip(trained.feature_names, counts, strict=True)
        if count
    ]


def _no_optimum(trained: TrainedModel) -> str:
    """Say why a model is not the optimum of its training; nothing if it is, or nobody can tell."""
    from fl_he.learning.regression.registry import NUMERIC, family_of_model
    from fl_he.learning.regression.trained import NOT_CONVERGED, SEPARATED
    from fl_he.run_files.convergence import NO_FINITE, NO_OPTIMUM, NOT_THE_OPTIMUM, subject

    if trained.training == SEPARATED:
        family = family_of_model(trained).name
        firth = " or, if there are two classes, with penalty=firth" * (family not in NUMERIC)
        return (
            f"{subject(family)} are separated: {NO_OPTIMUM}, and coefficients that separate have "
            f"{NO_FINITE}; train it again with C=1.0{firth}"
        )
    if trained.training == NOT_CONVERGED:
        return f"{NOT_THE_OPTIMUM}: train it again, with more rounds"
    return ""


def model_file(path: Path) -> Path:
    """Return the model's file of a run's folder, or the file itself."""
    file = path / _MODEL if path.is_dir() else path
    hospitals = path / "hospitals"
    if path.is_dir() and not file.exists() and hospitals.is_dir():
        raise DataError(
            f"{path} has no {_MODEL}, as with scaling=local the features of each hospital have "
            f"units of their own: name {hospitals}/NAME/{_MODEL}, with the units of a hospital"
        )
    return file
