"""Studies run: the table is that of plain calls, nothing is done twice, and what goes wrong is said."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from small_studies import unnamed

import tunnelscope as ts
from conftest import HOW
from tunnelscope.errors import MachineError
from tunnelscope.studies.collect import collect, opened, variables_of
from tunnelscope.studies.declaration import read_declaration
from tunnelscope.studies.driver import claim, run_study
from tunnelscope.studies.networks import cells_of
from tunnelscope.studies.state import State
from tunnelscope.studies.units import training_of, units_of
from tunnelscope.studies.work import Worker, _is_full
from tunnelscope.variables.observations import read_table

ODD = """
import errno, os, signal
from torch import nn

class Grey(nn.Module):
    def forward(self, images):
        return images.mean(1).flatten(1)

def net(kind="good", classes=5):
    if kind == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if os.path.exists("mended"):
        kind = "good"
    if kind == "full":
        raise OSError(errno.ENOSPC, "No space left on device")
    if kind == "wrong":
        raise ZeroDivisionError("no such network")
    layers = [Grey(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, classes)]
    return nn.Sequential(*layers)
"""
ONE = '[[networks]]\nmodel="zoo:mlp"\nid="low"\narguments={depth=3, width=16}\n'
COMPARED = ["run", "layer", "layer_b", "dataset", "quantity", "protocol", "value", "low", "high"]


@pytest.fixture
def odd(write, tmp_path):
    """Write a study of networks that go wrong in the ways named, until there is a file `mended`."""

    def written(*kinds: str) -> Path:
        (tmp_path / "odd.py").write_text(ODD)
        listed = ", ".join(f'"{kind}"' for kind in kinds)
        return write(f'[[networks]]\nmodel = "odd.py:net"\nid = "low"\narguments.kind = [{listed}]\n')

    return written


def sorted_table(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[COMPARED].sort_values(COMPARED[:6]).reset_index(drop=True)


def test_the_table_is_that_of_plain_calls(write, tmp_path):
    outcome = run_study(write(), executor="here")
    assert outcome.counts == {"done": 4}
    folder = tmp_path / "runs" / "small"
    table = pd.read_parquet(folder / "results.parquet")
    assert table["run"].unique().tolist() == ["mlp-depth=3", "mlp-depth=4"]
    own, other = ("sklearn:digits?classes=0-4&per_class=40", "sklearn:digits?classes=5-9&per_class=40")
    for depth in (3, 4):
        settings = {"out": tmp_path / f"t{depth}", "recipe": "one-cycle", "epochs": 3, "precision": "f32"}
        trained = ts.train(f"zoo:mlp?depth={depth}&width=16", own, **settings)
        data = replace(ts.load_data(own), key="low")  # bootstraps are drawn by a set's name
        plain = ts.scan(trained.network, id=data, ood={"high": other}, probe="ridge", cache=False).table()
        plain = plain.assign(run=f"mlp-depth={depth}")
        in_study = table[table["run"] == f"mlp-depth={depth}"]
        pd.testing.assert_frame_equal(sorted_table(in_study), sorted_table(plain), check_dtype=False)
    variables = pd.read_parquet(folder / "variables.parquet")
    assert variables["depth"].tolist() == [3, 4]
    assert (variables["gamma"] > 0).all()
    found = ts.effects(folder, slopes=False)
    assert {pair.variable for pair in found.pairs} == {"depth"}


def test_nothing_is_done_twice_and_force_does_it_anew(write, finished, tunnelscope):
    file = write()
    weights = {path: path.stat().st_mtime_ns for path in finished.rglob("model.safetensors")}
    assert len(weights) == 2
    again = tunnelscope("study", "run", file, "--executor", "here")
    assert again.code == 0
    assert "4 of 4 trainings and scans are done already" in again.err
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("model.safetensors")} == weights
    forced = tunnelscope("study", "run", file, "--executor", "here", "--force", "--only", "*depth=3")
    assert forced.code == 0
    changed = [path for path, then in weights.items() if path.stat().st_mtime_ns != then]
    assert len(changed) == 1


def test_only_some_networks_then_the_rest(write, tunnelscope):
    file = write()
    assert tunnelscope("study", "run", file, "--executor", "here", "--only", "*depth=4").code == 0
    status = tunnelscope("study", "status", "runs/small", "--json").json
    assert not unnamed(status, "study status", "units")
    assert [unit["state"] for unit in status["units"]] == ["waiting", "waiting", "done", "done"]
    shown = tunnelscope("study", "status", "runs/small")
    assert "mlp-depth=4  train: done" in shown.out
    unknown = tunnelscope("study", "run", file, "--only", "mlp-depth=5")
    assert (unknown.code, "nearest: mlp-depth=" in unknown.err) == (2, True)
    assert tunnelscope("study", "run", file, "--executor", "here").code == 0
    told = tunnelscope("study", "collect", "runs/small", "--json").json
    assert [set(entry["states"].values()) for entry in told["networks"]] == [{"done"}] * 2
    assert not unnamed(told, "study.json", "networks")


def test_the_report_links_every_scan(finished):
    page = (finished / "report.html").read_text()
    told = json.loads((finished / "study.json").read_text())
    for entry in told["networks"]:
        [scan] = entry["scans"].values()
        assert f'href="{scan}/report.html"' in page
        assert (finished / scan / "report.html").exists()
        assert entry["leakage"]["high"]["is_leaking"] is False
    assert 'id="leakage"' not in page  # where nothing is shared there is nothing to tell


def test_several_probes_share_one_recording_and_metrics_stand_once(write):
    how = '[training]\nrecipe="one-cycle"\nepochs=2\n[scan]\nprobes=["ridge", "knn"]\n'
    outcome = run_study(write(ONE, how=how), executor="here")
    table = pd.read_parquet(outcome.folder / "results.parquet")
    accuracies = table[table["quantity"] == "probe_accuracy"]
    assert {name.split("/")[0] for name in accuracies["protocol"]} == {"ridge", "knn"}
    key = ["run", "layer", "layer_b", "dataset", "split", "quantity", "seed", "protocol"]
    assert not table.duplicated(key).any()
    starts = table.loc[table["quantity"] == "start_95", "protocol"]
    assert set(starts) == {"ridge, bootstrap of test rows/v1", "knn, bootstrap of test rows/v1"}
    ranks = table[table["quantity"] == "numerical_rank"]
    assert len(ranks) == 3
    assert ranks["layer"].is_unique


def test_a_network_that_fails_leaves_the_rest_and_its_log(odd, tunnelscope):
    file = odd("wrong", "good")
    done = tunnelscope("study", "run", file, "--executor", "here")
    assert done.code == 1
    assert "no such network" in done.err
    told = json.loads(Path("runs/small/study.json").read_text())
    assert [entry["network"] for entry in told["networks"] if entry["scans"]] == ["net-kind=good"]
    first = told["failures"][0]
    assert not unnamed(told, "study.json", "failures")
    assert first["network"] == "net-kind=wrong"
    assert any("ZeroDivisionError" in line for line in first["lines"])
    assert "ZeroDivisionError" in Path("runs/small/report.html").read_text()
    only = tunnelscope("study", "run", file, "--executor", "here", "--only", "*good")
    assert only.code == 0
    assert json.loads(Path("runs/small/study.json").read_text())["failures"] == told["failures"]
    Path("mended").touch()
    again = tunnelscope("study", "run", file, "--executor", "here")
    assert again.code == 0
    assert "failed before are tried again" in again.err


@pytest.mark.slow
def test_a_worker_that_dies_three_times_over_a_network(odd, tunnelscope):
    done = tunnelscope("study", "run", odd("dies", "good"), "--workers", "1")
    assert done.code == 1
    assert "died 3 times (out of memory?)" in done.err
    told = json.loads(Path("runs/small/study.json").read_text())
    assert [entry["network"] for entry in told["networks"] if entry["scans"]] == ["net-kind=good"]


@pytest.mark.parametrize("how", [["--workers", "1"], ["--executor", "here"]], ids=["worker", "here"])
def test_a_full_disk_stops_the_study_and_loses_nothing(odd, tunnelscope, how):
    done = tunnelscope("study", "run", odd("good", "full"), *how)
    assert done.code == 3
    assert "No space left" in done.err
    assert "the same command goes on" in done.err
    _, statuses = opened(Path("runs/small"))
    assert [status.state for status in statuses] == ["done", "done", "waiting", "waiting"]
    Path("mended").touch()
    assert tunnelscope("study", "run", "study.toml", "--executor", "here").code == 0


@pytest.mark.parametrize(
    ("networks", "data", "said"),
    [
        ('[[networks]]\nmodel="zoo:vggm11_dagger"\nid="low"\nresolution=224\n', None, "32² only"),
        (
            '[[networks]]\nmodel="zoo:mlp"\nid="low"\n',
            '[data.low]\nsource="nowhere/low"\n[data.high]\nsource="nowhere/high"\n',
            "needs what is not there: nowhere/low, nowhere/high",
        ),
        ('[[networks]]\nmodel="timm:resnet18"\nweights="gone.pth"\nid="low"\n', None, "not there: gone.pth"),
    ],
)
def test_what_cannot_be_run_is_said_before_anything_is(networks, data, said, write, tunnelscope):
    file = write(networks) if data is None else write(networks, data=data)
    done = tunnelscope("study", "run", file)
    assert done.code == 2
    assert said in done.err
    assert not Path("runs").exists()


def test_a_folder_of_another_study_and_an_edited_file(write, tunnelscope):
    assert tunnelscope("study", "run", write(), "--executor", "here", "--out", "here").code == 0
    other = tunnelscope("study", "run", write(name="other"), "--executor", "here", "--out", "here")
    assert other.code == 2
    assert "holds the study 'small', this is 'other'" in other.err
    edited = write('[[networks]]\nmodel="zoo:mlp"\nid="low"\narguments={depth=[4, 5], width=16}\n')
    refused = tunnelscope("study", "run", edited, "--executor", "here", "--out", "here")
    assert refused.code == 2
    assert "2 trainings and scans stay valid, 2 are new, 2 are no longer asked for" in refused.err
    done = tunnelscope("study", "run", edited, "--executor", "here", "--out", "here", "--edited")
    assert done.code == 0
    assert set(pd.read_parquet("here/results.parquet")["run"]) == {"mlp-depth=4", "mlp-depth=5"}


def test_collecting_never_raises(finished):
    [first, _] = sorted(finished.glob("results/scan-*/"))
    (first / "results.parquet").write_bytes(b"cut off")
    told = collect(finished)
    assert len(told["damaged"]) == 1
    assert pd.read_parquet(finished / "results.parquet")["run"].nunique() == 1


def test_a_damaged_result_is_made_anew(write, finished, tunnelscope):
    file = write()
    whole = pd.read_parquet(finished / "results.parquet")
    [first, second] = sorted(finished.glob("results/scan-*/"))
    (first / "results.parquet").write_bytes(b"cut off")
    (second / "report.html").unlink()
    for weights in finished.glob("results/train-*/model.safetensors"):
        weights.write_bytes(b"")
    same = bytearray((table := second / "results.parquet").read_bytes())
    done = tunnelscope("study", "run", file, "--executor", "here")
    assert done.code == 0
    assert "done already" not in done.err
    pd.testing.assert_frame_equal(pd.read_parquet(finished / "results.parquet"), whole)
    assert (second / "report.html").exists()
    same[-4:] = b"XXXX"  # as long as it was
    table.write_bytes(same)
    assert tunnelscope("study", "run", file, "--executor", "here").code == 1
    assert tunnelscope("study", "run", file, "--executor", "here").code == 0
    pd.testing.assert_frame_equal(pd.read_parquet(finished / "results.parquet"), whole)


def test_rows_of_controls_are_kept_and_are_no_effects(write, run_once):
    outcome = run_study(write(how=HOW + "control = true\n"), executor="here")
    table = pd.read_parquet(outcome.folder / "results.parquet")
    scans = [pd.read_parquet(path) for path in outcome.folder.glob("results/scan-*/results.parquet")]
    assert len(table) == sum(map(len, scans))
    assert table["weights"].str.startswith("random").any()
    ours = [read_table(folder).frame.sort_values("network") for folder in (outcome.folder, run_once)]
    pd.testing.assert_frame_equal(*ours)


def test_collecting_from_elsewhere_or_with_other_data_keeps_the_table(write, tmp_path, monkeypatch):
    folders = "[data.low]\nsource='low'\n[data.high]\nsource='high'\n"
    images = np.random.default_rng(0).integers(0, 255, (2, 2, 8, 8, 8), dtype=np.uint8)
    for name, classes in zip(("low", "high"), images, strict=True):
        for label, pixels in enumerate(classes):
            for split in ("train", "test"):
                place = tmp_path / name / split / str(label)
                place.mkdir(parents=True)
                for number, image in enumerate(pixels):
                    Image.fromarray(image).save(place / f"{number}.png")
    outcome = run_study(write(data=folders), executor="here")
    whole = pd.read_parquet(outcome.folder / "results.parquet")
    assert len(whole)
    (tmp_path / "low").rename(tmp_path / "gone")
    monkeypatch.chdir("/")
    collect(outcome.folder)
    pd.testing.assert_frame_equal(pd.read_parquet(outcome.folder / "results.parquet"), whole)


def test_a_worker_from_before_an_edit_does_what_the_edited_file_says(write, finished):
    worker = Worker(finished)
    edited = write(how=HOW.replace("epochs = 3", "epochs = 1"))
    declared = read_declaration(edited)
    cells, state = cells_of(declared), State(finished)
    claim(state, declared, str(edited), units_of(cells), True, lambda line: None)
    state.declare(units_of(cells), frozenset(), cells)
    assert worker.run() == 4
    told = [json.loads((training_of(cell).folder(finished) / "train.json").read_text()) for cell in cells]
    assert [one["settings"]["recipe"]["epochs"] for one in told] == [1, 1]


def test_what_differs_between_networks_has_the_value_it_takes(write):
    grids = '[[networks]]\nmodel="zoo:mlp"\nid="low"\narguments={depth=3, width=16}\n'
    grids += '[[networks]]\nmodel="zoo:vgg11"\nid="low"\narguments={width=0.0625}\nseed=[0]\n'
    grids += "training = { epochs = 1, batch = 64 }\nvariables = { phi = 0.5 }\n"
    cells = cells_of(read_declaration(write(grids)))
    told = variables_of(cells, {cell.name: {} for cell in cells}).set_index("architecture")
    assert told["epochs"].to_dict() == {"zoo:mlp": 3, "zoo:vgg11": 1}
    assert told["batch"].to_dict() == {"zoo:mlp": 128, "zoo:vgg11": 64}
    assert told["depth"].isna().to_dict() == {"zoo:mlp": False, "zoo:vgg11": True}
    assert told["phi"].isna().to_dict() == {"zoo:mlp": True, "zoo:vgg11": False}


def test_a_full_disk_that_a_library_tells_in_words_alone():
    error = MachineError(f"cannot write model.safetensors: {os.strerror(errno.ENOSPC)}; make room")
    assert _is_full(error)
    assert not _is_full(MachineError("the images do not fit into memory"))


def test_folders_that_hold_no_study(tunnelscope, tmp_path):
    for command in ("status", "collect", "watch"):
        done = tunnelscope("study", command, tmp_path)
        assert done.code == 2
        assert "holds no study" in done.err


def test_a_study_is_watched_to_its_end(finished, tunnelscope):
    done = tunnelscope("study", "watch", finished)
    assert done.code == 0
    assert "4 done" in done.err


def test_workers_share_decoded_data(write, real_data, tmp_path):
    data = f'[data.low]\nsource = "{real_data}/mnist?per_class=20"\n'
    data += f'[data.high]\nsource="{real_data}/gtsrb?per_class=3"\n'
    networks = '[[networks]]\nmodel="zoo:mlp"\nid="low"\narguments={depth=3, width=8}\nseed=[0, 1]\n'
    outcome = run_study(write(networks, data=data), workers=2)
    assert outcome.counts == {"done": 4}
    copies = sorted(path.name for path in (outcome.folder / "data").glob("*.npy"))
    assert len(copies) == 4  # train and test of both
    plain = ts.scan(
        "zoo:mlp?depth=3&width=8",
        weights=str(next(outcome.folder.glob("results/train-*/model.safetensors"))),
        id=f"{real_data}/mnist?per_class=20",
        ood={"high": f"{real_data}/gtsrb?per_class=3"},
        probe="ridge",
        cache=False,
    )
    shared = json.loads(next(outcome.folder.glob("results/scan-*/run.json")).read_text())
    prints = {one["key"]: one.get("fingerprint") for one in plain.run["data"]}
    told = {one["key"]: one.get("fingerprint") for one in shared["data"]}
    assert told["high"] == prints["high"]


def test_slurm_and_dask_ask_for_what_they_need(write, tunnelscope, monkeypatch):
    done = tunnelscope("study", "run", write(), "--executor", "dask")
    assert (done.code, "--dask tcp://HOST:8786" in done.err) == (2, True)
    monkeypatch.setenv("PATH", "/nowhere")
    done = tunnelscope("study", "run", write(), "--executor", "slurm")
    assert done.code == 3
    assert "Slurm cannot be used here" in done.err
