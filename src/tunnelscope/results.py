"""What a scan found: one long table, one JSON object, and the folder they live in."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunnelscope.errors import MachineError, RequestError, unknown_name
from tunnelscope.files import PARTIAL, check_writable, write_json, write_whole

if TYPE_CHECKING:
    import pandas as pd

    from tunnelscope.probes import Probe

COLUMNS = {
    "run": "string",
    "model": "string",
    "weights": "string",
    "layer": "string",
    "layer_b": "string",
    "layer_index": "Int64",
    "depth_fraction": "float64",
    "read_point": "string",
    "pool": "string",
    "dataset": "string",
    "role": "string",
    "split": "string",
    "quantity": "string",
    "value": "float64",
    "low": "float64",
    "high": "float64",
    "n_train": "Int64",
    "n_test": "Int64",
    "seed": "Int64",
    "protocol": "string",
}
SHARED_CLASSES, KNOWN_IMAGES = "shared_classes", "known_images"  # quantities of what an OOD set shares
TARGETS = {"retained_paper": "r", "pearson": "rho", "alignment": "A"}  # quantities of a network and OOD set
RESAMPLED = "bootstrap"  # how the protocol of what follows from a network's probes begins
OURS = ("results.parquet", "probes", "report.html", "figures")  # may lie there without run.json: cut off
# what run.json holds beside the object that --json prints
RUN_ONLY = ("command", "settings", "versions", "hardware", "seeds", "fingerprints")


@dataclass(frozen=True, repr=False)
class Scan:
    """One scanned network: `tunnel`, `best_layer(set)`, `table()`, `report(path)`.

    The same object comes from `ts.scan` and, years later, from `ts.load(folder)`.
    """

    run: dict[str, Any]
    frame: "pd.DataFrame" = field(repr=False)
    probes: Mapping[str, "Probe"] = field(default_factory=dict, repr=False)  # by [control/]SET--LAYER--SEED
    folder: Path | None = None

    def __repr__(self) -> str:
        """One line: the network, its data sets, where the tunnel starts and which layers to take."""
        sets = ", ".join(f"{entry['key']} ({entry['role'].upper()})" for entry in self.run["data"])
        start = self.tunnel["start_95"]
        tunnel = f"tunnel after {start}" if start else "no tunnel start"
        best = ", ".join(f"{best['layer']} for {key}" for key, best in self.run["best_layer"].items())
        count = len(self.run["layers"])
        layers = f"{count} layer{'s' if count > 1 else ''}"
        return f"<Scan of {self.run['model']['name']} on {sets}: {layers}, {tunnel}; best: {best}>"

    @property
    def tunnel(self) -> dict[str, Any]:
        """Start, length, shares, band and the OOD readings, as in the JSON object."""
        return self.run["tunnel"]

    @property
    def verdict(self) -> str:
        """Two sentences: where the tunnel starts and which layer to take."""
        return self.run["verdict"]

    def best_layer(self, dataset: str | None = None) -> dict[str, Any]:
        """The layer to take for a data set, with its accuracy, interval and cost saved.

        Args:
            dataset: a set's key; may be left out when there is only one OOD set (or one set).

        Raises:
            RequestError: the scan has no such set, or has several and none is named.
        """
        best = self.run["best_layer"]
        if dataset is None:
            roles = {entry["key"]: entry["role"] for entry in self.run["data"]}
            keys = [key for key in best if roles[key] == "ood"] or list(best)
            if len(keys) != 1:
                raise RequestError(f"several data sets were scanned; name one of {', '.join(best)}")
            return best[keys[0]]
        if dataset not in best:
            raise unknown_name("data set", dataset, best)
        return best[dataset]

    def table(self) -> "pd.DataFrame":
        """The results table, one row a value; columns as in `COLUMNS`."""
        return self.frame.copy()

    def json(self) -> dict[str, Any]:
        """The object that `tunnelscope scan --json` prints."""
        return {key: value for key, value in self.run.items() if key not in RUN_ONLY}

    def report(self, path: str | Path) -> Path:
        """Write the report, one HTML file that needs no network, and return its path."""
        from tunnelscope.report import write_report

        path = Path(path)
        write_report(self.frame, self.run, path)
        return path

    def save(self, folder: str | Path) -> Path:
        """Write results.parquet, probes/ and run.json (last) into a folder, each file whole or not at all.

        Raises:
            RequestError: the folder holds something else.
            MachineError: the disk is full or may not be written to.
        """
        folder = claim_folder(folder)
        try:
            write_whole(folder / "results.parquet", lambda path: self.frame.to_parquet(path, index=False))
            (folder / "probes").mkdir(exist_ok=True)
            for name, stale in _probe_files(folder / "probes").items() if self.probes else ():
                if name not in self.probes:  # of an earlier scan into this folder
                    stale.unlink()
            for name, probe in self.probes.items():
                path = folder / "probes" / f"{name}.safetensors"
                path.parent.mkdir(exist_ok=True)
                probe.save(path)
            write_json(folder / "run.json", self.run)
        except OSError as error:
            raise MachineError(f"cannot write to {folder}: {error.strerror or error}") from error
        return folder


class SavedProbes(Mapping[str, "Probe"]):
    """The probes in a scan's folder by name, `SET--LAYER--SEED`, those of the control after `control/`.

    Each is read when it is asked for.

    Raises:
        RequestError: a file that is asked for holds no probe.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._read: dict[str, Probe] = {}

    def __getitem__(self, name: str) -> "Probe":
        from tunnelscope.probes import load_probe  # PyTorch, which a table or a report does without

        if name not in self._read:
            self._read[name] = load_probe(_probe_files(self.folder)[name])
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def _names(self) -> list[str]:
        return sorted(_probe_files(self.folder))


