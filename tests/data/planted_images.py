"""Tiny labelled images with known pixels, written in every form that the data room reads."""

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from torch.utils.data import Dataset

from tunnelscope.data import DataSet, Fingerprint

NAMES = ("cat", "dog", "t-shirt")
TRAIN = [0, 1, 2, 0, 1, 2, 2, 1, 0, 0, 1, 2]
TEST = [2, 1, 0, 2]


def pixels_of(index: int, label: int, side: int = 6) -> np.ndarray:
    """An RGB image that tells its index and label: (side, side, 3) uint8."""
    image = np.random.default_rng(1000 * label + index).integers(0, 256, (side, side, 3), dtype=np.uint8)
    image[0, 0] = (index % 256, label, index // 256)
    return image


def encode(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    stream = BytesIO()
    options = {"lossless": True} if kind == "WEBP" else {}
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def write_parquet(
    path: Path,
    labels,
    *,
    names=None,
    column="label",
    image="img",
    kind="PNG",
    images=None,
    extra=None,
    group=4,
    binary=False,
) -> Path:
    """Write one file in the hub's form: struct {bytes, path}, labels, names as metadata."""
    if images is None:
        images = [encode(pixels_of(index, _number(label)), kind) for index, label in enumerate(labels)]
    structs = (
        images if binary else [image if image is None else {"bytes": image, "path": None} for image in images]
    )
    image_type = pa.binary() if binary else pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    arrays = {image: pa.array(structs, type=image_type), column: pa.array(labels), **(extra or {})}
    features = {image: {"_type": "Image"}}
    if names is not None:
        features[column] = {"names": list(names), "_type": "ClassLabel"}
    table = pa.table(arrays).replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=group)
    return path


def write_folders(root: Path, counts: dict[str, int], kind: str = "PNG") -> Path:
    """Write class folders with `counts` images each."""
    for label, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for index in range(count):
            (root / name / f"{index:03}.{kind.lower()}").write_bytes(encode(pixels_of(index, label), kind))
    return root


def fingerprint(data: DataSet) -> str:
    seen = Fingerprint()
    for split in (data.train, data.test):
        for index, label in enumerate(split.labels):
            seen.update(split.images[index], label)
    return seen.hexdigest()


def planted_rows(split) -> list[int]:
    """The index that each image tells."""
    images = [np.asarray(split.images[index]) for index in range(len(split))]
    return [int(image[0, 0, 0]) + 256 * int(image[0, 0, 2]) for image in images]


def planted_labels(split) -> list[int]:
    return [int(np.asarray(split.images[index])[0, 0, 1]) for index in range(len(split))]


def _number(label) -> int:
    return label if isinstance(label, int) else len(str(label))


class Planted(Dataset):
    """A torch Dataset that counts how often it is read."""

    def __init__(self, labels, **attributes):
        self.data, self.reads = labels, 0
        for name, value in attributes.items():
            setattr(self, name, value)

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        self.reads += 1
        return pixels_of(index, int(self.data[index])), self.data[index]
