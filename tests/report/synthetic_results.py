"""Results of scans that never happened: a plausible tunnel of any depth, over any number of data sets."""

from typing import Any

import numpy as np
import pandas as pd

COLUMNS = [
    *(
        "run",
        "model",
        "weights",
        "layer",
        "layer_b",
        "layer_index",
        "depth_fraction",
        "read_point",
        "pool",
        "dataset",
    ),
    *("role", "split", "quantity", "value", "low", "high", "n_train", "n_test", "seed", "protocol"),
]
N_TEST = 2000


def resnet_names(blocks: int = 9) -> list[str]:
    return ["stem", *(f"layer{stage}.{block}" for stage in (1, 2, 3) for block in range(blocks))]


def interval(accuracy: float) -> tuple[float, float]:
    half = 1.96 * np.sqrt(max(accuracy * (1 - accuracy), 1e-4) / N_TEST)
    return max(0.0, accuracy - half), min(1.0, accuracy + half)


def measured(value: float, half: float) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": value + half}


def accuracy_curve(role: str, layers: int, place: int, random: np.random.Generator) -> np.ndarray:
    """ID accuracy rises and stays; OOD accuracy rises to a layer and falls again, differently far per set."""
    depth = np.arange(1, layers + 1) / layers
    if role == "id":
        curve = 0.935 - 0.55 * np.exp(-5 * depth)
    else:
        top = 0.82 - 0.11 * (place % 5)
        curve = top * (1 - np.exp(-6 * depth)) - 0.35 * np.clip(depth - 0.5, 0, None)
    return np.clip(curve + random.normal(0, 0.004, layers), 0.02, 0.999)


