"""A trained network with its data and its tunnel, and what is told of it before and after it was changed."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from tunnelscope.checkpoints import read_settings
from tunnelscope.data import DataSet, Preprocessing, batches
from tunnelscope.errors import RequestError
from tunnelscope.models import Network, load_network
from tunnelscope.pixels import decoded
from tunnelscope.recording import StageProgress
from tunnelscope.results import Scan
from tunnelscope.scanning import load_sets, scan, trained_on
from tunnelscope.surgery.stretch import Stretch, stretch_of

BATCH = 250  # images


@dataclass(frozen=True, repr=False)
class Surgery:
    """A network before and after it was changed.

    Attributes:
        what: in words.
        layer: after which it was changed.
        modules: what was changed.
        conditions: by name (`trained` first), each with the network's own accuracy on the ID set, and for
            each data set the last layer's probe accuracy with its interval.
        scans: by the same names.
    """

    what: str
    layer: str
    modules: tuple[str, ...]
    conditions: dict[str, dict[str, Any]]
    scans: Mapping[str, Scan] = field(repr=False)
    warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Surgery: {self.what}>"

    def as_dict(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            "what": self.what,
            "layer": self.layer,
            "modules": list(self.modules),
            "conditions": self.conditions,
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True, eq=False)
class Patient:
    """A trained network with its decoded data, scanned.

    Attributes:
        network: trained.
        told: what `train.json` tells.
        folder: of the training.
        sets: the ID set first.
        scan: of the trained network.
        layer: the extractor's last layer, or the one asked for.
        stretch: from there to the last layer.
    """

    network: Network
    told: dict[str, Any]
    folder: Path
    sets: list[DataSet]
    scan: Scan
    layer: str
    stretch: Stretch
    settings: dict[str, Any]

    def inputs(self, rows: Iterable[int]) -> Iterator[Tensor]:
        """Some training images as the network reads them, in batches of at most 250."""
        return inputs_of(self.network, self.sets[0], rows)


def inputs_of(network: Network, dataset: DataSet, rows: Iterable[int]) -> Iterator[Tensor]:
    """Some training images of a set as a network reads them, in batches of at most 250."""
    preprocessing = network.preprocessing
    assert preprocessing is None or isinstance(preprocessing, Preprocessing)  # `decoded` saw to it
    images = [dataset.train.images[row] for row in rows]
    return batches(images, preprocessing, batch_size=BATCH, workers=0)


def admit(
    folder: str | Path,
    *,
    layer: str | None = None,
    id: Any = None,
    ood: Any = (),
    max_samples: int | None = None,
    workers: int = 2,
    seed: int = 0,
    progress: StageProgress | None = None,
    announce: Callable[[str], None] | None = None,
    **settings: Any,
) -> Patient:
    """Load a training's network and data, scan it and find its tunnel.

    Raises:
        RequestError: the folder holds no finished training, the layer is unknown, or there is no tunnel.
    """
    folder = Path(folder)
    told = read_settings(folder)
    if told is None or "result" not in told:
        raise RequestError(
            f"{folder} holds no finished training; `tunnelscope train … --out {folder}` makes one"
        )
    trained = told["settings"]
    network = load_network(trained["model"], weights=folder / "model.safetensors")
    if id is None:
        id = trained_on(trained, label=None, image=None, max_samples=max_samples, announce=announce)
    sets = load_sets(id, ood, max_samples=max_samples, seed=seed, announce=announce)
    notify = progress or (lambda stage, done, total: None)
    sets = [decoded(one, network.preprocessing, workers, notify) for one in sets]
    settings = {"workers": workers, "seed": seed, "progress": progress, **settings}
    found = scan(network, id=sets[0], ood=sets[1:], **settings)
    names = [one["name"] for one in found.run["layers"]]
    start = layer or found.tunnel["start_95"]
    if start is None or start == names[-1]:
        raise RequestError(f"{network.name} has no tunnel after {start}; name a layer with --layer")
    example = next(inputs_of(network, sets[0], [0]))
    stretch = stretch_of(network.module, example, start, names[-1])
    return Patient(network, told, folder, sets, found, start, stretch, settings)


def surgery_of(what: str, patient: Patient, scans: Mapping[str, Scan]) -> Surgery:
    """Sum up the scans of a network before and after."""
    conditions = {name: _reading(one) for name, one in scans.items()}
    warnings = tuple(dict.fromkeys(patient.scan.run["warnings"]))
    return Surgery(what, patient.layer, patient.stretch.modules, conditions, scans, warnings)


def _reading(found: Scan) -> dict[str, Any]:
    """The network's own accuracy, and the last layer's probe on each set."""
    last = found.run["layers"][-1]["name"]
    own = found.run["network_accuracy"]
    probes = {
        probe["dataset"]: {key: probe[key] for key in ("accuracy", "low", "high")}
        for probe in found.run["probes"]
        if probe["layer"] == last
    }
    return {"network_accuracy": own, "last_layer": probes}
