"""Commands as a user types them: what they print where, and how bad requests end."""

import errno
import json
import os

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

DIGITS = "sklearn:digits?classes=0-4"
SMALL = "zoo:mlp?depth=2&width=16"


def test_scan_prints_one_json_object_and_everything_else_on_stderr(tunnelscope, tmp_path):
    ended = tunnelscope(
        "scan",
        SMALL,
        "--id",
        DIGITS,
        "--ood",
        "sklearn:digits?classes=5-9",
        "--out",
        tmp_path / "r",
        "--json",
    )
    assert ended.code == 0, ended.err
    assert ended.json["tunnel"]["start_95"] in {layer["name"] for layer in ended.json["layers"]}
    assert f"Report: {tmp_path}/r/report.html" in ended.err
    assert {path.name for path in (tmp_path / "r").iterdir()} == {
        "results.parquet",
        "run.json",
        "probes",
        "report.html",
    }
    saved = json.loads((tmp_path / "r" / "run.json").read_text())
    assert {key: saved[key] for key in ended.json} == ended.json
    assert saved["settings"] == {
        "layers": "blocks",
        "pool": "auto",
        "probe": "exact/v2",
        "tolerance": 0.01,
        "seeds": 1,
        "seed": 0,
        "max_samples": None,
        "penalty": None,
        "weights": "random (seed 0)",
        "control": False,
        "features": "float32",
    }


def test_scan_prints_a_short_table_within_80_columns(tunnelscope, tmp_path):
    ended = tunnelscope("scan", SMALL, "--id", DIGITS, "--out", tmp_path / "r")
    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    assert lines[0].split()[:2] == ["#", "layer"]
    assert len(lines) == 3
    assert max(map(len, lines)) <= 80


def test_a_scan_may_be_repeated_into_its_own_folder(tunnelscope, tmp_path):
    command = ("scan", SMALL, "--id", DIGITS, "--out", tmp_path / "r", "--json")
    first, second = tunnelscope(*command), tunnelscope(*command)
    assert (first.code, second.code) == (0, 0)
    assert first.json["probes"] == second.json["probes"]
    fewer = tunnelscope(*command, "--layers", "hidden.0.relu")
    assert fewer.code == 0
    assert not list((tmp_path / "r" / "probes").glob("*hidden.1*"))


def test_scan_without_id_gives_curves_and_says_why_there_is_no_start(tunnelscope, tmp_path):
    ended = tunnelscope("scan", SMALL, "--ood", DIGITS, "--out", tmp_path / "r", "--json")
    assert ended.code == 0, ended.err
    tunnel = ended.json["tunnel"]
    assert tunnel["start_95"] is None
    assert "no ID set was given" in tunnel["reason"]
    assert tunnel["ood"]["digits"]["retained"]["value"] > 0
    assert tunnel["ood"]["digits"]["pearson"] == {"value": None, "low": None, "high": None}
    assert ended.json["best_layer"]["digits"]["layer"]


@pytest.mark.parametrize("probe", ["ridge", "knn", "masarczyk2023", "harun2024"])
def test_every_protocol_is_written_in_its_rows(tunnelscope, tmp_path, probe):
    ended = tunnelscope(
        "scan",
        SMALL,
        "--id",
        DIGITS,
        "--probe",
        probe,
        "--max-samples",
        200,
        "--out",
        tmp_path / "r",
        "--json",
    )
    assert ended.code == 0, ended.err
    assert {row["protocol"] for row in ended.json["probes"]} == {f"{probe}/v1"}


def test_several_seeds_are_rows_of_their_own(tunnelscope, tmp_path):
    ended = tunnelscope(
        "scan", SMALL, "--id", DIGITS, "--seeds", 2, "--seed", 3, "--out", tmp_path / "r", "--json"
    )
    assert ended.code == 0, ended.err
    assert sorted({row["seed"] for row in ended.json["probes"]}) == [3, 4]
    assert len(ended.json["probes"]) == 4


