"""`tunnelscope study run`: declare the units, start workers, watch until all is done, gather the table."""

import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from tunnelscope.errors import MachineError, RequestError, unknown_name
from tunnelscope.files import check_writable
from tunnelscope.models.spec import parse_model
from tunnelscope.studies import CLUSTER_WORKERS, EXECUTORS
from tunnelscope.studies.collect import collect
from tunnelscope.studies.declaration import Declaration, read_declaration
from tunnelscope.studies.executors import Dask, Executor, Here, Local, SlurmArray, cores, gpus
from tunnelscope.studies.networks import Cell, cells_of
from tunnelscope.studies.plan import data_sizes, missing_of
from tunnelscope.studies.sizes import built_from, check_possible, recorder_of
from tunnelscope.studies.state import AFTER_ANOTHER, DONE, FAILED, RUNNING, State, Status, counts_of, is_over
from tunnelscope.studies.units import LOGS, Unit, units_of, units_of_cell
from tunnelscope.studies.work import STOP

LIBRARIES = ("zoo", "timm", "torchvision")  # built here to see that they can be; own code may end a driver
LOOK = 0.5  # seconds between looks at the state
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Outcome:
    """How a study stands after a run.

    Attributes:
        folder: of the study.
        statuses: of all its units.
        chosen: keys of the units that were asked for.
        damaged: results that cannot be read, and are made anew by the next run.
    """

    folder: Path
    statuses: Sequence[Status]
    chosen: frozenset[str]
    damaged: Sequence[str]

    @property
    def failed(self) -> list[Status]:
        """Units that were asked for and failed."""
        return [one for one in self.statuses if one.state == FAILED and one.unit.key in self.chosen]

    @property
    def counts(self) -> dict[str, int]:
        """How many units are in which state."""
        return counts_of(self.statuses)


def run_study(
    study: str | Path | Declaration,
    *,
    out: str | Path | None = None,
    executor: str = "local",
    workers: int | None = None,
    threads: int | None = None,
    dask: str | None = None,
    only: str | Sequence[str] | None = None,
    force: bool = False,
    edited: bool = False,
    progress: Progress | None = None,
    announce: Callable[[str], None] | None = None,
) -> Outcome:
    """Run a study, or go on with it: train and scan every network that is not done, then gather the table.

    Args:
        study: its file, or what `tunnelscope.studies.declaration` makes of one.
        out: its folder, which all workers must see; `runs/NAME` by default.
        executor: "local" (processes here), "here" (this process), "slurm" or "dask".
        workers: how many; by default one a GPU, or a core.
        threads: of each local worker; the cores are shared out by default.
        dask: address of a scheduler.
        only: networks to do, by patterns of their names (`*depth=8*`); the others stay as they are.
        force: do them anew even if they are done.
        edited: go on in a folder whose study file has been edited since; results that still hold are kept.
        progress: called with (stage, done, total).
        announce: called with a line now and then.

    Raises:
        RequestError: a file that is wrong, data that is not there, a folder of another study.
        MachineError: a full disk, or a scheduler that went away; the same call goes on.
    """
    say, show = announce or (lambda line: None), progress or (lambda stage, done, total: None)
    declared = study if isinstance(study, Declaration) else read_declaration(study)
    folder = Path(out or Path("runs") / declared.name).resolve()
    if executor not in EXECUTORS:
        raise unknown_name("executor", executor, EXECUTORS)
    check_options(executor, workers, threads, dask)
    cells = cells_of(declared)
    chosen = chosen_units(cells, only)
    check_cells(declared, cells, show)
    check_writable(folder)
    units = units_of(cells)
    asked = [unit for unit in units if unit.key in chosen]
    left = [unit for unit in asked if force or not unit.is_done(folder)]
    count = workers or default_workers(executor, len(left))
    started = make_executor(executor, count, declared, threads, dask, len(left))
    state = State(folder)
    file = declared.name if isinstance(study, Declaration) else str(Path(study).resolve())
    claim(state, declared, file, units, edited, say)
    state.reclaim(counts=False)
    if force:
        redo(state, folder, asked)
    declare(state, folder, units, cells, chosen, say)
    if left:
        say(f"{len(left)} trainings and scans on {count} worker{'s' if count > 1 else ''} ({executor})")
        watch_over(state, started, folder, None if only is None else chosen, show, say)
    told = collect(folder)
    return Outcome(folder, state.statuses(), chosen, tuple(told["damaged"]))


