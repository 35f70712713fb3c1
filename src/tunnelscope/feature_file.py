"""Features of a whole data set in one file: the step after the answer."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tunnelscope.data import image_shape, load_data
from tunnelscope.errors import MachineError
from tunnelscope.models import load_network
from tunnelscope.recording import make_recorder, ready_shape
from tunnelscope.results import write_whole

Progress = Callable[[str, int, int], None]


def record_file(
    model: str,
    data: Any,
    out: str | Path,
    *,
    weights: str | None = None,
    layers: str | Sequence[str] = "blocks",
    pool: str = "auto",
    max_samples: int | None = None,
    label: str | None = None,
    image: str | None = None,
    device: str = "auto",
    batch_size: int | None = None,
    workers: int = 2,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write the features of both splits of a data set at the chosen layers to a safetensors file.

    Tensors: `train/LAYER` and `test/LAYER`, (n, width) float32; `train/labels` and `test/labels`,
    (n,) int64. Metadata (strings): `model`, `weights`, `pool`, `data`, `class_names` (JSON).

    Returns:
        What was written: `file`, `model`, `data`, `classes`, `layers` (name and both shapes).

    Raises:
        RequestError: an unknown name or unreadable input.
        MachineError: the file cannot be written.
    """
    from safetensors.torch import save_file

    dataset = load_data(data, label=label, image=image, max_samples=max_samples, seed=seed)
    classes = len(dataset.class_names)
    network = load_network(
        model, weights=weights, image_shape=image_shape(dataset.train), classes=classes, seed=seed
    )
    recorder = make_recorder(
        network,
        layers=layers,
        pool=pool,
        device=device,
        batch_size=batch_size,
        workers=workers,
        seed=seed,
        shape=ready_shape(dataset.train),
    )
    total = len(dataset.train.labels) + len(dataset.test.labels)
    done, tensors = 0, {}

    def count(images: int) -> None:
        nonlocal done
        done += images
        if progress:
            progress(f"{dataset.key}: images through the network", done, total)

    for name, split in (("train", dataset.train), ("test", dataset.test)):
        recorded = recorder.record(split, count)
        tensors[f"{name}/labels"] = recorded.labels
        tensors |= {f"{name}/{point.name}": recorded.features[point.name] for point in recorder.points}
    metadata = {
        "model": network.source,
        "weights": network.weights,
        "pool": pool,
        "data": dataset.source,
        "class_names": json.dumps(list(dataset.class_names)),
    }
    try:
        Path(out).parent.mkdir(parents=True, exist_ok=True)
        write_whole(Path(out), lambda path: save_file(tensors, path, metadata))
    except OSError as error:
        raise MachineError(f"cannot write {out}: {error.strerror or error}") from error
    shapes = [
        {
            "name": p.name,
            "train": list(tensors[f"train/{p.name}"].shape),
            "test": list(tensors[f"test/{p.name}"].shape),
        }
        for p in recorder.points
    ]
    return {
        "file": str(out),
        "model": network.source,
        "data": dataset.key,
        "classes": classes,
        "layers": shapes,
    }
