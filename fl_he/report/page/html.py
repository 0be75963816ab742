"""A page as HTML: one file that needs nothing else, neither a network nor a script."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from fl_he.report.blocks import Page
from fl_he.version import __version__

if TYPE_CHECKING:
    from jinja2 import Template

# Flower bundles no .html and no .css with an app, but it does bundle .md.
_PAGE, _STYLE = "page.html.md", "style.css.md"


def render(page: Page) -> str:
    """Return the page as HTML; every text in it is escaped, but for the plots, which are ours."""
    return _template().render(page=page, version=__version__)


def _parts(cell: str) -> str:
    """Let a narrow table break a cell before parentheses, and nowhere else."""
    return cell.replace(" ", "\N{NO-BREAK SPACE}").replace("\N{NO-BREAK SPACE}(", " (")


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
    environment.filters["parts"] = _parts
    environment.globals["style"] = Markup(environment.get_template(_STYLE).render())  # noqa: S704
    return environment.get_template(_PAGE)
