"""Workers as other schedulers start them; what is pickled is a path and a few numbers."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tunnelscope.errors import MachineError


class Job:
    """One job of a Slurm array; on a time-out submitit asks it what to queue again: itself.

    Args:
        folder: of the study.
        only: keys of units to do; empty: all.
        threads: of PyTorch.
    """

    def __init__(self, folder: str, only: tuple[str, ...], threads: int):
        self.folder, self.only, self.threads = folder, only, threads

    def __call__(self, number: int) -> int:
        from tunnelscope.studies.work import Worker

        return Worker(
            Path(self.folder),
            only=frozenset(self.only) or None,
            threads=self.threads,
            tell=lambda line: print(line, flush=True),
        ).run()

    def checkpoint(self, number: int) -> Any:
        """What is queued again; the unit in work is taken back when its beat stands still."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, number)


def work_in_dask(folder: str, only: list[str], number: int) -> None:
    """One worker as a task of Dask, in a process of its own: tasks may share theirs, folder and environment.

    Args:
        number: tells the tasks apart.

    Raises:
        MachineError: the worker ended before the study did.
    """
    command = [sys.executable, "-m", "tunnelscope.studies.work", folder, str(os.getpid()), "1", *only]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        last = (done.stdout + done.stderr).strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise MachineError(f"worker {number} ended: {last[0]}")