def test_layers_lists_read_points_without_weights(tunnelscope):
    ended = tunnelscope("layers", "zoo:cifar_resnet20", "--json")
    assert ended.code == 0, ended.err
    listed = ended.json["layers"]
    assert [layer["index"] for layer in listed] == list(range(1, 11))
    assert listed[-1]["shape"] == [64, 8, 8]
    plain = tunnelscope("layers", "zoo:cifar_resnet20")
    assert plain.out.splitlines()[0].split()[0] == "#"
    assert len(plain.out.splitlines()) == 11
    assert max(map(len, plain.out.splitlines())) <= 80


def test_record_writes_both_splits_with_labels(tunnelscope, tmp_path):
    out = tmp_path / "features.safetensors"
    ended = tunnelscope("record", SMALL, DIGITS, "--layers", "hidden.1.relu", "--out", out, "--json")
    assert ended.code == 0, ended.err
    tensors = load_file(out)
    assert set(tensors) == {"train/hidden.1.relu", "test/hidden.1.relu", "train/labels", "test/labels"}
    assert tensors["train/hidden.1.relu"].shape == (len(tensors["train/labels"]), 16)
    assert ended.json["classes"] == 5


def test_report_draws_again_from_the_folder(tunnelscope, demo_folder):
    before = (demo_folder / "report.html").read_text()
    (demo_folder / "report.html").unlink()
    ended = tunnelscope("report", demo_folder, "--figures")
    assert ended.code == 0, ended.err
    assert (demo_folder / "report.html").read_text() == before
    figures = {path.suffix for path in (demo_folder / "figures").iterdir()}
    assert figures == {".svg", ".pdf"}


