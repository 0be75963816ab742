"""report.html: one file that needs nothing else, neither a network nor a script."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from fl_he.atomic import replace_file
from fl_he.report.page.blocks import Page
from fl_he.report.page.capc_page import capc_page
from fl_he.report.page.run_page import run_page
from fl_he.report.page.sweep_page import sweep_page
from fl_he.report.tables.sweep import SweepRow
from fl_he.run_files.metrics import Metrics
from fl_he.run_files.metrics_contract import CAPC
from fl_he.version import __version__

if TYPE_CHECKING:
    from jinja2 import Template

NAME = "report.html"
COMPARISON = "comparison.html"
# Flower bundles no .html and no .css with an app, but it does bundle .md.
_PAGE, _STYLE = "page.html.md", "style.css.md"


def write_page(folder: Path, metrics: Metrics, path: Path | None = None) -> Path:
    """Write the page of a run.

    Parameters
    ----------
    folder : Path
        The run's folder; must exist.
    metrics : Metrics
    path : Path or None
        The file; None for report.html in the folder.

    Returns
    -------
    Path
        Of the file.
    """
    path = folder / NAME if path is None else path
    make = capc_page if metrics.get("protocol") == CAPC else run_page
    replace_file(path, render(make(metrics)).encode())
    return path


def write_comparison(path: Path, rows: Sequence[SweepRow], folders: Sequence[Path]) -> None:
    """Write the page that compares several runs.

    Parameters
    ----------
    path : Path
        The file; its folder must exist.
    rows : sequence of SweepRow
    folders : sequence of Path
        Of the runs, in which their own pages are.
    """
    links = [_link(path, folder / NAME) for folder in folders]
    replace_file(path, render(sweep_page(rows, links)).encode())


def render(page: Page) -> str:
    """Return the page as HTML; every text in it is escaped, but for the plots, which are ours."""
    return _template().render(page=page, version=__version__)


@cache
def _template() -> Template:
    # Of use only when a page is written.
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415
    from markupsafe import Markup  # noqa: PLC0415

    environment = Environment(
        loader=PackageLoader("fl_he.report.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["anchor"] = lambda title: title.lower().replace(" ", "-")
    environment.globals["style"] = Markup(environment.get_template(_STYLE).render())  # noqa: S704
    return environment.get_template(_PAGE)


def _link(page: Path, target: Path) -> str:
    if not target.is_file():
        return ""
    return quote(Path(os.path.relpath(target.resolve(), page.resolve().parent)).as_posix())
