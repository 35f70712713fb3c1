"""`tunnelscope train` as a user runs it: kills, several processes, wrong names."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import tunnelscope as ts
from tunnelscope.data import batches

MODEL, DATA = "zoo:mlp?depth=3&width=32", "sklearn:digits"
TRAIN = ["train", MODEL, DATA, "--recipe", "one-cycle", "--precision", "f32", "--threads", "1"]


def command(*arguments: str, prefix: tuple[str, ...] = ("-m", "tunnelscope")) -> list[str]:
    return [sys.executable, *prefix, *arguments]


def run(*arguments: str, prefix: tuple[str, ...] = ("-m", "tunnelscope")) -> subprocess.CompletedProcess:
    return subprocess.run(command(*arguments, prefix=prefix), capture_output=True, text=True, timeout=180)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_a_killed_training_goes_on_to_the_same_weights(tmp_path):
    arguments = [*TRAIN, "--epochs", "40", "--augmentation", "crop-flip", "--state-every", "0"]
    assert run(*arguments, "--out", str(tmp_path / "whole")).returncode == 0
    cut = [*arguments, "--out", str(tmp_path / "cut")]
    process = subprocess.Popen(command(*cut), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (tmp_path / "cut" / "state.safetensors").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.3)
    process.kill()
    process.wait()
    assert not (tmp_path / "cut" / "model.safetensors").exists()
    again = run(*cut)
    assert again.returncode == 0
    assert "going on after step" in again.stderr
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(one[key], other[key]) for key in one)
    lines = (tmp_path / "cut" / "train.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == list(range(1, 41))


def test_two_processes_give_the_weights_of_one(tmp_path):
    arguments = [*TRAIN, "--epochs", "3", "--augmentation", "crop-flip", "--batch", "33"]
    assert run(*arguments, "--out", str(tmp_path / "one")).returncode == 0
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    two = run(*arguments, "--out", str(tmp_path / "two"), prefix=(*launcher, "-m", "tunnelscope"))
    assert two.returncode == 0, two.stderr
    assert two.stdout.count("epoch") == 1
    one, other = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert max(float((one[key] - other[key]).abs().max()) for key in one) < 1e-5
    told = [json.loads((tmp_path / name / "train.json").read_text())["result"] for name in ("one", "two")]
    assert [result["processes"] for result in told] == [1, 2]
    assert told[0]["accuracy"] == told[1]["accuracy"]


def test_two_processes_keep_the_best_and_tell_the_accuracy_of_what_they_save(tmp_path):
    """Each process has batch norms of its own; what is told is of those that are saved."""
    model = "zoo:cifar_resnet20"
    arguments = ["train", model, DATA, "--recipe", "one-cycle", "--epochs", "2", "--keep", "best"]
    arguments += ["--max-samples", "200", "--precision", "f32", "--out", str(tmp_path)]
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    done = run(*arguments, prefix=(*launcher, "-m", "tunnelscope"))
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "train.json").read_text())
    test = ts.load_data(DATA, max_samples=200).test
    network = ts.load_network(told["settings"]["model"], weights=tmp_path / "model.safetensors")
    batch = torch.cat(list(batches(test.images, network.preprocessing, batch_size=500, workers=0)))
    right = network.module(batch).argmax(dim=1) == torch.as_tensor(test.labels)
    assert float(right.float().mean()) == pytest.approx(told["result"]["accuracy"])


def test_it_prints_one_json_object(tmp_path):
    done = run(*TRAIN, "--epochs", "2", "--json", "--out", str(tmp_path))
    told = json.loads(done.stdout)
    assert told["accuracy"] == json.loads((tmp_path / "train.json").read_text())["result"]["accuracy"]
    assert [line["epoch"] for line in told["epochs"]] == [1, 2]
    assert "tunnelscope train" in json.loads((tmp_path / "train.json").read_text())["command"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (["--recipe", "one-cycel"], "nearest: one-cycle"),
        (["--augmentation", "flip"], "Choices: none, crop-flip, resized-crop-flip."),
        (["--save-steps", "1,x"], "--save-steps takes whole numbers"),
        (["--save-epochs", "some"], "--save-epochs takes whole numbers"),
        (["--rate", "-1"], "rate must be above 0"),
    ],
)
def test_what_cannot_be_meant_is_one_line(tmp_path, changed, said):
    done = run(*TRAIN, *changed, "--out", str(tmp_path))
    assert done.returncode == 2
    assert done.stdout == ""
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full here")
def test_a_full_disk_in_mid_checkpoint_leaves_the_one_before(tmp_path, monkeypatch):
    import tunnelscope as ts
    from tunnelscope.errors import MachineError

    settings = {
        "recipe": "one-cycle",
        "epochs": 4,
        "precision": "f32",
        "save_epochs": "all",
        "state_every": 0,
    }
    real, full = os.replace, []

    def replace(source, target):
        if "step-0000024" in str(target):
            full.append(target)
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(MachineError, match="No space left on device"):
        ts.train(MODEL, DATA, out=tmp_path, **settings)
    assert full
    monkeypatch.setattr(os, "replace", real)
    assert load_file(tmp_path / "checkpoints" / "step-0000012.safetensors")
    done = ts.train(MODEL, DATA, out=tmp_path, **settings)
    whole = ts.train(MODEL, DATA, out=tmp_path / "whole", **settings)
    one, other = (one.network.module.state_dict() for one in (done, whole))
    assert all(torch.equal(one[key], other[key]) for key in one)