@pytest.fixture
def bad(tmp_path):
    """A folder of things that go wrong."""
    (tmp_path / "raises.py").write_text("def build():\n    raise OSError('no such luck')\n")
    (tmp_path / "number.py").write_text("def build():\n    return 3\n")
    (tmp_path / "broken.py").write_text("def build(:\n")
    (tmp_path / "nan.py").write_text(
        "import torch\n"
        "def build():\n"
        "    layers = torch.nn.Flatten(), torch.nn.Linear(64, 8), torch.nn.ReLU(), torch.nn.Linear(8, 5)\n"
        "    net = torch.nn.Sequential(*layers)\n"
        "    net[1].weight.data.fill_(float('nan'))\n"
        "    return net\n"
    )
    (tmp_path / "noise.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    (tmp_path / "noise.parquet").write_bytes(b"PK not parquet")
    save_file({"hidden.0.linear.weight": torch.zeros(3, 3)}, tmp_path / "other.safetensors")
    (tmp_path / "done").mkdir()
    (tmp_path / "done" / "run.json").write_text("{}")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.tex").write_text("years of work")
    return tmp_path


BAD_REQUESTS = [
    (["scan", "zoo:mpl", "--id", DIGITS], 2, "no network of the zoo named 'mpl'; nearest: mlp"),
    (["scan", "tim:resnet18", "--id", DIGITS], 2, "no kind of model named 'tim'; nearest: timm"),
    (["scan", "timm:resnet19", "--weights", "random", "--id", DIGITS], 2, "resnet1"),
    (["scan", "timm:resnet18", "--id", DIGITS], 3, "--weights random|FILE"),
    (["scan", SMALL], 2, "no data to scan on"),
    (["scan", SMALL, "--id", DIGITS, "--layers", "hiden.1.relu"], 2, "nearest: hidden.1.relu"),
    (["scan", SMALL, "--id", "sklearn:digit"], 2, "nearest: digits"),
    (["scan", SMALL, "--id", "sklearn:digits?classes=11"], 2, "class"),
    (["scan", SMALL, "--id", "sklearn:digits?clases=0-4"], 2, "nearest: classes"),
    (["scan", SMALL, "--id", "{bad}/nowhere/cifar10"], 2, "nowhere"),
    (["scan", SMALL, "--id", "{bad}/noise.parquet"], 2, "noise.parquet"),
    (["scan", SMALL, "--id", DIGITS, "--weights", "{bad}/noise.safetensors"], 2, "noise.safetensors"),
    (["scan", SMALL, "--id", DIGITS, "--weights", "{bad}/other.safetensors"], 2, "hidden.0.linear"),
    (["scan", SMALL, "--id", DIGITS, "--weights", "{bad}/absent.safetensors"], 2, "absent.safetensors"),
    (["scan", "{bad}/raises.py:build", "--id", DIGITS], 2, "no such luck"),
    (["scan", "{bad}/number.py:build", "--id", DIGITS], 2, "number.py"),
    (["scan", "{bad}/broken.py:build", "--id", DIGITS], 2, "broken.py"),
    (["scan", "{bad}/number.py:biuld", "--id", DIGITS], 2, "nearest: build"),
    (["scan", "{bad}/nan.py:build?channels=3", "--id", DIGITS], 2, "no argument of build() named 'channels'"),
    (["scan", SMALL, "--id", DIGITS, "--out", "{bad}/taken"], 2, "holds something else (thesis.tex"),
    (["scan", SMALL, "--id", DIGITS, "--out", "{bad}/number.py"], 2, "is a file; name a folder"),
    (["scan", SMALL, "--id", DIGITS, "--out", "{bad}/number.py/r"], 2, "number.py is a file"),
    (["record", SMALL, DIGITS, "--out", "{bad}/number.py/f.safetensors"], 2, "number.py is a file"),
    (["record", SMALL, DIGITS, "--out", "{bad}/taken"], 2, "taken' is a directory"),
    (["record", SMALL, DIGITS, "--out", "f.pth"], 2, "name it f.safetensors"),
    (["record", SMALL, DIGITS, "--out", "f.pt"], 2, "name it f.safetensors"),
    (["record", SMALL, DIGITS, "--out", "f"], 2, "name it f.safetensors"),
    (["scan", SMALL, "--id", DIGITS, "--device", "gpu"], 2, "no device named 'gpu'"),
    (["scan", SMALL, "--id", DIGITS, "--device", "cdua"], 2, "no device named 'cdua'; nearest: cuda"),
    (["scan", SMALL, "--id", DIGITS, "--device", "mps"], 2, "Use auto, cpu, cuda or cuda:N."),
    (["scan", SMALL, "--id", DIGITS, "--device", "meta"], 2, "Use auto, cpu, cuda or cuda:N."),
    (["scan", SMALL, "--id", DIGITS, "--device", "cuda:-1"], 2, "Use auto, cpu, cuda or cuda:N."),
    (["record", SMALL, DIGITS, "--device", "xpu", "--out", "f.safetensors"], 2, "no device named 'xpu'"),
    (["scan", SMALL, "--id", DIGITS, "--weights", "pretrained"], 2, "no pretrained weights of zoo:mlp"),
    (["scan", "{bad}/nan.py:build", "--id", DIGITS, "--weights", "pretrained"], 2, "no pretrained weights"),
    (["scan", SMALL, "--id", DIGITS, "--tolerance", "0"], 2, "tolerance 0 is not from 1e-12 to below 1"),
    (["scan", SMALL, "--id", DIGITS, "--tolerance", "1"], 2, "tolerance 1 is not from 1e-12 to below 1"),
    (["scan", SMALL, "--id", DIGITS, "--tolerance", "nan"], 2, "tolerance nan is not from 1e-12"),
    (["scan", SMALL, "--id", DIGITS, "--layers", "blcoks"], 2, "nearest: blocks"),
    (["scan", SMALL, "--id", DIGITS, "--layers", "covns"], 2, "nearest: convs"),
    (["scan", SMALL, "--id", DIGITS, "--probe", "rigde"], 2, "no probe named 'rigde'; nearest: ridge"),
    (["scan", SMALL, "--id", DIGITS, "--pool", "fltten"], 2, "no pooling named 'fltten'; nearest: flatten"),
    (["report", "{bad}/done/run.json"], 2, "run.json is a file; a scan is a folder, give {bad}/done"),
    (["scan", SMALL, "--id", DIGITS, "--odd", "x"], 2, "--ood"),
    (["scan", SMALL, "--id", DIGITS, "--pool", "3x3"], 2, "2x2"),
    (["scan", SMALL, "--id", DIGITS, "--seeds", "0"], 2, "--seeds"),
    (["layers", "zoo:mlp?deth=3"], 2, "nearest: depth"),
    (["layers", "{bad}/nan.py:build"], 2, "nan.py:build?size=224"),
    (["report", "{bad}/taken"], 2, "holds no scan"),
    (["skan", SMALL], 2, "skan"),
]


@pytest.mark.parametrize(("arguments", "code", "line"), BAD_REQUESTS)
def test_a_bad_request_is_one_line_with_its_exit_code(tunnelscope, bad, monkeypatch, arguments, code, line):
    monkeypatch.chdir(bad)
    ended = tunnelscope(*(argument.replace("{bad}", str(bad)) for argument in arguments))
    assert ended.code == code, ended.err
    assert ended.out == ""
    said = [text for text in ended.err.splitlines() if text]
    assert len(said) == 1, said
    assert line.replace("{bad}", str(bad)) in said[0]
    assert "Traceback" not in ended.err


def test_activations_that_are_not_finite_name_their_layer(tunnelscope, bad):
    ended = tunnelscope("scan", f"{bad}/nan.py:build", "--id", "sklearn:digits?size=8", "--out", bad / "r")
    assert ended.code == 2
    assert "layer '2' gives values that are not finite" in ended.err


@pytest.mark.parametrize("command", ["scan", "record", "demo"])
def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    tunnelscope, tmp_path, monkeypatch, command
):
    """As root, whom no mode keeps out, the system's refusal is planted."""

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    def work(*_, **__):
        raise AssertionError("the work began")

    monkeypatch.setattr("tunnelscope.files.tempfile.NamedTemporaryFile", refuse)
    monkeypatch.setattr("tunnelscope.scanning.load_data", work)
    monkeypatch.setattr("tunnelscope.feature_file.load_data", work)
    monkeypatch.setattr("tunnelscope.demo.load_data", work)
    given = {
        "scan": (SMALL, "--id", DIGITS, "--out", tmp_path / "r"),
        "record": (SMALL, DIGITS, "--out", tmp_path / "deep" / "f.safetensors"),
        "demo": ("--out", tmp_path / "r"),
    }
    ended = tunnelscope(command, *given[command])
    assert (ended.code, ended.out) == (3, "")
    assert ended.err == f"tunnelscope: cannot write to {tmp_path}: Permission denied; name another place\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["scan", "record"])
