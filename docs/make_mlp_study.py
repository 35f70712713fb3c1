"""Write the tutorial on a study of 27 MLPs from the study's folder; no number is typed.

    python docs/make_mlp_study.py runs/cifar10-mlps

The folder is what `tunnelscope study run studies/cifar10-mlps.toml` made. The plan is made anew where the
study was run, and so are the effects (minutes). What the page needs is kept in `docs/mlp-study.json`; without
a folder the page and its picture are written from that alone. `tests/test_docs.py` checks that the page is
what this script writes.
"""

import json
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd

import tunnelscope as ts
from tunnelscope.checkpoints import read_settings
from tunnelscope.report.theme import TOKENS, vega_config
from tunnelscope.studies.collect import opened
from tunnelscope.studies.declaration import SHIPPED, read_declaration
from tunnelscope.studies.plan import duration, make_plan
from tunnelscope.variables.pairs import holm

DOCS = Path(__file__).resolve().parent
KEPT, PAGE, PICTURE = (
    DOCS / "mlp-study.json",
    DOCS / "tutorials" / "mlp-study.md",
    DOCS / "images" / "mlp-study.svg",
)
STUDY = SHIPPED / "cifar10-mlps.toml"
READINGS = {"retained_paper": "r", "pearson": "rho", "alignment": "A"}
NAMES = {"r": "r", "rho": "ρ", "A": "A"}
VARIABLES = ("depth", "width")  # γ follows from both
DIGITS = 4


def keep(folder: Path) -> dict[str, Any]:
    """What the page shows of the study."""
    about, statuses = opened(folder)
    told = json.loads((folder / "study.json").read_text())
    first = told["networks"][0]
    [scan] = first["scans"].values()
    run = json.loads((folder / scan / "run.json").read_text())
    settings = read_settings(folder / first["training"])["settings"]
    frame = pd.read_parquet(folder / "results.parquet")
    frame = frame.merge(pd.read_parquet(folder / "variables.parquet"), on="run")
    return {
        "plan": planned(about["directory"]),
        "spent": {
            kind: round(sum(one.seconds for one in statuses if one.unit.kind == kind), 1)
            for kind in ("train", "scan")
        },
        "workers": len({one.owner for one in statuses}),
        "hardware": run["hardware"],
        "epochs": settings["recipe"]["epochs"],
        "train_images": settings["train_rows"],
        "data": [
            {key: one[key] for key in ("key", "role", "n_train", "n_test", "classes")} for one in run["data"]
        ],
        "networks": networks_of(frame),
        "curves": curves_of(frame),
        "effects": effects_of(folder),
    }


def planned(place: str) -> dict[str, Any]:
    """What `study plan` says where the study was run."""
    started = time.monotonic()
    with chdir(place):
        plan = make_plan(read_declaration(STUDY), None, {"here": 1}).as_dict()
    kept = {name: plan[name] for name in ("networks", "layers", "probes", "curves", "memory", "disk")}
    for kind in ("train", "scan"):
        kept[kind] = round(sum(cell[f"{kind}_seconds"] for cell in plan["cells"]), 1)
    return kept | {"took": round(time.monotonic() - started, 1)}


def networks_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A row a network: its accuracy, and on each OOD set its readings, its last and its best layer."""
    rows = []
    for run, own in frame.groupby("run", sort=False):
        whole = own[own["layer"].isna()].set_index(["dataset", "quantity"])["value"]
        probes = own[(own["quantity"] == "probe_accuracy") & (own["layer_index"] > 0)]
        row: dict[str, Any] = {name: int(own[name].iloc[0]) for name in VARIABLES}
        row["seed"] = int(str(run).rpartition("=")[2])
        row["accuracy"] = round(float(whole.xs("network_accuracy", level="quantity").iloc[0]), DIGITS)
        for name, one in probes[probes["role"] == "ood"].groupby("dataset", sort=False):
            values = one.sort_values("layer_index")["value"]
            row[name] = {short: round(float(whole[name, long]), DIGITS) for long, short in READINGS.items()}
            row[name] |= {
                "last": round(float(values.iloc[-1]), DIGITS),
                "best": round(float(values.max()), DIGITS),
            }
        rows.append(row)
    return rows


def curves_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Accuracy of every layer on every set, a mean over seeds, by depth and width."""
    rows = frame[(frame["quantity"] == "probe_accuracy") & (frame["layer_index"] > 0)]
    means = rows.groupby(["dataset", *VARIABLES, "layer_index"], sort=False)["value"].mean().reset_index()
    return [
        {"dataset": dataset, "depth": int(depth), "width": int(width)}
        | {"accuracy": [round(value, DIGITS) for value in own.sort_values("layer_index")["value"]]}
        for (dataset, depth, width), own in means.groupby(["dataset", *VARIABLES], sort=False)
    ]


