"""Write the worked examples and the README's table from the folders of real scans; no number is typed.

    python docs/make_examples.py DATA_FOLDER runs/demo runs/resnet56 runs/mobilenet

DATA_FOLDER, as it stands in the commands, is written as `data`. The scans are made by the commands that
the page shows; the demo is run anew into its folder, to be timed from start to end on a machine that does
nothing else.
`tests/test_docs.py` checks that page and README are what this script writes.
"""

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tunnelscope.demo import train_demo

DOCS = Path(__file__).resolve().parent
KEPT = DOCS / "examples.json"  # of each run what the page needs, so that it can be written again anywhere

TITLES = {
    "demo": "The demo: an MLP trained on half of the digits",
    "resnet56": "A CIFAR-10 ResNet-56 on CIFAR-10, CIFAR-100 and traffic signs",
    "mobilenet": "An ImageNet MobileNetV2 on one's own photos, its training data not at hand",
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
    }


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
        "subsets (CIFAR-10: 20,000 of 50,000 training images; CIFAR-100: 10,000 of 50,000; the others about\n"
        "1,000), so accuracies are lower than with the full sets.",
    ]
    for run in runs:
        parts += [f"## {TITLES[run['name']]}", f"```sh\n{wrapped(run['command'])}\n```", run["verdict"]]
        hardware, timings = run["hardware"], run["timings"]
        parts.append(
            f"{run['time']} on {hardware['cores']} cores ({hardware['cpu']}; PyTorch "
            f"{run['versions']['torch']}): recording {duration(timings['record'])} "
            f"({timings['images_per_second']:.0f} images/s), probes {duration(timings['probes'])}, metrics "
            f"{duration(timings['metrics'])}; peak memory {timings['peak_memory_mb'] / 1024:.1f} GiB."
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
        flops, time = f"{best['flops_saved'] / 1e6:,.1f} M", f"{best['milliseconds_saved']:.1f} ms"
        saved = f"{best['parameters_saved']:,}, {flops}, {time}"
        cells = [
            f"{entry['key']} ({entry['role'].upper()}, {entry['classes']} classes)",
            f"{entry['n_train']:,} + {entry['n_test']:,}",
            f"`{best['layer']}`",
            percent(best),
            saved,
            *(
                ["", "", ""]
                if ood is None
                else [number(ood[name]) for name in ("retained", "pearson", "alignment")]
            ),
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def layer_table(run: dict[str, Any]) -> str:
    """Accuracy and rank of every layer."""
    keys = [f"{entry['key']} %" for entry in run["data"]]
    rows = ["| # | layer | " + " | ".join(keys) + " | numerical rank |", "|" + "---|" * (3 + len(keys))]
    for index, name, *accuracies, rank in run["layers"]:
        cells = [str(index), f"`{name}`", *(f"{100 * accuracy:.1f}" for accuracy in accuracies), str(rank)]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def readme_rows(runs: list[dict[str, Any]]) -> str:
    """The README's table: command, time, expected number."""
    rows = ["| command | time | what it shows |", "|---|---|---|"]
    for run in runs:
        shown = []
        if run["network_accuracy"]:
            shown.append(f"network {100 * run['network_accuracy']['value']:.2f} %")
        if run["tunnel"]["start_95"]:
            length = f"{run['tunnel']['length']} of {len(run['layers'])} layers"
            shown.append(f"tunnel after `{run['tunnel']['start_95']}`, {length}")
        shown += [f"r on {key} {number(ood['retained'])}" for key, ood in run["tunnel"]["ood"].items()]
        rows.append(f"| `{run['command']}` | {run['time']} | {'; '.join(shown)} |")
    return "\n".join(rows)


def readme(text: str, runs: list[dict[str, Any]]) -> str:
    """The README with its table replaced."""
    start, end = "<!-- table: docs/make_examples.py -->", "<!-- end of table -->"
    table = f"{start}\n{readme_rows(runs)}\n{end}"
    return re.sub(f"{re.escape(start)}.*?{re.escape(end)}", lambda _: table, text, flags=re.DOTALL)


def percent(value: dict[str, float]) -> str:
    share = value["value"] if "value" in value else value["accuracy"]
    return f"{100 * share:.2f} % [{100 * value['low']:.1f}–{100 * value['high']:.1f}]"


def number(value: dict[str, float | None]) -> str:
    if value["value"] is None:
        return "–"
    return f"{value['value']:.3f} [{value['low']:.3f}–{value['high']:.3f}]"


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def wrapped(command: str) -> str:
    """A long command broken before its options."""
    return re.sub(r" --(?=\w)", " \\\\\n    --", command)


if __name__ == "__main__":
    from tunnelscope import load
    from tunnelscope.report import write_figures

    data_folder, *folders = sys.argv[1:]
    KEPT.write_text(
        json.dumps([keep(Path(folder), data_folder) for folder in folders], indent=1, ensure_ascii=False)
        + "\n"
    )
    for folder in map(Path, folders):
        scan = load(folder)
        for path in write_figures(scan.table(), scan.run, folder / "figures"):
            if path.name == "accuracy.svg":
                shutil.copy(path, DOCS / "images" / f"{scan.run['run']}-accuracy.svg")
    kept = json.loads(KEPT.read_text())
    (DOCS / "examples.md").write_text(page(kept))
    readme_path = DOCS.parent / "README.md"
    readme_path.write_text(readme(readme_path.read_text(), kept))
