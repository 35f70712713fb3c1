"""The paper's networks trained and scanned at a scale, as its items ask for them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from torch import nn

from tunnelscope.reproduce.lab import Lab, Trained, curve_of
from tunnelscope.reproduce.masarczyk2023.scales import Scale
from tunnelscope.reproduce.masarczyk2023.statistics import Curves
from tunnelscope.results import Scan

FAMILIES = ("mlp", "vgg19", "resnet34")
TITLES = {"mlp": "MLP", "vgg19": "VGG-19", "resnet34": "ResNet-34"}
CLASSES = {"cifar10": 10, "cifar100": 100}
NAMES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}
MLP_WIDTH = 1024
RESNET_POINTS = "^conv1$|conv2$"  # the paper reads the stem and the second convolution of each block
FEWEST_OF_A_CLASS = 3  # rows to fit a probe on
RANKS = {"1e-3": "numerical_rank", "1e-2": "numerical_rank_1e-2", "1e-4": "numerical_rank_1e-4"}

# Readings: maps are averaged into 2×2, layers read at outputs of convolutions and linear layers, unless told.
EXACT = "exact probe"
RECIPE = "the paper's probe recipe"
ACTIVATED = "exact probe, after the activation"
AVERAGED = "exact probe, averaged maps"
FLAT = "ridge probe, flattened maps (8,000 columns at most)"


@dataclass(frozen=True)
class Experiment:
    """Trainings and scans at one scale, kept in the lab."""

    lab: Lab
    scale: Scale

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of the networks."""
        return self.scale.seeds

    def model(self, family: str, width: float | None = None, **arguments: Any) -> str:
        """Return a network's name, `width` times as wide as the paper's."""
        width = self.scale.width[family] if width is None else width
        told = {"width": round(MLP_WIDTH * width) if family == "mlp" else width, **arguments}
        query = "&".join(f"{key}={value}" for key, value in told.items() if value is not None)
        return f"zoo:{family}?{query}"

    def source(self, data: str = "cifar10", query: str = "") -> str:
        """Return a set to train on, with as many images as the scale has."""
        most = (
            "" if self.scale.images is None or "max_samples" in query else f"max_samples={self.scale.images}"
        )
        return self.lab.source(data, "&".join(filter(None, [query, most])))

    def trained(
        self,
        family: str,
        seed: int,
        *,
        data: str = "cifar10",
        query: str = "",
        width: float | None = None,
        longer: float = 1,
        **arguments: Any,
    ) -> Trained:
        """Train a network by the paper's recipe for its family.

        Args:
            query: of the data, such as classes.
            width: times the paper's.
            longer: times the epochs, for smaller sets at equal numbers of gradient steps.
            arguments: of the network.
        """
        kind = "vgg" if family.startswith("vgg") else family.removesuffix("34").removesuffix("18")
        settings: dict[str, Any] = {
            "recipe": self.scale.mlp_recipe if kind == "mlp" else f"masarczyk2023/{kind}",
            "seed": seed,
            "precision": "f32",
        }
        epochs = self.scale.epochs[kind] or PAPER_EPOCHS[kind]
        if data == "cifar100" and family in self.scale.hundred:
            width, more = self.scale.hundred[family]
            longer *= more
        settings["epochs"] = max(1, round(epochs * min(longer, self.scale.most_longer)))
        if family == "vgg19" and not query and width is None and not arguments and data == "cifar10":
            every = 10 if self.scale.name == "paper" else 1  # of which fig5 and fig6 tell
            settings["save_epochs"] = tuple(range(every, settings["epochs"] + 1, every))
        model = self.model(family, width, **arguments)
        return self.lab.trained(model, self.source(data, query), **settings)

    def scan(self, trained: Trained, seed: int, id: str, ood: Sequence[str] = (), **settings: Any) -> Scan:
        """Scan a network on at most as many rows as the scale has."""
        read = {
            "layers": self.points(trained.settings["model"]),
            "probe": self.scale.probe,
            "seed": seed,
            "max_samples": self.scale.rows,
        }
        return self.lab.scanned(trained, id, ood, **(read | settings))

    def of_seeds(
        self, make: Callable[[int], Trained], id: Callable[[int], str] | None = None, ood: Sequence[str] = ()
    ) -> list[Curves]:
        """Return the curves of networks that differ in their seed.

        Args:
            make: trains the network of a seed.
            id: the set it is probed on; all of CIFAR-10 by default.
            ood: other data.
        """
        whole = self.lab.source("cifar10")
        return [curves_of(self.scan(make(seed), seed, id(seed) if id else whole, ood)) for seed in self.seeds]

    def points(self, model: str) -> str:
        """The layers the paper reads: convolutions, hidden linear layers; of a ResNet's block the second."""
        return RESNET_POINTS if "resnet" in model else "convs"

    def draws(self, reading: str = "") -> str:
        """The draws of ten CIFAR-100 classes that a reading is taken on."""
        count = self.scale.flat_draws if reading == FLAT else self.scale.draws
        draws = f"&draws={count}" if count > 1 else ""
        return self.lab.source("cifar100", f"classes=random:10{draws}")

    def curves(self, family: str, reading: str, *, data: str = "cifar10") -> list[Curves]:
        """Return the curves of a family's networks under a reading, one a seed.

        Beside CIFAR-10 draws of CIFAR-100 classes are read, and with some readings the control: the same
        networks as they were drawn.

        Args:
            reading: one of `readings`.
            data: that the networks were trained on.
        """
        ood = [self.draws(reading)] if data == "cifar10" else []
        has_control = data == "cifar10" and reading in WITH_CONTROL
        found = []
        for seed in self.seeds:
            settings: dict[str, Any] = {"layers": self.points(family), "seed": seed, **_READ_BY[reading]}
            settings.setdefault("probe", self.scale.probe)
            most = self.scale.flat_rows if reading == FLAT else self.scale.rows
            settings["max_samples"] = most and max(most, FEWEST_OF_A_CLASS * CLASSES[data])
            sources = (self.lab.source(data), ood)
            one = curves_of(self.lab.scanned(self.trained(family, seed, data=data), *sources, **settings))
            if has_control:
                drawn = self.lab.scanned(self.model(family), *sources, weights="random", **settings)
                one = replace(one, control=curves_of(drawn))
            found.append(one)
        return found

    def readings(self, family: str) -> tuple[str, ...]:
        """All readings of a family: an MLP's layers are vectors, of which nothing is pooled or flattened."""
        return (EXACT, RECIPE, ACTIVATED) if family == "mlp" else tuple(_READ_BY)

    def has_own_rank(self, reading: str) -> bool:
        """Whether a reading has other features than EXACT, and so other ranks."""
        return reading != RECIPE


