"""Which scans may be compared: same images, same probes, same reading of the layers; a line where not."""

import shlex
from collections.abc import Callable
from typing import Any

Run = dict[str, Any]
UNJUDGED = "differences between these runs are not judged"


def comparable(a: Run, b: Run, key: str) -> bool:
    """Whether a difference between two runs on a data set can be the networks' own."""
    is_same = data_print(a, key) == data_print(b, key) and protocols(a, key) == protocols(b, key)
    return is_same and not any(_differ(of(a), of(b)) for _, of in CONDITIONS) and not other_layers(a, b)


def warnings(runs: dict[str, Run]) -> list[str]:
    """One line for everything that keeps runs from being compared, or makes it say less.

    Args:
        runs: the objects of `run.json` by label.
    """
    lines = _about_data(runs) + _about_protocols(runs)
    for what, of in CONDITIONS:
        groups = _grouped({label: value for label, run in runs.items() if (value := of(run)) is not None})
        if len(groups) > 1:
            lines.append(f"{what}: {_told(groups)}; {UNJUDGED}")
    lines += _about_layers(runs)
    lines += _about_networks(runs)
    return lines


def protocols(run: Run, key: str | None = None) -> list[str]:
    """The probe protocols of a run; of one data set, since they depend on what its labels are."""
    return sorted({probe["protocol"] for probe in run["probes"] if key in (None, probe["dataset"])})


def pools(run: Run) -> list[str]:
    """How the layers of a run were pooled."""
    return sorted({layer["pool"] for layer in run["layers"]})


def data_print(run: Run, key: str) -> tuple[str, ...]:
    """Fingerprints of a data set's training and test images with their labels."""
    prints = run["fingerprints"]["data"][key]
    return prints["train"], prints["test"]


def asked(run: Run, name: str, default: str) -> str | None:
    """A setting of a run, in words.

    A run written before `run.json` had `settings` tells it by its command line; one made from Python then
    tells nothing: None.
    """
    settings = run.get("settings")
    if not isinstance(settings, dict) or name not in settings:
        return _option(run, f"--{name}", default)
    value = settings[name]
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _option(run: Run, name: str, default: str) -> str | None:
    """An option as a scan's command line gave it; None for a scan made from Python, which has none."""
    try:
        words = shlex.split(run["command"])
    except ValueError:
        return None
    if "scan" not in words[1:2]:
        return None
    for word, following in zip(words, [*words[1:], default], strict=True):
        if word == name:
            return following
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
    return default


def pooling(run: Run) -> str:
    """The pooling asked for; where that is not told, the poolings found in its layers."""
    return asked(run, "pool", "auto") or " and ".join(pools(run))


def _penalty(run: Run) -> str:
    given = asked(run, "penalty", "None")
    return "chosen on held-out rows" if given in (None, "None") else str(given)


CONDITIONS: tuple[tuple[str, Callable[[Run], str | None]], ...] = (
    ("the probes' penalties differ", _penalty),
    ("features are pooled differently", lambda run: pooling(run)),
    ("layers were chosen differently", lambda run: asked(run, "layers", "blocks")),
)


def other_layers(a: Run, b: Run) -> bool:
    """Whether two runs of one architecture were read at different layers."""
    same = all(a["model"][name] == b["model"][name] for name in ("source", "parameters", "flops"))
    return same and [layer["name"] for layer in a["layers"]] != [layer["name"] for layer in b["layers"]]


def _differ(a: str | None, b: str | None) -> bool:
    return a is not None and b is not None and a != b


def _about_data(runs: dict[str, Run]) -> list[str]:
    keys = dict.fromkeys(entry["key"] for run in runs.values() for entry in run["data"])
    having = {key: {label: run for label, run in runs.items() if key in run["best_layer"]} for key in keys}
    if all(len(those) < 2 for those in having.values()):
        return ["no data set is in two of these runs, so they stand beside each other without a comparison"]
    lines = []
    for key, those in having.items():
        if len(_grouped({label: data_print(run, key) for label, run in those.items()})) == 1:
            continue
        rows = _grouped({label: _rows(run, key) for label, run in those.items()})
        if len(rows) > 1:
            lines.append(f"{key} has not the same rows: {_told(rows)}; differences on it are not judged")
        else:
            prints = _grouped({label: data_print(run, key) for label, run in those.items()})
            unlike = " and ".join(", ".join(labels) for labels in prints.values())
            lines.append(f"{key} is not the same data in {unlike}; differences on it are not judged")
    return lines


def _about_protocols(runs: dict[str, Run]) -> list[str]:
    lines = []
    for key in dict.fromkeys(entry["key"] for run in runs.values() for entry in run["data"]):
        having = {label: run for label, run in runs.items() if key in run["best_layer"]}
        groups = _grouped({label: ", ".join(protocols(run, key)) for label, run in having.items()})
        if len(groups) > 1:
            lines.append(f"the probes follow different protocols: {_told(groups)}; {UNJUDGED}")
    return list(dict.fromkeys(lines))


def _rows(run: Run, key: str) -> str:
    entry = next(entry for entry in run["data"] if entry["key"] == key)
    return f"{entry['n_train']:,} train and {entry['n_test']:,} test"


def _about_layers(runs: dict[str, Run]) -> list[str]:
    labels = list(runs)
    pairs = [
        (a, b) for at, a in enumerate(labels) for b in labels[at + 1 :] if other_layers(runs[a], runs[b])
    ]
    choices = [asked(run, "layers", "blocks") for run in runs.values()]
    if not pairs or len(set(choices) - {None}) > 1:  # the choice is warned of already
        return []
    a, b = pairs[0]
    return [f"{a} and {b} are one architecture read at different layers; their differences are not judged"]


def _about_networks(runs: dict[str, Run]) -> list[str]:
    lines = []
    known = {label: run["fingerprints"]["model"] for label, run in runs.items()}
    known = {label: found for label, found in known.items() if found}  # of given features there is none
    for labels in _grouped(known).values():
        if len(labels) > 1:
            lines.append(f"{' and '.join(labels)} are the same network with the same weights")
    machines = _grouped({label: _machine(run) for label, run in runs.items()})
    if len(machines) > 1:
        lines.append(f"milliseconds were taken on different machines: {_told(machines)}")
    return lines


def _machine(run: Run) -> str:
    hardware = run.get("hardware") or {}
    cpu, device, threads = (hardware.get(name) for name in ("cpu", "device", "threads"))
    return f"{cpu}, {device}" + (f", {threads} thread{'s' * (threads != 1)}" if threads else "")


def _grouped(values: dict[str, Any]) -> dict[Any, list[str]]:
    """Labels by the value they share."""
    groups: dict[Any, list[str]] = {}
    for label, value in values.items():
        groups.setdefault(value, []).append(label)
    return groups


def _told(groups: dict[str, list[str]]) -> str:
    return "; ".join(f"{', '.join(labels)} {value}" for value, labels in groups.items())
