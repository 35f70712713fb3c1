"""Record: read all layers' features in one forward pass, pooled inside the hook."""

import hashlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from tunnelscope.data import (
    DataSet,
    Fingerprint,
    Prints,
    Skipped,
    Split,
    Thumbnails,
    Tokenisation,
    as_digests,
    as_split,
    batches,
    digest_of,
    image_shape,
    load_data,
    place_of,
    token_batches,
)
from tunnelscope.data.assemble import take_rows
from tunnelscope.data.images import UnreadableImage, naming
from tunnelscope.data.rows import spread_rows
from tunnelscope.errors import MachineError, RequestError
from tunnelscope.features import Pooling, check_class_token, pool_2x2
from tunnelscope.folding import find_folds, fold
from tunnelscope.forward import Reached, choose_device, lay_channels_last, on_device, reading
from tunnelscope.layers import ReadPoint, doubts, embedding_point, example_input, points_of
from tunnelscope.models import Network, load_network
from tunnelscope.precision import (
    AS_LOADED,
    FEW,
    MOST_ERROR,
    Precision,
    check_precision,
    has_bf16,
    in_bf16,
    numbers,
    relative_errors,
)
from tunnelscope.subject import INPUT
from tunnelscope.trace import Trace, first_tensor, trace_forward

LOGITS = "the network's logits"  # beside the layers where the whole pass is recorded
Rows = slice | Tensor  # which rows of a split: a range, or their numbers (b,) int64
Progress = Callable[[int], None]  # told how many images were just done
StageProgress = Callable[[str, int, int], None]  # told the stage in words, done and total


class Sink(Protocol):
    """Where features go as they are recorded."""

    def write(self, layer: str, rows: Rows, values: Tensor) -> None:
        """Take the features (b, width) of these rows of the split."""
        ...

    def finish(self, fingerprint: str, rows: int) -> Mapping[str, Tensor]:
        """Give the features of each layer, cut to that many rows."""
        ...


class InMemory:
    """A sink that holds everything in memory.

    Args:
        count: rows of the split.
    """

    def __init__(self, count: int):
        self.count = count
        self.features: dict[str, Tensor] = {}

    def write(self, layer: str, rows: Rows, values: Tensor) -> None:
        """Take the features (b, width) of these rows of the split."""
        if layer not in self.features:
            self.features[layer] = torch.empty(self.count, values.shape[1])
        self.features[layer][rows] = values

    def finish(self, fingerprint: str, rows: int) -> Mapping[str, Tensor]:
        """Give the features of each layer, cut to that many rows."""
        return {layer: values[:rows] for layer, values in self.features.items()}


@dataclass(frozen=True)
class Recorded:
    """Features of one split: each (n, width) float32, read from the store when asked for, or held.

    `LOGITS` are among them where they were asked for and the network gives one row an image.
    """

    features: Mapping[str, Tensor]
    labels: Tensor
    fingerprint: str
    skipped: Skipped | None = None  # images that could not be decoded: the features have no rows for them
    warnings: tuple[str, ...] = ()  # about the split, such as texts that were cut off
    keys: Mapping[str, str] | None = None  # names of the features in the store, by layer
    prints: Prints | None = None  # by which images that come twice are found

    @property
    def logits(self) -> Tensor | None:
        """The network's own output, (n, classes); None where it was not asked for or is none."""
        return self.features.get(LOGITS)


def kept_labels(split: Split, skipped: Skipped) -> Tensor:
    """The labels of the rows that were read: int64, or float64 where they are numbers."""
    labels = np.delete(np.asarray(split.labels), skipped.rows, axis=0)
    return torch.from_numpy(labels.astype(np.float64 if labels.dtype.kind == "f" else np.int64))


