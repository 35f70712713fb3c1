"""From findings to the rows of the results table, one row a value."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tunnelscope.data.duplicates import LIKE
from tunnelscope.findings import Control, Findings, Settings
from tunnelscope.metrics import METRICS
from tunnelscope.other_data import READINGS
from tunnelscope.probes import choice_protocol, protocol_name
from tunnelscope.results import KNOWN_IMAGES, SHARED_CLASSES
from tunnelscope.subject import INPUT, Subject


def table_rows(
    findings: list[Findings],
    subject: Subject,
    settings: Settings,
    run: dict[str, Any],
    resampled: Mapping[str, np.ndarray],
) -> list[dict[str, Any]]:
    """Every value of a scan as a row of the results table.

    Args:
        run: the scan's JSON object.
        resampled: scores on bootstrap samples by set, (resamples, layers).
    """
    rows: list[dict[str, Any]] = []
    for found in findings:
        about = _about(found, subject, settings, run)
        rows += [about | row for row in _probe_rows(found, subject)]
        rows += [about | row for row in _mean_rows(found, subject, resampled[found.dataset.key])]
        rows += [about | row for row in _metric_rows(found, subject, protocol_name(settings.protocol))]
        rows += [about | row for row in _cka_rows(found, subject)]
        rows += [about | row for row in _tunnel_rows(found, run)]
        rows += [about | row for row in _leakage_rows(run, [found.dataset.key])]
    return rows


def control_rows(control: Control | None, settings: Settings, run: dict[str, Any]) -> list[dict[str, Any]]:
    """Probes and metrics of the untrained network; the column `weights` tells them from the network's own."""
    rows: list[dict[str, Any]] = []
    if control is None:
        return rows
    for found in control.findings:
        about = _about(found, control.subject, settings, run)
        rows += [about | row for row in _probe_rows(found, control.subject)]
        rows += [
            about | row for row in _metric_rows(found, control.subject, protocol_name(settings.protocol))
        ]
    return rows


def pooled_rows(
    subject: Subject, settings: Settings, run: dict[str, Any], seeds: int
) -> list[dict[str, Any]]:
    """The readings pooled over draws of classes, under the key the draws share."""
    what = "draws, test rows and probe seeds" if seeds > 1 else "draws and test rows"
    about = {
        "run": run["run"],
        "model": subject.name,
        "weights": subject.weights,
        "seed": settings.seed,
        "role": "ood",
        "split": "test",
        "protocol": f"bootstrap of {what}/v1",
    }
    rows = []
    for key, entry in run["tunnel"]["ood"].items():
        if entry["draws"]:
            pooled = [*_reading_rows(entry), *_leakage_rows(run, entry["draws"])]
            rows += [about | {"dataset": key} | row for row in pooled]
    return rows


def _leakage_rows(run: dict[str, Any], keys: list[str]) -> list[dict[str, Any]]:
    """What an OOD set shares with the ID set, of several draws the most; null where it cannot be told.

    Args:
        keys: of one set, or of its draws.
    """
    told = [run["leakage"][key] for key in keys if key in (run["leakage"] or {})]
    if not told:
        return []
    classes = [len(one["shared_classes"]) for one in told if one["shared_classes"] is not None]
    shares = [one["share"] for one in told if one["share"] is not None]
    on_test = {"split": "test"}
    return [
        on_test
        | {"quantity": SHARED_CLASSES, "value": max(classes, default=None), "protocol": "class names/v1"},
        on_test
        | {
            "quantity": KNOWN_IMAGES,
            "value": max(shares, default=None),
            "protocol": f"prints/v1, like {LIKE}",
        },
    ]


def _reading_rows(entry: dict[str, Any]) -> list[dict[str, Any]]:
    rows = [{"quantity": quantity, **entry[quantity]} for quantity in READINGS]
    return [*rows, {"quantity": "retained_paper", "value": entry["retained_paper"]}]


def _about(found: Findings, subject: Subject, settings: Settings, run: dict[str, Any]) -> dict[str, Any]:
    return {
        "run": run["run"],
        "model": subject.name,
        "weights": subject.weights,
        "seed": settings.seed,
        "dataset": found.dataset.key,
        "role": found.role,
        "n_train": len(found.dataset.train.labels),
        "n_test": len(found.dataset.test.labels),
    }


def _place(subject: Subject, name: str) -> dict[str, Any]:
    if name == INPUT and subject.input is not None:
        read_point, pool = subject.input
        at_input = {"layer_index": 0, "depth_fraction": 0.0, "read_point": read_point, "pool": pool}
        return {"layer": INPUT, **at_input}
    layer = subject.layer(name)
    return {
        "layer": name,
        "layer_index": layer.index,
        "depth_fraction": layer.index / len(subject.layers),
        "read_point": layer.read_point,
        "pool": layer.pool,
    }


