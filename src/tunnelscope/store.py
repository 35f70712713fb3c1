"""The store: features and what was measured on them, kept by fingerprint, so that nothing is done twice.

Every file has the key of what it holds for a name: a hash of the network, the data, the read point, the
pooling, the preprocessing and the precision (and, for what was measured, the protocol). Files appear whole
or not at all, so scans may share a store, and one that was killed leaves nothing that is ever read.
"""

import errno
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from tunnelscope.errors import MachineError
from tunnelscope.files import PARTIAL

FORMAT = 1  # of the files; part of every key
HEADER = 128  # bytes of a .npy header of two dimensions
STALE_AFTER = 24 * 3600.0  # seconds after which a partial file is nobody's any more
# Code that decides what is trained, and what a scan finds; with other code it is done again.
MODEL_CODE = ("models", "training", "data", "randomness", "pixels", "forward", "precision")
SCAN_CODE = (
    *("linalg", "probes", "metrics", "data", "models", "tunnel", "features", "forward", "folding"),
    *("precision", "recording", "layers", "blocks", "trace", "dataflow", "examining", "keeping", "outcome"),
    *("findings", "scanning", "summary", "rows", "other_data", "pixels", "randomness", "groups", "tasks"),
    "surgery",
)


def default_folder() -> Path:
    """`$TUNNELSCOPE_CACHE`, else `tunnelscope` in the user's cache folder."""
    named = os.environ.get("TUNNELSCOPE_CACHE")
    if named:
        return Path(named).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("tunnelscope", appauthor=False)


