"""Layers are found, named, ordered and read where they are said to be."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tunnelscope.errors import RequestError
from tunnelscope.layers import doubts, points_of
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


def test_conv_inputs_are_what_the_convolutions_are_given():
    network = zoo("resnet18?stem=imagenet&width=0.125").eval()
    read = points(network, "conv-inputs")
    convs = [point.name for point in points(network, "convs")]
    given, returned = {}, {}

    def keep(name):
        def hook(_, inputs, output):
            given[name], returned[name] = inputs[0].clone(), output.clone()

        return hook

    for name in (*convs, *(point.name for point in read)):
        network.get_submodule(name).register_forward_hook(keep(name))
    with torch.no_grad():
        network(torch.randn(3, 3, 32, 32))
    assert len(read) == 16  # 17 but for the image, which is what the first is given
    assert all(
        torch.equal(returned[point.name], given[conv]) for point, conv in zip(read, convs[1:], strict=True)
    )


def test_conv_inputs_that_a_function_gives_are_said():
    with pytest.raises(RequestError, match=r"blocks\.0\.attn\.proj is given comes from no module but"):
        points(zoo("vit_t?width=0.25"), "conv-inputs")


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


def kinds_of(found, block):
    return {point.name: point.kind for point in found if point.name.startswith(f"{block}.")} | {
        block: next(point.kind for point in found if point.name == block)
    }


def test_modules_of_a_transformer_are_its_five_places(timm):
    found = points(timm.create_model("test_vit", img_size=32), "modules")
    assert kinds_of(found, "blocks.1") == {
        "blocks.1.norm1": "normed input",
        "blocks.1.attn": "attention output",
        "blocks.1.norm2": "feed-forward input",
        "blocks.1.mlp.act": "feed-forward activation",
        "blocks.1": "residual stream",
    }
    assert [point.kind for point in found[:2]] == ["embedding", "normed input"]
    assert len(found) == 1 + 5 * 6


@pytest.mark.parametrize(
    ("library", "name", "block", "kinds"),
    [
        (
            "timm",
            "swin_tiny_patch4_window7_224",
            "layers.1.blocks.1",
            {
                "norm1": "normed input",
                "drop_path1": "attention output",
                "norm2": "feed-forward input",
                "mlp.act": "feed-forward activation",
                "": "residual stream",
            },
        ),
        (
            "torchvision",
            "swin_t",
            "features.1.1",
            {
                "norm1": "normed input",
                "attn": "attention output",
                "norm2": "feed-forward input",
                "mlp.1": "feed-forward activation",
                "": "residual stream",
            },
        ),
        (
            "torchvision",
            "vit_b_32",
            "encoder.layers.encoder_layer_3",
            {
                "ln_1": "normed input",
                "self_attention": "attention output",
                "ln_2": "feed-forward input",
                "mlp.1": "feed-forward activation",
                "": "residual stream",
            },
        ),
        (
            "timm",
            "convnextv2_atto",  # a norm stands between its activation and the second linear layer
            "stages.1.blocks.0",
            {
                "conv_dw": "conv",
                "norm": "feed-forward input",
                "mlp.act": "feed-forward activation",
                "": "block",
            },
        ),
        (
            "torchvision",
            "convnext_tiny",
            "features.1.0",
            {
                "block.0": "conv",
                "block.2": "feed-forward input",
                "block.4": "feed-forward activation",
                "": "block",
            },
        ),
        ("timm", "resnet18", "layer2.0", {"act1": "activation", "bn2": "norm", "": "block"}),
        (
            "torchvision",
            "resnet50",
            "layer2.0",
            {"relu:1": "activation", "relu:2": "activation", "bn3": "norm", "": "block"},
        ),
    ],
)
def test_modules_of_other_blocks(timm, torchvision, library, name, block, kinds):
    size = 224 if name == "vit_b_32" else 64
    given = {"img_size": 64} if name.startswith("swin_tiny") else {}
    create = timm.create_model if library == "timm" else torchvision.models.get_model
    found = points(create(name, **given), "modules", size=size)
    assert kinds_of(found, block) == {
        (f"{block}.{inner}" if inner else block): kind for inner, kind in kinds.items()
    }
    assert len({point.value for point in found}) == len(found)


def test_modules_of_a_vgg_are_each_convolution_and_each_activation():
    found = points(zoo("vgg11"), "modules")
    assert [point.kind for point in found[:16]] == ["conv", "activation"] * 8


def test_a_tensor_under_two_names_is_one_layer():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
            self.act, self.drop = nn.ReLU(inplace=True), nn.Dropout()

        def forward(self, x):
            return self.drop(self.act(self.second(self.act(self.first(x)))))

    body = nn.Sequential(nn.Conv2d(3, 4, 3), Block(), Block(), nn.Flatten(), nn.Linear(3600, 5))
    assert [point.name for point in points(body)] == ["0", "1", "2"]
    found = points(body, "modules")
    assert [(point.name, point.kind) for point in found] == [
        ("0", "conv"),
        ("1.act:1", "activation"),
        ("1", "block"),
        ("2.act:1", "activation"),
        ("2", "block"),
    ]


@pytest.mark.parametrize(
    ("library", "name", "size", "count", "block"),
    [
        ("torchvision", "inception_v3", 96, 16, "Mixed_5b"),
        ("timm", "inception_v3", 96, 16, "Mixed_6b"),
        ("timm", "ghostnet_050", 32, 19, "blocks.1.0"),
        ("timm", "resnet10t", 32, 7, "layer2.0"),
        ("timm", "nf_regnet_b0", 32, 18, "stages.1.0"),
        ("timm", "tnt_s_patch16_224", 32, 13, "blocks.3"),
        ("timm", "deit_tiny_distilled_patch16_224", 32, 13, "blocks.11"),
    ],
)
def test_branches_and_rare_blocks_are_layers_in_a_chain(timm, torchvision, library, name, size, count, block):
    given = {"img_size": size} if "patch16" in name else {}
    extra = {"init_weights": False, "aux_logits": False} if library == "torchvision" else {}
    create = timm.create_model if library == "timm" else torchvision.models.get_model
    trace = trace_forward(create(name, **given, **extra).eval(), torch.randn(1, 3, size, size))
    found = points_of(trace, "blocks")
    assert len(found) == count
    assert block in {point.name for point in found}
    assert trace.is_chain([call for call in trace.readable if call.output_value in {p.value for p in found}])
    assert (doubts(trace, found) == []) == (library == "timm")  # torchvision calls F.relu after each norm


class Branches(nn.Module):
    """Two convolutions side by side, and no module of their own around them."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head(torch.cat([self.left(x), self.right(x)], dim=1).mean(dim=(2, 3)))


