import json
import re
from html.parser import HTMLParser

import pytest
from synthetic_results import synthetic_results

from tunnelscope import report
from tunnelscope.errors import RequestError
from tunnelscope.report.facts import key_figures, ood_rows
from tunnelscope.report.page import packed, render_page, script_json, script_safe
from tunnelscope.report.tidy import shared_frame

HOSTILE = "</script><script>alert(1)</script>"


class Words(HTMLParser):
    """What a reader sees of a page, and the tags it is made of."""

    def __init__(self, page):
        super().__init__()
        self.words, self.tags, self.inside = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside.append(tag)

    def handle_endtag(self, tag):
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data):
        if not {"script", "style"} & set(self.inside):
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def plain_page():
    """run.json and page of a plain scan with one warning."""
    table, run = synthetic_results(warnings=("cifar100 shares 12 test images with cifar10.",))
    return run, render_page(table, run)


def payload_of(page):
    return json.loads(re.search(r'id="payload">(.*?)</script>', page, re.S).group(1))


def test_fifty_layers_times_five_sets_stay_under_three_megabytes(tmp_path):
    names = [f"model.encoder.blocks.a_rather_long_module_name.{i}" for i in range(50)]
    results = synthetic_results(
        names, ood_sets=("a_long_name_1", "a_long_name_2", "a_long_name_3", "a_long_name_4")
    )
    report.write_report(*results, tmp_path / "deep" / "report.html")
    assert (tmp_path / "deep" / "report.html").stat().st_size < 3e6
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["report.html"]


def test_page_holds_its_parts_in_order(plain_page):
    run, page = plain_page
    text = Words(page).text
    parts = [
        run["verdict"],
        "One warning cifar100 shares 12 test images",
        "The tunnel starts after layer2.3",
        "What the last layer keeps on other data",
        "Which layer to take",
        'x = features["',
        "Accuracy by depth",
        "Numerical rank",
        "Effective rank",
        "Variance within classes",
        "Variance between classes",
        "Neural collapse",
        "Intrinsic dimension",
        "Similarity of layers",
        "All layers",
        "What was run",
        "tunnelscope scan zoo:cifar_resnet56",
    ]
    places = [text.find(part) for part in parts]
    assert -1 not in places
    assert places == sorted(places)


def test_key_figures_and_readings_are_those_of_run():
    table, run = synthetic_results()
    run["tunnel"]["ood"]["gtsrb"] |= {"retained": {"value": 0.5, "low": 0.45, "high": 0.55}, "band": "strong"}
    run["tunnel"]["ood"]["gtsrb"] |= {"retained_matched": {"value": 0.53, "low": 0.5, "high": 0.57}}
    run["best_layer"]["gtsrb"] |= {"layer": "layer1.3", "accuracy": 0.123, "low": 0.1, "high": 0.15}
    run["model"] |= {"parameters": 1000, "flops": 2000}
    run["best_layer"]["gtsrb"] |= {"parameters_saved": 870, "flops_saved": 1300, "milliseconds_saved": 1.94}
    text = Words(render_page(table, run)).text
    assert "14 of 28" in text
    assert "gtsrb 50 % 45–55 % 53 % 50–57 % strong 0.42 0.32 to 0.52" in text
    assert "gtsrb OOD layer1.3 layer 5 12.3 % 10.0–15.0 % 87 % 65 % 1.9 ms" in text


@pytest.mark.parametrize(
    ("retained", "told"),
    [
        ({"value": 0.9, "low": 0.85, "high": 0.95}, "layer1.3"),
        ({"value": 0.99, "low": 0.96, "high": 1.0}, "no sure fall"),
        ({"value": 1.01, "low": 0.98, "high": 1.04}, "no sure fall"),
        ({"value": None, "low": None, "high": None}, "–"),
    ],
)
def test_a_fall_on_ood_data_is_told_only_where_r_is_surely_below_one(retained, told):
    _, run = synthetic_results()
    is_sure = retained["high"] is not None and retained["high"] < 1
    run["tunnel"]["ood"]["gtsrb"] |= {"retained": retained, "start": "layer1.3", "is_beyond_noise": is_sure}
    assert next(row for row in ood_rows(run) if row["key"] == "gtsrb")["falls_after"] == told


def test_the_band_is_doubted_where_the_fall_is_within_its_interval():
    _, run = synthetic_results()
    reading = run["tunnel"]["ood"]["gtsrb"]
    for band, is_sure, told in [
        ("weak", True, "weak"),
        ("weak", False, "weak, not sure"),
        ("negligible", False, "negligible"),
    ]:
        reading |= {"band": band, "is_beyond_noise": is_sure}
        assert next(row for row in ood_rows(run) if row["key"] == "gtsrb")["band"] == told


@pytest.mark.parametrize(
    ("sure", "value", "detail"),
    [
        ((True, True), "strong", "beyond the sampling error on 2 of 2"),
        ((True, False), "strong", "beyond the sampling error on 1 of 2"),
        ((False, False), "no sure tunnel", "within the sampling error"),
    ],
)
def test_the_strength_is_claimed_only_beyond_the_noise(sure, value, detail):
    table, run = synthetic_results()
    for entry, is_sure in zip(run["tunnel"]["ood"].values(), sure, strict=True):
        entry["is_beyond_noise"] = is_sure
    strength = key_figures(run, shared_frame(table, run))[2]
    assert strength.value == value
    assert strength.detail.endswith(detail)


