"""How a network is trained: the recipes of both papers by name, and the learning rate at each step."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from tunnelscope.errors import RequestError, unknown_name

OPTIMIZERS = ("sgd", "adamw")
SCHEDULES = ("constant", "milestones", "cosine", "one-cycle")
AUGMENTATIONS = ("none", "crop-flip", "resized-crop-flip")
KEEP = ("last", "best")

ONE_CYCLE_RISE = 0.3  # of all steps, as PyTorch's OneCycleLR has it, and the two ratios with it
ONE_CYCLE_FIRST, ONE_CYCLE_LAST = 1 / 25, 1 / 25 / 1e4


@dataclass(frozen=True)
class Recipe:
    """What decides the weights beside network, data and seed.

    Attributes:
        optimizer: "sgd" or "adamw".
        rate: the largest learning rate.
        epochs: passes over the training images.
        batch: images of one step.
        momentum: of SGD; AdamW has PyTorch's betas, 0.9 and 0.999.
        decay: weight decay of all parameters; of AdamW decoupled.
        schedule: "constant"; "milestones": a tenth from each on; "cosine": by epoch, after the warm-up, down
            to `least`; "one-cycle": by step, PyTorch's `OneCycleLR` with a constant momentum.
        milestones: as shares of the epochs, so that a shorter training has them too.
        warmup: epochs that start with a rising rate, of "cosine".
        warmup_counts: whether the cosine has gone on meanwhile, as timm's does.
        warmup_from: the first rate as a share of the largest.
        least: the last rate as a share of the largest.
        smoothing: label smoothing.
        augmentation: "none", "crop-flip" (4 pixels of black around the image) or "resized-crop-flip".
        keep: "last": the final weights; "best": those with the best accuracy on a tenth of the training
            images, which then is not trained on.
        source: where the recipe comes from, and what of it is assumed.
    """

    optimizer: str
    rate: float
    epochs: int
    batch: int = 128
    momentum: float = 0.0
    decay: float = 0.0
    schedule: str = "constant"
    milestones: tuple[float, ...] = ()
    warmup: int = 0
    warmup_counts: bool = False
    warmup_from: float = 0.01
    least: float = 0.0
    smoothing: float = 0.0
    augmentation: str = "none"
    keep: str = "last"
    source: str = ""

    def __post_init__(self) -> None:
        for kind, value, known in (
            ("optimizer", self.optimizer, OPTIMIZERS),
            ("schedule", self.schedule, SCHEDULES),
            ("augmentation", self.augmentation, AUGMENTATIONS),
            ("choice of weights to keep", self.keep, KEEP),
        ):
            if value not in known:
                raise unknown_name(kind, value, known)
        bounds = (
            ("rate", self.rate, 0 < self.rate < math.inf, "above 0"),
            ("epochs", self.epochs, is_count(self.epochs), "a whole number, 1 or more"),
            ("batch", self.batch, is_count(self.batch), "a whole number, 1 or more"),
            ("momentum", self.momentum, 0 <= self.momentum < 1, "from 0 to below 1"),
            ("decay", self.decay, 0 <= self.decay < math.inf, "0 or more"),
            ("smoothing", self.smoothing, 0 <= self.smoothing < 1, "from 0 to below 1"),
            ("warmup", self.warmup, self.warmup >= 0, "0 or more"),
        )
        for name, value, holds, range_ in bounds:
            if not holds:
                raise RequestError(f"{name} must be {range_}, got {value:g}")
        if self.momentum and self.optimizer != "sgd":
            raise RequestError(f"momentum is SGD's; {self.optimizer} has betas of its own, leave it out")

    def rate_at(self, step: int, steps: int) -> float:
        """Return the learning rate of a step.

        Args:
            step: counted from 0 over all epochs.
            steps: of one epoch.
        """
        if self.schedule == "one-cycle":
            return self.rate * _one_cycle(step, self.epochs * steps)
        epoch = step // steps
        if self.schedule == "milestones":
            return self.rate * 0.1 ** sum(epoch >= round(share * self.epochs) for share in self.milestones)
        if self.schedule == "cosine":
            return self.rate * self._cosine(epoch)
        return self.rate

    def _cosine(self, epoch: int) -> float:
        warmup = min(self.warmup, self.epochs - 1)
        if epoch < warmup:
            return self.warmup_from + (1 - self.warmup_from) * epoch / warmup
        passed = 0 if self.warmup_counts else warmup
        turn = math.pi * (epoch - passed) / (self.epochs - passed)
        return self.least + (1 - self.least) * (1 + math.cos(turn)) / 2

    def as_dict(self) -> dict[str, Any]:
        """Return what a run's record keeps."""
        return asdict(self) | {"milestones": list(self.milestones)}


