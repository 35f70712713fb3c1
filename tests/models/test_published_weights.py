"""The published weights give the published accuracy; they and the images lie beside the repository."""

import io
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from tunnelscope.data.transforms import Preprocessing
from tunnelscope.models.load import load_network

DATA = Path(os.environ.get("TUNNELSCOPE_DATA", Path(__file__).parents[3] / "shared" / "data"))

pytestmark = pytest.mark.skipif(
    not (DATA / "weights").is_dir(),
    reason=f"no weights in {DATA}; set TUNNELSCOPE_DATA to the folder of data sets",
)

# file's depth: parameters, published accuracy in percent of CIFAR-10's 10,000 test images
PUBLISHED = {20: (269_722, 91.73), 32: (464_154, 92.63), 44: (658_586, 93.10), 56: (853_018, 93.39)}


def weights(depth: int) -> Path:
    return DATA / "weights" / f"resnet{depth}_cifar10.safetensors"


@pytest.fixture(scope="module")
def cifar10_test() -> tuple[np.ndarray, np.ndarray]:
    """Images, (10000, 32, 32, 3) uint8, and labels."""
    files = sorted((DATA / "cifar10").glob("test-*.parquet"))
    if not files:
        pytest.skip(f"no CIFAR-10 test images in {DATA / 'cifar10'}")
    table = pq.read_table(files[0])
    encoded = (row["bytes"] for row in table["img"].to_pylist())
    return np.stack([np.asarray(Image.open(io.BytesIO(png)).convert("RGB")) for png in encoded]), np.asarray(
        table["label"]
    )


def accuracy(depth: int, images: np.ndarray, labels: np.ndarray) -> float:
    """Percent of the images a published network classifies rightly."""
    network = load_network(f"zoo:cifar_resnet{depth}", weights=weights(depth))
    assert network.preprocessing is not None
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in (network.preprocessing.mean, network.preprocessing.std)
    )
    right = 0
    with torch.inference_mode():
        for start in range(0, len(images), 500):
            batch = torch.from_numpy(images[start : start + 500]).permute(0, 3, 1, 2) / 255
            predicted = network.module((batch - mean) / std).argmax(dim=1).numpy()
            right += int((predicted == labels[start : start + 500]).sum())
    return 100 * right / len(images)


@pytest.mark.parametrize("depth", PUBLISHED)
def test_published_weights_load_strictly_and_have_the_published_size(depth):
    network = load_network(f"zoo:cifar_resnet{depth}", weights=weights(depth))
    assert network.parameters == PUBLISHED[depth][0]
    assert network.weights == f"resnet{depth}_cifar10.safetensors"
    assert network.warnings == ()


@pytest.mark.parametrize(
    "depth", [20, *(pytest.param(depth, marks=pytest.mark.slow) for depth in (32, 44, 56))]
)
def test_published_weights_have_the_published_accuracy(depth, cifar10_test):
    images, labels = cifar10_test
    assert len(images) == 10_000
    assert accuracy(depth, images, labels) == pytest.approx(PUBLISHED[depth][1], abs=0.02)


def test_mobilenet_loads_in_float32_and_has_the_preprocessing_it_was_given():
    path = DATA / "weights" / "mobilenetv2_100_imagenet_fp16.safetensors"
    network = load_network("timm:mobilenetv2_100?pad_type=same&mean=0.5&std=0.5", weights=path)
    assert network.preprocessing == Preprocessing(
        size=(224, 224), mean=(0.5,) * 3, std=(0.5,) * 3, interpolation="bicubic", crop_pct=0.875
    )
    assert (network.weights, network.warnings, network.parameters) == (path.name, (), 3_504_872)
    assert {parameter.dtype for parameter in network.module.parameters()} == {torch.float32}
    assert network.module(torch.zeros(1, 3, 224, 224)).shape == (1, 1000)
