"""From a study's file to its networks: every combination of levels, named by what differs."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict

from tunnelscope import __version__
from tunnelscope.data.stamp import stamp_of
from tunnelscope.errors import RequestError
from tunnelscope.store import MODEL_CODE, SCAN_CODE, code_of, key_of
from tunnelscope.studies.declaration import Data, Declaration, Exclusion, Networks, Scanning, as_list

KEY_LENGTH = 24
FACTORS = ("model", "id", "weights", "classes", "per_class", "resolution", "seed")


class Cell(BaseModel):
    """One network of a study, trained or given, how it is scanned, and what its results are called.

    The keys hold the state of the data's and models' files as it was when the study was last run: workers
    and `collect` take them from the study's folder, so that they agree wherever and whenever they look.

    Attributes:
        name: its row in every table.
        levels: factor → level, those of arguments and training as `arguments.depth`, `training.epochs`.
        model: as for `ts.scan`, with its arguments.
        id: short name of the data that it is trained on, `source` that data.
        ood: short name → source.
        weights: of a network that is given; None: it is trained.
        training: settings of `ts.train`.
        scan: settings of all its scans; `probes` are the protocols.
        told: variables that the file tells.
        training_key: what the trained weights follow from: the same key, the same training.
        scan_keys: probe → what a scan follows from.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    levels: dict[str, Any]
    model: str
    id: str
    source: str
    ood: dict[str, str]
    weights: str | None
    training: dict[str, Any]
    scan: Scanning
    layers: str
    pool: str
    told: dict[str, Any]
    training_key: str = ""
    scan_keys: dict[str, str] = {}

    @property
    def is_trained(self) -> bool:
        """Whether the study trains it."""
        return self.weights is None

    @property
    def seed(self) -> int:
        """Of the training."""
        return int(self.levels["seed"])

    def scan_settings(self, probe: str) -> dict[str, Any]:
        """Settings of `ts.scan`."""
        told = self.scan.model_dump(exclude={"ood", "probes", "layers", "pool"})
        return told | {"probe": probe, "layers": self.layers, "pool": self.pool}

    def with_keys(self, state: Callable[[str], list[str]]) -> "Cell":
        """The cell with the keys of its results.

        Args:
            state: a source and the state of its files, looked at once for all cells of a study.
        """
        start = self.training.get("weights")
        model = [self.model, *map(state, _files_of(self.model))]
        trained = _key(
            *("training", model, state(self.source), self.training, self.seed),
            *(state(str(start)) if start else "", code_of(*MODEL_CODE)),
        )
        weights = trained if self.is_trained else [self.weights, state(str(self.weights))]
        states = [state(source) for source in (self.source, *self.ood.values())]
        read = ("scan", model, weights, [self.id, *self.ood], states)
        scans = {
            probe: _key(*read, self.scan_settings(probe), code_of(*SCAN_CODE)) for probe in self.scan.probes
        }
        keys = {"training_key": trained if self.is_trained else "", "scan_keys": scans}
        return self.model_copy(update=keys)


def _files_of(model: str) -> list[str]:
    """Where a network's own file or folder lies, of one that is no library's: `net.py:make`."""
    location = model.partition("?")[0]
    return [place for place in (location, location.rpartition(":")[0]) if place and Path(place).exists()]


def _key(*parts: Any) -> str:
    return key_of(*json.loads(json.dumps(parts, sort_keys=True, default=str)), __version__)[:KEY_LENGTH]


def _state(source: str) -> list[str]:
    """A source and the state of its files, which changes when they do."""
    location = source.partition("?")[0]
    path = Path(location)
    return [source, stamp_of(path, "") if path.exists() else ""]


def cells_of(declared: Declaration) -> list[Cell]:
    """Return every network of a study, in the order of its file, without those that it leaves out.

    Raises:
        RequestError: all are left out, or two are the same.
    """
    every = [(grid, levels) for grid in declared.networks for levels in _combinations(grid)]
    for place, one in enumerate(declared.exclude):
        if not any(_matches(one, levels) for _, levels in every):
            raise RequestError(
                f"study {declared.name}: exclude[{place}] matches no network; it takes levels that networks "
                "of the grids have, as they stand there"
            )
    drafts = [
        (grid, levels) for grid, levels in every if not any(_matches(one, levels) for one in declared.exclude)
    ]
    if not drafts:
        raise RequestError(f"study {declared.name}: [[exclude]] leaves no network")
    names = _names([levels for _, levels in drafts])
    state = cache(_state)
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise RequestError(
            f"study {declared.name}: two networks are called {twice[0]}; give one of them, or let their "
            "files have names of their own"
        )
    cells = [_cell(declared, *draft, name) for draft, name in zip(drafts, names, strict=True)]
    return [cell.with_keys(state) for cell in cells]


