"""From findings to the JSON object and the rows of the results table."""

import importlib.metadata
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tunnelscope import __version__, health, tunnel
from tunnelscope.findings import Control, Findings, Settings
from tunnelscope.leakage import first_pair
from tunnelscope.metrics import METRICS
from tunnelscope.models.preprocessing import is_about_images
from tunnelscope.other_data import Resamples, read_other_data
from tunnelscope.probes import protocol_name, wilson
from tunnelscope.randomness import numpy_generator
from tunnelscope.results import make_table, plain
from tunnelscope.rows import control_rows, pooled_rows, table_rows
from tunnelscope.subject import INPUT, Subject
from tunnelscope.tasks import CLASSIFICATION, SCORE_TITLES, score_title, score_words
from tunnelscope.verdict import next_step, verdict

if TYPE_CHECKING:
    import pandas as pd


RESAMPLES = 1000
NOTHING = {"value": None, "low": None, "high": None}
FEW_TEST_ROWS = 100
PACKAGES = ("torch", "torchvision", "timm", "numpy", "scipy", "scikit-learn", "pandas")


def summarise(
    findings: list[Findings],
    subject: Subject,
    settings: Settings,
    milliseconds: Mapping[str, tuple[float, float, float]],
    control: Control | None = None,
) -> tuple[dict[str, Any], "pd.DataFrame"]:
    """The run's JSON object (timings and command left to the caller) and its results table.

    Args:
        milliseconds: by layer to take, what stopping there saves: median, quartiles.
        control: the same network untrained, where that was asked for.
    """
    own = next((found for found in findings if found.role == "id"), None)
    others = [found for found in findings if found.role == "ood"]
    drawn = _resamples(findings, others, subject, settings)
    costs = _costs(findings, subject, milliseconds)
    best_layer = {
        key: _best_layer(found, drawn.scores[key], drawn.choices[key], costs)
        for key, found in ((found.dataset.key, found) for found in findings)
    }
    layers = _layers(subject, own or findings[0])
    on_others = read_other_data(own, others, drawn, best_layer, settings.seed)
    reading = _tunnel(own, subject, drawn.scores, on_others)
    network_accuracy = _network_accuracy(own)
    own_accuracy = (network_accuracy["network_accuracy"] or NOTHING)["value"]
    probes = [(name, _probe(found, name, seed)) for found in findings for name, seed in found.probes]
    run: dict[str, Any] = {
        "tunnelscope": __version__,
        "run": "",
        "model": _model(subject),
        "data": [_data(found) for found in findings],
        **network_accuracy,
        "verdict": verdict(
            reading,
            best_layer,
            layers,
            _at_chance(best_layer, findings),
            subject.weights,
            (
                SCORE_TITLES[own.score_name] if own else "accuracy",
                score_title(found.score_name for found in others),
            ),
            given=bool(findings[0].code),
        ),
        "next_step": {found.dataset.key: _next_step(found, subject, settings) for found in findings},
        "tunnel": reading,
        "leakage": _leakage(own, others),
        "best_layer": best_layer,
        "layers": layers,
        "probes": [probe for name, probe in probes if name != INPUT],
        "baselines": [probe for name, probe in probes if name == INPUT],
        "control": _control(control),
        "timings": {},
        "warnings": _warnings(findings, subject, reading, own_accuracy) + _control_warnings(control),
        **_circumstances(findings, subject, settings, control),
    }
    run = plain(run)
    rows = table_rows(findings, subject, settings, run, drawn.scores)
    rows += pooled_rows(subject, settings, run, settings.seeds) + control_rows(control, settings, run)
    return run, make_table(rows)


