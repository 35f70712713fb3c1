"""A scan in words: the verdict's two sentences and the lines of code that come after it."""

from collections.abc import Sequence
from typing import Any


def verdict(tunnel: dict[str, Any], best_layer: dict[str, Any], layers: Sequence[dict[str, Any]]) -> str:
    """Two sentences: where the tunnel starts, and what the layers after it cost on other data.

    A fall on other data is claimed only where the interval of r lies below 1.

    Args:
        tunnel, best_layer, layers: as in the JSON object.
    """
    return f"{_about_start(tunnel, layers)} {_about_other_data(tunnel, best_layer, layers)}"


def _about_start(tunnel: dict[str, Any], layers: Sequence[dict[str, Any]]) -> str:
    count = len(layers)
    if tunnel["start_95"] is None:
        return f"Where the representation stops being built is not known here: {tunnel['reason']}."
    index = {layer["name"]: layer["index"] for layer in layers}
    low, high = (index[name] for name in tunnel["start_95_interval"])
    surely = f"95 % interval {low}" + (f" to {high}" if high != low else "")
    where = f"{tunnel['start_95']} (layer {index[tunnel['start_95']]} of {count}, {surely})"
    if tunnel["length"] == 0:
        return f"On its own data this network builds its representation up to the last layer, {where}."
    rest = "the last layer adds" if tunnel["length"] == 1 else f"the {tunnel['length']} layers after it add"
    built = f"On its own data this network has built its representation by {where}"
    return f"{built}; {rest} at most 5 % of the final accuracy."


def _about_other_data(
    tunnel: dict[str, Any], best_layer: dict[str, Any], layers: Sequence[dict[str, Any]]
) -> str:
    if not tunnel["ood"]:
        return "What the layers after it cost on other data was not asked; name a set with --ood."
    parts = []
    fallen = 0
    for key, reading in tunnel["ood"].items():
        r, best = reading["retained"], best_layer[key]
        fallen += r["high"] is not None and r["high"] < 1
        is_last = best["layer"] == layers[-1]["name"]
        parts.append(f"{_percent(r)} on {key} (take {'the last layer' if is_last else best['layer']})")
    kept = ", ".join(parts[:-1]) + (" and " if parts[:-1] else "") + parts[-1]
    head = f"Of the best layer's accuracy on other data the last layer keeps {kept}"
    if not fallen:
        return f"{head}: no tunnel beyond the sampling error of the test images."
    sure = "beyond" if fallen == len(parts) else f"on {fallen} of {len(parts)} sets beyond"
    return f"{head}: {_strength(tunnel['band'])}, {sure} the sampling error of the test images."


def _strength(band: str | None) -> str:
    return f"a {band} tunnel" if band in ("weak", "medium", "strong") else "a negligible tunnel"


def _percent(number: dict[str, float | None]) -> str:
    if number["value"] is None:
        return "an unknown share"
    if number["low"] is None or number["high"] is None:
        return f"{number['value']:.0%}"
    return f"{100 * number['value']:.1f} % [{100 * number['low']:.1f}–{100 * number['high']:.1f}]"


def next_step(model: str | None, weights: str | None, layer: str, pool: str, seed: int = 0) -> list[str]:
    """Three lines of Python that take features at a layer from one's own images.

    Args:
        model: the network's name as it can be loaded again; None for a module given from Python.
    """
    seeded = f", seed={seed}" if seed else ""
    pooled = ("" if pool == "auto" else f', pool="{pool}"') + seeded
    if model is None:
        network = "network = model  # the module that was scanned"
    else:
        loaded = f', weights="{weights}"' if weights else ""
        network = f'network = ts.load_network("{model}"{loaded}{seeded})'
    return [
        "import tunnelscope as ts",
        network,
        f'features = ts.record(network, images, layers="{layer}"{pooled})["{layer}"]  # (n, width)',
    ]
