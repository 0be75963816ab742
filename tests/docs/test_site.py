"""The documentation: generated pages are current, and the site loads nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import make_configuration
import pytest

from fl_he.config.run import schema_keys

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
#: Attributes by which a page makes a browser fetch something.
FETCHED = {"src", "srcset", "data", "poster"}
FETCHING_LINKS = {"stylesheet", "icon", "preload", "prefetch", "preconnect", "dns-prefetch"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_the_configuration_page_is_made_from_the_schema() -> None:
    assert (DOCS / "configuration.md").read_text() == make_configuration.page(), (
        "run `make docs` and commit docs/configuration.md"
    )


def test_every_key_is_on_the_configuration_page() -> None:
    page = make_configuration.page()
    keys = schema_keys()
    assert [key for key in keys if f"`{key}`" not in page] == []


@pytest.mark.parametrize("source", sorted(DOCS.glob("diagrams/*.mmd")), ids=lambda path: path.stem)
def test_the_diagrams_are_drawn_from_their_sources(source: Path) -> None:
    drawn = source.with_suffix(".svg").read_text()
    assert sha256(source.read_bytes()).hexdigest() in drawn, "run `make diagrams` and commit it"


def test_readme_and_threat_model_have_one_table_of_who_learns_what() -> None:
    readme, threats = (
        re.search(r"^\| \| a hospital's data .*?\n\n", path.read_text(), re.DOTALL | re.MULTILINE)
        for path in (ROOT / "README.md", DOCS / "threats.md")
    )
    assert readme is not None
    assert threats is not None
    assert readme.group() == threats.group()


def cells(page: str) -> list[list[str]]:
    """Return the cells of each row of a page's tables."""
    rows = re.findall(r"^\| (.*) \|$", (DOCS / page).read_text(), re.MULTILINE)
    return [[cell.strip() for cell in row.split("|")] for row in rows]


def test_figures_of_the_comparison_with_other_tools_are_measured_ones() -> None:
    measured = {
        (row[0], row[1].removeprefix("fl-he, "), row[6], row[bytes_in])
        for row in cells("performance.md")
        for bytes_in in (8, 9)
        if len(row) > 9
    }
    compared = [row for row in cells("alternatives.md") if len(row) == 4 and row[0][0].isdigit()]
    assert len(compared) > 10
    for values, scheme, seconds, size in compared:
        assert (values, scheme.removeprefix("fl-he, "), seconds, size) in measured, scheme


def test_every_test_named_in_security_exists() -> None:
    page = (DOCS / "security.md").read_text()
    named = set(re.findall(r"`((?:tests|examples)/[^`]+)`", page))
    assert len(named) > 20
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


class Fetched(HTMLParser):
    """Collects the addresses that a browser would fetch to show a page."""

    def __init__(self) -> None:
        super().__init__()
        self.places: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.places += [given[name] for name in FETCHED & given.keys()]
        if tag == "link" and FETCHING_LINKS & set(given.get("rel", "").split()):
            self.places.append(given.get("href", ""))
        if tag == "style" or "style" in given:
            self.places += re.findall(r"url\(([^)]*)\)", given.get("style", ""))


def test_the_site_fetches_nothing_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 10
    for page in pages:
        parser = Fetched()
        parser.feed(page.read_text())
        assert parser.places
        assert [place for place in parser.places if re.match(r"(?:\w+:)?//", place)] == [], page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import\s)['\"]?(?:\w+:)?//", sheet.read_text()), sheet


def test_no_page_makes_the_theme_load_mermaid(site: Path) -> None:
    # The theme's script fetches it from elsewhere as soon as a page has such a block.
    assert [
        page.name for page in site.rglob("*.html") if 'class="mermaid"' in page.read_text()
    ] == []


def test_links_of_the_readme_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text())
    ours = [link for link in links if "://" not in link]
    assert ours
    assert [link for link in ours if not (ROOT / link).exists()] == []


NAMED_FILE = re.compile(
    r"(?<![\w/])(?:fl_he|tests|docs|examples)/[\w/.-]+\.(?:py|yaml|md|json|txt|sh)\b"
)


@pytest.mark.parametrize(
    "page",
    [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *ROOT.glob("examples/*/README.md")],
    ids=lambda page: page.relative_to(ROOT).as_posix(),
)
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    missing = [name for name in NAMED_FILE.findall(page.read_text()) if not (ROOT / name).exists()]
    assert missing == []
