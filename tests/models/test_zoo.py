"""The zoo's networks have the published sizes, names and shapes."""

from math import floor

import numpy as np
import pytest
import torch
from torch import nn

from tunnelscope.errors import RequestError
from tunnelscope.layers import example_input, points_of
from tunnelscope.models.vision import import_timm, import_torchvision
from tunnelscope.models.zoo import ZOO
from tunnelscope.trace import trace_forward

IMAGENET100 = 126_689  # training images, Harun et al. 2024
CIFAR = 50_000
HALTING = (192 + 1) * 96 + (96 + 1) * 1  # parameters of the 2024 paper's ViTs, a block, that are never called


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


# Counts of Harun et al. 2024 at 100 classes.
HARUN = {
    "vggm11": 9_462_180,
    "vggm17": 20_086_692,
    "vggm11_dagger": 9_462_180,
    "vggm17_dagger": 20_086_692,
    "resnet18": 11_227_812,
    "resnet34": 21_335_972,
    "vit_t": 5_395_108,
    "vit_t_plus": 8_064_292,
}


def harun(name: str) -> nn.Module:
    stem = {"stem": "imagenet"} if name.startswith("resnet") else {}
    with torch.device("meta"):
        return ZOO[name].build(classes=100, **stem)


@pytest.mark.parametrize(("name", "count"), HARUN.items())
def test_networks_of_the_2024_paper_have_its_parameter_counts(name, count):
    assert parameters(harun(name)) == count


@pytest.mark.parametrize(("name", "count"), [("vgg13", 9_462_180), ("vgg19", 20_086_692)])
def test_vggs_without_hidden_linear_layers_count_as_vggms(name, count):
    assert parameters(ZOO[name].build(classes=100, head=None)) == count


@pytest.mark.parametrize(("name", "printed"), [("vit_t", 5_618_608), ("vit_t_plus", 8_399_542)])
def test_the_printed_count_of_a_vit_holds_a_halting_mlp_in_every_block(name, printed):
    network = harun(name)
    assert HALTING == 18_625
    assert parameters(network) + len(network.blocks) * HALTING == printed


# The paper takes millions of parameters cut off after two decimals: 9.46 M, 20.08 M, 11.22 M, 21.33 M.
@pytest.mark.parametrize(
    ("name", "images", "printed"),
    [
        ("vggm11", IMAGENET100, "74.67"),
        ("vggm17", IMAGENET100, "158.5"),
        ("vggm11_dagger", IMAGENET100, "74.67"),
        ("vggm17_dagger", IMAGENET100, "158.5"),
        ("resnet18", IMAGENET100, "88.56"),
        ("resnet34", IMAGENET100, "168.37"),
        ("vit_t", IMAGENET100, "44.28"),
        ("vit_t_plus", IMAGENET100, "66.23"),
        ("vggm11", CIFAR, "189.2"),
        ("vggm17", CIFAR, "401.6"),
        ("vggm11", 10_000, "946"),
    ],
)
def test_gamma_is_the_papers_to_the_digits_printed(name, images, printed):
    network = harun(name)
    counted = parameters(network) + (len(network.blocks) * HALTING if name.startswith("vit") else 0)
    decimals = len(printed.partition(".")[2])
    assert f"{floor(counted / 10_000) * 10_000 / images:.{decimals}f}" == printed


@pytest.mark.parametrize(("name", "gamma"), [("vit_t", "42.6"), ("vit_t_plus", "63.7")])
def test_gamma_of_a_vit_without_what_it_never_calls(name, gamma):
    assert f"{parameters(harun(name)) / IMAGENET100:.1f}" == gamma


def layers(name: str, choice: str, size: int = 32, **arguments):
    """What `--layers` finds in a network of the zoo, narrow where it can be."""
    network = ZOO[name].build(image_shape=(3, size, size), **arguments).eval()
    return points_of(trace_forward(network, example_input((size, size), 3)), choice)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("vggm11", 10),
        ("vggm17", 16),
        ("vggm11_dagger", 10),
        ("vggm17_dagger", 16),
        ("resnet18", 17),
        ("resnet34", 33),
    ],
)
def test_the_papers_layers_of_a_cnn_are_its_convolutions(name, count):
    stems = [{"stem": "cifar"}, {"stem": "imagenet"}] if name.startswith("resnet") else [{}]
    for stem in stems:
        found = layers(name, "convs", width=0.125, **stem)
        assert [point.kind for point in found] == ["conv"] * count


