"""How long the command line takes to say its help, and whether it loads PyTorch for that."""

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

from benchmarks.harness import Row

HELP = "from tunnelscope.cli import main; main(['--help'])"
LOADED = f"""
import atexit, sys
heavy = ('torch', 'numpy', 'pandas')
atexit.register(lambda: print(*(name for name in heavy if name in sys.modules), file=sys.stderr))
{HELP}
"""


def rows(quick: bool) -> Iterator[Row]:
    """The rows of this group."""
    seconds = [_seconds(HELP) for _ in range(3 if quick else 5)]
    bare = [_seconds("pass") for _ in range(3 if quick else 5)]
    loaded = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True).stderr
    yield Row(
        "tunnelscope --help, seconds",
        statistics.median(seconds),
        0.3,
        "<=",
        spread=(min(seconds), max(seconds)),
        seconds={"tunnelscope --help": statistics.median(seconds), "python -c pass": statistics.median(bare)},
        rounds=len(seconds),
        note="a process each time, Python's own start included",
    )
    yield Row("heavy modules that --help loads", len(loaded.split()), 0, "<=", note=loaded.strip() or "none")


def _seconds(code: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    return time.perf_counter() - start
