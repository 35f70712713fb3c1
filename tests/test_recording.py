"""One forward pass reads what the network itself computes, at every layer, in any batching."""

import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.utils.data import Dataset

import tunnelscope as ts
from tunnelscope.data import as_split
from tunnelscope.errors import MachineError, RequestError
from tunnelscope.features import pool_2x2
from tunnelscope.forward import milliseconds_saved
from tunnelscope.models.vision import import_timm
from tunnelscope.recording import make_recorder


@pytest.fixture(scope="module")
def images():
    return torch.randn(7, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_features_equal_a_pass_of_the_truncated_network(images):
    body = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 16, 3, stride=2),
        nn.ReLU(inplace=True),
    ).eval()
    features = ts.record(body, images, layers="all")
    for position, name in enumerate(["0", "1", "2", "3", "4"], start=1):
        with torch.no_grad():
            expected = pool_2x2(body[:position](images))
        torch.testing.assert_close(features[name], expected, atol=1e-5, rtol=1e-5)


def test_vit_blocks_equal_timms_own_intermediates(images):
    vit = import_timm().create_model("vit_tiny_patch16_224", img_size=32, num_classes=5).eval()
    features = ts.record(vit, images, layers="blocks")
    with torch.no_grad():
        intermediates = vit.forward_intermediates(
            images, norm=False, output_fmt="NLC", intermediates_only=True
        )
    assert len(features) == 13
    for position, tokens in enumerate(intermediates):
        torch.testing.assert_close(features[f"blocks.{position}"], tokens.mean(dim=1), atol=1e-5, rtol=1e-4)


def test_resnet_stages_equal_timms_own_intermediates(images):
    resnet = import_timm().create_model("resnet18", num_classes=5).eval()
    features = ts.record(resnet, images)
    with torch.no_grad():
        stages = resnet.forward_intermediates(images, intermediates_only=True)
    for name, maps in zip(["act1", "layer1.1", "layer2.1", "layer3.1", "layer4.1"], stages, strict=True):
        torch.testing.assert_close(features[name], pool_2x2(maps), atol=1e-5, rtol=1e-4)


def test_batch_size_and_workers_change_nothing(images):
    network = ts.load_network("zoo:cifar_resnet20", weights="random")
    whole = ts.record(network, images, batch_size=7, workers=1)
    parts = ts.record(network, images, batch_size=2, workers=3)
    assert list(whole) == list(parts)
    for name in whole:
        torch.testing.assert_close(whole[name], parts[name], atol=1e-5, rtol=1e-5)


def test_pictures_arrays_and_ready_tensors_agree():
    pixels = np.random.default_rng(0).integers(0, 256, size=(3, 32, 32, 3), dtype=np.uint8)
    network = ts.load_network("zoo:cifar_resnet20", weights="random")
    mean, std = (
        torch.tensor(values)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    ready = (torch.tensor(pixels).permute(0, 3, 1, 2) / 255 - mean) / std
    features = [
        ts.record(network, given, layers="layer3.2")["layer3.2"]
        for given in (pixels, [Image.fromarray(image) for image in pixels], ready)
    ]
    torch.testing.assert_close(features[0], features[1])
    torch.testing.assert_close(features[0], features[2], atol=1e-5, rtol=1e-4)


def test_the_users_module_is_left_as_it_was(images):
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(3600, 3)
    ).train()
    ts.record(module, images)
    assert module.training
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert not any(child._forward_hooks for child in module.modules())


def test_a_shared_activation_is_read_at_each_of_its_calls(images):
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.act = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.ReLU(inplace=True)
            self.head = nn.Linear(4, 2)

        def forward(self, x):
            x = self.act(self.first(x))
            return self.head(self.act(self.second(x)).mean(dim=(2, 3)))

    module = Shared().eval()
    features = ts.record(module, images, layers="blocks")
    assert list(features) == ["act:1", "act:2"]
    with torch.no_grad():
        first = module.first(images).relu()
        second = module.second(first).relu()
    torch.testing.assert_close(features["act:1"], pool_2x2(first), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(features["act:2"], pool_2x2(second), atol=1e-5, rtol=1e-5)


def test_activations_that_are_not_finite_name_the_first_such_layer(images):
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU())
    module[2].weight.data.fill_(float("inf"))
    with pytest.raises(RequestError, match="layer '3' gives values that are not finite"):
        ts.record(module, images)


