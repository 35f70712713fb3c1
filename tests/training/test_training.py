"""`ts.train`: what it learns, keeps and refuses; exact resumes."""

import json
import math
import signal
import sys

import pytest
import torch
from safetensors.torch import load_file

import tunnelscope as ts
from tunnelscope.checkpoints import saved_steps
from tunnelscope.errors import MachineError, RequestError
from tunnelscope.forward import has_narrow_shortcut, lay_channels_last
from tunnelscope.pixels import as_pixels
from tunnelscope.randomness import named_generator
from tunnelscope.training import loop as loop_module
from tunnelscope.training.augment import augmented
from tunnelscope.training.recipe import RECIPES

MLP = "zoo:mlp?depth=2&width=16"
CONV = "zoo:cifar_resnet20"


def train(data, out, model=MLP, **settings):
    settings = {"recipe": "one-cycle", "epochs": 3, "batch": 16, "precision": "f32", "rate": 0.1} | settings
    return ts.train(model, data, out=out, **settings)


def weights(folder) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_it_learns_and_leaves_what_it_says(small_images, tmp_path):
    done = train(small_images, tmp_path, epochs=8)
    assert done.accuracy > 0.9
    assert done.lines[-1]["test_accuracy"] == done.accuracy
    assert done.lines[-1]["loss"] < done.lines[0]["loss"]
    told = json.loads((tmp_path / "train.json").read_text())
    assert told["result"]["accuracy"] == done.accuracy
    assert told["settings"]["recipe"]["rate"] == 0.1
    lines = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    assert lines == done.lines
    assert [line["step"] for line in lines] == [4 * epoch for epoch in range(1, 9)]
    card = (tmp_path / "README.md").read_text()
    assert f"{done.accuracy:.4f}" in card
    network = ts.load_network(told["settings"]["model"], weights=tmp_path / "model.safetensors")
    assert same(network.module.state_dict(), done.network.module.state_dict())
    # that the weights were drawn is no longer so, and what is said of images still is
    assert done.network.warnings == network.warnings


def test_the_draws_of_the_caller_go_on_as_without_it(small_images, tmp_path):
    state = torch.get_rng_state()
    train(small_images, tmp_path, epochs=1)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("model", "near"),
    [(MLP, 1e-5), ("zoo:resnet18?width=0.0625", 1e-3), ("zoo:resnet18?width=0.25", 1e-3)],
    ids=["mlp", "narrow shortcuts", "wide enough for channels last"],
)
def test_it_is_the_plain_loop(small_images, tmp_path, model, near):
    """Weights of two epochs of SGD are those of ten lines of PyTorch."""
    settings = {"recipe": "masarczyk2023/mlp", "epochs": 2, "momentum": 0.9, "decay": 1e-3, "rate": 0.01}
    done = train(small_images, tmp_path, model=model, **settings)
    network = ts.load_network(model, weights="random", image_shape=(3, 8, 8), classes=3)
    module = network.module.requires_grad_(True)
    dataset = ts.load_data(small_images)
    assert isinstance(network.preprocessing, ts.Preprocessing)
    pixels, _ = as_pixels(dataset.train, network.preprocessing)
    mean, std = (
        torch.tensor(told).view(-1, 1, 1) for told in (network.preprocessing.mean, network.preprocessing.std)
    )
    inputs = (pixels.permute(0, 3, 1, 2).contiguous().float() / 255 - mean) / std
    labels = torch.as_tensor(dataset.train.labels)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-3)
    module.train()
    for epoch in range(2):
        order = torch.randperm(60, generator=named_generator(0, f"order of epoch {epoch}"))
        for rows in order.split(16):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(module(inputs[rows]), labels[rows]).backward()
            optimizer.step()
    for key, tensor in module.state_dict().items():
        assert torch.allclose(tensor, done.network.module.state_dict()[key], atol=near), key


