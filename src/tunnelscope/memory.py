"""How much memory there is, how much this process takes, and how sizes are written."""

import ctypes
import re
import resource
import sys
from contextlib import suppress
from pathlib import Path

from tunnelscope.errors import RequestError

UNITS = {"B": 1, "KB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40}


def read_size(text: str, what: str = "--memory") -> int:
    """Bytes of a size as it is written: 4GB, 500MB, 1.5 GB, or bytes without a unit.

    Raises:
        RequestError: it is none.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", text, re.IGNORECASE)
    if match is None:
        raise RequestError(f"{what} {text!r} is no size; write it as 4GB or 500MB")
    return int(float(match[1]) * UNITS[f"{match[2].upper()}B"])


def size(count: float) -> str:
    """Bytes as a person reads them: 1.2 GB."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TB"


def available() -> int | None:
    """Bytes that this process could still take: of the machine, or of its control group if that is less.

    None where the system does not tell.
    """
    free = _meminfo("MemAvailable")
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        try:
            left = int(Path(limit).read_text()) - int(Path(used).read_text())
        except (OSError, ValueError):
            continue
        free = left if free is None else min(free, left)
    return free


def resident() -> int:
    """Bytes that this process has in memory now; its peak where the system tells no more."""
    now = _status("VmRSS")
    return peak() if now is None else now


def forget_peak() -> None:
    """Count the peak from now on, where the system can (Linux)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """The most bytes that this process has had in memory, since `forget_peak` where the system can."""
    since = _status("VmHWM")
    if since is not None:
        return since
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def give_back() -> None:
    """Return to the system what the process has freed, where the C library can (glibc).

    Left to itself it keeps freed blocks for later ones, which fit them badly: a probe of many classes, freed,
    may leave the process five times as large as what it still holds.
    """
    with suppress(OSError, AttributeError, TypeError):  # TypeError: Windows
        ctypes.CDLL(None).malloc_trim(0)


def _status(field: str) -> int | None:
    return _kilobytes(Path("/proc/self/status"), field)


def _meminfo(field: str) -> int | None:
    return _kilobytes(Path("/proc/meminfo"), field)


def _kilobytes(path: Path, field: str) -> int | None:
    try:
        match = re.search(rf"^{field}:\s+(\d+) kB", path.read_text(), re.MULTILINE)
    except OSError:
        return None
    return 1024 * int(match[1]) if match else None
