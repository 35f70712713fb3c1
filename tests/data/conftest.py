import os
from pathlib import Path

import pytest
from planted_images import NAMES, TEST, TRAIN, encode, pixels_of, write_parquet


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets."""
    default = Path(__file__).parents[2] / ".." / "shared" / "data"
    folder = Path(os.environ.get("TUNNELSCOPE_DATA", default)).resolve()
    if not (folder / "cifar10").is_dir():
        pytest.skip(f"no real data at {folder}; set TUNNELSCOPE_DATA")
    return folder


@pytest.fixture
def animals(tmp_path):
    """A parquet folder in the hub's form, training rows in two shards."""
    folder = tmp_path / "animals"
    write_parquet(folder / "train-00000-of-00002.parquet", TRAIN[:7], names=NAMES)
    images = [encode(pixels_of(index, label)) for index, label in enumerate(TRAIN)][7:]
    write_parquet(folder / "train-00001-of-00002.parquet", TRAIN[7:], names=NAMES, images=images)
    write_parquet(folder / "test-00000-of-00001.parquet", TEST, names=NAMES)
    return folder
