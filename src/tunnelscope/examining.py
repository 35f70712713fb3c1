"""One data set through a network: recorded, then probed and measured layer by layer, each outcome kept."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from tunnelscope.data import DataSet, Preprocessing, Prints, equal_pairs, leave_out, like_pairs
from tunnelscope.findings import Findings, Settings
from tunnelscope.keeping import record_both
from tunnelscope.leakage import Pairs, leakage_of
from tunnelscope.metrics import METRICS, unbiased_cka
from tunnelscope.outcome import Outcome, load_outcome, measure_layer
from tunnelscope.probes import LinearProbe, protocol_name
from tunnelscope.probes.choice import ChoiceScores, recipe_choices
from tunnelscope.probes.protocols import RECIPES, fit_recipe_probes
from tunnelscope.probes.recipes import STACK_ELEMENTS, stacks
from tunnelscope.randomness import named_generator
from tunnelscope.recording import INPUT, Recorded, Recorder, StageProgress, ready_shape
from tunnelscope.store import Store, code_of, key_of
from tunnelscope.subject import Layer, Subject
from tunnelscope.tasks import CLASSIFICATION

# What of this package decides an outcome.
CODE = ("linalg", "probes", "metrics", "outcome", "groups", "randomness")


class Clock(Protocol):
    """Counts the seconds of each stage."""

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Count the seconds of the block."""
        ...


def examine(
    recorder: Recorder,
    dataset: DataSet,
    role: str,
    settings: Settings,
    clock: Clock,
    notify: StageProgress,
    store: Store | None = None,
    cka_rows: int | None = None,
    scale_doubt: str | None = None,
    *,
    own: Findings | None = None,
    with_cka: bool = True,
    most_together: int = STACK_ELEMENTS,
) -> Findings:
    """Record one data set, probe every layer on it and measure its features.

    Args:
        store: gives what was done before and keeps what is done now, layer by layer.
        cka_rows: test rows that CKA is read on at most, for the memory it takes; all without it.
        scale_doubt: what is doubtful of the inputs' scale, in words.
        own: what the ID set showed, which an OOD set is compared with.
        with_cka: compare all layers with each other too.
        most_together: as for `measure`.
    """
    with clock.stage("record"):
        train, test = record_both(recorder, dataset, notify, logits=role == "id", store=store)
    dataset = leave_out(dataset, train.skipped, test.skipped)
    findings = Findings(dataset, role, [point.name for point in recorder.points])
    findings.model = recorder.network.source
    findings.ready_inputs = ready_shape(dataset.train) is not None
    findings.fingerprints = {"train": train.fingerprint, "test": test.fingerprint}
    for split, recorded in (("train", train), ("test", test)):
        findings.warnings.extend(f"{dataset.key} ({split}): {line}" for line in recorded.warnings)
    findings.scale_doubt = scale_doubt
    if role == "id":
        findings.network_correct = _network_correct(test, dataset)
    with clock.stage("duplicates"):
        find_twins(findings, train, test, recorder, store)
        if own is not None:
            find_leakage(findings, own, train, test, recorder, store)
    with clock.stage("probes"):
        measure(findings, train, test, settings, notify, store, most_together)
    with clock.stage("cka"):
        if with_cka:
            compare_layers(findings, test, cka_rows, settings.seed)
    return findings


def measure(
    findings: Findings,
    train: Recorded,
    test: Recorded,
    settings: Settings,
    notify: StageProgress,
    store: Store | None = None,
    most_together: int = STACK_ELEMENTS,
) -> None:
    """Probe and measure each layer, `INPUT` first where it was recorded.

    Args:
        findings: of the data set; filled in.
        most_together: features of the layers that a paper's recipe trains side by side, at most.
    """
    names = [*([INPUT] if INPUT in train.features else []), *findings.layers]
    seeds = [settings.seed + repeat for repeat in range(settings.seeds)]
    findings.credits = np.zeros((len(seeds), len(findings.layers), len(test.labels)))
    done = 0
    for together in _together(findings, train, names, settings, most_together):
        for seed in seeds:
            for name, outcome in _outcomes(findings, train, test, together, seed, settings, store):
                _enter(findings, name, seed, settings, outcome)
                if seed == seeds[-1]:
                    done += 1
                    notify(f"{findings.dataset.key}: layers probed and measured", done, len(names))
    findings.notes += _not_converged(findings)


def _together(
    findings: Findings, train: Recorded, names: list[str], settings: Settings, elements: int
) -> Iterator[list[str]]:
    """The layers in the groups that are fitted at once: side by side by a recipe, else one by one."""
    recipe = RECIPES.get(protocol_name(settings.protocol))
    if recipe is None or findings.dataset.task != CLASSIFICATION:
        yield from ([name] for name in names)
        return
    widths = {name: train.features[name].shape[1] for name in names}
    yield from stacks(widths, len(train.labels), len(findings.dataset.class_names), recipe, elements)