def test_page_reaches_for_no_network(plain_page):
    _, page = plain_page
    for _, attrs in Words(page).tags:
        assert not {"src", "href", "srcset", "action"} & set(attrs)
    assert "default-src 'none'" in page
    assert "url(" not in page.split("<script", 1)[0]


def test_vega_is_embedded_once(plain_page):
    _, page = plain_page
    assert page.count("vega.github.io/schema/vega/v") == 1


def test_names_with_markup_stay_words():
    results = synthetic_results(
        [HOSTILE, "<!-- <script>", '"><img src=x>', "{{ 7*7 }}"], id_set="<b>id</b>", ood_sets=(HOSTILE,),
        run="<i>run</i>", warnings=("<u>warning</u>",),
    )  # fmt: skip
    page = render_page(*results)
    shown = Words(page)
    assert [tag for tag, _ in shown.tags if tag == "script"] == ["script"] * 3
    assert not {"img", "b", "i", "u"} & {tag for tag, _ in shown.tags}
    for name in (HOSTILE, '"><img src=x>', "{{ 7*7 }}", "<b>id</b>", "<i>run</i>", "<u>warning</u>"):
        assert " ".join(name.split()) in shown.text
    params = payload_of(page)["figures"]["accuracy"]["spec"]["params"]
    names = next(param for param in params if param["name"] == "names")
    assert names["value"] == ["pixels", HOSTILE, "<!-- <script>", '"><img src=x>', "{{ 7*7 }}"]


def test_scan_without_id_set_says_why_there_is_no_tunnel():
    table, run = synthetic_results(id_set=None, ood_sets=("caltech101",))
    page = render_page(table, run)
    text = Words(page).text
    assert "The tunnel starts after not known no ID set was given" in text
    assert "No tunnel is shaded: no ID set was given" in text
    styles = json.dumps(payload_of(page)["figures"]["accuracy"]["spec"])
    assert '"tunnel"' not in styles
    assert '"network"' not in styles


@pytest.mark.parametrize("quantity", ["probe_accuracy", "numerical_rank", "nc1", "twonn", "cka"])
def test_quantity_that_was_not_measured_gives_no_figure(quantity):
    table, run = synthetic_results(["a", "b"])
    page = render_page(table[~table["quantity"].str.startswith(quantity)], run)
    figure = {"probe_accuracy": "accuracy"}.get(quantity, quantity)
    assert figure not in payload_of(page)["figures"]
    assert len(payload_of(page)["figures"]) == 7


def test_page_is_made_from_nulls():
    table, run = synthetic_results(["a", "b"])
    nothing = dict.fromkeys(run["best_layer"]["gtsrb"])
    run["best_layer"] = {"gtsrb": nothing | {"layer": "a"}, "cifar100": None}
    run["tunnel"]["ood"] = {"gtsrb": dict.fromkeys(run["tunnel"]["ood"]["gtsrb"]), "cifar100": {}}
    for key in run["layers"][0]:
        if key not in ("name", "index"):
            run["layers"][0][key] = None
    for key in ("network_accuracy", "verdict", "timings", "versions", "hardware", "fingerprints", "command"):
        run[key] = None
    table.loc[table["quantity"] == "nc1", "value"] = None
    table.loc[table["quantity"] == "probe_accuracy", ["low", "high"]] = None
    page = render_page(table, run)
    assert "None" not in Words(page).text.replace("Warnings None.", "")
    assert "NaN" not in page.split('id="payload">', 1)[1].split("</script>", 1)[0]


def test_table_and_object_alone_are_enough():
    table, _ = synthetic_results(["a", "b"])
    assert "Accuracy by depth" in Words(render_page(table, {"run": "bare"})).text


def test_values_of_no_logarithm_are_told():
    table, run = synthetic_results(["a", "b"])
    table.loc[(table["quantity"] == "within_variance") & (table["layer"] == "a"), "value"] = 0.0
    assert "3 values of 0 or less do not appear" in Words(render_page(table, run)).text


def test_table_of_layers_keeps_numbers_for_the_csv():
    table, run = synthetic_results(["a", "b"])
    layers = payload_of(render_page(table, run))["tables"]["layers"]
    row = dict(zip(layers["columns"], layers["rows"][1], strict=True))
    planted = table[(table["quantity"] == "probe_accuracy") & (table["layer"] == "b")]
    assert row["accuracy_gtsrb"] == planted.loc[planted["dataset"] == "gtsrb", "value"].item()
    assert (row["name"], row["shape"], row["flops"]) == ("b", "16 × 32 × 32", 18_000_000)
    assert "nc2" not in layers["columns"]  # no layer has a value


def test_path_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match=r"cannot write .*report\.html: Not a directory|File exists"):
        report.write_report(*synthetic_results(["a"]), tmp_path / "file" / "report.html")


def test_packed_rows_unpack_to_the_same_rows():
    rows = [{"name": name, "value": value, "best": best} for name, value, best in
            [("a", 1.5, True), ("b", None, False), ("a", 2, True), (None, 0.25, False)]]  # fmt: skip
    columns = packed(rows)
    names = [columns["name"]["values"][place] for place in columns["name"]["places"]]
    assert names == ["a", "b", "a", None]
    assert columns["value"] == [1.5, None, 2, 0.25]
    assert columns["best"] == [True, False, True, False]
    assert packed([]) == {}


def test_json_in_a_script_cannot_end_it():
    text = script_json({"name": "</script><!-- & \u2028"})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"name": "</script><!-- & \u2028"}
    assert script_safe("a = '</script>' + '<!--'") == "a = '<\\/script>' + '<\\!--'"
