"""Where items train and scan: everything once, kept by what decides it, gone on with after a kill."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import nn

from tunnelscope import __version__
from tunnelscope.checkpoints import SETTINGS, read_settings
from tunnelscope.data import batches, load_data
from tunnelscope.data.stamp import stamp_of
from tunnelscope.errors import RequestError
from tunnelscope.files import write_json
from tunnelscope.models import Network, load_network
from tunnelscope.over_training import OverTraining, load_over_training, scan_checkpoints
from tunnelscope.recording import StageProgress
from tunnelscope.results import Scan, load
from tunnelscope.scanning import scan
from tunnelscope.store import MODEL_CODE, SCAN_CODE, code_of, key_of
from tunnelscope.surgery.reset import reset
from tunnelscope.training.run import train, train_tasks

KEY_LENGTH = 24
NOT_HERE = {  # what the hub calls a set
    "cifar10": "uoft-cs/cifar10",
    "cifar100": "uoft-cs/cifar100",
    "mnist": "ylecun/mnist",
}


@dataclass(frozen=True, eq=False)
class Trained:
    """A training of the lab: where it lies and what decided it."""

    folder: Path
    key: str

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Of `train.json`, with its result."""
        told = read_settings(self.folder)
        assert told is not None
        return told["settings"] | {"result": told["result"]}

    @property
    def accuracy(self) -> float:
        """On the test images."""
        return self.settings["result"]["accuracy"]

    @property
    def weights(self) -> Path:
        """The file of the trained weights."""
        return self.folder / "model.safetensors"

    def network(self) -> Network:
        """Load the network with its trained weights."""
        settings = self.settings
        return load_network(settings["model"], weights=self.weights, classes=len(settings["classes"]))


