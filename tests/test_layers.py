"""Layers are found, named, ordered and read where they are said to be."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from tunnelscope.errors import RequestError
from tunnelscope.layers import points_of
from tunnelscope.models import load_network
from tunnelscope.models.vision import import_timm, import_torchvision
from tunnelscope.trace import trace_forward


def points(module, layers="blocks", size=32, channels=3):
    return points_of(trace_forward(module.eval(), torch.randn(1, channels, size, size)), layers)


def zoo(name, **shape):
    return load_network(f"zoo:{name}", weights="random", **shape).module


@pytest.fixture(scope="module")
def timm():
    return import_timm()


@pytest.fixture(scope="module")
def torchvision():
    return import_torchvision()


def test_resnet56_has_its_stem_and_27_blocks():
    found = points(zoo("cifar_resnet56"))
    assert len(found) == 28
    assert [point.index for point in found] == list(range(1, 29))
    assert found[0].kind == "activation"
    assert {point.kind for point in found[1:]} == {"block"}
    assert [found[i].shape for i in (0, 9, 10, 27)] == [(16, 32, 32), (16, 32, 32), (32, 16, 16), (64, 8, 8)]
    # all parameters but the classifier's 64·10 + 10
    assert found[-1].parameters == 853_018 - 650


@pytest.mark.parametrize(("name", "convolutions"), [("resnet18", 17), ("resnet34", 33)])
def test_convs_are_those_of_the_main_path(timm, name, convolutions):
    found = points(timm.create_model(name), "convs")
    assert len(found) == convolutions
    assert not any("downsample" in point.name for point in found)
    assert {point.kind for point in found} == {"conv"}


def test_second_convolutions_are_named_by_a_regular_expression(timm):
    found = points(timm.create_model("resnet34"), "conv2$")
    assert len(found) == 16
    assert found[8].name == "layer3.1.conv2"  # the 2023 paper's layer 19 counts every 3×3 convolution


def test_vgg19_counts_16_convolutions_read_after_their_activation():
    network = zoo("vgg19")
    convs = points(network, "convs")
    assert len([point for point in convs if point.kind == "conv"]) == 16
    blocks = points(network)
    assert len(blocks) == len(convs)
    assert {point.kind for point in blocks} == {"activation"}


def test_an_mlp_is_read_after_each_hidden_activation_and_not_at_its_classifier():
    found = points(zoo("mlp?depth=12&width=32"))
    assert len(found) == 12
    assert {(point.kind, point.shape) for point in found} == {("activation", (32,))}
    # 3·32·32 inputs into 32, then 11 square layers, each with biases
    assert found[-1].parameters == 3072 * 32 + 32 + 11 * (32 * 32 + 32)
    assert found[-1].flops == 2 * (3072 * 32 + 11 * 32 * 32)


def test_a_vit_is_its_patch_embedding_and_its_blocks(timm):
    found = points(timm.create_model("vit_tiny_patch16_224", img_size=32), size=32)
    assert [point.kind for point in found] == ["embedding"] + ["block"] * 12
    assert found[0].shape == (4, 192)
    assert found[1].shape == (5, 192)
    assert (found[0].prefix_tokens, found[1].prefix_tokens) == (0, 1)


@pytest.mark.parametrize(
    ("library", "name", "count", "first", "last"),
    [
        ("timm", "resnet50", 17, "act1", "layer4.2"),
        ("timm", "mobilenetv2_100", 19, "bn1", "bn2"),
        ("timm", "efficientnet_b0", 18, "bn1", "bn2"),
        ("timm", "regnety_002", 14, "stem.bn", "s4.b7"),
        ("timm", "convnext_atto", 13, "stem.1", "stages.3.blocks.1"),
        ("torchvision", "resnet18", 9, "relu", "layer4.1"),
        ("torchvision", "vgg11", 10, "features.1", "classifier.4"),
        ("torchvision", "mobilenet_v2", 19, "features.0.2", "features.18.2"),
        ("torchvision", "squeezenet1_0", 9, "features.1", "features.12"),
    ],
)
def test_blocks_are_what_a_person_would_count(timm, torchvision, library, name, count, first, last):
    create = timm.create_model if library == "timm" else torchvision.models.get_model
    found = points(create(name), size=64)
    assert (len(found), found[0].name, found[-1].name) == (count, first, last)


def test_parameters_and_flops_grow_along_the_network(timm):
    found = points(timm.create_model("resnet18"), "all", size=64)
    assert all(a.parameters <= b.parameters and a.flops <= b.flops for a, b in pairwise(found))
    stem = next(point for point in found if point.name == "conv1")
    assert stem.flops == 2 * 64 * 3 * 7 * 7 * 32 * 32
    assert stem.parameters == 64 * 3 * 7 * 7


def test_a_module_called_twice_is_two_layers():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.relu = nn.Linear(8, 8), nn.Linear(8, 8), nn.ReLU()
            self.head = nn.Linear(8, 3)

        def forward(self, x):
            return self.head(self.relu(self.second(self.relu(self.first(x)))))

    found = points_of(trace_forward(Shared().eval(), torch.randn(1, 8)))
    assert [(point.name, point.module, point.call) for point in found] == [
        ("relu:1", "relu", 1),
        ("relu:2", "relu", 2),
    ]


def test_a_network_without_classifier_keeps_its_last_layer():
    body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU())
    assert [point.name for point in points(body)] == ["1", "3"]


def test_a_list_of_names_keeps_the_order_of_the_forward_pass():
    found = points(zoo("cifar_resnet20"), ["layer3.2", "layer1.0"])
    assert [(point.name, point.index) for point in found] == [("layer1.0", 1), ("layer3.2", 2)]


def test_one_name_is_one_layer_not_a_pattern():
    assert [point.name for point in points(zoo("cifar_resnet20"), "layer1.1")] == ["layer1.1"]


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("layer1.9", r"no layer named 'layer1.9'; nearest: layer1.\d"),
        (["layer4.0"], r"no layer named 'layer4.0'; nearest: layer"),
        ("conv(", r"is no regular expression"),
    ],
)
def test_an_unknown_layer_names_the_nearest(layers, message):
    with pytest.raises(RequestError, match=message):
        points(zoo("cifar_resnet20"), layers)


def test_an_input_the_network_cannot_take_says_its_shape():
    with pytest.raises(RequestError, match="cannot take an image of shape 3×8×8"):
        trace_forward(nn.Linear(5, 5).eval(), torch.randn(1, 3, 8, 8))


def test_tracing_leaves_no_hooks_behind():
    network = zoo("cifar_resnet20")
    points(network)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_flops_of_a_transformer_count_attention(timm):
    network = timm.create_model("vit_tiny_patch16_224", img_size=32)
    first, second = points(network)[1:3]
    tokens, width = 5, 192
    dense = 2 * tokens * width * (3 * width + width + 4 * width + 4 * width)
    assert second.flops - first.flops == dense + 2 * 2 * tokens * tokens * width
