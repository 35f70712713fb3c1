"""Tar shards as the WebDataset library writes them: members KEY.jpg with KEY.cls, KEY.txt or KEY.json beside.

A shard is read through once for an index of where each image lies; an image is then one read at that place.
"""

import json
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from tunnelscope.data.dataset import Images
from tunnelscope.data.folders import EXTENSIONS
from tunnelscope.data.images import decode
from tunnelscope.data.labelled import Labelled, Part, group_shards, number_labels, number_values
from tunnelscope.data.query import Options
from tunnelscope.data.sniff import looks_like
from tunnelscope.data.targets import from_lists
from tunnelscope.errors import RequestError
from tunnelscope.tasks import CLASSIFICATION

LABELS = ("cls", "json", "txt")
COMPRESSED = re.compile(r"\.(tar\.(gz|bz2|xz|zst)|tgz|tbz2|txz)$", re.IGNORECASE)
MOST_LABEL_BYTES = 1 << 20  # a label is a word or a small JSON object
END = bytes(tarfile.BLOCKSIZE)


class Member(NamedTuple):
    """Where a member's bytes lie in its shard."""

    offset: int
    size: int


@dataclass
class Sample:
    """The members that share a key: where each image lies, and the label files' bytes, by extension."""

    key: str
    shard: Path
    images: dict[str, Member] = field(default_factory=dict)
    labels: dict[str, bytes] = field(default_factory=dict)


class TarImages:
    """Images inside shards, each one read of its bytes; threads may read at once."""

    def __init__(self, places: Sequence[tuple[Path, str, Member]], origin: str) -> None:
        self.places, self.origin = places, origin

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Any:
        shard, _, member = self.places[index]
        with shard.open("rb") as stream:  # a handle of its own: threads share no position
            stream.seek(member.offset)
            return decode(stream.read(member.size), self.place(index))

    def place(self, index: int) -> str:
        """Say which image that is."""
        shard, name, _ = self.places[index]
        return f"{name} in {shard} of {self.origin}"


def find_splits(path: Path) -> dict[str, list[Path]]:
    """Return a file's or folder's shards by split (`labelled.split_name`); a lone file is one split.

    Raises:
        RequestError: shards that are compressed.
    """
    if path.is_file():
        shards = [path] if path.suffix.lower() == ".tar" or COMPRESSED.search(path.name) else []
        splits = {"": shards} if shards else {}
    else:
        found = [file for file in path.rglob("*.t*") if file.suffix == ".tar" or COMPRESSED.search(file.name)]
        splits = group_shards((file for file in found if file.is_file()), path)
        shards = found
    refuse_compressed(shards)
    return splits


def refuse_compressed(shards: Sequence[Path]) -> None:
    """Say what to do with a compressed shard: nothing in it can be found without reading all before it."""
    for shard in shards:
        if COMPRESSED.search(shard.name):
            raise RequestError(
                f"{shard} is compressed, so single images cannot be read from it; decompress it to a .tar "
                "(images are compressed already), or unpack it into class folders"
            )


def read_tars(
    splits: dict[str, list[Path]], options: Options, key: str, listed: Callable[[int], None]
) -> Labelled:
    """Index the shards and read their labels.

    Args:
        splits: the one or two that are used, shards in order.
        options: `label` is cls, txt or a field of the JSON members (default: the first there is of `cls`, the
            JSON field `label`, `txt`); `image` an extension where a key has several images; `group` a field.
        key: the set, for messages.
        listed: told how many members were just listed.

    Raises:
        RequestError: a damaged shard, an image without a label, a label without an image, labels that are no
            integers or strings.
    """
    samples = {
        name: [sample for shard in shards for sample in _index(shard, listed)]
        for name, shards in splits.items()
    }
    for name, shards in splits.items():
        if not samples[name]:
            raise RequestError(
                f"{shards[0]} holds no images; wanted: members KEY.jpg (.png, …) with KEY.cls, .txt or .json"
            )
    kind = options.label or _kind(next(iter(samples.values()))[0])
    known, values = _all_values(samples, kind, key)
    task, names, labels = number_labels(values, known, key)
    notes = [
        f"labels: {f'.{kind} members' if kind in ('cls', 'txt') else f'field {kind} of the .json members'}"
    ]
    if task == CLASSIFICATION and values[0].dtype.kind == "i" and names != tuple(map(str, range(len(names)))):
        notes.append(f"label values {names[0]} to {names[-1]} are numbered 0 to {len(names) - 1}")
    groups = [None] * len(samples)
    if options.group:
        groups = number_values([_strings(found, options.group) for found in samples.values()])[1]
    parts = [
        Part(
            name,
            numbers,
            partial(_read_images, found, options.image, f"{key} ({name})" if name else key),
            group,
        )
        for (name, found), numbers, group in zip(samples.items(), labels, groups, strict=True)
    ]
    return Labelled(names, tuple(parts), tuple(notes), task)


