"""How large the experiments of the 2023 paper are made: as printed, on two cores in hours, or in seconds."""

import math
from dataclasses import dataclass

from tunnelscope.errors import unknown_name


@dataclass(frozen=True)
class Scale:
    """Sizes of everything that is trained and scanned.

    Attributes:
        name: smoke, small or paper.
        probe: in the place of an exact one.
        seeds: of the networks.
        width: of each family, times the paper's.
        hundred: of a family on CIFAR-100, which it does not learn otherwise: width, and times the epochs.
        widths: of the width sweep, likewise.
        epochs: of each family, on all training images; None is the recipe's own number.
        mlp_recipe: of the MLP.
        images: training images at most.
        rows: of each split that a probe or a metric reads at most.
        flat_rows: the same where features are flattened.
        draws: of ten CIFAR-100 classes.
        flat_draws: the same where features are flattened.
        depths: of the MLP's depth sweep.
        classes: of the class sweeps on CIFAR-10 and on CIFAR-100, with VGG-19.
        resnet_classes: the same with ResNet-34.
        shares: of the training images in the sample sweep.
        convolutions: of the networks whose forgetting is compared.
        most_longer: times the epochs at most that a smaller set is trained, to reach as many gradient steps.
        resets: other draws of the tunnel's weights.
        changed: what differs from the paper, in words.
    """

    name: str
    probe: str
    seeds: tuple[int, ...]
    width: dict[str, float]
    hundred: dict[str, tuple[float, float]]
    widths: tuple[float, ...]
    epochs: dict[str, int | None]
    mlp_recipe: str
    images: int | None
    rows: int | None
    flat_rows: int | None
    draws: int
    flat_draws: int
    depths: tuple[int, ...]
    classes: dict[str, tuple[int, ...]]
    resnet_classes: dict[str, tuple[int, ...]]
    shares: tuple[float, ...]
    convolutions: tuple[int, ...]
    most_longer: float
    resets: int
    changed: str


PAPER = Scale(
    name="paper",
    probe="exact",
    seeds=(0, 1, 2),
    width={"mlp": 1.0, "vgg19": 1.0, "resnet34": 1.0},
    hundred={},
    widths=(0.25, 0.5, 1.0, 2.0),
    epochs={"mlp": None, "vgg": None, "resnet": None, "task": 160, "tuning": 50},
    mlp_recipe="masarczyk2023",
    images=None,
    rows=None,
    flat_rows=None,
    draws=5,
    flat_draws=5,
    depths=(6, 8, 10, 12),
    classes={"cifar10": (2, 5, 10), "cifar100": (10, 20, 50, 100)},
    resnet_classes={"cifar10": (2, 5, 10), "cifar100": (10, 20, 50, 100)},
    shares=(0.1, 0.25, 0.5, 1.0),
    convolutions=(5, 8, 10, 13, 16),
    most_longer=math.inf,
    resets=3,
    changed="",
)
SMALL = Scale(
    name="small",
    probe="exact",
    seeds=(0, 1, 2),
    width={"mlp": 0.25, "vgg19": 0.125, "resnet34": 0.125},
    hundred={"vgg19": (0.25, 2)},
    widths=(0.0625, 0.125, 0.25),
    epochs={"mlp": 20, "vgg": 20, "resnet": 10, "task": 20, "tuning": 4},
    mlp_recipe="one-cycle",
    images=20_000,
    rows=4_000,
    flat_rows=2_000,
    draws=5,
    flat_draws=1,
    depths=(6, 8, 10, 12),
    classes={"cifar10": (2, 5, 10), "cifar100": (10, 20, 50, 100)},
    resnet_classes={"cifar10": (2, 10), "cifar100": (10, 100)},
    shares=(0.1, 0.25, 0.5, 1.0),
    convolutions=(5, 8, 10, 13, 16),
    most_longer=math.inf,
    resets=3,
    changed="networks an eighth as wide (MLPs a quarter) where the width is not what varies, 10 to 20 epochs "
    "instead of 160 to 1,000 (as many steps where there are fewer images), VGG-19 on CIFAR-100 a quarter as "
    "wide for 40 epochs, 20,000 training images, the MLP by a one-cycle recipe; probes and metrics on 4,000 "
    "images a split (2,000 of flattened maps and over training), five draws of OOD classes (one for flattened"
    " maps)",
)
SMOKE = Scale(
    name="smoke",
    probe="ridge",
    seeds=(0,),
    width={"mlp": 0.0625, "vgg19": 0.0625, "resnet34": 0.0625},
    hundred={},
    widths=(0.0625, 0.125),
    epochs={"mlp": 2, "vgg": 1, "resnet": 1, "task": 1, "tuning": 1},
    mlp_recipe="one-cycle",
    images=300,
    rows=100,
    flat_rows=100,
    draws=2,
    flat_draws=1,
    depths=(6, 8),
    classes={"cifar10": (5, 10), "cifar100": (10, 20)},
    resnet_classes={"cifar10": (5, 10), "cifar100": (10, 20)},
    shares=(0.5, 1.0),
    convolutions=(5, 8, 16),
    most_longer=1,
    resets=1,
    changed="a sixteenth of the width, one or two epochs, 300 images, ridge probes for exact ones: it shows "
    "only that the item runs",
)
SCALES = {scale.name: scale for scale in (SMOKE, SMALL, PAPER)}


def scale_named(name: str) -> Scale:
    """Return a scale by its name. Raises RequestError."""
    if name not in SCALES:
        raise unknown_name("scale", name, SCALES)
    return SCALES[name]
