"""The main job: one network × one ID set × some OOD sets → curves, tunnel, the layer to take."""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tunnelscope.data import DataSet, load_data, load_draws, unique_keys
from tunnelscope.errors import RequestError
from tunnelscope.examining import describe, examine
from tunnelscope.files import PARTIAL, check_writable
from tunnelscope.findings import AnyProbe, Control, Findings, Settings
from tunnelscope.forward import choose_device, milliseconds_saved, on_device
from tunnelscope.input_scale import check_input_scale
from tunnelscope.memory import peak, read_size, size
from tunnelscope.models import Network, untrained
from tunnelscope.planning import Plan, fit_to, make_plan
from tunnelscope.precision import check_precision
from tunnelscope.probes import check_penalty, protocol_name, task_protocol
from tunnelscope.probes.exact import check_tolerance
from tunnelscope.probes.recipes import STACK_ELEMENTS
from tunnelscope.recording import (
    Recorder,
    StageProgress,
    make_recorder,
    ready_shape,
    recorder_for,
)
from tunnelscope.results import Scan, claim_folder
from tunnelscope.store import Store, default_folder
from tunnelscope.subject import Subject
from tunnelscope.summary import summarise
from tunnelscope.tasks import CLASSIFICATION, MULTI_LABEL, REGRESSION


