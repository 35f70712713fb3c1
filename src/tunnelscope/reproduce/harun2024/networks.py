"""The 2024 paper's networks for two cores: one study, of which an item trains what is not known yet."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunnelscope.checkpoints import read_settings
from tunnelscope.errors import MachineError, RequestError
from tunnelscope.layers import CONV_INPUTS
from tunnelscope.reproduce.harun2024.kept import (
    Record,
    Records,
    key_of_record,
    known_records,
    put_records,
    read_records,
    record_of,
    table_path,
)
from tunnelscope.reproduce.lab import Lab
from tunnelscope.reproduce.verdicts import Spread, pooled
from tunnelscope.results import load
from tunnelscope.studies.declaration import Declaration, read_declaration
from tunnelscope.studies.driver import run_study
from tunnelscope.studies.networks import Cell, cells_of
from tunnelscope.studies.units import training_of, units_of_cell
from tunnelscope.tunnel import tunnel_start

STUDY, PAPER_STUDY = "studies/harun2024-small.toml", "studies/harun2024.toml"
NEGLIGIBLE, WEAK = 95, 90  # percent of r from which the paper calls a tunnel so
LEARNT = 2  # times chance: a network below has hardly learnt its task
RANK = "numerical_rank"
Array = NDArray[np.floating]
Levels = Mapping[str, Any]

CHANGED = {
    "small": "CNNs an eighth as wide and ViTs a quarter, 20 epochs on 5,000 images in batches of 128 (as "
    "many steps on fewer images) with and without augmentation, CIFAR-100 and photos for ImageNet-100 (on "
    "CIFAR-100 scaled up, 64² adds pixels and no detail), 64² the highest resolution, five OOD sets "
    "instead of eight, weights of the best epoch on a tenth of the training images, probes on 2,000 "
    "images a split at most, ViTs' blocks read without the final norm; of many of these networks "
    "the last layers lose ID accuracy too (ID accuracy kept), so that r is of all that is lost there, not "
    "of a tunnel alone",
    "smoke": "one epoch on 400 images, ridge probes for exact ones: it shows only that the item runs",
}


@dataclass(frozen=True)
class Reading:
    """How a network is read: which probes, and over what r is taken.

    Attributes:
        words: in the ledger.
        probe: the protocol.
        quantity: of the results table, a value a layer.
        kept: the quantity that is r; None: the last layer's over the test maximum.
    """

    words: str
    probe: str
    quantity: str = "probe_accuracy"
    kept: str | None = None


HELD_OUT = Reading(
    "exact probes; r over the last layer, or another that is surely better on held-out rows",
    "exact",
    kept="retained",
)
MATCHED = Reading(
    "exact probes; r as chosen on held-out rows among as many layers of every network",
    "exact",
    kept="retained_matched",
)  # deeper networks have more layers to be best
EXACT = Reading("exact probes; r over the test maximum", "exact")
LAST_EPOCH = Reading("the paper's probes, last epoch; r over the test maximum", "harun2024")
AS_PAPER = Reading(
    "the paper's probes, best of 30 epochs on the test rows; r over the test maximum",
    "harun2024",
    "best_test_accuracy",
)
READINGS = (HELD_OUT, EXACT, LAST_EPOCH, AS_PAPER)
AS_CODE = Reading(
    "the released code's probes (batches of 256 in one fixed order), best of 30 epochs on the test rows; "
    "r over the test maximum",
    "harun2024-code",
    "best_test_accuracy",
)  # of the VGGm at 32²
OF_VIT = {
    "harun2024": "harun2024-vit"
}  # its probes of ViTs are others; the final norm of its code is left out


@dataclass(frozen=True, eq=False)
class Curves:
    """One network under one reading.

    Attributes:
        cell: the network in the study.
        id: accuracy of each layer's probe on the ID set, (layers,).
        ood: the same of each OOD set.
        retained: r of each OOD set, a share.
        ranks: numerical rank of the ID set's test rows, (layers,).
        within, between: variances of the ID set's training rows, (layers,).
        own: the network's own accuracy on the ID set.
        classes, ood_classes: of the ID set, of each OOD set.
        parameters: of the network.
        images: that it was trained on.
    """

    cell: Cell
    id: Array
    ood: dict[str, Array]
    retained: dict[str, float]
    ranks: Array
    within: Array
    between: Array
    own: float
    classes: int
    ood_classes: dict[str, int]
    parameters: int
    images: int

    @property
    def has_learnt(self) -> bool:
        """Whether it is twice as good as guessing: claims leave the others out."""
        return self.own >= LEARNT / self.classes

    @property
    def id_kept(self) -> float:
        """The last layer's ID accuracy over the best layer's, in percent: a tunnel keeps it."""
        return 100 * float(self.id[-1] / self.id.max())

    @property
    def numbers(self) -> NDArray[np.intp]:
        """Of the layers, from 1."""
        return np.arange(1, len(self.id) + 1)

    @property
    def r(self) -> float:
        """Mean over OOD sets, in percent."""
        return self.r_on(self.ood)

    def r_on(self, sets: Sequence[str] | Mapping[str, Any]) -> float:
        """Mean r over these OOD sets, in percent."""
        return 100 * float(np.mean([self.retained[name] for name in sets]))

    @property
    def normalised(self) -> dict[str, Array]:
        """Each OOD curve as a share of its maximum, as the paper draws it."""
        return {name: curve / curve.max() for name, curve in self.ood.items()}

    @property
    def peak(self) -> int:
        """Number of the layer where the mean normalised OOD curve is highest: the last before the tunnel."""
        return int(np.mean(list(self.normalised.values()), axis=0).argmax()) + 1

    @property
    def start(self) -> int:
        """The same by the ID set: the first layer within 95 % of the last one's accuracy."""
        return tunnel_start(self.id, 0.95) + 1