@dataclass(frozen=True)
class Recorder:
    """A network with the layers to read and how each is pooled, ready to record any split."""

    network: Network
    points: list[ReadPoint]
    poolings: dict[str, Pooling]  # by layer; by INPUT where layer 0 is read in the network
    flops: int  # of the whole network, for one image
    example: Tensor  # one preprocessed image, or text of 16 tokens, for timing
    device: torch.device
    batch_size: int
    workers: int
    skip_corrupt: bool = False  # leave images out that cannot be decoded
    warnings: tuple[str, ...] = ()  # doubts about the layers
    embedding: ReadPoint | None = None  # where a text encoder's layer 0 is read; None: it is the input
    running: nn.Module | None = None  # what passes go through, where it is a faster copy of the network
    folded: tuple[str, ...] = ()  # batch norms that the copy has inside the layer before them
    precision: Precision = AS_LOADED

    @property
    def input_pool(self) -> str:
        """How layer 0 is pooled: preprocessed pixels as `2x2`, vectors as they are, tokens as the layers."""
        if self.embedding is not None:
            return self.poolings[INPUT].name
        return {2: "none", 4: "2x2"}.get(self.example.dim(), "flatten")

    @cached_property
    def signatures(self) -> dict[str, str]:
        """A hash of what each layer gives for the example; it changes with whatever computes the layer.

        Numbers are rounded to half precision, so that the number of threads does not show.
        """
        outputs = self._as_loaded()._forward(self.example, whole=True)
        return {
            layer: hashlib.sha256(values.half().contiguous().numpy().tobytes()).hexdigest()
            for layer, values in outputs.items()
        }

    def settled(self, *splits: Split) -> "Recorder":
        """Decide on the precision by the first inputs of each split, 32 or more, sent through in both.

        Raises:
            RequestError: as for `record`.
        """
        asked = self.precision.asked
        if asked == "f32" or (asked == "auto" and not has_bf16(self.device)):
            return self
        module = self.running or self.network.module
        rounded = replace(self, running=in_bf16(module), precision=Precision(asked, "bf16"))
        error: dict[str, float] = {}
        for split in splits:
            first = self._first(split)
            try:
                here = relative_errors(*(one._of(first) for one in (self, rounded)))
            except MachineError:
                raise
            except Exception as problem:  # whatever a network raises that knows single precision alone
                self._of(first)  # where single precision fails too, that is the error
                return replace(self, precision=Precision(asked, reason=f"bf16 failed: {problem}"))
            error = {layer: max(value, error.get(layer, 0.0)) for layer, value in here.items()}
        worst = max(error, key=error.__getitem__)
        if not error[worst] <= MOST_ERROR:
            reason = (
                f"in bf16 layer {worst} is off by {error[worst]:.1%} of its spread, over {MOST_ERROR:.0%}"
            )
            return replace(self, precision=Precision(asked, error=error, reason=reason))
        return replace(rounded, precision=Precision(asked, "bf16", error))

    def _first(self, split: Split) -> list[Tensor]:
        """The first inputs of a split, in batches, at least so many as an error is measured on."""
        first: list[Tensor] = []

        def ignore(*_: Any) -> None:
            pass

        for _, batch in self._batches(split, "images", ignore, Skipped(len(split)), ignore):
            first.append(batch)
            if sum(map(len, first)) >= FEW:
                break
        return first

    def record(
        self,
        split: Split,
        progress: Progress | None = None,
        name: str = "images",
        *,
        logits: bool = True,
        sink: Sink | None = None,
    ) -> Recorded:
        """Send a split's images or texts through the network once and keep every layer's features.

        Args:
            name: of the split, for messages.
            logits: keep the network's own output too; without, the pass ends at the last layer read.
            sink: takes the features; in memory without one.

        Raises:
            RequestError: an image cannot be read, is not finite or does not fit the network, or a
                layer gives values that are not finite.
            MachineError: the device has too little memory.
        """
        check_reads(self.network, split)
        sink = sink or InMemory(len(split))
        fingerprint, skipped = Fingerprint(), Skipped(len(split))
        warnings: list[str] = []
        small = Thumbnails(len(split))

        def seen(index: int, digest: bytes) -> None:
            fingerprint.add(digest, split.labels[index])

        for rows, batch in self._batches(split, name, seen, skipped, warnings.append):
            small.add(batch)
            for layer, values in self._features(batch, logits, warnings).items():
                sink.write(layer, rows, values)
            if progress:
                progress(len(batch))
        if progress and skipped.rows:
            progress(len(skipped.rows))
        labels = kept_labels(split, skipped)
        return Recorded(
            sink.finish(fingerprint.hexdigest(), len(labels)),
            labels,
            fingerprint.hexdigest(),
            skipped,
            tuple(warnings),
            prints=Prints(as_digests(fingerprint.digests), small.all()),
        )

    def dry_run(self, split: Split) -> Generator[Tensor, None, None]:
        """Send batches through the network, keep nothing, and yield them as they went in."""

        def ignore(*_: Any) -> None:
            pass

        if split.kind == "texts":  # the longest of a sample of texts: batches hold texts of one length
            some = spread_rows(len(split), 512)
            batches = list(self._batches(take_rows(split, some), "texts", ignore, Skipped(len(some)), ignore))
            for _, batch in reversed(batches):
                whole = batch.repeat(-(-self.batch_size // len(batch)), 1)[: self.batch_size]
                self._features(whole, True, [])
                yield whole
            return
        for _, batch in self._batches(split, "images", ignore, Skipped(len(split)), ignore):
            self._features(batch, True, [])
            yield batch

    def look_at(self, split: Split, name: str = "images") -> Prints:
        """Read a split's images or texts without sending them through the network, for their prints."""
        fingerprint, skipped = Fingerprint(), Skipped(len(split))
        batches = self._batches(
            split, name, lambda _, digest: fingerprint.add(digest, 0), skipped, lambda _: None
        )
        small = Thumbnails(len(split))
        for _, batch in batches:
            small.add(batch)
        return Prints(as_digests(fingerprint.digests), small.all())

    def _batches(
        self,
        split: Split,
        name: str,
        on_digest: Callable[[int, bytes], None],
        skipped: Skipped,
        warn: Callable[[str], None],
    ) -> Iterator[tuple[Rows, Tensor]]:
        """Yield ready inputs and which rows of the split they are: pixels in order, tokens by length."""
        preparation = self.network.preprocessing
        if isinstance(preparation, Tokenisation):
            yield from token_batches(
                split.images,
                preparation,
                batch_size=self.batch_size,
                max_length=split.max_length,
                on_text=lambda index, text: on_digest(index, digest_of(text)),
                warn=warn,
            )
            return
        done = 0
        for batch in batches(
            split.images,
            preparation,
            batch_size=self.batch_size,
            workers=self.workers,
            on_image=on_digest,
            look=digest_of,
            on_corrupt=skipped.add if self.skip_corrupt else None,
        ):
            _check_finite(batch, split, done, name)
            if batch.shape[1:] != self.example.shape[1:]:
                raise self._misfit(batch, name, "layers would have other sizes and costs there")
            yield slice(done, done + len(batch)), batch
            done += len(batch)

    def _as_loaded(self) -> "Recorder":
        """The same in single precision and through the network itself."""
        return replace(self, running=None, folded=(), precision=AS_LOADED)

    def _of(self, batches: list[Tensor]) -> dict[str, Tensor]:
        """The features of a few batches, layers and the network's own output."""
        parts = [self._features(batch, True, []) for batch in batches]
        return {layer: torch.cat([part[layer] for part in parts]) for layer in parts[0] if layer != INPUT}

    def _features(self, batch: Tensor, whole: bool, warnings: list[str]) -> dict[str, Tensor]:
        """One batch through the network; by halves where the device has too little memory."""
        try:
            return self._forward(batch, whole=whole)
        except torch.OutOfMemoryError as error:
            if len(batch) == 1:
                raise MachineError(
                    f"{self.device} has too little memory for a single input; use another --device, or "
                    "fewer --layers"
                ) from error
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        half = (len(batch) + 1) // 2
        line = f"{self.device} had too little memory for {self.batch_size} inputs at once: taken by halves"
        if line not in warnings:
            warnings.append(line)
        halves = [self._features(part, whole, warnings) for part in batch.split(half)]
        return {layer: torch.cat([part[layer] for part in halves]) for layer in halves[0]}

    def _forward(self, batch: Tensor, *, whole: bool) -> dict[str, Tensor]:
        points, pixels = self.points, {}
        if self.embedding is not None:
            points = [self.embedding, *points]
        else:
            pixels = {INPUT: pool_2x2(batch) if self.input_pool == "2x2" else batch.flatten(1)}
        module = self.running or self.network.module
        with (
            torch.inference_mode(),
            numbers(self.precision.used, self.device),
            reading(module, points, self.poolings, stop=not whole) as read,
        ):
            output = self._output(module, on_device(batch, self.device))
        pooled = {layer: values.to("cpu", torch.float32) for layer, values in read.items()}
        for point in self.points:
            if not _is_finite(pooled[point.name]):
                raise RequestError(
                    f"layer {point.name!r} gives values that are not finite; the weights or the input "
                    "scale are wrong: check the weights file, and the preprocessing in `tunnelscope layers`"
                )
        logits = {LOGITS: output.float().cpu()} if output is not None and output.dim() == 2 else {}
        return pixels | pooled | logits

    @staticmethod
    def _output(module: nn.Module, batch: Tensor) -> Tensor | None:
        try:
            return first_tensor(module(batch))
        except Reached:
            return None

    def _misfit(self, batch: Tensor, name: str, reason: str) -> RequestError:
        given, known = (tuple(inputs.shape[1:]) for inputs in (batch, self.example))
        return RequestError(
            f"{name}: inputs of shape {given} do not fit {self.network.source}, which reads {known} here "
            f"({reason[:200]}); give every data set inputs of one shape"
        )


def make_recorder(
    network: Network,
    *,
    layers: str | Sequence[str] = "blocks",
    pool: str = "auto",
    device: str = "auto",
    batch_size: int | None = None,
    workers: int = 2,
    seed: int = 0,
    skip_corrupt: bool = False,
    shape: tuple[int, ...] | None = None,
    precision: str = "f32",
) -> Recorder:
    """Find the layers of a network, choose their pooling and put the network on its device.

    Args:
        skip_corrupt: leave images out that cannot be decoded, instead of an error.
        shape: of one ready input, when images bypass the network's preprocessing.
        precision: `f32`, `bf16` or `auto`; anything but f32 is decided by `Recorder.settled`.

    Raises:
        RequestError: unknown layer, pooling, precision or device, or a network that cannot take its input.
    """
    target = choose_device(device)
    module = network.module.to(target)
    lay_channels_last(module)
    example = _example(network, shape)
    trace = trace_forward(module, example.to(target))
    points = points_of(trace, layers)
    check_class_token(points, pool)
    embedding = None
    if isinstance(network.preprocessing, Tokenisation):
        if pool == "flatten":
            raise RequestError("--pool flatten needs inputs of one shape, texts differ in length; use mean")
        embedding = replace(embedding_point(trace), name=INPUT)
    read = points if embedding is None else [embedding, *points]
    poolings = {point.name: Pooling(point, pool, seed) for point in read}
    size = batch_size or (128 if example.shape[-1] <= 64 else 32)
    recorder = Recorder(
        network,
        points,
        poolings,
        trace.flops,
        example,
        target,
        size,
        workers,
        skip_corrupt,
        warnings=tuple(doubts(trace, points, layers)),
        embedding=embedding,
        precision=Precision(check_precision(precision)),
    )
    return _with_norms_folded(recorder, trace, read)


def _with_norms_folded(recorder: Recorder, trace: Trace, read: Sequence[ReadPoint]) -> Recorder:
    """The recorder of a copy with batch norms folded, where that gives what the network gives."""
    folds = find_folds(trace, read)
    if not folds:
        return recorder
    norms = tuple(one.norm for one in folds)
    try:
        folded = replace(recorder, running=fold(recorder.network.module, folds), folded=norms)
        plain, fast = (one._forward(one.example, whole=True) for one in (recorder, folded))
    except Exception:  # a network that cannot be copied, or fails: what it says is said when it is recorded
        return recorder
    alike = all(
        (values - fast[layer]).abs().max() <= 1e-3 * values.abs().max() for layer, values in plain.items()
    )
    return folded if alike else recorder


def recorder_for(
    model: str | nn.Module | Network,
    split: Split,
    *others: Split,
    weights: str | None = None,
    classes: int | None = None,
    seed: int = 0,
    **settings: Any,
) -> Recorder:
    """Load a network for a split's images, unless it is loaded, and make its recorder, precision decided.

    Args:
        others: splits that the recorder is for too.
        classes: of the data the network was trained on, where that is what it is recorded on.
        settings: as for `make_recorder`.
    """
    if not isinstance(model, Network):
        model = load_network(
            model, weights=weights, image_shape=image_shape(split), classes=classes, seed=seed
        )
    for one in (split, *others):
        check_reads(model, one)
    return make_recorder(model, seed=seed, shape=ready_shape(split), **settings).settled(split, *others)


def check_reads(network: Network, split: Split) -> None:
    """Refuse texts for a network that reads images, and images for one that reads texts."""
    reads = "texts" if isinstance(network.preprocessing, Tokenisation) else "images"
    if split.kind == reads:
        return
    reads, held = ("text", "images") if reads == "texts" else ("images", "text")
    origin = place_of(split.images, 0).partition(" of ")[2]
    name = "the data" if origin in ("", "images", "texts") else origin
    raise RequestError(f"{network.source} reads {reads}; {name} holds {held}; give data that holds {reads}")


def record(
    model: str | nn.Module | Network,
    images: object,
    *,
    layers: str | Sequence[str] = "blocks",
    pool: str = "auto",
    weights: str | None = None,
    split: str = "train",
    device: str = "auto",
    batch_size: int | None = None,
    workers: int = 2,
    seed: int = 0,
    precision: str = "f32",
    progress: Progress | None = None,
) -> dict[str, Tensor]:
    """Read the features of all chosen layers in one forward pass.

    Args:
        model: a name as on the command line, an `nn.Module`, or a loaded `Network`.
        images: a tensor of ready inputs (n, C, H, W) or (n, d), uint8 images (n, H, W[, C]), a list
            of PIL images or texts, a torch data set, or a data set's name (then `split` says which half).
        layers: `blocks`, `modules`, `convs`, `conv-inputs`, `all`, a name, a list of names, or a regular
            expression.
        pool: `auto`, `2x2`, `avg`, `flatten`, and for tokens `cls`, `mean`, `cls+mean` or `last`.
        precision: the numbers the network runs in: `f32`, `bf16`, or `auto` (bf16 where the device has it);
            f32 all the same where bf16 moves a layer's features by more than 5 % of their spread.

    Returns:
        {layer name: (n, width) float32}, in the order of the forward pass.

    Raises:
        RequestError: an unknown name, unreadable images, activations that are not finite.
        MachineError: the device is missing or out of memory.
    """
    chosen = _chosen_split(images, split, seed)
    recorder = recorder_for(
        model,
        chosen,
        weights=weights,
        layers=layers,
        pool=pool,
        device=device,
        batch_size=batch_size,
        workers=workers,
        seed=seed,
        precision=precision,
    )
    features = recorder.record(chosen, progress, logits=False).features
    return {point.name: features[point.name] for point in recorder.points}


def ready_shape(split: Split) -> tuple[int, ...] | None:
    """The shape of one input when the images are ready-made tensors, else None."""
    first = None
    with suppress(UnreadableImage), naming(split.images, 0):  # an encoded image is no ready input
        first = split.images[0]
    return tuple(first.shape) if isinstance(first, Tensor) and first.is_floating_point() else None


def _example(network: Network, shape: tuple[int, ...] | None) -> Tensor:
    if shape is not None:
        return torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    if isinstance(network.preprocessing, Tokenisation):
        return network.preprocessing.example()
    if network.preprocessing is None:
        raise RequestError(
            f"the input size of {network.source} is not known (no images, or images of several sizes); "
            f"write it into the name: {network.source}?size=224"
        )
    return example_input(network.preprocessing.size, network.preprocessing.channels)


def _chosen_split(images: object, split: str, seed: int) -> Split:
    if isinstance(images, (str, DataSet)):
        dataset = load_data(images, seed=seed)
        if split not in ("train", "test"):
            raise RequestError(f"no split named {split!r}; a data set has train and test")
        return dataset.train if split == "train" else dataset.test
    return as_split(images)


def _is_finite(values: Tensor) -> bool:
    """Whether all values are; their sum tells at a fifth of the cost, unless it overflows."""
    return bool(values.sum().isfinite()) or bool(values.isfinite().all())


def _check_finite(batch: Tensor, split: Split, first: int, name: str) -> None:
    """Refuse inputs that are not finite before a layer is blamed for what they become."""
    if not _is_finite(batch):
        finite = torch.isfinite(batch).flatten(1).all(dim=1)
        place = place_of(split.images, first + int(finite.logical_not().nonzero()[0]))
        where = place if name in place else f"{name}, {place}"
        raise RequestError(
            f"{where}: the input holds values that are not finite (NaN or infinity); mend it or take it out"
        )
