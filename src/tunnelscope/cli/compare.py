"""`tunnelscope compare`: several scans in one table, one verdict and one report."""

import json
from pathlib import Path
from typing import Any

import click

from tunnelscope.cli import options
from tunnelscope.cli.output import columns, echo_error
from tunnelscope.tasks import score_figure, score_of

WIDTH = 80  # of a terminal


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN …", type=click.Path(path_type=Path))
@click.option(
    "--out",
    default="runs/compare",
    show_default=True,
    metavar="DIR",
    help="Folder for compare.html and compare.json.",
)
@click.option(
    "--label", "labels", multiple=True, metavar="NAME", help="A run's name, once for each. [default: folders]"
)
@options.together(options.as_json, options.debug)
def compare(runs: tuple[Path, ...], out: str, labels: tuple[str, ...], as_json: bool) -> None:
    """Compare the scans in two or more folders: several networks, or several checkpoints of one.

    Says where each tunnel starts, what it costs on each data set, which layers to take, and which
    differences are larger than the sampling error.

    Example: tunnelscope compare runs/resnet20 runs/resnet56 --out runs/both
    """
    from tunnelscope import compare as compare_runs

    comparison = compare_runs(runs, labels=labels)
    folder = comparison.save(out)
    if as_json:
        click.echo(json.dumps(comparison.json(), indent=1, ensure_ascii=False))
    else:
        click.echo(comparison_table(comparison.runs, comparison.sets))
    for warning in comparison.warnings:
        echo_error(f"warning: {warning}")
    echo_error(f"\n{comparison.verdict}")
    echo_error(f"\nReport: {folder}/compare.html")


def comparison_table(runs: list[dict[str, Any]], sets: list[dict[str, Any]]) -> str:
    """Two small tables, a row a run: tunnel and r on each set; the layer to take for each set.

    Where both would be wider than a terminal, a row a run and set instead.
    """
    wide = f"{_tunnels(runs, sets)}\n\n{_layers_to_take(runs, sets)}"
    if max(map(len, wide.splitlines())) <= WIDTH:
        return wide
    return f"{_tunnels(runs, [])}\n\n{_readings(runs, sets)}"


def _tunnels(runs: list[dict[str, Any]], sets: list[dict[str, Any]]) -> str:
    other = [entry for entry in sets if any(reading["retained"] for reading in entry["readings"].values())]
    rows = []
    for run in runs:
        own, start = run["network_accuracy"], run["start_95"]
        rows.append(
            [
                _short(run["label"]),
                f"{100 * own['value']:.1f}" if own else "–",
                f"{start['index']}/{run['layers']}" if start else f"–/{run['layers']}",
                *(_kept(entry, run["label"]) for entry in other),
            ]
        )
    heads = ["run", "network", "tunnel after", *(f"r {_short(entry['key'])}" for entry in other)]
    return columns(heads, rows, right=range(1, len(heads)))


def _layers_to_take(runs: list[dict[str, Any]], sets: list[dict[str, Any]]) -> str:
    rows = [[_short(run["label"]), *(_taken(entry, run["label"]) for entry in sets)] for run in runs]
    return columns(["layer to take", *(_short(entry["key"]) for entry in sets)], rows)


def _readings(runs: list[dict[str, Any]], sets: list[dict[str, Any]]) -> str:
    rows = [
        [_short(entry["key"]), _short(run["label"]), _kept(entry, run["label"]), _taken(entry, run["label"])]
        for entry in sets
        for run in runs
        if run["label"] in entry["readings"]
    ]
    return columns(["data set", "run", "r", "layer to take"], rows, right=(2,))


def _kept(entry: dict[str, Any], label: str) -> str:
    number = (entry["readings"].get(label) or {}).get("retained") or {}
    if number.get("value") is None:
        return "–"
    if number["low"] is None:
        return f"{100 * number['value']:.0f}"
    return f"{100 * number['value']:.1f} [{100 * number['low']:.0f}–{100 * number['high']:.0f}]"


def _taken(entry: dict[str, Any], label: str) -> str:
    best = (entry["readings"].get(label) or {}).get("best_layer")
    return f"{_short(best['layer'], 24)} {score_figure(*score_of(best))}" if best else "–"


def _short(name: str, most: int = 20) -> str:
    """A name's end, which is where checkpoints and layers differ."""
    return name if len(name) <= most else f"…{name[1 - most :]}"