@dataclass(frozen=True)
class Networks:
    """The study's networks: those in the lab's folder, and those that the table of networks has.

    Attributes:
        scale: smoke or small.
        retrain: whether to train anew what the table has.
        is_at_inputs: whether these are the ResNets alone, read at what their convolutions are given.
        read: where the networks that were read so far were trained.
    """

    lab: Lab
    scale: str
    retrain: bool = False
    is_at_inputs: bool = False
    read: set[str] = field(default_factory=set)

    @cached_property
    def declared(self) -> Declaration:
        """The study with the lab's data, at the scale. Raises RequestError: at paper scale it is a file."""
        if self.scale == "paper":
            raise RequestError(
                f"at paper scale the networks are those of a study, which runs by itself: `tunnelscope study "
                f"plan {PAPER_STUDY}` says what it takes, `study run` trains and scans them, `effects` judges"
            )
        declared = read_declaration(STUDY)
        data = {
            name: one.model_copy(update={"source": self._source(one.source)})
            for name, one in declared.data.items()
        }
        declared = declared.model_copy(update={"data": data})
        if self.is_at_inputs:
            declared = resnets_at_inputs(declared)
        return declared if self.scale == "small" else smallest(declared)

    @cached_property
    def at_inputs(self) -> "Networks":
        """The study's ResNets, of the same trainings, read at what their convolutions are given."""
        return replace(self, is_at_inputs=True)

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of the trainings."""
        return tuple(sorted({cell.seed for cell in self.cells}))

    @property
    def readings(self) -> tuple[Reading, ...]:
        """That the study's probes allow; at smoke scale another stands for the exact one."""
        asked = self.declared.scan.probes
        if "exact" in asked:
            return READINGS
        return tuple(replace(one, probe=asked[0]) for one in (HELD_OUT, EXACT))

    @cached_property
    def cells(self) -> list[Cell]:
        """All networks."""
        return cells_of(self.declared)

    @property
    def folder(self) -> Path:
        """Of the study."""
        return self.lab.folder / "studies" / self.declared.name

    def chosen(self, **levels: Any) -> list[Cell]:
        """Networks that have these levels, by seed; a level None is one that the network does not have.

        Raises:
            RequestError: the study has none.
        """
        found = [
            cell for cell in self.cells if all(level_of(cell, name) == one for name, one in levels.items())
        ]
        if not found:
            raise RequestError(f"study {self.declared.name} has no network with {levels}")
        return sorted(found, key=lambda cell: cell.seed)

    @cached_property
    def records(self) -> Records:
        """What is known of networks: at first what the table has, at scale small."""
        if self.scale != "small" or self.retrain:
            return {}
        found = known_records()
        names = {cell.name for cell in self.cells}
        count = len(names & {record.network for record in found.values()})
        if count and not self.is_at_inputs:  # which are known with the others
            self.lab.announce(f"{count} networks of {STUDY} are known; --retrain trains them here")
        return found

    def made(self, cells: Sequence[Cell]) -> None:
        """Train and scan these networks, those that are not known, and put them into the table."""
        left = [cell for cell in cells if not self._is_known(cell)]
        if left and self.scale == "small":
            read_records(table_path())  # a damaged one is said before hours of work
        try:
            if missing := [cell for cell in left if not self._is_done(cell)]:
                self._run(missing)
        finally:  # what is done is kept, whatever became of the others
            done = [cell for cell in left if self._is_done(cell)]
            new = [self._taken(cell, probe) for cell in done for probe in cell.scan.probes]
            if new and self.scale == "small":
                put_records(new, table_path())
            self.records.update({record.key: record for record in new})

    @property
    def are_known(self) -> bool:
        """Whether the table has all of them."""
        return all(map(self._is_known, self.cells))

    def _is_known(self, cell: Cell) -> bool:
        return all(key_of_record(cell, probe) in self.records for probe in cell.scan.probes)

    def _is_done(self, cell: Cell) -> bool:
        return all(unit.is_done(self.folder) for unit in units_of_cell(cell))

    def _run(self, cells: Sequence[Cell]) -> None:
        outcome = run_study(
            self.declared,
            out=self.folder,
            executor="here" if self.scale == "smoke" else "local",
            only=[cell.name for cell in cells],
            edited=True,
            progress=self.lab.progress,
            announce=self.lab.announce,
        )
        if outcome.failed:
            first = outcome.failed[0]
            raise MachineError(
                f"{first.unit.title} of {first.unit.network} failed: {first.error}; its log is "
                f"{first.unit.log(self.folder)}"
            )

    def _taken(self, cell: Cell, probe: str) -> Record:
        """A network that is done, from its scan."""
        scan = next(unit for unit in units_of_cell(cell) if unit.kind == "scan" and unit.probe == probe)
        told = read_settings(training_of(cell).folder(self.folder))
        assert told is not None
        return record_of(cell, probe, load(scan.folder(self.folder)), int(told["settings"]["train_rows"]))

    def curves(self, reading: Reading, **levels: Any) -> list[Curves]:
        """Train and scan the networks that have these levels; return them under a reading, by seed."""
        cells = self.chosen(**levels)
        self.made(cells)
        return self.of(cells, reading)

    def of(self, cells: Sequence[Cell], reading: Reading) -> list[Curves]:
        """Networks that are known, under a reading."""
        found = [(cell, self.records[key_of_record(cell, probe_of(cell, reading))]) for cell in cells]
        self.read.update(record.hardware for _, record in found)
        return [curves_of(cell, record, reading) for cell, record in found]

    def spread(
        self,
        reading: Reading,
        statistic: Callable[[Curves], float],
        models: Collection[str],
        *,
        is_paired: bool = False,
    ) -> Spread | None:
        """How far a statistic lies apart between seeds, over known networks of models that have learnt.

        Args:
            is_paired: as of `pooled`.
        """
        kinds: dict[str, dict[int, float]] = {}
        for cell in self.cells:
            probe = probe_of(cell, reading)
            if probe in cell.scan.probes and level_of(cell, "model") in models and self._is_known(cell):
                curves = curves_of(cell, self.records[key_of_record(cell, probe)], reading)
                if curves.has_learnt:
                    kinds.setdefault(kind_of(cell), {})[cell.seed] = statistic(curves)
        return pooled(kinds.values(), is_paired=is_paired)

    def _source(self, told: str) -> str:
        name, _, query = told.removeprefix("data/").partition("?")
        return self.lab.named(name, query)


