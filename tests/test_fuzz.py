"""Damaged files of every kind end a command in one line, or are read: never a traceback, a hang, or exit 70.

`TUNNELSCOPE_FUZZ=2000 pytest tests/test_fuzz.py` looks longer, and at other damage each time.
"""

import contextlib
import io
import json
import os
import shutil
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

import tunnelscope as ts
from tunnelscope.cli import main

sys.path.insert(0, str(Path(__file__).parent / "data"))
from planted_images import encode, pixels_of, write_folders, write_parquet

MODEL = "zoo:mlp?depth=1&width=4&classes=2"
LABELS = [0, 1] * 6
LONG = "TUNNELSCOPE_FUZZ" in os.environ


def fuzz(examples: int) -> settings:
    """As many examples as take a second or less, always the same; or as many as asked for, always others."""
    return settings(
        max_examples=int(os.environ.get("TUNNELSCOPE_FUZZ", examples)),
        derandomize=not LONG,
        deadline=20_000,  # milliseconds: a hang
        suppress_health_check=list(HealthCheck),
    )


@st.composite
def damaged(draw, content: bytes) -> bytes:
    """The content cut short, with some bits flipped, a stretch overwritten or repeated; or other bytes."""
    kind = draw(st.sampled_from(["other", "cut", "flip", "flip", "overwrite", "repeat"]))
    if kind == "other":
        return draw(st.binary(max_size=200))
    places = st.integers(0, len(content) - 1)
    if kind == "cut":
        return content[: draw(places)]
    changed = bytearray(content)
    if kind == "flip":
        for place in draw(st.lists(places, min_size=1, max_size=8)):
            changed[place] ^= 1 << draw(st.integers(0, 7))
        return bytes(changed)
    start = draw(places)
    if kind == "overwrite":
        patch = draw(st.binary(min_size=1, max_size=64))
        changed[start : start + len(patch)] = patch
        return bytes(changed)
    return bytes(changed[: start + draw(st.integers(1, 100))] + changed[start:])


def ends_well(*arguments: object) -> int:
    """Run a command and check how it ended; return its exit code."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    said = err.getvalue()
    code = int(stop.value.code or 0)
    assert code in (0, 2, 3), said
    assert "Traceback" not in said
    if code:
        assert out.getvalue() == ""
        assert said.splitlines()[-1].startswith("tunnelscope: ")
    return code


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a sound set, a sound scan and weights to damage."""
    root = tmp_path_factory.mktemp("fuzz")
    write_folders(root / "set", {"ant": 8, "bee": 8})
    ts.scan(MODEL, id=str(root / "set"), out=root / "run")
    state = ts.load_network(MODEL, weights="random", image_shape=(3, 6, 6), classes=2).module.state_dict()
    save_file(dict(state), root / "w.safetensors")
    torch.save(state, root / "w.pth")
    return root


def record(place: Path, data: object, *options: object) -> int:
    return ends_well("record", MODEL, data, "--out", place / "out.safetensors", *options)


def parquet_file(path: Path) -> bytes:
    return write_parquet(path / "sound.parquet", LABELS, names=("ant", "bee")).read_bytes()


