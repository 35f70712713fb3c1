"""`ts.Watch`: the tunnel as it forms, seen from inside anyone's own training loop."""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from tunnelscope.data import DataSet, image_shape
from tunnelscope.data.assemble import fewer_rows
from tunnelscope.errors import RequestError
from tunnelscope.folding import sharing_copy
from tunnelscope.models import load_network
from tunnelscope.models.load import unwrapped
from tunnelscope.over_training import OverTraining, together
from tunnelscope.pixels import decoded
from tunnelscope.results import Scan
from tunnelscope.scanning import load_sets, scan

ANCHORS = 2000
TEST_SHARE = 0.25  # of the anchors, to read accuracies on
FALLEN = 0.5  # of the rank at the tunnel's start that the last layer has at most, for a warning


@dataclass(frozen=True, eq=False)
class Reading:
    """What one look at the network showed.

    Attributes:
        step: of the caller's count.
        scan: of the anchors.
        seconds: that the look took.
        line: in words.
        warning: that a tunnel has formed, in words; empty where none has.
    """

    step: int
    scan: Scan
    seconds: float
    line: str
    warning: str


class Watch:
    """Looks at a network during its training and says where its tunnel starts now.

    A few anchor images go through a copy of the network, its layers are probed by ridge regression; network,
    gradients and random generators of the training are left as they are. Forward hooks stay with the network:
    the copy has none.

    Attributes:
        readings: of every look so far.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Any,
        *,
        ood: Any = (),
        every: int = 1,
        anchors: int = ANCHORS,
        layers: str | Sequence[str] = "blocks",
        pool: str = "auto",
        device: str = "auto",
        precision: str = "auto",
        seed: int = 0,
        announce: Callable[[str], None] | None = print,
    ):
        """Choose the anchors and hold them in memory.

        Args:
            model: the network that is trained, also inside DataParallel or torch.compile.
            data: what it is trained on, as `ts.scan` takes it: images (the network's own preprocessing, set
                as its attributes, is applied) or ready inputs, float tensors.
            ood: other data: one set, a list, or {name: set}.
            every: calls from one look to the next.
            anchors: images of each set: three quarters of the training split, to fit the probes, one quarter
                of the test split, to score them.
            layers: as for `ts.scan`; so are `pool`, `device` and `seed`.
            precision: as for `ts.scan`, but by default bf16 where the processor has it and it is near enough.
            announce: takes the line of each look and its warnings; None is silent.

        Raises:
            RequestError: as in `ts.scan`, or `every` or `anchors` is too small.
        """
        if every < 1 or anchors < 8:
            raise RequestError(f"every must be 1 or more and anchors 8 or more, got {every} and {anchors}")
        self.model, self.every, self.announce = model, every, announce or (lambda line: None)
        self.settings: dict[str, Any] = {"layers": layers, "pool": pool, "seed": seed}
        self.settings |= {"device": device, "precision": precision}
        self.readings: list[Reading] = []
        self._calls, self._warned = 0, False
        sets = [few(dataset, anchors, seed) for dataset in load_sets(data, ood, seed=seed, announce=None)]
        network = load_network(model, image_shape=image_shape(sets[0].train))
        self.sets = [decoded(one, network.preprocessing, 0, lambda stage, done, total: None) for one in sets]

    def __call__(self, step: int | None = None) -> Reading | None:
        """Look at the network if it is time to.

        Args:
            step: what this point of the training is called; by default the number of calls.

        Returns:
            The reading; None between looks.
        """
        self._calls += 1
        if (self._calls - 1) % self.every:
            return None
        return self.look(self._calls if step is None else step)

    def look(self, step: int) -> Reading:
        """Look at the network now."""
        started = time.perf_counter()
        model, (first, *others) = _without_hooks(self.model), self.sets
        found = scan(model, id=first, ood=others, probe="ridge", cache=False, **self.settings)
        found = replace(found, probes={})  # of every look they would fill the memory
        reading = Reading(step, found, time.perf_counter() - started, line_of(step, found), warning_of(found))
        self.readings.append(reading)
        self.announce(reading.line)
        if reading.warning and not self._warned:
            self.announce(f"warning: {reading.warning}")
        self._warned = bool(reading.warning)
        return reading

    def history(self) -> OverTraining:
        """All looks as one results table and one report, as `ts.scan_checkpoints` gives them.

        Raises:
            RequestError: there was none yet.
        """
        if not self.readings:
            raise RequestError("nothing was looked at yet; call the watch in the training loop")
        scans = {reading.step: reading.scan for reading in self.readings}
        return together(dict(sorted(scans.items())), [], "ts.Watch")

    def save(self, folder: str | Path) -> Path:
        """Write results.parquet, run.json and report.html into a folder."""
        history = self.history()
        history.save(folder)
        history.report(Path(folder) / "report.html")
        return Path(folder)


def _without_hooks(model: nn.Module) -> nn.Module:
    """A copy that shares its tensors and tells the caller's forward hooks nothing."""
    copied = sharing_copy(unwrapped(model))
    for child in copied.modules():
        child._forward_hooks = OrderedDict()
    return copied


