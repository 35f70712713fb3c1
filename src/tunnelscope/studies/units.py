"""Units of work: a training or a scan, each after what it needs, its result named by what decides it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tunnelscope.checkpoints import SETTINGS
from tunnelscope.files import write_json
from tunnelscope.studies.networks import Cell

RESULTS, LOGS = "results", "logs"  # folders of a study: what was done, by key, and how it went
WEIGHTS = "model.safetensors"
MARK = "done.json"  # of a result: its files and their sizes, written last


@dataclass(frozen=True)
class Unit:
    """A piece of work that one worker does.

    Attributes:
        key: what its result follows from; names the folder of the result.
        kind: "train" or "scan".
        network: the first one of the study that needs it; several may share a training.
        needs: keys of the units before it.
        probe: of a scan, its protocol.
    """

    key: str
    kind: str
    network: str
    needs: tuple[str, ...] = ()
    probe: str = ""

    @property
    def title(self) -> str:
        """What is done, in words."""
        return f"{self.kind} {self.probe}" if self.probe else self.kind

    def log(self, study: Path) -> Path:
        """Where the worker's lines on it lie."""
        return study / LOGS / f"{self.kind}-{self.key}.log"

    def folder(self, study: Path) -> Path:
        """Where its result lies."""
        return study / RESULTS / f"{self.kind}-{self.key}"

    def mark_done(self, study: Path) -> None:
        """Put down which files the result is made of, now that it is whole."""
        folder = self.folder(study)
        names = (
            [SETTINGS, WEIGHTS]
            if self.kind == "train"
            else [path.name for path in folder.iterdir() if path.name != MARK]
        )
        files = {name: (folder / name).stat().st_size for name in names if (folder / name).is_file()}
        write_json(folder / MARK, files)

    def is_done(self, study: Path) -> bool:
        """Whether its result is there, every file as long as it was made."""
        return self.lost(study) == []

    def lost(self, study: Path) -> list[str] | None:
        """Files of a result that are missing or of another size; None where nothing tells what it is of."""
        folder = self.folder(study)
        try:
            files = json.loads((folder / MARK).read_text(encoding="utf-8"))
            return [
                name
                for name, size in files.items()
                if not (folder / name).is_file() or (folder / name).stat().st_size != size
            ]
        except (OSError, ValueError):
            return None

    def unmark(self, study: Path) -> None:
        """Let a result that turned out to be damaged be made again."""
        (self.folder(study) / MARK).unlink(missing_ok=True)


def units_of(cells: Sequence[Cell]) -> list[Unit]:
    """All units of the cells, a training before its scans; what several cells share stands there once."""
    found: dict[str, Unit] = {}
    for cell in cells:
        for unit in units_of_cell(cell):
            found.setdefault(unit.key, unit)
    return list(found.values())


def training_of(cell: Cell) -> Unit:
    """The training of a cell that is trained."""
    return units_of_cell(cell)[0]


def units_of_cell(cell: Cell) -> list[Unit]:
    """A cell's training, where it has one, and its scans."""
    needs, told = (), []
    if cell.is_trained:
        told.append(Unit(cell.training_key, "train", cell.name))
        needs = (cell.training_key,)
    previous = needs
    for probe in cell.scan.probes:  # one after another: the first records what the others read
        unit = Unit(cell.scan_keys[probe], "scan", cell.name, previous, probe)
        told.append(unit)
        previous = (*needs, unit.key)
    return told
