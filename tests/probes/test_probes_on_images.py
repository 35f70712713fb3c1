"""Real images, where the data folder is at hand."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from planted import reference, standardised

from tunnelscope.probes import fit_probe

FOLDER = Path(os.environ.get("TUNNELSCOPE_DATA", "../shared/data")) / "cifar10"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no images in {FOLDER}; set TUNNELSCOPE_DATA")


def pooled_filters(split, rows):
    """Random 5×5 filters after ReLU, pooled 2×2: (rows, 96) features and labels."""
    from PIL import Image
    from pyarrow import parquet

    table = parquet.read_table(next(FOLDER.glob(f"{split}-*.parquet"))).slice(0, rows)
    decoded = [np.asarray(Image.open(io.BytesIO(cell["bytes"]))) for cell in table["img"].to_pylist()]
    images = torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).float() / 255 - 0.45
    filters = torch.randn(24, 3, 5, 5, generator=torch.Generator().manual_seed(0)) / 5
    maps = torch.relu(torch.nn.functional.conv2d(images, filters))
    pooled = torch.nn.functional.avg_pool2d(maps, 14).flatten(1)
    return pooled, torch.from_numpy(np.array(table["label"])).long()


@pytest.fixture(scope="module")
def images():
    return *pooled_filters("train", 3000), *pooled_filters("test", 2000)


def test_exact_agrees_with_scikit_learn_on_images(images):
    features, labels, test_features, test_labels = images
    probe = fit_probe(features, labels)
    assert probe.converged
    weights, bias = reference(standardised(features), labels, probe.penalty)
    rows = (test_features.double() - probe.mean) * probe.scale
    expected = ((rows.numpy() @ weights.T + bias).argmax(axis=1) == test_labels.numpy()).mean()
    assert probe.score(test_features, test_labels) == pytest.approx(expected, abs=0.002)
    assert 0.35 < expected < 0.6


def test_held_out_accuracy_foretells_test_accuracy(images):
    features, labels, test_features, test_labels = images
    for protocol in ("exact", "ridge", "knn"):
        probe = fit_probe(features, labels, protocol=protocol).scored(test_features, test_labels)
        assert probe.heldout_accuracy == pytest.approx(probe.accuracy, abs=0.07)
