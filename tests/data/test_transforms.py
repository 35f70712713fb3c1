"""Preprocessing gives what timm and torchvision give, from any kind of image."""

import importlib
import math

import numpy as np
import pytest
import torch
from PIL import Image

from tunnelscope.data import Preprocessing, load_data, preprocess
from tunnelscope.errors import RequestError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PLAIN = {"mean": (0.0,) * 3, "std": (1.0,) * 3}


def photo(height, width, seed=0):
    """Smooth noise, so that resampling differs from nearest."""
    noise = np.random.default_rng(seed).integers(0, 256, (height // 4 + 2, width // 4 + 2, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def plain_statement(image, size, crop_pct, resampling):
    """torchvision's Resize and CenterCrop to a square, ToTensor and Normalize, said again with PIL."""
    image = image.convert("RGB")
    full = math.floor(size / crop_pct)
    width, height = image.size
    new = (full, int(full * height / width)) if width <= height else (int(full * width / height), full)
    image = image.resize(new, resampling)
    left, top = round((new[0] - size) / 2), round((new[1] - size) / 2)
    pixels = np.array(image.crop((left, top, left + size, top + size)), dtype=np.float64)
    return torch.from_numpy((pixels / 255 - MEAN) / STD).permute(2, 0, 1)


@pytest.mark.parametrize("shape", [(128, 96), (90, 128), (128, 128), (34, 127), (301, 200)])
@pytest.mark.parametrize(("size", "crop_pct"), [(224, 0.875), (96, 0.9), (65, 1.0)])
def test_preprocess_matches_a_plain_statement(shape, size, crop_pct):
    image = photo(*shape)
    found = preprocess(image, Preprocessing((size, size), MEAN, STD, crop_pct=crop_pct))
    expected = plain_statement(image, size, crop_pct, Image.Resampling.BICUBIC)
    assert found.dtype == torch.float32
    assert found.is_contiguous()
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos", "nearest"])
def test_interpolation_is_the_named_one(interpolation):
    image = photo(100, 80)
    found = preprocess(image, Preprocessing((70, 70), MEAN, STD, interpolation=interpolation, crop_pct=0.875))
    expected = plain_statement(image, 70, 0.875, Image.Resampling[interpolation.upper()])
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def timm_data():
    """timm's own transforms, by the package's door to timm: a bare import may leave half of it behind."""
    vision = pytest.importorskip("tunnelscope.models.vision")
    vision.import_torchvision()
    pytest.importorskip("timm", exc_type=ImportError)
    return importlib.import_module("timm.data")


@pytest.mark.parametrize("size", [(224, 224), (96, 96), (65, 65), (96, 160)])
@pytest.mark.parametrize("crop_pct", [0.875, 0.95, 1.0])
def test_preprocess_is_timms_on_real_photos(real_data, timm_data, size, crop_pct):
    photos = load_data(f"{real_data / 'caltech101'}?per_class=1").test.images
    for interpolation in ("bicubic", "bilinear"):
        transform = timm_data.create_transform(
            (3, *size), mean=MEAN, std=STD, crop_pct=crop_pct, interpolation=interpolation, is_training=False
        )
        ours = Preprocessing(size, MEAN, STD, interpolation=interpolation, crop_pct=crop_pct)
        for index in range(0, 50, 5):
            image = photos[index]
            assert torch.equal(preprocess(image, ours), transform(image.convert("RGB")))


def test_square_images_go_straight_to_small_targets():
    image = photo(100, 100)
    found = preprocess(image, Preprocessing((32, 32), **PLAIN, crop_pct=0.5))
    expected = np.asarray(image.resize((32, 32), Image.Resampling.BICUBIC))
    assert np.array_equal((found * 255).round().byte().permute(1, 2, 0).numpy(), expected)


def test_image_of_the_right_size_keeps_its_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    found = preprocess(pixels, Preprocessing((32, 32), **PLAIN, crop_pct=0.875))
    assert np.array_equal((found * 255).round().byte().permute(1, 2, 0).numpy(), pixels)


def test_channels_are_scaled_by_their_own_mean_and_std():
    white = np.full((8, 8, 3), 255, dtype=np.uint8)
    found = preprocess(white, Preprocessing((8, 8), (0.0, 0.5, 1.0), (1.0, 0.25, 2.0)))
    assert found[:, 0, 0].tolist() == [1.0, 2.0, 0.0]


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "HSV"]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_arrives_with_its_brightness(mode, channels):
    """A grey of 200 comes out as a grey of 200 (mode 1 knows only black and white)."""
    level = 255 if mode == "1" else 200
    if mode in ("I;16", "I"):
        image = Image.fromarray(np.full((9, 9), level * 257, dtype=np.uint16 if mode == "I;16" else np.int32))
        assert image.mode == mode
    elif mode in ("P", "PA"):
        image = Image.new("P", (9, 9), 1)
        image.putpalette([0, 0, 0, level, level, level])
        image = image.convert(mode)
    else:
        image = Image.new("RGB", (9, 9), (level,) * 3).convert(mode)
    kind = Preprocessing((9, 9), (0.0,) * channels, (1.0,) * channels, channels=channels)
    found = preprocess(image, kind)
    assert found.shape == (channels, 9, 9)
    assert (found * 255).round().unique().tolist() == pytest.approx([level], abs=2)


def test_transparent_palettes_do_not_warn(recwarn):
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.info["transparency"] = b"\x00\x80"
    found = preprocess(image, Preprocessing((8, 8), **PLAIN))
    assert (found[:, 0, 0] * 255).round().tolist() == [10, 20, 30]
    assert not recwarn.list


@pytest.mark.parametrize("extra", [(), (1,), (3,), (4,)])
def test_arrays_and_pil_images_are_the_same(extra):
    pixels = np.random.default_rng(1).integers(0, 256, (40, 50, *extra), dtype=np.uint8)
    image = Image.fromarray(pixels[:, :, 0] if extra == (1,) else pixels)
    kind = Preprocessing((24, 24), MEAN, STD, crop_pct=0.9)
    assert torch.equal(preprocess(pixels, kind), preprocess(image, kind))


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.zeros((4, 4), np.float32), "uint8"),
        (np.zeros((4, 4, 2), np.uint8), "this one is \\(4, 4, 2\\)"),
        (np.zeros(4, np.uint8), "\\(H, W\\)"),
        (Image.fromarray(np.zeros((4, 4), np.float32)), "mode F"),
    ],
)
def test_pixels_without_an_agreed_scale_are_refused(pixels, words):
    with pytest.raises(RequestError, match=words):
        preprocess(pixels, Preprocessing((4, 4), **PLAIN))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size": (0, 8)}, "size must be"),
        ({"channels": 2}, "channels must be 1"),
        ({"mean": (0.5,)}, "mean must be one finite number a channel"),
        ({"mean": (0.5, 0.5, math.nan)}, "mean must be one finite"),
        ({"std": (0.5, 0.5, 0.0)}, "std must be above 0"),
        ({"interpolation": "bicubicc"}, "no interpolation named 'bicubicc'; nearest: bicubic"),
        ({"crop_pct": 0.0}, "crop_pct must be above 0"),
        ({"crop_pct": 1.5}, "crop_pct must be above 0 and at most 1, got 1.5"),
    ],
)
def test_impossible_preprocessing_is_refused(change, words):
    with pytest.raises(RequestError, match=words):
        Preprocessing(**{"size": (8, 8), "mean": MEAN, "std": STD, **change})
