"""Progress on stderr: bars with the time left on a terminal, a plain line now and then in a log."""

import sys
import time
from types import TracebackType

SECONDS_BETWEEN_LINES = 10.0


class ProgressDisplay:
    """Callable as `progress(stage, done, total)`; a context that leaves the terminal tidy."""

    def __init__(self) -> None:
        self.stage = ""
        self.started = self.printed = time.monotonic()
        self.bars = None
        self.task = None

    def __enter__(self) -> "ProgressDisplay":
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=20),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
            )
            self.bars = Progress(*columns, console=Console(stderr=True), transient=True)
            self.bars.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.bars is not None:
            self.bars.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage != self.stage:
            self.stage, self.started = stage, time.monotonic()
            if self.bars is not None:
                if self.task is not None:
                    self.bars.remove_task(self.task)
                self.task = self.bars.add_task(stage, total=total)
        if self.bars is not None and self.task is not None:
            self.bars.update(self.task, completed=done, total=total)
        else:
            self._print_line(done, total)

    def announce(self, line: str) -> None:
        """Print a line above the bars."""
        if self.bars is not None:
            self.bars.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, file=sys.stderr, flush=True)

    def _print_line(self, done: int, total: int) -> None:
        now = time.monotonic()
        spent = now - self.started
        finished = done >= total and spent > 2
        if not finished and now - self.printed < SECONDS_BETWEEN_LINES:
            return
        self.printed = now
        left = "" if done >= total else f", {_duration(spent / max(done, 1) * (total - done))} left"
        print(f"{self.stage}: {done}/{total}, {_duration(spent)}{left}", file=sys.stderr, flush=True)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
