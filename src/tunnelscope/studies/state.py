"""A study's state in SQLite: which unit waits, runs, is done or failed, and who has leased it.

Any number of workers and drivers share the file; each change is one transaction. A worker that has a unit
moves its beat on. Whoever sees a beat stand still for a while by a clock of its own takes the unit back, so
that no two machines' clocks are ever compared; a worker that died on the same machine is found out at once.
Rollback journals, not write-ahead logs: those need memory that the machines of a cluster do not share.
"""

import os
import socket
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tunnelscope.errors import MachineError, RequestError
from tunnelscope.studies.networks import Cell
from tunnelscope.studies.units import Unit

FILE = "study.db"
VERSION = 2
WAITING, RUNNING, DONE, FAILED = "waiting", "running", "done", "failed"
LEASE = 60.0  # seconds that a beat may stand still
BUSY = 60.0  # seconds to wait for others' transactions
AFTER_ANOTHER = "what it needs failed"  # the error of a unit that was never begun
MOST_DEATHS = 3  # of workers over one unit
DAMAGED = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)
PROCESSES = Path("/proc/self/ns/pid")  # names the processes that numbers are of: a container has its own

_TABLES = """
create table if not exists about (name text primary key, value text not null);
create table if not exists cells (place integer primary key, told text not null);
create table if not exists units (
    key text primary key, place integer not null, kind text not null, network text not null,
    probe text not null, needs text not null, state text not null, owner text not null default '',
    beat integer not null default 0,
    deaths integer not null default 0, seconds real not null default 0, error text not null default '');
"""


@dataclass(frozen=True)
class Status:
    """How a unit stands.

    Attributes:
        seconds: that it took, once done.
        error: in one line, of a failed one.
    """

    unit: Unit
    state: str
    owner: str
    beat: int
    deaths: int
    seconds: float
    error: str


def this_owner() -> str:
    """This process, by machine and by when it started, so that a number used again is another process."""
    process = psutil.Process()
    return f"{machine()} {process.pid} {process.create_time():.2f}"


def machine() -> str:
    """This machine, or container, since it was started."""
    processes = os.readlink(PROCESSES).strip("pid:[]") if PROCESSES.exists() else ""
    return f"{socket.gethostname()}@{psutil.boot_time():.0f}{processes and f'/{processes}'}"


def is_gone(owner: str) -> bool:
    """Whether an owner is surely no more: a process of this machine that does not run."""
    where, pid, started = owner.rsplit(" ", 2)
    if where != machine():
        return False
    try:
        process = psutil.Process(int(pid))
        return abs(process.create_time() - float(started)) > 1 or process.status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return True


