"""Write the worked examples of networks trained here, and what became of their tunnels; no number is typed.

    python docs/make_over_training.py DATA_FOLDER runs/mlp runs/vgg19 runs/resnet34

DATA_FOLDER, as it stands in the commands, is written as `data`. Beside each folder of a training lie what the
commands of the page make of it: `runs/mlp-over`, `runs/mlp-reset.json` and `runs/mlp-linear.json`.
`tests/test_docs.py` checks that the page is what this script writes.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

import altair as alt

from tunnelscope.checkpoints import step_name
from tunnelscope.over_training import OverTraining, load_over_training
from tunnelscope.report.over_training import MAPS, others, readings, tidy_map
from tunnelscope.report.theme import TOKENS, vega_config

DOCS = Path(__file__).resolve().parent
# Of each run what the page needs, so that it can be written again anywhere.
KEPT = DOCS / "over-training.json"
TITLES = {
    "mlp": "An MLP of 12 × 1024",
    "vgg19": "A VGG-19, a quarter as wide",
    "resnet34": "A ResNet-34, a quarter as wide",
}
QUANTITIES = ("probe_accuracy", "numerical_rank")
CELL = 13  # pixels


def keep(folder: Path, data_folder: str) -> dict[str, Any]:
    """What the page shows of one training."""
    told = json.loads((folder / "train.json").read_text())
    over = load_over_training(beside(folder, "-over"))
    return {
        "name": folder.name,
        "train": told["settings"] | {"result": told["result"]},
        "commands": [
            command_of(folder / "README.md").replace(data_folder, "data"),
            over.run["command"].replace(data_folder, "data"),
        ],
        "verdict": over.run["verdict"],
        "columns": others(over.run),
        "rows": readings(over.run),
        "layers": last_readings(over),
        "reset": json.loads(beside(folder, "-reset.json").read_text()),
        "linear": json.loads(beside(folder, "-linear.json").read_text()),
    }


def beside(folder: Path, ending: str) -> Path:
    """A folder or file named after a training's folder."""
    return folder.with_name(folder.name + ending)


def command_of(card: Path) -> str:
    """The command that a model card names."""
    found = re.search(r"\| Command \| `(.+)` \|", card.read_text())
    assert found, card
    return found[1]


def last_readings(over: OverTraining) -> dict[str, Any]:
    """Accuracy on each set and rank of every layer after the last step."""
    table, last = over.table(), max(one["step"] for one in over.run["checkpoints"])
    table = table[(table["run"] == step_name(last)) & (table["layer_index"] > 0)]
    kept: dict[str, Any] = {"names": [layer["name"] for layer in over.run["layers"]]}
    for entry in over.run["data"]:
        for quantity in QUANTITIES:
            rows = table[(table["dataset"] == entry["key"]) & (table["quantity"] == quantity)]
            values = rows.sort_values("layer_index")["value"].tolist()
            kept[f"{quantity} {entry['key']}"] = [round(value, 4) for value in values]
    return kept


def picture(over: OverTraining) -> str:
    """Accuracy on each set and the ID set's rank, layer by step, as SVG."""
    import vl_convert

    maps = {one.key: one for one in MAPS}
    id_key = over.run["data"][0]["key"]
    panels = [("probe_accuracy", entry["key"]) for entry in over.run["data"]] + [("numerical_rank", id_key)]
    charts = []
    for key, choice in panels:
        one, tidy = maps[key], tidy_map(over.frame, over.run, maps[key])
        tidy = tidy[tidy["choice"] == choice]
        names = tidy.drop_duplicates("layer").sort_values("place", ascending=False)["layer"].tolist()
        axis = alt.Axis(labels=not charts, ticks=False, labelOverlap=True)
        legend = alt.Legend(title=None, orient="bottom", format=".0%" if one.percent else "~g", tickCount=3)
        scale = alt.Scale(type="log") if one.log else alt.Scale()
        charts.append(
            alt.Chart(tidy, title=f"{one.title}, {choice}")
            .mark_rect()
            .encode(
                x=alt.X("step:O", title="after step", axis=alt.Axis(labelAngle=-90)),
                y=alt.Y("layer:N", sort=names, title=None, axis=axis),
                color=alt.Color("value:Q", scale=scale, legend=legend),
            )
            .properties(width=CELL * tidy["step"].nunique(), height=max(150, CELL * len(names)))
        )
    config = vega_config("light", len(over.run["data"]), True)
    config |= {"background": TOKENS["light"].paper, "padding": 12}
    spec = alt.hconcat(*charts).resolve_scale(color="independent", y="independent").to_dict()
    spec.pop("config", None)
    return vl_convert.vegalite_to_svg(spec, config=config)


