"""What a scan will take, before it does it: rows, widths, memory, disk and time, sized by one batch."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import torch

from tunnelscope.data import DataSet
from tunnelscope.data.duplicates import IMAGE_BYTES
from tunnelscope.errors import MachineError
from tunnelscope.findings import Settings
from tunnelscope.memory import available, forget_peak, peak, resident, size
from tunnelscope.metrics.costs import cka_bytes, cka_work, metrics_bytes, metrics_work
from tunnelscope.probes import protocol_name
from tunnelscope.probes.costs import fit_bytes, fit_work
from tunnelscope.probes.protocols import RECIPES
from tunnelscope.probes.recipes import stacks
from tunnelscope.recording import Recorder
from tunnelscope.tasks import REGRESSION

FLOAT = 4  # bytes of a feature
REPORT = 140 * 2**20  # what drawing the report takes
KEPT = 1.25  # of several sets: the allocator keeps a part of what the one before took
MEASURED_BATCHES, MEASURED_SECONDS = 8, 0.4  # of the pass, to take its time from, whichever is less


@dataclass(frozen=True)
class Plan:
    """What a scan takes; bytes and seconds, without what the cache has already.

    Attributes:
        sets: key → (training rows, test rows, classes).
        widths: layer → features.
        base: memory of the process before the work, and what is held to the end: fitted probes.
        recording, probing, comparing: memory on top of it in each stage; `report` likewise.
        disk: of features written to the cache.
        seconds: about, on this machine.
        batch_size: inputs in one pass.
        cka_rows: test rows that CKA is read on at most.
        in_memory: whether features stay in memory (no cache, and they fit).
        control: whether the network is scanned untrained too. It comes second, when the first one's
            features are freed: memory grows by its weights and probes, disk and time are for both.
        stacking: memory of the layers that a paper's recipe trains side by side; 0: one after another.
        prints: memory of what tells images that come twice, held throughout a set; of the first set's
            training images to the end.
    """

    sets: dict[str, tuple[int, int, int]]
    widths: dict[str, int]
    base: int
    recording: int
    probing: int
    comparing: int
    disk: int
    seconds: float
    batch_size: int
    cka_rows: int
    in_memory: bool = False
    control: bool = False
    report: int = REPORT
    stacking: int = 0
    prints: int = 0

    @property
    def held(self) -> int:
        """Bytes of features held in memory throughout a set."""
        return max(self.set_bytes.values()) if self.in_memory else 0

    @property
    def set_bytes(self) -> dict[str, int]:
        """Bytes of all layers' features of each set."""
        width = sum(self.widths.values())
        return {key: FLOAT * (train + test) * width for key, (train, test, _) in self.sets.items()}

    @property
    def memory(self) -> int:
        """The most memory that the process is expected to take."""
        stages = (self.recording, self.probing + self.stacking, self.comparing)
        return self.base + max(self.held + self.prints + int(self.kept * max(stages)), self.report)

    @property
    def kept(self) -> float:
        """Factor on every stage for what the allocator keeps from set to set."""
        return KEPT if len(self.sets) > 1 else 1.0

    @property
    def least(self) -> int:
        """The least memory that would do: one input at a time, one layer at a time."""
        stages = (self.recording // self.batch_size, self.probing)
        return self.base + max(self.prints + int(self.kept * max(stages)), self.report)

    def as_dict(self) -> dict[str, Any]:
        """The plan as the JSON object has it; sizes in bytes."""
        rows = sum(train + test for train, test, _ in self.sets.values())
        return {
            "rows": rows,
            "sets": {key: {"train": one[0], "test": one[1]} for key, one in self.sets.items()},
            "layers": [
                {"name": name, "width": width, "bytes": FLOAT * rows * width}
                for name, width in self.widths.items()
            ],
            "memory": self.memory,
            "least_memory": self.least,
            "disk": self.disk,
            "seconds": round(self.seconds, 1),
            "batch_size": self.batch_size,
            "cka_rows": self.cka_rows,
            "control": self.control,
        }

    def describe(self) -> str:
        """The plan in one line."""
        rows = sum(train + test for train, test, _ in self.sets.values())
        kept = f"{size(self.disk)} of features in the cache" if self.disk else "features in memory"
        layers = f"{len(self.widths)} layers{' × 2 networks' if self.control else ''}"
        minutes = self.seconds / 60
        span = f"{minutes:.0f} min" if minutes >= 2 else f"{self.seconds:.0f} s"
        return (
            f"plan: {rows:,} rows × {layers}, {kept}, {size(self.memory)} of memory, "
            f"about {span} (less what was done before)"
        )


def make_plan(
    recorder: Recorder,
    sources: Sequence[DataSet],
    settings: Settings,
    *,
    cached: bool,
    report: bool,
    control: bool = False,
) -> Plan:
    """Size a scan by sending a few batches through the network.

    Args:
        cached: features go to the store.
        report: a report is drawn at the end.
        control: the same network is scanned untrained too; it is in memory already.
    """
    base = resident()
    per_row, workspace = _few_batches(recorder, sources[0])
    sets = {one.key: (len(one.train), len(one.test), len(one.class_names)) for one in sources}
    widths = {point.name: recorder.poolings[point.name].width for point in recorder.points}
    every = list(widths.values())
    networks = 2 if control else 1
    rows = sum(train + test for train, test, _ in sets.values())
    most_test = max(test for _, test, _ in sets.values())
    kinds = {one.key: _kind(settings.protocol, one.task) for one in sources}
    numbers = sum(train if kinds[key] == "knn" else classes for key, (train, _, classes) in sets.items())
    probes = FLOAT * networks * settings.seeds * numbers * sum(every)
    plan = Plan(
        sets=sets,
        widths=widths,
        base=max(base, resident()) + probes,
        recording=workspace,
        probing=max(
            probing_bytes(*one[:2], width, one[2], kinds[key]) for key, one in sets.items() for width in every
        ),
        comparing=cka_bytes(most_test, every),
        disk=FLOAT * networks * rows * sum(every) if cached else 0,
        seconds=networks * per_row * rows + _work(sets, every, settings.seeds, networks) / speed(),
        batch_size=recorder.batch_size,
        cka_rows=most_test,
        control=control,
        report=REPORT if report else 0,
        stacking=max(stacked_bytes(*one, widths, settings.protocol, stored=cached) for one in sets.values()),
        prints=IMAGE_BYTES * _most_prints(list(sets.values())),
    )
    return plan if cached else replace(plan, in_memory=True)


def _most_prints(sets: list[tuple[int, int, int]]) -> int:
    """Images whose prints are held at once, at most: of a set, beside it of the first one's training part."""
    (own, own_test, _), *others = sets
    return own + max([own_test, *(train + test for train, test, _ in others)])


def fit_to(plan: Plan, budget: int | None) -> Plan:
    """Make a plan fit into memory: smaller batches, fewer rows for CKA, features on the disk.

    Args:
        budget: bytes; None takes what the machine has.

    Raises:
        MachineError: the least that would do is more; it is named.
    """
    limit = budget
    if limit is None:
        free = available()
        limit = None if free is None else plan.base + free
    if limit is None:
        return plan
    if plan.least > limit:
        widest = max(plan.widths, key=plan.widths.__getitem__)
        raise MachineError(
            f"this scan needs {size(plan.least)} of memory at least, {size(limit)} is there"
            f"{' (--memory)' if budget else ''}: {size(plan.base)} for libraries and network, the rest for "
            f"a layer's features and probe ({widest} has {plan.widths[widest]:,} features); give more, fewer "
            "rows (--max-samples), or a smaller pooling (--pool avg)"
        )
    if plan.memory > limit:
        plan = replace(plan, stacking=0)
    if plan.memory > limit and plan.in_memory:
        plan = replace(plan, in_memory=False)
    while plan.memory > limit and plan.base + plan.kept * plan.recording > limit and plan.batch_size > 1:
        plan = replace(plan, batch_size=plan.batch_size // 2, recording=plan.recording // 2)
    if plan.base + plan.kept * plan.comparing > limit:
        share = (limit - plan.base) / (plan.kept * plan.comparing)
        rows = max(4, int(plan.cka_rows * share))
        plan = replace(plan, cka_rows=rows, comparing=cka_bytes(rows, list(plan.widths.values())))
    return plan


def _kind(protocol: str, task: str) -> str:
    """Which kind of probe `fit_bytes` is to count on."""
    return "regression" if task == REGRESSION else protocol_name(protocol).split("/")[0]


def probing_bytes(train: int, test: int, width: int, classes: int, kind: str = "exact") -> int:
    """Memory that probing and measuring one layer takes at its peak, its features included.

    Compared with what is measured by `python -m benchmarks --only memory`.
    """
    features = FLOAT * width * (train + test)
    return features + max(fit_bytes(train, width, classes, kind), metrics_bytes(test, width, classes))


def stacked_bytes(
    train: int, test: int, classes: int, widths: Mapping[str, int], protocol: str, *, stored: bool
) -> int:
    """Memory of the layers that a paper's recipe trains side by side; 0 for other protocols.

    Args:
        stored: features come from the store, so that those of each layer are in memory beside the stack.
    """
    recipe = RECIPES.get(protocol_name(protocol))
    if recipe is None:
        return 0
    together = [names for names in stacks(widths, train, classes, recipe) if len(names) > 1]
    columns = max((sum(map(widths.__getitem__, names)) for names in together), default=0)
    return (2 if stored else 1) * FLOAT * (train + test) * columns


def _work(
    sets: Mapping[str, tuple[int, int, int]], widths: Sequence[int], seeds: int, networks: int
) -> float:
    """Multiply-adds of probes and metrics for all networks, and of CKA for the first one."""
    work = 0.0
    for train, test, classes in sets.values():
        for width in widths:
            measured = metrics_work(train, test, width, classes)
            work += networks * (seeds * fit_work(train, width, classes) + measured)
        work += cka_work(test, widths)
    return work


def _few_batches(recorder: Recorder, dataset: DataSet) -> tuple[float, int]:
    """Seconds for one input, and the memory one batch takes on its way."""
    before = resident()
    forget_peak()
    passes = recorder.dry_run(dataset.train)
    next(passes, None)  # the first one chooses kernels, fills caches and starts the readers
    rows, started = 0, time.perf_counter()
    for batch in islice(passes, MEASURED_BATCHES):
        rows += len(batch)
        if time.perf_counter() - started > MEASURED_SECONDS:
            break
    seconds = time.perf_counter() - started
    passes.close()
    workspace = max(0, peak() - before)
    if rows:
        return seconds / rows, workspace
    return _one_batch(recorder, dataset), workspace


def _one_batch(recorder: Recorder, dataset: DataSet) -> float:
    """Seconds for one input where one batch holds them all, taken once more now that all is warm."""
    started = time.perf_counter()
    batch = next(recorder.dry_run(dataset.train), ())
    return (time.perf_counter() - started) / max(len(batch), 1)


def speed() -> float:
    """Multiply-adds a second of this machine in single precision, by one product of two matrices."""
    one = torch.ones(768, 768)
    torch.matmul(one, one)
    started = time.perf_counter()
    for _ in range(3):
        torch.matmul(one, one)
    return 0.5 * 3 * 768**3 / max(time.perf_counter() - started, 1e-6)  # half: thin products are slower
