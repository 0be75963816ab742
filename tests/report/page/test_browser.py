"""The page in a real browser: Debian's chromium, headless."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_core_python.selenium import Axe
from example_pages import EXAMPLES, HOSTILE
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.print_page_options import PrintOptions
from selenium.webdriver.support.wait import WebDriverWait

from fl_he.report.files import write_comparison, write_page
from fl_he.report.tables.sweep import SweepRow

_BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
_DRIVER = shutil.which("chromedriver")
_MISSING = "no chromium and chromedriver here: apt-get install chromium chromium-driver"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("browser"),
    pytest.mark.usefixtures("rendered"),
]

#: Width and scheme of each way to read it.
LOOKS = {"desk": (1280, "light"), "phone": (320, "dark")}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    if _BROWSER is None or _DRIVER is None:
        # A run of all checks includes this one; elsewhere a browser is too large a requirement.
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(_MISSING)
    options = ChromeOptions()
    options.binary_location = str(_BROWSER)
    for flag in (
        *("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run"),
        *("disable-background-networking", "disable-component-update", "disable-sync"),
        f"user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options=options, service=Service(_DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the file of each example, and of the page that compares them."""
    folder = tmp_path_factory.mktemp("pages")
    found = {}
    for name, metrics in EXAMPLES.items():
        (folder / name).mkdir()
        found[name] = write_page(folder / name, copy.deepcopy(metrics))
    rows = [SweepRow((f"data={HOSTILE}{n}",), n, EXAMPLES[n]) for n in EXAMPLES]
    found["comparison"] = folder / "comparison.html"
    write_comparison(found["comparison"], rows, [folder / name for name in EXAMPLES])
    return found


def log(browser: Chrome, kind: str) -> list[dict[str, Any]]:
    """Return the log since the last call."""
    return list(browser.get_log(kind))  # type: ignore[no-untyped-call]


def look(browser: Chrome, path: Path, width: int, scheme: str) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    log(browser, "browser")
    log(browser, "performance")
    browser.get(path.as_uri())


def requests(browser: Chrome) -> list[str]:
    """Return the addresses that were asked for since the last look."""
    messages = [json.loads(entry["message"])["message"] for entry in log(browser, "performance")]
    return [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]


def overflow(browser: Chrome) -> int:
    """Return how much wider the page is than the window, in pixels."""
    root = "document.documentElement"
    return int(browser.execute_script(f"return {root}.scrollWidth - {root}.clientWidth"))


def flaws(browser: Chrome) -> list[tuple[str, list[Any]]]:
    """Return axe's findings: contrast, names of plots, headings of tables and the like."""
    found = Axe().run(browser)["violations"]
    return [(flaw["id"], [node["html"][:200] for node in flaw["nodes"]]) for flaw in found]


@pytest.mark.parametrize("look_name", LOOKS)
@pytest.mark.parametrize("name", [*EXAMPLES, "comparison"])
def test_a_page(browser: Chrome, pages: dict[str, Path], name: str, look_name: str) -> None:
    look(browser, pages[name], *LOOKS[look_name])
    assert log(browser, "browser") == []
    assert {url for url in requests(browser) if not url.startswith("data:")} == {
        pages[name].as_uri()
    }
    assert overflow(browser) == 0
    assert flaws(browser) == []
    assert len(browser.find_elements(By.CSS_SELECTOR, "tbody tr")) >= 1
    plots = browser.find_elements(By.CSS_SELECTOR, "figure svg")
    assert bool(plots) == (name not in ("deployed capc", "many labels"))
    for plot in plots:
        assert plot.size["width"] > 200
        assert plot.size["height"] > 100
        assert plot.find_elements(By.CSS_SELECTOR, "path")
    for link in browser.find_elements(By.CSS_SELECTOR, "nav a"):
        assert browser.find_element(By.ID, str(link.get_attribute("href")).partition("#")[2])


