"""Several scans beside each other: one table of readings, what differs between them and how surely."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from tunnelscope import comparability, differences
from tunnelscope.comparison_words import verdict
from tunnelscope.errors import RequestError
from tunnelscope.files import check_writable, write_json
from tunnelscope.results import Scan, load
from tunnelscope.tasks import score_of


@dataclass(frozen=True)
class Comparison:
    """Several scans in one: `runs`, `sets`, `verdict`, `warnings`, `json()`, `report(path)`, `save(dir)`."""

    runs: list[dict[str, Any]]
    sets: list[dict[str, Any]]
    verdict: str
    warnings: list[str]
    scans: dict[str, Scan] = field(repr=False)

    def json(self) -> dict[str, Any]:
        """The object that `tunnelscope compare --json` prints and `compare.json` holds."""
        return {
            "runs": self.runs,
            "sets": self.sets,
            "method": differences.METHOD,
            "verdict": self.verdict,
            "warnings": self.warnings,
        }

    def report(self, path: str | Path) -> Path:
        """Write the report, one HTML file that needs no network, and return its path."""
        from tunnelscope.report.comparison import write_comparison

        frames = {label: scan.frame for label, scan in self.scans.items()}
        runs = {label: scan.run for label, scan in self.scans.items()}
        write_comparison(frames, runs, self.json(), Path(path))
        return Path(path)

    def save(self, folder: str | Path) -> Path:
        """Write compare.json and compare.html into a folder, whatever else is in it; return the folder.

        Raises:
            RequestError: the folder is a file.
            MachineError: it cannot be made or written to.
        """
        folder = Path(folder)
        check_writable(folder)
        write_json(folder / "compare.json", self.json())
        self.report(folder / "compare.html")
        return folder


def compare(scans: Sequence[Scan | str | Path], labels: Sequence[str] = ()) -> Comparison:
    """Put several scans beside each other: several networks, or several checkpoints of one.

    Args:
        scans: at least two, each a `Scan` or the folder of one.
        labels: a name for each; left out, the folders' names, with the parent's where two are alike.

    Raises:
        RequestError: fewer than two scans, one of them twice, a folder that holds none, labels that
            do not fit.
    """
    scans = [scans] if isinstance(scans, (str, Path, Scan)) else list(scans)
    if len(scans) < 2:
        raise RequestError(
            f"a comparison needs two scans or more, {len(scans)} given; name their folders: "
            "`tunnelscope compare runs/a runs/b`"
        )
    _refuse_twice(scans)
    loaded = [scan if isinstance(scan, Scan) else load(scan) for scan in scans]
    named = dict(zip(_labels(loaded, labels), loaded, strict=True))
    runs = {label: scan.run for label, scan in named.items()}
    listed = [_run(label, scan) for label, scan in named.items()]
    sets = [_set(key, runs) for key in _keys(runs)]
    differences.widen(sets)
    return Comparison(listed, sets, verdict(listed, sets), comparability.warnings(runs), named)


def _refuse_twice(scans: Sequence[Scan | str | Path]) -> None:
    seen: set[Any] = set()
    for scan in scans:
        folder = scan.folder if isinstance(scan, Scan) else Path(scan)
        place = id(scan) if folder is None else folder.resolve()
        if place in seen:
            raise RequestError(f"{folder or 'a scan'} is given twice; name each scan once")
        seen.add(place)


def _labels(scans: Sequence[Scan], labels: Sequence[str]) -> list[str]:
    """A different name for each scan: those given, or the folders' with as many parents as it takes."""
    if labels:
        if len(labels) != len(scans):
            raise RequestError(
                f"--label is given {len(labels)} times for {len(scans)} scans; "
                "give it once for each, or not at all"
            )
        if twice := next((label for label in labels if list(labels).count(label) > 1), None):
            raise RequestError(f"the label {twice!r} is given to two scans; give each one of its own")
        return list(labels)
    places = [scan.folder.resolve().parts[1:] if scan.folder else (scan.run["run"],) for scan in scans]
    names = ["/".join(place[-1:]) for place in places]
    for depth in range(2, max(map(len, places)) + 1):
        clashing = {name for name in names if names.count(name) > 1}
        names = [
            "/".join(place[-depth:]) if name in clashing else name
            for place, name in zip(places, names, strict=True)
        ]
    return [  # only scans that were never saved can still be alike
        name if names.count(name) == 1 else f"{name}-{names[: at + 1].count(name)}"
        for at, name in enumerate(names)
    ]


