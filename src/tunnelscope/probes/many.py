"""Probes on all layers at once."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np
from torch import Tensor

from tunnelscope.errors import RequestError
from tunnelscope.probes.knn import KnnProbe
from tunnelscope.probes.linear import LinearProbe
from tunnelscope.probes.protocols import (
    RECIPES,
    check_smoothing,
    fit_probe,
    fit_recipe_probes,
    protocol_name,
)
from tunnelscope.probes.targets import TargetProbe
from tunnelscope.tasks import CLASSIFICATION

AnyProbe = LinearProbe | KnnProbe | TargetProbe


@overload
def probe(
    features: Mapping[str, Any],
    labels: Any,
    *,
    test: tuple[Mapping[str, Any], Any] | None = None,
    protocol: str = "exact",
    tolerance: float = 1e-3,
    penalty: float | None = None,
    seed: int = 0,
    class_names: Sequence[str] | None = None,
    groups: Any = None,
    progress: Callable[[str, AnyProbe], None] | None = None,
    task: str = CLASSIFICATION,
    smoothing: float = 0.0,
) -> dict[str, AnyProbe]: ...


@overload
def probe(
    features: Tensor | np.ndarray,
    labels: Any,
    *,
    test: tuple[Any, Any] | None = None,
    protocol: str = "exact",
    tolerance: float = 1e-3,
    penalty: float | None = None,
    seed: int = 0,
    class_names: Sequence[str] | None = None,
    groups: Any = None,
    progress: Callable[[str, AnyProbe], None] | None = None,
    task: str = CLASSIFICATION,
    smoothing: float = 0.0,
) -> AnyProbe: ...


def probe(
    features: Any,
    labels: Any,
    *,
    test: tuple[Any, Any] | None = None,
    protocol: str = "exact",
    tolerance: float = 1e-3,
    penalty: float | None = None,
    seed: int = 0,
    class_names: Sequence[str] | None = None,
    groups: Any = None,
    progress: Callable[[str, AnyProbe], None] | None = None,
    task: str = CLASSIFICATION,
    smoothing: float = 0.0,
) -> dict[str, AnyProbe] | AnyProbe:
    """Fit a probe on each layer's features and score it on the test rows.

    Args:
        features: layer name → (n, d) features of the training rows; or the features of one layer.
        labels: (n,), whole numbers from 0, the same rows.
        test: the same for the test rows, `(features, labels)`; None leaves the probes without test numbers.
        protocol: `exact`, `ridge`, `knn`, `masarczyk2023`, `harun2024`, `harun2024-vit` or `harun2024-code`.
        tolerance: certified relative gap at which `exact` is done.
        penalty: of `exact` and `ridge`, on standardised features; None chooses it on held-out rows.
        seed: of all draws.
        class_names: in the order of the labels; without them there are as many classes as the labels of
            training and test rows show.
        groups: what each training row belongs to (a patient, a video), (n,), whole numbers; the rows held out
            to choose a penalty keep groups together.
        progress: called with a layer's name and its probe when it is done (the recipes do several at once).
        task: "classification", "regression" (numbers) or "multi-label" (0 and 1, (n, labels)).
        smoothing: label smoothing of `exact`: share of each label spread evenly over all classes.

    Returns:
        layer name → probe, in the order of `features`; one probe for the features of one layer.

    Raises:
        RequestError: a layer's rows cannot be fitted or scored (the layer is named).
    """
    single = not isinstance(features, Mapping)
    layers: Mapping[str, Any] = {"": features} if single else features
    if not layers:
        raise RequestError("no layers to probe: the features are an empty mapping")
    test_layers: dict[str, Any] | None = None
    if test is not None:
        test_layers = {"": test[0]} if single else dict(test[0])
        for name in layers:
            if name not in test_layers:
                raise RequestError(f"the test features lack layer {name!r}; record the same layers for both")
    classes = None if class_names is not None else _classes(labels, None if test is None else test[1])
    read = None if test is None or test_layers is None else (test_layers, test[1])
    about = {"protocol": protocol, "classes": classes, "class_names": class_names, "seed": seed}
    about |= {"task": task, "groups": groups, "smoothing": smoothing}
    probes: dict[str, AnyProbe] = {}
    for name, fitted in _fitted(layers, labels, read, tolerance, penalty, about):
        probes[name] = fitted if read is None else fitted.scored(read[0][name], read[1])
        if progress is not None:
            progress(name, probes[name])
    return probes[""] if single else {name: probes[name] for name in layers}


def _fitted(
    layers: Mapping[str, Any],
    labels: Any,
    test: tuple[Mapping[str, Any], Any] | None,
    tolerance: float,
    penalty: float | None,
    about: dict[str, Any],
) -> Iterator[tuple[str, AnyProbe]]:
    """Yield layers and probes as they are done: the papers' recipes side by side, others one by one."""
    is_recipe = about["task"] == CLASSIFICATION and protocol_name(about["protocol"]) in RECIPES
    if is_recipe and len(layers) > 1:
        check_smoothing(protocol_name(about["protocol"]), about["smoothing"])
        told = {key: value for key, value in about.items() if key not in ("task", "smoothing")}
        yield from fit_recipe_probes(layers, labels, penalty=penalty, test=test, **told)
        return
    for name, layer in layers.items():
        read = None if test is None else (test[0][name], test[1])
        yield (
            name,
            fit_probe(layer, labels, tolerance=tolerance, penalty=penalty, layer=name, test=read, **about),
        )


def _classes(labels: Any, test_labels: Any) -> int | None:
    """Return how many classes the labels show; None leaves labels that are no numbers to the checks."""
    try:
        largest = [int(max(part)) for part in (labels, test_labels) if part is not None and len(part)]
    except (TypeError, ValueError):
        return None
    return max(largest) + 1 if largest and max(largest) >= 0 else None
