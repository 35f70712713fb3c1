"""Where a study's workers run: this process, a pool of processes here, a Slurm array, a Dask cluster.

Each executor starts workers that are all alike and lease what there is to do; none of them knows a unit.
What was done lies in the study's folder, which all machines must see.
"""

import os
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunnelscope.errors import MachineError, RequestError
from tunnelscope.studies.declaration import Slurm
from tunnelscope.studies.state import MOST_DEATHS
from tunnelscope.studies.units import LOGS
from tunnelscope.studies.work import Worker

PATIENCE = 10.0  # seconds that a worker is given to end
RESTARTS = 50  # of local workers that died over no unit; each unit may kill a few more


class Executor(ABC):
    """Starts workers, says whether they live, and ends them."""

    @abstractmethod
    def submit(self, folder: Path, only: frozenset[str] | None) -> None:
        """Start the workers on a study."""

    @abstractmethod
    def alive(self) -> int:
        """How many workers there are; those that died are started again where this executor does so.

        Raises:
            MachineError: none can be any more; what to do.
        """

    @abstractmethod
    def stop(self) -> None:
        """End all workers; what they had is given back."""


class Here(Executor):
    """This process is the worker: for debugging, and for a notebook."""

    def submit(self, folder: Path, only: frozenset[str] | None) -> None:
        Worker(folder, only=only, tell=lambda line: print(line, file=sys.stderr, flush=True)).run()

    def alive(self) -> int:
        return 0

    def stop(self) -> None:
        return


class Local(Executor):
    """Processes on this machine: one a GPU where there are several, else as many as asked for.

    The cores are shared out between them, so that no two threads want one core.
    """

    def __init__(self, workers: int, threads: int | None = None, units: int = 0):
        self.workers, self.threads = workers, threads or max(1, cores() // workers)
        self.processes: list[subprocess.Popen[bytes] | None] = [None] * workers
        self.folder, self.only, self.restarts = Path(), frozenset[str](), RESTARTS + MOST_DEATHS * units

    def submit(self, folder: Path, only: frozenset[str] | None) -> None:
        self.folder, self.only = folder, only or frozenset()
        (folder / LOGS).mkdir(parents=True, exist_ok=True)
        for number in range(self.workers):
            self.processes[number] = self._start(number)

    def _start(self, number: int) -> "subprocess.Popen[bytes]":
        environment = dict(os.environ)
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            environment[name] = str(self.threads)
        if (count := gpus()) > 1:
            environment["CUDA_VISIBLE_DEVICES"] = str(number % count)
        command = [sys.executable, "-m", "tunnelscope.studies.work", str(self.folder)]
        command += [str(os.getpid()), str(self.threads), *sorted(self.only)]
        with (self.folder / LOGS / f"worker-{number + 1}.log").open("ab") as log:
            return subprocess.Popen(  # a session of its own: Ctrl-C is the driver's to hand on
                command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )

    def alive(self) -> int:
        for number, process in enumerate(self.processes):
            if process is not None and process.poll() is not None:
                died = process.returncode not in (0, 3)
                self.processes[number] = self._start(number) if died and self.restarts > 0 else None
                self.restarts -= died
        return sum(process is not None for process in self.processes)

    def stop(self) -> None:
        there = [process for process in self.processes if process is not None]
        for process in there:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in there:
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> int:
    """How many GPUs there are."""
    import torch

    return torch.cuda.device_count()


class SlurmArray(Executor):
    """An array of jobs through submitit, each a worker; submitit queues one again that runs out of time."""

    def __init__(self, workers: int, asked: Slurm, name: str):
        self.workers, self.asked, self.name = workers, asked, name
        self.jobs: Sequence[Any] = ()

    def submit(self, folder: Path, only: frozenset[str] | None) -> None:
        try:
            import submitit
        except ImportError as error:
            raise RequestError(
                "the executor slurm needs submitit: pip install 'tunnelscope[slurm]'"
            ) from error
        from tunnelscope.studies.jobs import Job

        try:
            executor = submitit.AutoExecutor(folder=folder / LOGS / "slurm-%j", cluster=self.asked.cluster)
        except RuntimeError as error:  # no sbatch here
            raise MachineError(
                f"Slurm cannot be used here ({error}); run this on a machine that has sbatch, or take "
                "--executor local"
            ) from error
        executor.update_parameters(**self._parameters())
        self.jobs = executor.map_array(
            Job(str(folder), tuple(only or ()), self.asked.cpus), range(self.workers)
        )

    def _parameters(self) -> dict[str, Any]:
        asked = self.asked
        told: dict[str, Any] = {
            "name": f"study-{self.name}",
            "timeout_min": asked.timeout_minutes,
            "mem_gb": asked.memory_gb,
            "cpus_per_task": asked.cpus,
        }
        if asked.gpus:
            told["gpus_per_node"] = asked.gpus
        if asked.cluster == "slurm":
            told["slurm_array_parallelism"] = self.workers
            if asked.partition:
                told["slurm_partition"] = asked.partition
            if asked.parameters:
                told["slurm_additional_parameters"] = dict(asked.parameters)
        return told

    def alive(self) -> int:
        return sum(not _is_over(job) for job in self.jobs)

    def stop(self) -> None:
        for job in self.jobs:
            if not _is_over(job):
                job.cancel()


def _is_over(job: Any) -> bool:
    """Whether a job has ended; one whose state Slurm does not tell now has not."""
    try:
        return bool(job.done())
    except Exception:  # sacct that does not answer, a job not known yet
        return False


class Dask(Executor):
    """Workers as tasks on a Dask cluster; the scheduler sends a task whose Dask worker died to another."""

    def __init__(self, workers: int, address: str):
        self.workers, self.address = workers, address
        self.client: Any = None
        self.futures: list[Any] = []

    def submit(self, folder: Path, only: frozenset[str] | None) -> None:
        try:
            from distributed import Client
        except ImportError as error:
            raise RequestError("the executor dask needs Dask: pip install 'tunnelscope[dask]'") from error
        from tunnelscope.studies.jobs import work_in_dask

        try:
            self.client = Client(self.address, timeout=10)
        except (OSError, TimeoutError) as error:
            raise MachineError(
                f"no Dask scheduler answers at {self.address} ({error or 'no answer'}); start one with "
                "`dask scheduler`, or name another with --dask ADDRESS"
            ) from error
        told = sorted(only or ())
        self.futures = [
            self.client.submit(work_in_dask, str(folder), told, number, pure=False, retries=20)
            for number in range(self.workers)
        ]

    def alive(self) -> int:
        if self.client.status not in ("running", "connecting") or self._is_silent():
            raise MachineError(
                f"the Dask scheduler at {self.address} went away; what was done is kept, the same command "
                "goes on"
            )
        return sum(not future.done() for future in self.futures)

    def _is_silent(self) -> bool:
        comm = getattr(self.client, "scheduler_comm", None)
        return comm is None or comm.comm.closed()

    def stop(self) -> None:
        if self.client is not None:
            try:
                self.client.cancel(self.futures, force=True)
                self.client.close(timeout=2)
            except Exception:  # of a scheduler that went away
                return