def effects_of(folder: Path) -> dict[str, Any]:
    """Slopes with intervals, and pairs; p of networks corrected as p of rows, over the pairs of a target."""
    started = time.monotonic()
    found = ts.effects(folder).as_dict()
    for target in READINGS.values():
        family = [pair for pair in found["pairs"] if pair["target"] == target]
        for pair, p in zip(family, holm([pair["p_network"] for pair in family]), strict=True):
            pair["p_network_corrected"] = p
    names = ("slopes", "intervals", "r2", "r2_grouped", "warnings")
    columns = (
        "variable",
        "levels",
        "target",
        "n",
        "networks",
        "p_corrected",
        "p_network",
        "p_network_corrected",
    )
    pairs = [
        {name: pair[name] for name in columns} | {"means": [mean["value"] for mean in pair["means_network"]]}
        for pair in found["pairs"]
    ]
    return {name: found[name] for name in names} | {"pairs": pairs, "took": round(time.monotonic() - started)}


def page(kept: Mapping[str, Any]) -> str:
    """The tutorial."""
    effects = kept["effects"]
    parts = [
        "# 27 MLPs: what depth and width do",
        paragraph(
            "Three depths, three widths and three seeds each, trained on CIFAR-10 and read on CIFAR-100 and",
            "traffic signs: a [study](../studies.md) that is shipped as `studies/cifar10-mlps.toml`. This",
            "page is written from the study's folder by `docs/make_mlp_study.py`.",
        ),
        "```sh\ntunnelscope study plan studies/cifar10-mlps.toml\n"
        "tunnelscope study run studies/cifar10-mlps.toml --workers 1\n"
        "tunnelscope effects runs/cifar10-mlps --out runs/effects\n```",
        costs(kept),
        data(kept),
        "![Accuracy by relative depth, a line a depth and width](../images/mlp-study.svg)",
        "Accuracy of probes, means over seeds; each set has an axis of its own.",
        "## r, ρ and A",
        paragraph(
            "Means of three seeds, in brackets the lowest and the highest. Accuracies in percent: the",
            "network's own on CIFAR-10, then those of probes at its last and at its best layer.",
        ),
        *(f"On {one['key']}:\n\n{readings(kept, one['key'])}" for one in others(kept)),
        "## Which variable it is",
        paragraph(
            "How far each target moves over a variable's whole range, with 95 % intervals over the",
            f"{len(kept['networks'])} networks (seeds included): slopes as in",
            "[Which variables matter](../effects.md).",
        ),
        slopes(effects),
        paragraph(
            "Networks matched in the other variable, means over seeds and OOD sets; p is Wilcoxon's,",
            "corrected after Holm over the pairs of a target:",
        ),
        pairs(effects),
        "What is warned of:\n\n" + "\n".join(f"- {warning}" for warning in effects["warnings"]),
        "## What was found, and what not",
        "\n".join(f"- {indented(line)}" for line in found(kept)),
    ]
    return "\n\n".join(parts) + "\n"


def paragraph(*lines: str) -> str:
    """Text in lines of a page's length."""
    return textwrap.fill(" ".join(lines), 124, break_long_words=False, break_on_hyphens=False)


def indented(text: str) -> str:
    """Text whose further lines belong to the point of a list."""
    return text.replace("\n", "\n  ")


def costs(kept: Mapping[str, Any]) -> str:
    """What each command took, beside what the plan said."""
    plan, spent, hardware = kept["plan"], kept["spent"], kept["hardware"]
    assert (kept["workers"], hardware["threads"], plan["networks"]) == (1, 1, len(kept["networks"]))
    size = f"{plan['memory'] / 1e6:.0f} MB of memory, {plan['disk'] / 1e6:.0f} MB of disk"
    counts = ", ".join(f"{plan[name]} {name}" for name in ("networks", "layers", "probes", "curves"))
    rows = ["| command | took | planned |", "|:--|--:|:--|", f"| `plan` | {duration(plan['took'])} | |"]
    for kind, name in (("train", "trainings"), ("scan", "scans")):
        rows.append(f"| `run`: {name} | {duration(spent[kind])} | {duration(plan[kind])} |")
    rows.append(f"| `effects` | {duration(kept['effects']['took'])} | |")
    line = paragraph(
        f"The plan says {counts}; {size}. One worker of one thread did all of it, on a machine of",
        f"{hardware['cores']} cores ({hardware['cpu']}) that were busy with other work too. A plan times the",
        "machine as it is at that moment; this one was made later, on the same machine, beside other work.",
    )
    return f"{line}\n\n" + "\n".join(rows)


