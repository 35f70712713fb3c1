"""Files that are there whole or not at all, and places that are seen to be writable before long work."""

import json
import os
import re
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tunnelscope.errors import MachineError, RequestError

PARTIAL = ".partial"  # how a file ends while it is written


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file beside its place and move it there, so that nobody ever reads half of it.

    The folders above it are made.

    Args:
        path: the file; one there before is replaced.
        write: called with the path to write to.

    Raises:
        RequestError: the path is a folder, or leads through a file.
        MachineError: the disk is full or may not be written to; nothing of the file is left.
    """
    if path.is_dir():
        raise RequestError(f"{path} is a folder; name a file")
    partial = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.touch()
        mode = partial.stat().st_mode  # what the umask gives; safetensors would let the owner alone read
        write(partial)
        partial.chmod(mode)
        os.replace(partial, path)
    except (FileExistsError, NotADirectoryError) as error:  # a file stands where a folder should
        raise RequestError(f"cannot write {path}: {error.strerror}; name another place") from error
    except Exception as error:
        reason = _reason(error)
        if reason is None:
            raise
        raise MachineError(
            f"cannot write {path}: {reason}; make room or name another place, and run it again"
        ) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def write_json(path: Path, told: object) -> None:
    """Write an object as JSON that people read too, whole or not at all; what is not finite is refused."""
    text = json.dumps(told, indent=1, ensure_ascii=False, allow_nan=False)
    write_whole(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def check_writable(folder: Path) -> None:
    """Make a file in a folder and take it away again; where the folder is still to be made, in its parent.

    Raises:
        RequestError: a file stands where a folder should.
        MachineError: nothing can be written there.
    """
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise RequestError(f"cannot write to {folder}: {there} is a file; name another place")
    try:
        with tempfile.NamedTemporaryFile(dir=there, prefix=".", suffix=PARTIAL):
            pass
    except OSError as error:
        raise MachineError(
            f"cannot write to {there}: {error.strerror or error}; name another place"
        ) from error


def _reason(error: Exception) -> str | None:
    """What the system said when a write failed, None for any other error."""
    from safetensors import SafetensorError

    if isinstance(error, OSError):
        return os.strerror(error.errno) if error.errno else str(error)  # pyarrow adds words of its own
    if isinstance(error, SafetensorError):  # hands on the system's error as text
        said = re.search(r"I/O error: (.*?)(?: \(os error|$)", str(error))
        return said[1] if said else None
    return None
