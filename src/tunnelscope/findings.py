"""What a scan was asked to measure, and what one data set showed."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tunnelscope.data import DataSet
from tunnelscope.probes.many import AnyProbe


@dataclass(frozen=True)
class Settings:
    """How a scan measures; everything that changes a number is in here and in the run's record."""

    layers: str | Sequence[str] = "blocks"
    pool: str = "auto"
    protocol: str = "exact"
    tolerance: float = 1e-2
    seeds: int = 1
    seed: int = 0
    max_samples: int | None = None


@dataclass
class Findings:
    """What one data set showed, layers in order (layer 0, the pixels, apart)."""

    dataset: DataSet
    role: str
    layers: list[str]
    probes: dict[tuple[str, int], AnyProbe] = field(default_factory=dict)  # by layer and seed
    choice: dict[tuple[str, int], tuple[float, float]] = field(
        default_factory=dict
    )  # held-out accuracy, loss
    correct: np.ndarray = field(
        default_factory=lambda: np.empty((0, 0))
    )  # (layers, test rows), mean over seeds
    metrics: dict[str, dict[str, float | None]] = field(default_factory=dict)  # by layer
    cka: np.ndarray | None = None  # (layers, layers)
    network_correct: np.ndarray | None = None  # (test rows,): the network's own classifier
    fingerprints: dict[str, str] = field(default_factory=dict)  # by split
    warnings: list[str] = field(default_factory=list)

    @property
    def accuracies(self) -> np.ndarray:
        """Test accuracy of each layer, (layers,), mean over seeds."""
        return self.correct.mean(axis=1)

    @property
    def best(self) -> int:
        """Position of the layer with the best held-out accuracy.

        Of layers with equal accuracy, common with few held-out rows, the one with the lower held-out
        loss, then the earlier.
        """
        seeds = sorted({seed for _, seed in self.probes})

        def merit(position: int) -> tuple[float, float, int]:
            scores = np.array([self.choice[self.layers[position], seed] for seed in seeds])
            accuracy, loss = scores.mean(axis=0)
            return float(accuracy), -float(loss), -position

        return max(range(len(self.layers)), key=merit)