def _keys(runs: dict[str, dict[str, Any]]) -> list[str]:
    """All data sets, those that a network was trained on first."""
    roles: dict[str, set[str]] = {}
    for run in runs.values():
        for entry in run["data"]:
            roles.setdefault(entry["key"], set()).add(entry["role"])
    return sorted(roles, key=lambda key: "id" not in roles[key])


def _run(label: str, scan: Scan) -> dict[str, Any]:
    """One row of the table of runs."""
    run = scan.run
    model, tunnel = run["model"], run["tunnel"]
    return {
        "label": label,
        "folder": str(scan.folder) if scan.folder else None,
        "network": model["name"],
        "source": model["source"],
        "weights": model["weights"],
        "layers": len(run["layers"]),
        "parameters": model["parameters"],
        "flops": model["flops"],
        "network_accuracy": run["network_accuracy"],
        "id_set": next((entry["key"] for entry in run["data"] if entry["role"] == "id"), None),
        "protocols": comparability.protocols(run),
        "pools": comparability.pools(run),
        "start_95": _start(run),
        "length": tunnel["length"],
        "band": tunnel["band"],
        "reason": tunnel["reason"],
        "warnings": run["warnings"],
    }


def _start(run: dict[str, Any]) -> dict[str, Any] | None:
    """The extractor's last layer, its index of N, its share of the depth; ends of the interval as indices."""
    tunnel, index = run["tunnel"], {layer["name"]: layer["index"] for layer in run["layers"]}
    if tunnel["start_95"] is None:
        return None
    low, high = tunnel["start_95_interval"]
    return {
        "layer": tunnel["start_95"],
        "index": index[tunnel["start_95"]],
        "low": index[low],
        "high": index[high],
        "extractor_share": tunnel["extractor_share"],
    }


def _set(key: str, runs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """One data set: what each run that has it reads on it, and each pair of runs that may be compared."""
    readings = {label: _reading(key, run) for label, run in runs.items()}
    readings = {label: reading for label, reading in readings.items() if reading is not None}
    comparisons = []
    for a, b in combinations(readings, 2):
        if comparability.comparable(runs[a], runs[b], key):
            comparisons += differences.compared(a, readings[a], b, readings[b])
    return {"key": key, "runs": list(readings), "readings": readings, "comparisons": comparisons}


def _reading(key: str, run: dict[str, Any]) -> dict[str, Any] | None:
    """What a run reads on a data set, None where it does not have it."""
    data = next((entry for entry in run["data"] if entry["key"] == key), None)
    if data is None:
        return None
    best, last = run["best_layer"][key], run["layers"][-1]["name"]
    index = {layer["name"]: layer["index"] for layer in run["layers"]}
    at_last = [
        score_of(probe) for probe in run["probes"] if (probe["layer"], probe["dataset"]) == (last, key)
    ]
    score_name, last_score = at_last[0][0], sum(value or 0.0 for _, value in at_last) / len(at_last)
    ood = run["tunnel"]["ood"].get(key)
    start = _start(run) if data["role"] == "id" else None
    return {
        "role": data["role"],
        "classes": data["classes"],
        "n_train": data["n_train"],
        "n_test": data["n_test"],
        "at_chance": best["low"] <= data["chance"],
        "retained": ood["retained"] if ood else None,
        "band": ood["band"] if ood else None,
        "start": start | {"layers": len(run["layers"])} if start else None,
        "last_accuracy": last_score if score_name == "accuracy" else None,
        "score_name": score_name,
        "last_score": last_score,
        "best_layer": best
        | {
            "index": index[best["layer"]],
            "parameters_saved_share": _share(best["parameters_saved"], run["model"]["parameters"]),
            "flops_saved_share": _share(best["flops_saved"], run["model"]["flops"]),
        },
    }


def _share(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole
