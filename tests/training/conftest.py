"""Small labelled images to train on."""

import numpy as np
import pytest


@pytest.fixture
def small_images():
    """Train and test images of three classes that a few steps tell apart: 60 and 30 of 8×8 pixels."""
    draws = np.random.default_rng(0)
    means = draws.integers(40, 200, size=(3, 8, 8, 3))

    def split(count: int):
        labels = np.arange(count) % 3
        pixels = (means[labels] + draws.normal(0, 20, (count, 8, 8, 3))).clip(0, 255)
        return pixels.astype(np.uint8), labels

    return {"train": split(60), "test": split(30)}
