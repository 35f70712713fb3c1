"""`ts.Watch`: readings inside a loop, which it leaves as it found it."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import tunnelscope as ts
from tunnelscope.errors import RequestError
from tunnelscope.models.vision import import_torchvision
from tunnelscope.training.watch import warning_of


def network() -> nn.Sequential:
    torch.manual_seed(0)
    blocks = [nn.Sequential(nn.Linear(width, 16), nn.ReLU()) for width in (192, 16, 16)]
    return nn.Sequential(nn.Flatten(), *blocks, nn.Dropout(0.1), nn.Linear(16, 3))


@pytest.fixture
def tensors(small_images):
    """Ready inputs and labels, and other data."""
    data = {
        split: (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 128 - 1, labels)
        for split, (pixels, labels) in small_images.items()
    }
    return data, {split: (images.flip(1), labels) for split, (images, labels) in data.items()}


def epochs(module, data, count: int, each) -> None:
    """A plain loop, with dropout drawn from the global generator."""
    images, labels = data["train"][0], torch.as_tensor(data["train"][1])
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    torch.manual_seed(1)
    for _ in range(count):
        for rows in torch.randperm(len(images)).split(20):
            optimizer.zero_grad()
            F.cross_entropy(module(images[rows]), labels[rows]).backward()
            optimizer.step()
        each()


def test_a_loop_goes_on_as_if_nobody_watched(tensors):
    data, other = tensors
    alone, watched = network(), network()
    lines = []
    watch = ts.Watch(watched, data, ood={"flipped": other}, anchors=40, announce=lines.append)
    epochs(alone, data, 3, lambda: None)
    epochs(watched, data, 3, watch)
    for one, other_one in zip(alone.state_dict().values(), watched.state_dict().values(), strict=True):
        assert torch.equal(one, other_one)
    assert watched.training
    assert [reading.step for reading in watch.readings] == [1, 2, 3]
    assert [line for line in lines if line.startswith("step")] == [one.line for one in watch.readings]
    assert all("flipped 0." in one.line or "flipped 1." in one.line for one in watch.readings)


class Keeping(nn.Module):
    """A block that keeps what it gave last, with its graph."""

    def __init__(self, width: int):
        super().__init__()
        self.linear, self.act, self.last = nn.Linear(width, 16), nn.ReLU(), None

    def forward(self, x):
        self.last = self.act(self.linear(x))
        return self.last


def test_it_leaves_hooks_alone_and_copes_with_what_modules_keep(tensors):
    data, _ = tensors
    normed = nn.utils.weight_norm(nn.Linear(16, 16))
    module = nn.Sequential(nn.Flatten(), Keeping(192), normed, nn.ReLU(), nn.Linear(16, 3))
    module(data["train"][0])
    calls = []
    module[1].register_forward_hook(lambda *_: calls.append(1))
    watch = ts.Watch(module, data, anchors=40, announce=None)
    reading = watch.look(1)
    assert calls == []
    module(data["train"][0])
    assert calls == [1]
    assert len(reading.scan.run["layers"]) >= 2
    assert not reading.scan.probes  # or every look would add them to memory


def test_a_reading_is_a_scan_of_the_anchors(tensors):
    data, other = tensors
    module = network()
    watch = ts.Watch(module, data, ood={"flipped": other}, anchors=40, announce=None)
    reading = watch.look(7)
    sets = watch.sets
    assert [len(one.train) for one in sets] == [30, 30]
    assert [len(one.test) for one in sets] == [10, 10]
    wanted = ts.scan(module, id=sets[0], ood=sets[1:], probe="ridge", cache=False)
    frames = (reading.scan.frame, wanted.frame)
    probes = [frame.loc[frame["quantity"] == "probe_accuracy", "value"] for frame in frames]
    assert probes[0].tolist() == probes[1].tolist()


def test_every_second_call_looks(tensors):
    data, _ = tensors
    watch = ts.Watch(network(), data, every=2, anchors=16, announce=None)
    assert [watch(step) is not None for step in (10, 20, 30, 40, 50)] == [True, False, True, False, True]
    assert [reading.step for reading in watch.readings] == [10, 30, 50]


def test_its_history_is_a_table_and_a_report(tensors, tmp_path):
    data, other = tensors
    module = network()
    watch = ts.Watch(module, data, ood=[other], anchors=40, announce=None)
    with pytest.raises(RequestError, match="nothing was looked at yet"):
        watch.history()
    epochs(module, data, 2, watch)
    watch.save(tmp_path)
    history = watch.history()
    assert set(history.frame["run"]) == {"step-0000001", "step-0000002"}
    assert list(history.frame.columns) == list(watch.readings[0].scan.frame.columns)
    assert "After step 2" in history.verdict
    assert 'id="figure-probe_accuracy"' in (tmp_path / "report.html").read_text()


class Planted:
    """A scan with planted readings of four layers."""

    def __init__(self, ranks, retained, start="b"):
        import pandas as pd

        self.run = {
            "layers": [{"name": name, "index": index} for index, name in enumerate("abcd", 1)],
            "data": [{"key": "own", "role": "id"}],
        }
        low, value, high = retained
        self.tunnel = {
            "start_95": start,
            "ood": {"other": {"retained": {"value": value, "low": low, "high": high}}},
        }
        rows = [("numerical_rank", "own", index, rank) for index, rank in enumerate(ranks, 1)]
        self.frame = pd.DataFrame(rows, columns=["quantity", "dataset", "layer_index", "value"])


@pytest.mark.parametrize(
    ("ranks", "retained", "start", "warned"),
    [
        ((50, 40, 20, 5), (0.6, 0.7, 0.8), "b", True),
        ((50, 40, 40, 30), (0.6, 0.7, 0.8), "b", False),  # the rank stays
        ((50, 40, 20, 5), (0.9, 0.97, 1.02), "b", False),  # other data may have lost nothing
        ((50, 40, 20, 5), (0.6, 0.7, 0.8), "d", False),  # no layer after the start
        ((50, 40, 20, 5), (0.6, 0.7, 0.8), None, False),
    ],
)
def test_it_warns_of_a_tunnel_and_of_nothing_else(ranks, retained, start, warned):
    said = warning_of(Planted(ranks, retained, start))  # type: ignore[arg-type]
    assert bool(said) == warned
    if warned:
        assert said == (
            "the 2 layers after b add no ID accuracy; the rank falls there from 40 to 5, and other keeps 70% "
            "of its best layer's accuracy"
        )


def test_a_warning_is_told_once_until_it_is_over(tensors, monkeypatch):
    said = iter(["", "a tunnel", "a tunnel", "", "a tunnel"])
    monkeypatch.setattr("tunnelscope.training.watch.warning_of", lambda found: next(said))
    lines = []
    watch = ts.Watch(network(), tensors[0], anchors=16, announce=lines.append)
    for _ in range(5):
        watch()
    assert [line for line in lines if line.startswith("warning")] == ["warning: a tunnel"] * 2


def test_what_it_cannot_watch_is_refused(tensors):
    data, _ = tensors
    with pytest.raises(RequestError, match="every must be 1 or more"):
        ts.Watch(network(), data, every=0)


def test_lightning_calls_it_after_every_epoch(tensors):
    import_torchvision()  # Lightning imports it on its way
    lightning = pytest.importorskip("lightning.pytorch", reason="lightning is not installed")
    from tunnelscope.training.lightning import WatchCallback

    data, _ = tensors

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = network()

        def training_step(self, batch, index):
            return F.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    module = Module()
    watch = ts.Watch(module.net, data, anchors=16, announce=None)
    rows = torch.utils.data.TensorDataset(data["train"][0], torch.as_tensor(data["train"][1]))
    trainer = lightning.Trainer(
        max_epochs=2,
        callbacks=[WatchCallback(watch)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
    )
    trainer.fit(module, torch.utils.data.DataLoader(rows, batch_size=20))
    assert [reading.step for reading in watch.readings] == [3, 6]


def test_transformers_calls_it_after_every_epoch(tensors, tmp_path):
    import_torchvision()  # Transformers imports it on its way
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("accelerate", reason="its Trainer needs accelerate, which is not installed")
    from tunnelscope.training.transformers import WatchCallback

    data, _ = tensors
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.ViTConfig(image_size=8, patch_size=4, num_labels=3, **sizes)
    model = transformers.ViTForImageClassification(config)
    watch = ts.Watch(model, data, anchors=40, announce=None)
    before = copy.deepcopy(model.state_dict())

    class Rows(torch.utils.data.Dataset):
        def __len__(self):
            return len(data["train"][0])

        def __getitem__(self, index):
            return {"pixel_values": data["train"][0][index], "labels": int(data["train"][1][index])}

    arguments = transformers.TrainingArguments(
        str(tmp_path), num_train_epochs=2, per_device_train_batch_size=20, report_to=[], use_cpu=True
    )
    trainer = transformers.Trainer(model, arguments, train_dataset=Rows(), callbacks=[WatchCallback(watch)])
    trainer.train()
    assert [reading.step for reading in watch.readings] == [3, 6]
    assert len(watch.readings[0].scan.run["layers"]) >= 3
    assert any(not torch.equal(before[key], one) for key, one in model.state_dict().items())


def test_anchors_are_balanced_and_fixed(small_images):
    labels = np.asarray(small_images["train"][1])
    data = {"train": (torch.randn(60, 3, 8, 8), labels), "test": (torch.randn(30, 3, 8, 8), labels[:30])}
    watches = [ts.Watch(network(), data, anchors=24, announce=None) for _ in range(2)]
    counts = np.bincount(watches[0].sets[0].train.labels)
    assert counts.tolist() == [6, 6, 6]
    first, second = (torch.stack([one.sets[0].train.images[row] for row in range(18)]) for one in watches)
    assert torch.equal(first, second)
