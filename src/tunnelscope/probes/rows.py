"""The rows a probe is fitted on or scored on, checked once where they enter."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tunnelscope.errors import RequestError
from tunnelscope.probes.heldout import HeldOut, heldout_rows


@dataclass(frozen=True, eq=False)
class Rows:
    """Checked features and labels.

    Attributes:
        features: (n, d), float32 or float64, all finite.
        labels: (n,), int64, within 0 … len(class_names) - 1.
        class_names: one a class.
        groups: what each row belongs to, (n,) int64 on the CPU; None: each row stands alone.
    """

    features: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    groups: Tensor | None = None

    def take(self, rows: Tensor) -> "Rows":
        """Return some of the rows."""
        groups = None if self.groups is None else self.groups[rows.cpu()]
        rows = rows.to(self.features.device)
        return replace(self, features=self.features[rows], labels=self.labels[rows], groups=groups)

    def held_out(self, seed: int) -> HeldOut:
        """Return the part of the rows to fit on and the part to choose a penalty or a layer by."""
        return heldout_rows(self.labels, seed, groups=self.groups)


def training_rows(
    features: Any,
    labels: Any,
    classes: int | None = None,
    class_names: Sequence[str] | None = None,
    layer: str = "",
    groups: Any = None,
) -> Rows:
    """Check what a probe is to be fitted on.

    Args:
        features: (n, d), anything a tensor can be made of.
        labels: (n,), whole numbers from 0.
        classes: how many classes there are; the names' number, else the largest label + 1.
        class_names: default: the numbers.
        layer: named in messages.
        groups: what each row belongs to, (n,), whole numbers; see `heldout_rows`.

    Raises:
        RequestError: the rows are none, of one class only, not finite, or do not fit together.
    """
    where = f"layer {layer!r}: " if layer else ""
    features, labels = finite_features(features, where), _whole_labels(labels, where)
    if len(features) != len(labels):
        raise _uneven(features, labels, where)
    found = int(labels.max()) + 1
    if class_names is not None and classes is not None and len(class_names) != classes:
        raise RequestError(f"{where}{len(class_names)} class names for {classes} classes; give one a class")
    classes = len(class_names) if class_names is not None else found if classes is None else classes
    _check_range(labels, classes, where)
    if bool((labels == labels[0]).all()):
        raise RequestError(
            f"{where}all {len(labels)} training labels are {int(labels[0])}; a probe tells classes apart, "
            "give rows of at least two"
        )
    names = range(classes) if class_names is None else class_names
    checked = None if groups is None else _groups(groups, len(labels), where)
    return Rows(features, labels.to(features.device), tuple(str(name) for name in names), checked)


def scoring_rows(
    features: Any, labels: Any, width: int, class_names: tuple[str, ...], layer: str = ""
) -> Rows:
    """Check what a probe of `width` features is to be scored on. Raises RequestError."""
    where = f"layer {layer!r}: test rows: " if layer else "test rows: "
    features, labels = scoring_features(features, width, layer), _whole_labels(labels, where)
    if len(features) != len(labels):
        raise _uneven(features, labels, where)
    _check_range(labels, len(class_names), where)
    return Rows(features, labels.to(features.device), class_names)


def check_penalty_range(penalty: float | None) -> None:
    """Refuse a penalty that is not a number above 0; None leaves it to be chosen. Raises RequestError."""
    if penalty is not None and not 0 < penalty < float("inf"):
        raise RequestError(f"penalty {penalty:g} is not above 0; leave it out to have it chosen")


def scoring_features(features: Any, width: int, layer: str = "") -> Tensor:
    """Check the features that a probe of `width` features is to read. Raises RequestError."""
    where = f"layer {layer!r}: test rows: " if layer else "test rows: "
    features = finite_features(features, where)
    if features.shape[1] != width:
        raise RequestError(f"{where}{features.shape[1]} features, but the probe was fitted on {width}")
    return features


def finite_features(features: Any, where: str = "") -> Tensor:
    """Return features as a float32 or float64 tensor (n, d). Raises RequestError."""
    features = _tensor(features, "features", where)
    if features.ndim != 2:
        raise RequestError(f"{where}features have shape {tuple(features.shape)}; give (rows, features)")
    if features.dtype not in (torch.float32, torch.float64):
        features = features.float()
    if 0 in features.shape:
        raise RequestError(
            f"{where}features of shape {tuple(features.shape)} are empty; give at least one row"
        )
    if not all(bool(bound.isfinite()) for bound in torch.aminmax(features)):
        bad = ~features.isfinite()
        rows, columns = bad.any(dim=1).nonzero().flatten(), bad.any(dim=0).nonzero().flatten()
        if len(rows):
            raise RequestError(
                f"{where}features are not finite in {len(rows)} of {len(features)} rows "
                f"(first: {int(rows[0])}) and {len(columns)} of {features.shape[1]} columns "
                f"(first: {int(columns[0])}); leave these rows out or look for an overflow in that layer"
            )
    return features


def _tensor(values: Any, what: str, where: str) -> Tensor:
    try:
        return torch.as_tensor(values).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise RequestError(f"{where}{what} are no numbers ({error}); give a tensor or an array") from None


def _uneven(features: Tensor, labels: Tensor, where: str) -> RequestError:
    return RequestError(
        f"{where}{len(features)} rows of features but {len(labels)} labels; give one label a row"
    )


def _groups(groups: Any, rows: int, where: str) -> Tensor:
    groups = _whole_numbers(groups, "groups", where).cpu()
    if len(groups) != rows:
        raise RequestError(f"{where}{rows} rows but {len(groups)} groups; give one group a row")
    return groups


def _whole_labels(labels: Any, where: str) -> Tensor:
    return _whole_numbers(
        labels, "labels", where, '; other labels have a task: task="regression" or "multi-label"'
    )


def _whole_numbers(values: Any, what: str, where: str, others: str = "") -> Tensor:
    values = _tensor(values, what, where)
    if values.ndim != 1 or len(values) == 0:
        raise RequestError(
            f"{where}{what} have shape {tuple(values.shape)}; give one whole number a row{others}"
        )
    if values.is_floating_point() or values.is_complex() or values.dtype == torch.bool:
        raise RequestError(
            f"{where}{what} are {str(values.dtype).removeprefix('torch.')}; give whole numbers from 0{others}"
        )
    return values.long()


def _check_range(labels: Tensor, classes: int, where: str) -> None:
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        wrong = low if low < 0 else high
        row = int((labels == wrong).nonzero()[0])
        raise RequestError(
            f"{where}label {wrong} (row {row}) is outside 0 … {classes - 1}, the {classes} classes; "
            "count labels from 0"
        )