def page(runs: list[dict[str, Any]]) -> str:
    """The page of tunnels as they form."""
    parts = [
        "# Tunnels as they form",
        "Three networks trained on the 20,000 CIFAR-10 images at hand (of 50,000), scanned at every "
        "checkpoint on 4,000\nimages a split beside ten classes of CIFAR-100 (100 images each to fit a "
        "probe, 100 to test it), their tunnels changed\nat the end. One training each, seed 0; intervals "
        "are of the test images alone. Trained and scanned on one core, the\nother one busy. Written from "
        "the runs by `docs/make_over_training.py`; what each command does stands on\n"
        "[its own page](training.md).",
    ]
    for run in runs:
        parts += [f"## {TITLES[run['name']]}", commands(run), training_line(run), f"> {run['verdict']}"]
        parts.append(f"![Accuracy and rank by layer and step](images/{run['name']}-over-training.svg)")
        parts += [layer_table(run), checkpoint_table(run), interventions(run)]
    return "\n\n".join(parts) + "\n"


def commands(run: dict[str, Any]) -> str:
    """All commands of an example."""
    train, scan = run["commands"]
    other = re.sub(r" --(out|threads) \S+", "", scan[scan.index("--ood") :])
    more = [f"tunnelscope {verb} runs/{run['name']} {other}" for verb in ("reset", "linearise")]
    return "```sh\n" + "\n".join([train, scan, *more]) + "\n```"


def training_line(run: dict[str, Any]) -> str:
    """What the training gave."""
    result = run["train"]["result"]
    minutes = result["seconds"] / 60
    return (
        f"{run['train']['recipe']['epochs']} epochs in {minutes:.0f} min, "
        f"{result['images_per_second']:,.0f} images a second on one core; test accuracy "
        f"{100 * result['accuracy']:.2f} %."
    )


def layer_table(run: dict[str, Any]) -> str:
    """Every layer after the last step."""
    layers = run["layers"]
    columns = [key for key in layers if key != "names" and not key.startswith("numerical_rank")]
    sets = [key.removeprefix("probe_accuracy ") for key in columns]
    rank = layers[f"numerical_rank {sets[0]}"]
    rows = ["| # | layer | " + " | ".join(f"{key} %" for key in sets) + f" | rank, {sets[0]} |"]
    rows.append("|--:|:--|" + "--:|" * (len(sets) + 1))
    for place, name in enumerate(layers["names"]):
        cells = [str(place + 1), f"`{name}`", *(f"{100 * layers[key][place]:.1f}" for key in columns)]
        rows.append("| " + " | ".join([*cells, f"{rank[place]:.0f}"]) + " |")
    return "\n".join(rows)


def checkpoint_table(run: dict[str, Any]) -> str:
    """Every checkpoint."""
    heads = ["step", "epoch", "network", "tunnel starts after", *(f"r {key}" for key in run["columns"])]
    rows = ["| " + " | ".join(heads) + " |", "|--:|--:|--:|:--|" + "--:|" * len(run["columns"])]
    return "\n".join([*rows, *("| " + " | ".join(row) + " |" for row in run["rows"])])


def interventions(run: dict[str, Any]) -> str:
    """The last layer's probe before and after the tunnel was changed."""
    sets = list(run["reset"]["conditions"]["trained"]["last_layer"])
    rows = ["| tunnel | network's own head | " + " | ".join(f"probe {key}" for key in sets) + " |"]
    rows.append("|:--|--:|" + "--:|" * len(sets))
    for told in (run["reset"], run["linear"]):
        for name, one in told["conditions"].items():
            if told is run["linear"] and name == "trained":
                continue
            own = one["network_accuracy"]
            cells = [name, "–" if own is None else percent(own)]
            rows.append(
                "| " + " | ".join([*cells, *(percent(one["last_layer"][key]) for key in sets)]) + " |"
            )
    before, after = (run["linear"]["conditions"][name] for name in ("trained", "linear"))
    costs = (
        f"Reset: {run['reset']['what']}.\nLinear: {run['linear']['what']}, which explains "
        f"{100 * after['r2']:.1f} % of\nwhat they give for held-out images; parameters "
        f"{before['parameters']:,} before, {after['parameters']:,} after, {before['milliseconds']:.2f} and\n"
        f"{after['milliseconds']:.2f} ms an image."
    )
    return "\n".join(rows) + "\n\n" + costs


def percent(value: dict[str, float]) -> str:
    share = value["value"] if "value" in value else value["accuracy"]
    return f"{100 * share:.1f} % [{100 * value['low']:.1f}–{100 * value['high']:.1f}]"


if __name__ == "__main__":
    data_folder, *folders = sys.argv[1:]
    kept = {"runs": [keep(Path(folder), data_folder) for folder in folders]}
    KEPT.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    for folder in map(Path, folders):
        drawn = picture(load_over_training(beside(folder, "-over")))
        (DOCS / "images" / f"{folder.name}-over-training.svg").write_text(drawn)
    (DOCS / "tunnels-as-they-form.md").write_text(page(kept["runs"]))