def test_an_input_that_is_not_finite_is_named_and_not_the_weights(images):
    spoilt = images.clone()
    spoilt[4, 0, 3, 3] = float("nan")
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU())
    with pytest.raises(RequestError, match=r"^image 4 of images: the input holds values that are not finite"):
        ts.record(module, spoilt, batch_size=3)


def test_images_of_many_sizes_are_refused_with_a_few_of_them():
    class Growing(Dataset):
        def __len__(self):
            return 9

        def __getitem__(self, index):
            return torch.zeros(3, 8 + index, 8), 0

    with pytest.raises(
        RequestError, match=r"9 different shapes: \(3, 8, 8\), \(3, 9, 8\), \(3, 10, 8\), …; "
    ):
        ts.record(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), Growing())


def test_the_time_saved_is_that_of_the_layers_left_out():
    class Slow(nn.Module):
        def forward(self, x):
            time.sleep(0.03)
            return x

    body = nn.Sequential(nn.Conv2d(3, 4, 3), Slow(), nn.ReLU(), nn.Conv2d(4, 4, 3), Slow(), nn.ReLU())
    recorder = make_recorder(ts.load_network(body), shape=(3, 8, 8))
    first, last = recorder.points
    assert (first.name, last.name) == ("2", "5")
    assert (
        20 <= milliseconds_saved(recorder.network.module, recorder.example, first)[0] < 50
    )  # one of the two pauses, not both
    assert milliseconds_saved(recorder.network.module, recorder.example, last)[0] < 20


def test_a_split_that_a_data_set_does_not_have_is_refused():
    with pytest.raises(RequestError, match="no split named 'valid'"):
        ts.record("zoo:mlp?depth=1&width=4", "sklearn:digits", split="valid")


def test_an_embedding_read_by_name_keeps_all_its_patches(images):
    vit = import_timm().create_model("vit_tiny_patch16_224", img_size=32, num_classes=5).eval()
    by_name = ts.record(vit, images, layers="patch_embed")["patch_embed"]
    torch.testing.assert_close(by_name, ts.record(vit, images)["patch_embed"])


