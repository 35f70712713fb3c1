"""The zoo's networks have the published sizes, names and shapes."""

import pytest
import torch
from torch import nn

from tunnelscope.errors import RequestError
from tunnelscope.models.zoo import ZOO


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("cifar_resnet20", 269_722),
        ("cifar_resnet32", 464_154),
        ("cifar_resnet44", 658_586),
        ("cifar_resnet56", 853_018),
        ("cifar_resnet110", 1_727_962),
    ],
)
def test_cifar_resnets_have_the_published_parameter_counts(name, count):
    assert parameters(ZOO[name].build()) == count


# Without hidden linear layers these are the networks of Harun et al. 2024, whose counts are printed there.
@pytest.mark.parametrize(("name", "count"), [("vgg13", 9_462_180), ("vgg19", 20_086_692)])
def test_vggs_without_hidden_linear_layers_have_the_published_parameter_counts(name, count):
    assert parameters(ZOO[name].build(classes=100, head=None)) == count


def test_mlp_counts_its_layers():
    network = ZOO["mlp"].build(image_shape=(1, 8, 8), classes=5, depth=12, width=256)
    assert parameters(network) == (64 * 256 + 256) + 11 * (256 * 256 + 256) + (256 * 5 + 5)
    assert list(network.state_dict())[:2] == ["hidden.0.linear.weight", "hidden.0.linear.bias"]
    assert list(network.state_dict())[-2:] == ["classifier.weight", "classifier.bias"]


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("image_shape", [(1, 32, 32), (3, 64, 32)])
def test_every_network_turns_images_into_logits(name, image_shape):
    network = ZOO[name].build(image_shape=image_shape, classes=7).eval()
    with torch.inference_mode():
        assert network(torch.zeros(2, *image_shape)).shape == (2, 7)


def test_every_activation_of_a_cifar_resnet_has_a_name():
    network = ZOO["cifar_resnet20"].build()
    relus = [name for name, module in network.named_modules() if isinstance(module, nn.ReLU)]
    assert len(relus) == len(set(relus)) == 19  # one for each convolution
    assert relus[0] == "relu"


def test_shortcut_pads_zeros_on_both_sides_of_every_second_pixel():
    maps = torch.arange(1.0, 1 + 2 * 4 * 4).reshape(1, 2, 4, 4)
    block = ZOO["cifar_resnet20"].build().layer2[0]
    padded = block.shortcut(maps.repeat(1, 8, 1, 1))
    assert padded.shape == (1, 32, 2, 2)
    assert torch.equal(padded[:, 8:10], maps[:, :, ::2, ::2])
    assert padded[:, :8].abs().sum() == padded[:, 24:].abs().sum() == 0


def test_he_initialisation_keeps_the_scale_through_a_deep_mlp():
    torch.manual_seed(0)
    network = ZOO["mlp"].build(depth=20, width=512)
    features = network.hidden(torch.randn(64, 3 * 32 * 32))
    assert 0.2 < features.square().mean() < 5


def test_width_scales_vgg_channels_and_batch_norm_can_be_left_out():
    network = ZOO["vgg16"].build(width=0.25, batch_norm=False)
    convs = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert [conv.out_channels for conv in convs[:3]] == [16, 16, 32]
    assert len(convs) == 13
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("mlp", {"depth": 0}), ("mlp", {"width": -1}), ("vgg16", {"width": 0}), ("vgg16", {"head": (0,)})],
)
def test_values_that_make_no_network_are_refused(name, arguments):
    with pytest.raises(RequestError, match="got "):
        ZOO[name].build(**arguments)
