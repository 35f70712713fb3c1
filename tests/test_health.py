"""Each health check finds the fault planted for it, says what to do, and is silent without the fault."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import tunnelscope as ts
from tunnelscope import health
from tunnelscope.data import Fingerprint, as_digests, batches, equal_pairs, like_pairs, load_data
from tunnelscope.data.duplicates import thumbnails
from tunnelscope.errors import RequestError
from tunnelscope.input_scale import batch_norm_factors
from tunnelscope.recording import Recorder

FAULTS = ("batch norm", "ready inputs", "chance", "constant", "test images", "own accuracy")


def images(rows=90, seed=0, classes=3, side=16):
    """Images (n, side, side, 3) uint8 and labels: noise, and a patch whose place says the class."""
    draws = np.random.default_rng(seed)
    labels = np.arange(rows) % classes
    pixels = draws.integers(0, 256, (rows, side, side, 3)) / 2
    for row, label in enumerate(labels):
        pixels[row, 5 * label : 5 * label + 5, :, label % 3] += 127
    return pixels.astype(np.uint8), labels


def data(**changed):
    return {"train": images(240), "test": images(150, seed=1)} | changed


def as_floats(scale, shift=0.0):
    """The data as ready inputs: pixels from 0 to 1, times `scale`, less `shift`."""
    return {
        split: ((pixels.transpose(0, 3, 1, 2) / 255 * scale - shift).astype(np.float32), labels)
        for split, (pixels, labels) in data().items()
    }


class Net(nn.Module):
    """Two convolutions; after `fitted` the batch norm knows images normalised by 0.5 and 0.25."""

    def __init__(self, dead=0.0, mean=0.5, std=0.25):
        super().__init__()
        torch.manual_seed(0)
        self.preprocessing = {"mean": mean, "std": std, "size": 16}
        self.first, self.norm, self.act1 = nn.Conv2d(3, 12, 3), nn.BatchNorm2d(12), nn.ReLU()
        self.second, self.act2 = nn.Conv2d(12, 20, 3), nn.ReLU()
        self.head = nn.Linear(20, 3)
        with torch.no_grad():
            self.second.bias[: round(20 * dead)] = -1e4

    def forward(self, x):
        return self.head(self.act2(self.second(self.act1(self.norm(self.first(x))))).mean(dim=(2, 3)))


def fitted(**arguments):
    """A network whose batch norm was trained, with a classifier that is right."""
    net = Net(**arguments)
    pixels, labels = data()["train"]
    inputs = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
    net.norm.momentum = None  # the mean over all batches
    net.train()(inputs)
    net.eval().requires_grad_(False)
    features = {}
    net.act2.register_forward_hook(lambda module, args, output: features.update(x=output.mean(dim=(2, 3))))
    net(inputs)
    net.act2._forward_hooks.clear()
    centred = features["x"] - features["x"].mean(dim=0)
    targets = nn.functional.one_hot(torch.from_numpy(labels), 3).float() - 1 / 3
    weights = torch.linalg.lstsq(torch.cat([centred, 0.01 * torch.eye(20)]),
                                 torch.cat([targets, torch.zeros(20, 3)])).solution  # fmt: skip
    net.head.weight.data = weights.T.contiguous()
    net.head.bias.data = -features["x"].mean(dim=0) @ weights
    return net


def found(*arguments, fault, **named):
    """The warnings of a scan that speak of the fault."""
    run = ts.scan(*arguments, **{"probe": "ridge"} | named).run
    return [line for line in run["warnings"] if fault in line]


def test_a_sound_scan_has_no_health_warning():
    other = data(train=images(240, 5), test=images(150, 6))
    run = ts.scan(fitted(), id=data(), ood={"other": other}, probe="ridge").run
    assert run["network_accuracy"]["value"] > 0.9
    assert [line for line in run["warnings"] if any(fault in line for fault in FAULTS)] == []


# input scale


@pytest.mark.parametrize(("mean", "std"), [(127.5, 63.75), (0.5, 0.25 / 255), (0.5, 5.0), (0.5, 0.0125)])
def test_a_preprocessing_on_another_scale_is_refused(mean, std):
    net = fitted()
    net.preprocessing = {"mean": mean, "std": std, "size": 16}
    with pytest.raises(RequestError, match=r"batch norm 'norm' is .* times (larger|smaller).*--accept-scale"):
        ts.scan(net, id=data())
    accepted = found(net, id=data(), accept_scale=True, fault="batch norm")
    assert len(accepted) == 1
    assert "--accept-scale" not in accepted[0]
    assert f"mean {mean}" in accepted[0]


def test_images_that_are_not_normalised_are_warned_of():
    net = fitted()
    net.preprocessing = {"mean": 0.0, "std": 1.0, "size": 16}
    (line,) = found(net, id=data(), fault="batch norm")
    assert "times smaller than in training" in line
    assert "?mean=…&std=…" in line


def test_the_scale_is_refused_on_the_command_line_before_a_pass(real_data, tunnelscope, monkeypatch):
    monkeypatch.setattr(Recorder, "_forward", None)
    weights = f"{real_data}/weights/resnet20_cifar10.safetensors"
    model, own = "zoo:cifar_resnet20?mean=0&std=0.004", f"{real_data}/cifar10"
    ended = tunnelscope("scan", model, "--weights", weights, "--id", own, "--max-samples", 100)
    assert (ended.code, ended.out) == (2, "")
    assert "--accept-scale" in ended.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("own", "name"), [("cifar10", 20), ("gtsrb", 56), ("clothing", 20), ("caltech101", 56)]
)
def test_real_networks_find_real_images_on_their_scale(real_data, own, name):
    weights = f"{real_data}/weights/resnet{name}_cifar10.safetensors"
    network = ts.load_network(f"zoo:cifar_resnet{name}", weights=weights)
    train = load_data(f"{real_data}/{own}", max_samples=64).train
    batch = next(batches(train.images, network.preprocessing, batch_size=64, workers=0))
    layer, factors = batch_norm_factors(network.module, batch)
    assert layer == "bn1"
    assert 0.5 < factors[0] <= factors[1] <= factors[2] < 2
    assert health.batch_norm_scale(factors, layer, own, "") is None


def test_statistics_of_no_data_say_nothing():
    inputs = 1000 * torch.randn(8, 3, 16, 16)
    untrained, folded = Net().eval(), Net().eval()
    folded.norm.running_var.fill_(1 - 1e-5)  # batch norm folded into the convolution
    assert batch_norm_factors(untrained, inputs) is None
    assert batch_norm_factors(folded, inputs) is None
    assert batch_norm_factors(nn.Sequential(nn.Conv2d(3, 4, 3)), inputs) is None
    assert batch_norm_factors(fitted(), inputs) is not None


def test_the_check_leaves_the_network_as_it_was():
    net = fitted()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    batch_norm_factors(net, torch.randn(8, 3, 16, 16))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(module._forward_pre_hooks for module in net.modules())
    assert net(torch.randn(2, 3, 16, 16)).shape == (2, 3)


def test_ready_inputs_that_are_not_normalised_are_told():
    net = Net()
    (line,) = found(net, id=as_floats(1), fault="ready inputs")
    assert "look not normalised (0 to 1)" in line
    assert "mean 0.5, 0.5, 0.5 and std 0.25, 0.25, 0.25" in line
    with pytest.raises(RequestError, match=r"look not normalised \(0 to 255\).*--accept-scale"):
        ts.scan(net, id=as_floats(255))
    with pytest.raises(RequestError, match=r"^other holds floats"):
        ts.scan(net, id=data(), ood={"other": as_floats(255)})
    (line,) = found(net, id=as_floats(255), accept_scale=True, fault="ready inputs")
    assert "0 to 255" in line
    (line,) = found(net, id=as_floats(4, 2), fault="ready inputs")  # normalised: only said to be ready
    assert "look" not in line


def test_record_refuses_a_wrong_scale_too(real_data, tunnelscope, tmp_path):
    weights = f"{real_data}/weights/resnet20_cifar10.safetensors"
    asked = ["record", "zoo:cifar_resnet20?mean=0&std=0.004", f"{real_data}/cifar10", "--weights", weights]
    asked += ["--max-samples", 40, "--layers", "bn1", "--out", tmp_path / "f.safetensors"]
    assert tunnelscope(*asked).code == 2
    ended = tunnelscope(*asked, "--accept-scale", "--json")
    assert ended.code == 0
    assert "batch norm" in ended.json["warnings"][0]


# chance


def test_probes_at_chance_are_told():
    noise = np.random.default_rng(3).permutation(images(150)[1])
    (line,) = found(fitted(), ood=data(test=(images(150, 1)[0], noise)), fault="chance")
    assert "no layer's probe is surely above chance (33.3%)" in line
    assert "check labels" in line


def test_a_last_layer_that_lost_the_classes_is_told():
    net = fitted()
    net.second.weight.data.zero_()
    (line,) = found(net, ood=data(), fault="chance")
    assert "the probe on the last layer, act2" in line
    assert "take act1" in line


# dead features


@pytest.mark.parametrize(("dead", "warned"), [(0.0, False), (0.5, False), (0.95, True), (1.0, True)])
def test_a_layer_of_dead_units_is_told(dead, warned):
    scan = ts.scan(fitted(dead=dead), id=data(), probe="ridge")
    lines = [line for line in scan.run["warnings"] if "constant features" in line]
    assert len(lines) == warned
    assert scan.run["layers"][-1]["dead_features"] == pytest.approx(dead)
    table = scan.table()
    rows = table[(table["quantity"] == "dead_features") & (table["layer"] == "act2")]
    assert rows["value"].tolist() == pytest.approx([dead])
    if warned:
        assert f"1 layer has more than 90% constant features, the most act2 ({dead:.1%})" in lines[0]


# images that come twice


def brighter(pixels):
    return (0.9 * pixels + 10).astype(np.uint8)


def test_images_in_both_splits_are_counted_and_named():
    (train, _), (test, labels) = data()["train"], data()["test"]
    test[7], test[30] = train[4], train[200]
    test[50] = brighter(train[9])
    (line,) = found(fitted(), id=data(test=(test, labels)), fault="training images")
    assert "2 of 150 test images are training images too (first: image 7 of" in line
    assert "and image 4 of" in line
    assert "1 more nearly equal a training image (first: image 50 of" in line
    assert "without them" in line


def test_the_accuracy_without_the_images_in_both_splits_is_right():
    (train, _), (test, labels) = data()["train"], data()["test"]
    test[:15] = train[:15]
    labels = np.where(np.arange(150) < 15, 2 - labels, labels)  # labels that make the probe look worse
    scan = ts.scan(fitted(), id=data(test=(test, labels)), probe="ridge")
    (line,) = (line for line in scan.run["warnings"] if "training images too" in line)
    probe = next(probe for probe in scan.run["probes"] if probe["layer"] == "act2")
    assert f"the last layer's accuracy is {probe['accuracy']:.1%}, without them" in line
    assert float(line.rpartition("without them ")[2].partition("%")[0]) > 100 * probe["accuracy"] + 3


def test_training_images_of_the_network_among_other_data_are_told():
    (train, _), (test, labels) = images(240), images(150, 6)
    test[3] = train[11]
    other = {"train": images(240, 5), "test": (test, labels)}
    (line,) = found(fitted(), id=data(), ood={"other": other}, fault="network's own data")
    assert line.startswith("other: 1 of 150 test images are training images of")


def test_images_in_both_splits_are_told_when_nothing_is_read_again(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNNELSCOPE_CACHE", str(tmp_path))
    (train, _), (test, labels) = data()["train"], data()["test"]
    test[7], test[8] = train[4], brighter(train[9])
    net, planted = fitted(), data(test=(test, labels))
    first = found(net, id=planted, ood={"other": planted}, fault="training images")
    monkeypatch.setattr(Recorder, "record", None)
    assert found(net, id=planted, ood={"other": planted}, fault="training images") == first
    assert len(first) == 3
    for prints in tmp_path.glob("outcomes/*/*/prints.safetensors"):  # a store that was cleared of them
        prints.unlink()
    assert found(net, id=planted, ood={"other": planted}, fault="training images") == first


def test_texts_that_come_twice_are_found_by_their_digests():
    def digests(*texts):
        seen = Fingerprint()
        for label, text in enumerate(texts):
            seen.update(text, label)
        return as_digests(seen.digests)

    assert equal_pairs(digests("a", "b", "a"), digests("c", "a", "b", "a ")) == [(1, 0), (2, 1)]


@given(st.lists(st.integers(0, 5), max_size=12), st.lists(st.integers(0, 8), max_size=12))
def test_equal_digests_are_those_of_the_plain_search(train, test):
    """Digests that share their first half are told apart by the second."""
    one, other = (
        torch.tensor([[number // 3] * 8 + [number] * 8 for number in numbers], dtype=torch.uint8).reshape(
            -1, 16
        )
        for numbers in (train, test)
    )
    plain = [(row, train.index(number)) for row, number in enumerate(test) if number in train]
    assert equal_pairs(one, other) == plain


@given(st.integers(0, 10**6), st.floats(0.2, 3), st.floats(-2, 2), st.integers(16, 40))
def test_a_copy_with_other_contrast_is_alike_and_other_images_are_not(seed, contrast, shift, side):
    draws = torch.Generator().manual_seed(seed)
    batch = torch.randn(12, 3, side, side, generator=draws).cumsum(2).cumsum(3)
    copies = contrast * batch[[5, 2]] + shift
    assert like_pairs(thumbnails(batch), thumbnails(copies)) == [(0, 5), (1, 2)]


@given(st.integers(0, 10**6))
def test_pairs_of_like_images_are_those_of_the_plain_search(seed):
    draws = torch.Generator().manual_seed(seed)
    train = torch.randn(30, 3, 16, 16, generator=draws)
    test = train[torch.randint(30, (20,), generator=draws)]
    test = test + torch.linspace(0, 0.3, 20)[:, None, None, None] * torch.randn(test.shape, generator=draws)
    one, other = thumbnails(train), thumbnails(test)
    distances = torch.cdist(other.float(), one.float()) / 24 / 16
    plain = [(row, int(distances[row].argmin())) for row in range(20) if distances[row].min() <= 0.1]
    assert 0 < len(plain) < 20
    assert like_pairs(one, other) == plain


def test_plain_surfaces_and_small_images_are_like_nothing():
    plain = thumbnails(torch.full((4, 3, 16, 16), 0.3) + 1e-4 * torch.randn(4, 3, 16, 16))
    assert like_pairs(plain, plain) == []
    assert thumbnails(torch.randn(4, 1, 8, 8)) is None
    assert thumbnails(torch.randn(4, 100)) is None
    assert like_pairs(None, plain) == []


def test_handwritten_digits_of_one_class_are_not_taken_for_copies(real_data):
    digits = load_data(f"{real_data}/mnist")
    both = [
        thumbnails(
            torch.tensor(np.stack([np.asarray(image, dtype=np.float32)[None] for image in split.images]))
        )
        for split in (digits.train, digits.test)
    ]
    assert like_pairs(*both) == []


# the network's own accuracy


def test_an_untrained_classifier_is_not_told_of():
    model, own = "zoo:mlp?depth=2&width=32", "sklearn:digits?classes=0-2"
    scan = ts.scan(model, weights="random", id=own, max_samples=200, probe="ridge")
    assert scan.run["probes"][-1]["accuracy"] > scan.run["network_accuracy"]["value"] + 0.2
    assert not any("own accuracy" in line for line in scan.run["warnings"])


def test_a_classifier_in_another_order_is_told():
    net = fitted()
    net.head.weight.data = net.head.weight.data[[1, 2, 0]]
    net.head.bias.data = net.head.bias.data[[1, 2, 0]]
    (line,) = found(net, id=data(), fault="own accuracy")
    assert "another order of classes" in line
    assert "check --weights" in line