def test_a_disk_that_fills_up_is_one_line_and_leaves_no_half_file(
    tunnelscope, tmp_path, monkeypatch, command
):
    def full(*_):
        raise OSError(errno.ENOSPC, "words of a library's own")

    monkeypatch.setattr("tunnelscope.files.os.replace", full)
    out = tmp_path / "r" if command == "scan" else tmp_path / "f.safetensors"
    given = {"scan": (SMALL, "--id", DIGITS), "record": (SMALL, DIGITS)}[command]
    ended = tunnelscope(command, *given, "--out", out)
    assert (ended.code, ended.out) == (3, "")
    assert "No space left on device; make room" in ended.err.splitlines()[-1]
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_cuda_device_that_is_not_there_ends_3_with_how_many_there_are(tunnelscope, monkeypatch):
    command = ("scan", SMALL, "--id", DIGITS, "--device", "cuda:7")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    ended = tunnelscope(*command)
    assert (ended.code, "no CUDA device" in ended.err) == (3, True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    ended = tunnelscope(*command)
    assert (ended.code, ended.out) == (3, "")
    assert "finds 2 CUDA devices here; use cuda:0 to cuda:1, or auto" in ended.err


def test_warnings_with_one_cause_are_one_line(tunnelscope, tmp_path):
    ended = tunnelscope(
        "scan", "zoo:mlp?depth=5&width=16", "--id", DIGITS, "--probe", "knn", "--out", tmp_path / "r"
    )
    assert ended.code == 0, ended.err
    without_weights = [line for line in ended.err.splitlines() if "nc3, nc4" in line]
    assert len(without_weights) == 1
    assert without_weights[0].endswith("(5 layers, digits)")


def test_a_thinned_table_says_that_it_is_thinned(tunnelscope, tmp_path):
    command = ("--id", DIGITS, "--probe", "ridge", "--max-samples", 100, "--out", tmp_path / "r")
    ended = tunnelscope("scan", "zoo:mlp?depth=20&width=8", *command)
    assert ended.code == 0, ended.err
    shown = len(ended.out.splitlines()) - 1
    assert shown < 20
    assert f"{shown} of 20 layers shown; all are in the report" in ended.err
    assert "layers shown" not in tunnelscope("scan", SMALL, *command).err


def write_signs(folder):
    """Two class folders of 12 small images each, the same wherever they are written."""
    for label, name in enumerate(("go", "stop")):
        (folder / name).mkdir(parents=True)
        for index in range(12):
            pixels = np.full((8, 8), 100 * label + index, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index:02}.png")


def test_two_folders_of_one_name_are_told_apart_and_copies_are_warned_of(tunnelscope, tmp_path):
    for name in "ab":
        write_signs(tmp_path / name / "signs")
    own, other = (str(tmp_path / name / "signs") for name in "ab")
    command = ("scan", SMALL, "--id", own, "--ood", other, "--probe", "ridge", "--out", tmp_path / "r")
    ended = tunnelscope(*command)
    assert ended.code == 0, ended.err
    said = ended.err.splitlines()
    assert [line for line in said if line.startswith("signs: ") and line.endswith(f"from {own}")]
    assert [line for line in said if line.startswith("signs-2: ") and line.endswith(f"from {other}")]
    copy = "warning: signs-2 holds the same images and labels as signs"
    assert [line for line in said if line.startswith(copy)]
    next((tmp_path / "b" / "signs" / "go").iterdir()).unlink()
    assert copy not in tunnelscope(*command).err


def test_a_corrupt_image_says_what_to_do(tunnelscope, tmp_path):
    write_signs(tmp_path / "signs")
    broken = sorted((tmp_path / "signs" / "go").iterdir())[5]
    broken.write_bytes(broken.read_bytes()[:40])
    ended = tunnelscope("scan", SMALL, "--id", tmp_path / "signs", "--out", tmp_path / "r")
    assert ended.code == 2
    last = ended.err.splitlines()[-1]
    assert str(broken) in last
    assert last.endswith("; mend or remove it, or leave such images out with --skip-corrupt")


def test_the_demos_weights_are_as_readable_as_other_files(tmp_path, monkeypatch):
    monkeypatch.setattr("tunnelscope.demo.EPOCHS", 1)
    from tunnelscope.demo import train_demo

    before = os.umask(0o022)
    try:
        train_demo(tmp_path / "w.safetensors")
    finally:
        os.umask(before)
    assert (tmp_path / "w.safetensors").stat().st_mode & 0o777 == 0o644


def test_an_interruption_is_one_line_and_130(tunnelscope, tmp_path, monkeypatch):
    import tunnelscope.scanning as scanning

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(scanning, "examine", interrupt)
    ended = tunnelscope("scan", SMALL, "--id", DIGITS, "--out", tmp_path / "r")
    assert ended.code == 130
    assert ended.err.strip().splitlines()[-1].startswith("tunnelscope: interrupted")
    assert "Traceback" not in ended.err


def test_debug_shows_the_traceback(tunnelscope):
    ended = tunnelscope("layers", "zoo:mpl", "--debug")
    assert ended.code == 2
    assert "Traceback" in ended.err


def test_the_command_line_offers_every_protocol():
    from tunnelscope.cli import cli
    from tunnelscope.probes import PROTOCOLS

    offered = next(option for option in cli.commands["scan"].params if option.name == "probe").type.choices
    assert list(offered) == [name.partition("/")[0] for name in PROTOCOLS]


def test_help_does_not_import_torch():
    import subprocess
    import sys

    code = (
        "import sys; from tunnelscope.cli import main\n"
        "try:\n    main(['scan', '--help'])\n"
        "except SystemExit:\n    assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_the_package_is_a_command_too():
    import subprocess
    import sys

    from tunnelscope import __version__

    command = [sys.executable, "-m", "tunnelscope"]
    told = subprocess.run([*command, "--version"], check=True, capture_output=True, text=True)
    assert told.stdout.split() == ["tunnelscope,", "version", __version__]
    assert subprocess.run([*command, "scn"], capture_output=True).returncode == 2


@pytest.mark.parametrize("command", ["scan", "record", "layers"])
def test_pool_takes_every_pooling_there_is(command):
    from tunnelscope.cli import cli
    from tunnelscope.features import POOLS

    pool = next(parameter for parameter in cli.commands[command].params if parameter.name == "pool")
    assert sorted(pool.type.choices) == sorted(POOLS)