def key_of(*parts: Any) -> str:
    """The name of what these parts determine: 64 hexadecimal digits."""
    text = json.dumps([FORMAT, *parts], default=repr, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@lru_cache
def code_of(*places: str) -> str:
    """A hash of this package's own source in these modules and rooms: edited code computes anew."""
    root = Path(__file__).parent
    files = sorted(file for place in places for file in (root / place).rglob("*.py"))
    files += sorted(root / f"{place}.py" for place in places if (root / f"{place}.py").exists())
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Entry:
    """One thing in a store: `features` or `outcome`, its size, when it was last used, what it is of."""

    key: str
    kind: str
    path: Path
    bytes: int
    used: float  # seconds since the epoch
    about: dict[str, Any]


class Store:
    """Features and outcomes in a folder.

    Args:
        folder: is made when something is written.
    """

    def __init__(self, folder: str | Path | None = None):
        self.folder = Path(folder) if folder is not None else default_folder()

    def has_features(self, key: str) -> bool:
        """Whether the features of that name are here, whole."""
        path = self._features(key)
        try:
            return path.stat().st_size == HEADER + 4 * int(np.prod(_shape(path)))
        except (OSError, ValueError):
            return False

    def read_features(self, key: str) -> Tensor:
        """Read features into memory, (n, width) float32.

        Raises:
            MachineError: they are not here, or cannot be read.
        """
        path = self._features(key)
        try:
            with suppress(OSError):
                os.utime(path)
            return torch.from_numpy(np.fromfile(path, dtype=np.float32, offset=HEADER).reshape(_shape(path)))
        except (OSError, ValueError) as error:
            raise MachineError(
                f"features in {self.folder} are gone or damaged ({error}); run the same command again"
            ) from error

    def feature_writer(self, width: int) -> "FeatureWriter":
        """A file to write features to, which becomes an entry when it is committed."""
        return FeatureWriter(self, width)

    def read_note(self, name: str) -> Any:
        """A small JSON value kept under a name; None where there is none."""
        try:
            return json.loads((self.folder / "notes" / f"{name}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def write_note(self, name: str, value: Any) -> None:
        """Keep a small JSON value under a name."""
        target = self.folder / "notes" / f"{name}.json"
        with _writing(self.folder):
            partial = _partial(target)
            partial.write_text(json.dumps(value), encoding="utf-8")
            os.replace(partial, target)

    def outcome(self, key: str) -> Path | None:
        """The folder of an outcome, None where there is none."""
        path = self.folder / "outcomes" / key[:2] / key
        if not path.is_dir():
            return None
        with suppress(OSError):
            os.utime(path)
        return path

    def write_outcome(self, key: str, write: Callable[[Path], None], about: Mapping[str, Any]) -> None:
        """Keep an outcome: `write` fills a folder, which appears under its key when it is whole."""
        target = self.folder / "outcomes" / key[:2] / key
        with _writing(self.folder):
            partial = _partial(target)
            try:
                partial.mkdir()
                write(partial)
                _write_about(partial / "about.json", about)
                shutil.rmtree(target, ignore_errors=True)  # damaged, or another scan's, which is equal
                partial.rename(target)
            except OSError:
                if not target.is_dir():  # else another scan was faster
                    raise
            finally:
                shutil.rmtree(partial, ignore_errors=True)

    def entries(self) -> list[Entry]:
        """What is in the store, the longest unused first."""
        found = list(self._feature_entries())
        found += [
            _entry("outcome", path, sum(file.stat().st_size for file in path.iterdir()))
            for path in self.folder.glob("outcomes/??/*")
            if path.is_dir() and not path.name.endswith(PARTIAL)
        ]
        return sorted(found, key=lambda entry: entry.used)

    def free(self, entries: list[Entry]) -> int:
        """Delete entries, and partial files that nobody writes any more; returns the bytes freed."""
        for entry in entries:
            if entry.kind == "outcome":
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                entry.path.unlink(missing_ok=True)
                _about(entry.path).unlink(missing_ok=True)
        return sum(entry.bytes for entry in entries) + self._sweep()

    def _sweep(self) -> int:
        freed = 0
        for path in self.folder.rglob(f"*{PARTIAL}"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > STALE_AFTER:
                    freed += path.stat().st_size if path.is_file() else 0
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
        return freed

    def _feature_entries(self) -> Iterator[Entry]:
        for path in self.folder.glob("features/??/*.npy"):
            yield _entry("features", path, path.stat().st_size)

    def _features(self, key: str) -> Path:
        return self.folder / "features" / key[:2] / f"{key}.npy"


class FeatureWriter:
    """One layer's features on their way into a store, written as they come, in any order of rows."""

    def __init__(self, store: Store, width: int):
        self.store, self.width = store, width
        with _writing(store.folder):
            self.partial = _partial(store.folder / "features" / "rows")
            self.file = open(self.partial, "wb", buffering=0)  # noqa: SIM115 (closed by commit or discard)

    def write(self, rows: slice | Tensor, values: Tensor) -> None:
        """Write features (b, width) of these rows: a range, or their numbers (b,)."""
        numbers = values.detach().contiguous().numpy().astype("<f4", copy=False)
        with _writing(self.store.folder):
            if isinstance(rows, slice):
                self._at(rows.start, numbers)
            else:
                for row, one in zip(rows.tolist(), numbers, strict=True):
                    self._at(row, one)

    def commit(self, key: str, rows: int, about: Mapping[str, Any]) -> None:
        """Make the file an entry of the store, cut to that many rows."""
        target = self.store._features(key)
        with _writing(self.store.folder):
            self.file.truncate(HEADER + 4 * rows * self.width)
            self.file.seek(0)
            header = {"descr": "<f4", "fortran_order": False, "shape": (rows, self.width)}
            np.lib.format.write_array_header_1_0(self.file, header)
            self.file.close()
            target.parent.mkdir(parents=True, exist_ok=True)
            _write_about(_about(target), about)
            os.replace(self.partial, target)

    def discard(self) -> None:
        """Leave nothing behind; after `commit` there is nothing to do."""
        self.file.close()
        self.partial.unlink(missing_ok=True)

    def _at(self, row: int, numbers: np.ndarray) -> None:
        view = memoryview(numbers.tobytes())
        offset = HEADER + 4 * row * self.width
        while len(view):
            written = os.pwrite(self.file.fileno(), view, offset)
            view, offset = view[written:], offset + written

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()


class _writing:
    """Say in one line that the disk is full, or that the store may not be written to."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            if error.errno == errno.EMFILE:
                raise MachineError(
                    "too many files are open at once, one a layer; read fewer --layers, or raise the limit "
                    "of open files (ulimit -n)"
                ) from error
            raise MachineError(
                f"cannot write to the cache {self.folder}: {error.strerror or error}; free some with "
                "`tunnelscope cache --free`, name another in $TUNNELSCOPE_CACHE, or give --no-cache"
            ) from error


def _partial(target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    return target.with_name(f".{target.name}.{uuid.uuid4().hex}{PARTIAL}")


def _shape(path: Path) -> tuple[int, int]:
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        if len(shape) != 2 or fortran or dtype != np.dtype("<f4") or file.tell() != HEADER:
            raise ValueError(f"{path.name} is no features file")
    return shape


def _about(path: Path) -> Path:
    return path.with_suffix(".json")


def _write_about(path: Path, about: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(dict(about), ensure_ascii=False), encoding="utf-8")


def _entry(kind: str, path: Path, size: int) -> Entry:
    about = path / "about.json" if kind == "outcome" else _about(path)
    told: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        told = json.loads(about.read_text(encoding="utf-8"))
    return Entry(path.stem, kind, path, size, path.stat().st_mtime, told)