def _enter(findings: Findings, name: str, seed: int, settings: Settings, outcome: Outcome) -> None:
    """Put one layer's outcome among the findings; the input has its probe alone."""
    findings.probes[name, seed] = outcome.probe
    if name != INPUT:
        findings.credits[seed - settings.seed, findings.layers.index(name)] = outcome.credits.numpy()
        findings.choice[name, seed] = outcome.choice
    if outcome.metrics:
        findings.metrics[name] = outcome.metrics
        findings.notes.extend((note, name) for note in outcome.notes)


def _outcomes(
    findings: Findings,
    train: Recorded,
    test: Recorded,
    names: list[str],
    seed: int,
    settings: Settings,
    store: Store | None,
) -> Iterator[tuple[str, Outcome]]:
    """Some layers' outcomes for one seed: from the store, or measured now and kept."""
    is_first = seed == settings.seed
    keys = {
        name: _outcome_key(findings, train, test, name, seed, is_first, settings) if store else ""
        for name in names
    }
    missing = []
    for name in names:
        kept = load_outcome(folder) if store and (folder := store.outcome(keys[name])) else None
        if kept is None:
            missing.append(name)
        else:
            yield name, kept
    fitted, choices = _side_by_side(findings, train, test, missing, seed, settings)
    for name in missing:
        outcome = measure_layer(
            *((part.features[name], part.labels) for part in (train, test)),
            protocol=settings.protocol,
            tolerance=settings.tolerance,
            penalty=settings.penalty,
            seed=seed,
            class_names=findings.dataset.class_names,
            layer=name,
            task=findings.dataset.task,
            groups=_groups(findings.dataset),
            with_choice=name != INPUT,
            with_metrics=name != INPUT and is_first,
            fitted=fitted.get(name),
            choice=choices.get(name),
        )
        if store is not None:
            about = {
                "model": findings.model,
                "data": findings.dataset.key,
                "layer": name,
                "protocol": outcome.probe.protocol,
            }
            store.write_outcome(keys[name], outcome.save, about)
        yield name, outcome


def _side_by_side(
    findings: Findings, train: Recorded, test: Recorded, names: list[str], seed: int, settings: Settings
) -> tuple[dict[str, LinearProbe], dict[str, ChoiceScores]]:
    """Probes and their judgements of layers that a recipe trains with the same batches; none of one alone."""
    if len(names) < 2:
        return {}, {}
    layers, read = ({name: part.features[name] for name in names} for part in (train, test))
    groups = _groups(findings.dataset)
    fitted = dict(
        fit_recipe_probes(
            layers,
            train.labels,
            protocol=settings.protocol,
            class_names=findings.dataset.class_names,
            penalty=settings.penalty,
            seed=seed,
            groups=groups,
            test=(read, test.labels),
        )
    )
    return fitted, recipe_choices(layers, train.labels, fitted, groups)


def _outcome_key(
    findings: Findings,
    train: Recorded,
    test: Recorded,
    name: str,
    seed: int,
    is_first: bool,
    settings: Settings,
) -> str:
    keys: list[Mapping[str, str]] = [part.keys or {} for part in (train, test)]
    asked = (
        settings.protocol,
        settings.tolerance,
        settings.penalty,
        seed,
        sorted(METRICS) if is_first else (),
    )
    groups = _groups(findings.dataset)
    asked = asked if groups is None else (*asked, groups.tolist())
    named = (*(one[name] for one in keys), findings.dataset.class_names, findings.dataset.task)
    return key_of("outcome", code_of(*CODE), *named, *asked)


def _groups(dataset: DataSet) -> Tensor | None:
    """What each training row belongs to, (n,) int64; None where no column says so."""
    groups = dataset.train.groups
    return None if groups is None else torch.from_numpy(groups)


def find_twins(
    findings: Findings,
    train: Recorded,
    test: Recorded,
    recorder: Recorder | None = None,
    store: Store | None = None,
) -> None:
    """Test images that are training images too, or look like one; found once for the same images.

    Args:
        recorder: by which they were recorded; None where features were given.
        store: keeps what was found, by what the recorder's network sees of an image.
    """
    if train.prints is None or test.prints is None:
        return
    if findings.role == "id":
        findings.prints = train.prints
    prints, fingerprints = (train.prints, test.prints), (train.fingerprint, test.fingerprint)
    findings.equal, findings.like = _twins(prints, fingerprints, recorder, store)


def find_leakage(
    findings: Findings,
    own: Findings,
    train: Recorded,
    test: Recorded,
    recorder: Recorder | None = None,
    store: Store | None = None,
) -> None:
    """What an OOD set shares with the ID set: names of classes, and images that the network was trained on.

    Args:
        own: what the ID set showed.
        recorder, store: as for `find_twins`.
    """
    equal, like, equal_train = None, None, None
    known, asked = own.prints, test.prints
    if known is not None and asked is not None and train.prints is not None:
        fingerprints = own.fingerprints["train"], test.fingerprint
        equal, like = _twins((known, asked), fingerprints, recorder, store)
        if known.thumbnails is None or asked.thumbnails is None:
            like = None  # nothing that they could be alike by
        equal_train = len(equal_pairs(known.digests, train.prints.digests))
    findings.leakage = leakage_of(own.dataset, findings.dataset, equal, like, equal_train)