@pytest.mark.parametrize(
    ("model", "is_narrow"),
    [
        ("zoo:resnet18?width=0.0625", True),
        ("zoo:resnet34?width=0.125", True),
        ("zoo:resnet18?width=0.25", False),
        ("zoo:vggm11?width=0.0625", False),
    ],
)
def test_narrow_shortcuts_keep_their_layout(model, is_narrow):
    module = ts.load_network(model, weights="random", image_shape=(3, 32, 32), classes=3).module
    assert has_narrow_shortcut(module) == is_narrow
    lay_channels_last(module)
    weight = next(child.weight for child in module.modules() if isinstance(child, torch.nn.Conv2d))
    assert weight.is_contiguous(memory_format=torch.channels_last) != is_narrow


def test_weights_are_kept_after_the_steps_and_epochs_asked_for(small_images, tmp_path):
    train(small_images, tmp_path, save_steps=[0, 1, 6], save_epochs=[2])
    kept = saved_steps(tmp_path)
    assert list(kept) == [0, 1, 6, 8, 12]
    first = ts.load_network(MLP, image_shape=(3, 8, 8), classes=3).module.state_dict()
    assert same(load_file(kept[0]), first)
    assert same(load_file(kept[12]), weights(tmp_path))
    assert not same(load_file(kept[1]), first)


@pytest.mark.parametrize(
    "settings",
    [
        {"recipe": "masarczyk2023/mlp", "momentum": 0.9},
        {"recipe": "harun2024/vggm", "epochs": 4, "batch": 16, "augmentation": "crop-flip"},
        {"model": CONV, "recipe": "masarczyk2023/resnet", "epochs": 2, "augmentation": "resized-crop-flip"},
        {"model": CONV, "precision": "bf16", "epochs": 2},
    ],
)
@pytest.mark.parametrize("step", [1, 5])
def test_an_interrupted_training_goes_on_bit_for_bit(small_images, tmp_path, monkeypatch, settings, step):
    whole = train(small_images, tmp_path / "whole", **settings)
    real = loop_module.Loop.step

    def interrupted(self):
        """Press Ctrl-C in mid-step: statistics of batch norms have moved, the weights have not."""
        backward = torch.Tensor.backward

        def pressed(tensor):
            backward(tensor)
            signal.raise_signal(signal.SIGINT)

        with monkeypatch.context() as patch:
            if self.progress.step == step - 1:
                patch.setattr(torch.Tensor, "backward", pressed)
            real(self)

    monkeypatch.setattr(loop_module.Loop, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(small_images, tmp_path / "cut", **settings)
    monkeypatch.setattr(loop_module.Loop, "step", real)
    lines = []
    cut = train(small_images, tmp_path / "cut", announce=lines.append, **settings)
    assert lines == [f"going on after step {step} of {whole.settings['result']['steps']}"]
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    for one, other in zip(whole.lines, cut.lines, strict=True):
        assert one | {"seconds": 0} == other | {"seconds": 0}


def test_a_finished_training_is_given_back(small_images, tmp_path, monkeypatch):
    first = train(small_images, tmp_path)
    monkeypatch.setattr(loop_module.Loop, "step", None)
    again = train(small_images, tmp_path)
    assert again.accuracy == first.accuracy
    assert same(first.network.module.state_dict(), again.network.module.state_dict())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rate": 0.05}, "rate 0.1, now 0.05"),
        ({"recipe": "masarczyk2023/mlp"}, "schedule 'one-cycle', now 'constant'"),
        ({"model": "zoo:mlp?depth=3&width=16"}, "depth=2.*now.*depth=3"),
        ({"seed": 1}, "seed 0, now 1"),
    ],
)
def test_a_folder_of_another_training_is_refused(small_images, tmp_path, changes, said):
    train(small_images, tmp_path)
    before = weights(tmp_path)
    with pytest.raises(RequestError, match=said):
        train(small_images, tmp_path, **changes)
    assert same(before, weights(tmp_path))