@dataclass
class State:
    """The state of one study.

    Attributes:
        folder: of the study.
        seen: owner and beat of running units, and when they were first seen so, by this process's clock.
    """

    folder: Path
    seen: dict[str, tuple[str, int, float]] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / FILE

    def is_there(self) -> bool:
        """Whether the folder holds a study; one whose making was cut off is none yet."""
        if not self.path.exists():
            return False
        with self._open(reads=True) as connection:
            tables = connection.execute("select count(*) from sqlite_master where name = 'about'").fetchone()
            return bool(tables[0]) and bool(connection.execute("select count(*) from about").fetchone()[0])

    @contextmanager
    def _open(self, *, reads: bool = False) -> Iterator[sqlite3.Connection]:
        """One transaction, whole or not at all; one that only reads needs no right to write."""
        try:
            connection = sqlite3.connect(self.path, timeout=BUSY, isolation_level=None)
            try:
                connection.execute("begin" if reads else "begin immediate")
                yield connection
                connection.execute("commit")
            finally:
                connection.close()  # what was not committed is taken back
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", None) in DAMAGED:
                raise RequestError(
                    f"{self.path} is damaged ({error}); remove it: results beside it are kept and found again"
                ) from error
            if not isinstance(error, sqlite3.OperationalError):
                raise
            doing = "read" if reads else "written"
            raise MachineError(
                f"{self.path} cannot be {doing} ({error}); nothing is lost, go on later"
            ) from error

    def create(self, about: dict[str, str]) -> None:
        """Make the tables, and put down what the study is."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._open() as connection:
            for statement in _TABLES.split(";\n"):
                if statement.strip():
                    connection.execute(statement)
            told = {"version": str(VERSION)} | about
            connection.executemany("insert or replace into about values (?, ?)", told.items())

    def about(self) -> dict[str, str]:
        """What was put down. Raises RequestError: of another version."""
        with self._open(reads=True) as connection:
            told = dict(connection.execute("select name, value from about").fetchall())
        if told.get("version") != str(VERSION):
            raise RequestError(
                f"{self.path} is of another version ({told.get('version')}); run the study into a new folder"
            )
        return told

    def put(self, name: str, value: str) -> None:
        """Put something down."""
        with self._open() as connection:
            connection.execute("insert or replace into about values (?, ?)", (name, value))

    def cells(self) -> list[Cell]:
        """The networks of the study, as they were declared last."""
        with self._open(reads=True) as connection:
            rows = connection.execute("select told from cells order by place").fetchall()
        return [Cell.model_validate_json(told) for (told,) in rows]

    def declare(self, units: Sequence[Unit], done: frozenset[str], cells: Sequence[Cell] = ()) -> None:
        """Make the units and networks of the study these; what is known of them is kept.

        Args:
            done: keys of units whose results are there.
        """
        with self._open() as connection:
            connection.execute("delete from cells")
            connection.executemany(
                "insert into cells (told) values (?)", [(cell.model_dump_json(),) for cell in cells]
            )
            known = {row[0] for row in connection.execute("select key from units")}
            gone = known - {unit.key for unit in units}
            connection.executemany("delete from units where key = ?", [(key,) for key in gone])
            for place, unit in enumerate(units):
                told = (place, unit.kind, unit.network, unit.probe, " ".join(unit.needs))
                if unit.key in known:
                    connection.execute(
                        "update units set place=?, kind=?, network=?, probe=?, needs=? where key=?",
                        (*told, unit.key),
                    )
                else:
                    connection.execute(
                        "insert into units (place, kind, network, probe, needs, key, state) "
                        "values (?,?,?,?,?,?,?)",
                        (*told, unit.key, WAITING),
                    )
            connection.executemany(
                f"update units set state='{DONE}', error='' where key=? and state != '{RUNNING}'",
                [(key,) for key in done],
            )
            lost = [(unit.key,) for unit in units if unit.key not in done]
            connection.executemany(f"update units set state='{WAITING}' where key=? and state='{DONE}'", lost)

    def again(self, keys: Sequence[str]) -> None:
        """Let units be done anew: failed ones, or all that are named."""
        with self._open() as connection:
            connection.executemany(
                f"update units set state='{WAITING}', deaths=0, error='', seconds=0 "
                f"where key=? and state!='{RUNNING}'",
                [(key,) for key in keys],
            )

    def statuses(self) -> list[Status]:
        """All units in their order."""
        with self._open(reads=True) as connection:
            rows = connection.execute(
                "select key, kind, network, needs, probe, state, owner, beat, deaths, seconds, error "
                "from units order by place"
            ).fetchall()
        return [
            Status(Unit(key, kind, network, tuple(needs.split()), probe), *rest)
            for key, kind, network, needs, probe, *rest in rows
        ]

    def lease(self, owner: str, only: frozenset[str] | None = None) -> Unit | None:
        """Take the first unit whose needs are done; None: there is none now.

        Args:
            only: keys to choose from.
        """
        with self._open() as connection:
            rows = connection.execute(
                "select key, kind, network, needs, probe, state from units order by place"
            )
            every = rows.fetchall()
            state = {row[0]: row[5] for row in every}
            for key, kind, network, needs, probe, standing in every:
                ready = all(state.get(need, DONE) == DONE for need in needs.split())
                if standing == WAITING and ready and (only is None or key in only):
                    connection.execute(
                        f"update units set state='{RUNNING}', owner=?, beat=beat+1 where key=?", (owner, key)
                    )
                    return Unit(key, kind, network, tuple(needs.split()), probe)
        return None

    def beat(self, unit: Unit, owner: str) -> bool:
        """Move the unit's beat on; False: it was taken away."""
        with self._open() as connection:
            done = connection.execute(
                f"update units set beat=beat+1 where key=? and owner=? and state='{RUNNING}'",
                (unit.key, owner),
            )
            return done.rowcount == 1

    def finish(self, unit: Unit, seconds: float) -> None:
        """Put a unit down as done; its result is there, whoever has it leased by now."""
        with self._open() as connection:
            connection.execute(
                f"update units set state='{DONE}', seconds=?, error='' where key=? and state != '{DONE}'",
                (seconds, unit.key),
            )

    def fail(self, unit: Unit, owner: str, error: str) -> None:
        """Put a unit down as failed, and those that need it."""
        with self._open() as connection:
            self._fail(connection, unit.key, owner, error)

    def _fail(self, connection: sqlite3.Connection, key: str, owner: str, error: str) -> None:
        changed = connection.execute(
            f"update units set state='{FAILED}', error=? where key=? and owner=? and state='{RUNNING}'",
            (error, key, owner),
        )
        if changed.rowcount != 1:
            return
        failed = {key}
        while True:  # those that need it, and those that need them
            rows = connection.execute(f"select key, needs from units where state='{WAITING}'").fetchall()
            more = [row[0] for row in rows if failed & set(row[1].split())]
            if not more:
                return
            connection.executemany(
                f"update units set state='{FAILED}', error=? where key=?",
                [(AFTER_ANOTHER, one) for one in more],
            )
            failed |= set(more)

    def give_back(self, unit: Unit, owner: str) -> None:
        """Let others have a unit that was not finished, through no fault of its own."""
        with self._open() as connection:
            self._free(connection, unit.key, owner)

    def _free(self, connection: sqlite3.Connection, key: str, owner: str) -> None:
        connection.execute(
            f"update units set state='{WAITING}', owner='' where key=? and owner=? and state='{RUNNING}'",
            (key, owner),
        )

    def reclaim(self, *, counts: bool = True, lease: float = LEASE) -> list[Status]:
        """Take back units whose workers are gone, or whose beat has stood still; return them.

        Args:
            counts: whether the worker's death is laid to the unit, which fails at the third.
            lease: seconds that a beat may stand still.
        """
        lost = [
            status for status in self.statuses() if status.state == RUNNING and self._is_lost(status, lease)
        ]
        if lost:
            with self._open() as connection:
                for status in lost:
                    self._take_back(connection, status, counts)
        return lost

    def _take_back(self, connection: sqlite3.Connection, status: Status, counts: bool) -> None:
        key = status.unit.key
        there = f"where key=? and owner=? and beat=? and state='{RUNNING}'"  # unless it moved on meanwhile
        died = connection.execute(
            f"update units set deaths=deaths+{int(counts)} {there}", (key, status.owner, status.beat)
        )
        if died.rowcount != 1:
            return
        if counts:
            deaths = connection.execute("select deaths from units where key=?", (key,)).fetchone()[0]
            if deaths >= MOST_DEATHS:
                what = f"its worker died {deaths} times (out of memory?)"
                self._fail(connection, key, status.owner, what)
                return
        self._free(connection, key, status.owner)

    def _is_lost(self, status: Status, lease: float) -> bool:
        if is_gone(status.owner):
            return True
        now, before = time.monotonic(), self.seen.get(status.unit.key)
        if before is None or before[:2] != (status.owner, status.beat):
            self.seen[status.unit.key] = (status.owner, status.beat, now)
            return False
        return now - before[2] > lease


def deserted(statuses: Sequence[Status]) -> list[Status]:
    """Units that stand as running while their workers, of this machine, are surely gone."""
    return [status for status in statuses if status.state == RUNNING and is_gone(status.owner)]


def counts_of(statuses: Sequence[Status]) -> dict[str, int]:
    """How many units are in which state."""
    return dict(Counter(status.state for status in statuses))


def is_over(statuses: Sequence[Status], only: frozenset[str] | None = None) -> bool:
    """Whether every unit (of these) is done or failed."""
    return all(
        status.state in (DONE, FAILED) for status in statuses if only is None or status.unit.key in only
    )
