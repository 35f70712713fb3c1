"""The training loop: plain steps over images in memory, exactly resumable at any of them.

No generator is carried from step to step: order, augmentation and dropout are drawn anew from the seed, the
epoch and the step. So a training that was killed and goes on draws what it would have drawn.
"""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tunnelscope.data import Preprocessing
from tunnelscope.errors import RequestError
from tunnelscope.forward import has_narrow_shortcut
from tunnelscope.models.weights import save_weights
from tunnelscope.precision import numbers
from tunnelscope.randomness import named_generator, named_seed
from tunnelscope.training.augment import augmented
from tunnelscope.training.processes import Processes
from tunnelscope.training.recipe import Recipe
from tunnelscope.training.state import Progress, RunFolder, load_state, save_state

EVALUATION_BATCH = 500
CHECKED = 50  # steps after which losses are looked at: each look waits for the device


@dataclass(frozen=True, eq=False)
class Labelled:
    """Images as `as_pixels` gives them, and their labels, on the device."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, chosen: Tensor) -> "Labelled":
        """Return some of them."""
        return Labelled(self.images[chosen], self.labels[chosen])

    def on(self, device: torch.device) -> "Labelled":
        """Return them on a device."""
        return Labelled(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Saves:
    """After which steps and epochs the weights are kept, and how often the state is."""

    steps: frozenset[int]
    epochs: frozenset[int]
    state_every: float = 60.0

    def wants(self, step: int, steps: int) -> bool:
        """Whether the weights after a step are kept; `steps` are those of an epoch."""
        return step in self.steps or (step % steps == 0 and step // steps in self.epochs)


class Inputs:
    """From rows of pixels to what the network reads."""

    def __init__(self, preprocessing: Preprocessing | None, device: torch.device):
        """Take a network's preprocessing; None where images are ready inputs."""
        self.is_ready = preprocessing is None
        mean, std = (preprocessing.mean, preprocessing.std) if preprocessing else ((0.0,), (1.0,))
        self.mean, self.std = (torch.tensor(values, device=device) * 255 for values in (mean, std))

    def __call__(self, images: Tensor) -> Tensor:
        """Return (n, C, H, W) float32, channels last in memory where they lie so in the images."""
        if self.is_ready:
            return images
        return images.float().sub_(self.mean).div_(self.std).permute(0, 3, 1, 2)


