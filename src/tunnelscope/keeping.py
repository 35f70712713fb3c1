"""What was recorded, kept in the store by what determines it, so that no pass is made twice."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from tunnelscope.data import DataSet, Fingerprint, Prints, Skipped, Split, load_prints
from tunnelscope.recording import INPUT, LOGITS, Progress, Recorded, Recorder, Rows, StageProgress
from tunnelscope.store import FeatureWriter, Store, key_of


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


class IntoStore:
    """A sink that writes features to the store as they come.

    Args:
        recorder: whose features they are.
        about: the data set and split, in words, for `tunnelscope cache`.
    """

    def __init__(self, store: Store, recorder: Recorder, about: str):
        self.store, self.recorder, self.about = store, recorder, about
        self.writers: dict[str, FeatureWriter] = {}

    def write(self, layer: str, rows: Rows, values: Tensor) -> None:
        """Take the features (b, width) of these rows of the split."""
        if layer not in self.writers:
            self.writers[layer] = self.store.feature_writer(values.shape[1])
        self.writers[layer].write(rows, values)

    def finish(self, fingerprint: str, rows: int) -> Mapping[str, Tensor]:
        """Make them entries of the store."""
        keys = {layer: feature_key(self.recorder, layer, fingerprint) for layer in self.writers}
        for layer, writer in self.writers.items():
            about = {"model": self.recorder.network.source, "data": self.about, "layer": layer, "rows": rows}
            writer.commit(keys[layer], rows, about)
        return StoredFeatures(self.store, keys)

    def discard(self) -> None:
        """Leave nothing behind that was not finished."""
        for writer in self.writers.values():
            writer.discard()


def feature_key(recorder: Recorder, layer: str, data: str) -> str:
    """The name of a layer's features of some data in the store.

    Args:
        layer: of the recorder's points, or `INPUT` or `LOGITS`.
        data: fingerprint of the split.
    """
    network, pooling = recorder.network, recorder.poolings.get(layer)
    point = next((one for one in recorder.points if one.name == layer), None)
    place = (layer, point.module, point.call) if point else (layer,)
    if pooling is None:
        pooled: tuple = (recorder.input_pool,) if layer == INPUT else ()
    else:
        columns = None if pooling.columns is None else pooling.columns.tolist()
        pooled = (pooling.name, pooling.width, columns)
    precision = ("float32", recorder.device.type)
    return key_of("features", network.fingerprint, data, place, pooled, network.preprocessing, precision)


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
    known = _known(recorder, split, store, stamp)
    missing = layers
    if known is not None:
        keys = {layer: feature_key(recorder, layer, known.fingerprint) for layer in layers}
        missing = [layer for layer in layers if not store.has_features(keys[layer])]
        if not missing:
            count(len(split))
            prints = _prints_of(recorder, split, name, store, known.fingerprint)
            return replace(known, features=StoredFeatures(store, keys), keys=keys, prints=prints)
    wanted = [point for point in recorder.points if point.name in missing] or recorder.points[-1:]
    sink = IntoStore(store, recorder, name)
    try:
        recorded = replace(recorder, points=wanted).record(
            split, count, name, logits=LOGITS in missing, sink=sink
        )
    finally:
        sink.discard()
    _remember(recorder, split, store, stamp, recorded)
    _keep_prints(recorder, name, store, recorded.fingerprint, recorded.prints)
    if LOGITS in missing and LOGITS not in recorded.features:
        store.write_note(_no_logits(recorder), True)
        layers = layers[:-1]
    keys = {layer: feature_key(recorder, layer, recorded.fingerprint) for layer in layers}
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


def _note_name(recorder: Recorder, split: Split, stamp: str) -> str:
    reading = (recorder.network.preprocessing, recorder.skip_corrupt, split.max_length)
    return key_of("split", stamp, len(split), *(reading if split.kind == "texts" else reading[1:]))


def _known(recorder: Recorder, split: Split, store: Store, stamp: str) -> Recorded | None:
    """What is known of a split without reading it: by the files it comes from, or by its contents."""
    labels = torch.as_tensor(np.asarray(split.labels), dtype=torch.int64)
    if not stamp:
        if store.read_note(key_of("network", recorder.network.fingerprint)) is None:
            return None  # nothing of this network is here, so the contents need not be read twice
        fingerprint = _fingerprint(split)
        return None if fingerprint is None else Recorded({}, labels, fingerprint)
    note = store.read_note(_note_name(recorder, split, stamp))
    if note is None:
        return None
    skipped = Skipped(len(split))
    skipped.rows, skipped.said = note["skipped"], note["said"]
    labels = torch.as_tensor(np.delete(labels.numpy(), skipped.rows), dtype=torch.int64)
    return Recorded({}, labels, note["fingerprint"], skipped, tuple(note["warnings"]))


def _remember(recorder: Recorder, split: Split, store: Store, stamp: str, recorded: Recorded) -> None:
    store.write_note(key_of("network", recorder.network.fingerprint), recorder.network.source)
    if stamp:
        skipped = recorded.skipped or Skipped(len(split))
        note = {"fingerprint": recorded.fingerprint, "skipped": skipped.rows, "said": skipped.said}
        store.write_note(_note_name(recorder, split, stamp), note | {"warnings": recorded.warnings})


def _fingerprint(split: Split) -> str | None:
    """The fingerprint of a split in memory; None where an item cannot be read, which recording will name."""
    fingerprint = Fingerprint()
    try:
        for index, label in enumerate(split.labels):
            fingerprint.update(split.images[index], int(label))
    except Exception:
        return None
    return fingerprint.hexdigest()
