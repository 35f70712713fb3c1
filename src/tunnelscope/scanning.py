"""The main job: one network × one ID set × some OOD sets → curves, tunnel, the layer to take."""

import math
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tunnelscope.data import DataSet, load_data, unique_keys
from tunnelscope.errors import RequestError
from tunnelscope.findings import AnyProbe, Findings, Settings
from tunnelscope.metrics import layer_metrics, unbiased_cka
from tunnelscope.models import Network
from tunnelscope.probes import LinearProbe, choice_scores, probe
from tunnelscope.recording import (
    INPUT,
    Recorded,
    Recorder,
    StageProgress,
    record_both,
    recorder_for,
)
from tunnelscope.results import Scan, claim_folder
from tunnelscope.summary import summarise


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
    seeds: int = 1,
    max_samples: int | None = None,
    device: str = "auto",
    seed: int = 0,
    batch_size: int | None = None,
    workers: int = 2,
    label: str | None = None,
    image: str | None = None,
    command: str | None = None,
    progress: StageProgress | None = None,
    announce: Callable[[str], None] | None = None,
) -> Scan:
    """Probe every layer of a network on its own and on other data, and read the tunnel.

    Args:
        model: a name (`timm:resnet18`, `zoo:cifar_resnet56`, `net.py:build`), a module or a `Network`.
        id: the data the network was trained on, by name or as arrays or torch data sets; None when
            it is not at hand (the start of the tunnel, ρ and A are then not given).
        ood: other data, one or several.
        out: folder for `results.parquet`, `run.json`, `probes/` and `report.html`; None keeps the
            result in memory.
        weights: `pretrained`, `random` or a file.
        layers: `blocks`, `convs`, `all`, names or a regular expression.
        pool: `auto`, `2x2`, `avg` or `flatten`.
        probe: `exact`, `ridge`, `knn`, `masarczyk2023` or `harun2024`.
        tolerance: certified relative gap at which an exact probe is done.
        seeds: how many probe seeds, `seed` and the ones after it.
        max_samples: rows per split at most, balanced by class.
        command: the command line, for the record.
        progress: called as work goes on with (stage, done, total).
        announce: called with each choice made on the way (preprocessing, label column, split rule).

    Raises:
        RequestError: something cannot be met as asked.
        MachineError: the machine cannot do it.
    """
    settings = Settings(layers, pool, probe, tolerance, seeds, seed, max_samples)
    if seeds < 1:
        raise RequestError(f"--seeds {seeds}: at least one probe seed is needed")
    folder = claim_folder(out) if out is not None else None
    notify = progress or (lambda stage, done, total: None)
    clock = Clock()
    with clock.stage("load"):
        sources = _load_sets(id, ood, settings, label, image)
        network, recorder = _load_model(
            model, weights, sources, id is not None, settings, device, batch_size, workers
        )
    if announce:
        for line in choices(network, sources):
            announce(line)
    findings = [
        examine(recorder, dataset, role, settings, clock, notify)
        for dataset, role in zip(sources, _roles(sources, id), strict=True)
    ]
    with clock.stage("tunnel"):
        run, frame = summarise(findings, recorder, settings)
    images = sum(len(part.images) for dataset in sources for part in (dataset.train, dataset.test))
    run["timings"] = _timings(clock, images)
    run["run"] = folder.name if folder else network.name
    run["command"] = command or "ts.scan"
    frame["run"] = run["run"]
    result = Scan(run=run, frame=frame, probes=_named_probes(findings), folder=folder)
    if folder is not None:
        _write(result, folder, notify)
    return result


def choices(network: Network, sources: list[DataSet]) -> list[str]:
    """What was decided before the work starts, a line a choice."""
    lines = [f"{network.source}: weights {network.weights}"]
    if network.preprocessing is not None:
        lines.append(f"{network.source}: {network.preprocessing.describe()}")
    for dataset in sources:
        rows = f"{len(dataset.train):,} training and {len(dataset.test):,} test images"
        lines.append(f"{dataset.key}: {rows}, {len(dataset.class_names)} classes")
        lines += [f"{dataset.key}: {note}" for note in dataset.notes]
    return lines


def examine(
    recorder: Recorder, dataset: DataSet, role: str, settings: Settings, clock: Clock, notify: StageProgress
) -> Findings:
    """Record one data set, probe every layer on it and measure its features."""
    names = [point.name for point in recorder.points]
    findings = Findings(dataset, role, names)
    with clock.stage("record"):
        train, test = record_both(recorder, dataset, notify, logits=role == "id")
    findings.fingerprints = {"train": train.fingerprint, "test": test.fingerprint}
    if test.logits is not None and test.logits.shape[1] == len(dataset.class_names):
        findings.network_correct = (test.logits.argmax(dim=1) == test.labels).numpy()
    with clock.stage("probes"):
        _probe_layers(findings, train, test, settings, notify)
    with clock.stage("metrics"):
        _measure_layers(findings, train, test, settings, notify)
    return findings


