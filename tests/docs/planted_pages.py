"""What the docs' examples run in: a folder with small data, networks and runs under the pages' names."""

import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from planted_images import NAMES, TRAIN, encode, pixels_of, write_folders, write_parquet
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import TensorDataset

NET = """from torch import nn


def build():
    layers = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
"""
RUNS = {"resnet20": "two", "resnet56": "four", "r18": "three"}  # the page's name: that of the tiny scan


def write_data(data: Path) -> None:
    """Write the folder `data` of the pages: each form of data, 2 to 45 images or texts a set."""
    breeds = {"breed": pa.array([f"b{label}" for label in TRAIN])}
    for split in ("train", "test"):
        path = data / "pets" / f"{split}-00000-of-00001.parquet"
        write_parquet(path, TRAIN, names=NAMES, image="image", extra=breeds)
    for name in ("photos", "mine", "other", "flowers"):
        for split in ("train", "test"):
            write_folders(data / name / split, {"ant": 5, "bee": 5, "cow": 5})
    write_folders(data / "flat", {"ant": 5, "bee": 5})
    for name in ("train-000", "train-001", "test-000"):
        write_shard(data / "shards" / f"{name}.tar", [0, 1, 2, 3, 4] * 3)
    (data / "questions").mkdir()
    for split in ("train", "test"):
        texts = {"text": [f"what is {label}?" for label in TRAIN], "label": [f"c{label}" for label in TRAIN]}
        pq.write_table(pa.table(texts), data / "questions" / f"{split}-00000-of-00001.parquet")
    patients = {"patient": pa.array([f"p{row // 2}" for row in range(24)])}
    measured = {
        "age": pa.array([20 + row for row in range(24)]),
        "weight": pa.array([50 + row / 2 for row in range(24)]),
        "is_wet": pa.array([row % 2 == 0 for row in range(24)]),
        "is_red": pa.array([row % 3 == 0 for row in range(24)]),
    }
    write_parquet(data / "scans.parquet", TRAIN * 2, names=NAMES, extra=measured)
    write_parquet(data / "grouped.parquet", TRAIN * 2, names=NAMES, extra=patients)


def write_shard(path: Path, labels: list[int]) -> None:
    """Write one tar of WebDataset's form."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for index, label in enumerate(labels):
            for name, content in (
                (f"{index}.jpg", encode(pixels_of(index, label), "JPEG")),
                (f"{index}.cls", str(label).encode()),
                (f"{index}.json", json.dumps({"label": label}).encode()),
            ):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))


def stand_in_for_the_hub(monkeypatch, pets: Path, cache: Path) -> None:
    """Let every set of the hub be the planted pets."""
    import datasets

    original = datasets.load_dataset
    monkeypatch.setattr(datasets, "load_dataset", lambda *_: original(str(pets), cache_dir=str(cache)))


def link_real_data(data: Path, real: Path) -> None:
    """Put the real sets, where they are, beside the planted ones."""
    for path in real.iterdir():
        if path.is_dir():
            (data / path.name).symlink_to(path.resolve())


def write_networks(place: Path) -> None:
    """Write a file with a network, its weights, and a folder with a tiny text encoder."""
    from tiny_transformers import save_text_encoder

    (place / "net.py").write_text(NET)
    names: dict[str, Any] = {}
    exec(NET, names)
    save_file(names["build"]().state_dict(), place / "net.safetensors")
    save_text_encoder(place / "models" / "all-MiniLM-L6-v2")


def copy_runs(runs: Path, demo: Path, scans: Path) -> None:
    """Put the demo's run and three tiny ones under the names that pages give to theirs."""
    shutil.copytree(demo, runs / "demo")
    shutil.copy(demo.parent / "weights.safetensors", runs / "demo-weights.safetensors")
    for name, tiny in RUNS.items():
        shutil.copytree(scans / tiny, runs / name)


def names_of_your_own() -> dict[str, Any]:
    """What Python examples take as given: a network, torch data sets and images of one's own."""
    draws = torch.Generator().manual_seed(0)
    labels = torch.arange(120) % 3
    images = torch.randn(120, 3, 8, 8, generator=draws) + labels[:, None, None, None]
    dataset = TensorDataset(images, labels)
    return {
        "my_train_dataset": dataset,
        "my_test_dataset": dataset,
        "my_model": nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU()),
        "images": np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8),
    }
