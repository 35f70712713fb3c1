"""docs/data.md: every example in its tables is a source that can be read, its Python runs."""

import io
import itertools
import json
import re
import shlex
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from planted_images import NAMES, TRAIN, encode, pixels_of, write_folders, write_parquet

from tunnelscope.cli import cli
from tunnelscope.data import load_data, load_draws
from tunnelscope.data.query import Options

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "data.md").read_text()
SOURCES = [
    example
    for row in re.findall(r"^\|[^|]+\|([^|]+)\|", PAGE, re.MULTILINE)
    for example in re.findall(r"`([^`]+)`", row)
]


def write_shard(path: Path, labels) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for index, label in enumerate(labels):
            for name, content in (
                (f"{index}.jpg", encode(pixels_of(index, label), "JPEG")),
                (f"{index}.cls", str(label).encode()),
                (f"{index}.json", json.dumps({"label": label}).encode()),
            ):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))


@pytest.fixture
def data(tmp_path, monkeypatch):
    """The folder `data` of the page, with a hub that gives its pets."""
    datasets = pytest.importorskip("datasets")
    breeds = {"breed": pa.array([f"b{label}" for label in TRAIN])}
    for split, labels in (("train", TRAIN), ("test", TRAIN)):
        path = tmp_path / "data" / "pets" / f"{split}-00000-of-00001.parquet"
        write_parquet(path, labels, names=NAMES, image="image", extra=breeds)
    for split in ("train", "test"):
        write_folders(tmp_path / "data" / "photos" / split, {"ant": 5, "bee": 5, "cow": 5})
    write_folders(tmp_path / "data" / "flat", {"ant": 5, "bee": 5})
    for name in ("train-000", "train-001", "test-000"):
        write_shard(tmp_path / "data" / "shards" / f"{name}.tar", [0, 1, 2, 3, 4] * 3)
    folder = tmp_path / "data" / "questions"
    folder.mkdir()
    for split in ("train", "test"):
        texts = {"text": [f"what is {label}?" for label in TRAIN], "label": [f"c{label}" for label in TRAIN]}
        pq.write_table(pa.table(texts), folder / f"{split}-00000-of-00001.parquet")
    patients = {"patient": pa.array([f"p{row // 2}" for row in range(24)])}
    write_parquet(tmp_path / "data" / "grouped.parquet", TRAIN * 2, names=NAMES, extra=patients)
    original, folder = datasets.load_dataset, str(tmp_path / "data" / "pets")
    monkeypatch.setattr(
        datasets, "load_dataset", lambda *_: original(folder, cache_dir=str(tmp_path / "cache"))
    )
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("source", SOURCES)
def test_every_example_can_be_read(data, source):
    loaded = load_draws(source)[-1]
    assert len(loaded.train) > 0
    assert len(loaded.test) > 0
    assert loaded.train.images[0] is not None


def test_the_page_has_every_option_and_form():
    assert len(SOURCES) > 15
    for option in Options.__dataclass_fields__:
        assert f"`{option}`" in PAGE
        assert any(f"{option}=" in source for source in SOURCES)


def test_commands_of_the_page_have_existing_options(data):
    known = {option for command in cli.commands.values() for one in command.params for option in one.opts}
    for line in re.findall(r"^tunnelscope .*", PAGE, re.MULTILINE):
        words = shlex.split(line)
        assert words[1] in cli.commands
        assert {word for word in words if word.startswith("--")} <= known
        for option, value in itertools.pairwise(words):
            if option in ("--id", "--ood"):
                assert len(load_data(value).train) > 0


def test_the_python_of_the_page_runs():
    [block] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    place: dict = {}
    exec(block, place)
    assert place["scan"].run["data"][0]["n_test"] == 30
