"""A scan in words: the verdict's two sentences and the lines of code that come after it."""

from collections.abc import Collection, Sequence
from statistics import mean
from typing import Any

from tunnelscope.tunnel import band

SURE = 0.9  # share of resamples from which on a choice of layer is given without saying how sure it is


def verdict(
    tunnel: dict[str, Any],
    best_layer: dict[str, Any],
    layers: Sequence[dict[str, Any]],
    at_chance: Collection[str] = (),
    weights: str = "",
    scores: tuple[str, str] = ("accuracy", "accuracy"),
    *,
    given: bool = False,
) -> str:
    """Two sentences: where the tunnel starts, and what the layers after it cost on other data.

    A fall on other data is claimed only where the interval of r lies below 1 (`is_beyond_noise`); nothing
    is claimed on sets whose probes are at chance.

    Args:
        tunnel, best_layer, layers: as in the JSON object.
        at_chance: keys of the sets whose best accuracy is not surely above chance.
        weights: of the network, in words.
        scores: what probes are scored by on the own and on other data, in words.
        given: features were given, and the network is not at hand.
    """
    untrained = weights.startswith("random")
    network = "this untrained network" if untrained else "this network"
    start = _about_start(tunnel, layers, at_chance, scores[0], None if given else network)
    return f"{start} {_about_other_data(tunnel, best_layer, layers, at_chance, scores[1])}"


def _about_start(
    tunnel: dict[str, Any],
    layers: Sequence[dict[str, Any]],
    at_chance: Collection[str],
    score: str,
    network: str | None,
) -> str:
    """Where the representation is built; `network` is None where features were given."""
    count = len(layers)
    if tunnel["start_95"] is None:
        return f"Where the representation stops being built is not known here: {tunnel['reason']}."
    if set(at_chance) - set(tunnel["ood"]):
        return "On its own data the probes are at chance, so there is no representation to find the end of."
    index = {layer["name"]: layer["index"] for layer in layers}
    low, high = (index[name] for name in tunnel["start_95_interval"])
    surely = f"95 % interval {low}" + (f" to {high}" if high != low else "")
    where = f"{tunnel['start_95']} (layer {index[tunnel['start_95']]} of {count}, {surely})"
    if tunnel["length"] == 0:
        if network is None:
            return f"On the network's own data these features are built up to the last layer, {where}."
        return f"On its own data {network} builds its representation up to the last layer, {where}."
    rest = "the last layer adds" if tunnel["length"] == 1 else f"the {tunnel['length']} layers after it add"
    built = f"On its own data {network} has built its representation by {where}"
    if network is None:
        built = f"On the network's own data these features are built by {where}"
    return f"{built}; {rest} at most 5 % of the final {score}."


def _about_other_data(
    tunnel: dict[str, Any],
    best_layer: dict[str, Any],
    layers: Sequence[dict[str, Any]],
    at_chance: Collection[str],
    score: str,
) -> str:
    if not tunnel["ood"]:
        return "What the layers after it cost on other data was not asked; name a set with --ood."
    asked = {key: reading for key, reading in tunnel["ood"].items() if not reading.get("draw_of")}
    readable = {key: reading for key, reading in asked.items() if key not in at_chance}
    unreadable = f"the probes on {listed(sorted(set(asked) & set(at_chance)))} are at chance"
    if not readable:
        return f"What the layers after it cost on other data cannot be read: {unreadable}."
    last = layers[-1]["name"]
    kept = listed(
        [
            f"{_kept(reading['retained'])} on {key} ({_about_layer(key, reading, best_layer, last)})"
            for key, reading in readable.items()
        ]
    )
    fallen = sum(reading["is_beyond_noise"] for reading in readable.values())
    sure = "beyond" if fallen == len(readable) else f"on {fallen} of {len(readable)} sets beyond"
    ratios = [r["retained"]["value"] for r in readable.values() if r["retained"]["value"] is not None]
    strength = f"{_strength(band(mean(ratios)))}, {sure}" if fallen else "no tunnel beyond"
    rest = f"; {unreadable}" if len(readable) < len(asked) else ""
    return (
        f"Of the best layer's {score} on other data the last layer keeps {kept}: {strength} the sampling "
        f"error{rest}."
    )


def _about_layer(key: str, reading: dict[str, Any], best_layer: dict[str, Any], last: str) -> str:
    """The layer to take; of several draws of classes, which have one each, how many they are."""
    draws = reading.get("draws")
    return f"mean of {len(draws)} draws of classes" if draws else _take(best_layer[key], last)


def _take(best: dict[str, Any], last: str) -> str:
    """What to take, and how sure that is where it is not."""
    share = best.get("choice_share")
    doubt = f", chosen in {100 * share:.0f} % of resamples" if share is not None and share < SURE else ""
    return f"take {'the last layer' if best['layer'] == last else best['layer']}{doubt}"


def _kept(retained: dict[str, float | None]) -> str:
    """What the last layer keeps; nothing where its R² is not above 0, which no share of it would say."""
    value = retained["value"]
    return "nothing" if value is not None and value <= 0 else percent(retained)


def listed(parts: Sequence[str]) -> str:
    """Words as a sentence lists them: "a, b and c"."""
    return ", ".join(parts[:-1]) + (" and " if parts[:-1] else "") + parts[-1] if parts else ""


def _strength(name: str) -> str:
    return f"a {name} tunnel"


def percent(number: dict[str, float | None]) -> str:
    """A share with its interval: "84.5 % [82.7–86.5]"."""
    if number["value"] is None:
        return "an unknown share"
    if number["low"] is None or number["high"] is None:
        return f"{number['value']:.0%}"
    return f"{100 * number['value']:.1f} % [{100 * number['low']:.1f}–{100 * number['high']:.1f}]"


def next_step(
    model: str | None, weights: str | None, layer: str, pool: str, seed: int = 0, items: str = "images"
) -> list[str]:
    """Three lines of Python that take features at a layer from one's own images or texts.

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
        f'features = ts.record(network, {items}, layers="{layer}"{pooled})["{layer}"]  # (n, width)',
    ]
