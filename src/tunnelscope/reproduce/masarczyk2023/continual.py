"""Section 4 of the 2023 paper: extractors and tunnels of tasks learnt in turn, swapped and tuned."""

import copy
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from tunnelscope.data import batches, load_data
from tunnelscope.models import Network, load_network
from tunnelscope.models.network import head_of, seeded
from tunnelscope.reproduce.found import Figure, Found, line_rows
from tunnelscope.reproduce.lab import Trained, own_accuracy
from tunnelscope.reproduce.masarczyk2023.experiment import EXACT, Experiment, activations, curves_of
from tunnelscope.reproduce.masarczyk2023.statistics import Curves, slope
from tunnelscope.reproduce.verdicts import above, below, within
from tunnelscope.surgery.stretch import Stretch, stretch_of

TASKS = ("0-4", "5-9")
DEPTHS = {  # convolutions of each stage
    5: (1, 1, 1, 1, 1),
    8: (1, 1, 2, 2, 2),
    10: (2, 2, 2, 2, 2),
    13: (2, 2, 3, 3, 3),
    16: (2, 2, 4, 4, 4),
}
TUNING_RATE = 0.01  # a tenth of the recipe's: the paper's way to tune is not known to us
NOTE = "the table's number is assumed; cut layer, epochs and tuning are ours"
NEW = "E2+new T (FT)"
CHANCE, LEARNT = 20, 5  # points, of five classes; what is no further above chance has nothing to lose
EXAMPLE = (1, 3, 32, 32)
KEPT, RENEWED = "batch norms as each part had them", "batch norms' statistics taken anew on the task"
NORM_IMAGES = 2000  # that they are taken from


class Continual:
    """One network trained on several tasks, each with a head of its own.

    Attributes:
        trained: after each task.
        sources: of each task, with its classes.
    """

    tasks: tuple[str, ...] = TASKS
    data = "cifar10"
    recipe = "masarczyk2023/vgg"
    changed: Mapping[str, Any] = {}  # of the recipe's settings
    tuning: Mapping[str, Any] = {"rate": TUNING_RATE}  # over them, when a network is tuned
    longer = 1  # times the scale's epochs of tuning
    points = "convs"

    def __init__(
        self, experiment: Experiment, seed: int, model: str, tasks: Sequence[str] | None = None
    ) -> None:
        """Train the tasks, or take them as they are kept.

        Args:
            model: as for `ts.train`; `vgg` names one of the paper's.
        """
        lab, tasks = experiment.lab, tasks or self.tasks
        data = experiment.source(self.data)
        settings = {"recipe": self.recipe, "epochs": experiment.scale.epochs["task"], "precision": "f32"}
        self.experiment, self.seed = experiment, seed
        self.trained: list[Trained] = lab.tasks(model, data, tasks, seed=seed, **settings, **self.changed)
        self.sources = [lab.source(self.data, f"classes={classes}") for classes in tasks]
        self.networks = [one.network() for one in self.trained]

    def places(self) -> list[str]:
        """Names of the layers that the network can be cut after, in the order in which they are scanned."""
        return activations(self.networks[0].module)

    def parts(self, module: Any, cut: str) -> list[nn.Module]:
        """The modules of a network up to a place, that one included."""
        container, place = cut.split(".")
        if container == "features":
            return [module.features[: int(place) + 1]]
        return [module.features, module.avgpool, module.flatten, module.classifier[: int(place) + 1]]

    def curves(self, task: int) -> Curves:
        """Of the network after a task, on that task's classes."""
        found = self.experiment.scan(self.trained[task], self.seed, self.sources[task], layers=self.points)
        return curves_of(found)

    def cut(self) -> str | None:
        """The activation after which the first task's tunnel starts; None where it has none."""
        curves = self.curves(0)
        return self.places()[curves.start() - 1] if curves.tunnel.any() else None

    def stretch(self, cut: str) -> Stretch:
        """What runs between the cut and the head."""
        module = self.networks[0].module
        return stretch_of(module, torch.zeros(EXAMPLE), cut, self.places()[-1])

    def swapped(self, extractor: int, tunnel: int, head: int, cut: str) -> Network:
        """The extractor after one task, the tunnel after another, the head of a third.

        Batch norms bring the statistics that they had.
        """
        whole = self.with_head(extractor, head)
        state = dict(whole.module.state_dict())
        inside = tuple(f"{name}." for name in self.stretch(cut).modules)
        other = self.networks[tunnel].module.state_dict()
        return with_state(whole, state | {key: other[key] for key in state if key.startswith(inside)})

    def with_head(self, network: int, head: int) -> Network:
        """The network after one task with the head of another."""
        own = f"{head_of(self.networks[0].module)}."
        state = dict(self.networks[network].module.state_dict())
        other = self.networks[head].module.state_dict()
        return with_state(
            self.networks[network], state | {key: other[key] for key in state if key.startswith(own)}
        )

    def renewed(self, network: Network, task: int) -> Network:
        """The network with the statistics of its batch norms taken anew from a task's training images."""
        module = copy.deepcopy(network.module)
        images = load_data(self.sources[task], max_samples=NORM_IMAGES, seed=self.seed).train.images
        preprocessing: Any = network.preprocessing
        update_bn(batches(images, preprocessing, batch_size=500, workers=2), module)
        return replace(network, module=module)

    def accuracy(self, network: Network, task: int) -> float:
        """A network's own accuracy on a task's test images."""
        return own_accuracy(network, self.sources[task])

    def tuned(self, network: Network, name: str, task: int) -> float:
        """Accuracy on a task's test images after a network was tuned on its training images."""
        module: Any = copy.deepcopy(network.module)
        module.default_cfg = preprocessing_of(network)
        settings = {"recipe": self.recipe, "seed": self.seed, "precision": "f32"}
        query = Path(self.sources[task]).name.partition("?")[2]
        source = self.experiment.source(self.data, query)
        epochs = self.longer * (self.experiment.scale.epochs["tuning"] or 0)
        key = f"{self.trained[0].key} {name} {network.fingerprint}"
        return self.experiment.lab.trained(
            module, source, key, epochs=epochs, **settings, **self.changed
        ).accuracy

    def alone(self, extractor: int, cut: str) -> Network:
        """The extractor after a task with a new linear head on its maps averaged to 2×2."""
        network = self.networks[extractor]
        whole = copy.deepcopy(network.module)
        classes = whole.get_submodule(head_of(whole)).out_features
        module = with_new_head(self.parts(whole, cut), int(classes), self.seed)  # pyright: ignore[reportArgumentType]
        return replace(network, module=module.eval())

    def redrawn(self, extractor: int, cut: str) -> Network:
        """The extractor after a task with a tunnel and a head drawn anew: as deep as E + T, nothing in T."""
        drawn = load_network(self.trained[0].settings["model"], weights="random", seed=1000 + self.seed)
        state = drawn.module.state_dict()
        kept = self.networks[extractor].module.state_dict()
        parts = (*self.stretch(cut).modules, head_of(drawn.module))
        new = {
            key: value for key, value in state.items() if key.startswith(tuple(f"{name}." for name in parts))
        }
        return with_state(self.networks[extractor], kept | new)