def _probe_layers(
    findings: Findings, train: Recorded, test: Recorded, settings: Settings, notify: StageProgress
) -> None:
    key = findings.dataset.key
    names = [INPUT, *findings.layers]
    total = len(names) * settings.seeds
    correct = np.zeros((len(findings.layers), len(test.labels)))
    for repeat in range(settings.seeds):
        seed = settings.seed + repeat
        for position, name in enumerate(names):
            fitted = probe(
                train.features[name],
                train.labels,
                test=(test.features[name], test.labels),
                protocol=settings.protocol,
                tolerance=settings.tolerance,
                seed=seed,
                class_names=findings.dataset.class_names,
            )
            findings.probes[name, seed] = fitted
            if name != INPUT:
                right = fitted.predict(test.features[name]) == test.labels
                correct[position - 1] += right.numpy() / settings.seeds
                findings.choice[name, seed] = _choice(train.features[name], train.labels, fitted)
            if not fitted.converged:
                findings.warnings.append(
                    f"the probe of layer {name} on {key} missed its tolerance "
                    f"(certified gap {fitted.gap:.2g}, asked {fitted.tolerance:.2g})"
                )
            notify(f"{key}: probes", repeat * len(names) + position + 1, total)
    findings.correct = correct


def _choice(features: Tensor, labels: Tensor, fitted: AnyProbe) -> tuple[float, float]:
    """Held-out accuracy and loss to choose a layer by; a probe without a loss loses every tie."""
    accuracy, loss = choice_scores(features, labels, fitted)
    return (-math.inf if accuracy is None else accuracy), (math.inf if loss is None else loss)


def _measure_layers(
    findings: Findings, train: Recorded, test: Recorded, settings: Settings, notify: StageProgress
) -> None:
    key = findings.dataset.key
    total = len(findings.layers) + 1
    for position, name in enumerate(findings.layers, start=1):
        weights, bias = _on_features(findings.probes[name, settings.seed])
        values, notes = layer_metrics(test.features[name], train.features[name], train.labels, weights, bias)
        findings.metrics[name] = values
        findings.warnings.extend(f"{note} (layer {name}, {key})" for note in notes)
        notify(f"{key}: metrics", position, total)
    try:
        findings.cka = unbiased_cka([test.features[name] for name in findings.layers]).numpy()
    except ValueError as error:
        findings.warnings.append(f"no CKA on {key}: {error}")
    notify(f"{key}: metrics", total, total)


def _on_features(fitted: AnyProbe) -> tuple[Tensor | None, Tensor | None]:
    return fitted.weights_on_features if isinstance(fitted, LinearProbe) else (None, None)


def _load_sets(id: Any, ood: Any, settings: Settings, label: str | None, image: str | None) -> list[DataSet]:
    """All data sets, the ID set first when there is one, each under a key of its own."""
    given = ([id] if id is not None else []) + _one_by_one(ood)
    if not given:
        raise RequestError(
            "no data to scan on; name the network's own data with --id, other data with --ood, or both"
        )
    options = {"label": label, "image": image, "max_samples": settings.max_samples, "seed": settings.seed}
    return unique_keys([load_data(source, **options) for source in given])


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
    weights: str | None,
    sources: list[DataSet],
    has_id: bool,
    settings: Settings,
    device: str,
    batch_size: int | None,
    workers: int,
) -> tuple[Network, Recorder]:
    first = sources[0]
    recorder = recorder_for(
        model,
        first.train,
        weights=weights,
        classes=len(first.class_names) if has_id else None,
        seed=settings.seed,
        layers=settings.layers,
        pool=settings.pool,
        device=device,
        batch_size=batch_size,
        workers=workers,
    )
    return recorder.network, recorder


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


def _timings(clock: Clock, images: int) -> dict[str, float]:
    """Seconds per stage (report apart), images recorded per second, peak memory in MB (2^20 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    kilobytes = peak / 1024 if sys.platform == "darwin" else peak
    timings = {stage: round(seconds, 3) for stage, seconds in clock.seconds.items()}
    timings["total"] = round(time.perf_counter() - clock.started, 3)
    timings["images_per_second"] = round(images / max(clock.seconds["record"], 1e-9), 1)
    timings["peak_memory_mb"] = round(kilobytes / 1024, 1)
    return timings


def set_threads(threads: int | None) -> None:
    """Use this many CPU threads for tensor work; None leaves PyTorch's own choice."""
    if threads is not None:
        if threads < 1:
            raise RequestError(f"--threads {threads}: at least one thread is needed")
        torch.set_num_threads(threads)
