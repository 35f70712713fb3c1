"""A trained network with its data and its tunnel, and what is told of it before and after it was changed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunnelscope.checkpoints import read_settings
from tunnelscope.data import DataSet, Preprocessing
from tunnelscope.errors import RequestError
from tunnelscope.models import Network, load_network
from tunnelscope.over_training import decoded
from tunnelscope.recording import StageProgress, recorder_for
from tunnelscope.results import Scan
from tunnelscope.scanning import load_sets, scan
from tunnelscope.surgery.stretch import Stretch, stretch_of


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

    @property
    def preprocessing(self) -> Preprocessing | None:
        """What is done to an image before the network reads it."""
        preprocessing = self.network.preprocessing
        assert preprocessing is None or isinstance(preprocessing, Preprocessing)  # `decoded` saw to it
        return preprocessing


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
    data = trained["data"] if id is None else id
    sets = load_sets(data, ood, max_samples=max_samples, seed=seed, announce=announce)
    notify = progress or (lambda stage, done, total: None)
    sets = [decoded(one, network.preprocessing, workers, notify) for one in sets]
    settings = {"workers": workers, "seed": seed, "progress": progress, **settings}
    found = scan(network, id=sets[0], ood=sets[1:], **settings)
    names = [one["name"] for one in found.run["layers"]]
    start = layer or found.tunnel["start_95"]
    if start is None or start == names[-1]:
        raise RequestError(f"{network.name} has no tunnel after {start}; name a layer with --layer")
    recorder = recorder_for(network, sets[0].train, seed=seed, layers=settings.get("layers", "blocks"))
    stretch = stretch_of(network.module, recorder.example, start, names[-1])
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
