"""Features of a whole data set in one file: the step after the answer."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from tunnelscope.data import DataSet, leave_out, load_data
from tunnelscope.errors import RequestError
from tunnelscope.files import check_writable, write_whole
from tunnelscope.input_scale import check_input_scale
from tunnelscope.keeping import record_both
from tunnelscope.recording import Recorded, Recorder, StageProgress, recorder_for


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
    skip_corrupt: bool = False,
    accept_scale: bool = False,
    device: str = "auto",
    batch_size: int | None = None,
    workers: int = 2,
    seed: int = 0,
    precision: str = "f32",
    progress: StageProgress | None = None,
    announce: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Write the features of both splits of a data set at the chosen layers to a safetensors file.

    Tensors: `train/LAYER` and `test/LAYER`, (n, width) float32; `train/labels` and `test/labels`,
    (n,) int64 or as the task has them. Metadata (strings): `model`, `weights`, `pool`, `data`, `precision`,
    and as JSON `class_names`, `warnings` and `layers` (in forward order, which the file does not keep).

    Returns:
        What was written: `file`, `model`, `data`, `classes`, `layers` (name and both shapes), `warnings`.

    Raises:
        RequestError: an unknown name, unreadable input, or a file not named .safetensors.
        MachineError: the file cannot be written.
    """
    out = claim_file(Path(out))
    dataset = load_data(data, label=label, image=image, max_samples=max_samples, seed=seed, announce=announce)
    recorder = recorder_for(
        model,
        dataset.train,
        weights=weights,
        layers=layers,
        pool=pool,
        device=device,
        batch_size=batch_size,
        workers=workers,
        skip_corrupt=skip_corrupt,
        seed=seed,
        precision=precision,
    )
    if announce and (told := recorder.precision.describe()) is not None:
        announce(told)
    doubts = check_input_scale(recorder, [dataset], accept=accept_scale)
    train, test = record_both(recorder, dataset, progress, logits=False)
    recorded = {"train": train, "test": test}
    dataset = leave_out(dataset, train.skipped, test.skipped)
    _write(Path(out), _tensors(recorder, recorded), _metadata(recorder, dataset, pool))
    return {
        "file": str(out),
        "model": recorder.network.source,
        "data": dataset.key,
        "task": dataset.task,
        "classes": len(dataset.class_names),
        "layers": [
            {"name": name, **{part: list(half.features[name].shape) for part, half in recorded.items()}}
            for name in (point.name for point in recorder.points)
        ],
        "warnings": [*dataset.warnings, *doubts.values()],
    }


def _tensors(recorder: Recorder, recorded: dict[str, Recorded]) -> dict[str, Tensor]:
    tensors = {
        f"{part}/{point.name}": half.features[point.name]
        for part, half in recorded.items()
        for point in recorder.points
    }
    return tensors | {f"{part}/labels": half.labels for part, half in recorded.items()}


def _metadata(recorder: Recorder, dataset: DataSet, pool: str) -> dict[str, str]:
    return {
        "model": recorder.network.source,
        "weights": recorder.network.weights,
        "pool": pool,
        "data": dataset.source,
        "class_names": json.dumps(list(dataset.class_names)),
        "warnings": json.dumps(list(dataset.warnings)),
        "layers": json.dumps([point.name for point in recorder.points]),
        "precision": recorder.precision.used,
    }


def claim_file(out: Path) -> Path:
    """Return the path of a safetensors file that can be written, before the work that fills it.

    Raises:
        RequestError: it is a folder, or its name promises another format.
        MachineError: nothing can be written there.
    """
    if out.is_dir():
        raise RequestError(f"--out {out} is a folder; name a .safetensors file")
    if out.suffix != ".safetensors":
        named = out.with_suffix(".safetensors")
        raise RequestError(f"--out {out}: what is written is a safetensors file; name it {named}")
    check_writable(out.parent)
    return out


def _write(out: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    from safetensors.torch import save_file

    write_whole(out, lambda path: save_file(tensors, path, metadata))
