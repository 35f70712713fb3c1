"""Folded batch norms change nothing that is read, and nothing of the user's."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tunnelscope as ts
from tunnelscope.data import as_split
from tunnelscope.features import pool_2x2
from tunnelscope.models.vision import import_timm
from tunnelscope.recording import Recorder, make_recorder


def trained(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give batch norms statistics and scales that a fold must not lose."""
    draws = torch.Generator().manual_seed(seed)
    for norm in module.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm) and norm.running_var is not None:
            norm.running_mean.normal_(std=0.3, generator=draws)
            norm.running_var.uniform_(0.3, 3, generator=draws)
            if norm.affine:
                norm.weight.data.uniform_(-1.5, 1.5, generator=draws)
                norm.bias.data.normal_(std=0.3, generator=draws)
    return module.eval()


def recorder_of(module: nn.Module, images: Tensor, layers: str | list[str] = "blocks") -> Recorder:
    return make_recorder(ts.load_network(module), layers=layers, shape=tuple(images.shape[1:]))


def assert_features_as_loaded(recorder: Recorder, images: Tensor) -> None:
    plain = recorder._as_loaded().record(as_split(images)).features
    folded = recorder.record(as_split(images)).features
    assert list(plain) == list(folded)
    for layer, values in plain.items():
        torch.testing.assert_close(folded[layer], values, atol=2e-5 * float(values.abs().max()), rtol=1e-3)


@pytest.fixture(scope="module")
def images():
    return torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "norms"),
    [("resnet18", 20), ("vgg11_bn", 8), ("mobilenetv2_100", 52), ("densenet121", 59), ("test_vit", 0)],
)
def test_every_norm_after_a_layer_is_folded_and_features_stay(images, name, norms):
    settings = {"img_size": 32} if name == "test_vit" else {}
    module = trained(import_timm().create_model(name, num_classes=5, **settings))
    recorder = recorder_of(module, images)
    assert len(recorder.folded) == norms  # of DenseNet those that stand before their convolution remain
    assert_features_as_loaded(recorder, images)


def test_a_network_of_the_zoo_is_folded_whole(images):
    network = ts.load_network("zoo:cifar_resnet20", weights="random")
    trained(network.module)
    recorder = make_recorder(network, shape=(3, 32, 32))
    assert len(recorder.folded) == 19
    assert_features_as_loaded(recorder, images)


def small(*norms: nn.Module) -> nn.Sequential:
    first, second = norms or (nn.BatchNorm2d(8), nn.BatchNorm2d(8))
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), first, nn.ReLU(inplace=True), nn.Conv2d(8, 8, 3), second, nn.ReLU()
    )


def test_a_read_point_at_a_convolution_keeps_its_own_tensor(images):
    module = trained(small())
    recorder = recorder_of(module, images, ["0", "1", "4", "5"])
    assert recorder.folded == ("4",)
    assert_features_as_loaded(recorder, images)
    with torch.no_grad():
        maps = module[0](images)
    features = recorder.record(as_split(images)).features
    torch.testing.assert_close(features["0"], pool_2x2(maps), atol=1e-5, rtol=1e-4)


def test_norms_that_cannot_be_folded_stay(images):
    shared = nn.BatchNorm2d(8)
    forgetful = nn.BatchNorm2d(8, track_running_stats=False)
    plain = nn.BatchNorm2d(8, affine=False)
    for norms, folded in (((shared, shared), ()), ((forgetful, plain), ("4",))):
        recorder = recorder_of(trained(small(*norms)), images)
        assert recorder.folded == folded
        assert_features_as_loaded(recorder, images)


