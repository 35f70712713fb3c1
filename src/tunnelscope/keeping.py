"""What was recorded, kept in the store by what determines it, so that no pass is made twice."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from tunnelscope.data import DataSet, Fingerprint, Prints, Skipped, Split, Tokenisation, load_prints
from tunnelscope.data.rows import spread_rows
from tunnelscope.recording import (
    INPUT,
    LOGITS,
    Progress,
    Recorded,
    Recorder,
    Rows,
    StageProgress,
    kept_labels,
)
from tunnelscope.store import FeatureWriter, Store, code_of, key_of

# What of this package decides a feature.
CODE = (
    *("data", "dataflow", "trace", "blocks", "inside", "layers", "features"),
    *("folding", "forward", "precision", "recording"),
)


class StoredFeatures(Mapping[str, Tensor]):
    """Features by layer, each read from the store when it is asked for."""

    def __init__(self, store: Store, keys: Mapping[str, str]):
        self.store, self.keys_by_layer = store, keys

    def __getitem__(self, layer: str) -> Tensor:
        return self.store.read_features(self.keys_by_layer[layer])

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys_by_layer)

    def __len__(self) -> int:
        return len(self.keys_by_layer)

    def __contains__(self, layer: object) -> bool:
        return layer in self.keys_by_layer


class Names:
    """The names in the store of what a recorder reads of a split.

    A name is a hash of everything that decides the content: the network's weights and architecture, what
    each layer gives for an example, the data, the pooling, what is done to an image or a text, the
    precision, the batch norms that are folded (that moves last bits), and the code of this package that
    does it.
    """

    def __init__(self, recorder: Recorder, split: Split):
        self.recorder = recorder
        preparation = recorder.network.preprocessing
        if isinstance(preparation, Tokenisation):
            limit = min(split.max_length or preparation.max_length, preparation.max_length)
            self.reading = preparation.signature(limit)
        else:
            self.reading = repr(preparation)

    def features(self, layer: str, data: str) -> str:
        """Of a layer's features (or `INPUT`, `LOGITS`) of the data with this fingerprint."""
        recorder, pooling = self.recorder, self.recorder.poolings.get(layer)
        columns = None if pooling is None or pooling.columns is None else pooling.columns.tolist()
        pooled = (recorder.input_pool,) if pooling is None else (pooling.name, pooling.width, columns)
        point = next((one for one in recorder.points if one.name == layer), None)
        place = (layer, point.module, point.call) if point else (layer,)
        gives = recorder.signatures.get(layer, "")
        how = (pooled, self.reading, recorder.precision.used, recorder.folded, recorder.device.type)
        return key_of("features", recorder.network.fingerprint, place, gives, data, how, code_of(*CODE))

    def contents(self, split: Split, stamp: str) -> str:
        """Of the note that tells the fingerprint of a split, by its files, labels and a few of its items."""
        labels = hashlib.sha256(np.ascontiguousarray(split.labels).data).hexdigest()
        return key_of("contents", stamp, labels, _glimpse(split), self.recorder.skip_corrupt)

    def facts(self, data: str) -> str:
        """Of the note that tells what was said while the data with this fingerprint was read."""
        return key_of("facts", data, self.reading, self.recorder.skip_corrupt)


class IntoStore:
    """A sink that writes features to the store as they come.

    Args:
        names: of what is recorded.
        about: the data set and split, in words, for `tunnelscope cache`.
    """

    def __init__(self, store: Store, names: Names, about: str):
        self.store, self.names, self.about = store, names, about
        self.writers: dict[str, FeatureWriter] = {}

    def write(self, layer: str, rows: Rows, values: Tensor) -> None:
        """Take the features (b, width) of these rows of the split."""
        if layer not in self.writers:
            self.writers[layer] = self.store.feature_writer(values.shape[1])
        self.writers[layer].write(rows, values)

    def finish(self, fingerprint: str, rows: int) -> Mapping[str, Tensor]:
        """Make them entries of the store."""
        keys = {layer: self.names.features(layer, fingerprint) for layer in self.writers}
        model = self.names.recorder.network.source
        for layer, writer in self.writers.items():
            about = {"model": model, "data": self.about, "layer": layer, "rows": rows}
            writer.commit(keys[layer], rows, about)
        return StoredFeatures(self.store, keys)

    def discard(self) -> None:
        """Leave nothing behind that was not finished."""
        for writer in self.writers.values():
            writer.discard()


def record_both(
    recorder: Recorder,
    dataset: DataSet,
    notify: StageProgress | None = None,
    *,
    logits: bool = True,
    store: Store | None = None,
) -> tuple[Recorded, Recorded]:
    """Record a data set's training and test split, progress counted over both.

    Args:
        logits: the network's own output on the test split too.
        store: gives features that are there already and keeps the others; None holds them in memory.
    """
    total, kind = len(dataset.train) + len(dataset.test), dataset.train.kind
    done = 0

    def count(images: int) -> None:
        nonlocal done
        done += images
        if notify:
            notify(f"{dataset.key}: {kind} through the network", done, total)

    def one(role: str, split: Split, whole: bool) -> Recorded:
        name = f"{dataset.key} ({role})"
        if store is None:
            return recorder.record(split, count, name, logits=whole)
        stamp = f"{dataset.stamp} {role}" if dataset.stamp else ""
        return _through_store(recorder, split, count, name, whole, store, stamp)

    return one("train", dataset.train, False), one("test", dataset.test, logits)


