"""Workers as other schedulers start them; what is pickled is a path and a few numbers."""

from pathlib import Path
from typing import Any


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


def work_in_dask(folder: str, only: list[str], number: int) -> int:
    """One worker as a task of Dask; `number` tells the tasks apart."""
    from tunnelscope.studies.work import Worker

    return Worker(Path(folder), only=frozenset(only) or None, threads=1).run()
