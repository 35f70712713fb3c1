"""What probing and measuring one layer on one data set gave, and how it is kept."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tunnelscope.errors import TunnelscopeError
from tunnelscope.memory import give_back
from tunnelscope.metrics import layer_metrics
from tunnelscope.probes import LinearProbe, choice_scores, fit_probe, load_probe
from tunnelscope.probes.choice import ChoiceScores
from tunnelscope.probes.many import AnyProbe
from tunnelscope.tasks import CLASSIFICATION


@dataclass(frozen=True, eq=False)
class Outcome:
    """One layer, one data set, one probe seed.

    Attributes:
        probe: fitted on the training rows, scored on the test rows.
        credits: what each test row adds to the score (`probes.credits`): of classes whether it is right.
        choice: how the layer does on held-out training rows.
        metrics: by name; empty where they were not asked for.
        notes: what the metrics could not say, in words.
    """

    probe: AnyProbe
    credits: Tensor
    choice: ChoiceScores
    metrics: dict[str, float | None]
    notes: tuple[str, ...] = ()

    def save(self, folder: Path) -> None:
        """Write it into an empty folder."""
        self.probe.save(folder / "probe.safetensors")
        rows = {"credits": self.credits.contiguous(), "choice": self.choice.credits.contiguous()}
        rows["choice_rows"] = self.choice.rows
        save_file(rows, folder / "rows.safetensors")
        told = {"metrics": self.metrics, "notes": self.notes, "choice_loss": self.choice.loss}
        told["choice_converged"] = self.choice.converged
        (folder / "outcome.json").write_text(json.dumps(told), encoding="utf-8")


def load_outcome(folder: Path) -> Outcome | None:
    """Read an outcome that `Outcome.save` wrote; None where a file of it is damaged."""
    try:
        told = json.loads((folder / "outcome.json").read_text(encoding="utf-8"))
        rows = load_file(folder / "rows.safetensors")
        return Outcome(
            probe=load_probe(folder / "probe.safetensors"),
            credits=rows["credits"],
            choice=ChoiceScores(
                rows["choice"], told["choice_loss"], rows["choice_rows"], told["choice_converged"]
            ),
            metrics=told["metrics"],
            notes=tuple(told["notes"]),
        )
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, TunnelscopeError):
        return None


def measure_layer(
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    *,
    protocol: str,
    tolerance: float,
    penalty: float | None = None,
    seed: int,
    class_names: tuple[str, ...],
    layer: str,
    task: str = CLASSIFICATION,
    groups: Tensor | None = None,
    with_choice: bool = True,
    with_metrics: bool = True,
    fitted: AnyProbe | None = None,
    choice: ChoiceScores | None = None,
) -> Outcome:
    """Probe one layer, judge it for the choice of a layer, and measure its features.

    Args:
        train, test: features (n, width) and labels (n,); of other tasks (n, t).
        protocol, tolerance, penalty, seed, class_names: of the probe.
        layer: its name, for messages.
        groups: what each training row belongs to, (n,) int64; None: each row stands alone.
        with_choice, with_metrics: leave out what is not read (the input's baseline, further seeds).
        fitted, choice: the layer's probe and its judgement, where they are at hand (several layers side by
            side).
    """
    fitted = fitted or fit_probe(
        *train,
        protocol=protocol,
        tolerance=tolerance,
        penalty=penalty,
        seed=seed,
        class_names=class_names,
        layer=layer,
        task=task,
        groups=groups,
        test=test,
    )
    fitted = fitted.scored(*test)
    credits = fitted.credits(*test)
    give_back()
    if not with_choice:
        choice = ChoiceScores(credits[:0], None, torch.zeros(0, dtype=torch.int64))
    elif choice is None:
        choice = choice_scores(*train, fitted, groups)
        give_back()
    metrics, notes = {}, []
    if with_metrics:
        classes = train[1] if task == CLASSIFICATION else None
        metrics, notes = layer_metrics(test[0], train[0], classes, *_on_features(fitted))
        give_back()
    return Outcome(fitted, credits, choice, metrics, tuple(notes))


def _on_features(fitted: AnyProbe) -> tuple[Tensor | None, Tensor | None]:
    return fitted.weights_on_features if isinstance(fitted, LinearProbe) else (None, None)
