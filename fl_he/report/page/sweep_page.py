"""The page that compares several runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from fl_he.report.blocks import Block, Charts, Note, Page, Row, Section, Sheet
from fl_he.report.figures import (
    UNKNOWN,
    count,
    decimal,
    known,
    mean,
    of_number,
    seconds,
    sentence,
    size,
    total,
)
from fl_he.report.page.charts import SERIES, line_chart
from fl_he.report.page.evaluated import compared_curves
from fl_he.report.page.forest import compared_forests
from fl_he.report.plots import Curve
from fl_he.report.tables.capc import answered, quality
from fl_he.report.tables.comparison import headlines
from fl_he.report.tables.sweep import SweepRow, different_test_sets, labels
from fl_he.run_files.metrics import Metrics

#: More curves than these cannot be told apart.
_MOST = 12


def sweep_page(rows: Sequence[SweepRow], links: Sequence[str]) -> Page:
    """Return the page that compares several runs.

    Parameters
    ----------
    rows : sequence of SweepRow
        At least one.
    links : sequence of str
        Where each run's own page is, as seen from this one; empty for nowhere.
    """
    names = _names(rows)
    runs = [
        (name, row.metrics, link)
        for name, row, link in zip(names, rows, links, strict=True)
        if row.metrics is not None
    ]
    training = [run for run in runs if "rounds" in run[1]]
    capc = [run for run in runs if "querying" in run[1]]
    tables = [run for run in runs if "table" in run[1]]
    failed = [name for name, row in zip(names, rows, strict=True) if row.metrics is None]
    sections = []
    if training:
        sections += [_figures(training), *_plots(training), _curves(training)]
    if capc:
        sections.append(_capc(capc))
    if tables:
        sections.append(_tables(tables))
    best = max(known([run["federated"] for _, run, _ in training], "accuracy"), default=None)
    tiles = {"runs": count(len(rows))}
    different = different_test_sets([run for _, run, _ in training])
    if best is not None and not different:
        tiles["best accuracy on a test set"] = decimal(best)
    if failed:
        tiles["failed"] = count(len(failed))
    return Page(
        title="Comparison of runs",
        subtitle=f"{count(len(rows))} runs, by what sets them apart",
        tiles=tiles,
        notes=[Note(f"Failed: {'; '.join(failed)}", warning=True)] if failed else [],
        sections=sections,
    )


_Runs = Sequence[tuple[str, Metrics, str]]


def _names(rows: Sequence[SweepRow]) -> list[str]:
    """Return what each run is called: by its settings, where these are not unique with its folder.

    Examples
    --------
    >>> _names([SweepRow((one,), two, None) for one, two in ("a0", "a1", "b2")])
    ['a (0)', 'a (1)', 'b']
    """
    said = labels(rows)
    return [
        f"{label} ({row.folder})" if label and said.count(label) > 1 else label or row.folder
        for label, row in zip(said, rows, strict=True)
    ]


#: Columns behind the figures of quality, and the text of each for one run.
_COLUMNS: dict[str, Callable[[Metrics], str]] = {
    "epsilon": lambda run: _epsilon(run.get("privacy")),
    "rounds": lambda run: count(len(run["rounds"])),
    "data per round": lambda run: size(mean(known(run["rounds"], "bytes_sent"))),
    "seconds to encrypt": lambda run: seconds(total(known(run["rounds"], "encrypt_seconds")), 1),
    "seconds in all": lambda run: seconds(run["seconds"], 1),
}


def _epsilon(privacy: Mapping[str, Any] | None) -> str:
    return "none" if not privacy or privacy["epsilon"] is None else f"{privacy['epsilon']:.3g}"


def _figures(runs: _Runs) -> Section:
    found = [_headlines(metrics) for _, metrics, _ in runs]
    names = dict.fromkeys(name for one in found for name in one)
    rows = [
        Row(
            (
                name,
                *(one.get(figure, UNKNOWN) for figure in names),
                *(write(metrics) for write in _COLUMNS.values()),
            ),
            href=link,
        )
        for (name, metrics, link), one in zip(runs, found, strict=True)
    ]
    caption = "Federated models, by the figures of their own reports"
    blocks: list[Block] = [Sheet(caption, ("run", *names, *_COLUMNS), rows)]
    if different := different_test_sets([metrics for _, metrics, _ in runs]):
        blocks.append(Note(sentence(different)))
    return Section("Comparison", blocks)


def _headlines(metrics: Metrics) -> dict[str, str]:
    """Return a run's headlines, of classes with the accuracy before them."""
    accuracy = metrics["federated"].get("accuracy")
    first = {} if accuracy is None else {"accuracy on the test set": decimal(accuracy)}
    return first | headlines(metrics, with_pooled=False)


