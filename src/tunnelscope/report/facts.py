"""What the report says in words and small tables: the tunnel, the layer to take, what was run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tunnelscope.report import words
from tunnelscope.report.tidy import Frame, number
from tunnelscope.tasks import score_of, score_title


@dataclass(frozen=True)
class KeyFigure:
    """One number a reader takes home: what it is, its value, what to know about it."""

    label: str
    value: str
    detail: str = ""


def key_figures(run: dict[str, Any], frame: Frame) -> list[KeyFigure]:
    """The tunnel's start, its length and strength, and the network's own accuracy."""
    tunnel = run.get("tunnel") or {}
    reason = tunnel.get("reason") or ""
    return [
        start_figure(tunnel, frame, reason),
        length_figure(tunnel, frame, reason),
        strength_figure(tunnel, score_word(run)),
        accuracy_figure(run),
    ]


def start_figure(tunnel: Mapping[str, Any], frame: Frame, reason: str) -> KeyFigure:
    start = tunnel.get("start_95")
    if not start:
        return KeyFigure("The tunnel starts after", "not known", reason)
    details = [f"layer {frame.start}"] if frame.start else []
    low, high = [*(tunnel.get("start_95_interval") or []), None, None][:2]
    if low and high:
        ends = "no other" if low == high else f"{in_brief(low, frame)} to {in_brief(high, frame)}"
        details.append(f"95 % interval: {ends}")
    stable = tunnel.get("start_95_stable")
    if stable and stable != start:
        details.append(f"stable from {in_brief(stable, frame)} on")
    if tunnel.get("start_98"):
        details.append(f"by the 98 % rule {in_brief(tunnel['start_98'], frame)}")
    return KeyFigure("The tunnel starts after", start, "; ".join(details))


def in_brief(layer: str, frame: Frame) -> str:
    """A layer's name, or its number where the name is long."""
    return layer if len(layer) <= 16 or layer not in frame.names else f"layer {frame.names.index(layer) + 1}"


def length_figure(tunnel: Mapping[str, Any], frame: Frame, reason: str) -> KeyFigure:
    length = number(tunnel.get("length"))
    if length is None:
        return KeyFigure("Layers in the tunnel", "not known", reason)
    detail = f"{words.percent(tunnel.get('share'), 0)} of the depth"
    return KeyFigure("Layers in the tunnel", f"{int(length)} of {frame.count}", detail)


def score_word(run: Mapping[str, Any]) -> str:
    """What probes are scored by on the sets of a run, in a word."""
    return score_title(score_of(best)[0] for best in (run.get("best_layer") or {}).values() if best)


def strength_figure(tunnel: Mapping[str, Any], score: str) -> KeyFigure:
    sets = [entry for entry in (tunnel.get("ood") or {}).values() if not entry.get("draw_of")]
    kept = [number((entry.get("retained") or {}).get("value")) for entry in sets]
    kept = [value for value in kept if value is not None]
    if not kept or not tunnel.get("band"):
        return KeyFigure("Strength of the tunnel", "not known", "it is read on OOD sets" if not kept else "")
    mean = words.percent(sum(kept) / len(kept), 0)
    over = "the OOD set" if len(kept) == 1 else f"{len(kept)} OOD sets"
    fallen = sum(bool(entry.get("is_beyond_noise")) for entry in sets)
    sure = f"beyond the sampling error on {fallen} of {len(kept)}" if fallen else "within the sampling error"
    detail = f"the last layer keeps {mean} of the best layer’s {score} on {over}, {sure}"
    return KeyFigure("Strength of the tunnel", str(tunnel["band"]) if fallen else "no sure tunnel", detail)


def accuracy_figure(run: dict[str, Any]) -> KeyFigure:
    own = run.get("network_accuracy")
    if not own or number(own.get("value")) is None:
        return KeyFigure("The network itself", "not known", run.get("network_accuracy_reason") or "")
    interval = words.percent_range(own)
    return KeyFigure(
        "The network itself", words.percent(own["value"]), f"95 % interval {interval}" if interval else ""
    )


