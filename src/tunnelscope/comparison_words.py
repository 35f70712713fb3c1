"""A comparison in words: it claims a difference only where the difference's interval excludes none."""

import math
from collections.abc import Sequence
from typing import Any

from tunnelscope.tasks import SCORE_TITLES, score_of, score_title
from tunnelscope.verdict import listed, percent

MOST_LISTED = 4  # runs whose values stand in a sentence; of more, the ends
ERROR = "the sampling error of the test images"


def verdict(runs: Sequence[dict[str, Any]], sets: Sequence[dict[str, Any]]) -> str:
    """A line on where the tunnels start and one for each other data set that two runs share.

    Args:
        runs, sets: as in the JSON object, intervals of differences widened already.
    """
    lines = []
    for entry in sets:
        if len(starts := _having(entry, "start")) > 1:
            lines.append(_about_starts(entry, starts))
        if len(kept := _having(entry, "retained")) > 1:
            lines.append(_about_retained(entry, kept))
    if not lines:
        return f"No data set is shared by two of the {len(runs)} runs in one role, so nothing is compared."
    return "\n".join(lines)


def _having(entry: dict[str, Any], what: str) -> dict[str, Any]:
    return {label: reading[what] for label, reading in entry["readings"].items() if reading[what]}


def _about_starts(entry: dict[str, Any], starts: dict[str, dict[str, Any]]) -> str:
    shares = {label: start["extractor_share"] for label, start in starts.items()}
    shown = listed([f"{shares[label]:.0%} ({label})".replace("%", " %") for label in _shown(shares)])
    claims = _claims(entry, "extractor_share", "later in {more} than in {less}")
    if claims is None:
        claim = "not compared, see the warnings"
    elif claims:
        claim = f"{listed(claims)}, beyond the sampling error and a layer's width"
    else:
        claim = "no difference is beyond the sampling error and a layer's width"
    return f"On {entry['key']} the tunnel starts after {shown} of the depth: {claim}."


def _about_retained(entry: dict[str, Any], kept: dict[str, dict[str, Any]]) -> str:
    at_chance = [label for label in kept if entry["readings"][label]["at_chance"]]
    values = {
        label: number["value"]
        for label, number in kept.items()
        if number["value"] is not None and label not in at_chance
    }
    chance = f"The probes of {listed(at_chance)} are at chance on {entry['key']}." if at_chance else ""
    if len(values) < 2:
        return chance or f"What the last layer keeps on {entry['key']} is not known."
    first, *others = _shown(values)
    score = score_title(score_of(entry["readings"][label]["best_layer"])[0] for label in values)
    parts = [f"{first} keeps {percent(kept[first])} of its best layer's {score}"]
    parts += [f"{label} {percent(kept[label])}" for label in others]
    keeps = f"On {entry['key']} the last layer of {listed(parts)}"
    text = f"{keeps}: {_about_loss(entry)}{_about_best(entry)}."
    return f"{text} {chance}".rstrip()


def _about_loss(entry: dict[str, Any]) -> str:
    claims = _claims(entry, "retained", "{less} loses more than {more}")
    if claims is None:
        return "not compared, see the warnings"
    if claims:
        return f"{listed(claims)}, beyond {ERROR}"
    return f"no difference is beyond {ERROR}"


def _about_best(entry: dict[str, Any]) -> str:
    """Which run's layer reads the set best, and over which others surely."""
    rows = [row for row in entry["comparisons"] if row["quantity"].startswith("best_")]
    if not rows:
        return ""
    within = {label for row in rows for label in (row["a"], row["b"])}
    readings = {label: entry["readings"][label]["best_layer"] for label in entry["runs"] if label in within}
    top = max(readings, key=lambda label: score_of(readings[label])[1] or -math.inf)
    surely = [
        row["b"] if row["a"] == top else row["a"]
        for row in rows
        if row["differs"] and top in (row["a"], row["b"])
    ]
    best = readings[top]
    name, value = score_of(best)
    number = percent({"value": value, "low": best["low"], "high": best["high"]})
    over = f"surely above {listed(surely)}" if surely else "surely above no other"
    highest = f"the highest {SCORE_TITLES[name]} at a layer to take"
    return f"; {highest} is {top}'s, {number} at {best['layer']}, {over}"


def _shown(values: dict[str, float]) -> list[str]:
    """All runs where they are few, else the lowest and the highest."""
    if len(values) <= MOST_LISTED:
        return list(values)
    return [min(values, key=lambda label: values[label]), max(values, key=lambda label: values[label])]


def _claims(entry: dict[str, Any], quantity: str, form: str) -> list[str] | None:
    """What surely differs, one claim for each run that has more; None where no pair could be compared."""
    rows = [row for row in entry["comparisons"] if row["quantity"] == quantity]
    if not rows:
        return None
    below: dict[str, list[str]] = {}
    for row in rows:
        if row["differs"]:
            more, less = (row["a"], row["b"]) if row["difference"] > 0 else (row["b"], row["a"])
            below.setdefault(less, []).append(more)
    return [form.format(less=less, more=listed(more)) for less, more in below.items()]