def _twins(
    prints: tuple[Prints, Prints],
    fingerprints: tuple[str, str],
    recorder: Recorder | None,
    store: Store | None,
) -> tuple[Pairs, Pairs]:
    """Rows of the second split that equal one of the first, and those that only look like one.

    Returns:
        Pairs (row of the second, row of the first).
    """
    (train, test), key = prints, ""
    if recorder is not None:
        key = key_of("twins", code_of("data"), *fingerprints, recorder.network.preprocessing)
    found = store.read_note(key) if store and key else None
    if found is None:
        equal = equal_pairs(train.digests, test.digests)
        is_equal = {row for row, _ in equal}
        like = like_pairs(train.thumbnails, test.thumbnails)
        found = {"equal": equal, "like": [pair for pair in like if pair[0] not in is_equal]}
        if store and key:
            store.write_note(key, found)
    equal, like = ([(row, twin) for row, twin in found[name]] for name in ("equal", "like"))
    return equal, like


def compare_layers(findings: Findings, test: Recorded, most_rows: int | None = None, seed: int = 0) -> None:
    """CKA between all layers on the test rows; where there is none a warning says why."""
    count, rows = len(test.labels), slice(None)
    if most_rows is not None and most_rows < count:
        order = torch.randperm(count, generator=named_generator(seed, "rows of CKA"))
        rows = order[:most_rows].sort().values
        line = f"CKA on {findings.dataset.key} is read on {most_rows:,} of {count:,} test rows, for memory"
        findings.warnings.append(line)
    try:
        layers = [test.features[name][rows] for name in findings.layers]
        findings.cka = unbiased_cka(layers).numpy()
    except ValueError as error:
        findings.warnings.append(f"no CKA on {findings.dataset.key}: {error}")


def describe(recorder: Recorder) -> Subject:
    """The recorder's network and layers, without the network itself."""
    network, preprocessing = recorder.network, recorder.network.preprocessing
    layers = tuple(
        Layer(
            point.name,
            point.index,
            point.kind,
            recorder.poolings[point.name].name,
            point.shape,
            recorder.poolings[point.name].width,
            point.parameters,
            point.flops,
        )
        for point in recorder.points
    )
    return Subject(
        name=network.name,
        source=network.source,
        weights=network.weights,
        layers=layers,
        fingerprint=network.fingerprint,
        input=("input" if recorder.embedding is None else "embedding", recorder.input_pool),
        parameters=network.parameters,
        flops=recorder.flops,
        preprocessing=None if preprocessing is None else preprocessing.as_dict(),
        preprocessing_words="" if preprocessing is None else preprocessing.describe(),
        normalises=isinstance(preprocessing, Preprocessing) and preprocessing.normalises,
        device=str(recorder.device),
        warnings=(*network.warnings, *recorder.warnings, *recorder.precision.warnings),
        loadable=network.loadable,
        weights_file=network.weights_file,
        items="images" if recorder.embedding is None else "texts",
        precision=recorder.precision.as_dict(),
    )


def _not_converged(findings: Findings) -> list[tuple[str, str]]:
    """A note for each layer with a probe that missed its tolerance, or whose training did not stay finite."""
    missed = {place: fitted for place, fitted in findings.probes.items() if not fitted.converged}
    gaps = [fitted.gap for fitted in missed.values() if fitted.gap is not None]
    if gaps:
        note = f"the probe missed its tolerance: certified gap up to {max(gaps):.2g}"
        note += f", asked {next(iter(missed.values())).tolerance:.2g}"
    else:
        note = "the probe's training did not stay finite"
    notes = [(note, layer) for layer in dict.fromkeys(layer for layer, _ in missed)]
    judged = dict.fromkeys(layer for (layer, _), choice in findings.choice.items() if not choice.converged)
    return notes + [("a fit that the layer is chosen by missed its tolerance", layer) for layer in judged]


def _network_correct(test: Recorded, dataset: DataSet) -> np.ndarray | None:
    """Which test rows the network's own classifier gets right; None where its outputs are other classes.

    Where `classes=` chose some classes of a set the network knows whole, only their outputs compete.
    """
    logits = test.logits
    if logits is None or dataset.task != CLASSIFICATION:
        return None
    if logits.shape[1] != len(dataset.class_names):
        if logits.shape[1] != dataset.source_classes:
            return None
        logits = logits[:, list(dataset.class_indices)]
    return (logits.argmax(dim=1) == test.labels).numpy()