def _resamples(
    findings: list[Findings], others: list[Findings], subject: Subject, settings: Settings
) -> Resamples:
    """Bootstrap samples of each set's test rows and probe seeds, and the layers chosen with them."""

    def draws(what: str, found: Findings) -> np.random.Generator:
        return numpy_generator(settings.seed, f"{what} {found.dataset.key}")

    shares = {
        found.dataset.key: tunnel.resampled_shares(
            len(found.seeds), draws("bootstrap seeds", found), RESAMPLES
        )
        for found in findings
    }
    scores = {
        found.dataset.key: tunnel.resampled_accuracies(
            found.credits, draws("bootstrap", found), RESAMPLES, shares[found.dataset.key]
        )
        for found in findings
    }
    matched = _choices(others, settings, shares, tunnel.matched_layers(len(subject.layers)))
    return Resamples(scores, _choices(findings, settings, shares), matched)


def _circumstances(
    findings: list[Findings], subject: Subject, settings: Settings, control: Control | None
) -> dict[str, Any]:
    """What `run.json` holds beside the object that `--json` prints."""
    return {
        "command": "",
        "settings": _settings(findings[0], subject, settings, control),
        "versions": _versions(),
        "hardware": _hardware(subject),
        "precision": subject.precision,
        "seeds": {"seed": settings.seed, "probe_seeds": [settings.seed + i for i in range(settings.seeds)]},
        "fingerprints": {
            "model": subject.fingerprint,
            **({"control": control.subject.fingerprint} if control else {}),
            "data": {found.dataset.key: found.fingerprints for found in findings},
        },
    }


def _settings(
    found: Findings, subject: Subject, settings: Settings, control: Control | None
) -> dict[str, Any]:
    """What was asked for and decides the numbers, defaults included."""
    asked = {name: value for name, value in vars(settings).items() if name != "protocol"}
    return asked | {
        "probe": protocol_name(settings.protocol),
        "weights": subject.weights,
        "control": control is not None,
        "features": "as given" if found.code else "float32",  # precision that they are kept in
    }