def test_layers_beside_one_another_are_warned_of():
    trace = trace_forward(Branches().eval(), torch.randn(1, 3, 8, 8))
    (line,) = doubts(trace, points_of(trace, "blocks"))
    assert line.startswith(
        "1 of 2 layers are not computed from the one before (the first: right beside left)"
    )


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.second = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3)
        self.act, self.head = nn.ReLU(), nn.Linear(4, 2)

    def forward(self, x):
        x = F.relu(self.bn(self.conv(x)), inplace=True)
        return self.head(self.act(self.second(x)).mean(dim=(2, 3)))


def test_activations_called_as_functions_are_warned_of():
    trace = trace_forward(Functional().eval(), torch.randn(1, 3, 8, 8))
    found = points_of(trace, "blocks")
    assert [(point.name, point.kind) for point in found] == [("bn", "norm"), ("act", "activation")]
    (line,) = doubts(trace, found)
    assert line.startswith("1 of 2 layers are read before their activation")
    assert "bn" in line
    assert doubts(trace, points_of(trace, "convs"), "convs") == []  # there it is what was asked for


@pytest.mark.parametrize("size", [(16, 32), (32, 16), (16, 16)])
def test_maps_of_a_resnet_have_their_channels_first_at_any_size(size):
    found = points_of(trace_forward(zoo("cifar_resnet20").eval(), torch.randn(1, 3, *size)), "all")
    assert {point.channel_axis for point in found if len(point.shape) == 3} == {0}


@pytest.mark.parametrize("size", [(32, 64), (64, 64)])
def test_maps_of_a_swin_have_their_channels_last_at_any_size(timm, size):
    module = timm.create_model("swin_tiny_patch4_window7_224", img_size=size).eval()
    found = points_of(trace_forward(module, torch.randn(1, 3, *size)))
    assert {point.channel_axis for point in found} == {2}
    assert found[1].shape == (size[0] // 4, size[1] // 4, 96)


def test_windows_in_the_batch_are_no_layers(timm):
    module = timm.create_model("swin_tiny_patch4_window7_224", img_size=64).eval()
    names = {point.name for point in points(module, "all", size=64)}
    assert "layers.0.blocks.0.norm1" in names
    assert "layers.0.blocks.0.attn.qkv" not in names


def test_class_tokens_are_counted_where_they_are(timm):
    found = points(timm.create_model("cait_xxs24_224", img_size=32))
    counts = {point.name: (point.prefix_tokens, point.has_class_token) for point in found}
    assert counts["patch_embed"] == counts["blocks.23"] == (0, False)
    assert counts["blocks_token_only.1"] == (1, True)
    distilled = points(timm.create_model("deit_tiny_distilled_patch16_224", img_size=32))
    assert (distilled[1].prefix_tokens, distilled[1].has_class_token) == (2, True)
    registers = points(timm.create_model("vit_wee_patch16_reg1_gap_256", img_size=32))
    assert (registers[1].prefix_tokens, registers[1].has_class_token) == (1, False)


def test_a_choice_that_leaves_the_end_of_the_network_out_is_told():
    trace = trace_forward(zoo("cifar_resnet20").eval(), torch.randn(1, 3, 32, 32))
    for layers in ("blocks", "modules", "convs"):
        assert doubts(trace, points_of(trace, layers), layers) == []
    [line] = doubts(trace, points_of(trace, "layer1.2"), "layer1.2")
    assert line.startswith("the last layer read is layer1.2")
    assert "the network goes on to layer3.2" in line