def ood_rows(run: dict[str, Any]) -> list[dict[str, str]]:
    """The readings of the tunnel on each OOD set: r, band, ρ, A, and the start read on that set."""
    rows = []
    for key, entry in ((run.get("tunnel") or {}).get("ood") or {}).items():
        if entry.get("draw_of"):
            continue  # the row of the draws together stands for it
        names = ("retained", "retained_matched", "pearson", "alignment")
        readings = {name: entry.get(name) or {} for name in names}
        rows.append(
            {
                "key": key,
                "draws": f"mean of {len(entry['draws'])} draws" if entry.get("draws") else "",
                "retained": words.percent(readings["retained"].get("value"), 0),
                "retained_range": words.percent_range(readings["retained"], 0),
                "matched": words.percent(readings["retained_matched"].get("value"), 0),
                "matched_range": words.percent_range(readings["retained_matched"], 0),
                "band": band_words(entry),
                "pearson": words.decimal(readings["pearson"].get("value")),
                "pearson_range": words.decimal_range(readings["pearson"]),
                "alignment": words.decimal(readings["alignment"].get("value")),
                "alignment_range": words.decimal_range(readings["alignment"]),
                "falls_after": falls_after(entry),
            }
        )
    return rows


def band_words(entry: Mapping[str, Any]) -> str:
    """How strong the tunnel is on an OOD set, doubted where r's interval reaches 1."""
    band = str(entry.get("band") or words.UNKNOWN)
    is_claim = band not in ("negligible", words.UNKNOWN)
    return f"{band}, not sure" if is_claim and not entry.get("is_beyond_noise") else band


def falls_after(entry: Mapping[str, Any]) -> str:
    """Where accuracy on an OOD set falls: its highest layer, told where all of r's interval lies below 1.

    The highest of many layers lies above the last one by chance alone, so elsewhere it says nothing.
    """
    if number((entry.get("retained") or {}).get("high")) is None:
        return words.UNKNOWN
    return (entry.get("start") or words.UNKNOWN) if entry.get("is_beyond_noise") else "no sure fall"


MOST_CLASSES = 12  # named in a cell
SAVINGS = ("parameters", "flops", "milliseconds")  # of a best row; all unknown without a network


def saved_share(saved: Any, whole: Any) -> str:
    """What is saved as a share of the whole network, in percent."""
    part, total = number(saved), number(whole)
    return words.UNKNOWN if part is None or not total else words.percent(part / total, 0)


def best_rows(run: dict[str, Any], frame: Frame) -> list[dict[str, Any]]:
    """Per data set the layer to take, its accuracy, what it saves and the lines of code that take it."""
    best, code = run.get("best_layer") or {}, run.get("next_step") or {}
    whole = run.get("model") or {}
    place = {name: index for index, name in enumerate(frame.names, start=1)}
    rows = []
    for key in frame.sets:
        layer = best.get(key)
        if not layer:
            continue
        milliseconds = number(layer.get("milliseconds_saved"))
        rows.append(
            {
                "key": key,
                "role": "ID" if key == frame.id_set else "OOD",
                "layer": layer.get("layer") or words.UNKNOWN,
                "short": words.shorten(layer.get("layer") or words.UNKNOWN),
                "index": place.get(layer.get("layer")),
                "accuracy": words.score(layer),
                "range": words.score_range(layer),
                "parameters": saved_share(layer.get("parameters_saved"), whole.get("parameters")),
                "flops": saved_share(layer.get("flops_saved"), whole.get("flops")),
                "milliseconds": words.UNKNOWN
                if milliseconds is None
                else f"{words.decimal(milliseconds, 1)} ms",
                "code": "\n".join(code.get(key) or []),
            }
        )
    # The question is which layer to take for other data, so the ID set, where it is, comes last.
    return sorted(rows, key=lambda row: row["role"] == "ID")


