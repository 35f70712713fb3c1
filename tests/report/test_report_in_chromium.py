"""The report as a browser shows it: no script fails, no figure is empty, what can be clicked works."""

import csv
import io
import json

import pytest
from browser import PROGRAM, Browser
from synthetic_results import synthetic_results, with_control

from tunnelscope import report
from tunnelscope.report.theme import TOKENS

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.skipif(PROGRAM is None, reason="neither chromium nor google-chrome is installed"),
]

HOSTILE = "</script><img src=x onerror='throw Error(\"name\")'>"
LONG = "model.encoder.blocks.a_rather_long_module_name"
FOUR_SETS = tuple(f"a_rather_long_set_{i}" for i in range(4))
CASES = {
    "resnet": lambda: synthetic_results(warnings=("12 test images are in both sets.",)),
    "deep": lambda: synthetic_results([f"{LONG}.{i}" for i in range(50)], ood_sets=FOUR_SETS),
    "mlp": lambda: synthetic_results([f"hidden.{i}" for i in range(12)], id_set="digits", ood_sets=("more",)),
    "no id set": lambda: synthetic_results(id_set=None, ood_sets=("caltech101", "clothing")),
    "no ood set": lambda: synthetic_results(ood_sets=()),
    "one layer": lambda: synthetic_results(["fc"]),
    "hostile": lambda: synthetic_results(
        [HOSTILE, "a & b", "`${1}`"], id_set=HOSTILE, ood_sets=("<!-- <b>",)
    ),
    "control": lambda: with_control(*synthetic_results(["a", "b", "c", "d"], ood_sets=("more",))),
    "nulls": lambda: with_nulls(*synthetic_results(["a", "b", "c"])),
}
MARKS = """Object.fromEntries([...document.querySelectorAll(".chart")].map((place) => {
  const marks = place.querySelectorAll("svg .mark-symbol.role-mark path, svg .mark-rect.role-mark path");
  return [place.dataset.figure, marks.length];
}))"""
SHOWN = """Object.fromEntries(Object.entries(tunnelscope.drawn)
  .filter(([key]) => key !== "cka")
  .map(([key, { view }]) => [key, view.data("sets_store").map((tuple) => tuple.values[0]).sort().join()]))"""


def with_nulls(table, run):
    table.loc[table["quantity"] == "probe_accuracy", ["low", "high"]] = None
    table.loc[(table["quantity"] == "nc1") & (table["layer"] == "b"), "value"] = None
    run |= {"network_accuracy": None, "best_layer": {}, "next_step": {}, "timings": None}
    return table, run


@pytest.fixture(scope="module")
def browser():
    with Browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Path of a case's report, written when it is first asked for."""
    folder, written = tmp_path_factory.mktemp("reports"), {}

    def page(case):
        if case not in written:
            written[case] = folder / f"{case.replace(' ', '-')}.html"
            report.write_report(*CASES[case](), written[case])
        return written[case]

    return page


def errors(browser):
    return json.loads(browser.run("document.documentElement.dataset.errors"))


def place_of(browser, selector):
    """The middle of an element, scrolled into the window."""
    return browser.run(f"""(() => {{
        const element = {selector};
        element.scrollIntoView({{ block: "center" }});
        const box = element.getBoundingClientRect();
        return [box.x + box.width / 2, box.y + box.height / 2];
    }})()""")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_every_figure_is_drawn_without_errors_or_sideways_scroll(browser, pages, case, width, scheme):
    browser.look(width, scheme=scheme)
    browser.open(pages(case))
    assert errors(browser) == []
    marks = browser.run(MARKS)
    assert len(marks) == (7 if case == "one layer" else 8)
    assert all(count > 0 for count in marks.values()), marks
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.requests == [pages(case).as_uri()]
    widths = browser.run(
        '[...document.querySelectorAll(".chart svg")].map((svg) => svg.getBoundingClientRect().right)'
    )
    assert max(widths) <= width


