"""The ledger: every figure and table of both papers, what was published, what came out here, the verdict."""

import csv
import io
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from filelock import FileLock

from tunnelscope.errors import RequestError
from tunnelscope.files import write_whole
from tunnelscope.reproduce.verdicts import VERDICTS, WAITS

VERSION = 1  # of the table; its first line says it
FULL_ROWS = 50_000  # training images of CIFAR-10; with fewer the paper's recipe is "paper-20k"
PACKAGED = Path(__file__).with_name("results.csv")
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Row:
    """One claim under one reading.

    Attributes:
        item: a figure or table, such as "masarczyk2023/fig2".
        claim: in words, with the number it has in our list in front.
        published: the paper's value, what is told of it ("second-hand") or a replication's ("repl."), or
            "unknown".
        ours: the statistic, a mean over seeds.
        low, high: its 95 % interval over seeds, from these or from a pooled spread; None without either.
        test: what the statistic has to be for the claim to hold.
        reading: how it was measured.
        scale: smoke, small, paper or paper-20k; empty while it waits.
        verdict: agrees, disagrees, not comparable or waits.
        sure: whether the whole interval is on the verdict's side; None without an interval.
        seeds: of the networks' trainings.
        hardware, date, command: where, when and by what.
        note: what was changed against the paper, or why nothing can be compared.
    """

    item: str
    claim: str
    published: str = UNKNOWN
    ours: float | None = None
    low: float | None = None
    high: float | None = None
    test: str = ""
    reading: str = ""
    scale: str = ""
    verdict: str = WAITS
    sure: bool | None = None
    seeds: str = ""
    hardware: str = ""
    date: str = ""
    command: str = ""
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


COLUMNS = tuple(field.name for field in fields(Row))
_NUMBERS = ("ours", "low", "high")


def read_rows(path: Path) -> list[Row]:
    """Read a results table; none where there is no file.

    Raises:
        RequestError: it is of another version, or damaged.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise RequestError(f"the results table {path} cannot be read ({error})") from error
    head, _, body = text.partition("\n")
    if head != _first_line():
        raise RequestError(
            f"{path} is a results table of another version ({head[:60]!r}, this tunnelscope reads "
            f"{_first_line()!r}); move it away and reproduce the items again"
        )
    reader = csv.DictReader(io.StringIO(body))
    if tuple(reader.fieldnames or ()) != COLUMNS:
        raise RequestError(f"{path} has other columns than a results table: {reader.fieldnames}")
    return [_row(one, path) for one in reader]


def write_rows(rows: Iterable[Row], path: Path) -> None:
    """Write a results table, whole or not at all."""
    text = io.StringIO()
    text.write(_first_line() + "\n")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        told = row.as_dict()
        writer.writerow({key: _cell(value) for key, value in told.items()})
    write_whole(path, lambda place: place.write_text(text.getvalue(), encoding="utf-8"))


def put(rows: Sequence[Row], path: Path, order: Sequence[str]) -> None:
    """Put the rows of an item at a scale into a table in the place of those that stood there.

    Args:
        rows: of one item and scale.
        path: of the table; several processes may write to it.
        order: of items in the table.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = {(row.item, row.scale) for row in rows}
    place = {item: number for number, item in enumerate(order)}
    with FileLock(f"{path}.lock"):
        kept = [row for row in read_rows(path) if (row.item, row.scale) not in new]
        both = sorted([*kept, *rows], key=lambda row: (place.get(row.item, len(place)), row.scale))
        write_rows(both, path)


def results_path() -> Path:
    """Where results are kept: in the package, or in the user's cache where the package cannot be written."""
    from tunnelscope.store import default_folder

    if _is_writable(PACKAGED):
        return PACKAGED
    return default_folder() / "reproduce" / PACKAGED.name


def known_rows() -> list[Row]:
    """The packaged results with the user's own over them."""
    own = read_rows(results_path())
    if results_path() == PACKAGED:
        return own
    replaced = {(row.item, row.scale) for row in own}
    return [row for row in read_rows(PACKAGED) if (row.item, row.scale) not in replaced] + own


def ledger_rows() -> list[Row]:
    """Every item of both papers in order: what came out at each scale, or that it waits."""
    from tunnelscope.reproduce.items import ITEMS

    by_item: dict[str, list[Row]] = {}
    for row in known_rows():
        by_item.setdefault(row.item, []).append(row)
    waiting = {name: [Row(name, item.claim or item.title)] for name, item in ITEMS.items()}
    return [row for name in ITEMS for row in by_item.get(name, waiting[name])]


def _is_writable(path: Path) -> bool:
    return os.access(path if path.exists() else path.parent, os.W_OK)


def _first_line() -> str:
    return f"# tunnelscope reproduce, results table {VERSION}"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)


def _row(told: dict[str, str], path: Path) -> Row:
    try:
        numbers = {name: float(told[name]) if told[name] else None for name in _NUMBERS}
        if any(value is not None and not math.isfinite(value) for value in numbers.values()):
            raise ValueError("a number that is not finite")
        sure = {"": None, "True": True, "False": False}[told["sure"]]
        if told["verdict"] not in VERDICTS:
            raise ValueError(f"verdict {told['verdict']!r}")
        return Row(**{**told, **numbers, "sure": sure})  # pyright: ignore[reportArgumentType]
    except (KeyError, ValueError, TypeError) as error:
        raise RequestError(f"the results table {path} is damaged: {error} in {dict(told)!r:.200}") from error
