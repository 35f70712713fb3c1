import json
import re
import xml.etree.ElementTree as ElementTree

import pytest
from synthetic_results import synthetic_results

from tunnelscope import report
from tunnelscope.report.accuracy import accuracy_chart, accuracy_domain
from tunnelscope.report.charts import log_axis
from tunnelscope.report.figures import build_figures
from tunnelscope.report.specs import figure_svg, file_names, spec_of
from tunnelscope.report.theme import TOKENS, set_colours, set_shapes
from tunnelscope.report.tidy import accuracies, shared_frame

SVG = "{http://www.w3.org/2000/svg}"


def drawn(table, run, key="accuracy", choice=None):
    """One figure's SVG as a tree."""
    figure = next(figure for figure in build_figures(table, run) if figure.key == key)
    return ElementTree.fromstring(figure_svg(figure, shared_frame(table, run), choice))


def texts(tree):
    return [element.text for element in tree.iter(f"{SVG}text")]


def test_every_figure_is_written_as_svg_and_pdf(tmp_path):
    paths = report.write_figures(*synthetic_results(["a", "b", "c"]), tmp_path / "figures")
    names = [path.name for path in paths]
    measures = ["effective_rank", "within_variance", "between_variance", "nc1", "twonn"]
    figures = ["accuracy", "numerical_rank", *measures, "cka-cifar10", "cka-cifar100", "cka-gtsrb"]
    assert names == [f"{figure}.{suffix}" for figure in figures for suffix in ("svg", "pdf")]
    assert sorted(names) == sorted(path.name for path in (tmp_path / "figures").iterdir())
    for path in paths:
        assert path.read_bytes().startswith(b"<svg" if path.suffix == ".svg" else b"%PDF")


def test_accuracy_figure_shows_sets_layers_tunnel_and_network():
    tree = drawn(*synthetic_results())
    network = "the network itself 93.4%"
    for word in ("cifar10", "cifar100", "gtsrb", "pixels", "tunnel: 14 of 28", network, "100%"):
        assert word in texts(tree)
    light = TOKENS["light"]
    strokes = {element.get("stroke") for element in tree.iter(f"{SVG}path")}
    assert {light.ink, light.sets[0], light.sets[1]} <= strokes
    assert light.tunnel in {element.get("fill") for element in tree.iter(f"{SVG}path")}


def test_each_cka_matrix_shows_its_own_set():
    table, run = synthetic_results(["a", "b"], id_set=None, ood_sets=("x", "y"))
    off_diagonal = (table["quantity"] == "cka") & (table["layer"] != table["layer_b"])
    table.loc[off_diagonal & (table["dataset"] == "y"), "value"] = 0.0
    unrelated = "rgb(244, 246, 248)"  # CKA 0: once in the legend's gradient, once a cell
    counts = [
        ElementTree.tostring(drawn(table, run, "cka", key)).count(unrelated.encode()) for key in ("x", "y")
    ]
    assert counts == [1, 3]


def test_sets_whose_names_make_one_file_name_keep_a_file_each():
    figures = build_figures(*synthetic_results(["a", "b"], id_set=None, ood_sets=("org/x", "org x", "ÄÖ")))
    names = [name for (key, _), name in file_names(figures).items() if key == "cka"]
    assert names == ["cka-org-x", "cka-org-x-2", "cka"]


@pytest.mark.parametrize(
    ("count", "shown"), [(12, ["pixels", "layer.1", "layer.12"]), (50, ["pixels", "10", "50"])]
)
def test_axis_has_names_for_few_layers_and_numbers_for_many(count, shown):
    results = synthetic_results([f"layer.{i}" for i in range(1, count + 1)], ood_sets=())
    words = texts(drawn(*results))
    assert set(shown) <= set(words)
    assert ("layer.3" in words) == (count == 12)


def test_single_layer_gives_whiskers_and_no_matrix():
    table, run = synthetic_results(["fc"])
    figures = {figure.key: figure for figure in build_figures(table, run)}
    assert "cka" not in figures
    marks = [layer["mark"] for layer in spec_of(figures["accuracy"].chart)["layer"]]
    assert "area" not in [mark["type"] for mark in marks]
    assert "No tunnel is shaded" in figures["accuracy"].notes[0]


@pytest.mark.parametrize("key", ["accuracy", "nc1", "cka"])
def test_names_with_markup_are_drawn_as_words(key):
    tree = drawn(*synthetic_results(["<script>alert(1)</script>", "a & b"], ood_sets=("<img src=x>",)), key)
    tags = "svg g path text rect line defs clipPath linearGradient stop".split()  # noqa: SIM905
    assert {element.tag for element in tree.iter()} <= {SVG + tag for tag in tags}
    assert "a & b" in texts(tree)


@pytest.mark.parametrize("names", [["a", "b"], [f"layer.{i}" for i in range(20)]])
def test_charts_are_valid_vega_lite(names):
    figures = build_figures(*synthetic_results(names))
    assert len(figures) == 8
    for figure in figures:
        figure.chart.to_dict(validate=True)


def test_charts_have_no_colours_of_their_own():
    for figure in build_figures(*synthetic_results(["a", "b"])):
        spec = spec_of(figure.chart)
        spec.pop("datasets")
        assert not re.search(r"#[0-9a-f]{3,6}|rgb", json.dumps(spec))


def test_accuracy_axis_is_in_percent_and_starts_at_zero_unless_all_is_high():
    table, run = synthetic_results()
    frame = shared_frame(table, run)
    rows = accuracies(table, run, frame)
    layers = spec_of(accuracy_chart(rows, frame))["layer"]
    line = next(layer for layer in layers if layer["mark"]["type"] == "line")
    assert line["encoding"]["y"]["axis"]["format"] == "%"
    assert accuracy_domain(rows, None)[0] == 0
    high = rows.assign(accuracy=0.97, low=0.93, high=0.99)
    assert accuracy_domain(high, None) == [0.9, 1.0]
    assert accuracy_domain(high, 0.72) == [0.7, 1.0]
    assert accuracy_domain(rows.iloc[:0], None) == [0.0, 1.0]


@pytest.mark.parametrize("values", [[1.0], [3.0, 3.1], [0.2, 4.0], [1.0, 900.0], [1e-5, 1e4]])
def test_log_axis_has_ticks_within_the_values(values):
    axis = log_axis(values, "rank").to_dict()
    low, high = axis["scale"]["domain"]
    assert low < min(values) <= max(values) < high
    assert len(axis["axis"]["values"]) >= 1
    assert all(low <= tick <= high for tick in axis["axis"]["values"])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_lines_and_words_stand_out_from_the_paper(scheme):
    tokens = TOKENS[scheme]
    for words in (tokens.ink, tokens.muted, tokens.tunnel_ink):
        assert contrast(words, tokens.paper) >= 4.5
    assert contrast(tokens.warn_ink, tokens.warn) >= 4.5
    for line in tokens.sets:
        assert contrast(line, tokens.paper) >= 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_sets_differ_in_colour_or_shape_and_the_id_set_is_ink(scheme):
    pairs = list(zip(set_colours(scheme, 20, True), set_shapes(20, True), strict=True))
    assert pairs[0] == (TOKENS[scheme].ink, "circle")
    assert len(set(pairs)) == 20
    assert TOKENS[scheme].ink not in set_colours(scheme, 5, False)


def contrast(one, other):
    """WCAG 2 contrast of two colours."""
    light, dark = sorted(map(luminance, (one, other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour):
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