def few(dataset: DataSet, anchors: int, seed: int) -> DataSet:
    """Return a set with that many anchors, balanced by class: three quarters training rows."""
    test = max(2, round(TEST_SHARE * anchors))
    return replace(fewer_rows(dataset, anchors - test, seed), test=fewer_rows(dataset, test, seed).test)


def line_of(step: int, found: Scan) -> str:
    """Say in one line where the tunnel starts and how the last layer does on each set."""
    start, layers = found.tunnel["start_95"], found.run["layers"]
    index = {layer["name"]: layer["index"] for layer in layers}
    where = f"tunnel after {start} ({index[start]} of {len(layers)})" if start else "no tunnel start"
    sets = [
        f"{entry['key']} {scores_of(found, entry['key'])[-1]:.3f}"
        + (f" (best {max(scores_of(found, entry['key'])):.3f})" if entry["role"] == "ood" else "")
        for entry in found.run["data"]
    ]
    return f"step {step}: {where}; last layer: {', '.join(sets)}"


def scores_of(found: Scan, key: str) -> list[float]:
    """Probe accuracies of the layers on a set, in forward order."""
    return layer_values(found, "probe_accuracy", key)


def layer_values(found: Scan, quantity: str, key: str) -> list[float]:
    """A quantity of the layers on a set, in forward order."""
    table = found.frame
    rows = table.loc[(table["quantity"] == quantity) & (table["dataset"] == key) & (table["layer_index"] > 0)]
    return [float(value) for value in rows.sort_values("layer_index")["value"]]


def warning_of(found: Scan) -> str:
    """Say that layers add no ID accuracy while their rank and other data's accuracy fall; else nothing.

    The rank at the end is at most half of that at the tunnel's start, and on some OOD set all of r's interval
    lies below 1.
    """
    start, layers = found.tunnel["start_95"], found.run["layers"]
    if start is None or start == layers[-1]["name"]:
        return ""
    position = [layer["name"] for layer in layers].index(start)
    ranks = layer_values(found, "numerical_rank", found.run["data"][0]["key"])
    lost = {
        key: entry["retained"]
        for key, entry in found.tunnel["ood"].items()
        if entry["retained"]["high"] is not None and entry["retained"]["high"] < 1
    }
    if not lost or ranks[-1] > FALLEN * ranks[position]:
        return ""
    worst = min(lost, key=lambda key: lost[key]["value"])
    return (
        f"the {len(layers) - 1 - position} layers after {start} add no ID accuracy; the rank falls there "
        f"from {ranks[position]:.0f} to {ranks[-1]:.0f}, and {worst} keeps {lost[worst]['value']:.0%} of its "
        "best layer's accuracy"
    )
