"""Write the worked examples and what other pages show of real scans; no number is typed.

    python docs/make_examples.py DATA_FOLDER runs/both runs/resnets/compare runs/effects \
        runs/demo runs/resnet56 runs/mobilenet runs/minilm

DATA_FOLDER, as it stands in the commands, is written as `data`. The scans are made by the commands that
the pages show; `runs/both` is their comparison, `runs/effects` what `effects` found in the four ResNets. The
demo is run anew into its folder, to be timed from start to end on a machine that does nothing else.
`tests/test_docs.py` checks that the pages are what this script writes.
"""

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tunnelscope import load
from tunnelscope.cli.compare import comparison_table
from tunnelscope.demo import train_demo

DOCS = Path(__file__).resolve().parent
KEPT = DOCS / "examples.json"  # of each run what the pages need, so that they can be written again anywhere
STAGES = {"record": "recording", "probes": "probes", "metrics": "metrics", "cka": "CKA"}
COLLAPSE = ("numerical_rank", "effective_rank", "variance_ratio", "nc1", "nc2", "nc3", "nc4")

TITLES = {
    "demo": "The demo: an MLP trained on half of the digits",
    "resnet56": "A CIFAR-10 ResNet-56 on CIFAR-10, CIFAR-100 and traffic signs",
    "mobilenet": "An ImageNet MobileNetV2 on one's own photos, its training data not at hand",
    "minilm": "A MiniLM sentence encoder on four sets of texts",
}


def keep(folder: Path, data_folder: str) -> dict[str, Any]:
    """What the page shows of one run; the demo is made here."""
    spent = time_demo(folder) if folder.name == "demo" else None
    run = json.loads((folder / "run.json").read_text())
    accuracy = {(probe["layer"], probe["dataset"]): probe["accuracy"] for probe in run["probes"]}
    keys = [entry["key"] for entry in run["data"]]
    layers = [
        [
            layer["index"],
            layer["name"],
            *(accuracy[layer["name"], key] for key in keys),
            layer["numerical_rank"],
        ]
        for layer in run["layers"]
    ]
    return {
        "name": run["run"],
        "command": "make demo" if run["run"] == "demo" else run["command"].replace(data_folder, "data"),
        "time": spent or duration(run["timings"]["total"]),
        "timings": run["timings"],
        "hardware": run["hardware"],
        "versions": run["versions"],
        "verdict": run["verdict"],
        "network_accuracy": run["network_accuracy"],
        "data": [
            {key: entry[key] for key in ("key", "role", "n_train", "n_test", "classes")}
            for entry in run["data"]
        ],
        "tunnel": run["tunnel"],
        "best_layer": run["best_layer"],
        "warnings": [warning.replace(data_folder, "data") for warning in run["warnings"]],
        "layers": layers,
        "collapse": collapse_rows(folder),
    }


def collapse_rows(folder: Path) -> list[list[Any]]:
    """Index, name and the measures of collapse of each layer on the ID set; no rows without an ID set."""
    table = load(folder).table()
    table = table[(table["role"] == "id") & table["quantity"].isin(COLLAPSE) & table["layer"].notna()]
    rows = table.pivot_table(index=["layer_index", "layer"], columns="quantity", values="value")
    return [[*names, *(float(row[name]) for name in COLLAPSE)] for names, row in rows.iterrows()]


def keep_comparison(folder: Path) -> dict[str, Any]:
    """What `tunnelscope compare` printed."""
    comparison = json.loads((folder / "compare.json").read_text())
    table = comparison_table(comparison["runs"], comparison["sets"])
    return {"table": table, "verdict": comparison["verdict"]}


def keep_effects(folder: Path) -> dict[str, Any]:
    """What `tunnelscope effects` says of the two networks that are farthest apart in depth."""
    found = json.loads((folder / "effects.json").read_text())
    depths = [pair for pair in found["pairs"] if pair["variable"] == "Depth"]
    ends = [level(int(number) for pair in depths for number in pair["levels"]) for level in (min, max)]
    pairs = [pair for pair in depths if pair["levels"] == [str(end) for end in ends]]
    corrected = [pair["p_corrected"] for pair in found["pairs"] if pair["p_corrected"] is not None]
    return {"pairs": pairs, "least_p": min(corrected), "warnings": found["warnings"]}


def time_demo(folder: Path) -> str:
    """Run the demo into its folder and say what it took; its scan does not know of the training before it."""
    with TemporaryDirectory() as place:
        start = time.perf_counter()
        train_demo(Path(place) / "weights.safetensors")
        training = time.perf_counter() - start
    command = [sys.executable, "-c", "from tunnelscope.cli import main; main()", "demo", "--out", str(folder)]
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    whole = time.perf_counter() - start
    scan = json.loads((folder / "run.json").read_text())["timings"]["total"]
    return f"{duration(whole)} after installation (training {duration(training)}, scan {duration(scan)})"


