"""One forward pass reads what the network itself computes, at every layer, in any batching."""

import time

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import Dataset

import tunnelscope as ts
from tunnelscope.errors import RequestError
from tunnelscope.features import pool_2x2
from tunnelscope.models.vision import import_timm
from tunnelscope.recording import make_recorder, milliseconds_saved


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
    assert 20 <= milliseconds_saved(recorder, first)[0] < 50  # one of the two pauses, not both
    assert milliseconds_saved(recorder, last)[0] < 20


def test_a_split_that_a_data_set_does_not_have_is_refused():
    with pytest.raises(RequestError, match="no split named 'valid'"):
        ts.record("zoo:mlp?depth=1&width=4", "sklearn:digits", split="valid")


def test_an_embedding_read_by_name_keeps_all_its_patches(images):
    vit = import_timm().create_model("vit_tiny_patch16_224", img_size=32, num_classes=5).eval()
    by_name = ts.record(vit, images, layers="patch_embed")["patch_embed"]
    torch.testing.assert_close(by_name, ts.record(vit, images)["patch_embed"])
