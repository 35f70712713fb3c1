"""What commands print: a short table on stdout, everything said about it on stderr."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from tunnelscope.tasks import SCORE_TITLES, score_figure, score_of

if TYPE_CHECKING:
    from tunnelscope.results import Scan

MOST_ROWS = 16  # of the table on the terminal; the report has every layer


def echo_error(line: str) -> None:
    """A line to stderr; paths in it are never wrapped."""
    click.echo(line, err=True)


def print_result(scan: "Scan", as_json: bool) -> None:
    """One JSON object on stdout with the verdict beside it, or what `print_scan` prints."""
    if not as_json:
        print_scan(scan)
        return
    click.echo(json.dumps(scan.json(), indent=1, ensure_ascii=False))
    echo_error(scan.verdict)
    echo_error(f"Report: {scan.folder}/report.html")


def print_scan(scan: "Scan") -> None:
    """The table of a scan, then warnings, the verdict, the next step and where the report is."""
    click.echo(scan_table(scan.run))
    layers = scan.run["layers"]
    shown = len(_shown(layers, set(_marks(scan.run))))
    if shown < len(layers):
        echo_error(f"{shown} of {len(layers)} layers shown; all are in the report")
    if own := scan.run["network_accuracy"]:
        echo_error(
            f"The network itself: {100 * own['value']:.1f} % [{100 * own['low']:.1f}–{100 * own['high']:.1f}]"
        )
    for warning in scan.run["warnings"]:
        echo_error(f"warning: {warning}")
    echo_error("")
    echo_error(scan.verdict)
    key, lines = next(reversed(scan.run["next_step"].items()))
    echo_error(f"\nFeatures at the layer for {key}:")
    for line in lines:
        echo_error(f"    {line}")
    if scan.folder is not None:
        echo_error(f"\nReport: {scan.folder}/report.html")


def scan_table(run: dict[str, Any]) -> str:
    """Accuracy of each layer's probe on each set, and the numerical rank, in at most 16 rows."""
    keys = [entry["key"] for entry in run["data"]]
    scores = {(probe["layer"], probe["dataset"]): score_of(probe) for probe in run["probes"]}
    names = {key: name for (_, key), (name, _) in scores.items()}
    heads = [f"{entry['key']} {entry['role'].upper()}{_title(names[entry['key']])}" for entry in run["data"]]
    marks = _marks(run)
    rows = [
        [
            str(layer["index"]),
            layer["name"],
            *(score_figure(*scores[layer["name"], key]) for key in keys),
            str(layer["numerical_rank"]),
            marks.get(layer["name"], ""),
        ]
        for layer in _shown(run["layers"], set(marks))
    ]
    return columns(["#", "layer", *heads, "rank", ""], rows, right=range(2, len(keys) + 3))


def _title(name: str) -> str:
    """What stands behind a set's name where its scores are no accuracies."""
    return "" if name == "accuracy" else f" {SCORE_TITLES[name]}"


def columns(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Plain aligned columns, those in `right` flush right."""
    table = [list(head), *map(list, rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    lines = []
    for row in table:
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _marks(run: dict[str, Any]) -> dict[str | None, str]:
    """What is said beside a layer: the tunnel's start, and the sets it is best for."""
    marks = {run["tunnel"]["start_95"]: "← 95 % start"}
    for key, best in run["best_layer"].items():
        marks[best["layer"]] = " ".join(filter(None, [marks.get(best["layer"]), f"← best {key}"]))
    return marks


def _shown(layers: list[dict[str, Any]], marked: set[str | None]) -> list[dict[str, Any]]:
    """All layers of a small network; of a large one the marked, the ends and evenly spread others."""
    if len(layers) <= MOST_ROWS:
        return layers
    step = len(layers) / (MOST_ROWS - 4)
    spread = {int(step * position) for position in range(MOST_ROWS - 4)} | {len(layers) - 1}
    return [layer for place, layer in enumerate(layers) if place in spread or layer["name"] in marked]
