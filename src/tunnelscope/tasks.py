"""What the labels of a set ask for: a class, numbers to predict, or any number of labels for each row."""

from collections.abc import Iterable, Mapping
from typing import Any

CLASSIFICATION = "classification"
REGRESSION = "regression"
MULTI_LABEL = "multi-label"

SCORE_NAMES = {CLASSIFICATION: "accuracy", REGRESSION: "r2", MULTI_LABEL: "map"}
SCORE_TITLES = {"accuracy": "accuracy", "r2": "R²", "map": "mAP"}


def score_words(name: str, value: float) -> str:
    """A score as a sentence has it: "61.8%", "R² 0.62", "mAP 61.8%"."""
    if name == "r2":
        return f"R² {value:.2f}".replace("-", "−")
    return f"{value:.1%}" if name == "accuracy" else f"mAP {value:.1%}"


def score_figure(name: str, value: float | None) -> str:
    """A score as a table has it: in percent, R² as a number."""
    if value is None:
        return "–"
    return f"{value:.3f}" if name == "r2" else f"{100 * value:.1f}"


def score_of(entry: Mapping[str, Any]) -> tuple[str, float | None]:
    """Name and value of the score in an object of `run.json`; older runs have an accuracy alone."""
    name = entry.get("score_name") or "accuracy"
    return name, entry.get("score", entry.get("accuracy"))


def heading(title: str) -> str:
    """A score's title as a heading begins: "Accuracy", "R²", "mAP"."""
    return title if title in ("R²", "mAP") else title.capitalize()


def score_title(names: Iterable[str]) -> str:
    """What the scores of several sets are called together: their title, "score" where they differ."""
    titles = {SCORE_TITLES[name] for name in names} or {"accuracy"}
    return titles.pop() if len(titles) == 1 else "score"