def page(runs: list[dict[str, Any]]) -> str:
    """The page of worked examples."""
    parts = [
        "# Worked examples",
        "Real scans, each written here from its own `run.json` by `docs/make_examples.py`. The data are\n"
        "subsets (CIFAR-10: 20,000 of 50,000 training images; CIFAR-100: 10,000 of 50,000; the other\n"
        "images about 1,000), so accuracies are lower than with the full sets.",
    ]
    for run in runs:
        parts += [f"## {TITLES[run['name']]}", f"```sh\n{wrapped(run['command'])}\n```", run["verdict"]]
        hardware, timings = run["hardware"], run["timings"]
        stages = [f"{name} {duration(timings[stage])}" for stage, name in STAGES.items() if stage in timings]
        parts.append(
            f"{run['time']} on {hardware['cores']} cores ({hardware['cpu']}; PyTorch "
            f"{run['versions']['torch']}): {', '.join(stages)}; {timings['images_per_second']:.0f} rows/s "
            f"recorded; peak memory {timings['peak_memory_mb'] / 1024:.1f} GiB."
        )
        if run["network_accuracy"]:
            parts.append(f"The network's own accuracy on its ID set: {percent(run['network_accuracy'])}.")
        parts.append(f"![Probe accuracy by depth](images/{run['name']}-accuracy.svg)")
        parts.append(readings(run))
        parts.append(layer_table(run))
        parts += [f"Warning: {warning}." for warning in run["warnings"]]
    return "\n\n".join(parts) + "\n"