def _choices(
    findings: list[Findings],
    settings: Settings,
    shares: dict[str, np.ndarray],
    positions: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """The layer chosen in each resample of the held-out rows, by set; among some layers or all."""
    return {
        found.dataset.key: found.resampled_choices(
            numpy_generator(settings.seed, f"bootstrap choice {found.dataset.key}"),
            shares[found.dataset.key],
            positions,
        )
        for found in findings
    }


def _tunnel(
    own: Findings | None,
    subject: Subject,
    resampled: Mapping[str, np.ndarray],
    on_others: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    names = subject.names
    reading: dict[str, Any] = {"reason": None}
    for percent in (95, 98):
        reading |= {
            f"start_{percent}": None,
            f"start_{percent}_stable": None,
            f"start_{percent}_interval": None,
        }
    reading |= {"length": None, "share": None, "extractor_share": None}
    if own is None:
        reading["reason"] = "no ID set was given (--id), so nothing is read on the network's own data"
    elif own.scores[-1] <= 0:
        reading["reason"] = (
            f"the last layer's probe on {own.dataset.key} has {score_words(own.score_name, own.scores[-1])}, "
            "not above 0"
        )
    else:
        for percent in (95, 98):
            reading |= _start(names, own, resampled[own.dataset.key], percent)
        start = names.index(reading["start_95"]) + 1
        reading["length"] = len(names) - start
        reading["share"] = reading["length"] / len(names)
        reading["extractor_share"] = start / len(names)
    reading["ood"] = on_others
    # Draws of one set's classes count once, as their mean.
    ratios = [entry["retained"]["value"] for entry in on_others.values() if entry["draw_of"] is None]
    known = [ratio for ratio in ratios if ratio is not None]
    reading["band"] = tunnel.band(float(np.mean(known))) if known else None
    return reading


def _start(names: list[str], own: Findings, resampled: np.ndarray, percent: int) -> dict[str, Any]:
    threshold = percent / 100
    low, high = tunnel.start_interval(resampled, threshold)
    return {
        f"start_{percent}": names[tunnel.tunnel_start(own.scores, threshold)],
        f"start_{percent}_stable": names[tunnel.stable_start(own.scores, threshold)],
        f"start_{percent}_interval": [names[low], names[high]],
    }


def _costs(
    findings: list[Findings], subject: Subject, milliseconds: Mapping[str, tuple[float, float, float]]
) -> dict[str, dict[str, Any]]:
    """What stopping at each set's best layer saves against the whole network; null where it is not known."""
    costs = {}
    for position in sorted({found.best for found in findings}):
        layer = subject.layers[position]
        saved = [round(value, 3) for value in milliseconds.get(layer.name, ())]
        costs[layer.name] = {
            "parameters_saved": _less(subject.parameters, layer.parameters),
            "flops_saved": _less(subject.flops, layer.flops),
            "milliseconds_saved": saved[0] if saved else None,
            "milliseconds_saved_quartiles": saved[1:] or None,
        }
    return costs


def _less(whole: int | None, part: int | None) -> int | None:
    return None if whole is None or part is None else whole - part


def _best_layer(
    found: Findings, resampled: np.ndarray, choices: np.ndarray, costs: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    name = found.layers[found.best]
    low, high = found.score_interval(found.best, resampled)
    share = float((choices == found.best).mean())
    return {
        "layer": name,
        **_scored(found.score_name, float(found.scores[found.best])),
        "low": low,
        "high": high,
        "choice_share": share,  # of the resamples of the held-out rows, those that choose this layer
        **costs[name],
    }


def _scored(name: str, value: float | None) -> dict[str, Any]:
    """A score under its name; `accuracy` beside it is null where probes are scored by something else."""
    return {"accuracy": value if name == "accuracy" else None, "score_name": name, "score": value}


def _layers(subject: Subject, found: Findings) -> list[dict[str, Any]]:
    return [
        {
            **vars(layer),
            "shape": list(layer.shape),
            "depth_fraction": layer.index / len(subject.layers),
            **{name: _counted(name, value) for name, value in found.metrics.get(layer.name, {}).items()},
        }
        for layer in subject.layers
    ]


def _counted(name: str, value: float | None) -> float | int | None:
    """Ranks are counts; the JSON object shows them without a decimal point."""
    return int(value) if value is not None and name.startswith("numerical_rank") else value


def _control(control: Control | None) -> dict[str, Any] | None:
    """What the untrained network showed: metrics of the set that `layers` has, probes of all sets."""
    if control is None:
        return None
    own = next((found for found in control.findings if found.role == "id"), control.findings[0])
    kept = {"name", "index", *METRICS}
    return {
        "weights": control.subject.weights,
        "precision": control.subject.precision,
        "layers": [
            {name: value for name, value in layer.items() if name in kept}
            for layer in _layers(control.subject, own)
        ],
        "probes": [
            _probe(found, name, seed)
            for found in control.findings
            for name, seed in found.probes
            if name != INPUT
        ],
    }


def _control_warnings(control: Control | None) -> list[str]:
    return [f"the untrained network: {line}" for line in _noted(control.findings)] if control else []


def _model(subject: Subject) -> dict[str, Any]:
    return {
        "name": subject.name,
        "source": subject.source,
        "weights": subject.weights,
        "parameters": subject.parameters,
        "flops": subject.flops,
        "preprocessing": subject.preprocessing,  # of images or texts; see ready_inputs
    }


def _data(found: Findings) -> dict[str, Any]:
    dataset = found.dataset
    return {
        "key": dataset.key,
        "source": dataset.source,
        "role": found.role,
        "task": dataset.task,
        "classes": len(dataset.class_names),
        "class_names": list(dataset.class_names),
        "n_train": len(dataset.train.labels),
        "n_test": len(dataset.test.labels),
        "ready_inputs": found.ready_inputs,  # floats: no preprocessing is applied
        "chance": dataset.chance,
        "notes": list(dataset.notes),
    }


def _network_accuracy(own: Findings | None) -> dict[str, Any]:
    if own is None:
        return {"network_accuracy": None, "network_accuracy_reason": "no ID set was given"}
    if own.code:
        return {"network_accuracy": None, "network_accuracy_reason": "features were given, not the network"}
    if own.dataset.task != CLASSIFICATION:
        reason = f"the labels of {own.dataset.key} are no classes ({own.dataset.task})"
        return {"network_accuracy": None, "network_accuracy_reason": reason}
    if own.network_correct is None:
        reason = (
            f"the network's outputs are not the {len(own.dataset.class_names)} classes of {own.dataset.key}"
        )
        return {"network_accuracy": None, "network_accuracy_reason": reason}
    accuracy = float(own.network_correct.mean())
    low, high = wilson(accuracy * len(own.network_correct), len(own.network_correct))
    return {
        "network_accuracy": {"value": accuracy, "low": low, "high": high},
        "network_accuracy_reason": None,
    }


def _at_chance(best_layer: dict[str, Any], findings: list[Findings]) -> list[str]:
    """Keys of the sets on which even the layer to take is not surely better than guessing."""
    chances = {found.dataset.key: found.dataset.chance for found in findings}
    keys = [key for key, best in best_layer.items() if best["low"] <= chances[key]]
    drawn = {f.dataset.draw_of for f in findings if f.dataset.draw_of and f.dataset.key in keys}
    return [*keys, *sorted(drawn)]


def _probe(found: Findings, name: str, seed: int) -> dict[str, Any]:
    fitted = found.probes[name, seed]
    return {
        "layer": name,
        "dataset": found.dataset.key,
        "role": found.role,
        **_scored(*fitted.result),
        "low": fitted.low,
        "high": fitted.high,
        "balanced_accuracy": fitted.balanced_accuracy,
        "heldout_accuracy": fitted.heldout_accuracy,
        "best_test_accuracy": fitted.best_test_accuracy,
        "loss": fitted.loss,
        "n_train": fitted.n_train,
        "n_test": fitted.n_test,
        "seed": seed,
        "protocol": fitted.protocol,
        "penalty": fitted.penalty,
        "tolerance": fitted.tolerance,
        "gap": fitted.gap,
        "converged": fitted.converged,
    }


def _next_step(found: Findings, subject: Subject, settings: Settings) -> list[str]:
    layer = found.layers[found.best]
    if found.code:
        return found.code[layer]
    how = (layer, settings.pool, settings.seed, subject.items)
    return next_step(subject.loadable, subject.weights_file, *how)


def _warnings(
    findings: list[Findings], subject: Subject, reading: dict[str, Any], own_accuracy: float | None
) -> list[str]:
    known = subject.warnings
    if all(found.ready_inputs for found in findings):  # nothing is scaled or resized
        known = tuple(line for line in known if not is_about_images(line))
    warnings = [*known, *_noted(findings)]
    for found in findings:
        warnings.extend(f"{found.dataset.key}: {line}" for line in found.dataset.warnings)
        warnings.extend(found.warnings)
        warnings.extend(_set_warnings(found, subject))
    warnings.extend(_copies(findings))
    warnings.extend(_shared_with_own(findings))
    if reading["start_95"] != reading["start_95_stable"]:
        warnings.append(
            f"the ID curve reaches 95 % at {reading['start_95']} but falls below again; "
            f"it stays above from {reading['start_95_stable']} on"
        )
    own = findings[0]
    if subject.weights.startswith("random"):  # that its classifier knows nothing is no fault
        own_accuracy = None
    far_under = health.own_accuracy(own.dataset.key, own_accuracy, own.scores[-1])
    return warnings + ([far_under] if far_under else [])


def _set_warnings(found: Findings, subject: Subject) -> list[str]:
    """What a reader must know about one data set before its numbers are believed."""
    dataset = found.dataset
    warnings = []
    if len(dataset.test) < FEW_TEST_ROWS and dataset.task == CLASSIFICATION:
        warnings.append(
            f"{dataset.key} has {len(dataset.test)} test {dataset.test.kind}: accuracies are known to about "
            f"±{100 / len(dataset.test) ** 0.5:.0f} points"
        )
    if found.scale_doubt:
        warnings.append(found.scale_doubt)
    elif found.ready_inputs and subject.normalises:
        warnings.append(
            f"{dataset.key} holds floats, taken as ready inputs: the network's preprocessing "
            f"({subject.preprocessing_words}) is not applied to them"
        )
    return warnings + [line for line in _health(found) if line]


def _health(found: Findings) -> list[str | None]:
    """Chance, dead features and overlap of one data set; None where there is nothing to say."""
    dataset, key = found.dataset, found.dataset.key
    test, kind = len(dataset.test), dataset.test.kind
    sure = {found.layers[place]: found.interval_of_rows(place)[0] for place in {found.best, -1}}
    reached = {found.layers[place]: float(found.scores[place]) for place in {found.best, -1}}
    dead = {name: values.get("dead_features") for name, values in found.metrics.items()}
    both = [row for row, _ in (*found.equal, *found.like)]
    right = found.credits[:, -1].mean(axis=0)
    is_told = len(both) < test and dataset.task == CLASSIFICATION
    rest = float(np.delete(right, both).mean()) if is_told else None
    return [
        health.at_chance(
            key,
            (found.layers[found.best], found.layers[-1]),
            reached,
            sure,
            (test, kind),
            dataset.chance,
            found.score_name,
        ),
        health.dead_features(key, dead),
        health.overlap(
            key,
            kind,
            test,
            (len(found.equal), first_pair(dataset.test, dataset.train, found.equal)),
            (len(found.like), first_pair(dataset.test, dataset.train, found.like)),
            (float(right.mean()), rest),
        ),
    ]


def _leakage(own: Findings | None, others: list[Findings]) -> dict[str, Any] | None:
    """What each OOD set shares with the ID set, by key; None without an ID set."""
    if own is None:
        return None
    return {found.dataset.key: found.leakage.as_dict() for found in others if found.leakage}


def _shared_with_own(findings: list[Findings]) -> list[str]:
    """Lines for each other set that shares classes with the ID set, or training images of it."""
    own = findings[0].dataset
    lines = []
    for found in findings[1:]:
        leak, key, test = found.leakage, found.dataset.key, found.dataset.test
        if leak is None:
            continue
        names = [name for name, _ in leak.shared_classes or ()]
        lines.append(health.shared_classes(key, own.key, names, len(found.dataset.class_names)))
        equal, like = (
            (len(pairs), first_pair(test, own.train, pairs)) for pairs in (leak.equal or [], leak.like or [])
        )
        lines.append(health.known_images(key, own.key, test.kind, len(test), equal, like))
    return [line for line in lines if line]


def _noted(findings: list[Findings]) -> list[str]:
    """One line a cause, with the layers of each set that it holds for."""
    layers: dict[str, dict[str, list[str]]] = {}
    for found in findings:
        for note, layer in found.notes:
            layers.setdefault(note, {}).setdefault(found.dataset.key, []).append(layer)
    return [
        f"{note} ({'; '.join(f'{_counted_layers(names)}, {key}' for key, names in by_set.items())})"
        for note, by_set in layers.items()
    ]


def _counted_layers(names: list[str]) -> str:
    if len(names) > 3:
        return f"{len(names)} layers"
    return f"layer{'s' if len(names) > 1 else ''} {' and '.join(names)}"


def _copies(findings: list[Findings]) -> list[str]:
    """A line for each set that holds the images and labels of an earlier one."""
    first: dict[tuple, str] = {}
    lines = []
    for found in findings:
        key = found.dataset.key
        twin = first.setdefault(tuple(found.fingerprints.values()), key)
        if twin != key:
            kind = found.dataset.train.kind
            lines.append(f"{key} holds the same {kind} and labels as {twin}; one is a copy of the other")
    return lines


def _versions() -> dict[str, str]:
    versions = {"tunnelscope": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _hardware(subject: Subject) -> dict[str, Any]:
    hardware: dict[str, Any] = {
        "cpu": processor_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),  # how sums are cut, so the last bits depend on it
        "device": subject.device,
    }
    if hasattr(os, "sysconf"):
        hardware["memory_gb"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    return hardware


def processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())