class Clock:
    """Seconds spent per stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.started = time.perf_counter()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def scan(
    model: str | nn.Module | Network,
    *,
    id: Any = None,
    ood: Any = (),
    out: str | Path | None = None,
    weights: str | None = None,
    layers: str | Sequence[str] = "blocks",
    pool: str = "auto",
    probe: str = "exact",
    tolerance: float = 1e-2,
    penalty: float | None = None,
    seeds: int = 1,
    max_samples: int | None = None,
    device: str = "auto",
    seed: int = 0,
    batch_size: int | None = None,
    workers: int = 2,
    label: str | None = None,
    image: str | None = None,
    skip_corrupt: bool = False,
    accept_scale: bool = False,
    cache: bool = True,
    control: bool = False,
    memory: str | int | None = None,
    precision: str = "f32",
    command: str | None = None,
    progress: StageProgress | None = None,
    announce: Callable[[str], None] | None = None,
) -> Scan:
    """Probe every layer of a network on its own and on other data, and read the tunnel.

    Args:
        model: a name (`timm:resnet18`, `zoo:cifar_resnet56`, `net.py:build`), a module or a `Network`.
        id: the data the network was trained on, by name or as arrays or torch data sets; None when
            it is not at hand (the start of the tunnel, ρ and A are then not given).
        ood: other data: one set, a list of sets, or {name: set}; a dict with the key `train` is one
            set given by its splits. A name becomes the set's key in tables and in `best_layer(key)`.
        out: folder for `results.parquet`, `run.json`, `probes/` and `report.html`; None keeps the
            result in memory.
        weights: `pretrained`, `random` or a file.
        layers: `blocks`, `modules`, `convs`, `conv-inputs`, `all`, names or a regular expression.
        pool: `auto`, `2x2`, `avg`, `flatten`, and for tokens `cls`, `mean`, `cls+mean` or `last`.
        probe: `exact`, `ridge`, `knn`, `masarczyk2023`, `harun2024`, `harun2024-vit` or `harun2024-code`.
        tolerance: certified relative gap at which an exact probe is done.
        penalty: of `exact` and `ridge`, the same for all layers; None chooses each layer's on held-out rows.
        seeds: how many probe seeds, `seed` and the ones after it.
        max_samples: rows per split at most, balanced by class.
        skip_corrupt: leave images out that cannot be decoded (a warning counts and names them) instead of an
            error; more than half of a split is an error all the same.
        accept_scale: warn where the inputs' scale is off by a factor of 10 or more, instead of an error.
        cache: keep features and what is measured on them in the store (`$TUNNELSCOPE_CACHE`, else the
            user's cache folder) and take from it what is there: an interrupted scan goes on where it was.
        memory: keep the process below this (4GB, or bytes): smaller batches, features on the disk, fewer
            rows for CKA; without it below what the machine has.
        precision: the numbers the network runs in: `f32`, `bf16`, or `auto` (bf16 where the device has it);
            f32 all the same where bf16 moves a layer's features by more than 5 % of their spread.
        control: scan the same network untrained beside it (weights random, of `seed`): same layers, data and
            probes, in the same results.
        command: the command line, for the record.
        progress: called as work goes on with (stage, done, total).
        announce: called with each choice made on the way (preprocessing, label column, split rule).

    Raises:
        RequestError: something cannot be met as asked.
        MachineError: the machine cannot do it.
    """
    settings = Settings(layers, pool, probe, tolerance, seeds, seed, max_samples, penalty)
    check_settings(settings)
    choose_device(device)
    folder = claim_folder(out) if out is not None else None
    clock = Clock()
    loading = {"label": label, "image": image, "weights": weights, "device": device, "workers": workers}
    loading["precision"] = check_precision(precision)
    work = _prepare(
        model,
        id,
        ood,
        settings,
        clock,
        announce or (lambda line: None),
        batch_size=batch_size,
        skip_corrupt=skip_corrupt,
        accept_scale=accept_scale,
        cache=cache,
        control=control,
        memory=memory,
        **loading,
    )
    notify = progress or (lambda stage, done, total: None)
    with _store(cache, work.plan, folder, announce or (lambda line: None)) as store:
        findings = _examine_all(work, settings, clock, notify, store)
        beside = _examine_control(work, settings, clock, notify, store)
    with clock.stage("tunnel"):
        saved = _milliseconds(findings, work.recorder)
    about = {"plan": work.plan.as_dict(), "command": command or "ts.scan"}
    return finish(findings, describe(work.recorder), settings, saved, clock, folder, about, progress, beside)


def finish(
    findings: list[Findings],
    subject: Subject,
    settings: Settings,
    milliseconds: Mapping[str, tuple[float, float, float]],
    clock: Clock,
    folder: Path | None,
    about: Mapping[str, Any],
    progress: StageProgress | None,
    beside: Control | None = None,
) -> Scan:
    """Sum up what the data sets showed, and write it into the folder where there is one.

    Args:
        about: `plan`, None where nothing was recorded, and `command`, as in `run.json`.
        beside: the same network untrained, where it was asked for.
    """
    with clock.stage("tunnel"):
        run, frame = summarise(findings, subject, settings, milliseconds, beside)
    run |= about
    run["timings"] = _timings(clock, about["plan"]["rows"] * (2 if beside else 1) if about["plan"] else None)
    run["run"] = folder.name if folder else subject.name
    frame["run"] = run["run"]
    probes = _named_probes(findings)
    if beside is not None:
        probes |= {f"control/{name}": fitted for name, fitted in _named_probes(beside.findings).items()}
    result = Scan(run=run, frame=frame, probes=probes, folder=folder)
    if folder is not None:
        _write(result, folder, progress or (lambda stage, done, total: None))
    return result


def plan(
    model: str | nn.Module | Network,
    *,
    id: Any = None,
    ood: Any = (),
    memory: str | int | None = None,
    cache: bool = True,
    **options: Any,
) -> Plan:
    """Size a scan without doing it: rows, widths, memory, disk and time, from one batch.

    Args:
        model: as for `scan`.
        id: as for `scan`.
        ood: as for `scan`.
        memory: as for `scan`.
        cache: as for `scan`.
        **options: the other arguments of `scan`.

    Raises:
        RequestError: something cannot be met as asked.
        MachineError: the machine has too little memory; the least that would do is named.
    """
    known = {field.name for field in fields(Settings)} - {"protocol"}
    chosen = {name: options.pop(name) for name in list(options) if name in known}
    settings = Settings(protocol=options.pop("probe", "exact"), **chosen)
    device = options.pop("device", "auto")
    check_settings(settings)
    choose_device(device)
    say = options.pop("announce", None) or (lambda line: None)
    ignored = ("out", "command", "progress")
    loading = {name: value for name, value in options.items() if name not in ignored}
    clock = Clock()
    return _prepare(
        model, id, ood, settings, clock, say, device=device, memory=memory, cache=cache, **loading
    ).plan


@dataclass(frozen=True)
class Work:
    """What a scan works on."""

    sources: list[DataSet]
    roles: list[str]
    recorder: Recorder
    plan: Plan
    doubts: dict[str, str]  # about the scale of inputs, by the set's key
    control: Recorder | None = None  # of the same network untrained


def _prepare(
    model: str | nn.Module | Network,
    id: Any,
    ood: Any,
    settings: Settings,
    clock: Clock,
    announce: Callable[[str], None],
    *,
    label: str | None = None,
    image: str | None = None,
    accept_scale: bool = False,
    cache: bool = True,
    control: bool = False,
    memory: str | int | None = None,
    **loading: Any,
) -> Work:
    """Load data and network, and size the work; each choice is announced."""
    budget = read_size(memory) if isinstance(memory, str) else memory
    with clock.stage("load"):
        sources = load_sets(
            id,
            ood,
            label=label,
            image=image,
            max_samples=settings.max_samples,
            seed=settings.seed,
            announce=announce,
        )
        check_tasks(sources, settings)
        recorder = _load_model(model, sources, id is not None, settings, **loading)
        beside = _control_recorder(recorder, sources, settings) if control else None
    for line in choices(recorder.network, sources):
        announce(line)
    if (told := recorder.precision.describe()) is not None:
        announce(told)
    with clock.stage("load"):
        doubts = check_input_scale(recorder, sources, accept=accept_scale)
    with clock.stage("plan"):
        sized = make_plan(recorder, sources, settings, cached=cache, report=True, control=control)
        sized = fit_to(sized, budget)
    announce(sized.describe())
    if beside is not None:
        beside = replace(beside, batch_size=sized.batch_size)
    recorder = replace(recorder, batch_size=sized.batch_size)
    return Work(sources, _roles(sources, id), recorder, sized, doubts, beside)


@contextmanager
def _store(
    cache: bool, sized: Plan, out: Path | None, announce: Callable[[str], None]
) -> Iterator[Store | None]:
    """The cache; without it memory, or a store for this scan alone where memory is too small.

    That one lies in the folder of the results, else in the cache's: the system's folder for temporary files
    is often memory itself. What a killed scan leaves there is named as a partial file.
    """
    if cache or sized.in_memory:
        yield Store() if cache else None
        return
    place = out or default_folder()
    check_writable(place)
    place.mkdir(parents=True, exist_ok=True)
    needed = size(max(sized.set_bytes.values()))
    announce(
        f"memory is too small for all features: they go to {place} ({needed} a set), until the scan ends"
    )
    with tempfile.TemporaryDirectory(prefix=".features-", suffix=PARTIAL, dir=place) as folder:
        yield Store(folder)


def _examine_all(
    work: Work, settings: Settings, clock: Clock, notify: StageProgress, store: Store | None
) -> list[Findings]:
    rows, together = work.plan.cka_rows, _most_together(work.plan)
    findings: list[Findings] = []
    for dataset, role in zip(work.sources, work.roles, strict=True):
        own = findings[0] if findings and findings[0].role == "id" else None
        doubt = work.doubts.get(dataset.key)
        asked = (work.recorder, dataset, role, settings, clock, notify, store, rows, doubt)
        findings.append(examine(*asked, own=own, most_together=together))
    return findings


def _most_together(sized: Plan) -> int:
    """Features of layers trained side by side, at most: those of one layer where memory is short."""
    return STACK_ELEMENTS if sized.stacking else 1


def check_settings(settings: Settings) -> None:
    """Refuse what can be refused before anything is read or written."""
    if settings.seeds < 1:
        raise RequestError(f"--seeds {settings.seeds}: at least one probe seed is needed")
    check_penalty(protocol_name(settings.protocol), settings.penalty)
    check_tolerance(settings.tolerance)


def check_tasks(sources: list[DataSet], settings: Settings) -> None:
    """Refuse a probe that the labels of a set cannot be read by, before anything is recorded."""
    for dataset in sources:
        try:
            task_protocol(settings.protocol, dataset.task)
        except RequestError as error:
            raise RequestError(f"{dataset.key}: {error}") from error


def choices(network: Network, sources: list[DataSet]) -> list[str]:
    """What was decided before the work starts, a line a choice."""
    lines = [f"{network.source}: weights {network.weights}"]
    if network.preprocessing is not None and any(ready_shape(dataset.train) is None for dataset in sources):
        lines.append(f"{network.source}: {network.preprocessing.describe()}")
    return lines + [line for dataset in sources for line in told(dataset)]


def told(dataset: DataSet) -> list[str]:
    """A data set in words: its size, and what was chosen on reading it."""
    rows = f"{len(dataset.train):,} training and {len(dataset.test):,} test {dataset.train.kind}"
    is_told = dataset.source == dataset.key or dataset.source.startswith("(")  # a hub id, or arrays
    source = "" if is_told else f", from {dataset.source}"
    many = {CLASSIFICATION: "classes", REGRESSION: "targets", MULTI_LABEL: "labels"}[dataset.task]
    count = len(dataset.class_names)
    size = f"{rows}, {count} {many if count > 1 else many[:-1]}{source}"
    return [f"{dataset.key}: {line}" for line in (size, *dataset.notes)]


def load_sets(id: Any, ood: Any, *, announce: Callable[[str], None] | None, **options: Any) -> list[DataSet]:
    """All data sets, the ID set first when there is one, each under a key of its own.

    Args:
        id: as for `scan`.
        ood: as for `scan`.
        options: of `load_data`: `label`, `image`, `max_samples`, `seed`.
    """
    given = ([("", id)] if id is not None else []) + _named(ood)
    if not given:
        raise RequestError(
            "no data to scan on; name the network's own data with --id, other data with --ood, or both"
        )
    loaded = [] if id is None else [[load_data(id, announce=announce, **options)]]
    loaded += [load_draws(source, announce=announce, **options) for _, source in given[len(loaded) :]]
    named = zip(given, loaded, strict=True)
    keyed = unique_keys([replace(draws[0], key=name or draws[0].key) for (name, _), draws in named])
    sets = [_as_draw(one, first.key) for first, draws in zip(keyed, loaded, strict=True) for one in draws]
    return unique_keys(sets)


def trained_on(
    settings: Mapping[str, Any],
    *,
    label: str | None,
    image: str | None,
    max_samples: int | None,
    announce: Callable[[str], None] | None,
) -> DataSet:
    """Return the data of a training, read as the training read them where nothing else is asked for.

    Args:
        settings: of `train.json`.
        label, image, max_samples, announce: as for `load_data`.

    Raises:
        RequestError: they are not there, or hold other classes now.
    """
    asked = {"label": label, "image": image, "max_samples": max_samples}
    asked = settings.get("reading", {}) | {key: value for key, value in asked.items() if value is not None}
    dataset = load_data(settings["data"], seed=settings["seed"], announce=announce, **asked)
    if list(dataset.class_names) != settings["classes"]:
        raise RequestError(
            f"{dataset.source} holds {len(dataset.class_names)} classes ({dataset.class_names[0]} …), the "
            f"training had {len(settings['classes'])} ({settings['classes'][0]} …); name its data with --id"
        )
    return dataset


def _as_draw(dataset: DataSet, key: str) -> DataSet:
    """The set under its key, `KEY#2` where it is the second of several draws."""
    if not dataset.draw:
        return replace(dataset, key=key)
    return replace(dataset, key=f"{key}#{dataset.draw}", draw_of=key)


def _named(ood: Any) -> list[tuple[str, Any]]:
    """OOD sets, each with the name given to it or ""; a dict with the key train or test is one set."""
    if not isinstance(ood, dict) or {"train", "test"} & set(ood):
        return [("", source) for source in _one_by_one(ood)]
    for name in ood:
        if not isinstance(name, str) or not name:
            raise RequestError(f"ood={{{name!r}: …}}: a data set's name is a string that is not empty")
    return list(ood.items())


def _one_by_one(ood: Any) -> list[Any]:
    """OOD sets as a list; a pair (images, labels) is one set, not two."""
    if not isinstance(ood, (list, tuple)):
        return [] if ood is None else [ood]
    is_pair = isinstance(ood, tuple) and len(ood) == 2 and isinstance(ood[1], (np.ndarray, Tensor))
    return [ood] if is_pair else list(ood)


def _roles(sources: list[DataSet], id: Any) -> list[str]:
    return ["id" if id is not None and position == 0 else "ood" for position in range(len(sources))]


def _load_model(
    model: str | nn.Module | Network,
    sources: list[DataSet],
    has_id: bool,
    settings: Settings,
    *,
    weights: str | None = None,
    **loading: Any,
) -> Recorder:
    first, *others = sources
    return recorder_for(
        model,
        first.train,
        *(dataset.train for dataset in others),
        weights=weights,
        classes=len(first.class_names) if has_id and first.task == CLASSIFICATION else None,
        seed=settings.seed,
        layers=settings.layers,
        pool=settings.pool,
        **loading,
    )


def _control_recorder(recorder: Recorder, sources: list[DataSet], settings: Settings) -> Recorder:
    """A recorder that reads the untrained network as `recorder` reads the trained one."""
    network = untrained(recorder.network, settings.seed)
    drawn = make_recorder(
        network,
        layers=settings.layers,
        pool=settings.pool,
        device=str(recorder.device),
        batch_size=recorder.batch_size,
        workers=recorder.workers,
        seed=settings.seed,
        skip_corrupt=recorder.skip_corrupt,
        shape=ready_shape(sources[0].train),
        precision=recorder.precision.asked,
    ).settled(*(dataset.train for dataset in sources))
    if [point.name for point in drawn.points] != [point.name for point in recorder.points]:
        raise RequestError(
            f"--control: {network.source} runs through other layers when it is untrained; leave --control out"
        )
    return drawn


def _examine_control(
    work: Work, settings: Settings, clock: Clock, notify: StageProgress, store: Store | None
) -> Control | None:
    """The untrained network on every data set, where it was asked for; its progress is told apart."""
    recorder = work.control
    if recorder is None:
        return None

    def told(stage: str, done: int, total: int) -> None:
        notify(f"untrained, {stage}", done, total)

    try:
        findings = [
            examine(
                recorder,
                dataset,
                role,
                settings,
                clock,
                told,
                store,
                with_cka=False,
                most_together=_most_together(work.plan),
            )
            for dataset, role in zip(work.sources, work.roles, strict=True)
        ]
    except RequestError as error:  # the data went through the trained network
        raise RequestError(f"--control, the untrained network: {error}; or leave --control out") from error
    return Control(describe(recorder), findings)


def _milliseconds(findings: list[Findings], recorder: Recorder) -> dict[str, tuple[float, float, float]]:
    """What stopping at each layer to take saves, by layer: median and quartiles in ms."""
    example = on_device(recorder.example, recorder.device)
    points = [recorder.points[position] for position in sorted({found.best for found in findings})]
    return {point.name: milliseconds_saved(recorder.network.module, example, point) for point in points}


def _named_probes(findings: list[Findings]) -> dict[str, AnyProbe]:
    """Probes by file name: set, layer and seed."""
    return {
        f"{_file_name(found.dataset.key)}--{_file_name(layer)}--{seed}": fitted
        for found in findings
        for (layer, seed), fitted in found.probes.items()
    }


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in name)


def _write(result: Scan, folder: Path, notify: StageProgress) -> None:
    """Write the folder; the report last, from what was saved: drawn again it is the same page."""
    result.save(folder)
    notify("report", 0, 1)
    result.report(folder / "report.html")
    notify("report", 1, 1)


def _timings(clock: Clock, images: int | None) -> dict[str, float]:
    """Seconds per stage (report apart), rows recorded per second, peak memory in MB (2^20 bytes)."""
    timings = {stage: round(seconds, 3) for stage, seconds in clock.seconds.items()}
    timings["total"] = round(time.perf_counter() - clock.started, 3)
    if images is not None:
        timings["images_per_second"] = round(images / max(clock.seconds["record"], 1e-9), 1)
    timings["peak_memory_mb"] = round(peak() / 2**20, 1)
    return timings


def set_threads(threads: int | None) -> None:
    """Use this many CPU threads for tensor work; None leaves PyTorch's own choice."""
    if threads is not None:
        if threads < 1:
            raise RequestError(f"--threads {threads}: at least one thread is needed")
        torch.set_num_threads(threads)