def _probe_rows(found: Findings, subject: Subject) -> list[dict]:
    rows = []
    for (name, seed), fitted in found.probes.items():
        place = _place(subject, name) | {"seed": seed, "protocol": fitted.protocol}
        on_test = place | {"split": "test"}
        score_name, score = fitted.result
        about = {"quantity": f"probe_{score_name}", "value": score, "low": fitted.low, "high": fitted.high}
        rows.append(on_test | about)
        if score_name == "accuracy":
            rows.append(on_test | {"quantity": "balanced_accuracy", "value": fitted.balanced_accuracy})
            rows.append(on_test | {"quantity": "probe_loss", "value": fitted.loss})
        if fitted.best_test_accuracy is not None:
            paper = {"value": fitted.best_test_accuracy, "protocol": f"{fitted.protocol}, best epoch on test"}
            rows.append(on_test | {"quantity": "best_test_accuracy"} | paper)
        if fitted.penalty is not None:
            rows.append(place | {"split": "train", "quantity": "probe_penalty", "value": fitted.penalty})
        heldout = place | {"split": "heldout"}
        if score_name == "accuracy":
            rows.append(heldout | {"quantity": "heldout_accuracy", "value": fitted.heldout_accuracy})
        if (name, seed) in found.choice:
            rows.append(
                heldout
                | {
                    "quantity": f"choice_{score_name}",
                    "value": found.choice[name, seed].score,
                    "protocol": choice_protocol(fitted, found.dataset.train.groups is not None),
                }
            )
    return rows


def _mean_rows(found: Findings, subject: Subject, resampled: np.ndarray) -> list[dict]:
    """The mean of several probe seeds, with an interval over test rows and seeds; nothing for one seed."""
    if len(found.seeds) == 1:
        return []
    rows = []
    for position, name in enumerate(found.layers):
        low, high = found.score_interval(position, resampled)
        fitted = found.probes[name, found.seeds[0]]
        rows.append(
            _place(subject, name)
            | {
                "split": "test",
                "quantity": f"probe_{found.score_name}_mean",
                "value": found.scores[position],
                "low": low,
                "high": high,
                "seed": None,
                "protocol": f"{_alone(found)} and {_bootstrap(found)} with {fitted.protocol}",
            }
        )
    return rows


def _alone(found: Findings) -> str:
    """How the interval of one probe is made, as the column `protocol` has it."""
    return "wilson" if found.score_name == "accuracy" else "standard error"


def _bootstrap(found: Findings) -> str:
    """What an interval was drawn over, as the column `protocol` has it."""
    return f"bootstrap of test rows{' and probe seeds' if len(found.seeds) > 1 else ''}/v1"


def _metric_rows(found: Findings, subject: Subject, probe_protocol: str) -> list[dict]:
    return [
        _place(subject, name)
        | {
            "split": METRICS[quantity].split,
            "quantity": quantity,
            "value": value,
            "protocol": METRICS[quantity].protocol_with(probe_protocol),
        }
        for name, values in found.metrics.items()
        for quantity, value in values.items()
    ]


def _cka_rows(found: Findings, subject: Subject) -> list[dict]:
    if found.cka is None:
        return []
    return [
        _place(subject, name)
        | {
            "layer_b": found.layers[other],
            "split": METRICS["cka"].split,
            "quantity": "cka",
            "value": float(found.cka[position, other]),
            "protocol": METRICS["cka"].protocol,
        }
        for position, name in enumerate(found.layers)
        for other in range(position, len(found.layers))
    ]


def _tunnel_rows(found: Findings, run: dict[str, Any]) -> list[dict]:
    rows: list[dict[str, Any]] = []
    index = {layer["name"]: layer["index"] for layer in run["layers"]}
    reading = run["tunnel"]
    if found.role == "id":
        if run["network_accuracy"] is not None:
            rows.append(
                {
                    "quantity": "network_accuracy",
                    "protocol": "argmax of the logits",
                    **run["network_accuracy"],
                }
            )
        for quantity in ("start_95", "start_98") if reading["start_95"] else ():
            low, high = reading[f"{quantity}_interval"]
            rows.append(
                {
                    "quantity": quantity,
                    "value": index[reading[quantity]],
                    "low": index[low],
                    "high": index[high],
                }
            )
            rows.append({"quantity": f"{quantity}_stable", "value": index[reading[f"{quantity}_stable"]]})
    else:
        rows += _reading_rows(reading["ood"][found.dataset.key])
    return [{"split": "test", "protocol": _bootstrap(found)} | row for row in rows]