def with_new_head(parts: Sequence[nn.Module], classes: int, seed: int) -> nn.Sequential:
    """Modules that run in turn, their maps averaged to 2×2 (where they are larger), and a new linear head."""
    extractor = nn.Sequential(*parts)
    with torch.no_grad():
        maps = extractor.eval()(torch.zeros(EXAMPLE))
        if maps.dim() == 4:
            extractor.extend([nn.AdaptiveAvgPool2d(min(2, maps.shape[-1])), nn.Flatten()])
        width = extractor(torch.zeros(EXAMPLE)).shape[1]
    with seeded(2000 + seed):
        return nn.Sequential(extractor, nn.Linear(width, classes))


def vgg(experiment: Experiment, convolutions: int) -> str:
    """The name of a VGG with so many convolutions."""
    return experiment.model("vgg19", convs=",".join(map(str, DEPTHS[convolutions])))


def preprocessing_of(network: Network) -> dict[str, object]:
    """How pixels are scaled, in the form in which a module carries it."""
    used: Any = network.preprocessing
    return {"mean": used.mean, "std": used.std, "input_size": EXAMPLE[1:]}


def with_state(network: Network, state: dict[str, Tensor]) -> Network:
    """A copy of a network with other tensors."""
    module = copy.deepcopy(network.module)
    module.load_state_dict(state)
    return replace(network, module=module)


def table4(experiment: Experiment) -> Found:
    """Extractors and tunnels of two tasks swapped, and tuned back to the first task."""
    found = Found(experiment.seeds)
    runs = [Continual(experiment, seed, vgg(experiment, 16)) for seed in experiment.seeds]
    cuts = [run.cut() for run in runs]
    pairs = list(zip(runs, cuts, strict=True))
    cut = f"cut after task 1's start ({EXACT})"
    for is_renewed, told in ((False, KEPT), (True, RENEWED)):
        cells = [swaps(run, place, is_renewed) if place else {} for run, place in pairs]
        reading = f"{cut}; {told}"
        for one, other, task in (("E1+T2", "E1+T1", 1), ("E2+T1", "E2+T2", 2)):
            lost = [difference(own, f"{one}, task {task}", f"{other}, task {task}") for own in cells]
            words = f"C18 {one} less {other} on task {task}, points"
            found.claim(words, lost, within(-2, 2), reading, note=NOTE)
        accuracies(found, cells, reading)
    tuned = [tunings(run, place) if place else {} for run, place in pairs]
    lead = [difference(own, "E2 (FT)", "E2+T1 (FT)") for own in tuned]
    found.claim("C19 E2 (FT) less E2+T1 (FT) on task 1, points", lead, above(0), cut, note=NOTE)
    held = [difference(own, "E2+T1 (FT)", NEW) for own in tuned]
    words = "C19 E2+T1 (FT) less E2+new T (FT) on task 1 (control: as deep, nothing learnt in T), points"
    found.claim(words, held, below(0), cut, note=NOTE)
    accuracies(found, tuned, cut)
    return found


