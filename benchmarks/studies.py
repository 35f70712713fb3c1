"""Studies of many small networks: beside a plain loop of the same work, and two workers beside one.

The loop is what one would write without an engine: one process, the data loaded once, `ts.train` and
`ts.scan` for each network. All sides start from nothing, so that the start of processes counts. Loop and
study run at the same time, a core each (the study with its driver), then with the cores changed: the speed
of a shared machine drifts by more within minutes than what is measured.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness import Row, Timing, in_turn, ratio_row
from benchmarks.recipes import planted

from tunnelscope.probes.recipes import HARUN2024, fit_recipes

SEEDS, QUICK_SEEDS = 25, 2  # times eight networks
FILE = """
name = "overhead"
[data.low]
source = "sklearn:digits?classes=0-4"
[data.high]
source = "sklearn:digits?classes=5-9"
[training]
recipe = "one-cycle"
epochs = 10
[scan]
ood = ["high"]
probes = ["exact"]
[[networks]]
model = "zoo:mlp"
id = "low"
arguments = {{ depth = [3, 4, 5, 6], width = [16, 32] }}
seed = {seeds}
"""
LOOP = """
import sys
import torch
import tunnelscope as ts

torch.set_num_threads(1)
out, seeds = sys.argv[1], int(sys.argv[2])
own = ts.load_data("sklearn:digits?classes=0-4")
other = ts.load_data("sklearn:digits?classes=5-9")
settings = dict(recipe="one-cycle", epochs=10, save_steps=(), save_epochs=())
for depth in (3, 4, 5, 6):
    for width in (16, 32):
        for seed in range(seeds):
            name = f"{out}/{depth}-{width}-{seed}"
            model = f"zoo:mlp?depth={depth}&width={width}"
            trained = ts.train(model, own, out=f"{name}/training", seed=seed, **settings)
            read = dict(id=own, ood={"high": other}, probe="exact", cache=False)
            ts.scan(trained.network, out=f"{name}/scan", **read)
"""
BARS = {"overhead": 1.05, "two workers": 1.8}


def rows(quick: bool) -> Iterator[Row]:
    """What the engine adds to the work, and what a second worker is worth."""
    seeds = QUICK_SEEDS if quick else SEEDS
    timing = side_by_side({"loop": partial(looped, seeds), "one worker": partial(studied, seeds, 1)})
    two = in_turn({"two workers": partial(studied, seeds, 2)}, most=1)
    once = {"one worker": [timing.median("one worker")], "two workers": two.seconds["two workers"]}
    cells = 8 * seeds
    what = f"study of {cells} MLPs on digits, trained and scanned, one thread a worker"
    kept = f"{timing.results['one worker']} of {cells} networks in the table"
    yield ratio_row(
        f"{what}: one worker over a loop of ts.train and ts.scan",
        timing,
        "one worker",
        "loop",
        BARS["overhead"],
        sense="<=",
        accuracy=kept,
    )
    yield ratio_row(
        f"{what}: one worker over two",
        Timing(once, timing.results),
        "one worker",
        "two workers",
        BARS["two workers"],
        accuracy=kept,
    )

    for networks, layers, width in ((8, 5, 32), (8, 12, 256)):
        yield batched(networks, layers, width, 640 if quick else 3_840)


def batched(networks: int, layers: int, width: int, count: int) -> Row:
    """Recipe probes of several networks side by side, over those of one network after another."""
    recipe = replace(HARUN2024, epochs=3)
    every = planted(networks * layers, width, 10, count)
    names = list(every)
    parts = [names[start : start + layers] for start in range(0, len(names), layers)]
    one_by_one = [{name: every[name] for name in part} for part in parts]
    sides = {
        "a network at a time": lambda: [dict(fit_recipes(part, recipe, seed=0)) for part in one_by_one],
        "all networks at once": lambda: dict(fit_recipes(every, recipe, seed=0)),
    }
    timing = in_turn(sides)
    what = f"recipe probes of {networks} networks, {layers} × {width}: one network at a time over all at once"
    return ratio_row(what, timing, "a network at a time", "all networks at once", note=f"{count:,} rows")


def side_by_side(sides: dict[str, Callable[[int], Any]]) -> Timing:
    """Run two sides at the same time, each on one core, and again with the cores changed."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    results: dict[str, Any] = {}

    def timed(name: str, core: int) -> None:
        start = time.perf_counter()
        results[name] = sides[name](core)
        seconds[name].append(time.perf_counter() - start)

    for order in (cores, cores[::-1]):
        with ThreadPoolExecutor(len(cores)) as pool:
            list(pool.map(timed, sides, order))
    return Timing(seconds, results)


def looped(seeds: int, core: int) -> None:
    """The loop, in a process of its own with one thread, on a core."""
    with tempfile.TemporaryDirectory() as place:
        run([sys.executable, "-c", LOOP, place, str(seeds)], core)


def studied(seeds: int, workers: int, core: int | None = None) -> int:
    """The study, on a core or on all; return how many networks its table has."""
    import pandas as pd

    with tempfile.TemporaryDirectory() as place:
        file, out = Path(place, "study.toml"), Path(place, "study")
        file.write_text(FILE.format(seeds=list(range(seeds))))
        program = [
            sys.executable,
            "-c",
            "from tunnelscope.cli import main; main()",
            "study",
            "run",
            str(file),
        ]
        run([*program, "--out", str(out), "--workers", str(workers), "--threads", "1"], core)
        table: Any = pd.read_parquet(out / "results.parquet")
        return table["run"].nunique()


def run(command: list[str], core: int | None) -> None:
    """Run a side on a core or on all, its output away. Raises CalledProcessError."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    pinned = [] if core is None else ["taskset", "--cpu-list", str(core)]
    subprocess.run([*pinned, *command], check=True, env=environment, capture_output=True)