def test_a_small_window_hides_no_column_of_the_coefficients(
    browser: Chrome, tmp_path: Path
) -> None:
    metrics = copy.deepcopy(EXAMPLES["newton"])
    wide = {"estimate": 1.5075, "lower": -12.1154, "upper": 0.6281, "odds_ratio_upper": 11.286}
    for row in metrics["inference"]["coefficients"]:
        row.update(wide, odds_ratio_sd=11.035, odds_ratio_sd_upper=47.473)
    look(browser, write_page(tmp_path, metrics), 1000, "light")
    (table,) = browser.find_elements(By.CSS_SELECTOR, ".scroll[aria-label^='Log odds']")
    assert table.get_property("scrollWidth") == table.get_property("clientWidth")


def opening_time(browser: Chrome, path: Path) -> float:
    """Return how long a page takes to load, by the browser's own clock."""
    look(browser, path, *LOOKS["desk"])
    loaded = "return performance.getEntriesByType('navigation')[0].loadEventEnd"
    return float(WebDriverWait(browser, 60).until(lambda _: browser.execute_script(loaded)))


@pytest.mark.parametrize(("rounds", "features"), [(1000, 1000), (1000, 2000)])
def test_a_large_run_opens_quickly(
    browser: Chrome, pages: dict[str, Path], tmp_path: Path, rounds: int, features: int
) -> None:
    metrics = copy.deepcopy(EXAMPLES["newton"])
    metrics["rounds"] = [metrics["rounds"][0] | {"round": n + 1} for n in range(rounds)]
    row = metrics["inference"]["coefficients"][0]
    metrics["feature_names"] = [f"a rather long feature name {n}" for n in range(features)]
    coefficients = [row | {"name": name} for name in metrics["feature_names"]]
    metrics["inference"]["coefficients"] = coefficients
    metrics["federated"]["coefficients"] = [0.5] * features
    path = write_page(tmp_path, metrics)
    assert path.stat().st_size < 2_000_000
    assert opening_time(browser, path) < 20 * opening_time(browser, pages["newton"])


def test_no_script_of_a_hostile_name_ran(browser: Chrome, pages: dict[str, Path]) -> None:
    look(browser, pages["newton"], *LOOKS["desk"])
    assert browser.find_elements(By.TAG_NAME, "script") == []
    assert HOSTILE in browser.find_element(By.TAG_NAME, "main").text


def test_dark_and_light_differ_and_paper_is_white(browser: Chrome, pages: dict[str, Path]) -> None:
    colours = {}
    for name, (width, scheme) in LOOKS.items():
        look(browser, pages["normal"], width, scheme)
        body = browser.find_element(By.TAG_NAME, "body")
        line = browser.find_element(By.CSS_SELECTOR, "figure svg path[style*='series-1']")
        colours[name] = (
            body.value_of_css_property("background-color"),
            line.value_of_css_property("stroke"),
        )
    assert colours["desk"][0] == "rgba(255, 255, 255, 1)"
    assert all(a != b for a, b in zip(*colours.values(), strict=True))


def test_it_can_be_printed(browser: Chrome, pages: dict[str, Path]) -> None:
    look(browser, pages["newton"], *LOOKS["phone"])
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": []})
    body = browser.find_element(By.TAG_NAME, "body")
    assert body.value_of_css_property("background-color") == "rgba(255, 255, 255, 1)"
    assert not browser.find_element(By.TAG_NAME, "nav").is_displayed()
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    options = PrintOptions()
    assert len(browser.print_page(options)) > 10_000


def test_these_checks_find_what_is_wrong(browser: Chrome, tmp_path: Path) -> None:
    path = tmp_path / "bad.html"
    path.write_text(
        "<body style='color: #777; background: #666'><p style='width: 3000px'>hard to read"
        "<img src='http://127.0.0.1:9/x.png'><script>console.error('bad')</script>"
    )
    look(browser, path, *LOOKS["phone"])
    assert overflow(browser) > 1000
    assert {"color-contrast", "image-alt"} <= {name for name, _ in flaws(browser)}
    assert "http://127.0.0.1:9/x.png" in requests(browser)
    assert any("bad" in entry["message"] for entry in log(browser, "browser"))