def accuracies(found: Found, cells: Sequence[Mapping[str, float]], reading: str, note: str = NOTE) -> None:
    """The table's cells themselves."""
    for name in dict.fromkeys(name for own in cells for name in own):
        found.cell(f"{name}: accuracy, %", [own.get(name) for own in cells], reading, note)


def difference(cells: Mapping[str, float], one: str, other: str, chance: float = CHANCE) -> float | None:
    """Points by which one accuracy is above another; None where that is hardly above chance, or unknown."""
    if one not in cells or other not in cells or cells[other] < chance + LEARNT:
        return None
    return cells[one] - cells[other]


def swaps(continual: Continual, cut: str, is_renewed: bool) -> dict[str, float]:
    """Accuracy in percent of every extractor with every tunnel on every task, with that task's head."""
    tasks, told = range(len(continual.trained)), {}
    for extractor, tunnel, task in itertools.product(tasks, tasks, tasks):
        network = continual.swapped(extractor, tunnel, task, cut)
        if is_renewed:
            network = continual.renewed(network, task)
        name = f"E{extractor + 1}+T{tunnel + 1}, task {task + 1}"
        told[name] = 100 * continual.accuracy(network, task)
    return told


def tunings(continual: Continual, cut: str) -> dict[str, float]:
    """Accuracy in percent on the first task after tuning on it, from the last task's extractor."""
    last = len(continual.trained) - 1
    name = f"E{last + 1}"
    starts = {
        f"{name}+T1 (FT)": (continual.swapped(last, 0, 0, cut), f"swapped {cut}"),
        f"{name} (FT)": (continual.alone(last, cut), f"alone {cut}"),
        f"{name}+new T (FT)": (continual.redrawn(last, cut), f"redrawn {cut}"),
    }
    return {cell: 100 * continual.tuned(network, key, 0) for cell, (network, key) in starts.items()}


def fig10(experiment: Experiment) -> Found:
    """VGGs of 5 to 16 convolutions on two tasks: what is forgotten of the first, by depth."""
    found = Found(experiment.seeds)
    before: list[list[float]] = []
    forgotten: list[list[float]] = []
    lengths = []
    for seed in experiment.seeds:
        runs = [
            Continual(experiment, seed, vgg(experiment, depth)) for depth in experiment.scale.convolutions
        ]
        first = [100 * run.accuracy(run.networks[0], 0) for run in runs]
        after = [100 * run.accuracy(run.with_head(1, 0), 0) for run in runs]
        before.append(first)
        forgotten.append([one - other for one, other in zip(first, after, strict=True)])
        deepest = runs[-1].curves(0)
        has_all = all(one >= CHANCE + LEARNT for one in first) and deepest.tunnel.any()
        lengths.append(deepest.start() if has_all else None)
    depths = np.array(experiment.scale.convolutions)
    reading = f"depth: convolutions; extractor's length that of the deepest network ({EXACT})"
    slopes, drops = [], []
    for first, lost, length in zip(before, forgotten, lengths, strict=True):
        if length is None:  # a network learnt nothing to forget, or the deepest has no tunnel
            slopes.append(None)
            drops.append(None)
            continue
        deep = depths >= length
        slopes.append(slope(depths[deep], np.array(lost)[deep]))
        first = np.array(first)
        is_split = deep.any() and not deep.all()
        drops.append(float(first[~deep].max() - first[deep].mean()) if is_split else None)
    found.claim(
        "C20 forgetting of task 1 per convolution, from the extractor's length on, points",
        slopes,
        above(0),
        reading,
        note=NOTE,
    )
    found.claim(
        "C20 task 1 before task 2: best network shorter than the extractor less the others' mean, points",
        drops,
        below(0),
        reading,
        note=NOTE,
    )
    told = {"accuracy on task 1 before task 2, %": before, "forgotten of task 1, points": forgotten}
    for place, depth in enumerate(experiment.scale.convolutions):
        for words, values in told.items():
            found.cell(f"{depth} convolutions: {words}", [one[place] for one in values], reading, NOTE)
    rows = []
    for words, values in told.items():
        line = words.removeprefix("accuracy on ")
        rows += line_rows("two tasks of five CIFAR-10 classes", line, depths, list(map(np.array, values)))
    found.figures["fig10"] = Figure(pd.DataFrame(rows), "convolutions", "% and points")
    return found