def declare(
    state: State,
    folder: Path,
    units: Sequence[Unit],
    cells: Sequence[Cell],
    chosen: frozenset[str],
    say: Callable[[str], None],
) -> None:
    """Put down the study's units and which of them are done; let those that failed be tried again."""
    done = frozenset(unit.key for unit in units if unit.is_done(folder))
    state.declare(units, done, cells)
    state.put(STOP, "")
    if done:
        say(f"{len(done)} of {len(units)} trainings and scans are done already")
    failed = [
        status.unit.key for status in state.statuses() if status.state == FAILED and status.unit.key in chosen
    ]
    if failed:
        say(f"{len(failed)} units that failed before are tried again")
        state.again(failed)


def check_options(executor: str, workers: int | None, threads: int | None, dask: str | None) -> None:
    """Refuse what an executor would not heed. Raises RequestError."""
    told = {"workers": workers, "threads": threads, "dask": dask}
    unheeded = {"here": ("dask",), "local": ("dask",)}.get(executor, ("threads",))
    unheeded += ("dask",) if executor == "slurm" else ()
    for name in unheeded:
        if told[name] is not None:
            raise RequestError(f"--{name} says nothing to the executor {executor}; leave it out")


def check_cells(declared: Declaration, cells: Sequence[Cell], progress: Progress) -> None:
    """Refuse data that is not there and networks that cannot be. Raises RequestError."""
    data = data_sizes(declared, cells)
    if missing := missing_of(cells, data):
        raise RequestError(
            f"study {declared.name} needs what is not there: {', '.join(missing)}; put it there, or name "
            "another place in [data.NAME] source"
        )
    built = set()
    for number, cell in enumerate(cells):
        progress("checking networks", number, len(cells))
        own = data[cell.source]
        look = built_from(cell, own)
        check_possible(cell)
        if look not in built and parse_model(cell.model).kind in LIBRARIES:
            recorder_of(cell, own)
            built.add(look)
    progress("checking networks", len(cells), len(cells))


def claim(
    state: State,
    declared: Declaration,
    file: str,
    units: Sequence[Unit],
    edited: bool,
    say: Callable[[str], None],
) -> None:
    """Take a folder for a study, or see that it is this study's.

    Raises:
        RequestError: it is another study's, or the file was edited since: what changed, and what still holds.
    """
    about = {
        "study": declared.name,
        "file": file,
        "declaration": declared.model_dump_json(),
        "directory": os.getcwd(),
    }
    if not state.is_there():
        state.create(about)
        return
    told = state.about()
    if told["study"] != declared.name:
        raise RequestError(
            f"{state.folder} holds the study {told['study']!r}, this is {declared.name!r}; name another --out"
        )
    before = Declaration.model_validate_json(told["declaration"])
    known = {status.unit.key for status in state.statuses()}
    if before != declared:
        change = changes(before, declared, known, units)
        if not edited:
            raise RequestError(
                f"{file} was edited since {state.folder} was begun: {change}; go on with --edited, or name "
                "another --out"
            )
        say(f"edited: {change}")
    elif stale := len(known - {unit.key for unit in units}):
        say(f"data, network files or this package changed since: {stale} trainings and scans are made anew")
    elif any(told[name] != about[name] for name in ("directory", "file")):
        say("going on from another place")
    state.create(about)


def changes(before: Declaration, now: Declaration, known: set[str], units: Sequence[Unit]) -> str:
    """What an edit changed and what stays valid, in words."""
    old, new = before.model_dump(), now.model_dump()
    differing = [name for name in new if old[name] != new[name]]
    keys = {unit.key for unit in units}
    return (
        f"{', '.join(differing)} differ; {len(keys & known)} trainings and scans stay valid, "
        f"{len(keys - known)} are new, {len(known - keys)} are no longer asked for"
    )


