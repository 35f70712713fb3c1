"""What a scan costs by network, images, layers and classes, beside a script that a user would write.

The script: the network as loaded with a hook at every layer, the maps averaged to 2×2, one pass over the
images; then scikit-learn's `LogisticRegression` at its default penalty on the standardised features of each
layer. It chooses no penalty and no layer, measures nothing else, and keeps its features in memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from benchmarks.harness import Row, data_folder, in_turn
from benchmarks.scan import subset
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from torch.nn import functional as F

BATCH = 128


@dataclass(frozen=True)
class Case:
    """A network and the data it is scanned on.

    Attributes:
        name: in words.
        model: as `scan` takes it.
        weights: a file among the shared weights, or `random`.
        data: a data set of the shared ones.
        train, test: rows of each split.
    """

    name: str
    model: str
    weights: str
    data: str
    train: int
    test: int


CASES = (
    Case("ResNet-20", "zoo:cifar_resnet20?classes=10", "resnet20_cifar10", "cifar10", 8000, 1600),
    Case("ResNet-20", "zoo:cifar_resnet20?classes=10", "resnet20_cifar10", "cifar100", 4000, 1600),
    Case("ResNet-56", "zoo:cifar_resnet56?classes=10", "resnet56_cifar10", "cifar10", 2000, 1600),
    Case("ResNet-56", "zoo:cifar_resnet56?classes=10", "resnet56_cifar10", "cifar10", 8000, 1600),
    Case("ResNet-56", "zoo:cifar_resnet56?classes=10", "resnet56_cifar10", "cifar100", 2000, 1600),
    Case("VGG-19, random weights", "zoo:vgg19?classes=10", "random", "cifar10", 2000, 1600),
    Case("ResNet-18, random weights, 224×224", "timm:resnet18", "random", "clothing", 500, 200),
    Case("ViT-Ti/16, random weights, 224×224", "timm:vit_tiny_patch16_224", "random", "clothing", 500, 200),
)


def rows(quick: bool) -> Iterator[Row]:
    """One row a case: the script's seconds over the scan's."""
    for case in CASES[:1] if quick else CASES:
        yield row(case, *((200, 100) if quick else (case.train, case.test)))


def row(case: Case, train: int, test: int) -> Row:
    """Time the scan and the script in turn."""
    import tunnelscope as ts

    data = subset(case.data, train, test)
    weights = case.weights if case.weights == "random" else weights_file(case.weights)
    network = ts.load_network(case.model, weights=weights)
    scans: list[Any] = []

    def scan() -> None:
        scans.append(ts.scan(ts.load_network(case.model, weights=weights), id=data, cache=False))

    scan()  # loads libraries, and names the layers for the script
    points = [one["name"] for one in scans[0].run["layers"]]
    timing = in_turn({"scan": scan, "script": lambda: script(network, data, points)}, most=1)
    told = scans[-1].run
    accuracies = {one["layer"]: one["accuracy"] for one in told["probes"]}
    differences = [accuracies[name] - other for name, other in timing.results["script"].items()]
    stages = ("record", "probes", "cka", "tunnel")
    seconds = ", ".join(f"{stage} {told['timings'][stage]:.1f}" for stage in stages)
    return Row(
        f"{case.name}, {case.data}, {len(data.class_names)} classes, {train:,} + {test:,} images, "
        f"{len(points)} layers: script / scan",
        timing.ratio("script", "scan"),
        spread=timing.spread("script", "scan"),
        seconds={name: timing.median(name) for name in timing.seconds},
        rounds=len(timing.seconds["scan"]),
        accuracy=f"accuracies {100 * float(np.mean(differences)):+.2f} points from the script's on average",
        note=f"seconds of the scan: {seconds} (tunnel: bootstrap)",
    )


def weights_file(name: str) -> str:
    """A file of the shared weights."""
    return str(data_folder() / "weights" / f"{name}.safetensors")


def script(network: Any, data: Any, layers: list[str]) -> dict[str, float]:
    """Layer → accuracy on the test rows, the plain way."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    train, test = (hooked(network, part.images, layers) for part in (data.train, data.test))
    accuracies = {}
    for layer in layers:
        scaler = StandardScaler().fit(train[layer])
        with threadpool_limits(torch.get_num_threads()):
            probe = LogisticRegression(max_iter=1000).fit(scaler.transform(train[layer]), data.train.labels)
        accuracies[layer] = probe.score(scaler.transform(test[layer]), data.test.labels)
    return accuracies


def hooked(network: Any, images: Any, layers: list[str]) -> dict[str, np.ndarray]:
    """All layers' features of one split in one pass of the network as loaded."""
    from tunnelscope.data import batches

    read: dict[str, list[Tensor]] = {layer: [] for layer in layers}
    modules: dict[str, nn.Module] = dict(network.module.named_modules())
    handles = [
        modules[layer].register_forward_hook(
            lambda module, given, result, layer=layer: read[layer].append(pooled(result))
        )
        for layer in layers
    ]
    try:
        with torch.inference_mode():
            for batch in batches(images, network.preprocessing, batch_size=BATCH, workers=2):
                network.module(batch)
    finally:
        for handle in handles:
            handle.remove()
    return {layer: torch.cat(parts).numpy() for layer, parts in read.items()}


def pooled(result: Tensor) -> Tensor:
    """Maps averaged to 2×2, tokens to their mean, vectors as they are."""
    if result.dim() == 4:
        return F.adaptive_avg_pool2d(result, 2).flatten(1)
    return result.mean(dim=1) if result.dim() == 3 else result