def readings(run: dict[str, Any]) -> str:
    """The tunnel's readings and the layer to take, a row a data set."""
    rows = [
        "| data set | rows | best layer | accuracy there | saved: parameters, FLOPs, time | r | ρ | A |",
        "|" + "---|" * 8,
    ]
    for entry in run["data"]:
        best, ood = run["best_layer"][entry["key"]], run["tunnel"]["ood"].get(entry["key"])
        cells = [
            f"{entry['key']} ({entry['role'].upper()}, {entry['classes']} classes)",
            f"{entry['n_train']:,} + {entry['n_test']:,}",
            f"`{best['layer']}`",
            percent(best),
            saved(best),
            *(
                ["", "", ""]
                if ood is None
                else [number(ood[name]) for name in ("retained", "pearson", "alignment")]
            ),
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def saved(best: dict[str, Any]) -> str:
    """What ending the network at a layer saves."""
    flops, time = f"{best['flops_saved'] / 1e6:,.1f} M", f"{best['milliseconds_saved']:.1f} ms"
    return f"{best['parameters_saved']:,}, {flops}, {time}"


def layer_table(run: dict[str, Any]) -> str:
    """Accuracy and rank of every layer."""
    keys = [f"{entry['key']} %" for entry in run["data"]]
    rows = ["| # | layer | " + " | ".join(keys) + " | numerical rank |", "|" + "---|" * (3 + len(keys))]
    for index, name, *accuracies, rank in run["layers"]:
        cells = [str(index), f"`{name}`", *(f"{100 * accuracy:.1f}" for accuracy in accuracies), str(rank)]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def readme_rows(kept: dict[str, Any]) -> str:
    """The README's table: command, time, expected number."""
    rows = ["| command | time | what it shows |", "|---|---|---|"]
    for run in kept["runs"]:
        shown = []
        if run["network_accuracy"]:
            shown.append(f"network {100 * run['network_accuracy']['value']:.2f} %")
        if run["tunnel"]["start_95"]:
            length = f"{run['tunnel']['length']} of {len(run['layers'])} layers"
            shown.append(f"tunnel after `{run['tunnel']['start_95']}`, {length}")
        shown += [f"r on {key} {number(ood['retained'])}" for key, ood in run["tunnel"]["ood"].items()]
        rows.append(f"| `{run['command']}` | {run['time']} | {'; '.join(shown)} |")
    return "\n".join(rows)


def which_layer(kept: dict[str, Any]) -> str:
    """What the ResNet-56 and the MobileNet answer."""
    other = "An ImageNet MobileNetV2 on photos, its training data not at hand, answers:"
    return f"{answer(kept, 'resnet56')}\n\n{other}\n\n{answer(kept, 'mobilenet')}"


def text_encoder(kept: dict[str, Any]) -> str:
    """What the MiniLM answers."""
    return answer(kept, "minilm")


def answer(kept: dict[str, Any], name: str) -> str:
    """The verdict of one run, and for each data set the layer to take beside the last one."""
    run = run_of(kept, name)
    rows = [
        "| data set | layer to take | accuracy there | at the last | r | saved: parameters, FLOPs, time |",
        "|" + "---|" * 6,
    ]
    for place, entry in enumerate(run["data"], start=2):
        best, ood = run["best_layer"][entry["key"]], run["tunnel"]["ood"].get(entry["key"])
        cells = [
            f"{entry['key']} ({entry['role'].upper()})",
            f"`{best['layer']}`",
            percent(best),
            f"{100 * run['layers'][-1][place]:.1f} %",
            number(ood["retained"]) if ood else "",
            saved(best),
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join([f"> {run['verdict']}", "", *rows])


def run_of(kept: dict[str, Any], name: str) -> dict[str, Any]:
    return next(run for run in kept["runs"] if run["name"] == name)


def collapse(kept: dict[str, Any]) -> str:
    """The measures of collapse in the last ten layers of the ResNet-56."""
    run = run_of(kept, "resnet56")
    accuracies = {name: accuracy for _, name, accuracy, *_ in run["layers"]}
    rows = [
        "| # | layer | probe % | numerical rank | effective rank | within / between | "
        "NC1 | NC2 | NC3 | NC4 |",
        "|" + "--:|:--|" + "--:|" * 8,
    ]
    for index, name, rank, *values in run["collapse"][-10:]:
        cells = [str(index), f"`{name}`", f"{100 * accuracies[name]:.1f}", f"{rank:.0f}", f"{values[0]:.1f}"]
        rows.append("| " + " | ".join(cells + [f"{value:.3g}" for value in values[1:]]) + " |")
    return "\n".join(rows)


def comparison(kept: dict[str, Any], name: str = "comparison") -> str:
    """The table and the verdict of a comparison."""
    quoted = "\n>\n".join(f"> {line}" for line in kept[name]["verdict"].splitlines())
    return f"```text\n{kept[name]['table']}\n```\n\n{quoted}"


def effect_of_depth(kept: dict[str, Any]) -> str:
    """What the analysis of effects adds to the comparison of the four ResNets."""
    rows = ["| | ResNet-20 | ResNet-56 | difference | p | p, corrected |", "|:--|--:|--:|--:|--:|--:|"]
    for pair in kept["effects"]["pairs"]:
        low, high = (mean["value"] for mean in pair["means"])
        name = {"rho": "ρ"}.get(pair["target"], pair["target"])
        rows.append(
            f"| {name}, mean of {pair['n']} sets | {low:.3f} | {high:.3f} | {high - low:+.3f} | "
            f"{pair['p']:.3g} | {pair['p_corrected']:.3g} |"
        )
    least = f"The smallest corrected p of all pairs is {kept['effects']['least_p']:.3g}. What is warned of:"
    warnings = "\n".join(f"- {warning}" for warning in kept["effects"]["warnings"])
    return "\n".join(rows) + f"\n\n{least}\n\n{warnings}"


# Pages with a place for something written from runs, and the name of the place where a page has two.
FILLED: dict[tuple[Path, str], Callable[[dict[str, Any]], str]] = {
    (DOCS.parent / "README.md", ""): readme_rows,
    (DOCS / "tutorials" / "which-layer.md", ""): which_layer,
    (DOCS / "tutorials" / "collapse.md", ""): collapse,
    (DOCS / "tutorials" / "text-encoder.md", ""): text_encoder,
    (DOCS / "tutorials" / "two-checkpoints.md", ""): comparison,
    (DOCS / "tutorials" / "four-resnets.md", ""): lambda kept: comparison(kept, "resnets"),
    (DOCS / "tutorials" / "four-resnets.md", "effects"): effect_of_depth,
}


def filled(text: str, content: str, place: str = "") -> str:
    """A page with what stands in its place for something written replaced."""
    start, end = f"<!-- written by docs/make_examples.py{place and f': {place}'} -->", "<!-- end -->"
    pattern = f"{re.escape(start)}.*?{re.escape(end)}"
    return re.sub(pattern, lambda _: f"{start}\n\n{content}\n\n{end}", text, flags=re.DOTALL)


def percent(value: dict[str, float]) -> str:
    share = value["value"] if "value" in value else value["accuracy"]
    return f"{100 * share:.2f} % [{100 * value['low']:.1f}–{100 * value['high']:.1f}]"


def number(value: dict[str, float | None]) -> str:
    if value["value"] is None:
        return "–"
    if value["low"] is None:  # too many resamples without a value
        return f"{value['value']:.3f}"
    return f"{value['value']:.3f} [{value['low']:.3f}–{value['high']:.3f}]"


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def wrapped(command: str) -> str:
    """A long command broken before its options."""
    return re.sub(r" --(?=\w)", " \\\\\n    --", command)


def write_pages() -> None:
    """Write every page from what is kept."""
    kept = json.loads(KEPT.read_text())
    (DOCS / "examples.md").write_text(page(kept["runs"]))
    for (path, place), write in FILLED.items():
        path.write_text(filled(path.read_text(), write(kept), place))


if __name__ == "__main__":
    from tunnelscope.report import write_figures

    data_folder, both, resnets, effects, *folders = sys.argv[1:]
    kept = {
        "runs": [keep(Path(folder), data_folder) for folder in folders],
        "comparison": keep_comparison(Path(both)),
        "resnets": keep_comparison(Path(resnets)),
        "effects": keep_effects(Path(effects)),
    }
    KEPT.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    for folder in map(Path, folders):
        scan = load(folder)
        for path in write_figures(scan.table(), scan.run, folder / "figures"):
            if path.name == "accuracy.svg":
                shutil.copy(path, DOCS / "images" / f"{scan.run['run']}-accuracy.svg")
    write_pages()