def _through_store(
    recorder: Recorder, split: Split, count: Progress, name: str, whole: bool, store: Store, stamp: str
) -> Recorded:
    """Take what the store has of a split; send it through the network for the rest."""
    has_logits = whole and store.read_note(_no_logits(recorder)) is None
    layers = [INPUT, *(point.name for point in recorder.points), *([LOGITS] if has_logits else [])]
    names = Names(recorder, split)
    known = _known(names, split, store, stamp)
    missing = layers
    if known is not None:
        keys = {layer: names.features(layer, known.fingerprint) for layer in layers}
        missing = [layer for layer in layers if not store.has_features(keys[layer])]
        if not missing:
            count(len(split))
            prints = _prints_of(recorder, split, name, store, known.fingerprint)
            return replace(known, features=StoredFeatures(store, keys), keys=keys, prints=prints)
    wanted = [point for point in recorder.points if point.name in missing] or recorder.points[-1:]
    sink = IntoStore(store, names, name)
    try:
        recorded = replace(recorder, points=wanted).record(
            split, count, name, logits=LOGITS in missing, sink=sink
        )
    finally:
        sink.discard()
    _remember(names, split, store, stamp, recorded)
    _keep_prints(recorder, name, store, recorded.fingerprint, recorded.prints)
    if LOGITS in missing and LOGITS not in recorded.features:
        store.write_note(_no_logits(recorder), True)
        layers = layers[:-1]
    keys = {layer: names.features(layer, recorded.fingerprint) for layer in layers}
    return replace(recorded, features=StoredFeatures(store, keys), keys=keys)


def _prints_name(recorder: Recorder, data: str) -> str:
    return key_of("prints", data, recorder.network.preprocessing)


def _prints_of(recorder: Recorder, split: Split, name: str, store: Store, data: str) -> Prints:
    """The prints of a split's images: from the store, or by reading them again where it was cleared."""
    folder = store.outcome(_prints_name(recorder, data))
    prints = load_prints(folder) if folder else None
    if prints is None:
        prints = recorder.look_at(split, name)
        _keep_prints(recorder, name, store, data, prints)
    return prints


def _keep_prints(recorder: Recorder, name: str, store: Store, data: str, prints: Prints | None) -> None:
    if prints is not None:
        about = {"model": recorder.network.source, "data": name, "layer": "prints of the images"}
        store.write_outcome(_prints_name(recorder, data), prints.save, about)


def _no_logits(recorder: Recorder) -> str:
    """Name of the note that a network's own output is no row of logits an image."""
    return key_of("no logits", recorder.network.fingerprint)


def _known(names: Names, split: Split, store: Store, stamp: str) -> Recorded | None:
    """What is known of a split: its fingerprint by its files, or by its contents; what was said of it."""
    if stamp:
        fingerprint = store.read_note(names.contents(split, stamp))
    elif store.read_note(_seen(names.recorder)):
        fingerprint = _fingerprint(split)
    else:
        fingerprint = None  # nothing of this network is here, so the contents need not be read twice
    facts: Any = store.read_note(names.facts(fingerprint)) if isinstance(fingerprint, str) else None
    try:
        skipped = Skipped(len(split))
        skipped.rows, skipped.said = list(facts["skipped"]), list(facts["said"])
        labels = kept_labels(split, skipped)
        return Recorded({}, labels, str(fingerprint), skipped, tuple(facts["warnings"]))
    except (TypeError, KeyError, IndexError):  # no such note, or a damaged one
        return None


def _remember(names: Names, split: Split, store: Store, stamp: str, recorded: Recorded) -> None:
    skipped = recorded.skipped or Skipped(len(split))
    facts = {"skipped": skipped.rows, "said": skipped.said, "warnings": recorded.warnings}
    store.write_note(names.facts(recorded.fingerprint), facts)
    store.write_note(_seen(names.recorder), True)
    if stamp:
        store.write_note(names.contents(split, stamp), recorded.fingerprint)


def _seen(recorder: Recorder) -> str:
    """Name of the note that something of this network is in the store."""
    return key_of("network", recorder.network.fingerprint)


def _glimpse(split: Split) -> str:
    """A fingerprint of at most eight items: a set made from another one keeps its stamp, not its images."""
    fingerprint = Fingerprint()
    for index in spread_rows(len(split), 8):
        try:
            fingerprint.update(split.images[int(index)], 0)
        except Exception:  # a damaged image: it is named when all of them are read
            continue
    return fingerprint.hexdigest()


def _fingerprint(split: Split) -> str | None:
    """The fingerprint of a split in memory; None where an item cannot be read, which recording will name."""
    fingerprint = Fingerprint()
    try:
        for index, label in enumerate(split.labels):
            fingerprint.update(split.images[index], label)
    except Exception:
        return None
    return fingerprint.hexdigest()
