"""The table of the study's networks: what the items read of each scan, kept beside the ledger.

A training and its scans take minutes, what an item reads of them is a few hundred numbers: with the table the
items are judged anew in seconds, and networks of a study that was cut short are not lost.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock
from numpy.typing import NDArray

from tunnelscope.errors import RequestError
from tunnelscope.files import write_whole
from tunnelscope.reproduce.lab import curve_of
from tunnelscope.reproduce.ledger import PACKAGED, results_path
from tunnelscope.results import Scan
from tunnelscope.store import key_of
from tunnelscope.studies.networks import Cell

NAME = "harun2024-networks.parquet"
CURVES = ("probe_accuracy", "best_test_accuracy")  # of each set, a value a layer
OF_SET = ("retained", "retained_matched")  # of each other set as a whole
OF_ID = ("numerical_rank", "within_variance", "between_variance")  # a value a layer
FACTS = ("network", "probe", "settings", "hardware", "own", "parameters", "images")
COLUMNS = (*FACTS, "dataset", "classes", "quantity", "values")
KEY_LENGTH = 16
Array = NDArray[np.floating]
Key = tuple[str, str, str]  # network, probe, settings


@dataclass(frozen=True, eq=False)
class Record:
    """What the items read of a network under one protocol.

    Attributes:
        network: its name in the study.
        probe: the protocol.
        settings: what its training and its scan were asked for; another text, another network.
        hardware: that it was trained and scanned on.
        own: the network's own accuracy on the ID set's test images.
        parameters: of the network.
        images: that it was trained on.
        classes: set → how many, the ID set first.
        values: (set, quantity) → a value a layer, (layers,), or of the set as a whole, (1,).
    """

    network: str
    probe: str
    settings: str
    hardware: str
    own: float
    parameters: int
    images: int
    classes: Mapping[str, int]
    values: Mapping[tuple[str, str], Array]

    @property
    def key(self) -> Key:
        """Network, probe and settings."""
        return self.network, self.probe, self.settings

    @property
    def id(self) -> str:
        """The set that the network was trained on."""
        return next(iter(self.classes))

    @property
    def ood(self) -> list[str]:
        """The other sets."""
        return list(self.classes)[1:]


Records = dict[Key, Record]


def key_of_record(cell: Cell, probe: str) -> Key:
    """What a network's record is found by: of other settings it is another network's."""
    return cell.name, probe, settings_of(cell, probe)


def settings_of(cell: Cell, probe: str) -> str:
    """What a network's training and scan are asked for, in short; where the data lie is not in it."""
    queries = [source.partition("?")[2] for source in (cell.source, *cell.ood.values())]
    asked = [cell.model, cell.levels, cell.id, list(cell.ood), queries]
    asked += [cell.training, cell.scan_settings(probe)]
    return key_of(*map(repr, asked))[:KEY_LENGTH]


def record_of(cell: Cell, probe: str, scan: Scan, images: int) -> Record:
    """Take from a scan what the items read."""
    own, *others = sorted(scan.run["data"], key=lambda entry: entry["role"] != "id")
    values = {
        (entry["key"], name): curve_of(scan, entry["key"], name)
        for entry in (own, *others)
        for name in CURVES
    }
    values |= {(own["key"], name): curve_of(scan, own["key"], name) for name in OF_ID}
    values |= {(entry["key"], name): of_set(scan, entry["key"], name) for entry in others for name in OF_SET}
    return Record(
        cell.name,
        probe,
        settings_of(cell, probe),
        hardware_of(scan),
        float(scan.run["network_accuracy"]["value"]),
        int(scan.run["model"]["parameters"]),
        images,
        {entry["key"]: int(entry["classes"]) for entry in (own, *others)},
        {name: curve for name, curve in values.items() if len(curve)},
    )


def hardware_of(scan: Scan) -> str:
    """The GPU, or the processor and how many threads were used."""
    told = scan.run["hardware"]
    return told["device"] if told["device"] != "cpu" else f"{told['cpu']}, {told['threads']} threads"


def of_set(scan: Scan, dataset: str, quantity: str) -> Array:
    """What a scan tells of a set as a whole, such as r: (1,), or (0,) where it does not tell it."""
    table: Any = scan.frame
    is_asked = (table["dataset"] == dataset) & (table["quantity"] == quantity) & table["layer"].isna()
    return table.loc[is_asked, "value"].to_numpy(float)[:1]


def known_records() -> Records:
    """The packaged table with the user's own over it. Raises RequestError: one is damaged."""
    return read_records(PACKAGED.with_name(NAME)) | read_records(table_path())


def table_path() -> Path:
    """Where the table is kept: beside the ledger's."""
    return results_path().with_name(NAME)


def read_records(path: Path) -> Records:
    """Read a table; none where there is no file. Raises RequestError: it is damaged."""
    if not path.exists():
        return {}
    try:
        frame: Any = pd.read_parquet(path)
        grouped: Any = frame.groupby(["network", "probe"], sort=False)
        return {record.key: record for record in (_record(rows) for _, rows in grouped)}
    except Exception as error:  # of a damaged file pyarrow may say anything
        raise RequestError(
            f"{path}, the table of the study's networks, cannot be read ({error}); remove it, and the items "
            "that need it train their networks"
        ) from error


def _record(rows: Any) -> Record:
    told = rows.iloc[0]
    names = zip(rows["dataset"], rows["quantity"], strict=True)
    return Record(
        told["network"],
        told["probe"],
        told["settings"],
        told["hardware"],
        float(told["own"]),
        int(told["parameters"]),
        int(told["images"]),
        dict(zip(rows["dataset"], rows["classes"].tolist(), strict=True)),
        dict(zip(names, map(np.asarray, rows["values"]), strict=True)),
    )


def put_records(records: Sequence[Record], path: Path) -> None:
    """Put networks into a table in the place of what stood there of them; several processes may do so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        new = {(record.network, record.probe) for record in records}
        found = {key: record for key, record in read_records(path).items() if key[:2] not in new}
        found |= {record.key: record for record in records}
        rows = [row for name in sorted(found) for row in _rows(found[name])]
        frame = pd.DataFrame(rows, columns=list(COLUMNS))
        write_whole(path, lambda partial: frame.to_parquet(partial, index=False, compression="zstd"))


def _rows(record: Record) -> list[tuple[Any, ...]]:
    facts = [getattr(record, name) for name in FACTS]
    by_set = sorted(record.values.items(), key=lambda item: list(record.classes).index(item[0][0]))
    return [
        (*facts, dataset, record.classes[dataset], quantity, values) for (dataset, quantity), values in by_set
    ]