def data(kept: Mapping[str, Any]) -> str:
    """What was trained on and read."""
    sets = "; ".join(
        f"{one['key']}: {one['n_train']:,} and {one['n_test']:,} images of {one['classes']} classes"
        for one in kept["data"]
    )
    return paragraph(
        f"Trained for {kept['epochs']} epochs on the {kept['train_images']:,} images of CIFAR-10 at hand (of",
        f"50,000), without augmentation. Images that probes were fitted and tested on: {sets}.",
    )


def others(kept: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [one for one in kept["data"] if one["role"] == "ood"]


def groups(kept: Mapping[str, Any]) -> dict[tuple[int, int], list[Mapping[str, Any]]]:
    """The seeds of each depth and width."""
    told: dict[tuple[int, int], list[Mapping[str, Any]]] = {}
    for one in kept["networks"]:
        told.setdefault((one["depth"], one["width"]), []).append(one)
    return dict(sorted(told.items()))


def readings(kept: Mapping[str, Any], ood: str) -> str:
    """A row a depth and width."""
    rows = [
        "| depth | width | network, cifar10 | r | ρ | A | last layer | best layer |",
        "|--:|--:|" + "--:|" * 6,
    ]
    for (depth, width), own in groups(kept).items():
        cells = [str(depth), str(width), spread([100 * one["accuracy"] for one in own], 1)]
        cells += [
            spread([one[ood][name] for one in own], digits)
            for name, digits in (("r", 2), ("rho", 2), ("A", 3))
        ]
        cells += [spread([100 * one[ood][name] for one in own], 1) for name in ("last", "best")]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def spread(values: Sequence[float], digits: int) -> str:
    """A mean with the lowest and the highest."""
    mean, low, high = (
        f"{value:.{digits}f}" for value in (sum(values) / len(values), min(values), max(values))
    )
    return f"{mean} [{low}, {high}]"


def slopes(effects: Mapping[str, Any]) -> str:
    """A row a variable."""
    rows = ["| | r | ρ | A |", "|:--|--:|--:|--:|"]
    for variable in effects["slopes"]["r"]:
        rows.append(
            "| " + " | ".join([variable, *(slope(effects, target, variable) for target in NAMES)]) + " |"
        )
    for name, values in (
        ("R² in sample", effects["r2"]),
        (
            "R² of networks left out",
            {target: one["network"] for target, one in effects["r2_grouped"].items()},
        ),
    ):
        rows.append("| " + " | ".join([name, *(f"{values[target]:.2f}" for target in NAMES)]) + " |")
    return "\n".join(rows)


def slope(effects: Mapping[str, Any], target: str, variable: str) -> str:
    low, high = effects["intervals"][target][variable]
    return f"{effects['slopes'][target][variable]:+.3f} [{low:+.3f}, {high:+.3f}]"


def pairs(effects: Mapping[str, Any]) -> str:
    """A row a pair of levels and target."""
    rows = [
        "| variable | levels | | means | networks | p of rows, corrected | p of networks | corrected |",
        "|:--|:--|:--|--:|--:|--:|--:|--:|",
    ]
    for pair in effects["pairs"]:
        cells = [
            *(pair["variable"], " → ".join(pair["levels"]), NAMES[pair["target"]]),
            " → ".join(f"{mean:.3f}" for mean in pair["means"]),
            *(str(pair["networks"]), f"{pair['p_corrected']:.3f}"),
            *(f"{pair['p_network']:.3f}", f"{pair['p_network_corrected']:.3f}"),
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def found(kept: Mapping[str, Any]) -> list[str]:
    """What follows; each claim is asked of the numbers before it is written."""
    effects = kept["effects"]
    intervals, told = effects["intervals"], groups(kept)
    depths, widths = (sorted({key[place] for key in told}) for place in (0, 1))
    assert intervals["r"]["depth"][1] < 0 < intervals["rho"]["depth"][0]
    assert intervals["A"]["depth"][1] < 0 < intervals["A"]["width"][0]
    for target in ("r", "rho"):
        assert intervals[target]["width"][0] < 0 < intervals[target]["width"][1]
    assert effects["r2_grouped"]["rho"]["network"] < 0

    def mean_r(depth: int) -> float:
        values = [
            one[ood["key"]]["r"] for one in kept["networks"] for ood in others(kept) if one["depth"] == depth
        ]
        return sum(values) / len(values)

    least = min(pair["p_network"] for pair in effects["pairs"])
    count = max(pair["networks"] for pair in effects["pairs"])
    assert least == 2 / 2**count  # the least that Wilcoxon's test can give
    assert min(pair["p_corrected"] for pair in effects["pairs"]) > 0.05
    for ood in others(kept):
        for depth in depths:
            best = [sum(one[ood["key"]]["best"] for one in told[depth, width]) for width in widths]
            assert best == sorted(best)
    ends = {
        (depth, ood["key"]): [
            sum(one[ood["key"]]["r"] for one in told[depth, width]) / len(told[depth, width])
            for width in (widths[0], widths[-1])
        ]
        for depth in depths
        for ood in others(kept)
    }
    place, change = max(ends.items(), key=lambda one: abs(one[1][1] - one[1][0]))
    spreads = [[one[ood["key"]]["rho"] for one in own] for own in told.values() for ood in others(kept)]
    widest = max(max(values) - min(values) for values in spreads)
    assert widest > abs(effects["slopes"]["rho"]["depth"])
    falls = ", ".join(f"{mean_r(depth):.2f} at {depth}" for depth in depths)
    own = [100 * one["accuracy"] for one in kept["networks"]]
    of = {(target, name): slope(effects, target, name) for target in NAMES for name in VARIABLES}
    return [
        paragraph(
            f"r falls with depth: {falls} layers (means over widths, seeds and sets; over the range",
            f"{of['r', 'depth']}), though on their own data all networks are nearly alike ({min(own):.0f} to",
            f"{max(own):.0f} %).",
        ),
        paragraph(
            f"Width from {widths[0]} to {widths[-1]} does little to r on the whole",
            f"({of['r', 'width']}), most at {place[0]} layers on {place[1]} ({change[0]:.2f} to",
            f"{change[1]:.2f}). The best layer of a wider network is better on other data, at every depth",
            f"and on both sets. A rises with width ({of['A', 'width']}) and falls with depth",
            f"({of['A', 'depth']}).",
        ),
        paragraph(
            f"ρ moves with depth ({of['rho', 'depth']}), but no model of it holds for networks left out (R²",
            f"{effects['r2_grouped']['rho']['network']:.2f}), and networks that differ in the seed alone",
            f"differ by up to {widest:.1f}. It is no ground for a conclusion here.",
        ),
        paragraph(
            "No pair of levels differs significantly after correction, and none could: seeds are averaged,",
            f"so two levels have {count} matched networks, of which the least possible p is {least:g}. More",
            "levels of the other variable would help, more seeds would not.",
        ),
        "Nothing is said of networks that are no MLPs, are trained for longer or on all images.",
    ]


def picture(kept: Mapping[str, Any]) -> str:
    """Accuracy on each set by relative depth, a line a depth and width, as SVG."""
    import vl_convert

    panels = []
    for one in kept["data"]:
        rows = [
            {
                "place": (layer + 1) / curve["depth"],
                "accuracy": accuracy,
                "depth": f"{curve['depth']} layers",
                "width": f"{curve['width']} wide",
            }
            for curve in kept["curves"]
            if curve["dataset"] == one["key"]
            for layer, accuracy in enumerate(curve["accuracy"])
        ]
        orders = {name: list(dict.fromkeys(row[name] for row in rows)) for name in VARIABLES}
        axis = alt.Axis(format="%", tickCount=5)
        legend = alt.Legend(title=None, orient="bottom", symbolType="stroke", symbolSize=500)
        widths = alt.Scale(domain=orders["width"], range=[[1, 3], [5, 3], [1, 0]])
        base = alt.Chart(pd.DataFrame(rows)).encode(
            x=alt.X("place:Q", title="relative depth", axis=alt.Axis(format="%", tickCount=3)),
            y=alt.Y("accuracy:Q", title=None, axis=axis, scale=alt.Scale(zero=False)),
            color=alt.Color("depth:N", sort=orders["depth"], legend=legend),
            detail="width:N",
        )
        lines = base.mark_line().encode(
            strokeDash=alt.StrokeDash("width:N", scale=widths, sort=orders["width"], legend=legend)
        )
        points = base.mark_point(filled=True, size=14, opacity=1)
        drawn = alt.layer(lines, points, title=f"{one['key']} ({one['role'].upper()})")
        panels.append(drawn.properties(width=215, height=220))
    config = vega_config("light", len(kept["data"]), False)
    config |= {"background": TOKENS["light"].paper, "padding": 12}
    spec = alt.hconcat(*panels).to_dict()
    spec.pop("config", None)
    return vl_convert.vegalite_to_svg(spec, config=config)


if __name__ == "__main__":
    if sys.argv[1:]:
        KEPT.write_text(json.dumps(keep(Path(sys.argv[1]).resolve()), indent=1, ensure_ascii=False) + "\n")
    kept = json.loads(KEPT.read_text())
    PICTURE.write_text(picture(kept))
    PAGE.write_text(page(kept))