def resnets_at_inputs(declared: Declaration) -> Declaration:
    """The ResNets, read where the released code's hook does and with the paper's probes."""
    changed = {"layers": CONV_INPUTS, "probes": [AS_PAPER.probe]}
    grids = [grid.model_copy(update=changed) for grid in declared.networks if "resnet" in str(grid.model)]
    return declared.model_copy(update={"networks": grids})


def smallest(declared: Declaration) -> Declaration:
    """The same networks, seed 0, as small as they run."""
    networks = []
    for grid in declared.networks:
        width = 0.25 if "vit" in str(grid.model) else 0.0625
        changed = {
            "seed": 0,
            "arguments": {**grid.arguments, "width": width},
            "training": {**grid.training, "epochs": 1},
            "probes": None,
        }
        networks.append(grid.model_copy(update=changed))
    name = f"{declared.name}-smoke"
    scan = declared.scan.model_copy(
        update={"probes": ["ridge"], "max_samples": 300, "ood": declared.scan.ood[:3]}
    )
    training = {**declared.training, "max_samples": 400}
    return declared.model_copy(
        update={"name": name, "networks": networks, "scan": scan, "training": training}
    )


def probe_of(cell: Cell, reading: Reading) -> str:
    """The protocol that a reading means for a network."""
    return OF_VIT.get(reading.probe, reading.probe) if cell.told["kind"] == "ViT" else reading.probe


def kind_of(cell: Cell) -> str:
    """What a network is but for its seed."""
    return repr({name: level for name, level in cell.levels.items() if name != "seed"})


def level_of(cell: Cell, name: str) -> Any:
    """A level of a network: of its data or its training, the model without its library."""
    if name == "model":
        return str(cell.levels["model"]).removeprefix("zoo:")
    if name == "augmentation":
        return cell.levels["training.augmentation"]
    return cell.levels.get(name)


def curves_of(cell: Cell, record: Record, reading: Reading) -> Curves:
    """A network under a reading."""
    values, own = record.values, record.id
    ood = {name: values[name, reading.quantity] for name in record.ood}
    retained = {name: float(one[-1] / one.max()) for name, one in ood.items()}
    if reading.kept:
        retained = {name: float(values[name, reading.kept][0]) for name in ood}
    return Curves(
        cell,
        values[own, reading.quantity],
        ood,
        retained,
        values[own, RANK],
        values[own, "within_variance"],
        values[own, "between_variance"],
        record.own,
        record.classes[own],
        {name: record.classes[name] for name in ood},
        record.parameters,
        record.images,
    )


def differing(
    networks: Networks,
    reading: Reading,
    one: Levels,
    other: Levels,
    statistic: Callable[[Curves], float],
) -> list[float | None]:
    """A statistic of networks less that of others, by seed; None where one has not learnt its task."""
    pairs = zip(networks.curves(reading, **one), networks.curves(reading, **other), strict=True)
    return [
        statistic(second) - statistic(first) if first.has_learnt and second.has_learnt else None
        for first, second in pairs
    ]