def test_the_places_inside_a_vit_block_equal_a_forward_by_hand(images):
    vit = import_timm().create_model("test_vit", img_size=32, num_classes=5).eval()
    features = ts.record(vit, images, layers="modules", pool="flatten")
    block = vit.blocks[0]
    with torch.no_grad():
        patches = vit.patch_embed(images)
        stream = vit.norm_pre(vit._pos_embed(patches))
        normed = F.layer_norm(stream, (64,), block.norm1.weight, block.norm1.bias, block.norm1.eps)
        query, key, value = F.linear(normed, block.attn.qkv.weight, block.attn.qkv.bias).chunk(3, dim=-1)
        heads = [
            part.unflatten(-1, (block.attn.num_heads, -1)).transpose(1, 2) for part in (query, key, value)
        ]
        scores = heads[0] @ heads[1].mT / heads[0].shape[-1] ** 0.5
        mixed = (scores.softmax(dim=-1) @ heads[2]).transpose(1, 2).flatten(2)
        attended = F.linear(mixed, block.attn.proj.weight, block.attn.proj.bias)
        stream = stream + attended
        second = F.layer_norm(stream, (64,), block.norm2.weight, block.norm2.bias, block.norm2.eps)
        hidden = F.gelu(F.linear(second, block.mlp.fc1.weight, block.mlp.fc1.bias))
        stream = stream + F.linear(hidden, block.mlp.fc2.weight, block.mlp.fc2.bias)
    expected = {
        "patch_embed": patches,
        "blocks.0.norm1": normed,
        "blocks.0.attn": attended,
        "blocks.0.norm2": second,
        "blocks.0.mlp.act": hidden,
        "blocks.0": stream,
    }
    assert list(features)[:6] == list(expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(features[name], tensor.flatten(1), atol=1e-4, rtol=1e-4)


def test_the_places_inside_a_swin_and_a_convnext_block_equal_a_forward_by_hand():
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    swin = import_timm().create_model("swin_tiny_patch4_window7_224", img_size=64, num_classes=5).eval()
    names = [f"layers.0.blocks.1{place}" for place in (".norm1", ".drop_path1", ".norm2", ".mlp.act", "")]
    features = ts.record(swin, images, layers=names, pool="avg")
    block = swin.layers[0].blocks[1]  # the one whose windows are shifted
    with torch.no_grad():
        stream = swin.layers[0].blocks[0](swin.patch_embed(images))
        normed = block.norm1(stream)
        attended = block._attn(normed)
        second = block.norm2(stream + attended)
        hidden = block.mlp.act(block.mlp.fc1(second))
        expected = [normed, attended, second, hidden, block(stream)]
    for name, tensor in zip(names, expected, strict=True):
        torch.testing.assert_close(features[name], tensor.mean(dim=(1, 2)), atol=1e-4, rtol=1e-4)

    convnext = import_timm().create_model("convnext_atto", num_classes=5).eval()
    names = [f"stages.0.blocks.0{place}" for place in (".conv_dw", ".norm", ".mlp.act", "")]
    features = ts.record(convnext, images, layers=names, pool="avg")
    block = convnext.stages[0].blocks[0]
    with torch.no_grad():
        stem = convnext.stem(images)
        depthwise = block.conv_dw(stem)
        normed = block.norm(depthwise)
        expected = [depthwise, normed, block.mlp.act(block.mlp.fc1(normed)), block(stem)]
    for name, tensor in zip(names, expected, strict=True):
        torch.testing.assert_close(features[name], tensor.mean(dim=(2, 3)), atol=1e-4, rtol=1e-4)


def test_every_block_of_a_swin_equals_timms_own_at_a_size_that_is_not_square():
    images = torch.randn(2, 3, 32, 64, generator=torch.Generator().manual_seed(2))
    swin = import_timm().create_model("swin_tiny_patch4_window7_224", img_size=(32, 64)).eval()
    features = ts.record(swin, images)
    with torch.no_grad():
        stages = swin.forward_intermediates(images, intermediates_only=True)
    for stage, block in enumerate((1, 1, 5, 1)):
        name = f"layers.{stage}.blocks.{block}"
        torch.testing.assert_close(features[name], pool_2x2(stages[stage]), atol=1e-4, rtol=1e-4)


def test_every_map_of_a_resnet_is_pooled_over_space_at_a_size_that_is_not_square():
    network = ts.load_network("zoo:cifar_resnet20", weights="random")
    images = torch.randn(2, 3, 16, 32, generator=torch.Generator().manual_seed(3))
    features = ts.record(network, images)  # layer1 gives (16, 16, 32), like rows, columns and channels
    hooked = {}
    handle = network.module.layer1.register_forward_hook(lambda _m, _i, out: hooked.update(maps=out))
    with torch.no_grad():
        network.module(images)
    handle.remove()
    torch.testing.assert_close(features["layer1.2"], pool_2x2(hooked["maps"]), atol=1e-5, rtol=1e-5)
    assert features["layer1.2"].shape == (2, 4 * 16)


def test_class_tokens_of_a_vit_are_those_it_classifies_by(images):
    vit = import_timm().create_model("vit_tiny_patch16_224", img_size=32, num_classes=5).eval()
    both = ts.record(vit, images, pool="cls+mean")
    with torch.no_grad():
        tokens = vit.forward_intermediates(images, return_prefix_tokens=True, norm=False, output_fmt="NLC")[1]
    patches, prefix = tokens[-1]
    expected = torch.cat([prefix[:, 0], patches.mean(dim=1)], dim=1)
    torch.testing.assert_close(both["blocks.11"], expected, atol=1e-5, rtol=1e-4)
    assert both["patch_embed"].shape == (7, 192)  # no class token yet: the mean alone
    recorder = make_recorder(ts.load_network(vit), pool="cls", shape=(3, 32, 32))
    assert {recorder.poolings[name].name for name in ("patch_embed", "blocks.0")} == {"mean tokens", "cls"}


@pytest.mark.parametrize("pool", ["cls", "cls+mean"])
def test_a_network_without_class_token_refuses_it(images, pool):
    with pytest.raises(RequestError, match=r"no layer of these 10 has a class token; use --pool mean"):
        ts.record("zoo:cifar_resnet20", images, pool=pool)


class Counted(nn.Module):
    """Three layers that count their calls; the third is the classifier."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.act = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.ReLU()
        self.head = nn.Linear(4, 2)
        self.calls: list[str] = []
        for name in ("first", "second", "head"):
            getattr(self, name).register_forward_hook(lambda *_, name=name: self.calls.append(name))

    def forward(self, x):
        x = self.act(self.first(x))
        return self.head(self.act(self.second(x)).mean(dim=(2, 3)))


def test_a_pass_ends_at_the_last_layer_read_unless_logits_are_wanted(images):
    module = Counted().eval()
    recorder = make_recorder(ts.load_network(module), layers=["act:1"], shape=(3, 32, 32))
    module.calls.clear()
    short = recorder.record(as_split(images), logits=False)
    assert module.calls == ["first"]
    assert short.logits is None
    module.calls.clear()
    whole = recorder.record(as_split(images))
    assert module.calls == ["first", "second", "head"]
    assert whole.logits is not None
    torch.testing.assert_close(whole.features["act:1"], short.features["act:1"])
    module.calls.clear()
    ts.record(module, images, layers=["act:1"])
    assert module.calls[-4:] == ["first", "second", "head", "first"]  # the trace, then one short pass


class Several(nn.Module):
    """Gives a dict with a tuple in it, its tensor of images after one of other rows."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        maps = self.conv(x)
        return {"windows": maps.unfold(2, 10, 10).flatten(0, 1), "states": (maps, x), "step": 3}


def test_of_several_outputs_the_one_of_images_is_read(images):
    several = Several()

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.several, self.head = several, nn.Linear(4, 2)

        def forward(self, x):
            return (self.head(self.several(x)["states"][0].mean(dim=(2, 3))),)

    features = ts.record(Network().eval(), images, layers=["several"])
    with torch.no_grad():
        torch.testing.assert_close(features["several"], pool_2x2(several.conv(images)), atol=1e-5, rtol=1e-5)


def test_a_network_with_volumes_among_its_weights_is_read(images):
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    body.register_parameter("lambdas", nn.Parameter(torch.zeros(1, 1, 1, 1, 1)))
    assert list(ts.record(body, images)) == ["1"]


def test_warnings_about_layers_reach_the_run(tmp_path):
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)

        def forward(self, x):
            return self.head(F.relu(self.bn(self.conv(x))).mean(dim=(2, 3)))

    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (40, 8, 8, 3), generator=generator, dtype=torch.uint8).numpy()
    labels = np.arange(40) % 2
    scan = ts.scan(Functional().eval(), id=(pictures, labels))
    assert any("read before their activation" in line for line in scan.run["warnings"])


def test_a_device_out_of_memory_gets_its_batches_by_halves(images, monkeypatch):
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU())
    recorder = make_recorder(ts.load_network(module), shape=images.shape[1:], batch_size=len(images))
    whole = recorder.record(as_split(images))
    forward, sizes = type(recorder)._forward, []

    def small(self, batch, *, whole):
        sizes.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return forward(self, batch, whole=whole)

    monkeypatch.setattr(type(recorder), "_forward", small)
    halved = recorder.record(as_split(images))
    assert max(sizes) > 2 >= min(sizes)
    for layer, values in whole.features.items():
        torch.testing.assert_close(halved.features[layer], values)
    [line] = halved.warnings
    assert "had too little memory" in line

    def never(self, batch, *, whole):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(type(recorder), "_forward", never)
    with pytest.raises(MachineError, match="too little memory for a single input"):
        recorder.record(as_split(images))