@pytest.mark.parametrize(("name", "count"), [("vit_t", 12), ("vit_t_plus", 18)])
def test_the_papers_layers_of_a_vit_are_its_blocks(name, count):
    found = layers(name, "blocks")
    assert [point.kind for point in found] == ["embedding"] + ["block"] * count
    assert layers(name, r"blocks\.\d+$")[0].name == found[1].name == "blocks.0"
    assert len(layers(name, r"blocks\.\d+$")) == count
    assert not any(point.has_class_token or point.prefix_tokens for point in found)


@pytest.mark.parametrize(("size", "tokens"), [(32, 16), (64, 64), (128, 256), (224, 784)])
def test_a_vit_has_the_papers_tokens(size, tokens):
    assert {point.shape for point in layers("vit_t", "blocks", size)} == {(tokens, 192)}


def test_convolutions_of_vggms_have_the_papers_names():
    plain = [point.name for point in layers("vggm11", "convs", width=0.125)]
    dagger = [point.name for point in layers("vggm17_dagger", "convs", width=0.125)]
    assert plain[:4] == ["features.0", "features.3", "features.7", "features.10"]
    assert dagger[:7] == [f"features.{index}" for index in (0, 3, 6, 9, 12, 15, 18)]


def test_a_dagger_keeps_the_first_two_stages_at_full_size_and_the_rest_four_times_as_large():
    sizes = {
        name: [point.shape[-1] for point in layers(name, "convs", width=0.125)]
        for name in ("vggm11", "vggm11_dagger")
    }
    assert sizes["vggm11"] == [32, 32, 16, 16, 8, 8, 4, 4, 2, 2]
    assert sizes["vggm11_dagger"] == [32, 32, 32, 32, 32, 32, 16, 16, 8, 8]


@pytest.mark.parametrize("name", ["resnet18", "resnet34"])
def test_a_resnet_computes_what_torchvisions_does_of_its_weights(name):
    theirs = import_torchvision().models.get_model(name, weights=None, num_classes=7).eval()
    ours = ZOO[name].build(classes=7, stem="imagenet").eval()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):  # fresh ones would hide one in another's place
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1)
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-5, atol=1e-5)


def test_stems_differ_in_the_first_convolution_and_in_the_size_of_every_map():
    cifar, imagenet = (layers("resnet18", "convs", width=0.125, stem=stem) for stem in ("cifar", "imagenet"))
    assert [point.shape[-1] for point in cifar] == [32] * 5 + [16] * 4 + [8] * 4 + [4] * 4
    assert [point.shape[-1] for point in imagenet] == [16] + [8] * 4 + [4] * 4 + [2] * 4 + [1] * 4
    saved = parameters(harun("resnet18")) - parameters(ZOO["resnet18"].build(classes=100))
    assert saved == 64 * 3 * (49 - 9)


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_a_resnet_without_skips_has_no_shortcut_and_no_sum(stem):
    network = ZOO["resnet18"].build(width=0.125, stem=stem, skip=False).eval()
    skips = ZOO["resnet18"].build(width=0.125, stem=stem)
    projections = sum(i * o + 2 * o for i, o in [(8, 16), (16, 32), (32, 64)])
    assert parameters(skips) - parameters(network) == projections
    # Without its second convolution a block gives nothing of its input; beside a shortcut it would.
    block = network.layer1[0]
    nn.init.zeros_(block.conv2.weight)
    assert not block(torch.rand(1, 8, 4, 4)).any()
    assert [point.name for point in layers("resnet18", "blocks", width=0.125, stem=stem, skip=False)] == [
        "relu",
        *(f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)),
    ]
    assert len(layers("resnet18", "convs", width=0.125, stem=stem, skip=False)) == 17


@pytest.mark.parametrize("name", ["vggm11", "vggm17_dagger", "resnet18", "resnet34"])
@pytest.mark.parametrize(("width", "first", "last"), [(0.25, 16, 128), (0.5, 32, 256), (2, 128, 1024)])
def test_width_multiplies_the_channels(name, width, first, last):
    with torch.device("meta"):
        network = ZOO[name].build(width=width)
    convs = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert (convs[0].out_channels, convs[-1].out_channels) == (first, last)
    full = [module for module in ZOO[name].build().modules() if isinstance(module, nn.Conv2d)]
    assert [conv.out_channels / width for conv in convs] == [conv.out_channels for conv in full]


