"""Redo items at a scale: each is run, its rows put into the ledger, its figure drawn."""

import datetime
import importlib
import shlex
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tunnelscope.errors import RequestError
from tunnelscope.files import check_writable
from tunnelscope.recording import StageProgress
from tunnelscope.reproduce.drawing import draw
from tunnelscope.reproduce.found import Found
from tunnelscope.reproduce.harun2024.networks import CHANGED, Networks
from tunnelscope.reproduce.harun2024.released import RESAMPLES, Released
from tunnelscope.reproduce.items import ITEMS, Item
from tunnelscope.reproduce.lab import Lab
from tunnelscope.reproduce.ledger import FULL_ROWS, Row, put, read_rows, results_path
from tunnelscope.reproduce.masarczyk2023.experiment import CLASSES, Experiment
from tunnelscope.reproduce.masarczyk2023.scales import Scale, scale_named
from tunnelscope.store import default_folder
from tunnelscope.summary import processor_name
from tunnelscope.variables.observations import NETWORK_MAP

SETS_OF = {
    "masarczyk2023": CLASSES,
    "harun2024": ("cifar10", "cifar100", "gtsrb", "mnist", "caltech101", "clothing"),
}
RELEASED_SCALE = "released"  # of rows that the released table carries: it has one size


def reproduce(
    items: Sequence[Item],
    scale: str,
    *,
    data: str | Path,
    out: str | Path | None = None,
    results: Path | None = None,
    retrain: bool = False,
    progress: StageProgress | None = None,
    announce: Callable[[str], None] | None = None,
) -> list[Row]:
    """Redo items of the papers and return their rows, which also go into the ledger (smoke rows do not).

    What is trained and scanned is kept in the store's folder and shared between items, so the same call goes
    on after an interruption.

    Args:
        items: of `chosen_items`.
        scale: smoke, small or paper.
        data: folder that holds `cifar10`, `cifar100`, and what else the 2024 paper's items read.
        out: folder for each item's figures and their tables.
        retrain: train the 2024 paper's networks here although the table of networks has them.
        results: table the rows go into; by default that of the package, or of the user where it is read-only.

    Raises:
        RequestError: data that are missing, and as `ts.train` and `ts.scan`.
    """
    sizes, say = scale_named(scale), announce or (lambda line: None)
    if out is not None:
        check_writable(Path(out))
    table = results or results_path()
    read_rows(table)  # one of another version is said before hours of work
    lab = Lab(Path(data), default_folder() / "reproduce", progress or (lambda stage, done, total: None), say)
    networks = Networks(lab, sizes.name, retrain)
    check_data(items, networks)
    subjects = {
        "masarczyk2023": Experiment(lab, sizes),
        "harun2024": networks,
        RELEASED_SCALE: Released(released_table(lab.data), RESAMPLES[sizes.name]),
    }
    rows: list[Row] = []
    for number, item in enumerate(items, start=1):
        say(f"item {number} of {len(items)}: {item.name}, {item.title}")
        networks.read.clear()
        found = function_of(item)(subjects[RELEASED_SCALE if item.is_released else item.paper])
        done = finished(item, found, sizes, lab, networks.read)
        if out is not None:
            for name, figure in found.figures.items():
                draw(figure, Path(out) / f"{item.paper}-{name}")
        if sizes.name != "smoke":
            put(done, table, list(ITEMS))
        rows += done
    return rows


def check_data(items: Sequence[Item], networks: Networks) -> None:
    """Say what is not there before anything is trained. Raises RequestError."""
    lab = networks.lab
    trained = [item for item in items if not item.is_released]
    if any(item.is_of_study for item in trained) and networks.are_known and networks.at_inputs.are_known:
        trained = [item for item in trained if not item.is_of_study]  # nothing of it is trained
    for paper in dict.fromkeys(item.paper for item in trained):
        for name in SETS_OF[paper]:
            lab.source(name)
    if any(item.is_released for item in items):
        table = released_table(lab.data)
        for path in (table, table.with_name(NETWORK_MAP)):
            if not path.exists():
                raise RequestError(
                    f"{path} is not there; the released table (shap_analysis of the paper's code, "
                    f"github.com/yousuf907/Tunnel) and {NETWORK_MAP}, which names its networks, belong into "
                    f"{table.parent}"
                )


def released_table(data: Path) -> Path:
    """Where the 2024 paper's table lies in the folder of data."""
    return data / "harun2024" / "experiments_results.csv"


def function_of(item: Item) -> Callable[[Any], Found]:
    """Return what redoes an item, from an Experiment, the networks of the study or the released table."""
    module, _, name = item.function.partition(":")
    return getattr(importlib.import_module(f"tunnelscope.reproduce.{item.paper}.{module}"), name)


def finished(item: Item, found: Found, scale: Scale, lab: Lab, elsewhere: Collection[str] = ()) -> list[Row]:
    """Complete an item's rows with what is the same in all of them.

    Args:
        elsewhere: hardware that networks were trained on which the item took as they are kept.
    """
    name, changed = scale.name, scale.changed
    command = shlex.join(["tunnelscope", "reproduce", item.name, "--scale", scale.name])
    if item.is_released:
        name = scale.name if scale.name == "smoke" else RELEASED_SCALE
        changed = ""
    elif item.paper == "harun2024":
        changed = CHANGED.get(name, "") if found.changed is None else found.changed
    elif name == "paper" and (there := lab.rows_of("cifar10")) < FULL_ROWS:
        name = f"paper-{there // 1000}k"
        changed = f"{there:,} training images of {FULL_ROWS:,}: the verdict is directional"
    about = {
        "item": item.name,
        "scale": name,
        "hardware": " and ".join(sorted(elsewhere)) or hardware(),
        "date": datetime.date.today().isoformat(),
        "command": command,
    }
    return [replace(row, **about, note="; ".join(filter(None, [row.note, changed]))) for row in found.rows]


def hardware() -> str:
    """The GPU, or the processor and how many threads are used."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{processor_name()}, {torch.get_num_threads()} threads"
