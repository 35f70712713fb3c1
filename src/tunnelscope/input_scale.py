"""Whether a data set reaches the network on the scale it was trained on, judged by a few images."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from tunnelscope.data import ChosenImages, DataSet, Preprocessing, Split, batches
from tunnelscope.data.images import UnreadableImage
from tunnelscope.data.rows import spread_rows
from tunnelscope.errors import RequestError
from tunnelscope.forward import Reached, on_device
from tunnelscope.health import Doubt, batch_norm_scale, ready_scale
from tunnelscope.recording import Recorder, ready_shape

LOOKED_AT = 64  # images spread evenly over the training split: its first ones are often of one class
TOLD_APART = 1e-6  # of the largest running variance: channels below are dead, and their ratio is noise


def check_input_scale(
    recorder: Recorder, datasets: Sequence[DataSet], *, accept: bool = False
) -> dict[str, str]:
    """Look at a few inputs of each set; what is doubtful of their scale, by the set's key.

    Judged are the first set (the network's own where it is at hand), and every set of ready inputs: other
    sets go through the same preprocessing as the first.

    Args:
        accept: warn of a scale that would be refused.

    Raises:
        RequestError: a scale is off by a factor of 10 or more.
    """
    doubts = {}
    for position, dataset in enumerate(datasets):
        is_ready = ready_shape(dataset.train) is not None
        if (position and not is_ready) or dataset.train.kind == "texts":
            continue
        doubt = _doubt(recorder, dataset, is_ready)
        if doubt is not None and doubt.refuses and not accept:
            raise RequestError(f"{doubt.line}; or go on as it is with --accept-scale")
        if doubt is not None:
            doubts[dataset.key] = doubt.line
    return doubts


def batch_norm_factors(module: nn.Module, batch: Tensor) -> tuple[str, tuple[float, float, float]] | None:
    """How far the input of the first batch norm that is called spreads, against its running statistics.

    Args:
        module: in eval mode.
        batch: ready inputs (b, …), on its device.

    Returns:
        The batch norm's name, and the 10th, 50th and 90th percentile over channels of measured over running
        standard deviation; None where there is no batch norm, or its statistics are those of no data: never
        trained, or folded into convolutions.
    """
    seen: list[tuple[str, nn.Module, Tensor]] = []

    def look(name: str, norm: nn.Module, inputs: tuple) -> None:
        seen.append((name, norm, inputs[0].detach()))
        raise Reached

    handles = [
        norm.register_forward_pre_hook(lambda norm, inputs, name=name: look(name, norm, inputs))
        for name, norm in module.named_modules()
        if "BatchNorm" in type(norm).__name__ and isinstance(getattr(norm, "running_var", None), Tensor)
    ]
    try:
        with torch.inference_mode(), suppress(Reached):
            module(batch)
    finally:
        for handle in handles:
            handle.remove()
    if not seen:
        return None
    name, norm, values = seen[0]
    factors = _factors(values, norm.running_mean, norm.running_var)  # type: ignore[arg-type]
    return None if factors is None else (name, factors)


def _factors(values: Tensor, mean: Tensor, variance: Tensor) -> tuple[float, float, float] | None:
    if not mean.any() or bool((variance == variance[0]).all()):
        return None
    if values.dim() == 4:  # zeros around the map stand out where the mean is far off, and hide a small spread
        height, width = (side // 4 for side in values.shape[2:])
        values = values[:, :, height : values.shape[2] - height, width : values.shape[3] - width]
    measured = values.float().transpose(0, 1).flatten(1).var(dim=1, unbiased=False)
    kept = variance > TOLD_APART * variance.max()
    ratios = (measured[kept] / variance[kept].float()).sqrt()
    low, middle, high = torch.quantile(ratios, torch.tensor([0.1, 0.5, 0.9], device=ratios.device)).tolist()
    return low, middle, high


def _doubt(recorder: Recorder, dataset: DataSet, is_ready: bool) -> Doubt | None:
    preparation = recorder.network.preprocessing
    if not isinstance(preparation, Preprocessing | None):
        return None
    batch = _sample(recorder, dataset.train)
    if batch is None:
        return None
    doubt = None
    if is_ready and batch.dim() == 4 and preparation is not None and preparation.normalises:
        low, high = (float(edge) for edge in batch.aminmax())
        doubt = ready_scale(low, high, float(batch.std()), preparation.mean, preparation.std, dataset.key)
    found = batch_norm_factors(recorder.network.module, on_device(batch, recorder.device))
    if found is None or (doubt is not None and doubt.refuses):
        return doubt
    words = "" if is_ready or preparation is None else preparation.describe()
    judged = batch_norm_scale(found[1], found[0], dataset.key, words)
    return judged if judged is not None and (doubt is None or judged.refuses) else doubt


def _sample(recorder: Recorder, split: Split) -> Tensor | None:
    """A few ready inputs; None where they cannot be had, which recording will name."""
    rows = spread_rows(len(split), LOOKED_AT)
    images: Any = ChosenImages(split.images, rows)
    preparation: Any = recorder.network.preprocessing
    try:
        looked = batches(
            images, preparation, batch_size=LOOKED_AT, workers=0, on_corrupt=lambda row, error: None
        )
        batch = next(iter(looked), None)
    except (RequestError, UnreadableImage):
        return None
    if batch is None or batch.shape[1:] != recorder.example.shape[1:] or not batch.isfinite().all():
        return None
    return batch
