"""A short name for the state of files, without reading them."""

import hashlib
import os
from pathlib import Path

from tunnelscope.data.patterns import is_pattern, matching_files


def stamp_of(path: Path, chosen: str) -> str:
    """Return a name that changes when a file below `path` is added, removed, resized or written to.

    Args:
        path: a file, a folder, or a pattern of files.
        chosen: what else decides which rows are read, in words.
    """
    if path.is_dir():
        walked = os.walk(path, followlinks=True)  # class folders may be links
        files = sorted(Path(folder, name) for folder, _, names in walked for name in names)
    else:
        files = [path] if path.exists() or not is_pattern(str(path)) else matching_files(str(path))
    digest = hashlib.sha256(f"{path.resolve()} {chosen}".encode())
    for file in files:
        try:
            state = file.stat()
        except OSError:  # a link that leads nowhere, which reading will name if it is data
            continue
        digest.update(f"{file} {state.st_size} {state.st_mtime_ns}\n".encode())
    return digest.hexdigest()
