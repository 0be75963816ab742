"""A table of descriptive statistics: on the terminal, as CSV and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from fl_he.errors import visible
from fl_he.report.csv_text import csv_text
from fl_he.report.figures import UNKNOWN, count, decimal, fixed, incomplete_note, p_value, places
from fl_he.report.tables.privacy import with_less_noise
from fl_he.run_files.convergence import listed
from fl_he.run_files.metrics import Metrics

WITHHELD = "withheld"
_ALL = "all rows"
_TWO_GROUPS = 2
#: Digits of shares of survival, and of standardised differences.
_DIGITS = 3
#: Half, and more than the rounding of an estimate.
_HALF = 0.5 + 1e-12


def headings(metrics: Metrics) -> tuple[str, ...]:
    """Return the headings of the columns: names, all rows, and groups."""
    table = metrics["table"]
    sizes = zip(table["groups"], table["sizes"], strict=True)
    groups = [f"{name} (n={count(size)})" for name, size in sizes]
    difference = ["std. difference"] if len(groups) == _TWO_GROUPS else []
    return (
        f"by {table['by']}" if groups else "",
        f"{_ALL} (n={count(table['rows'])})",
        *groups,
        *difference,
    )


def rows(metrics: Metrics) -> list[tuple[str, ...]]:
    """Return the cells of the rows, as many in each as there are headings."""
    table, width = metrics["table"], len(headings(metrics))
    found = list[Sequence[str]]()
    for variable in table["variables"]:
        found += _of_variable(variable, 1 + len(table["groups"]))
    if table["survival"] is not None:
        time = table.get("time") or "time"
        found += _of_survival(table["survival"], 1 + len(table["groups"]), time)
    return [(*row, *[""] * (width - len(row))) for row in found]


def notes(metrics: Metrics) -> list[str]:
    """Return what is merged or withheld, and why, and how the figures are to be read."""
    table, found = metrics["table"], incomplete_note(metrics)
    if privacy := metrics["privacy"]:
        found.append(
            f"each count of a group has noise of standard deviation {table['noise']:.3g}, and "
            f"none is withheld: epsilon {privacy['epsilon']:.3g} at delta {privacy['delta']:g} "
            "for each patient"
        )
        found += [f"{name}: {promise}" for name, promise in with_less_noise(privacy).items()]
    for name, reason in table["withheld"].items():
        found.append(f"{name} withheld: {reason}")
    for variable in table["variables"]:
        if variable["withheld"]:
            found.append(f"{variable['name']}: {variable['withheld']}")
    found += _percentages(table["variables"])
    few = f"1 to {table['min_cell'] - 1}"
    if any(one["quartiles"] for each in table["variables"] for one in each["summaries"]):
        merged = "" if metrics["privacy"] else f" (bins of {few} rows are merged with neighbours)"
        found.append(
            f"each quartile is shown as the bin that contains it{merged}; a larger describe.bins "
            "makes bins narrower"
        )
    if merged_times := _merged_times(metrics):
        found.append(
            f"times of the grid without a line of their own ({listed(merged_times)}) are merged "
            f"into the next one: a group has {few} events or withdrawals at one of them, or no "
            "row leaves there"
        )
    if table["survival"] is not None and (gap := largest_gap(table["survival"])) > 0.0:
        found.append(
            "survival is that of times rounded up to the next time of the grid. With exact times "
            f"it is lower, by at most {max(gap, 0.001):.3f}; a finer describe.grid narrows this"
        )
    if (curves := table["survival"]) is not None and (test := curves["log_rank"]) is not None:
        found.append(
            f"log-rank test of times rounded up to the grid: chi2 {test['chi2']:.3f} with "
            f"{test['df']} degrees of freedom, p {p_value(test['p_value'])}"
        )
    return found


def _percentages(variables: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say of which rows percentages are, if there are any."""
    summaries = [one for each in variables for one in each["summaries"]]
    said = []
    if any(one["counts"] for one in summaries):
        said.append("n (%) of a level: percent of the rows of that group that have a value")
    if any(one["missing"] for one in summaries):
        said.append("missing, n (%): percent of all rows of that group")
    return said


def _merged_times(metrics: Metrics) -> list[str]:
    """Return the times of the grid that are merged into later ones."""
    grid = (metrics["config"].get("describe") or {}).get("grid") or ()
    if metrics["table"]["survival"] is None:
        return []
    times = metrics["table"]["survival"]["times"]
    return [f"{time:g}" for time in grid if time not in times and time < max(times)]