def _probe_files(folder: Path) -> dict[str, Path]:
    """The files of probes in a folder by their names."""
    return {
        prefix + path.stem: path
        for prefix in ("", "control/")
        for path in (folder / prefix).glob("*.safetensors")
    }


def load(folder: str | Path) -> Scan:
    """Read a scan back from its folder.

    Raises:
        RequestError: there is no scan in it, or one of its files cannot be read.
    """
    import pandas as pd

    folder = Path(folder)
    if folder.is_file():
        raise RequestError(f"{folder} is a file; a scan is a folder, give {folder.parent}")
    if not (folder / "run.json").is_file():
        raise RequestError(
            f"{folder} holds no scan (no run.json); `tunnelscope scan … --out {folder}` makes one"
        )
    try:
        run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        frame = pd.read_parquet(folder / "results.parquet")
    except MemoryError:
        raise
    except Exception as error:  # of a damaged table pandas may say anything, of nested JSON RecursionError
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise RequestError(f"the scan in {folder} cannot be read ({said}); run it again") from error
    if not isinstance(run, dict) or "tunnel" not in run or list(frame.columns) != list(COLUMNS):
        raise RequestError(f"{folder} was not written by this version of tunnelscope; run the scan again")
    try:
        frame = frame.astype(COLUMNS)
    except (ValueError, TypeError) as error:
        raise RequestError(
            f"{folder / 'results.parquet'} holds other types than a results table; run the scan again"
        ) from error
    return Scan(run=run, frame=frame, probes=SavedProbes(folder / "probes"), folder=folder)


def without_controls(table: Any) -> Any:  # pandas frames
    """The rows of a results table that are of the networks themselves, not of their untrained twins."""
    is_random = table["weights"].fillna("").str.startswith("random")
    has_own = table["run"].isin(table.loc[~is_random, "run"])  # of a network given untrained all are its own
    return table[~(is_random & has_own)]


def targets_of(table: Any, probe: str | None = None) -> tuple[Any, list[str]]:
    """r, ρ and A of a results table: a frame with a row a run and OOD set (`run`, `ood`, `r`, `rho`, `A`).

    Args:
        probe: whose; None: of several probes the first's, which the lines beside the frame say.

    Raises:
        RequestError: the table has no such probe.
    """
    rows = without_controls(table)
    rows = rows[rows["quantity"].isin(list(TARGETS)) & rows["layer"].isna()]
    of_probe = rows["protocol"].fillna("").map(lambda protocol: protocol.partition(", ")[0])
    of_probe = of_probe.where(~of_probe.str.startswith(RESAMPLED), "")  # of one probe alone
    names = [name for name in dict.fromkeys(of_probe) if name]
    if probe is not None and not names:
        raise RequestError("the table has the numbers of one probe; a probe is chosen among several")
    if probe is not None and probe not in names:
        raise unknown_name("probe of the table", probe, names)
    kept = rows[of_probe == (probe or next(iter(of_probe), ""))]
    notes = []
    if len(names) > 1 and probe is None:
        notes.append(f"of several probes ({', '.join(names)}) r, ρ and A are those of {names[0]}")
    wide = kept.pivot_table(index=["run", "dataset"], columns="quantity", values="value", aggfunc="mean")
    return wide.reset_index().rename(columns=TARGETS | {"dataset": "ood"}), notes


def make_table(rows: Iterable[dict[str, Any]]) -> "pd.DataFrame":
    """Rows of the results table with the contract's columns and types; what is not finite is null."""
    import pandas as pd

    frame = pd.DataFrame(list(rows), columns=list(COLUMNS)).astype(COLUMNS)
    for name in ("value", "low", "high"):
        frame[name] = frame[name].where(frame[name].abs() < math.inf)
    return frame


def claim_folder(folder: str | Path) -> Path:
    """Make an output folder, or take one that is empty or holds an earlier scan.

    Raises:
        RequestError: it holds something else, or is a file.
        MachineError: it cannot be made, or nothing can be written in it.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise RequestError(f"--out {folder} is a file; name a folder")
    check_writable(folder)
    inside = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    others = [name for name in inside if name not in OURS and not name.endswith(PARTIAL)]
    if others and not (folder / "run.json").exists():
        raise RequestError(
            f"--out {folder} holds something else ({others[0]} …) and no scan; name an empty or new folder"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MachineError(f"cannot make the folder {folder}: {error.strerror or error}") from error
    return folder


def plain(value: Any) -> Any:
    """A value as JSON has it: plain numbers, tuples as lists, what is not finite as null."""
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if hasattr(value, "item") and not isinstance(value, (str, bytes)):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
