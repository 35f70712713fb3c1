"""One worker: it leases units of a study and does them until there are none left."""

import errno
import os
import shutil
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from tunnelscope.errors import MachineError, TunnelscopeError
from tunnelscope.studies.networks import Cell
from tunnelscope.studies.shared import shared_data
from tunnelscope.studies.state import State, is_over, this_owner
from tunnelscope.studies.units import WEIGHTS, Unit, training_of, units_of_cell

BEAT = 5.0  # seconds between signs of life
IDLE = 0.2  # seconds between looks where nothing can be leased; grows to a second
MOST_IDLE = 1.0
STOP = "stop"  # what is put down when nothing can go on: a full disk
CACHE = "TUNNELSCOPE_CACHE"
FULL = (errno.ENOSPC, errno.EDQUOT)


class Worker:
    """Does units of a study, one after another.

    Args:
        folder: of the study.
        only: keys of units to do; None: all.
        parent: number of the process without which the worker ends; None: it stays.
        threads: of PyTorch; None: as many as it takes.
        tell: called with a line for what is begun and how it went.
    """

    def __init__(
        self,
        folder: Path,
        *,
        only: frozenset[str] | None = None,
        parent: int | None = None,
        threads: int | None = None,
        tell: Callable[[str], None] = lambda line: None,
    ):
        self.state, self.folder, self.only, self.parent, self.tell = State(folder), folder, only, parent, tell
        self.owner = this_owner()
        os.chdir(self.state.about()["directory"])
        self.cells = self._cells_by_key()
        self.data: dict[tuple[str, str], Any] = {}
        if threads is not None:
            import torch

            torch.set_num_threads(threads)

    def run(self) -> int:
        """Work until every unit is done or failed; return how many were done here.

        Raises:
            MachineError: the disk is full; the unit is given back.
        """
        count, idle = 0, IDLE
        while not self._is_orphaned():
            unit = self.state.lease(self.owner, self.only)
            if unit is not None:
                idle = IDLE
                count += self._do(unit)
                continue
            if is_over(self.state.statuses(), self.only) or self.state.about().get(STOP):
                return count
            self.state.reclaim()
            time.sleep(idle)
            idle = min(2 * idle, MOST_IDLE)
        return count

    def _is_orphaned(self) -> bool:
        """Whether the driver that started this worker is gone: the next one starts workers of its own."""
        return self.parent is not None and os.getppid() != self.parent

    def _cells_by_key(self) -> dict[str, Cell]:
        """The network of every unit, by what the unit's result is called."""
        return {unit.key: cell for cell in self.state.cells() for unit in units_of_cell(cell)}

    def _cell_of(self, unit: Unit) -> Cell:
        """The network that a unit's key was made from, also where the study was edited since the start."""
        if unit.key not in self.cells:
            self.cells = self._cells_by_key()
        return self.cells[unit.key]

    def _do(self, unit: Unit) -> bool:
        started = time.monotonic()
        log = _Log(unit.log(self.folder))
        log(f"{unit.kind} {unit.network}{f', {unit.probe}' if unit.probe else ''}: begun by {self.owner}")
        try:
            with self._beating(unit):
                self._work(unit, log)
        except (KeyboardInterrupt, SystemExit):
            self.state.give_back(unit, self.owner)
            raise
        except Exception as error:
            if _is_full(error):
                self.state.give_back(unit, self.owner)
                told = " ".join(str(error).split())
                self.state.put(STOP, told)
                raise MachineError(f"{told}; nothing is lost, the same command goes on") from error
            log(traceback.format_exc())
            told = str(error) if isinstance(error, TunnelscopeError) else f"{type(error).__name__}: {error}"
            self.state.fail(unit, self.owner, " ".join(told.split()))
            self.tell(f"{unit.network}: failed: {told}")
            return False
        seconds = time.monotonic() - started
        self.state.finish(unit, seconds)
        log(f"done after {seconds:.1f} s")
        return True

    def _work(self, unit: Unit, log: Callable[[str], None]) -> None:
        place = unit.folder(self.folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{place}.lock"):
            if unit.is_done(self.folder):
                return
            cell = self._cell_of(unit)
            if unit.kind == "train":
                _remove_damaged(place)
                self._train(cell, place, log)
            else:
                self._scan(cell, unit, place, log)
            unit.mark_done(self.folder)

    def _train(self, cell: Cell, place: Path, log: Callable[[str], None]) -> None:
        from tunnelscope.training.run import train

        settings: dict[str, Any] = {"save_steps": (), "save_epochs": ()} | dict(cell.training)
        train(
            cell.model, self._data(cell.source, cell.id), out=place, seed=cell.seed, announce=log, **settings
        )

    def _scan(self, cell: Cell, unit: Unit, place: Path, log: Callable[[str], None]) -> None:
        from tunnelscope.scanning import scan

        own = self._data(cell.source, cell.id)
        others = {name: self._data(source, name) for name, source in cell.ood.items()}
        model: Any = cell.model
        weights = cell.weights
        if cell.is_trained:
            model, weights = self._trained(cell), None
        several = len(cell.scan.probes) > 1
        features = self.folder / "features" / (cell.training_key if cell.is_trained else unit.key)
        with _cache_at(features) if several else nullcontext():
            scan(
                model,
                id=own,
                ood=others,
                out=place,
                weights=weights,
                cache=several,
                announce=log,
                command=f"tunnelscope study run, network {cell.name}",
                **cell.scan_settings(unit.probe),
            )

    def _trained(self, cell: Cell) -> Any:
        from tunnelscope.checkpoints import read_settings
        from tunnelscope.models import load_network

        folder = training_of(cell).folder(self.folder)
        told = read_settings(folder)
        assert told is not None
        settings = told["settings"]
        return load_network(settings["model"], weights=folder / WEIGHTS, classes=len(settings["classes"]))

    def _data(self, source: str, name: str) -> Any:
        """A data set, loaded once in this worker."""
        if "draws=" in source:
            return source
        if (source, name) not in self.data:
            self.data[source, name] = shared_data(source, name, self.folder, self.tell)
        return self.data[source, name]

    @contextmanager
    def _beating(self, unit: Unit) -> Iterator[None]:
        """Signs of life from a thread while a unit is done; the process ends with its parent."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(BEAT):
                if self._is_orphaned():
                    os._exit(1)
                with suppress(TunnelscopeError):
                    self.state.beat(unit, self.owner)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def _remove_damaged(place: Path) -> None:
    """Remove a training that says it is over but whose weights cannot be read, so that it is made again."""
    from safetensors import SafetensorError, safe_open

    from tunnelscope.checkpoints import read_settings

    told = read_settings(place) if place.exists() else None
    if told is None or "result" not in told:
        return
    try:
        with safe_open(place / WEIGHTS, framework="pt"):
            return
    except (OSError, SafetensorError):
        shutil.rmtree(place)


class _Log:
    """A unit's log: lines with the time since it was begun."""

    def __init__(self, path: Path):
        self.path, self.started = path, time.monotonic()
        path.parent.mkdir(parents=True, exist_ok=True)

    def __call__(self, line: str) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{time.monotonic() - self.started:8.1f} s  {line.rstrip()}\n")


def _is_full(error: BaseException | None) -> bool:
    """Whether an error comes from a full disk."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return True
        if isinstance(error, MachineError) and any(os.strerror(code) in str(error) for code in FULL):
            return True  # of a library that hands on the system's words alone
        error = error.__cause__
    return False


@contextmanager
def _cache_at(folder: Path) -> Iterator[None]:
    """Let `ts.scan` keep features in a folder of the study."""
    before = os.environ.get(CACHE)
    os.environ[CACHE] = str(folder)
    try:
        yield
    finally:
        os.environ.pop(CACHE)
        if before is not None:
            os.environ[CACHE] = before


def main() -> None:
    """`python -m tunnelscope.studies.work FOLDER PARENT THREADS`: what the local pool starts."""
    import sys

    folder, parent, threads, *only = sys.argv[1:]
    worker = Worker(
        Path(folder),
        parent=int(parent) or None,
        threads=int(threads) or None,
        only=frozenset(only) or None,
        tell=lambda line: print(line, flush=True),
    )
    try:
        worker.run()
    except MachineError as error:
        print(error, flush=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    import signal

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a driver's end gives units back
    main()