class Loop:
    """One training: a network, its optimizer, its images.

    Attributes:
        progress: how far it is.
        lines: of the log, one an epoch.
    """

    def __init__(
        self,
        module: nn.Module,
        recipe: Recipe,
        train: Labelled,
        inputs: Inputs,
        folder: RunFolder,
        saves: Saves,
        *,
        seed: int,
        used: str,
        processes: Processes,
    ):
        self.recipe, self.train, self.inputs, self.folder, self.saves = recipe, train, inputs, folder, saves
        self.seed, self.used, self.processes = seed, used, processes
        self.device = train.labels.device
        self.module = module.to(self.device).requires_grad_(True)
        self.optimizer = make_optimizer(self.module, recipe)
        self.runs = processes.wrapped(self.module)
        self.is_narrow = has_narrow_shortcut(module)  # images that lie channels last spread their layout
        full, rest = divmod(len(train), recipe.batch)
        self.steps = full + (rest > 1 or full == 0)  # one image alone has no batch statistics
        self.seen = min(len(train), self.steps * recipe.batch)
        self.progress, self.lines = Progress(), list[dict[str, Any]]()
        self._losses: list[Tensor] = []
        self._sums = torch.zeros(2, dtype=torch.float64, device=self.device)  # loss, right
        self._ordered: tuple[int, Tensor] | None = None  # an epoch, and the rows in its order

    @property
    def total(self) -> int:
        """Steps of the whole training."""
        return self.steps * self.recipe.epochs

    def resume(self) -> bool:
        """Go on from the state in the folder; return whether there is one."""
        path = self.folder.file("state")
        if not path.exists():
            return False
        self.progress = load_state(path, self.module, self.optimizer)
        if self.processes.is_first:  # the others' share is in it
            self._sums += torch.tensor([self.progress.loss, float(self.progress.right)], device=self.device)
        self.lines = self.folder.read_log(self.progress.step)
        return True

    def run(
        self,
        at_epoch: Callable[[int], dict[str, float]],
        report: Callable[[str, int, int], None],
        on_line: Callable[[dict[str, Any]], None] = lambda line: None,
    ) -> None:
        """Train to the end.

        Args:
            at_epoch: called after each epoch, counted from 1, for what its line in the log tells besides
                (`heldout_accuracy` decides which weights are best).
            report: progress.
            on_line: called with each epoch's line of the log.

        Raises:
            RequestError: a loss or weight is not finite; the state before it stays.
            KeyboardInterrupt: Ctrl-C was pressed; the state after the last whole step is saved.
        """
        started = saved = time.monotonic()
        before = self.progress.seconds
        if self.progress.step == 0 and self.saves.wants(0, self.steps):
            self._save_weights()
        with interrupted_between(self.processes.count == 1) as is_interrupted:
            while self.progress.step < self.total:
                self.step()
                self.progress.seconds = before + time.monotonic() - started
                is_end = self.progress.step % self.steps == 0
                if is_end:
                    self._end_epoch(at_epoch)
                    on_line(self.lines[-1])
                if self.saves.wants(self.progress.step, self.steps):
                    self._check()
                    self._save_weights()
                if self._is_due(is_end, time.monotonic() - saved):
                    self.save_state()
                    saved = time.monotonic()
                report("training, steps", self.progress.step, self.total)
                if is_interrupted():
                    self.save_state()
                    raise KeyboardInterrupt
        self.save_state()

    def _is_due(self, is_end: bool, seconds: float) -> bool:
        """Whether the state is to be saved; several processes agree on it at the end of an epoch alone."""
        return is_end if self.processes.count > 1 else seconds >= self.saves.state_every

    def step(self) -> None:
        """Draw a batch, go down its gradient."""
        step, recipe = self.progress.step, self.recipe
        epoch, place = divmod(step, self.steps)
        rows = self._order(epoch)[place * recipe.batch : (place + 1) * recipe.batch]
        mine = self.processes.part(len(rows))
        labels = self.train.labels[rows][mine]
        draws = named_generator(self.seed, f"augmentation of step {step}")
        images = augmented(recipe.augmentation, self.train.images[rows], draws, mine, self.inputs.is_ready)
        torch.manual_seed(named_seed(self.seed, f"dropout of step {step}{self.processes.suffix}"))
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.rate_at(step, self.steps)
        self.module.train()
        self.optimizer.zero_grad(set_to_none=True)
        with numbers(self.used, self.device):
            inputs = self.inputs(images)
            logits = self.runs(inputs.contiguous() if self.is_narrow else inputs)
        losses = F.cross_entropy(logits.float(), labels, label_smoothing=recipe.smoothing, reduction="sum")
        # Gradients are averaged over processes, whose parts of the batch may differ by one image.
        (losses * (self.processes.count / len(rows))).backward()
        self.optimizer.step()
        right = (logits.argmax(dim=1) == labels).sum()
        self._sums += torch.stack([losses.detach().double(), right.double()])
        self._losses.append(losses.detach())
        self.progress.step += 1
        if len(self._losses) >= CHECKED:
            self._check()

    def _order(self, epoch: int) -> Tensor:
        """Return the rows of an epoch in its order."""
        if self._ordered is None or self._ordered[0] != epoch:
            draws = named_generator(self.seed, f"order of epoch {epoch}")
            rows = torch.randperm(len(self.train), generator=draws)
            self._ordered = epoch, rows.to(self.device)
        return self._ordered[1]

    def _check(self) -> None:
        """Look at the losses since the last look."""
        if not self._losses:
            return
        bad = ~torch.stack(self._losses).isfinite()
        first = self.progress.step - len(self._losses)
        self._losses.clear()
        if bool(bad.any()):
            step = first + int(bad.nonzero()[0, 0])
            raise self._not_finite(f"the loss of step {step} (epoch {step // self.steps + 1})", step)

    def _check_weights(self) -> None:
        """Look at the weights, which a last step may have spoilt that no loss has shown yet."""
        bad = (name for name, one in self.module.state_dict().items() if not bool(one.isfinite().all()))
        if (name := next(bad, None)) is not None:
            raise self._not_finite(f"after step {self.progress.step} {name}", self.progress.step - 1)

    def _not_finite(self, what: str, step: int) -> RequestError:
        return RequestError(
            f"{what} is not finite, at rate {self.recipe.rate_at(step, self.steps):g}; {self.folder.path} "
            "keeps the last good state; take a smaller --rate or --precision f32, and another --out"
        )

    def _end_epoch(self, at_epoch: Callable[[int], dict[str, float]]) -> None:
        self._check()
        epoch = self.progress.step // self.steps
        self._sums = self.processes.summed(self._sums)
        loss, right = (self._sums / self.seen).tolist()
        self._sums.zero_()
        last = self.progress.step - 1
        line: dict[str, Any] = {
            "step": self.progress.step,
            "epoch": epoch,
            "rate": self.recipe.rate_at(last, self.steps),
            "loss": loss,
            "train_accuracy": right,
        }
        told = at_epoch(epoch)
        heldout = told.get("heldout_accuracy", -1.0)
        if heldout > self.progress.best:
            self.progress.best, self.progress.best_step = heldout, self.progress.step
            self._write(self.folder.file("best"))
        self.lines.append(line | told | {"seconds": round(self.progress.seconds, 3)})
        if self.processes.is_first:
            self.folder.write_log(self.lines)

    def save_state(self) -> None:
        """Keep all that an exact resume needs."""
        self._check()
        self._check_weights()
        self.progress.loss, self.progress.right = float(self._sums[0]), int(self._sums[1])
        if self.processes.is_first:
            save_state(self.folder.file("state"), self.module, self.optimizer, self.progress)

    def _save_weights(self) -> None:
        self._write(self.folder.checkpoint(self.progress.step))

    def _write(self, path: Path) -> None:
        self._check_weights()
        if self.processes.is_first:
            told = {"step": self.progress.step, "epoch": self.progress.step / self.steps}
            save_weights(path, self.module, told)

    @torch.no_grad()
    def accuracy(self, rows: Labelled) -> float:
        """Return the network's accuracy on labelled images; every process gets the same."""
        self.processes.share_buffers(self.module)
        self.module.eval()
        right = torch.zeros((), dtype=torch.int64, device=self.device)
        mine = self.processes.part(len(rows))
        blocks = rows.images[mine].split(EVALUATION_BATCH), rows.labels[mine].split(EVALUATION_BATCH)
        for images, labels in zip(*blocks, strict=True):
            with numbers(self.used, self.device):
                logits = self.module(self.inputs(images.to(self.device)))
            right += (logits.argmax(dim=1) == labels.to(self.device)).sum()
        return int(self.processes.summed(right)) / len(rows)


@contextmanager
def interrupted_between(postponed: bool) -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C wait for the end of a step: half a step is nothing to go on from. A second does not wait.

    Args:
        postponed: False: Ctrl-C is raised at once, as ever; so it is outside the main thread.

    Yields:
        whether it was pressed.
    """
    pressed: list[int] = []

    def note(number: int, frame: object) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(number)

    try:
        usual = signal.signal(signal.SIGINT, note) if postponed else None
    except ValueError:  # signals reach the main thread alone
        usual = None
    try:
        yield lambda: bool(pressed)
    finally:
        if usual is not None:
            signal.signal(signal.SIGINT, usual)


def make_optimizer(module: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return the recipe's optimizer of all parameters."""
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            module.parameters(),
            lr=recipe.rate,
            momentum=recipe.momentum,
            weight_decay=recipe.decay,
            fused=True,
        )
    return torch.optim.AdamW(module.parameters(), lr=recipe.rate, weight_decay=recipe.decay, fused=True)