def test_tables_fit_a_phone_and_name_their_values(browser, pages):
    tables = """[...document.querySelectorAll(".scroll")]
      .filter((place) => place.scrollWidth > place.clientWidth).map((place) => place.innerText)"""
    for width in (390, 800, 1180):
        browser.look(width)
        browser.open(pages("resnet"))
        wide = browser.run(tables)
        assert len(wide) == (0 if width == 390 else 1)  # with room for all its columns, that of all layers
        assert all("Effective rank" in text for text in wide)
    browser.look(390)
    browser.open(pages("deep"))
    assert len(browser.run(tables)) <= 1
    unnamed = """[...document.querySelectorAll(".stacked")].flatMap((table) => {
      const titles = [...table.querySelectorAll("thead th")].slice(1).map((title) => title.textContent);
      return [...table.querySelectorAll("tbody tr")].map((row) =>
        [...row.querySelectorAll("td")].map((cell) => cell.dataset.label).join() === titles.join());
    })"""
    named = browser.run(unnamed)
    assert len(named) == 4 + 5 + 5
    assert all(named)


def test_script_errors_are_seen(browser, pages, tmp_path):
    broken = pages("mlp").read_text().replace('"type":"line"', '"type":"no such mark"')
    (tmp_path / "broken.html").write_text(broken)
    browser.look()
    browser.open(tmp_path / "broken.html")
    assert errors(browser)
    assert "could not be drawn" in browser.run('document.getElementById("errors").textContent')


def test_click_in_a_legend_switches_a_set_off_in_every_figure_and_on_again(browser, pages):
    browser.look()
    browser.open(pages("mlp"))
    assert set(browser.run(SHOWN).values()) == {"digits,more"}
    marks = browser.run(MARKS)
    legend = 'document.querySelectorAll("[data-figure=effective_rank] .role-legend-label text")[1]'
    for expected in ("digits", "digits,more", "digits"):
        browser.click(*place_of(browser, legend))
        browser.wait(f'Object.values({SHOWN}).every((shown) => shown === "{expected}")')
    assert browser.run(MARKS)["twonn"] < marks["twonn"]
    browser.look(scheme="dark")  # drawn anew, with the set still off
    texts = '[...document.querySelectorAll(".chart svg text")]'
    browser.wait(f"{texts}.every((text) => text.getAttribute('fill') !== '{TOKENS['light'].ink}')")
    assert set(browser.run(SHOWN).values()) == {"digits"}
    assert errors(browser) == []


def test_the_untrained_lines_go_and_come_with_their_set(browser, pages):
    dashed = """Object.fromEntries([...document.querySelectorAll(".chart")].map((place) =>
      [place.dataset.figure, place.querySelectorAll(".mark-line path[stroke-dasharray='5,4']").length]))"""
    browser.look()
    browser.open(pages("control"))
    every = browser.run(dashed)
    assert every.pop("cka") == 0
    assert set(every.values()) == {2}
    legend = 'document.querySelectorAll("[data-figure=effective_rank] .role-legend-label text")[1]'
    browser.click(*place_of(browser, legend))
    browser.wait(f'{dashed}["accuracy"] === 1 && {dashed}["effective_rank"] === 1')
    assert "measured against it" in browser.run("document.body.innerText").replace("\n", " ")
    assert errors(browser) == []


def test_hover_shows_layer_index_accuracy_and_interval(browser, pages):
    table, _ = CASES["hostile"]()
    row = table[(table["quantity"] == "probe_accuracy") & (table["dataset"] == "<!-- <b>")].iloc[1]
    browser.look()
    browser.open(pages("hostile"))
    points = 'document.querySelectorAll("[data-figure=accuracy] .mark-symbol.role-mark path")'
    browser.move(*place_of(browser, f"[...{points}][1]"))
    tooltip = 'document.querySelector("#vg-tooltip-element.visible")'
    browser.wait(tooltip)
    words = browser.run(f"{tooltip}.innerText")
    assert row["layer"] == HOSTILE
    for expected in (
        HOSTILE,
        "<!-- <b>",
        f"{row['value']:.1%}",
        f"{row['low']:.1%} – {row['high']:.1%}",
    ):
        assert expected in words
    assert browser.run(f'{tooltip}.querySelectorAll("img, script").length') == 0


