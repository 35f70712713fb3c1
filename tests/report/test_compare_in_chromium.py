"""The comparison as a browser shows it: no script fails, no figure is empty, a run is off in all figures."""

import json

import pytest
from browser import PROGRAM, Browser

import tunnelscope as ts

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.skipif(PROGRAM is None, reason="neither chromium nor google-chrome is installed"),
]

HOSTILE = "</script><img src=x onerror='throw Error(1)'>"
MARKS = """Object.fromEntries([...document.querySelectorAll(".chart")].map((place) =>
  [place.dataset.figure, place.querySelectorAll("svg .mark-symbol.role-mark path").length]))"""


@pytest.fixture(scope="module")
def browser():
    with Browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def page(scans, tmp_path_factory):
    folders = [scans / name for name in ("two", "three", "four")]
    labels = [HOSTILE, "three & more", "a_checkpoint_with_a_rather_long_name_of_its_own"]
    comparison = ts.compare(folders, labels=labels)
    return comparison.report(tmp_path_factory.mktemp("page") / "compare.html")


def errors(browser):
    return json.loads(browser.run("document.documentElement.dataset.errors"))


@pytest.mark.parametrize(("width", "scheme"), [(1180, "light"), (390, "dark")])
def test_every_figure_is_drawn_without_errors_or_sideways_scroll(browser, page, width, scheme):
    browser.look(width, scheme=scheme)
    browser.open(page)
    assert errors(browser) == []
    marks = browser.run(MARKS)
    assert list(marks) == ["retained", "accuracy-fives", "accuracy-all", "accuracy-digits", "numerical_rank"]
    # a point and a ring a run at least; `all` is not in the run of three layers
    assert marks["retained"] == 3 + 2
    assert marks["accuracy-fives"] == (2 + 3 + 4) + 3
    assert marks["accuracy-all"] == (2 + 4) + 2
    assert marks["numerical_rank"] == 2 + 3 + 4
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.requests == [page.as_uri()]
    right = '[...document.querySelectorAll(".chart svg")].map((svg) => svg.getBoundingClientRect().right)'
    assert max(browser.run(right)) <= width


def test_a_run_switched_off_in_one_legend_is_off_in_every_figure(browser, page):
    browser.look(1180)
    browser.open(page)
    before = browser.run(MARKS)
    x, y = browser.run("""(() => {
        const label = document.querySelectorAll("[data-figure=retained] .role-legend-label text")[1];
        label.scrollIntoView({ block: "center" });
        const box = label.getBoundingClientRect();
        return [box.x + box.width / 2, box.y + box.height / 2];
    })()""")
    browser.click(x, y)
    browser.wait(f"({MARKS})['numerical_rank'] === {before['numerical_rank'] - 3}")
    browser.wait(f"({MARKS})['accuracy-fives'] === {before['accuracy-fives'] - 4}")
    assert errors(browser) == []