def _combinations(grid: Networks) -> Iterator[dict[str, Any]]:
    """Every combination of a grid's levels."""
    factors = {name: as_list(getattr(grid, name)) for name in FACTORS if getattr(grid, name) is not None}
    factors |= {f"arguments.{name}": as_list(levels) for name, levels in grid.arguments.items()}
    factors |= {f"training.{name}": as_list(levels) for name, levels in grid.training.items()}
    factors |= {name: [value] for name in ("layers", "pool") if (value := getattr(grid, name)) is not None}
    for levels in product(*factors.values()):
        yield dict(zip(factors, levels, strict=True))


def _matches(exclusion: Exclusion, levels: Mapping[str, Any]) -> bool:
    """Whether a network has all levels of an exclusion."""
    asked = {name: getattr(exclusion, name) for name in FACTORS if getattr(exclusion, name) is not None}
    asked |= {f"arguments.{name}": value for name, value in exclusion.arguments.items()}
    asked |= {f"training.{name}": value for name, value in exclusion.training.items()}
    return bool(asked) and all(levels.get(name) in as_list(value) for name, value in asked.items())


def _names(drafts: list[dict[str, Any]]) -> list[str]:
    """Names from the model and what differs between the networks: mlp-depth=8-seed=1."""
    every = dict.fromkeys(name for levels in drafts for name in levels if name != "seed")
    every["seed"] = None  # last: networks that differ in it alone are replicates
    differing = [name for name in every if len({repr(levels.get(name)) for levels in drafts}) > 1]
    told = []
    for levels in drafts:
        parts = [_short(levels["model"])]
        for name in differing:
            if name in ("model",) or levels.get(name) is None:
                continue
            parts.append(f"{name.rpartition('.')[2]}={_short(levels[name])}")
        told.append("-".join(parts))
    return told


def _short(value: Any) -> str:
    """A level in a name: of a path its stem, without what a file's name must not have."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    text = text.partition(":")[2] or text
    text = Path(text).stem if "/" in text else text
    return "".join(letter if letter.isalnum() or letter in "._+," else "_" for letter in text)


def _cell(declared: Declaration, grid: Networks, levels: dict[str, Any], name: str) -> Cell:
    own = levels["id"]
    weights = levels.get("weights")
    data = declared.data[own]
    arguments = _under("arguments", levels)
    if (side := levels.get("resolution")) is not None:
        arguments["size"] = side
    training = {}
    if weights is None:  # one number format everywhere, whatever the machine is quick at
        training = {"precision": "f32"} | declared.training | _under("training", levels)
    others = declared.scan.ood if grid.ood is None else grid.ood
    return Cell(
        name=name,
        levels=levels,
        model=with_query(levels["model"], arguments),
        id=own,
        source=with_query(data.source, _choice(levels, data)),
        ood={other: declared.data[other].source for other in others if other != own},
        weights=None if weights is None else str(weights),
        training=training,
        scan=declared.scan.model_copy(update={"probes": grid.probes or declared.scan.probes}),
        layers=grid.layers or declared.scan.layers,
        pool=grid.pool or declared.scan.pool,
        told=dict(data.variables) | dict(grid.variables),
    )


def _under(table: str, levels: Mapping[str, Any]) -> dict[str, Any]:
    return {name.partition(".")[2]: level for name, level in levels.items() if name.startswith(f"{table}.")}


def _choice(levels: Mapping[str, Any], data: Data) -> dict[str, Any]:
    """The query that takes some classes and images of a data set."""
    chosen: dict[str, Any] = {}
    classes = levels.get("classes")
    if classes is not None and (data.classes is None or classes < data.classes):
        chosen["classes"] = f"0-{classes - 1}"
    if (count := levels.get("per_class")) is not None:
        chosen["per_class"] = count
    return chosen


def with_query(address: str, arguments: Mapping[str, Any]) -> str:
    """An address with more arguments in its query."""
    if not arguments:
        return address
    told = "&".join(f"{name}={quote(_text(value), safe=',')}" for name, value in arguments.items())
    return f"{address}{'&' if '?' in address else '?'}{told}"


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