def what_was_run(run: dict[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Groups of (name, value) pairs that say what produced the numbers."""
    model, hardware = run.get("model") or {}, run.get("hardware") or {}
    timings, fingerprints = run.get("timings") or {}, run.get("fingerprints") or {}
    spent = [(name, words.seconds(value)) for name, value in timings.items() if "_" not in name]
    rate = timings.get("images_per_second")  # none where features were given
    rates = [
        *([("images per second", words.significant(rate))] if rate is not None else []),
        ("peak memory", f"{words.count(timings.get('peak_memory_mb'))} MB"),
    ]
    precision = {name: value for name, value in (run.get("precision") or {}).items() if value is not None}
    groups = [
        ("Network", model_pairs(model)),
        (
            "Preprocessing",
            [(name, plain(value)) for name, value in (model.get("preprocessing") or {}).items()],
        ),
        ("Precision", [(name.replace("_", " "), plain(value)) for name, value in precision.items()]),
        ("Hardware", [(name.replace("_", " "), plain(value)) for name, value in hardware.items()]),
        ("Versions", [(name, plain(value)) for name, value in (run.get("versions") or {}).items()]),
        ("Seeds", [(name, plain(value)) for name, value in (run.get("seeds") or {}).items()]),
        ("Time", spent + rates if timings else []),
        ("Fingerprints (SHA-256)", fingerprint_pairs(fingerprints)),
    ]
    return [(title, pairs) for title, pairs in groups if pairs]


def model_pairs(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    if not model:
        return []
    counts = [(name, words.count(model.get(name))) for name in ("parameters", "flops")]
    return [(name, plain(model.get(name))) for name in ("name", "source", "weights")] + counts


def fingerprint_pairs(fingerprints: Mapping[str, Any]) -> list[tuple[str, str]]:
    pairs = []
    for name, value in fingerprints.items():
        pairs += (
            [(key, plain(one)) for key, one in value.items()]
            if isinstance(value, Mapping)
            else [(name, plain(value))]
        )
    return [(name, value) for name, value in pairs if value]


def data_rows(run: dict[str, Any]) -> list[dict[str, str]]:
    """One row a data set: where it is from, how large, what was chosen on reading it."""
    return [
        {
            "key": str(entry.get("key")),
            "role": str(entry.get("role") or "").upper(),
            "source": plain(entry.get("source")),
            "classes": words.count(entry.get("classes")),
            "n_train": words.count(entry.get("n_train")),
            "n_test": words.count(entry.get("n_test")),
            "chance": words.percent(entry.get("chance")),
            "notes": "; ".join(entry.get("notes") or []),
        }
        for entry in run.get("data") or []
    ]


def leakage_rows(run: dict[str, Any]) -> list[dict[str, str]]:
    """What each OOD set shares with the ID set; nothing without one, or of runs that did not look for it."""
    return [
        {
            "key": key,
            "classes": shared_words(entry.get("shared_classes")),
            "equal": words.count(entry.get("equal")),
            "like": words.count(entry.get("like")),
            "share": words.percent(entry.get("share"), 2),
            "equal_train": words.count(entry.get("equal_train")),
            "verdict": "shares with the ID set" if entry.get("is_leaking") else "nothing found",
        }
        for key, entry in (run.get("leakage") or {}).items()
    ]


def shared_words(pairs: Any) -> str:
    """Classes that two sets share: as the ID set writes them, and as the other one where that differs."""
    if pairs is None:
        return "no names to compare"
    named = [own if own == other else f"{own} = {other}" for own, other in pairs]
    shown = ", ".join(named[:MOST_CLASSES]) + (", …" if len(named) > MOST_CLASSES else "")
    return f"{len(named)}: {shown}" if named else "none"


def plain(value: Any) -> str:
    """Any JSON value as text, numbers short and lists with commas."""
    if value is None:
        return words.UNKNOWN
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(plain(one) for one in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {plain(one)}" for name, one in value.items())
    return str(value)