def test_csv_of_a_figure_holds_the_numbers_of_the_table(browser, pages):
    table, _ = CASES["deep"]()
    browser.look()
    browser.open(pages("deep"))
    accuracy = list(csv.DictReader(io.StringIO(browser.run('tunnelscope.csv("accuracy")'))))
    planted = table[table["quantity"] == "probe_accuracy"].set_index(["dataset", "layer"])
    assert len(accuracy) == len(planted) == 5 * 51
    for row in accuracy:
        expected = planted.loc[(row["dataset"], row["layer"])]
        read = [float(row[name]) for name in ("accuracy", "low", "high")]
        assert read == pytest.approx(expected[["value", "low", "high"]].tolist(), abs=1e-6)
    cka = list(csv.DictReader(io.StringIO(browser.run('tunnelscope.csv("cka")'))))
    assert len(cka) == 5 * 51 * 50 / 2
    assert (cka[1]["layer"], cka[1]["layer_b"]) == (f"{LONG}.0", f"{LONG}.1")
    layers = list(csv.DictReader(io.StringIO(browser.run('tunnelscope.tableCsv("layers")'))))
    assert layers[49]["name"] == f"{LONG}.49"


def test_csv_quotes_what_needs_it(browser, pages):
    browser.look()
    browser.open(pages("hostile"))
    rows = list(csv.DictReader(io.StringIO(browser.run('tunnelscope.csv("numerical_rank")'))))
    assert {row["layer"] for row in rows} == {HOSTILE, "a & b", "`${1}`"}
    assert {row["threshold"] for row in rows} == {"0.001", "0.01", "0.0001"}
    assert set(rows[0]) == {"dataset", "role", "layer", "layer_index", "numerical_rank", "threshold"}


def test_saved_svg_is_light_even_from_a_dark_page(browser, pages):
    browser.look(390, scheme="dark")
    browser.open(pages("resnet"))
    svg = browser.run('tunnelscope.fileView("accuracy").then((view) => view.toSVG())')
    assert svg.startswith("<svg")
    assert TOKENS["light"].sets[0] in svg
    assert TOKENS["dark"].sets[0] not in svg
    assert f'fill="{TOKENS["light"].paper}"' in svg


def test_buttons_save_files(browser, pages):
    browser.look()
    browser.open(pages("mlp"))
    browser.run(
        "window.saved = []; void (HTMLAnchorElement.prototype.click = function () { saved.push(this); })"
    )
    for kind in ("svg", "png", "csv"):
        browser.click(*place_of(browser, f"document.querySelector('[data-save={kind}][data-figure=cka]')"))
    browser.click(*place_of(browser, "document.querySelector('[data-table=layers]')"))
    browser.wait("window.saved.length === 4")
    names = ["resnet56-cka.csv", "resnet56-cka.png", "resnet56-cka.svg", "resnet56-layers.csv"]
    assert browser.run("saved.map((link) => link.download).sort()") == names
    assert errors(browser) == []


def test_choosers_change_what_is_drawn(browser, pages):
    browser.look()
    browser.open(pages("mlp"))
    for figure, choice in [("numerical_rank", "0.0001"), ("cka", "more")]:
        before = browser.run(f"document.querySelector('[data-figure={figure}] svg').outerHTML")
        select = f"document.querySelector('[data-figure={figure}] select')"
        browser.run(
            f"{select}.value = '{choice}'; {select}.dispatchEvent(new Event('change', {{bubbles: true}}))"
        )
        browser.wait(f"tunnelscope.drawn.{figure}.choice === '{choice}'")
        if figure == "numerical_rank":  # the synthetic matrices of all sets are alike
            browser.wait(
                f"document.querySelector('[data-figure={figure}] svg').outerHTML !== {json.dumps(before)}"
            )
    browser.look(scheme="dark")
    browser.wait("getComputedStyle(document.body).color === 'rgb(238, 236, 230)'")
    browser.wait("tunnelscope.drawn.numerical_rank.view.signal('choice') === '0.0001'")
    browser.look(900, scheme="dark")
    assert errors(browser) == []