def _index(shard: Path, listed: Callable[[int], None]) -> list[Sample]:
    """The samples of one shard, in the order of their first members."""
    samples: dict[str, Sample] = {}
    with shard.open("rb") as stream:
        for name, member in _members(shard, stream):
            listed(1)
            folder, slash, base = name.rpartition("/")
            stem, _, extension = base.partition(".")
            extension = extension.lower()
            if not stem or not (f".{extension}" in EXTENSIONS or extension in LABELS):
                continue
            sample = samples.setdefault(f"{folder}{slash}{stem}", Sample(f"{folder}{slash}{stem}", shard))
            if extension in sample.images or extension in sample.labels:
                raise RequestError(f"{shard} holds {name} twice; each key has one image and one label")
            if extension in LABELS:
                stream.seek(member.offset)
                sample.labels[extension] = stream.read(min(member.size, MOST_LABEL_BYTES))
            else:
                sample.images[extension] = member
    for sample in samples.values():
        _check_partners(sample)
    return list(samples.values())


def _members(shard: Path, stream: BinaryIO) -> Iterator[tuple[str, Member]]:
    """Name and place of each regular file, in order.

    `tarfile` takes a damaged header for the end; the end of an archive is a block of zeros, so what else
    stands there is damage.
    """
    size = stream.seek(0, 2)
    stream.seek(0)
    position = 0
    try:
        with tarfile.open(fileobj=stream, mode="r:") as archive:
            while (member := archive.next()) is not None:
                if member.offset < position or member.offset_data + member.size > size:
                    raise tarfile.ReadError("unexpected end of data")
                position = member.offset_data
                archive.members = []  # type: ignore[attr-defined]  # it keeps all it has met
                if member.isreg() and not member.issparse():
                    yield member.name, Member(member.offset_data, member.size)
            position = archive.offset  # type: ignore[attr-defined]
        stream.seek(position)
        if stream.read(tarfile.BLOCKSIZE) != END:
            raise tarfile.ReadError(f"no member and no end of the archive at byte {position}")
    except (tarfile.TarError, OSError, EOFError, ValueError, OverflowError, KeyError, IndexError) as error:
        stream.seek(0)
        looks = looks_like(stream.read(512))
        raise RequestError(
            f"{shard} is no whole tar archive ({error or type(error).__name__}): it looks like {looks}; "
            "was a download cut short? Fetch it again"
        ) from error


def _check_partners(sample: Sample) -> None:
    if not sample.images:
        extension = next(iter(sample.labels))
        raise RequestError(
            f"{sample.key}.{extension} in {sample.shard} has no image beside it "
            f"(wanted {sample.key}.jpg, .png, …)"
        )
    if not sample.labels:
        extension = next(iter(sample.images))
        raise RequestError(
            f"{sample.key}.{extension} in {sample.shard} has no label beside it (wanted {sample.key}.cls, "
            f"{sample.key}.txt or {sample.key}.json)"
        )


def _kind(sample: Sample) -> str:
    """Where labels are when nobody says: a whole set has them in the same place."""
    if "cls" in sample.labels:
        return "cls"
    return "label" if "json" in sample.labels else "txt"