def test_convs_make_a_vgg_deeper_where_they_say():
    found = layers("vgg16", "convs", width=0.125, convs=(1, 2, 3, 5, 4), head=None)
    assert [point.shape[0] for point in found] == [8] + [16] * 2 + [32] * 3 + [64] * 9
    assert [point.shape[1] for point in found] == [32] + [16] * 2 + [8] * 3 + [4] * 5 + [2] * 4


@pytest.mark.parametrize(("name", "count"), [("vgg16", 13), ("vgg19", 16)])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_probed_layers_of_a_vgg_are_its_convolutions_and_hidden_linear_layers(name, count, batch_norm):
    kinds = [point.kind for point in layers(name, "convs", width=0.125, batch_norm=batch_norm)]
    assert kinds == ["conv"] * count + ["linear"] * 2


@pytest.mark.parametrize(
    ("name", "depth", "width"), [("vit_t", 12, 1), ("vit_t_plus", 18, 1), ("vit_t", 12, 0.25)]
)
def test_a_vit_computes_what_timms_does_of_its_weights(name, depth, width):
    ours = ZOO[name].build(image_shape=(3, 32, 48), classes=7, width=width).eval()
    theirs = import_timm().models.VisionTransformer(
        (32, 48), 8, num_classes=7, embed_dim=round(192 * width), depth=depth, num_heads=3,
        class_token=False, global_pool="avg", fc_norm=False,
    ).eval()  # fmt: skip
    theirs.load_state_dict(ours.state_dict() | {"pos_embed": ours.positions[None]})
    images = torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-4, atol=1e-5)


def test_positions_are_sines_and_cosines_of_column_and_row():
    positions = ZOO["vit_t"].build(image_shape=(3, 16, 40)).positions.numpy()  # 2 rows of 5 patches
    angles = 1 / 10_000 ** (np.arange(48) / 47)
    row, column = 1, 3
    expected = [np.sin(column * angles), np.cos(column * angles), np.sin(row * angles), np.cos(row * angles)]
    np.testing.assert_allclose(positions[row * 5 + column], np.concatenate(expected), atol=1e-6)


def test_weights_of_a_vit_load_at_another_image_size():
    small, large = (ZOO["vit_t"].build(image_shape=(3, size, size)) for size in (32, 64))
    large.load_state_dict(small.state_dict())
    assert large.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 10)


def test_drop_path_leaves_branches_out_in_training_only_and_more_of_the_deeper_ones():
    network = ZOO["vit_t"].build(drop_path=0.6)
    rates = [block.drop_path.rate for block in network.blocks]
    assert rates == pytest.approx([0.6 * block / 11 for block in range(12)])
    torch.manual_seed(0)
    drop = network.blocks[-1].drop_path
    dropped = drop.train()(torch.ones(4000, 2, 3))
    assert dropped.unique().tolist() == pytest.approx([0, 2.5])
    assert (dropped == dropped[:, :1, :1]).all()  # whole images
    assert dropped.mean().item() == pytest.approx(1, abs=0.06)
    assert drop.eval()(torch.ones(4, 2, 3)).eq(1).all()


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


def test_initial_weights_are_the_papers():
    torch.manual_seed(0)
    vggm = ZOO["vggm11"].build()
    conv = vggm.features[7]  # 64 to 128 channels
    assert conv.weight.std().item() == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.02)  # over the outputs
    bound = (6 / (512 + 10)) ** 0.5
    assert vggm.classifier.weight.abs().max().item() == pytest.approx(bound, rel=0.01)
    resnet = ZOO["resnet18"].build()
    conv = resnet.layer2[0].conv1  # 64 to 128 channels
    assert conv.weight.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)  # over the inputs
    vit = ZOO["vit_t"].build()
    assert vit.blocks[3].mlp.fc1.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert not vit.blocks[3].mlp.fc1.bias.any()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("mlp", {"depth": 0}),
        ("mlp", {"width": -1}),
        ("vgg16", {"width": 0}),
        ("vgg16", {"head": (0,)}),
        ("vgg16", {"convs": None}),
        ("vgg16", {"convs": (1, 1)}),
        ("vgg16", {"convs": (0, 1, 1, 1, 1)}),
        ("vggm11", {"width": 0}),
        ("resnet18", {"width": -0.5}),
        ("resnet18", {"stem": 7}),
        ("vit_t", {"drop_path": 1}),
        ("vit_t", {"image_shape": (3, 32, 36)}),
    ],
)
def test_values_that_make_no_network_are_refused(name, arguments):
    with pytest.raises(RequestError, match="got "):
        ZOO[name].build(**arguments)