_READ_BY: dict[str, dict[str, Any]] = {
    EXACT: {},
    RECIPE: {"probe": "masarczyk2023"},
    ACTIVATED: {"layers": "blocks"},
    AVERAGED: {"pool": "avg"},
    FLAT: {"probe": "ridge", "pool": "flatten"},
}
WITH_CONTROL = (EXACT, FLAT)  # a scan of the untrained network takes as long as one of the trained
PAPER_EPOCHS = {"mlp": 1000, "vgg": 160, "resnet": 164}


def activations(module: nn.Module) -> list[str]:
    """Names of the ReLUs, in the order of the layers they follow (of an MLP and of a VGG)."""
    return [name for name, child in module.named_modules() if isinstance(child, nn.ReLU)]


def curves_of(found: Scan) -> Curves:
    """Read the curves of a scan from its table."""
    table: Any = found.frame
    layers: Any = table[(table["layer_index"] > 0) & table["layer"].notna()]
    count = int(layers["layer_index"].max())
    numbers = np.arange(1, count + 1)
    if "resnet34" in found.run["model"]["name"]:
        numbers = 2 * numbers - 1  # stem 1, second convolutions 3, 5, …, 33

    curve = partial(curve_of, found)
    id_set = next(entry for entry in found.run["data"] if entry["role"] == "id")
    id_key = id_set["key"]
    others = [entry["key"] for entry in found.run["data"] if entry["role"] == "ood"]
    own = found.run["network_accuracy"]
    return Curves(
        numbers=numbers,
        id=curve(id_key, "probe_accuracy"),
        ood=np.array([curve(key, "probe_accuracy") for key in others]).reshape(-1, count),
        ranks={tolerance: curve(id_key, quantity) for tolerance, quantity in RANKS.items()},
        ood_ranks=np.array([curve(key, "numerical_rank") for key in others]).reshape(-1, count),
        within=curve(id_key, "within_variance"),
        between=curve(id_key, "between_variance"),
        cka=_cka(layers, id_key, [layer["name"] for layer in found.run["layers"]]),
        attainable=np.array(
            [min(id_set["n_test"] - 1, layer["width"]) for layer in found.run["layers"]], dtype=float
        ),
        own=own["value"] if own else None,
        classes=id_set["classes"],
    )


def _cka(layers: Any, dataset: str, names: list[str]) -> np.ndarray:
    rows = layers[(layers["dataset"] == dataset) & (layers["quantity"] == "cka")]
    matrix = np.eye(len(names))
    place = {name: position for position, name in enumerate(names)}
    for layer, other, value in zip(rows["layer"], rows["layer_b"], rows["value"], strict=True):
        if layer in place and other in place:
            matrix[place[layer], place[other]] = matrix[place[other], place[layer]] = value
    return matrix
