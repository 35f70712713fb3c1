"""From findings to the rows of the results table, one row a value."""

from typing import Any

from tunnelscope.findings import Findings, Settings
from tunnelscope.recording import INPUT, Recorder

METRIC_PROTOCOLS = {
    "numerical_rank": "covariance>1e-3",
    "numerical_rank_1e-2": "covariance>1e-2",
    "numerical_rank_1e-4": "covariance>1e-4",
}
ON_TRAIN = ("within_variance", "between_variance", "variance_ratio", "nc")  # the rest is read on test rows


def table_rows(
    findings: list[Findings], recorder: Recorder, settings: Settings, run: dict[str, Any]
) -> list[dict[str, Any]]:
    """Every value of a scan as a row of the results table (`run` is its JSON object)."""
    network = recorder.network
    common = {"run": run["run"], "model": network.name, "weights": network.weights, "seed": settings.seed}
    rows: list[dict[str, Any]] = []
    for found in findings:
        about = {
            **common,
            "dataset": found.dataset.key,
            "role": found.role,
            "n_train": len(found.dataset.train.labels),
            "n_test": len(found.dataset.test.labels),
        }
        rows += [about | row for row in _probe_rows(found, recorder)]
        rows += [about | row for row in _metric_rows(found, recorder)]
        rows += [about | row for row in _cka_rows(found, recorder)]
        rows += [about | row for row in _tunnel_rows(found, run)]
    return rows


def _place(recorder: Recorder, name: str) -> dict[str, Any]:
    if name == INPUT:
        is_input = recorder.embedding is None
        return {
            "layer": INPUT,
            "layer_index": 0,
            "depth_fraction": 0.0,
            "read_point": "input" if is_input else "embedding",
            "pool": "2x2" if is_input else recorder.poolings[INPUT].name,
        }
    point = next(point for point in recorder.points if point.name == name)
    return {
        "layer": name,
        "layer_index": point.index,
        "depth_fraction": point.index / len(recorder.points),
        "read_point": point.kind,
        "pool": recorder.poolings[name].name,
    }


def _probe_rows(found: Findings, recorder: Recorder) -> list[dict]:
    rows = []
    for (name, seed), fitted in found.probes.items():
        place = _place(recorder, name) | {"seed": seed, "protocol": fitted.protocol}
        on_test = place | {"split": "test"}
        rows.append(
            on_test
            | {"quantity": "probe_accuracy", "value": fitted.accuracy, "low": fitted.low, "high": fitted.high}
        )
        rows.append(on_test | {"quantity": "balanced_accuracy", "value": fitted.balanced_accuracy})
        rows.append(on_test | {"quantity": "probe_loss", "value": fitted.loss})
        heldout = place | {"split": "heldout"}
        rows.append(heldout | {"quantity": "heldout_accuracy", "value": fitted.heldout_accuracy})
        if (name, seed) in found.choice:
            rows.append(heldout | {"quantity": "choice_accuracy", "value": found.choice[name, seed].accuracy})
    return rows


def _metric_rows(found: Findings, recorder: Recorder) -> list[dict]:
    return [
        _place(recorder, name)
        | {
            "split": "train" if quantity.startswith(ON_TRAIN) else "test",
            "quantity": quantity,
            "value": value,
            "protocol": METRIC_PROTOCOLS.get(quantity, f"{quantity}/v1"),
        }
        for name, values in found.metrics.items()
        for quantity, value in values.items()
    ]


def _cka_rows(found: Findings, recorder: Recorder) -> list[dict]:
    if found.cka is None:
        return []
    return [
        _place(recorder, name)
        | {
            "layer_b": found.layers[other],
            "split": "test",
            "quantity": "cka",
            "value": float(found.cka[position, other]),
            "protocol": "unbiased linear/v1",
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
        for quantity in ("start_95", "start_98"):
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
        entry = reading["ood"][found.dataset.key]
        rows += [
            {"quantity": quantity, **entry[quantity]} for quantity in ("retained", "pearson", "alignment")
        ]
        rows.append({"quantity": "retained_paper", "value": entry["retained_paper"]})
    return [{"split": "test", "protocol": "bootstrap of test rows/v1"} | row for row in rows]
