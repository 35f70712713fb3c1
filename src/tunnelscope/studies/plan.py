"""What a study will take: what depends on what, what is done, time, memory, disk; no data is needed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tunnelscope.errors import RequestError
from tunnelscope.linalg.threads import threads_for
from tunnelscope.memory import size
from tunnelscope.metrics.costs import metrics_work
from tunnelscope.models.spec import parse_model
from tunnelscope.planning import probing_bytes, speed
from tunnelscope.probes.costs import fit_work
from tunnelscope.studies.declaration import Declaration
from tunnelscope.studies.networks import Cell, cells_of
from tunnelscope.studies.sizes import (
    DataSize,
    NetworkSize,
    built_from,
    data_size,
    network_size,
    recipe_of,
)
from tunnelscope.studies.units import Unit, units_of

KINDS = {"train": "trainings", "scan": "scans"}
PROCESS = 500e6  # bytes of a worker with its libraries
NUMBERS, STATES = 4, 3  # bytes of a weight; a kept state holds a weight three times
REPORT_BYTES = 1e6  # of a scan's page
REPORT_SECONDS = 2.0  # of a scan's page and tables, however small the network
START = 6.0  # seconds until a worker has PyTorch and its study, and until the table is gathered


@dataclass(frozen=True)
class Share:
    """What one network takes."""

    cell: Cell
    size: NetworkSize
    train_seconds: float
    scan_seconds: float
    memory: float
    disk: float


@dataclass(frozen=True)
class Plan:
    """A study sized.

    Attributes:
        shares: what each network takes.
        units: of work, each after those that it needs.
        done: keys of units whose results are there.
        missing: sources of data and weights that are not there.
        workers: how many work at a time, by executor.
    """

    name: str
    shares: Sequence[Share]
    units: Sequence[Unit]
    done: frozenset[str]
    missing: tuple[str, ...]
    workers: Mapping[str, int]

    @property
    def seconds(self) -> float:
        """Of all work that is left, on one worker."""
        return sum(self.seconds_of(unit) for unit in self.units if unit.key not in self.done)

    @property
    def longest_chain(self) -> float:
        """Seconds of the units of one network that are left, which wait for each other however many work."""
        left: dict[str, float] = {}
        for unit in self.units:
            if unit.key not in self.done:
                left[unit.network] = left.get(unit.network, 0.0) + self.seconds_of(unit)
        return max(left.values(), default=0.0)

    def seconds_of(self, unit: Unit) -> float:
        """Of one unit."""
        share = self._by_name[unit.network]
        return (
            share.train_seconds if unit.kind == "train" else share.scan_seconds / len(share.cell.scan.probes)
        )

    @cached_property
    def _by_name(self) -> dict[str, Share]:
        return {share.cell.name: share for share in self.shares}

    def as_dict(self) -> dict[str, Any]:
        """What `tunnelscope study plan --json` prints; bytes and seconds."""
        others, seconds = sum(len(share.cell.ood) for share in self.shares), self.seconds
        chain = self.longest_chain
        return {
            "study": self.name,
            "networks": len(self.shares),
            "layers": sum(len(share.size.layers) for share in self.shares),
            "probes": sum(
                len(share.size.layers) * (1 + len(share.cell.ood)) * len(share.cell.scan.probes)
                for share in self.shares
            ),
            "curves": len(self.shares) + others,
            "values_per_metric": others,
            "units": {
                kind: {
                    "all": sum(unit.kind == kind for unit in self.units),
                    "done": sum(unit.kind == kind and unit.key in self.done for unit in self.units),
                }
                for kind in KINDS
            },
            "missing": list(self.missing),
            "seconds": {
                name: max(seconds / count, chain) + (START if seconds else 0.0)
                for name, count in self.workers.items()
            },
            "workers": dict(self.workers),
            "memory": max((share.memory for share in self.shares), default=0.0),
            "disk": sum(share.disk for share in self.shares),
            "cells": [
                {
                    "network": share.cell.name,
                    "model": share.cell.model,
                    "id": share.cell.id,
                    "layers": len(share.size.layers),
                    "parameters": share.size.parameters,
                    "train_seconds": share.train_seconds,
                    "scan_seconds": share.scan_seconds,
                    "memory": share.memory,
                    "disk": share.disk,
                }
                for share in self.shares
            ],
        }


def make_plan(
    declared: Declaration,
    folder: Path | None,
    workers: Mapping[str, int],
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Plan:
    """Size a study.

    Args:
        folder: of the study, to see what is done; None: nothing is.
        workers: how many work at a time, by executor.
        progress: called with (stage, done, total).

    Raises:
        RequestError: networks that cannot be, all of them named.
    """
    cells = cells_of(declared)
    data = data_sizes(declared, cells)
    sizes: dict[tuple[Any, ...], NetworkSize] = {}
    shares, impossible = [], []
    with threads_for(0):  # one, as a worker of several has it; two on a busy machine wait for each other
        rate = speed()
        for number, cell in enumerate(cells):
            progress("sizing networks", number, len(cells))
            own = data[cell.source]
            look = built_from(cell, own)
            try:
                if look not in sizes:
                    sizes[look] = network_size(cell, own)
                shares.append(_share(cell, sizes[look], data, rate))
            except RequestError as error:
                impossible.append(f"{cell.name}: {str(error).removeprefix(f'{cell.name}: ')}")
    progress("sizing networks", len(cells), len(cells))
    if impossible:
        first, left = impossible[0].rstrip("."), len(impossible) - 1
        more = f"; and {left} more" if left else ""
        raise RequestError(f"study {declared.name} has impossible networks: {first}{more}")
    units = units_of(cells)
    done = frozenset(unit.key for unit in units if folder is not None and unit.is_done(folder))
    return Plan(declared.name, shares, units, done, missing_of(cells, data), workers)


def data_sizes(declared: Declaration, cells: Sequence[Cell]) -> dict[str, DataSize]:
    """The size of every source that a cell reads."""
    told: dict[str, DataSize] = {}
    for cell in cells:
        for name, source in {cell.id: cell.source, **cell.ood}.items():
            if source not in told:
                try:
                    told[source] = data_size(source, declared.data[name])
                except RequestError as error:
                    raise RequestError(f"data.{name}: {error}") from error
    return told


def missing_of(cells: Sequence[Cell], data: Mapping[str, DataSize]) -> tuple[str, ...]:
    """Sources of data that are not there, and files of weights."""
    absent = [source.partition("?")[0] for source, one in data.items() if not one.is_here]
    files = [
        cell.weights
        for cell in cells
        if cell.weights not in (None, "pretrained", "random") and not Path(str(cell.weights)).exists()
    ]
    return tuple(dict.fromkeys([*absent, *map(str, files)]))


def _share(cell: Cell, built: NetworkSize, data: Mapping[str, DataSize], rate: float) -> Share:
    own = data[cell.source]
    rows = own.train or 0
    batch, seen = 1, 0
    if cell.is_trained:
        rows = min(rows, cell.training.get("max_samples") or rows)
        recipe = recipe_of(cell)
        batch, seen = recipe.batch, rows * recipe.epochs
    widths, most = list(built.layers.values()), cell.scan.max_samples
    scanning = work = 0.0
    memory = 0.0
    for source in (cell.source, *cell.ood.values()):
        train, test, classes = data[source].train or 0, data[source].test or 0, data[source].classes or 2
        train, test = (train, test) if most is None else (min(train, most), min(test, most))
        scanning += built.seconds_read * (train + test)
        work += sum(
            len(cell.scan.probes) * fit_work(train, width, classes)
            + metrics_work(train, test, width, classes)
            for width in widths
        )
        memory = max([memory, *(probing_bytes(train, test, width, classes) for width in widths)])
    side = getattr(parse_model(cell.model).overrides, "size", None) or (own.shape or (3, 32, 32))[1:]
    images = 3.0 * side[0] * side[1] * (rows + (own.test or 0)) if cell.is_trained else 0.0
    states = NUMBERS * STATES * built.parameters
    training = images + 2 * states + batch * built.bytes_trained if cell.is_trained else 0.0
    networks = 2 if cell.scan.control else 1
    return Share(
        cell,
        built,
        train_seconds=seen * built.seconds_trained + rows * built.seconds_read if cell.is_trained else 0.0,
        scan_seconds=networks * (len(cell.scan.probes) * scanning + work / rate)
        + len(cell.scan.probes) * REPORT_SECONDS,
        memory=PROCESS + max(training, memory + NUMBERS * built.parameters),
        disk=(2 * states if cell.is_trained else 0.0)
        + len(cell.scan.probes) * (REPORT_BYTES + NUMBERS * sum(widths) * (own.classes or 10)),
    )


def describe(plan: Plan) -> list[str]:
    """The plan in lines."""
    told = plan.as_dict()
    units = told["units"]
    lines = [
        f"{plan.name}: {told['networks']} networks, {told['layers']:,} layers, {told['probes']:,} probes, "
        f"{told['curves']:,} curves",
        "to do: "
        + ", ".join(
            f"{counts['all'] - counts['done']} of {counts['all']} {KINDS[kind]}"
            for kind, counts in units.items()
            if counts["all"]
        ),
        "time, about: "
        + ", ".join(
            f"{duration(seconds)} {name} ({plan.workers[name]})" for name, seconds in told["seconds"].items()
        ),
        f"memory of a worker: {size(int(told['memory']))}, disk: {size(int(told['disk']))}",
    ]
    if plan.missing:
        lines.append(f"not there: {', '.join(plan.missing)}")
    return lines


def duration(seconds: float) -> str:
    """A time in words: 40 s, 12 min, 3.5 h, 12 d."""
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            value = seconds / length
            return f"{value:.0f} {unit}" if value >= 10 else f"{value:.1f} {unit}"
    return f"{seconds:.0f} s"
