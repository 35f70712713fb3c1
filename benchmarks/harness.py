"""How a benchmark is timed and told: sides in turn within one run, ratios of medians, a row each."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch


@dataclass(frozen=True)
class Timing:
    """Wall seconds of each round, by side; what each side gave back the last time."""

    seconds: Mapping[str, list[float]]
    results: Mapping[str, Any]

    def median(self, side: str) -> float:
        """Median seconds of a side."""
        return statistics.median(self.seconds[side])

    def ratio(self, above: str, below: str) -> float:
        """Median seconds of one side over the other's."""
        return self.median(above) / self.median(below)

    def spread(self, above: str, below: str) -> tuple[float, float]:
        """The least and the greatest ratio of one round."""
        rounds = zip(self.seconds[above], self.seconds[below], strict=True)
        ratios = [one / other for one, other in rounds]
        return min(ratios), max(ratios)


@dataclass(frozen=True)
class Row:
    """One figure beside its bar.

    Attributes:
        what: what is measured, on which data and sizes.
        value: the figure, to be compared with the bar.
        bar: what it has to reach, None where it is given for information.
        sense: whether the value must be at least or at most the bar.
        accuracy: what the sides reach, in words; speed without it says nothing.
        spread: least and greatest value of one round.
        seconds: median of each side.
        rounds: how often each side ran.
        note: what else a reader must know.
    """

    what: str
    value: float
    bar: float | None = None
    sense: Literal[">=", "<="] = ">="
    accuracy: str = ""
    spread: tuple[float, float] | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    rounds: int = 1
    note: str = ""

    @property
    def holds(self) -> bool | None:
        """Whether the bar is reached; None without one."""
        if self.bar is None:
            return None
        return self.value >= self.bar if self.sense == ">=" else self.value <= self.bar

    def as_dict(self) -> dict[str, Any]:
        """The row as results.json holds it."""
        return asdict(self) | {"holds": self.holds}


def in_turn(sides: Mapping[str, Callable[[], Any]], *, most: int = 5) -> Timing:
    """Run the sides in turn: 5 rounds where the slowest takes under 10 s, 3 under 60 s, else 1.

    A first call of each side outside the count warms caches, where it is short.

    Args:
        sides: what to call, by name.
        most: rounds at most.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    results: dict[str, Any] = {}

    def one_round() -> float:
        for name, side in sides.items():
            start = time.perf_counter()
            results[name] = side()
            seconds[name].append(time.perf_counter() - start)
        return max(times[-1] for times in seconds.values())

    slowest = one_round()
    if slowest < 10:  # that was the warm-up
        for times in seconds.values():
            times.clear()
        slowest = one_round()
    rounds = min(most, 5 if slowest < 10 else 3 if slowest < 60 else 1)
    for _ in range(rounds - 1):
        one_round()
    return Timing(seconds, results)


def ratio_row(
    what: str, timing: Timing, above: str, below: str, bar: float | None = None, **others: Any
) -> Row:
    """The row of a ratio of two sides' medians."""
    return Row(
        what,
        timing.ratio(above, below),
        bar,
        spread=timing.spread(above, below),
        seconds={name: timing.median(name) for name in timing.seconds},
        rounds=len(timing.seconds[above]),
        **others,
    )


def data_folder() -> Path:
    """Where the real data lie ($TUNNELSCOPE_DATA, else ../shared/data)."""
    return Path(os.environ.get("TUNNELSCOPE_DATA", Path(__file__).parents[2] / "shared" / "data"))


def precisions() -> tuple[str, ...]:
    """What this machine computes networks in: bfloat16 emulated would measure the emulation."""
    from tunnelscope.precision import has_bf16

    return ("f32", "bf16") if has_bf16(torch.device("cpu")) else ("f32",)


def hardware() -> dict[str, Any]:
    """What the figures were measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    cpu = names[0] if names else platform.processor() or platform.machine()
    return {
        "cpu": cpu if "bf16" in precisions() else f"{cpu}, no bfloat16",
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
