"""Several files by one pattern: `shards-{000..003}.tar`, `train-*.tar`, `{a,b}.parquet`."""

import re
from glob import glob, has_magic
from pathlib import Path

from tunnelscope.errors import RequestError

MOST_FILES = 100_000
_BRACES = re.compile(r"\{([^{}]*)\}")


def is_pattern(location: str) -> bool:
    """Whether a path stands for several (a `?` begins a query, so it is none of the signs)."""
    return bool(_BRACES.search(location)) or has_magic(location.replace("?", ""))


def matching_files(location: str) -> list[Path]:
    """Return the files that a pattern means, each once; each path that braces spell out must be there.

    Raises:
        RequestError: no such file, or a range of more than 100,000.
    """
    files: list[Path] = []
    for path in _expand(str(Path(location).expanduser()), location):
        found = sorted(glob(path, recursive=True)) if has_magic(path) else [path]
        if not found or not Path(found[0]).is_file():
            spelt = "" if path == location else f", which is part of {location}"
            raise RequestError(f"no file {path}{spelt}; check the pattern against the folder's names")
        files += [Path(name) for name in found if Path(name).is_file()]
    return list(dict.fromkeys(files))  # nested braces spell some paths out twice


def _expand(text: str, location: str) -> list[str]:
    paths = [text]
    while any(_BRACES.search(path) for path in paths):
        paths = [expanded for path in paths for expanded in _expand_first(path, location)]
        if len(paths) > MOST_FILES:
            raise _too_many(location)
    return paths


def _expand_first(path: str, location: str) -> list[str]:
    braces = _BRACES.search(path)
    if braces is None:
        return [path]
    span = re.fullmatch(r"(\d{1,18})\.\.(\d{1,18})", braces[1])
    if span is None:
        inside = braces[1].split(",")
    else:
        first, last, width = int(span[1]), int(span[2]), len(span[1])
        if first > last:
            raise RequestError(
                f"the range {braces[0]} in {location} runs backwards; write {{{last}..{first}}}"
            )
        if last - first >= MOST_FILES:
            raise _too_many(location)
        inside = [f"{number:0{width}}" for number in range(first, last + 1)]
    return [path[: braces.start()] + part + path[braces.end() :] for part in inside]


def _too_many(location: str) -> RequestError:
    return RequestError(f"{location} stands for more than {MOST_FILES:,} files; give the folder instead")