@dataclass(frozen=True)
class Lab:
    """One folder of trainings and scans.

    Attributes:
        data: folder that holds `cifar10` and `cifar100`.
        folder: for what is kept.
        progress: called with (stage, done, total).
        announce: called with a line for each network that is trained or scanned.
    """

    data: Path
    folder: Path
    progress: StageProgress = field(default=lambda stage, done, total: None)
    announce: Callable[[str], None] = field(default=lambda line: None)

    def source(self, name: str, query: str = "") -> str:
        """Return a data set of the folder as a name for `ts.load_data`.

        Raises:
            RequestError: it is not there; the message says how to get it.
        """
        path = self.data / name
        if not path.exists():
            known = f" (the hub has it as {NOT_HERE[name]})" if name in NOT_HERE else ""
            raise RequestError(
                f"{path} is not there; put {name} into {self.data} as parquet or class folders{known}, "
                "or name the folder that holds it with --data DIR or $TUNNELSCOPE_DATA"
            )
        return self.named(name, query)

    def named(self, name: str, query: str = "") -> str:
        """The same, whether it is there or not."""
        return f"{self.data / name}?{query}" if query else str(self.data / name)

    def rows_of(self, name: str) -> int:
        """How many training images a data set of the folder has."""
        return len(load_data(self.source(name)).train)

    def trained(self, model: str | nn.Module, source: str, name: str = "", **settings: Any) -> Trained:
        """Train a network, go on with its training, or take it as it is kept.

        Args:
            model: as for `ts.train`.
            source: of `source`.
            name: what stands for a module in the key; of a name the name does.
            settings: of `ts.train`.
        """
        key = self._key("training", name or str(model), [source], [settings, code_of(*MODEL_CODE)])
        folder = self.folder / "trainings" / key
        with self._lock(folder):
            if not _is_done(folder):
                self.announce(f"training {name or model} on {Path(source).name}, seed {settings['seed']}")
                train(model, source, out=folder, progress=self.progress, **settings)
        return Trained(folder, key)

    def tasks(self, model: str, source: str, tasks: Sequence[str], **settings: Any) -> list[Trained]:
        """Train one network on several tasks, as `ts.train_tasks` does."""
        key = self._key("tasks", model, [source], [list(tasks), settings, code_of(*MODEL_CODE)])
        folder = self.folder / "trainings" / key
        parts = [folder / f"task-{number}" for number in range(1, len(tasks) + 1)]
        with self._lock(folder):
            if not all(map(_is_done, parts)):
                self.announce(f"training {model} on tasks {'/'.join(tasks)}, seed {settings['seed']}")
                train_tasks(model, source, tasks, out=folder, progress=self.progress, **settings)
        return [Trained(part, f"{key}-{part.name}") for part in parts]

    def scanned(self, subject: Trained | str, id: str, ood: Sequence[str] = (), **settings: Any) -> Scan:
        """Scan a training's network, or one of the zoo untrained.

        Args:
            subject: a training, or a network's name, which is drawn with the seed in `settings`.
            settings: of `ts.scan`.
        """
        what = subject.key if isinstance(subject, Trained) else subject
        files = [str(settings["weights"])] if Path(str(settings.get("weights"))).is_file() else []
        key = self._key("scan", what, [id, *ood, *files], [settings, code_of(*SCAN_CODE)])
        folder = self.folder / "scans" / key
        with self._lock(folder):
            if not (folder / "run.json").exists():
                model = subject.network() if isinstance(subject, Trained) else subject
                shown = model.name if isinstance(model, Network) else str(model)
                shown += ", untrained" if settings.get("weights") == "random" else ""
                self.announce(
                    f"scanning {shown}: {settings.get('probe', 'exact')}, {settings.get('pool', 'auto')}"
                )
                scan(model, id=id, ood=list(ood), out=folder, cache=False, progress=self.progress, **settings)
        return load(folder)

    def history(self, trained: Trained, **settings: Any) -> OverTraining:
        """Scan the checkpoints of a training."""
        key = self._key(
            "history", trained.key, [settings["id"]], [settings, code_of(*SCAN_CODE, "over_training")]
        )
        folder = self.folder / "scans" / key
        with self._lock(folder):
            if not (folder / "run.json").exists():
                self.announce(f"scanning the checkpoints of {trained.settings['model']}")
                scan_checkpoints(trained.folder, out=folder, cache=False, progress=self.progress, **settings)
        return load_over_training(folder)

    def reset(self, trained: Trained, **settings: Any) -> dict[str, dict[str, Any]]:
        """Set a training's tunnel back; return the conditions of `ts.reset`."""
        key = self._key("reset", trained.key, [settings["id"]], [settings, code_of(*SCAN_CODE)])
        path = self.folder / "resets" / f"{key}.json"
        with self._lock(path):
            if not path.exists():
                self.announce(f"resetting the tunnel of {trained.settings['model']}")
                done = reset(trained.folder, cache=False, progress=self.progress, **settings)
                write_json(path, done.conditions)
        return json.loads(path.read_text(encoding="utf-8"))

    def _key(self, kind: str, what: str, sources: Sequence[str], settings: Any) -> str:
        """A name of everything that decides the outcome; of data the state of their files."""
        read = [(Path(source).name, stamp_of(Path(source.partition("?")[0]), "")) for source in sources]
        ordered = json.loads(json.dumps(settings, sort_keys=True, default=str))
        return key_of(kind, what, read, ordered, __version__)[:KEY_LENGTH]

    def _lock(self, folder: Path) -> FileLock:
        """One process at a time makes what is to lie in a folder."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(f"{folder}.lock")


def curve_of(scan: Scan, dataset: str, quantity: str) -> NDArray[Any]:
    """A quantity of each layer on a set, in the layers' order, without the input: (layers,)."""
    table: Any = scan.frame
    is_asked = (table["dataset"] == dataset) & (table["quantity"] == quantity)
    rows = table[is_asked & (table["layer_index"] > 0) & table["layer"].notna() & table["layer_b"].isna()]
    return rows.sort_values("layer_index")["value"].to_numpy(dtype=float)


def _is_done(folder: Path) -> bool:
    if not (folder / SETTINGS).exists():
        return False
    told: Mapping[str, Any] | None = read_settings(folder)
    return told is not None and "result" in told and (folder / "model.safetensors").exists()


def own_accuracy(network: Network, source: str) -> float:
    """A network's own accuracy on the test images of a set; outputs stand in the order of the classes."""
    dataset = load_data(source)
    right = seen = 0
    preprocessing: Any = network.preprocessing
    with torch.inference_mode():
        for inputs in batches(dataset.test.images, preprocessing, batch_size=500, workers=2):
            labels = torch.as_tensor(dataset.test.labels[seen : seen + len(inputs)])
            right += int((network.module(inputs).argmax(dim=1) == labels).sum())
            seen += len(inputs)
    return right / seen
