"""Items on public pretrained backbones: of the eight none is at hand, of ImageNet one MobileNetV2 is."""

from typing import Any

import numpy as np
import pandas as pd

from tunnelscope.errors import RequestError
from tunnelscope.reproduce.found import Figure, Found, line_rows
from tunnelscope.reproduce.harun2024.kept import of_set
from tunnelscope.reproduce.harun2024.networks import (
    EXACT,
    HELD_OUT,
    LAST_EPOCH,
    NEGLIGIBLE,
    Networks,
)
from tunnelscope.reproduce.lab import curve_of
from tunnelscope.reproduce.verdicts import at_least

MODEL = "timm:mobilenetv2_100?pad_type=same&mean=0.5&std=0.5"
WEIGHTS = "mobilenetv2_100_imagenet_fp16.safetensors"
SETS = {  # other data, all of them
    "smoke": ("caltech101", "clothing"),
    "small": ("caltech101", "clothing", "cifar10", "cifar100", "gtsrb"),
}
ROWS = {"smoke": 100, "small": 1000}  # of each split
NONE_AT_HAND = (
    "the weights of the eight backbones are not at hand; studies/harun2024-v1.toml scans them where they are"
)
CHANGED = (
    "a MobileNetV2 for the eight backbones, read at its stem, blocks and head, 19 layers, to save time (the "
    "paper reads every convolution, here 52; among fewer layers r is higher), 1,000 images a split, probes "
    "as the paper trains them on the CNNs of its main study"
)


def fig17(networks: Networks) -> Found:
    """Curves of a pretrained MobileNetV2 over photos and small images, for those of the eight backbones."""
    found = Found((), changed=CHANGED)
    found.not_comparable("curves of eight public backbones", NONE_AT_HAND, "r of 82.00 to 99.74 %, Table 9")
    weights = networks.lab.data / "weights" / WEIGHTS
    if not weights.exists():
        found.not_comparable("H17 r of a MobileNetV2", f"{weights.name} is not at hand")
        return found
    rows: list[dict[str, Any]] = []
    readings = (HELD_OUT, EXACT, LAST_EPOCH) if networks.scale != "smoke" else (HELD_OUT,)
    for reading in readings:
        told = backbone(networks, reading.probe, weights=str(weights))
        quantity = reading.kept or "retained_paper"
        # Of the first set, in the ID set's place, no layer is chosen on held-out rows.
        sets = SETS[networks.scale][1 if reading.kept else 0 :]
        r = [100 * one for one in per_set(told, quantity)][-len(sets) :]
        words = "H17 MobileNetV2 pretrained on ImageNet: r, %"
        found.claim(
            words, r, at_least(NEGLIGIBLE), f"{reading.words}; interval over {len(r)} sets", "82.00 to 99.74"
        )
        for name, value in zip(sets, r, strict=True):
            found.cell(f"MobileNetV2 on {name}: r, %", [value], reading.words)
        if not reading.kept:
            drawn = [
                100 * one for one in per_set(backbone(networks, reading.probe, weights="random"), quantity)
            ]
            found.cell("MobileNetV2 untrained (control): r, %", [float(np.mean(drawn))], reading.words)
        if reading is readings[0]:
            for name in SETS[networks.scale]:
                curve = curve_of(told, name, "probe_accuracy")
                numbers = np.arange(1, len(curve) + 1)
                rows += line_rows("MobileNetV2, ImageNet", name, numbers, [100 * curve / curve.max()])
    found.figures["fig17"] = Figure(pd.DataFrame(rows), "layer", "% of each curve's maximum")
    return found


def backbone(networks: Networks, probe: str, weights: str) -> Any:
    """The scan of the network on all sets, the first of them in the ID set's place."""
    if networks.scale == "paper":
        raise RequestError(
            "at paper scale the backbones are a study: tunnelscope study run studies/harun2024-v1.toml"
        )
    first, *others = map(networks.lab.source, SETS[networks.scale])
    asked = "ridge" if networks.scale == "smoke" else probe
    settings = {"probe": asked, "layers": "blocks", "seed": 0, "max_samples": ROWS[networks.scale]}
    return networks.lab.scanned(MODEL, first, others, weights=weights, precision="f32", **settings)


def per_set(scan: Any, quantity: str) -> list[float]:
    """r on each set; on the first, which stands in the ID set's place, over its test maximum."""
    first_set, *others = [entry["key"] for entry in scan.run["data"]]
    first = curve_of(scan, first_set, "probe_accuracy")
    return [float(first[-1] / first.max()), *(float(of_set(scan, name, quantity)[0]) for name in others)]


def fig18(networks: Networks) -> Found:
    """Public ConvNeXts."""
    found = Found((), changed="")
    found.not_comparable("curves of two ConvNeXts", NONE_AT_HAND, "r of 95.38 and 95.85 %, Table 9")
    return found


def table10(networks: Networks) -> Found:
    """ID accuracy of public backbones."""
    found = Found((), changed="")
    printed = "75.3, 78.2, 83.6, 80.6, 84.9, 80.9, 81.1, 83.8 %"
    found.not_comparable("ID accuracy of eight public backbones", f"{NONE_AT_HAND}, nor is ImageNet", printed)
    return found


def table3(networks: Networks) -> Found:
    """Augmentations that public backbones were trained with."""
    found = Found((), changed="")
    found.not_comparable(
        "augmentations of eight public backbones", "what their makers tell; nothing is measured"
    )
    return found