def is_count(value: float) -> bool:
    """Whether a value is a whole number above 0."""
    return isinstance(value, int) and value >= 1


def _one_cycle(step: int, total: int) -> float:
    """Rise from 1/25 to 1 in 30 % of the steps and fall to 1/250,000, both as half a cosine."""
    top = ONE_CYCLE_RISE * total - 1
    if step <= top:
        low, high, share = ONE_CYCLE_FIRST, 1.0, step / top if top > 0 else 1.0
    else:
        low, high, share = 1.0, ONE_CYCLE_LAST, (step - top) / max(total - 1 - top, 1e-9)
    return high + (low - high) * (1 + math.cos(math.pi * share)) / 2


_REPLICATION = "Masarczyk et al. 2023; the paper's text says little, values of a replication"
_SGD = Recipe("sgd", 0.1, 160, momentum=0.9, decay=1e-4, schedule="milestones", source=_REPLICATION)
_ADAMW = Recipe(
    "adamw",
    0.01,
    100,
    batch=512,
    decay=0.05,
    schedule="cosine",
    warmup=5,
    smoothing=0.1,
    keep="best",
    source="Harun et al. 2024, A.3 to A.5, for CIFAR (on ImageNet-100 its rate is 6e-3, of VGGm-11 on "
    "subsets 8e-3); the decay on CIFAR is assumed to be that on ImageNet-100; the paper keeps the weights "
    "that are best on its test set, here it is a tenth of the training images",
)
_VIT = replace(
    _ADAMW, rate=8e-4, batch=96, warmup_counts=True, warmup_from=1e-6 / 8e-4, least=1e-5 / 8e-4
)  # timm's cosine, rates of the released script

RECIPES: dict[str, Recipe] = {
    "masarczyk2023/mlp": Recipe("sgd", 0.05, 1000, source=_REPLICATION),
    "masarczyk2023/vgg": replace(_SGD, milestones=(80 / 160, 120 / 160)),
    "masarczyk2023/resnet": replace(_SGD, epochs=164, milestones=(82 / 164, 123 / 164)),
    "harun2024/vggm": _ADAMW,
    "harun2024/resnet": _ADAMW,
    "harun2024/vit": _VIT,
    "one-cycle": Recipe(
        "sgd", 0.02, 20, momentum=0.9, schedule="one-cycle", source="short: an MLP's tunnel in minutes"
    ),
}
AUGMENTED = {  # epochs of the 2024 paper's augmented trainings, by network; others keep theirs
    "vggm11": 70,
    "resnet18": 80,
    "vit_t": 40,
    "vit_t_plus": 60,
}
FAMILIES = {"vggm": "vggm", "vgg": "vgg", "vit": "vit", "mlp": "mlp"}  # by how a network's name starts


def recipe_named(name: str, network: str, changes: Mapping[str, Any] | None = None) -> Recipe:
    """Return a recipe by its name, or the one of a paper for a network; with some values changed.

    Args:
        name: of `RECIPES`, or a paper (`masarczyk2023`), which has one for each family.
        network: such as "vgg19" or "cifar_resnet56".
        changes: field → value; None values change nothing.

    Raises:
        RequestError: no such recipe, a paper has none for this network, or a value is out of bounds.
    """
    if name in RECIPES:
        chosen = RECIPES[name]
    else:
        papers = {known.partition("/")[0] for known in RECIPES if "/" in known}
        if name not in papers:
            raise unknown_name("recipe", name, [*RECIPES, *sorted(papers)])
        own = f"{name}/{_family(network, name)}"
        if own not in RECIPES:
            offered = [known for known in RECIPES if known.startswith(f"{name}/")]
            raise RequestError(
                f"{name} has no recipe for {network}; name one of another network: {', '.join(offered)}"
            )
        chosen = RECIPES[own]
    asked = dict(changes or {})
    is_shortened = chosen.augmentation == "none" and (asked.get("augmentation") or "none") != "none"
    if name.startswith("harun2024") and is_shortened and asked.get("epochs") is None:
        asked["epochs"] = AUGMENTED.get(network.removesuffix("_dagger"), chosen.epochs)
    return changed(chosen, asked)


def changed(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """Return a recipe with some values changed; None values change nothing. Raises RequestError."""
    asked = {key: value for key, value in changes.items() if value is not None}
    known = [field.name for field in fields(Recipe)]
    if unknown := asked.keys() - set(known):
        raise unknown_name("setting of a recipe", min(unknown), known)
    return replace(recipe, **asked)


def _family(network: str, paper: str) -> str:
    if "resnet" in network:
        return "resnet"
    family = next((kind for start, kind in FAMILIES.items() if network.startswith(start)), network)
    return "vggm" if family == "vgg" and paper == "harun2024" else family
