"""A table of many networks as rows of (network, OOD set) with their variables and r, ρ and A."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tunnelscope.errors import RequestError, unknown_name
from tunnelscope.results import load, targets_of
from tunnelscope.variables.leaks import COLUMN, leaks_of, read_column, with_leaks

if TYPE_CHECKING:
    import pandas as pd

TARGETS = ("r", "rho", "A")
RELEASED = {"Percentage OOD retained": "r", "Pearson Correlation": "rho", "ID OOD Alignment": "A"}
RELEASED_VARIABLES = (
    "Stem",
    "Spatial Reduction",
    "CNN vs ViT",
    "Augmentations",
    "Resolution",
    "ID Class Count",
    "OverParam. Level",
    "Depth",
)
RELEASED_SETS = ("NINCO", "ImageNet-R", "CUB", "Aircraft", "Flowers", "CIFAR", "Pets", "STL-10")
NETWORK_MAP = "network_map.csv"  # beside the released table, which names neither networks nor OOD sets
MOSTLY = 0.8  # of the networks have a variable: those without it are left out, not the variable
NOT_VARIABLES = ("network", "ood", "model", "id_set", "architecture", COLUMN, *TARGETS)


@dataclass(frozen=True, eq=False)
class Observations:
    """One row a network and OOD set.

    Attributes:
        frame: `network` (a name), `architecture` (of its kind, left out together in one of the tests),
            `ood`, the variables under the table's own names, the targets it has: r as a share, rho, A, and
            where it is told `leakage`: why the OOD set is not wholly other data (None: not looked at).
        variables: in the table's order.
        targets: of `TARGETS`, those the table has.
        source: for messages.
        notes: what was left out when the table was read, a line each.
    """

    frame: Any  # a pandas frame
    variables: tuple[str, ...]
    targets: tuple[str, ...]
    source: str
    notes: tuple[str, ...] = ()

    @property
    def networks(self) -> list[str]:
        """Names, in the order in which they come."""
        return list(dict.fromkeys(self.frame["network"]))

    def of(self, networks: Sequence[str]) -> "Observations":
        """The rows of some networks."""
        rows = self.frame[self.frame["network"].isin(list(networks))].reset_index(drop=True)
        return replace(self, frame=rows)


def read_table(path: str | Path) -> Observations:
    """Read a table: the released one of Harun et al. 2024, a folder of results, or one with named columns.

    Args:
        path: a CSV or parquet file, or a folder that holds `results.parquet` and `variables.parquet`.

    Raises:
        RequestError: no such file, a column that is missing, values that are missing or not numbers.
    """
    path = Path(path)
    if path.is_dir():
        return of_results(path)
    frame = _file(path, "table")
    if set(RELEASED) <= set(frame.columns):
        return of_released(frame, path)
    return of_frame(frame, str(path))


def _file(path: Path, what: str) -> Any:
    import pandas as pd

    try:
        return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except FileNotFoundError as error:
        raise RequestError(f"there is no {what} {path}") from error
    except Exception as error:  # of a damaged file pandas may say anything
        raise RequestError(f"{path} cannot be read as a table ({error}); give .csv or .parquet") from error


def of_frame(frame: "pd.DataFrame", source: str = "the table") -> Observations:
    """Take a table whose columns are named: `network`, `ood`, targets, and what else there is as variables.

    Args:
        frame: `network`, `ood`, and of `r` (a share), `rho`, `A` at least one; optionally `architecture` and
            `leakage` (why a row's OOD set is not wholly other data; empty where it is).

    Raises:
        RequestError: as in `read_table`.
    """
    if set(RELEASED) <= set(frame.columns):
        return of_released(frame, None)
    for column in ("network", "ood"):
        if column not in frame.columns:
            raise unknown_name(f"column of {source}", column, map(str, frame.columns), _NEEDED)
    targets = tuple(target for target in TARGETS if target in frame.columns)
    if not targets:
        raise unknown_name(f"column of {source}", "r", map(str, frame.columns), _NEEDED)
    variables = tuple(str(name) for name in frame.columns if name not in NOT_VARIABLES)
    frame = frame.copy()
    if not variables:
        raise RequestError(
            f"{source}: no column besides network, ood and r, rho, A is there to be a variable"
        )
    if COLUMN in frame.columns:
        frame[COLUMN] = read_column(frame[COLUMN])
    if "architecture" not in frame.columns:
        frame["architecture"] = frame["model"] if "model" in frame.columns else frame["network"]
    return checked(Observations(frame.reset_index(drop=True), variables, targets, source))


_NEEDED = "A table has columns network, ood, one or more of r, rho, A, and variables."


def of_released(frame: "pd.DataFrame", path: Path | None) -> Observations:
    """The released table, named by the network map beside it; without one by the order of its rows.

    Its rows come in blocks of eight OOD sets, one block a network; r is in percent, here a share.
    """
    import pandas as pd

    missing = [name for name in RELEASED_VARIABLES if name not in frame.columns]
    if missing:
        raise unknown_name(f"column of {path or 'the table'}", missing[0], map(str, frame.columns))
    sets = len(RELEASED_SETS)
    if len(frame) % sets:
        raise RequestError(
            f"{path or 'the table'} has {len(frame)} rows; the released table has {sets} of each network"
        )
    told: Any = frame.rename(columns=RELEASED).reset_index(drop=True)
    told["r"] = told["r"] / 100
    blocks = np.arange(len(told)) // sets
    names = _names_beside(path, int(blocks.max()) + 1)
    told["network"] = [names[block]["network"] for block in blocks]
    for column, name in _TOLD_BY_MAP.items():
        named = [names[block].get(name, value) for block, value in zip(blocks, told[column], strict=True)]
        if told[column].tolist() != named:
            row = next(place for place, value in enumerate(told[column]) if value != named[place])
            raise RequestError(
                f"{NETWORK_MAP} beside {path} says {column} = {named[row]} of {told['network'][row]}, row "
                f"{row + 1} of the table has {told[column][row]}; the two are not of the same order"
            )
    for column in ("model", "id_set"):
        told[column] = [names[block][column] for block in blocks]
    told["ood"] = [RELEASED_SETS[row % sets] for row in range(len(told))]
    if COLUMN in told.columns:
        told[COLUMN] = read_column(told[COLUMN])
    kinds = pd.MultiIndex.from_frame(told[["Stem", "Depth", "Spatial Reduction"]])
    told["architecture"] = [f"stem {stem}, depth {depth}, φ {phi:g}" for stem, depth, phi in kinds]
    source = str(path) if path else "the released table"
    return checked(Observations(told, RELEASED_VARIABLES, TARGETS, source))


_TOLD_BY_MAP = {"Resolution": "resolution", "Augmentations": "aug"}  # columns of the table that it repeats


def _names_beside(path: Path | None, count: int) -> list[Mapping[str, Any]]:
    import pandas as pd

    there = path.with_name(NETWORK_MAP) if path else None
    if there is None or not there.exists():
        return [
            {"network": f"network {number}", "model": f"network {number}", "id_set": ""}
            for number in range(count)
        ]
    table: Any = pd.read_csv(there)
    if len(table) != count:
        raise RequestError(f"{there} names {len(table)} networks, the table has {count}")
    return [
        {
            "network": f"{row.model} {row.id_dataset} {row.resolution}² {'aug' if row.aug else 'no aug'}",
            "model": row.model,
            "id_set": row.id_dataset,
            "resolution": row.resolution,
            "aug": row.aug_csv,
        }
        for row in table.itertuples()
    ]


def of_results(folder: Path, probe: str | None = None) -> Observations:
    """Our own results: `results.parquet`, a row a value, joined with `variables.parquet`, a row a network.

    Args:
        probe: whose r, ρ and A; the first's by default.

    Raises:
        RequestError: one of the two is missing, they name different networks, or no such probe was asked.
    """
    import pandas as pd

    tables = []
    for name in ("results.parquet", "variables.parquet"):
        if not (folder / name).is_file():
            raise RequestError(
                f"{folder} holds no {name}; a folder of results has both, one row a value each"
            )
        tables.append(pd.read_parquet(folder / name))
    results, variables = tables
    if "run" not in variables.columns:
        raise unknown_name(f"column of {folder / 'variables.parquet'}", "run", map(str, variables.columns))
    wide, notes = targets_of(results, probe)
    variables, gaps = without_gaps(variables)
    wide = wide[wide["run"].isin(variables["run"]) | ~wide["run"].isin(tables[1]["run"])]
    joined = wide.merge(variables, on="run", how="left", indicator=True)
    unknown = joined.loc[joined["_merge"] == "left_only", "run"]
    if len(unknown):
        raise RequestError(f"{folder / 'variables.parquet'} has no row for the network {unknown.iloc[0]!r}")
    frame = joined.drop(columns="_merge").rename(columns={"run": "network"})
    given = replace(of_frame(frame, str(folder)), notes=(*notes, *gaps))
    return with_leaks(given, leaks_of(results))


def without_gaps(variables: Any) -> tuple[Any, list[str]]:
    """Variables that all networks have: where most have one the others are left out, else the variable."""
    kept, notes = variables, []
    for name in variables.columns.drop("run"):
        there = kept[name].notna()
        if there.all():
            continue
        few = f"{(~there).sum()} of {len(kept)} networks have no {name}"
        if there.mean() >= MOSTLY:
            kept = kept[there]
            notes.append(f"{few}; they are left out")
        else:
            kept = kept.drop(columns=name)
            notes.append(f"{few}; it is no variable here")
    constant = [name for name in kept.columns.drop("run") if kept[name].nunique() == 1]
    return kept.drop(columns=[name for name in constant if name != "architecture"]), notes


def of_scans(folders: Sequence[str | Path], variables: str | Path | None = None) -> Observations:
    """Scans of several networks as a table; a network is called as its folder is.

    Args:
        folders: of `tunnelscope scan`.
        variables: a CSV or parquet file with the column `network` and one a variable; without it depth
            (layers that were read), parameters, resolution and number of classes, as far as they differ.

    Raises:
        RequestError: no scan, two of one name, one without other data, or a file that lacks a network.
    """
    import pandas as pd

    scans = {Path(folder).resolve().name: load(folder) for folder in folders}
    if len(scans) < len(folders):
        raise RequestError("two of the scans' folders have the same name; networks are told apart by it")
    parts, leaks = [], {}
    for name, one in scans.items():
        table: Any = one.frame
        leaks |= {(name, ood): reason for (_, ood), reason in leaks_of(table).items()}
        wide, _ = targets_of(table)
        if wide.empty:
            raise RequestError(f"the scan of {name} has no other data than its own; scan it with --ood")
        parts.append(wide.drop(columns="run").assign(network=name))
    joined = pd.concat(parts, ignore_index=True)
    if variables is None:
        known = {name: _of_run(one.run) for name, one in scans.items()}
        differ = [key for key in _OF_RUN if len({one[key] for one in known.values()}) > 1]
        told = pd.DataFrame(
            [{"network": name} | {key: one[key] for key in differ} for name, one in known.items()]
        )
    else:
        told = _variables_file(Path(variables), scans)
    frame: Any = joined.merge(told, on="network", how="left")
    return with_leaks(of_frame(frame, "the scans"), leaks)


def _of_run(run: Mapping[str, Any]) -> dict[str, Any]:
    """What a scan says of its network."""
    own: Mapping[str, Any] = next((one for one in run["data"] if one["role"] == "id"), {})
    size = (run["model"]["preprocessing"] or {}).get("size", [None])[0]
    return dict(
        zip(_OF_RUN, (len(run["layers"]), run["model"]["parameters"], size, own.get("classes")), strict=True)
    )


_OF_RUN = ("Depth", "Parameters", "Resolution", "ID Class Count")


def _variables_file(path: Path, scans: Mapping[str, Any]) -> Any:
    told = _file(path, "table of variables")
    if "network" not in told.columns:
        raise unknown_name(f"column of {path}", "network", map(str, told.columns))
    told["network"] = told["network"].astype(str)  # folders may be called 1, 2, 3
    known = set(told["network"])
    for name in scans:
        if name not in known:
            raise RequestError(f"{path} has no row for the network {name!r}, as the scan's folder is called")
    return told


def checked(given: Observations) -> Observations:
    """Refuse what cannot be analysed. Raises RequestError with the rows, columns and what to do."""
    frame = given.frame
    used = [*given.variables, *given.targets]
    holes = frame[used].isna().any(axis=1)
    if holes.any():
        rows = np.flatnonzero(holes.to_numpy())
        where = ", ".join(str(row + 1) for row in rows[:5]) + (", …" if len(rows) > 5 else "")
        columns = [name for name in used if frame[name].isna().any()]
        raise RequestError(
            f"{given.source}: {len(rows)} rows lack values in {', '.join(columns[:4])} (rows {where}); "
            "fill them in or leave the rows out"
        )
    for target in given.targets:
        values = frame[target]
        if values.dtype.kind not in "fiu":
            raise RequestError(f"{given.source}: column {target} holds {values.dtype}, not numbers")
        if target == "r" and float(values.max()) > 2:
            raise RequestError(
                f"{given.source}: r reaches {float(values.max()):g}; it is a share, divide percent by 100"
            )
    if frame.duplicated(["network", "ood"]).any():
        twice = frame[frame.duplicated(["network", "ood"])].iloc[0]
        raise RequestError(
            f"{given.source}: {twice['network']} on {twice['ood']} comes twice; give each pair one row"
        )
    uneven = frame.groupby("network")[list(given.variables)].nunique().gt(1)
    if uneven.to_numpy().any():
        network, variable = uneven.stack()[lambda told: told].index[0]
        raise RequestError(
            f"{given.source}: {network} has several values of {variable}; a variable is a network's own"
        )
    return given