def test_other_images_under_the_same_name_are_refused(small_images, tmp_path):
    train(small_images, tmp_path)
    pixels, labels = small_images["train"]
    changed = pixels.copy()
    changed[0, 0, 0, 0] ^= 1
    with pytest.raises(RequestError, match="images '"):
        train(small_images | {"train": (changed, labels)}, tmp_path)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_state(small_images, tmp_path):
    settings = {"recipe": "masarczyk2023/mlp", "rate": 1e30, "epochs": 30, "save_steps": [0, 1]}
    with pytest.raises(RequestError, match=r"the loss of step \d+ \(epoch 1\) is not finite, at rate 1e\+30"):
        train(small_images, tmp_path, **settings)
    assert list(saved_steps(tmp_path)) == [0, 1]
    for path in tmp_path.rglob("*.safetensors"):
        if "step-0000000" in path.name:
            assert all(bool(tensor.isfinite().all()) for tensor in load_file(path).values())


def test_best_weights_are_those_of_the_best_held_out_epoch(small_images, tmp_path):
    done = train(small_images, tmp_path, keep="best", epochs=6, save_epochs="all", rate=0.3)
    heldout = [line["heldout_accuracy"] for line in done.lines]
    best = done.lines[heldout.index(max(heldout))]["step"]
    assert done.settings["result"]["step"] == best
    assert same(weights(tmp_path), load_file(saved_steps(tmp_path)[best]))
    assert done.lines[0]["step"] == math.ceil(54 / 16)  # a tenth is not trained on


def test_one_image_left_over_is_left_out(small_images, tmp_path):
    pixels, labels = small_images["train"]
    data = small_images | {"train": (pixels[:33], labels[:33])}
    done = train(data, tmp_path, model=CONV, epochs=1)
    assert done.lines[0]["step"] == 2


def test_tasks_are_learnt_one_after_the_other(tmp_path):
    told = ts.train_tasks(
        MLP,
        "sklearn:digits",
        ["0-4", "5-9"],
        out=tmp_path,
        recipe="one-cycle",
        epochs=10,
        rate=0.1,
        precision="f32",
        save_steps=[0],
    )
    first, second = (saved_steps(tmp_path / f"task-{number}") for number in (1, 2))
    end, start = load_file(first[max(first)]), load_file(second[0])
    for key in end:
        is_head = key.startswith("classifier")
        assert torch.equal(end[key], start[key]) != is_head, key
    assert [done.accuracy > 0.5 for done in told] == [True, True]
    assert (tmp_path / "task-2" / "README.md").exists()
    first, second = (done.settings["start"] for done in told)
    assert first == "random (seed 0)"
    assert "the task before" in second
    assert "the task before" in (told[1].folder / "README.md").read_text()
    with pytest.raises(RequestError, match="no class"):  # of the second task, before the first is trained
        ts.train_tasks(MLP, "sklearn:digits", ["0-4", "5-99"], out=tmp_path / "late")
    assert not (tmp_path / "late").exists()
    with pytest.raises(RequestError, match="two tasks or more"):
        ts.train_tasks(MLP, "sklearn:digits", ["0-4"], out=tmp_path)


def test_images_that_do_not_fit_into_memory_are_refused(small_images, tmp_path, monkeypatch):
    monkeypatch.setattr("tunnelscope.pixels.available", lambda: 6000)
    with pytest.raises(MachineError, match=r"60 training images take 11\.2 KB .* --max-samples 25 would fit"):
        train(small_images, tmp_path)


@pytest.mark.parametrize("content", ['{"step": 4, "ep', "[1]"])
def test_a_damaged_log_is_named(small_images, tmp_path, content):
    train(small_images, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "train.jsonl").write_text(content)
    with pytest.raises(RequestError, match=r"train\.jsonl cannot be read"):
        train(small_images, tmp_path)


