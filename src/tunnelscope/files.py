"""Files that are there whole or not at all."""

import os
from collections.abc import Callable
from pathlib import Path

PARTIAL = ".partial"  # how a file ends while it is written


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file beside its place and move it there, so that nobody ever reads half of it.

    Args:
        path: its place; a file there before is replaced.
        write: given the path to write to.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        write(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
