"""What a scan was asked to measure, and what one data set showed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from tunnelscope import tunnel
from tunnelscope.data import DataSet, Prints
from tunnelscope.leakage import Leakage
from tunnelscope.probes import wilson
from tunnelscope.probes.choice import ChoiceScores
from tunnelscope.probes.many import AnyProbe
from tunnelscope.subject import Subject
from tunnelscope.tasks import CLASSIFICATION, SCORE_NAMES


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
    penalty: float | None = None  # of exact and ridge probes; None: chosen on held-out rows


@dataclass
class Findings:
    """What one data set showed, layers in order (layer 0, the pixels, apart)."""

    dataset: DataSet
    role: str
    layers: list[str]
    probes: dict[tuple[str, int], AnyProbe] = field(default_factory=dict)  # by layer and seed
    choice: dict[tuple[str, int], ChoiceScores] = field(default_factory=dict)  # by layer and seed
    credits: np.ndarray = field(default_factory=lambda: np.empty((0, 0, 0)))
    """What each test row adds to the score (`probes.credits`), (seeds, layers, test rows)."""
    metrics: dict[str, dict[str, float | None]] = field(default_factory=dict)  # by layer
    cka: np.ndarray | None = None  # (layers, layers)
    model: str = ""  # that was asked for
    ready_inputs: bool = False  # floats that go in as they are
    network_correct: np.ndarray | None = None  # (test rows,): the network's own classifier
    fingerprints: dict[str, str] = field(default_factory=dict)  # by split
    notes: list[tuple[str, str]] = field(default_factory=list)  # what is doubtful, at which layer
    warnings: list[str] = field(default_factory=list)  # what is doubtful about the whole set
    scale_doubt: str | None = None  # about the scale of the inputs, in words
    prints: Prints | None = None  # of the ID set's training rows, which other sets are compared with
    leakage: Leakage | None = None  # what an OOD set shares with the ID set
    equal: list[tuple[int, int]] = field(
        default_factory=list
    )  # test rows that are a training row too, and it
    like: list[tuple[int, int]] = field(default_factory=list)  # test rows that only look like one, and it
    code: dict[str, list[str]] = field(default_factory=dict)  # by layer: loads its features, without network

    @property
    def score_name(self) -> str:
        """What probes are scored by: `accuracy`, `r2` or `map`."""
        return SCORE_NAMES[self.dataset.task]

    @property
    def scores(self) -> np.ndarray:
        """Each layer's score on the test rows, (layers,), mean over seeds."""
        return self.credits.mean(axis=2).mean(axis=0)

    def score_interval(self, position: int, resampled: np.ndarray) -> tuple[float, float]:
        """The 95 % interval of a layer's score over test rows: of an accuracy Wilson's, else the probe's own.

        Of several seeds' mean it is widened to that of the bootstrap over test rows and seeds, which alone
        would have no width where every row is right.

        Args:
            resampled: scores on bootstrap samples, (resamples, layers).
        """
        low, high = self.interval_of_rows(position)
        if len(self.seeds) == 1:
            return low, high
        ends = np.quantile(resampled[:, position], [0.025, 0.975])
        return min(low, float(ends[0])), max(high, float(ends[1]))

    def interval_of_rows(self, position: int) -> tuple[float, float]:
        """The 95 % interval of a layer's score over test rows alone."""
        rows = self.credits.shape[2]
        if self.dataset.task == CLASSIFICATION:
            return wilson(self.scores[position] * rows, rows)
        known = (self.probes[self.layers[position], seed].interval for seed in self.seeds)
        low, high = np.mean([ends or (-math.inf, 1.0) for ends in known], axis=0)
        return float(low), float(high)

    @property
    def seeds(self) -> list[int]:
        """The probe seeds."""
        return sorted({seed for _, seed in self.probes})

    @property
    def best(self) -> int:
        """Position of the layer to take, chosen on held-out training rows (`tunnel.choose_layer`)."""
        return self.best_among(np.arange(len(self.layers)))

    def best_among(self, positions: np.ndarray) -> int:
        """The position chosen where only these layers, the last one among them, may be taken."""
        right = tunnel.over_seeds(self.heldout)[positions]
        if not right.shape[1]:
            return int(positions[-1])
        losses = self.heldout_losses[positions]
        return int(positions[tunnel.choose_layer(right.mean(axis=1), losses, tunnel.paired_errors(right))])

    @property
    def heldout(self) -> list[np.ndarray]:
        """What held-out training rows add to each layer's score, (seeds, layers, rows).

        Seeds that judge the same rows, as all do where few rows are held out, are one array: their rows
        are no further evidence. Of seeds that judge others each is an array of its own.
        """
        right = [
            np.array([self.choice[name, seed].credits.numpy() for name in self.layers], dtype=np.float64)
            for seed in self.seeds
        ]
        rows = [self.choice[self.layers[0], seed].rows for seed in self.seeds]
        if all(torch.equal(one, rows[0]) for one in rows):
            return [np.stack(right)]
        return [part[None] for part in right]

    @property
    def heldout_losses(self) -> np.ndarray:
        """Mean held-out cross-entropy of each layer, (layers,); infinite for probes without one."""
        losses = [[self.choice[name, seed].loss for seed in self.seeds] for name in self.layers]
        return np.array([np.mean([math.inf if one is None else one for one in layer]) for layer in losses])

    def resampled_choices(
        self, generator: np.random.Generator, shares: np.ndarray, positions: np.ndarray | None = None
    ) -> np.ndarray:
        """The layer chosen on bootstrap samples of the held-out rows, (resamples,) of positions.

        Args:
            shares: of each probe seed in each resample, (resamples, seeds).
            positions: of the layers that may be taken, the last one among them; None for all.
        """
        positions = np.arange(len(self.layers)) if positions is None else positions
        right = [part[:, positions] for part in self.heldout]
        if not all(part.shape[2] for part in right):
            return np.full(len(shares), positions[-1])
        losses = self.heldout_losses[positions]
        return positions[tunnel.resampled_choices(right, losses, generator, len(shares), shares)]


@dataclass(frozen=True)
class Control:
    """What the same network untrained showed on the same data sets."""

    subject: Subject
    findings: list[Findings]