def test_weights_that_a_last_step_spoils_are_not_kept(small_images, tmp_path):
    with pytest.raises(RequestError, match=r"after step 1 .* is not finite, at rate 1e\+39"):
        train(
            small_images, tmp_path, recipe="masarczyk2023/mlp", rate=1e39, epochs=1, batch=64, state_every=0
        )
    assert not (tmp_path / "model.safetensors").exists()
    assert saved_steps(tmp_path).keys() == {0}


def test_a_finished_training_is_written_once(small_images, tmp_path):
    train(small_images, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    train(small_images, tmp_path, command="another")
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_images_a_second_are_those_that_were_seen(small_images, tmp_path):
    done = train(small_images, tmp_path, batch=50)  # 60 images: the second batch has ten
    result = done.settings["result"]
    assert result["steps"] == 6
    assert result["images_per_second"] * done.lines[-1]["seconds"] == pytest.approx(3 * 60, rel=0.2)


@pytest.mark.parametrize(
    ("data", "settings", "said"),
    [
        (lambda images: images, {"model": "zoo:mlp?depth=2&width=16&classes=2"}, "tells 2 classes apart"),
        (lambda images: images, {"epoch": 2}, "no setting of a recipe named 'epoch'; nearest: epochs"),
        (lambda images: images, {"epochs": 1.5}, "epochs must be a whole number"),
        (lambda images: images, {"recipe": RECIPES["harun2024/vit"], "epoch": 2}, "nearest: epochs"),
        (lambda images: images, {"recipe": "harun2024/vit", "momentum": 0.5}, "momentum is SGD's"),
        (
            lambda images: {split: (pixels, labels + 0.5) for split, (pixels, labels) in images.items()},
            {},
            "networks are trained on classes",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused(small_images, tmp_path, data, settings, said):
    with pytest.raises(RequestError, match=said):
        train(data(small_images), tmp_path, **settings)


@pytest.mark.parametrize("name", ["none", "crop-flip", "resized-crop-flip"])
def test_ready_inputs_are_augmented_as_images_are(small_images, name):
    pixels = torch.from_numpy(small_images["train"][0])
    ready = pixels.permute(0, 3, 1, 2).float()
    draws = (named_generator(0, "augmentation") for _ in range(2))
    one = augmented(name, pixels, next(draws), slice(None), is_ready=False)
    other = augmented(name, ready, next(draws), slice(None), is_ready=True)
    torch.testing.assert_close(one.permute(0, 3, 1, 2).float(), other)


def test_ready_inputs_that_are_no_maps_are_not_augmented(small_images, tmp_path):
    flat = {
        split: (torch.from_numpy(pixels).flatten(1).float() / 255, labels)
        for split, (pixels, labels) in small_images.items()
    }
    with pytest.raises(RequestError, match="--augmentation crop-flip is for images"):
        train(flat, tmp_path, model=torch.nn.Linear(192, 3), augmentation="crop-flip")


def test_a_card_offers_no_line_that_would_not_load(small_images, tmp_path):
    train(small_images, tmp_path, model=torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 3)))
    assert "load_network" not in (tmp_path / "README.md").read_text()


def test_a_damaged_state_is_named(small_images, tmp_path):
    train(small_images, tmp_path)
    (tmp_path / "model.safetensors").unlink()  # it is not finished
    state = tmp_path / "state.safetensors"
    state.write_bytes(state.read_bytes()[:100])
    with pytest.raises(RequestError, match=r"state\.safetensors cannot be gone on from"):
        train(small_images, tmp_path)


def test_tensorboard_reads_the_log(small_images, tmp_path):
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is not installed"
    )
    done = train(small_images, tmp_path, tensorboard=True)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    losses = [(event.step, event.value) for event in events.Scalars("loss")]
    assert losses == [(line["step"], pytest.approx(line["loss"], rel=1e-6)) for line in done.lines]


def test_without_tensorboard_it_says_what_to_install(small_images, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(RequestError, match=r"pip install tunnelscope\[training\]"):
        train(small_images, tmp_path, tensorboard=True)
