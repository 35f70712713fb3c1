"""One table of a study: the rows of every scan that is done, and a row of variables for every network."""

import inspect
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunnelscope.checkpoints import read_settings
from tunnelscope.errors import RequestError
from tunnelscope.files import write_json, write_whole
from tunnelscope.models.spec import parse_model
from tunnelscope.models.zoo import ZOO
from tunnelscope.results import COLUMNS, RESAMPLED, Scan, load
from tunnelscope.studies.networks import FACTORS, Cell
from tunnelscope.studies.sizes import recipe_of
from tunnelscope.studies.state import AFTER_ANOTHER, DONE, FAILED, State, Status
from tunnelscope.studies.units import WEIGHTS, Unit, training_of, units_of_cell

if TYPE_CHECKING:
    import pandas as pd

UNTOLD = ("seed", "classes", "per_class")  # replicates; what is counted on the data that was trained on
# A row of the long table is one value of these.
WHAT = ("run", "weights", "layer", "layer_b", "dataset", "split", "quantity", "seed", "protocol")


def collect(folder: str | Path) -> dict[str, Any]:
    """Gather what is done into `results.parquet`, `variables.parquet` and `study.json`, and draw the report.

    Scans that are missing or damaged are left out and named; nothing raises because of them.

    Args:
        folder: of the study.

    Returns:
        The object of `study.json`: networks with their scans, failures, and what was left out.

    Raises:
        RequestError: the folder holds no study.
        MachineError: it cannot be written.
    """
    from tunnelscope.report.study import write_study

    folder = Path(folder)
    about, statuses = opened(folder)
    cells = State(folder).cells()
    by_key = {status.unit.key: status for status in statuses}
    tables, entries, damaged = [], [], []
    for cell in cells:
        entry = _entry(cell, folder, by_key)
        for unit in units_of_cell(cell):
            if unit.kind == "scan" and unit.is_done(folder):
                try:
                    tables.append(_taken(cell, unit, folder, entry))
                except Exception as error:  # of a damaged file pyarrow and json may say anything
                    unit.unmark(folder)
                    damaged.append(f"{cell.name}: {error}")
            elif unit.kind == "scan" and unit.key in by_key and by_key[unit.key].state == DONE:
                lost = ", ".join(unit.lost(folder) or ["what it is made of is not known"])
                damaged.append(f"{cell.name}: {unit.folder(folder)} is not as it was made ({lost})")
        entries.append(entry)
    frame = gathered(tables)
    variables = variables_of(cells, {entry["network"]: entry for entry in entries})
    write_whole(folder / "results.parquet", lambda partial: frame.to_parquet(partial, index=False))
    write_whole(folder / "variables.parquet", lambda partial: variables.to_parquet(partial, index=False))
    told = {
        "study": about["study"],
        "networks": entries,
        "variables": [name for name in variables.columns if name not in ("run", "architecture")],
        "failures": [
            failure(status, folder)
            for status in statuses
            if status.state == FAILED and status.error != AFTER_ANOTHER
        ],
        "damaged": damaged,
    }
    write_json(folder / "study.json", told)
    write_study(told, frame, variables, folder / "report.html")
    return told


def opened(folder: Path) -> tuple[Mapping[str, str], list[Status]]:
    """What a study's folder holds: what was put down, and its units. Raises RequestError: it holds none."""
    state = State(folder)
    if not state.is_there():
        raise RequestError(f"{folder} holds no study; `tunnelscope study run FILE --out {folder}` makes one")
    return state.about(), state.statuses()


def _taken(cell: Cell, unit: Unit, folder: Path, entry: dict[str, Any]) -> "pd.DataFrame":
    """The rows of a scan; what it tells of its network goes into the network's entry."""
    scan = load(unit.folder(folder))
    rows = _rows(cell, scan, folder, unit.probe)
    entry |= _of_scan(scan)
    entry["warnings"] = list(dict.fromkeys([*entry["warnings"], *scan.run["warnings"]]))
    entry["scans"][unit.probe] = str(unit.folder(folder).relative_to(folder))
    return rows


def _of_scan(scan: Scan) -> dict[str, Any]:
    """What a scan tells of its network, for the variables."""
    own = next(one for one in scan.run["data"] if one["role"] == "id")
    leakage = scan.run.get("leakage")  # none in scans from before it was looked for
    return {"parameters": scan.run["model"]["parameters"], "classes": own["classes"], "leakage": leakage}