def tar_file(path: Path) -> bytes:
    with tarfile.open(path / "sound.tar", "w") as archive:
        for index, label in enumerate(LABELS):
            members = {"png": encode(pixels_of(index, label)), "cls": str(label).encode()}
            if index % 3 == 0:
                members["json"] = json.dumps({"label": label}).encode()
            for extension, content in members.items():
                info = tarfile.TarInfo(f"{index}.{extension}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return (path / "sound.tar").read_bytes()


def npz_file(path: Path) -> bytes:
    np.savez(path / "sound.npz", features=np.ones((4, 3)), labels=np.arange(4))
    return (path / "sound.npz").read_bytes()


def npy_file(path: Path) -> bytes:
    np.save(path / "sound.npy", np.ones((4, 3)))
    return (path / "sound.npy").read_bytes()


@pytest.mark.parametrize("make", [parquet_file, tar_file, npz_file, npy_file])
def test_damaged_data_files(place, make, tmp_path):
    content = make(tmp_path)
    path = tmp_path / f"x.{make.__name__.partition('_')[0].replace('file', '')}"
    options = {".tar": ["", "?label=label", "?label=txt"]}.get(path.suffix, [""])

    @fuzz(60)
    @given(content=damaged(content), query=st.sampled_from(options), skip=st.booleans())
    def check(content, query, skip):
        path.write_bytes(content)
        record(place, f"{path}{query}", *(["--skip-corrupt"] if skip else []))

    path.write_bytes(content)
    assert record(place, path) == (0 if path.suffix in (".parquet", ".tar") else 2)
    check()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000"])
def test_damaged_images(place, kind, tmp_path):
    shutil.copytree(place / "set", tmp_path / "set")
    content = encode(pixels_of(0, 0), kind)

    @fuzz(30)
    @given(content=damaged(content), skip=st.booleans())
    def check(content, skip):
        (tmp_path / "set" / "ant" / "000.png").write_bytes(content)
        assert record(place, tmp_path / "set", *(["--skip-corrupt"] if skip else [])) == 0 or not skip

    check()


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_damaged_weights(place, name, tmp_path):
    content = (place / name).read_bytes()

    @fuzz(8)
    @given(content=damaged(content))
    def check(content):
        (tmp_path / name).write_bytes(content)
        record(place, place / "set", "--weights", tmp_path / name)

    assert record(place, place / "set", "--weights", place / name) == 0
    check()


@pytest.mark.parametrize("name", ["run.json", "results.parquet"])
def test_damaged_runs(place, name, tmp_path):
    shutil.copytree(place / "run", tmp_path / "run")
    content = (place / "run" / name).read_bytes()

    @fuzz(4)
    @given(content=damaged(content))
    def check(content):
        (tmp_path / "run" / name).write_bytes(content)
        ends_well("report", tmp_path / "run")

    assert ends_well("report", tmp_path / "run") == 0
    check()


@st.composite
def garbled(draw, run: dict) -> dict:
    """The object with one value, at any depth, taken out or put in place of by another."""
    changed = json.loads(json.dumps(run))
    inside = changed
    while True:
        keys = list(inside) if isinstance(inside, dict) else list(range(len(inside)))
        key = draw(st.sampled_from(keys))
        deeper = inside[key]
        if not (isinstance(deeper, (dict, list)) and deeper) or draw(st.integers(0, 3)) == 0:
            break
        inside = deeper
    if draw(st.booleans()):
        del inside[key]
    else:
        inside[key] = draw(st.sampled_from([None, 0, -1, 1e300, True, "x", "", [], {}, [None], {"x": 1}]))
    return changed


def test_runs_whose_values_were_changed(place, tmp_path):
    shutil.copytree(place / "run", tmp_path / "run")
    run = json.loads((place / "run" / "run.json").read_text())

    @fuzz(4)
    @given(changed=garbled(run))
    def check(changed):
        (tmp_path / "run" / "run.json").write_text(json.dumps(changed))
        ends_well("report", tmp_path / "run")

    check()


@pytest.mark.parametrize("changed", [{"tunnel": 3}, {"tunnel": [1]}])
def test_a_run_that_was_changed_says_so(place, tmp_path, changed):
    shutil.copytree(place / "run", tmp_path / "run")
    run = json.loads((place / "run" / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps(run | changed))
    assert ends_well("report", tmp_path / "run") == 2


def test_a_table_without_what_pandas_wrote_into_it(place, tmp_path):
    """Found by a long run: pandas raises KeyError."""
    import pyarrow.parquet as pq

    shutil.copytree(place / "run", tmp_path / "run")
    table = pq.read_table(place / "run" / "results.parquet")
    metadata = {b"pandas": table.schema.metadata[b"pandas"].replace(b"pandas_type", b"pandas_tipe")}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "run" / "results.parquet")
    assert ends_well("report", tmp_path / "run") == 2


SOUND = b"""import torch
def build(width: int = 3):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(108, width), torch.nn.ReLU())
"""


def test_damaged_python_files(place, tmp_path):
    path = tmp_path / "net.py"

    @fuzz(15)
    @given(content=damaged(SOUND))
    def check(content):
        path.write_bytes(content)
        ends_well("layers", f"{path}:build?size=6", "--layers", "all")

    path.write_bytes(SOUND)
    assert ends_well("layers", f"{path}:build?size=6", "--layers", "all") == 0
    check()
