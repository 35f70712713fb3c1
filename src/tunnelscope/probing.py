"""The main job for features that exist already: the same answer as a scan, without a network."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from tunnelscope.data import Prints, unique_keys
from tunnelscope.errors import RequestError
from tunnelscope.examining import compare_layers, find_leakage, find_twins, measure
from tunnelscope.feature_sets import Asked, FeatureSet, load_features, recorded, row_digests
from tunnelscope.findings import Findings, Settings
from tunnelscope.recording import StageProgress
from tunnelscope.results import Scan, claim_folder
from tunnelscope.scanning import Clock, check_settings, check_tasks, finish, told
from tunnelscope.store import Store
from tunnelscope.subject import INPUT, Layer, Subject


def scan_features(
    *,
    id: Any = None,
    ood: Any = (),
    out: str | Path | None = None,
    labels: Any = None,
    test: Any = None,
    test_labels: Any = None,
    label: str | None = None,
    layers: Sequence[str] | None = None,
    probe: str = "exact",
    tolerance: float = 1e-2,
    penalty: float | None = None,
    seeds: int = 1,
    max_samples: int | None = None,
    seed: int = 0,
    cache: bool = True,
    command: str | None = None,
    progress: StageProgress | None = None,
    announce: Callable[[str], None] | None = None,
) -> Scan:
    """Probe every layer of features that exist already, and read the tunnel, as `scan` does with a network.

    A set is a file that `tunnelscope record` wrote, a .npz, .npy or .parquet file, a pair (features, labels),
    or {"train": pair, "test": pair}; features are (n, width) or {layer: (n, width)}. The matrices are the
    layers, the last one the one before the classifier; one named `input` is the baseline, layer 0. Without a
    test part 20 % of each class are cut from the rows.

    Args:
        id: features of the data the network was trained on; None when they are not at hand.
        ood: features of other data: one set, a list of sets, or {name: set}.
        out: folder for `results.parquet`, `run.json`, `probes/` and `report.html`; None: in memory.
        labels: of a set that has none, (n,) or a .npy file; for one set alone.
        test: a set of test rows; for one set alone.
        test_labels: of that set.
        label: label column of parquet, or what the labels are called in a file.
        layers: which matrices, in this order; None: all, as the first set has them.
        probe: as in `scan`.
        tolerance: as in `scan`.
        penalty: as in `scan`.
        seeds: as in `scan`.
        max_samples: as in `scan`.
        seed: as in `scan`.
        cache: keep what is measured in the store, as in `scan`: an interrupted run goes on where it was.
        command: as in `scan`.
        progress: as in `scan`.
        announce: as in `scan`.

    Raises:
        RequestError: something cannot be met as asked.
        MachineError: the folder cannot be written.
    """
    settings = Settings("given", "none", probe, tolerance, seeds, seed, max_samples, penalty)
    check_settings(settings)
    folder = claim_folder(out) if out is not None else None
    notify = progress or (lambda stage, done, total: None)
    clock = Clock()
    with clock.stage("load"):
        asked = Asked(labels, test, test_labels, label, layers, max_samples, seed)
        sets = _load_sets(id, ood, asked)
        check_tasks([one.dataset for one in sets], settings)
    if announce:
        for line in [line for one in sets for line in told(one.dataset)]:
            announce(line)
    roles = ["id" if id is not None and place == 0 else "ood" for place in range(len(sets))]
    store = Store() if cache else None
    findings: list[Findings] = []
    for one, role in zip(sets, roles, strict=True):
        own = findings[0] if findings and findings[0].role == "id" else None
        findings.append(_examine(one, role, own, settings, clock, notify, store))
    subject = _subject(sets)
    about = {"plan": None, "command": command or "ts.scan_features"}
    return finish(findings, subject, settings, {}, clock, folder, about, progress)


def _load_sets(id: Any, ood: Any, asked: Asked) -> list[FeatureSet]:
    """All sets, the ID set first, each under a key of its own and with the layers of the first."""
    named = ([("", id)] if id is not None else []) + _named(ood)
    if not named:
        raise RequestError("no features to probe; name a file, or one with --id and others with --ood")
    if len(named) > 1 and any(one is not None for one in (asked.labels, asked.test, asked.test_labels)):
        raise RequestError(
            "--labels and --test are for one set; with several, put labels and test rows in the files"
        )
    sets: list[FeatureSet] = []
    for name, source in named:
        one = load_features(source, asked)
        dataset = replace(one.dataset, key=name or one.dataset.key)
        sets.append(replace(one, dataset=dataset))
        _check_alike(sets[0], sets[-1])
    keyed = unique_keys([one.dataset for one in sets])
    return [replace(one, dataset=dataset) for one, dataset in zip(sets, keyed, strict=True)]


def _named(ood: Any) -> list[tuple[str, Any]]:
    """OOD sets, each with the name given to it or ""."""
    if ood is None:
        return []
    if isinstance(ood, Mapping) and not _is_set(ood):
        return [(str(name), source) for name, source in ood.items()]
    is_many = isinstance(ood, (list, tuple)) and not _is_pair(ood)
    return [("", source) for source in (ood if is_many else [ood])]


def _is_set(source: Mapping[Any, Any]) -> bool:
    """Whether a mapping is one set by its splits, not sets by their names."""
    return "train" in source or any(str(name).startswith("train/") for name in source)


def _is_pair(source: Any) -> bool:
    """Whether it is (features, labels): a pair whose first is no path and whose second is no set."""
    return (
        isinstance(source, tuple)
        and len(source) == 2
        and isinstance(source[0], (np.ndarray, Tensor, Mapping))
        and not isinstance(source[1], (str, Path, Mapping, tuple))
    )


def _check_alike(first: FeatureSet, other: FeatureSet) -> None:
    """Refuse a set whose layers are not those of the first: no curve over layers would compare them."""
    for one, another in ((first, other), (other, first)):
        lacking = [name for name in one.widths if name not in another.widths]
        if lacking:
            raise RequestError(
                f"{another.file} lacks layer {lacking[0]!r}, which {one.file} has; choose layers that "
                "all have with --layer"
            )
    for name, width in first.widths.items():
        if other.widths[name] != width:
            raise RequestError(
                f"layer {name!r} is {width} wide in {first.file} and {other.widths[name]} in {other.file}; "
                "record both with the same network and pooling"
            )


def _examine(
    given: FeatureSet,
    role: str,
    own: Findings | None,
    settings: Settings,
    clock: Clock,
    notify: StageProgress,
    store: Store | None,
) -> Findings:
    """Probe and measure one set's layers, as `examine` does after recording."""
    train, test = given.dataset.train, given.dataset.test
    fitted, read = (
        replace(part, prints=Prints(row_digests(part.features))) for part in (recorded(train), recorded(test))
    )
    findings = Findings(given.dataset, role, _layers(given))
    findings.fingerprints = {"train": fitted.fingerprint, "test": read.fingerprint}
    findings.model = "given features"
    findings.code = dict(given.code)
    with clock.stage("duplicates"):
        find_twins(findings, fitted, read)
        if own is not None:
            find_leakage(findings, own, fitted, read)
    with clock.stage("probes"):
        measure(findings, fitted, read, settings, notify, store)
    with clock.stage("cka"):
        compare_layers(findings, read)
    return findings


def _layers(given: FeatureSet) -> list[str]:
    names = [name for name in given.widths if name != INPUT]
    if not names:
        raise RequestError(
            f"{given.file} holds the baseline {INPUT!r} alone; a scan needs at least one layer"
        )
    return names


def _subject(sets: list[FeatureSet]) -> Subject:
    first = sets[0]
    layers = tuple(
        Layer(name, index, "features", "none", (first.widths[name],), first.widths[name], None, None)
        for index, name in enumerate(_layers(first), start=1)
    )
    told = {tuple(sorted(one.about.items())) for one in sets}
    doubts = []
    if len(told) > 1:
        doubts.append(
            "the sets' features do not tell one and the same network, weights and pooling (see the notes)"
        )
    return Subject(
        name=Path(first.file).name,
        source=first.file,
        weights=first.about.get("weights", "not known"),
        layers=layers,
        input=("features", "none"),
        warnings=tuple(doubts),
        items="rows",
    )
