"""Images in every mode and size: each is read as stated, or refused in one line."""

import subprocess
import sys
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from planted_images import pixels_of

from tunnelscope.data import Preprocessing, batches, load_data
from tunnelscope.data.images import UnreadableImage, decode
from tunnelscope.errors import RequestError

SIZE = Preprocessing((6, 6), (0.0,) * 3, (1.0,) * 3)
GREY = pixels_of(0, 0)[:, :, 0]
COLOUR = pixels_of(0, 0)
ALPHA = np.full((6, 6, 1), 7, np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    stream = BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def through_files(tmp_path, *contents: bytes, size: int = 6) -> np.ndarray:
    """Read files through class folders and the loader, (n, H, W, 3) as 0..255."""
    for index, content in enumerate(contents):
        for split in ("train", "test"):
            for name in ("a", "b"):
                (tmp_path / split / name).mkdir(parents=True, exist_ok=True)
                (tmp_path / split / name / f"{index}.img.png").write_bytes(content)
    data = load_data(str(tmp_path), max_samples=None)
    kind = Preprocessing((size, size), SIZE.mean, SIZE.std)
    batch = torch.cat(list(batches(data.train.images, kind, batch_size=4, workers=2)))[: len(contents)]
    return (batch * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def palette_with_transparency() -> Image.Image:
    image = Image.fromarray(COLOUR).quantize(8)
    image.info["transparency"] = bytes([0, 50, 255])
    return image


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side
    return exif


grey_rgb = np.repeat(GREY[:, :, None], 3, axis=2)
CASES = {
    "grey": (encoded(Image.fromarray(GREY)), grey_rgb),
    "one bit": (
        encoded(Image.fromarray(GREY > 99)),
        np.repeat(np.where(GREY > 99, 255, 0)[:, :, None], 3, axis=2),
    ),
    "grey with alpha": (encoded(Image.fromarray(np.dstack([GREY, ALPHA]), "LA")), grey_rgb),
    "RGBA": (encoded(Image.fromarray(np.dstack([COLOUR, ALPHA]), "RGBA")), COLOUR),
    "palette with transparency": (
        encoded(palette_with_transparency(), transparency=bytes([0, 50, 255])),
        np.asarray(palette_with_transparency().convert("RGBA"))[:, :, :3],
    ),
    "16 bit": (encoded(Image.fromarray(GREY.astype(np.uint16) * 256 + 13)), grey_rgb),
    "turned by EXIF": (encoded(Image.fromarray(COLOUR), exif=turned()), COLOUR),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("error")
def test_modes_are_read_as_stated(tmp_path, case):
    content, expected = CASES[case]
    assert np.array_equal(through_files(tmp_path, content)[0], expected)


def test_a_cmyk_jpeg_is_read_as_pillow_converts_it(tmp_path):
    flat = Image.new("CMYK", (6, 6), (0, 255, 255, 0))  # red
    content = encoded(flat, "JPEG", quality=95)
    found = through_files(tmp_path, content)[0]
    assert np.array_equal(found, np.asarray(Image.open(BytesIO(content)).convert("RGB")))
    assert found[3, 3, 0] > 240
    assert found[3, 3, 1:].max() < 15


def test_one_pixel_and_sets_of_mixed_modes_and_sizes(tmp_path):
    red = encoded(Image.new("RGB", (1, 1), (200, 0, 0)))
    wide = encoded(Image.new("L", (50, 7), 90))
    tall = encoded(Image.new("RGBA", (3, 40), (1, 2, 3, 4)))
    one, two, three = through_files(tmp_path, red, wide, tall, size=224)
    assert one.shape == (224, 224, 3)
    assert (one == [200, 0, 0]).all()
    assert (two == 90).all()
    assert (three == [1, 2, 3]).all()


@pytest.mark.parametrize("shape", [(1, 40_000), (40_000, 1)])
def test_a_thread_of_pixels_is_refused_before_it_fills_the_memory(tmp_path, shape):
    content = encoded(Image.new("L", shape))
    with pytest.raises(RequestError, match=r"0\.img\.png of .*: it is .* too narrow .* crop or remove it"):
        through_files(tmp_path, content, size=224)


def test_float_pixels_are_refused(tmp_path):
    content = encoded(Image.fromarray(GREY.astype(np.float32)), "TIFF")
    with pytest.raises(RequestError, match=r"0\.img\.png of .*: its pixels are floats \(mode F\)"):
        through_files(tmp_path, content)


def test_very_large_images_are_read_or_refused_in_one_line(tmp_path):
    """Between 89 and 179 megapixels Pillow warns; above it refuses. A one-bit PNG of that size is small."""
    for split in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / "s" / split / name).mkdir(parents=True)
            (tmp_path / "s" / split / name / "0.png").write_bytes(encoded(Image.new("1", (10_000, 9_500))))
    read = (
        "from tunnelscope.data import load_data;"
        f"print(load_data({str(tmp_path / 's')!r}).train.images[0].size)"
    )
    ended = subprocess.run([sys.executable, "-c", read], capture_output=True, text=True, check=True)
    assert (ended.stdout, ended.stderr) == ("(10000, 9500)\n", "")
    (tmp_path / "s" / "train" / "a" / "0.png").write_bytes(encoded(Image.new("1", (20_000, 9_500))))
    with pytest.raises(
        RequestError, match=r"0\.png of s \(train\): .* exceeds limit .*--skip-corrupt"
    ) as caught:
        load_data(str(tmp_path / "s")).train.images[0]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_an_image_of_any_format_is_decoded_and_common_ones_without_trying_others(kind, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    expected = np.asarray(Image.open(BytesIO(stream.getvalue())).convert("RGB"))
    tried = []
    opened = Image.open
    monkeypatch.setattr(
        Image, "open", lambda file, formats=None: tried.append(formats) or opened(file, formats=formats)
    )
    assert (np.asarray(decode(stream.getvalue(), "one").convert("RGB")) == expected).all()
    assert tried == [(kind,) if kind in ("PNG", "JPEG", "WEBP") else None]


def test_a_sound_file_is_no_webp():
    with pytest.raises(UnreadableImage, match="cannot be decoded: cannot identify image file"):
        decode(b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(40), "one")