def _plots(runs: _Runs) -> Iterator[Section]:
    """Yield the sections of plots that the runs' own reports have, of the first runs."""
    evaluated = {name: run for name, run, _ in runs if run.get("evaluation")}
    estimated = {name: run for name, run, _ in runs if (run.get("inference") or {}).get("level")}
    for title, found, draw in (
        ("Encrypted evaluation", evaluated, compared_curves),
        ("Coefficients", estimated, compared_forests),
    ):
        if found:
            blocks = list(draw(dict(list(found.items())[:SERIES])))
            if blocks and len(found) > SERIES:
                others = f"The first {SERIES} of {count(len(found))} runs are drawn"
                blocks.append(Note(f"{others}; each run's own report has its plots."))
            if blocks:
                yield Section(title, blocks)


def _curves(runs: _Runs) -> Section:
    most = max(len(metrics["rounds"]) for _, metrics, _ in runs)
    places = list(range(1, most + 1))
    loss = "Loss" if any(of_number(metrics) for _, metrics, _ in runs) else "Log loss"
    drawn = [
        line_chart(
            title,
            places,
            [
                Curve(name, [entry.get(key) for entry in metrics["rounds"]], series)
                for series, (name, metrics, _) in enumerate(runs[:_MOST], start=1)
            ],
            logarithmic=logarithmic,
        )
        for title, key, logarithmic in (
            ("Accuracy on the test set", "test_accuracy", False),
            (f"{loss} on the test set", "test_loss", False),
            (f"{loss} on the hospitals' data", "loss", True),
            ("Norm of the gradient", "gradient_norm", True),
        )
    ]
    blocks: list[Block] = [Charts([chart for chart in drawn if chart is not None])]
    if len(runs) > _MOST:
        blocks.append(Note(f"The first {_MOST} of {len(runs)} runs are drawn."))
    return Section("Round by round", blocks)


def _capc(runs: _Runs) -> Section:
    rows = [
        Row(
            (
                f"{name}, {one['party']}",
                "yes" if metrics["encrypted"] else "NOT ENCRYPTED",
                answered(one),
                quality(one, "before", "balanced_accuracy"),
                quality(one, "after", "balanced_accuracy"),
                _epsilon(metrics["privacy"]),
                seconds(metrics["seconds"], 1),
            ),
            href=link,
        )
        for name, metrics, link in runs
        for one in metrics["querying"]
    ]
    columns = (
        *("run and party", "encrypted", "answered", "balanced accuracy before", "after"),
        *("epsilon", "seconds in all"),
    )
    return Section("CaPC", [Sheet("Querying parties on the held-out test set", columns, rows)])


def _tables(runs: _Runs) -> Section:
    columns = ("run", "by", "rows", "hospitals", "data sent", "seconds in all")
    rows = [
        Row(
            (
                *(name, metrics["table"]["by"] or "all rows", count(metrics["table"]["rows"])),
                *(count(metrics["hospitals"]), size(metrics["bytes_sent"])),
                seconds(metrics["seconds"], 1),
            ),
            href=link,
        )
        for name, metrics, link in runs
    ]
    return Section("Tables", [Sheet("Descriptive statistics", columns, rows)])