def _all_values(
    samples: dict[str, list[Sample]], kind: str, key: str
) -> tuple[Sequence[str] | None, list[np.ndarray]]:
    """The labels of each split; the names of labels where a list a row tells them."""
    if kind in ("cls", "txt"):
        return None, [_label_values(found, kind) for found in samples.values()]
    fields = [[_field(sample, kind) for sample in found] for found in samples.values()]
    is_list = [isinstance(value, list) for values in fields for value in values]
    if any(is_list):
        if not all(is_list):
            raise RequestError(f"{key}: {kind!r} is a list in some .json members and none in others")
        return from_lists(fields, None, key)  # type: ignore[arg-type]
    return None, [
        _field_values(values, found, kind) for values, found in zip(fields, samples.values(), strict=True)
    ]


def _label_values(samples: list[Sample], kind: str) -> np.ndarray:
    """Integers where all labels are some, else strings."""
    texts = [_text(sample, kind) for sample in samples]
    if all(re.fullmatch(r"[+-]?\d{1,18}", text) for text in texts):
        return np.array([int(text) for text in texts], dtype=np.int64)
    if kind == "txt":
        return np.array(texts)
    wrong = next(place for place, text in enumerate(texts) if not re.fullmatch(r"[+-]?\d{1,18}", text))
    sample = samples[wrong]
    raise RequestError(
        f"{sample.key}.cls in {sample.shard} holds {texts[wrong][:40]!r}, which is no integer; "
        "names belong into .txt or .json members"
    )


def _field_values(values: list[Any], samples: list[Sample], name: str) -> np.ndarray:
    """Integers where all are some, floats where all are numbers, else strings."""
    if all(isinstance(value, int) for value in values):
        return np.array(values, dtype=np.int64)
    if all(isinstance(value, (int, float)) for value in values):
        return np.array(values, dtype=np.float64)
    for sample, value in zip(samples, values, strict=True):
        if not isinstance(value, str):
            raise RequestError(
                f"{sample.key}.json in {sample.shard}: {name!r} is {str(value)[:40]}, "
                "in other members a string; labels are all numbers or all strings"
            )
    return np.array(values)


def _strings(samples: list[Sample], name: str) -> np.ndarray:
    return np.array([str(_field(sample, name)) for sample in samples])


def _field(sample: Sample, name: str) -> int | float | str | list:
    place = f"{sample.key}.json in {sample.shard}"
    if "json" not in sample.labels:
        raise RequestError(
            f"{sample.key} in {sample.shard} has no .json member to read {name!r} from; "
            f"it has: {', '.join('.' + kind for kind in sample.labels)} (?label=cls, txt or a JSON field)"
        )
    try:
        fields = json.loads(sample.labels["json"])
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{place} is no JSON: {' '.join(str(error).split())}") from error
    if not isinstance(fields, dict) or name not in fields:
        has = ", ".join(fields) if isinstance(fields, dict) else type(fields).__name__
        raise RequestError(f"{place} has no field {name!r}, it has: {has}; choose one with ?label=FIELD")
    value = fields[name]
    is_large = isinstance(value, int) and abs(value) >= 2**63
    if isinstance(value, bool) or not isinstance(value, (int, float, str, list)) or is_large:
        raise RequestError(
            f"{place}: {name!r} is {str(value)[:40]}; labels are integers or strings, numbers, or lists"
        )
    return value


def _text(sample: Sample, kind: str) -> str:
    if kind not in sample.labels:
        has = ", ".join("." + other for other in sample.labels)
        raise RequestError(
            f"{sample.key} in {sample.shard} has no .{kind} member as others do; it has: {has}"
        )
    try:
        return sample.labels[kind].decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise RequestError(f"{sample.key}.{kind} in {sample.shard} is no UTF-8 text") from error


def _read_images(samples: list[Sample], wanted: str | None, origin: str, rows: np.ndarray) -> Images:
    return TarImages([_place(samples[row], wanted) for row in rows], origin)


def _place(sample: Sample, wanted: str | None) -> tuple[Path, str, Member]:
    has = ", ".join(sample.images)
    if wanted is not None and wanted not in sample.images:
        raise RequestError(f"{sample.key} in {sample.shard} has no image .{wanted}; it has: {has}")
    if wanted is None and len(sample.images) > 1:
        raise RequestError(
            f"{sample.key} in {sample.shard} has several images: {has}; choose with ?image=jpg"
        )
    extension = wanted or next(iter(sample.images))
    return sample.shard, f"{sample.key}.{extension}", sample.images[extension]