def _entry(cell: Cell, folder: Path, by_key: Mapping[str, Status]) -> dict[str, Any]:
    """A network in `study.json`."""
    entry: dict[str, Any] = {"network": cell.name, "model": cell.model, "id": cell.id, "scans": {}}
    entry["warnings"] = []
    entry["states"] = {
        unit.title: by_key[unit.key].state for unit in units_of_cell(cell) if unit.key in by_key
    }
    if cell.is_trained and (training := training_of(cell)).is_done(folder):
        told = read_settings(training.folder(folder))
        assert told is not None
        entry["training"] = str(training.folder(folder).relative_to(folder))
        entry["train_images"] = told["settings"]["train_rows"]
    return entry


def failure(status: Status, folder: Path) -> dict[str, Any]:
    """A unit that failed, with the end of its log."""
    unit = status.unit
    log = unit.log(folder)
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-30:] if log.exists() else []
    return {
        "network": unit.network,
        "kind": unit.kind,
        "probe": unit.probe,
        "error": status.error,
        "log": str(log.relative_to(folder)),
        "lines": lines,
    }


def _rows(cell: Cell, scan: Scan, folder: Path, probe: str) -> "pd.DataFrame":
    """The rows of a scan under the network's name in the study.

    Of several probes, what follows from one (r, ρ, A, where the tunnel starts) has its name in `protocol`.
    """
    frame = scan.frame.copy()
    frame["run"] = cell.name
    if len(cell.scan.probes) > 1:
        follows = frame["protocol"].str.startswith(RESAMPLED, na=False)
        frame.loc[follows, "protocol"] = f"{probe}, " + frame.loc[follows, "protocol"]
    if cell.is_trained:
        place = training_of(cell).folder(folder).relative_to(folder) / WEIGHTS
        frame.loc[frame["weights"].str.endswith(WEIGHTS), "weights"] = str(place)
    return frame


def gathered(tables: Sequence["pd.DataFrame"]) -> "pd.DataFrame":
    """One long table; what two scans of a network measured alike stands there once."""
    import pandas as pd

    if not tables:
        return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in COLUMNS.items()})
    frame = pd.concat(tables, ignore_index=True)
    return frame.drop_duplicates(list(WHAT)).reset_index(drop=True)


def variables_of(cells: Sequence[Cell], entries: Mapping[str, Mapping[str, Any]]) -> "pd.DataFrame":
    """One row a network: `run`, `architecture`, and a column for everything that differs between networks.

    Seeds are no variable: networks that differ in nothing else are replicates. What one network's file or
    recipe leaves open has the value that it takes; what a network does not have is missing in its row. γ,
    parameters a training image, follows from the others and is called `gamma`.
    """
    import pandas as pd

    arguments = {name for cell in cells for name in cell.levels if name.startswith("arguments.")}
    settings = {name for cell in cells for name in cell.training} - {"weights"}
    rows = []
    for cell in cells:
        levels = {name: cell.levels[name] for name in FACTORS if name in cell.levels and name not in UNTOLD}
        levels |= {name.partition(".")[2]: argument_of(cell, name) for name in sorted(arguments)}
        levels |= {name: setting_of(cell, name) for name in sorted(settings)}
        row = {"run": cell.name, "architecture": str(cell.levels["model"])} | levels | {"pool": cell.pool}
        rows.append(row | cell.told | _of_its_data(entries[cell.name]))
    frame: Any = pd.DataFrame(rows)
    kept = [name for name in frame.columns[2:] if frame[name].astype(object).map(repr).nunique() > 1]
    for name in kept:
        if frame[name].dropna().map(type).nunique() > 1 and frame[name].dtype == object:
            frame[name] = frame[name].map(lambda level: level if level is None else str(level))
    return frame[["run", "architecture", *kept]]


def argument_of(cell: Cell, name: str) -> Any:
    """An argument of a network (`arguments.depth`): its level, else the zoo's default; None without one."""
    if name in cell.levels:
        return cell.levels[name]
    spec = parse_model(cell.model)
    if spec.kind != "zoo" or spec.name not in ZOO:
        return None
    told = inspect.signature(ZOO[spec.name].build).parameters.get(name.partition(".")[2])
    return None if told is None or told.default is inspect.Parameter.empty else told.default


def setting_of(cell: Cell, name: str) -> Any:
    """A setting of a training: as told, else the recipe's; None of a network that is not trained."""
    if not cell.is_trained or name in cell.training:
        return cell.training.get(name)
    return recipe_of(cell).as_dict().get(name)


def _of_its_data(entry: Mapping[str, Any]) -> dict[str, float]:
    """What follows from a network and its training images; NaN where they are not known."""
    images, classes = entry.get("train_images", math.nan), entry.get("classes", math.nan)
    return {
        "classes": classes,
        "images_per_class": images / classes,
        "gamma": entry.get("parameters", math.nan) / images,
    }