class TwoReaders(nn.Module):
    """A convolution whose output goes into a norm and past it."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()
        self.second, self.second_norm = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)

    def forward(self, x):
        x = self.conv(x)
        x = self.act(self.norm(x)) + x
        return F.relu(self.second_norm(self.second(x)))


def test_a_convolution_with_two_readers_is_not_folded(images):
    recorder = recorder_of(trained(TwoReaders()), images, "all")
    assert recorder.folded == ()  # `all` reads every convolution
    recorder = recorder_of(trained(TwoReaders()), images, ["act", "second_norm"])
    assert recorder.folded == ("second_norm",)
    assert_features_as_loaded(recorder, images)


class Sequences(nn.Module):
    """A norm over positions after a linear layer, and one over features."""

    def __init__(self):
        super().__init__()
        self.mix, self.positions = nn.Linear(32, 7), nn.BatchNorm1d(7)
        self.flat, self.features, self.act = nn.Linear(49, 16), nn.BatchNorm1d(16), nn.ReLU()

    def forward(self, x):
        x = self.positions(self.mix(x[:, 0, :7]))  # (n, 7 positions, 7 features): either could be meant
        return self.act(self.features(self.flat(x.flatten(1))))


def test_a_norm_over_positions_is_no_norm_over_features(images):
    recorder = recorder_of(trained(Sequences()), images, ["act"])
    assert recorder.folded == ("features",)
    assert_features_as_loaded(recorder, images)


class Aliased(nn.Module):
    """Its norm has two names, and is called by the one that is not the module's own."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()
        self.parts = [self.norm]
        self.other = self.norm

    def forward(self, x):
        return self.act(self.parts[0](self.conv(x)) if len(x) % 2 else self.other(self.conv(x)))


def test_a_norm_under_several_names_is_folded_under_all(images):
    recorder = recorder_of(trained(Aliased()), images, ["act"])
    assert recorder.folded == ("norm",)
    assert_features_as_loaded(recorder, images)
    assert_features_as_loaded(recorder, images[:5])


class Reads(nn.Module):
    """Computes with its norm's and its convolution's own numbers beside calling them."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()

    def forward(self, x):
        return self.act(self.norm(self.conv(x)) + F.conv2d(x, self.conv.weight))


def test_a_fold_that_would_change_the_network_is_not_made(images):
    recorder = recorder_of(trained(Reads()), images, ["act"])
    assert recorder.folded == ()
    assert recorder.running is None
    assert_features_as_loaded(recorder, images)


def test_a_module_with_a_users_hook_stays_what_it_is(images):
    module = trained(small())
    handle = module[0].register_forward_hook(lambda _module, _inputs, output: output + 1)
    assert recorder_of(module, images).folded == ("4",)
    handle.remove()
    nn.utils.parametrizations.weight_norm(module[3])
    recorder = recorder_of(module, images)
    assert recorder.folded == ("1",)
    assert_features_as_loaded(recorder, images)


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_a_scan_leaves_the_users_module_as_it_was(precision):
    module = trained(nn.Sequential(*small(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))).train()
    calls = []
    module[1].register_forward_hook(lambda *_: calls.append("norm"))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    forwards = {name: child.forward for name, child in module.named_modules()}
    hooks = copy.copy(module[1]._forward_hooks)
    pictures = torch.randint(0, 256, (40, 16, 16, 3), dtype=torch.uint8).numpy()
    ts.scan(module, id=(pictures, torch.arange(40).numpy() % 2), precision=precision, cache=False)
    assert module.training
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name]), name
        assert tensor.dtype == before[name].dtype
        assert tensor.is_contiguous() == before[name].is_contiguous()
    assert {name: child.forward for name, child in module.named_modules()} == forwards
    assert module[1]._forward_hooks == hooks
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_folding_shares_what_it_does_not_change():
    module = trained(nn.Sequential(*small(), nn.Flatten(), nn.Linear(8 * 28 * 28, 50), nn.ReLU()))
    recorder = make_recorder(ts.load_network(module), shape=(3, 32, 32))
    assert recorder.running is not None
    assert recorder.folded == ("1", "4")
    own, copied = dict(recorder.network.module.named_parameters()), dict(recorder.running.named_parameters())
    assert copied["7.weight"] is own["7.weight"]
    assert copied["0.weight"] is not own["0.weight"]
