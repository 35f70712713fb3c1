"""Features of a whole data set in one file: the step after the answer."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from tunnelscope.data import load_data
from tunnelscope.errors import MachineError
from tunnelscope.recording import StageProgress, record_both, recorder_for
from tunnelscope.results import write_whole


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
    progress: StageProgress | None = None,
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
    dataset = load_data(data, label=label, image=image, max_samples=max_samples, seed=seed)
    classes = len(dataset.class_names)
    recorder = recorder_for(
        model,
        dataset.train,
        weights=weights,
        layers=layers,
        pool=pool,
        device=device,
        batch_size=batch_size,
        workers=workers,
        seed=seed,
    )
    network = recorder.network
    recorded = dict(
        zip(("train", "test"), record_both(recorder, dataset, progress, logits=False), strict=True)
    )
    names = [point.name for point in recorder.points]
    tensors = {f"{part}/{name}": recorded[part].features[name] for part in recorded for name in names}
    tensors |= {f"{part}/labels": recorded[part].labels for part in recorded}
    metadata = {
        "model": network.source,
        "weights": network.weights,
        "pool": pool,
        "data": dataset.source,
        "class_names": json.dumps(list(dataset.class_names)),
    }
    _write(Path(out), tensors, metadata)
    shapes = [
        {"name": name, **{part: list(tensors[f"{part}/{name}"].shape) for part in recorded}} for name in names
    ]
    return {
        "file": str(out),
        "model": network.source,
        "data": dataset.key,
        "classes": classes,
        "layers": shapes,
    }


def _write(out: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    from safetensors.torch import save_file

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out, lambda path: save_file(tensors, path, metadata))
    except OSError as error:
        raise MachineError(f"cannot write {out}: {error.strerror or error}") from error