def synthetic_results(
    names: list[str] | None = None,
    *,
    id_set: str | None = "cifar10",
    ood_sets: tuple[str, ...] = ("cifar100", "gtsrb"),
    run: str = "resnet56",
    warnings: tuple[str, ...] = (),
    seed: int = 0,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The long table and run.json of one scan, in the forms the report is given."""
    names = resnet_names() if names is None else names
    random = np.random.default_rng(seed)
    sets = [(id_set, "id")] * (id_set is not None) + [(key, "ood") for key in ood_sets]
    base = {"run": run, "model": "cifar_resnet56", "weights": "resnet56_cifar10.safetensors", "seed": 0}
    rows: list[dict[str, Any]] = []

    def add(quantity: str, value: float, **more: Any) -> None:
        rows.append({**base, "quantity": quantity, "value": value, **more})

    accuracies: dict[str, np.ndarray] = {}
    for place, (key, role) in enumerate(sets):
        accuracies[key] = accuracy_curve(role, len(names), place, random)
        where = {"dataset": key, "role": role, "pool": "auto", "n_train": 20000, "n_test": N_TEST}
        pixels = 0.36 - 0.11 * place if place < 3 else 0.08
        low, high = interval(pixels)
        at_input = {"layer": "input", "layer_index": 0, "depth_fraction": 0.0, "split": "test"}
        add("probe_accuracy", pixels, low=low, high=high, protocol="exact/v2", **at_input, **where)
        for index, name in enumerate(names, start=1):
            at = {"layer": name, "layer_index": index, "depth_fraction": index / len(names)}
            at |= {"read_point": "block", **where}
            accuracy = float(accuracies[key][index - 1])
            low, high = interval(accuracy)
            add("probe_accuracy", accuracy, low=low, high=high, split="test", protocol="exact/v2", **at)
            add("balanced_accuracy", accuracy - 0.002, split="test", protocol="exact/v2", **at)
            shape = np.sin(np.pi * (0.15 + 0.85 * index / len(names)))
            rank = 4 + round((180 - 20 * place) * max(shape, 0))
            for quantity, factor in [
                ("numerical_rank", 1.0),
                ("numerical_rank_1e-2", 0.3),
                ("numerical_rank_1e-4", 2.4),
            ]:
                add(quantity, max(1, round(rank * factor)), split="test", protocol="covariance>1e-3", **at)
            add("effective_rank", 2 + rank * 0.42, split="test", protocol="covariance", **at)
            add("rankme", 3 + rank * 0.8, split="test", protocol="singular", **at)
            add(
                "within_variance",
                5.0 * np.exp(-(3 - 0.8 * place) * index / len(names)) + 0.1,
                split="train",
                **at,
            )
            add(
                "between_variance",
                0.4 / (1 + place) * np.exp((1.5 - 0.4 * place) * index / len(names)),
                split="train",
                **at,
            )
            add("nc1", 30 * np.exp(-(4 - place) * index / len(names)) + 0.05, split="train", **at)
            add("twonn", 8 + (20 + 3 * place) * max(shape, 0), split="test", **at)
            for index_b, name_b in enumerate(names[index - 1 :], start=index):
                cka = 1.0 if index == index_b else float(np.exp(-2.5 * (index_b - index) / len(names)))
                add("cka", cka, layer_b=name_b, split="test", protocol="unbiased", **at)
    return pd.DataFrame(rows).reindex(columns=COLUMNS), run_object(
        names, sets, accuracies, run=run, warnings=warnings
    )


def run_object(names, sets, accuracies, *, run, warnings) -> dict[str, Any]:
    count = len(names)
    id_set = next((key for key, role in sets if role == "id"), None)
    best, ood, start = {}, {}, None
    for key, role in sets:
        place = int(accuracies[key].argmax())
        low, high = interval(float(accuracies[key][place]))
        best[key] = {
            "layer": names[place],
            "accuracy": float(accuracies[key][place]),
            "low": low,
            "high": high,
            "parameters_saved": round(853018 * (1 - ((place + 1) / count) ** 2)),
            "flops_saved": round(251_000_000 * (1 - (place + 1) / count)),
            "milliseconds_saved": 4.2 * (1 - (place + 1) / count),
        }
        if role == "ood":
            retained = float(accuracies[key][-1] / accuracies[key].max())
            ood[key] = {
                "retained": measured(retained, 0.02),
                "retained_paper": retained,
                "retained_matched": measured(retained + 0.01, 0.02),
                "pearson": measured(0.42, 0.1) if id_set else None,
                "alignment": measured(0.31, 0.02) if id_set else None,
                "band": "strong" if retained < 0.8 else "medium",
                "is_beyond_noise": retained + 0.02 < 1,
                "start": names[place] if place < count - 1 else None,
                "best_layer": best[key],
            }
    if id_set:
        start = int((accuracies[id_set] >= 0.95 * accuracies[id_set][-1]).argmax())
    after = names[min(start + 1, count - 1)] if start is not None else None
    return {
        "tunnelscope": "0.1.0",
        "run": run,
        "model": {
            "name": "cifar_resnet56",
            "source": "zoo:cifar_resnet56",
            "weights": "resnet56_cifar10.safetensors",
            "parameters": 853018,
            "flops": 251000000,
            "preprocessing": {
                "size": [32, 32],
                "channels": 3,
                "mean": [0.4914, 0.4822, 0.4465],
                "std": [0.2023, 0.1994, 0.201],
                "interpolation": "bicubic",
                "crop_pct": 1.0,
            },
        },
        "data": [
            {
                "key": key,
                "source": f"data/{key}",
                "role": role,
                "classes": 10,
                "n_train": 20000,
                "n_test": N_TEST,
                "chance": 0.1,
                "notes": ["label column: label"],
            }
            for key, role in sets
        ],
        "network_accuracy": {"value": 0.9339, "low": 0.929, "high": 0.9387} if id_set else None,
        "network_accuracy_reason": None if id_set else "no ID set was given",
        "verdict": "After layer2.3 this network builds nothing more for its own classes, which we can say "
        "to within one layer. On other data take an earlier layer: the last one keeps 62 % of the accuracy "
        "that gtsrb has at its best layer.",
        "next_step": {
            key: [
                "import tunnelscope as ts",
                f'features = ts.record("zoo:cifar_resnet56", "data/{key}", layers="{best[key]["layer"]}")',
                f'x = features["{best[key]["layer"]}"]',
            ]
            for key, _ in sets
        },
        "tunnel": {
            "start_95": names[start] if start is not None else None,
            "start_98": after,
            "start_95_stable": names[start] if start is not None else None,
            "start_98_stable": after,
            "start_95_interval": [names[start], after] if start is not None else None,
            "start_98_interval": [names[start], after] if start is not None else None,
            "length": count - start - 1 if start is not None else None,
            "share": (count - start - 1) / count if start is not None else None,
            "extractor_share": (start + 1) / count if start is not None else None,
            "band": "strong" if ood else None,
            "reason": None if id_set else "no ID set was given, and the start of a tunnel is read on ID data",
            "ood": ood,
        },
        "best_layer": best,
        "layers": [
            {
                "name": name,
                "index": index,
                "read_point": "block",
                "shape": [16, 32, 32],
                "width": 64,
                "parameters": 5000 * index,
                "flops": 9_000_000 * index,
                "depth_fraction": index / count,
                "numerical_rank": 31,
                "effective_rank": 12.5,
                "rankme": 20.1,
                "within_variance": 1.25,
                "between_variance": 0.5,
                "variance_ratio": 2.5,
                "nc1": 3.2,
                "nc2": None,
                "twonn": 11.4,
            }
            for index, name in enumerate(names, start=1)
        ],
        "probes": [],
        "baselines": [],
        "timings": {
            "load": 1.2,
            "record": 201.5,
            "probes": 95.0,
            "metrics": 20.25,
            "tunnel": 3.0,
            "report": 2.0,
            "total": 323.0,
            "images_per_second": 310.2,
            "peak_memory_mb": 1830.0,
        },
        "warnings": list(warnings),
        "command": "tunnelscope scan zoo:cifar_resnet56 --weights resnet56_cifar10.safetensors "
        "--id data/cifar10 --ood data/cifar100 --ood data/gtsrb --out runs/resnet56",
        "versions": {"tunnelscope": "0.1.0", "python": "3.11.2", "torch": "2.13.0"},
        "hardware": {"cpu": "AMD EPYC", "cores": 2, "memory_gb": 23, "device": "cpu"},
        "seeds": {"seed": 0},
        "fingerprints": {"model": "9f" * 32, "data": {key: "a1" * 32 for key, _ in sets}},
    }


def with_control(table: pd.DataFrame, run: dict[str, Any]) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The same results beside the untrained network: every accuracy 0.1 lower, every measure doubled."""
    drawn = table[table["layer"].notna() & (table["quantity"] != "cka")].assign(weights="random (seed 0)")
    is_accuracy = drawn["quantity"] == "probe_accuracy"
    drawn["value"] = drawn["value"].where(is_accuracy, 2 * drawn["value"])
    for name in ("value", "low", "high"):
        drawn[name] = drawn[name].where(~is_accuracy, drawn[name] - 0.1)
    control = {"weights": "random (seed 0)", "layers": [], "probes": []}
    return pd.concat([table, drawn], ignore_index=True), run | {"control": control}