def chosen_units(cells: Sequence[Cell], only: str | Sequence[str] | None) -> frozenset[str]:
    """Keys of the units of networks whose names match; None: of all. Raises RequestError: none does."""
    if only is None:
        return frozenset(unit.key for unit in units_of(cells))
    chosen: set[str] = set()
    for asked in [only] if isinstance(only, str) else only:
        matching = [cell for cell in cells if fnmatch(cell.name, asked) or cell.name == asked]
        if not matching:
            names = [cell.name for cell in cells]
            raise unknown_name("network of the study", asked, names, "Patterns such as '*seed=0' do.")
        chosen |= {unit.key for cell in matching for unit in units_of_cell(cell)}
    return frozenset(chosen)


def redo(state: State, folder: Path, units: Sequence[Unit]) -> None:
    """Remove results, so that they are made again. Raises RequestError: somebody is at one of them."""
    keys = {unit.key for unit in units}
    for status in state.statuses():
        if status.state == RUNNING and status.unit.key in keys:
            raise RequestError(
                f"--force: {status.unit.network} is being worked on by {status.owner}; let that run end first"
            )
    for unit in units:
        unit.unmark(folder)
        if unit.folder(folder).exists():
            shutil.rmtree(unit.folder(folder))
    state.again([unit.key for unit in units])


def default_workers(executor: str, left: int) -> int:
    """One a GPU, or a core; no more than there is to do."""
    if executor == "here":
        return 1
    if executor in ("slurm", "dask"):
        return min(left, CLUSTER_WORKERS)
    return max(1, min(left, gpus() or cores()))


def make_executor(
    name: str, workers: int, declared: Declaration, threads: int | None, dask: str | None, units: int
) -> Executor:
    """The executor of a name, for so many units. Raises RequestError: Dask without an address."""
    if name == "here":
        return Here()
    if name == "slurm":
        return SlurmArray(workers, declared.slurm, declared.name)
    if name == "dask":
        if not dask:
            raise RequestError("the executor dask needs the scheduler's address: --dask tcp://HOST:8786")
        return Dask(workers, dask)
    return Local(workers, threads, units)


def watch_over(
    state: State,
    executor: Executor,
    folder: Path,
    only: frozenset[str] | None,
    progress: Progress,
    say: Callable[[str], None],
) -> None:
    """Look on until every unit is done or failed.

    Raises:
        MachineError: the workers cannot go on.
    """
    said: set[str] = set()
    before = {one.unit.key for one in state.statuses() if one.state == DONE}
    try:
        executor.submit(folder, only)
        while True:
            statuses = state.statuses()
            asked = [one for one in statuses if only is None or one.unit.key in only]
            mine = [one for one in asked if one.unit.key not in before]  # the time left follows from these
            for status in mine:
                _say_failure(status, said, say)
            over = sum(status.state in (DONE, FAILED) for status in mine)
            progress("trainings and scans", over, len(mine))
            if is_over(statuses, only):
                return
            if stop := state.about().get(STOP):
                raise MachineError(f"{stop}; nothing is lost, the same command goes on")
            for status in state.reclaim():
                say(f"the worker of {status.unit.network} ({status.unit.kind}) is gone; others take it")
            if executor.alive() == 0 and not _others(state, only):
                raise MachineError(
                    f"all workers ended before the study did; {folder / LOGS} says why, the same command "
                    "goes on"
                )
            time.sleep(LOOK)
    finally:
        executor.stop()


def _say_failure(status: Status, said: set[str], say: Callable[[str], None]) -> None:
    """A line of a unit that failed of itself, once."""
    if status.state != FAILED or status.error == AFTER_ANOTHER or status.unit.key in said:
        return
    said.add(status.unit.key)
    say(f"failed: {status.unit.kind} of {status.unit.network}: {status.error}")


def _others(state: State, only: frozenset[str] | None) -> bool:
    """Whether the study is over by now, or another driver's workers are at it."""
    statuses = state.statuses()
    return is_over(statuses, only) or any(status.state == RUNNING for status in statuses)


def time_left(statuses: Sequence[Status]) -> float | None:
    """Seconds until all is done, from what units of a kind took; None: nothing is known or left."""
    running = sum(status.state == RUNNING for status in statuses)
    total = 0.0
    for kind in ("train", "scan"):
        own = [status for status in statuses if status.unit.kind == kind]
        took = [status.seconds for status in own if status.state == DONE and status.seconds]
        left = sum(status.state not in (DONE, FAILED) for status in own)
        if left and not took:
            return None
        total += left * sum(took) / max(len(took), 1)
    return total / max(running, 1) if total else None
