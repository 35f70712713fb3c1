"""Fill the tables of docs/performance.md from benchmarks/results.json: `python -m benchmarks.page`.

A table stands between `<!-- GROUP -->` and `<!-- end -->`; the words around it are written by hand.
"""

import json
import re
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
PAGE = FOLDER.parent / "docs" / "performance.md"
PLACE = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(page: str, told: dict[str, Any]) -> str:
    """The page with every table as the results have it."""
    return PLACE.sub(lambda place: place[1] + _part(place[2], told) + place[3], page)


def _part(name: str, told: dict[str, Any]) -> str:
    if name == "hardware":
        return _hardware(told) + "\n"
    rows = [row for row in told["rows"] if row["group"] == name]
    if not rows:
        return f"Not measured yet: `python -m benchmarks --only {name}`.\n"
    machines = list(dict.fromkeys((row["cpu"], row["date"]) for row in rows))
    machines.sort(key=lambda machine: machine[1], reverse=True)
    if name == "costs":
        return "\n".join(_costs(rows, machine) for machine in machines)
    heads = " | ".join(f"{cpu}, {date}" for cpu, date in machines)
    lines = [f"| what | bar | {heads} | accuracy, notes |", "|---|---|" + "---|" * len(machines) + "---|"]
    for what in dict.fromkeys(row["what"] for row in rows):
        own = {(row["cpu"], row["date"]): row for row in rows if row["what"] == what}
        newest = next(own[machine] for machine in machines if machine in own)
        values = " | ".join(_value(own[machine]) if machine in own else "" for machine in machines)
        lines.append(f"| {what} | {_bar(newest)} | {values} | {_notes(newest)} |")
    return "\n".join([*lines, ""])


def _costs(rows: list[dict[str, Any]], machine: tuple[str, str]) -> str:
    lines = [_cost(row) for row in rows if (row["cpu"], row["date"]) == machine]
    return "\n".join([*COSTS, *lines, "", f"Measured on: {', '.join(machine)}.", ""])


COSTS = ("| scan | seconds | the script, seconds | ratio | accuracy, notes |", "|---|---|---|---|---|")


def _hardware(told: dict[str, Any]) -> str:
    hardware = told["hardware"]
    return (
        f"{hardware['threads']} threads, Python {hardware['python']}, PyTorch {hardware['torch']}; processor "
        "and day stand above each column; accuracies and notes are of the first one."
    )


def _value(row: dict[str, Any]) -> str:
    low, high = row["spread"] or (None, None)
    value = f"{row['value']:.3g}" + (f" ({low:.3g} to {high:.3g})" if low is not None else "")
    return value if row["bar"] is None else f"{value}, {'holds' if row['holds'] else '**falls short**'}"


def _bar(row: dict[str, Any]) -> str:
    return "" if row["bar"] is None else f"{'≥' if row['sense'] == '>=' else '≤'} {row['bar']:.3g}"


def _cost(row: dict[str, Any]) -> str:
    seconds, what = row["seconds"], row["what"].removesuffix(": script / scan")
    return (
        f"| {what} | {seconds['scan']:.1f} | {seconds['script']:.1f} | {row['value']:.2g} | {_notes(row)} |"
    )


def _notes(row: dict[str, Any]) -> str:
    return "; ".join(filter(None, (row["accuracy"], row["note"]))).replace("|", "\\|")


if __name__ == "__main__":
    results = json.loads((FOLDER / "results.json").read_text(encoding="utf-8"))
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), results), encoding="utf-8")
