"""What the tunnel costs on other data: r, ρ and A of each OOD set, and of several draws as one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunnelscope import tunnel
from tunnelscope.findings import Findings
from tunnelscope.randomness import numpy_generator
from tunnelscope.tasks import REGRESSION

READINGS = ("retained", "retained_matched", "pearson", "alignment")
UNKNOWN = {"value": None, "low": None, "high": None}


@dataclass(frozen=True)
class Resamples:
    """Bootstrap samples by set: scores (resamples, layers), layers chosen among all and among matched."""

    scores: Mapping[str, np.ndarray]
    choices: Mapping[str, np.ndarray]
    matched: Mapping[str, np.ndarray]


def read_other_data(
    own: Findings | None,
    others: list[Findings],
    resamples: Resamples,
    best_layer: Mapping[str, dict[str, Any]],
    seed: int,
) -> dict[str, dict[str, Any]]:
    """The readings on each OOD set by its key; draws of classes also as one, under the key they share."""
    values = {found.dataset.key: _values(found, own) for found in others}
    resampled = {found.dataset.key: _resampled(found, own, resamples) for found in others}
    readings: dict[str, dict[str, Any]] = {}
    for found in others:
        key, shared = found.dataset.key, found.dataset.draw_of
        if shared and shared not in readings:
            draws = [other.dataset.key for other in others if other.dataset.draw_of == shared]
            readings[shared] = _of_draws(shared, draws, values, resampled, seed)
        start = tunnel.ood_start(found.scores)
        known = {
            name: tunnel.estimate(value, resampled[key][name])
            for name, value in values[key].items()
            if name != "retained_paper"
        }
        readings[key] = _entry(known, values[key]["retained_paper"]) | {
            "start": None if start is None else found.layers[start],
            "best_layer": best_layer[key],
            "draw_of": shared or None,
        }
    return readings


def _values(found: Findings, own: Findings | None) -> dict[str, float]:
    """Each reading of a set; those against the ID set where there is one."""
    scores = _counted(found, found.scores)
    matched = found.best_among(tunnel.matched_layers(len(found.layers)))
    values = {
        "retained": tunnel.retained(scores, found.best),
        "retained_matched": tunnel.retained(scores, matched),
        "retained_paper": tunnel.retained_paper(scores),
    }
    if own is not None:
        own_scores = _counted(own, own.scores)
        values["pearson"] = tunnel.pearson(own_scores, scores)
        values["alignment"] = _aligned(own_scores, scores, _chances(own, found))
    return values


def _resampled(found: Findings, own: Findings | None, resamples: Resamples) -> dict[str, np.ndarray]:
    """The same on bootstrap samples, (resamples,) each."""
    key = found.dataset.key
    curves = _counted(found, resamples.scores[key])
    values = {
        "retained": tunnel.over_resamples(tunnel.retained, curves, resamples.choices[key]),
        "retained_matched": tunnel.over_resamples(tunnel.retained, curves, resamples.matched[key]),
    }
    if own is not None:
        own_curves, chances = _counted(own, resamples.scores[own.dataset.key]), _chances(own, found)
        values["pearson"] = tunnel.over_resamples(tunnel.pearson, own_curves, curves)
        values["alignment"] = tunnel.over_resamples(
            lambda own_curve, curve: _aligned(own_curve, curve, chances), own_curves, curves
        )
    return values


def _of_draws(
    key: str,
    draws: list[str],
    values: dict[str, dict[str, float]],
    resampled: dict[str, dict[str, np.ndarray]],
    seed: int,
) -> dict[str, Any]:
    """Several draws of a set's classes as one: means, with intervals over draws and test rows."""
    known = {
        name: tunnel.pooled(
            np.array([values[draw][name] for draw in draws]),
            np.array([resampled[draw][name] for draw in draws]),
            numpy_generator(seed, f"bootstrap draws {key}"),
        )
        for name in resampled[draws[0]]
    }
    paper = float(np.mean([values[draw]["retained_paper"] for draw in draws]))
    nowhere = {"start": None, "best_layer": None, "draw_of": None}
    return _entry(known, paper) | nowhere | {"draws": draws}


def _entry(known: dict[str, tunnel.Estimate], paper: float) -> dict[str, Any]:
    kept = known["retained"]
    return {
        **{name: vars(known[name]) if name in known else UNKNOWN for name in READINGS},
        "retained_paper": paper,
        "band": None if kept.value is None else tunnel.band(kept.value),
        "is_beyond_noise": tunnel.is_beyond_noise(kept),
        "draws": None,
    }


def _counted(found: Findings, scores: np.ndarray) -> np.ndarray:
    """Scores as r, ρ and A count them: R² below 0, which has no end, as 0: nothing is known."""
    return np.maximum(scores, 0.0) if found.dataset.task == REGRESSION else scores


def _chances(own: Findings, found: Findings) -> tuple[float, float]:
    return own.dataset.chance, found.dataset.chance


def _aligned(own_curve: np.ndarray, curve: np.ndarray, chances: tuple[float, float]) -> float:
    return tunnel.alignment(own_curve[-1], curve[-1], *chances)
