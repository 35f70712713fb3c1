"""`ts.scan_checkpoints`: each checkpoint as it is scanned alone, and what only a history shows."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

import tunnelscope as ts
from tunnelscope.checkpoints import saved_steps
from tunnelscope.cli import cli
from tunnelscope.errors import RequestError
from tunnelscope.metrics import unbiased_cka
from tunnelscope.over_training import load_over_training

MODEL = "zoo:mlp?depth=3&width=12"


class Counting:
    """Images that count how often they are asked for."""

    def __init__(self, pixels: np.ndarray):
        self.pixels, self.asked = pixels, 0

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int, /) -> np.ndarray:
        self.asked += 1
        return self.pixels[index]


@pytest.fixture
def trained(small_images, tmp_path):
    """A folder of a training with checkpoints after steps 0, 1 and 8, and its data."""
    folder = tmp_path / "trained"
    settings = {"recipe": "one-cycle", "epochs": 2, "batch": 16, "precision": "f32", "rate": 0.2}
    ts.train(MODEL, small_images, out=folder, save_steps=[0, 1], save_epochs=[2], **settings)
    return folder, small_images


def values(frame, run: str, quantity: str, **columns) -> dict[str, float]:
    rows = frame.loc[(frame["run"] == run) & (frame["quantity"] == quantity) & frame["layer"].notna()]
    for name, value in columns.items():
        rows = rows.loc[rows[name] == value]
    return dict(zip(rows["layer"], rows["value"], strict=True))


@pytest.mark.parametrize("cache", [True, False])
def test_each_checkpoint_is_scanned_as_if_alone(trained, cache):
    folder, data = trained
    other = {split: (pixels[:, ::-1].copy(), labels) for split, (pixels, labels) in data.items()}
    done = ts.scan_checkpoints(folder, id=data, ood={"flipped": other}, probe="ridge", cache=cache)
    steps = [one["step"] for one in done.run["checkpoints"]]
    assert steps == [0, 1, 8]
    told = json.loads((folder / "train.json").read_text())["settings"]
    for step, path in saved_steps(folder).items():
        alone = ts.scan(told["model"], weights=str(path), id=data, ood={"flipped": other}, probe="ridge")
        for quantity in ("probe_accuracy", "numerical_rank", "nc1"):
            for key in ("data", "flipped"):
                key = alone.run["data"][0]["key"] if key == "data" else key
                mine = values(done.frame, f"step-{step:07d}", quantity, dataset=key)
                theirs = values(alone.frame, alone.run["run"], quantity, dataset=key)
                assert mine == pytest.approx(theirs, rel=1e-6), (step, quantity, key)
    mine, theirs = done.run["checkpoints"][-1]["tunnel"], alone.tunnel
    assert mine["start_95_interval"] == theirs["start_95_interval"]
    assert mine["ood"]["flipped"]["retained"] == theirs["ood"]["flipped"]["retained"]


def test_similarity_is_cka_of_the_test_features_with_the_last_ones(trained):
    folder, data = trained
    done = ts.scan_checkpoints(folder, id=data, probe="ridge")
    told = json.loads((folder / "train.json").read_text())["settings"]
    features = {
        step: ts.record(ts.load_network(told["model"], weights=path), data["test"][0])
        for step, path in saved_steps(folder).items()
    }
    for step in (0, 1, 8):
        got = values(done.frame, f"step-{step:07d}", "cka_to_last")
        assert got.keys() == features[8].keys()
        for layer, value in got.items():
            wanted = float(unbiased_cka([features[step][layer], features[8][layer]])[0, 1])
            assert value == pytest.approx(wanted, abs=1e-5)
    assert values(done.frame, "step-0000008", "cka_to_last") == pytest.approx(
        dict.fromkeys(got, 1.0), abs=1e-6
    )
    assert min(values(done.frame, "step-0000000", "cka_to_last").values()) < 0.99


def test_similarity_is_to_the_last_checkpoint_of_all(trained):
    folder, data = trained
    whole = ts.scan_checkpoints(folder, id=data, probe="ridge")
    some = ts.scan_checkpoints(folder, id=data, probe="ridge", steps=[0, 1])
    for run in ("step-0000000", "step-0000001"):
        assert values(some.frame, run, "cka_to_last") == values(whole.frame, run, "cka_to_last")


def test_the_data_are_read_as_the_training_read_them(tmp_path):
    settings = {"recipe": "one-cycle", "epochs": 1, "precision": "f32", "max_samples": 60, "seed": 3}
    done = ts.train(MODEL, "sklearn:digits?classes=0-3", out=tmp_path, save_steps=[0], **settings)
    [entry] = ts.scan_checkpoints(tmp_path, probe="ridge", steps=[0]).run["data"]
    assert entry["n_train"] == done.settings["train_rows"] == 60
    told = json.loads((tmp_path / "train.json").read_text())
    told["settings"]["data"] = "sklearn:digits?classes=0-4"
    (tmp_path / "train.json").write_text(json.dumps(told))
    with pytest.raises(RequestError, match=r"holds 5 classes .* the training had 4"):
        ts.scan_checkpoints(tmp_path, probe="ridge")


def test_weight_changes_are_those_between_the_files(trained):
    folder, data = trained
    done = ts.scan_checkpoints(folder, id=data, probe="ridge")
    paths = saved_steps(folder)
    assert values(done.frame, "step-0000000", "weight_change_rms") == {}
    for before, step in ((0, 1), (1, 8)):
        old, new = load_file(paths[before]), load_file(paths[step])
        relative = values(done.frame, f"step-{step:07d}", "weight_change_relative")
        rms = values(done.frame, f"step-{step:07d}", "weight_change_rms")
        assert list(relative) == ["hidden.0.linear", "hidden.1.linear", "hidden.2.linear", "classifier"]
        for layer in relative:
            change = new[f"{layer}.weight"] - old[f"{layer}.weight"]
            assert rms[layer] == pytest.approx(float(change.square().mean().sqrt()), rel=1e-5)
            norm = float(old[f"{layer}.weight"].norm())
            assert relative[layer] == pytest.approx(float(change.norm()) / norm, rel=1e-5)


def test_images_are_decoded_once(trained):
    folder, data = trained
    counted = {split: Counting(pixels) for split, (pixels, _) in data.items()}
    one = ts.DataSet(
        "counted",
        "counted",
        *(ts_split(counted[split], data[split][1]) for split in ("train", "test")),
        ("a", "b", "c"),
    )
    ts.scan_checkpoints(folder, id=one, probe="ridge", cache=False)
    assert counted["train"].asked <= 60 + 2  # one more look tells images from texts
    assert counted["test"].asked <= 30 + 2


def ts_split(images, labels):
    from tunnelscope.data import Split

    return Split(images, labels)


def test_folder_report_and_table_hold_every_checkpoint(trained, tmp_path):
    folder, data = trained
    done = ts.scan_checkpoints(folder, id=data, probe="ridge", out=tmp_path / "out")
    again = load_over_training(tmp_path / "out")
    assert again.run == done.run
    assert set(again.frame["run"]) == {"step-0000000", "step-0000001", "step-0000008"}
    page = (tmp_path / "out" / "report.html").read_text()
    for title in (
        "Probe accuracy",
        "Numerical rank",
        "Similarity to the last checkpoint",
        "Weights that move",
    ):
        assert title in page
    assert done.verdict in page


def test_the_command_prints_a_row_a_checkpoint(tmp_path):
    run = CliRunner()
    trained, out = str(tmp_path / "trained"), str(tmp_path / "out")
    arguments = [
        "train",
        MODEL,
        "sklearn:digits",
        "--recipe",
        "one-cycle",
        "--epochs",
        "2",
        "--save-steps",
        "0,3",
    ]
    assert run.invoke(cli, [*arguments, "--out", trained]).exit_code == 0
    done = run.invoke(cli, ["scan", "--checkpoints", trained, "--probe", "ridge", "--out", out])
    assert done.exit_code == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["step", "0", "3", "12", "24"]
    told = run.invoke(cli, ["scan", "--checkpoints", trained, "--steps", "3", "--out", out, "--json"])
    assert [one["step"] for one in json.loads(told.stdout)["checkpoints"]] == [3]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--checkpoints", "nowhere"], "nowhere holds no training with checkpoints"),
        (["zoo:mlp", "--checkpoints", "nowhere"], "leave MODEL out"),
        (["--checkpoints", "nowhere", "--control"], "leave --control out"),
        ([], "name a MODEL"),
        (["zoo:mlp", "--steps", "1", "--id", "sklearn:digits"], "--checkpoints DIR"),
    ],
)
def test_what_names_no_training_is_refused(arguments, said):
    with pytest.raises(RequestError, match=said):
        CliRunner().invoke(cli, ["scan", *arguments], catch_exceptions=False)


def test_a_step_that_is_not_there_is_refused(trained):
    folder, data = trained
    with pytest.raises(RequestError, match="no checkpoint of step 5; there are 0, 1, 8"):
        ts.scan_checkpoints(folder, id=data, steps=[5])


def test_a_damaged_checkpoint_is_named(trained):
    folder, data = trained
    path = saved_steps(folder)[1]
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(RequestError, match="step-0000001"):
        ts.scan_checkpoints(folder, id=data, probe="ridge")


def test_float_images_are_scanned_too(small_images, tmp_path):
    data = {
        split: (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255, labels)
        for split, (pixels, labels) in small_images.items()
    }
    ts.train(MODEL, data, out=tmp_path, recipe="one-cycle", epochs=1, precision="f32", save_steps=[0])
    done = ts.scan_checkpoints(tmp_path, id=data, probe="ridge")
    assert len(done.run["checkpoints"]) == 2