def _of_variable(variable: Mapping[str, Any], columns: int) -> Iterator[Sequence[str]]:
    summaries, unit = variable["summaries"], f" ({variable['unit']})" * bool(variable["unit"])
    name = f"{variable['name']}{unit}"

    def row(label: str, cells: Sequence[str]) -> tuple[str, ...]:
        return (label, *cells, *[WITHHELD] * (columns - len(cells)))

    if not summaries:
        yield row(name, ())
        return
    if variable["kind"] == "number":
        difference = _difference(variable, columns)
        known = [one["sd"] for one in summaries if one["sd"]]
        digits = places(known[:1], 1, 6)
        cells = [
            _mean(one, digits, exact=not variable["withheld"] or one["mean"] is not None)
            for one in summaries
        ]
        yield (*row(f"{name}, mean (SD)", cells), *difference)
        if summaries[0]["quartiles"]:
            yield row(f"{name}, median [Q1, Q3] within", [_quartiles(one) for one in summaries])
    else:
        yield (f"{name}, n (%)", *[""] * columns, *_difference(variable, columns))
        for place, level in enumerate(variable["levels"]):
            cells = [_share(one["counts"][place], one["present"]) for one in summaries]
            yield row(f"  {' or '.join(level)}", cells)
    if any(one["missing"] for one in summaries):
        cells = [_share(one["missing"], one["missing"] + one["present"]) for one in summaries]
        yield row("  missing, n (%)", cells)


def _difference(variable: Mapping[str, Any], columns: int) -> tuple[str, ...]:
    if columns != 1 + _TWO_GROUPS:
        return ()
    value = variable["difference"]
    return (UNKNOWN if value is None else decimal(value, _DIGITS),)


def _mean(summary: Mapping[str, Any], digits: int, *, exact: bool) -> str:
    if not exact:
        return WITHHELD if summary["present"] else UNKNOWN
    return f"{fixed(summary['mean'], digits)} ({fixed(summary['sd'], digits)})"


def _quartiles(summary: Mapping[str, Any]) -> str:
    if not summary["quartiles"]:
        return UNKNOWN
    first, median, third = (
        f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
        for low, high in summary["quartiles"]
    )
    return f"{median} [{first}, {third}]"


def _share(part: int, whole: int) -> str:
    return f"{count(part)} ({100.0 * part / whole:.1f})" if whole else count(part)


def _of_survival(
    survival: Mapping[str, Any], columns: int, time_name: str
) -> Iterator[Sequence[str]]:
    curves = survival["curves"]

    def row(label: str, cells: Sequence[str]) -> tuple[str, ...]:
        return (label, *cells, *[WITHHELD] * (columns - len(cells)))

    times = survival["times"]
    yield row(f"median of {time_name}", [_median(one, times) for one in curves])
    yield ("survival (SE), rows with a later time", *[""] * columns)
    for place, time in enumerate(times):
        cells = [
            f"{decimal(one['survival'][place], _DIGITS)} "
            f"({decimal(one['standard_error'][place], _DIGITS)}), {remaining(one, place)}"
            for one in curves
        ]
        yield row(f"  at {time:g}", cells)
    for place, time in enumerate(times):
        cells = [decimal(one["least"][place], _DIGITS) for one in curves]
        yield row(f"  at {time:g}, exact times: at least", cells)


def largest_gap(survival: Mapping[str, Any]) -> float:
    """Return the largest distance between a curve and its lower bound with exact times."""
    pairs = (zip(one["survival"], one["least"], strict=True) for one in survival["curves"])
    return max((high - low for each in pairs for high, low in each), default=0.0)


def remaining(curve: Mapping[str, Any], place: int) -> str:
    """Return the number of rows with a later time than one of the grid."""
    rows = curve["remaining"][place]
    return WITHHELD if rows is None else count(rows)


def _median(curve: Mapping[str, Any], times: Sequence[float]) -> str:
    """Return the times between which the median of exact times is."""
    above = [time for time, least in zip(times, curve["least"], strict=True) if least > _HALF]
    end = curve["median"]
    if not above:
        return UNKNOWN if end is None else f"up to {end:g}"
    if end is None:
        return "not reached" if len(above) == len(times) else f"above {above[-1]:g}"
    return f"{above[-1]:g} to {end:g}"


def table1(metrics: Metrics) -> Table:
    """Return the table for the terminal."""
    table = Table(title="Table 1", caption=Text("\n".join(notes(metrics))))
    name, *others = headings(metrics)
    table.add_column(Text(name), overflow="fold")
    for heading in others:
        table.add_column(Text(heading.replace(" (n=", "\n(n=")), justify="right", overflow="fold")
    for row in rows(metrics):
        table.add_row(*map(Text, row))
    return table


def as_csv(metrics: Metrics) -> str:
    """Return the table as CSV; its notes are in the last rows."""
    return csv_text([headings(metrics), *rows(metrics), *([note] for note in notes(metrics))])


def as_markdown(metrics: Metrics) -> str:
    """Return the table as Markdown, with its notes below."""
    heads = headings(metrics)
    lines = [heads, ("---", *["---:"] * (len(heads) - 1)), *rows(metrics)]
    table = ["| " + " | ".join(map(escaped, line)) + " |" for line in lines]
    return "\n".join([*table, "", *(f"- {escaped(note)}" for note in notes(metrics))]) + "\n"


def escaped(cell: str) -> str:
    """Return a cell on one line in which nothing is markup and nothing controls a terminal.

    Blanks before it are kept.
    """
    text = "".join(f"\\{sign}" if sign in "\\`*_{}<>[]#|" else sign for sign in cell.lstrip(" "))
    return "&nbsp;" * (len(cell) - len(cell.lstrip(" "))) + visible(" ".join(text.splitlines()))
