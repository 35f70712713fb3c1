"""Batches come in order, ready, from threads that end."""

import hashlib
import signal
import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image
from planted_images import encode, pixels_of, write_parquet

from tunnelscope.data import Fingerprint, Preprocessing, Split, batches, image_shape, load_data, preprocess
from tunnelscope.errors import RequestError

KIND = Preprocessing((6, 6), (0.5,) * 3, (0.25,) * 3)


class Slow:
    """Images that take longer the earlier they are, and note when they were asked for."""

    def __init__(self, count, seconds=0.01):
        self.count, self.seconds, self.asked = count, seconds, []

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.asked.append(index)
        time.sleep(self.seconds * (1 + (index % 3 == 0)))
        return pixels_of(index, 1)


def decoding_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("tunnelscope-decode")]


@pytest.mark.parametrize("workers", [0, 1, 4])
@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_batches_are_the_preprocessed_images_in_order(workers, batch_size):
    images = [pixels_of(index, index % 3) for index in range(37)]
    found = list(batches(images, KIND, batch_size=batch_size, workers=workers))
    assert [len(batch) for batch in found[:-1]] == [batch_size] * (len(found) - 1)
    expected = torch.stack([preprocess(image, KIND) for image in images])
    assert torch.equal(torch.cat(found), expected)
    assert found[0].is_contiguous()
    assert not decoding_threads()


def test_order_holds_when_early_images_are_slow():
    images = Slow(60, seconds=0.002)
    seen = []
    found = torch.cat(
        list(
            batches(images, KIND, batch_size=16, workers=4, on_image=lambda i, image: seen.append((i, image)))
        )
    )
    assert [index for index, _ in seen] == list(range(60))
    assert all(np.array_equal(image, pixels_of(index, 1)) for index, image in seen)
    first_pixel = ((found[:, 0, 0, 0] * 0.25 + 0.5) * 255).round().int().tolist()
    assert first_pixel == list(range(60))


def test_images_are_decoded_ahead_but_not_all():
    images = Slow(2000, seconds=0)
    stream = batches(images, KIND, batch_size=32, workers=2)
    next(stream)
    time.sleep(0.3)
    assert 32 < len(images.asked) < 200
    stream.close()
    assert not decoding_threads()


def test_closing_does_not_wait_for_images_not_yet_begun():
    images = Slow(2000, seconds=0.01)
    stream = batches(images, KIND, batch_size=64, workers=1)
    next(stream)
    asked = len(images.asked)
    stream.close()
    assert len(images.asked) <= asked + 16  # one thread finishes its eight


def test_threads_work_side_by_side():
    start = time.perf_counter()
    list(batches(Slow(64, seconds=0.005), KIND, batch_size=64, workers=4))
    assert time.perf_counter() - start < 0.75 * 64 * 0.005


def test_callback_runs_in_the_callers_thread():
    threads = set()
    note = lambda *_: threads.add(threading.current_thread())  # noqa: E731
    list(batches(Slow(20, seconds=0), KIND, batch_size=8, workers=2, on_image=note))
    assert threads == {threading.current_thread()}


def test_ctrl_c_ends_the_threads():
    images = Slow(5000, seconds=0.005)
    timer = threading.Timer(0.3, signal.raise_signal, [signal.SIGINT])
    # a shell starts what runs in its background with this signal ignored
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            for _ in batches(images, KIND, batch_size=64, workers=3):
                pass
    finally:
        signal.signal(signal.SIGINT, before)
    assert not decoding_threads()
    assert len(images.asked) < 1000


def test_an_error_of_the_consumer_ends_the_threads():
    def consume():
        for _ in batches(Slow(5000, seconds=0.001), KIND, batch_size=8, workers=3):
            raise RuntimeError("no more memory")

    with pytest.raises(RuntimeError, match="no more memory"):
        consume()
    deadline = time.perf_counter() + 5
    while decoding_threads() and time.perf_counter() < deadline:
        time.sleep(0.01)
    assert not decoding_threads()


def test_float_tensors_pass_unchanged():
    images = torch.randn(10, 2, 5, 5)
    found = torch.cat(list(batches(images, None, batch_size=4, workers=2)))
    assert torch.equal(found, images)
    assert torch.equal(torch.cat(list(batches(images, KIND, batch_size=4, workers=0))), images)


def test_images_without_preprocessing_are_refused():
    with pytest.raises(RequestError, match="image 0: the network has no preprocessing"):
        next(batches([pixels_of(0, 0)], None, batch_size=4, workers=0))


def test_tensors_of_different_shapes_are_refused():
    images = [torch.zeros(3, 4, 4), torch.zeros(3, 5, 5)]
    with pytest.raises(RequestError, match=r"different shapes: \(3, 4, 4\), \(3, 5, 5\)"):
        list(batches(images, None, batch_size=2, workers=0))


@pytest.mark.parametrize("workers", [0, 2])
def test_errors_name_the_image_and_the_set(tmp_path, workers):
    images = [encode(pixels_of(index, index % 2)) for index in range(60)]
    images[51] = b"not an image"
    path = tmp_path / "birds" / "train.parquet"
    write_parquet(path, [0, 1, 2] * 20, images=images)
    write_parquet(tmp_path / "birds" / "test.parquet", [0, 1])
    data = load_data(f"{tmp_path / 'birds'}?classes=0,1")
    with pytest.raises(RequestError, match=r"^row 51 of birds \(train\): the image cannot be decoded"):
        list(batches(data.train.images, KIND, batch_size=8, workers=workers))
    assert not decoding_threads()


def test_errors_of_a_users_dataset_name_the_item():
    class Broken(torch.utils.data.Dataset):
        targets = (0, 1) * 20

        def __len__(self):
            return 40

        def __getitem__(self, index):
            if index == 14:
                raise KeyError("missing file")
            return pixels_of(index, 0), index % 2

    data = load_data({"train": Broken(), "test": Broken()})
    with pytest.raises(RequestError, match=r"image 14 of broken \(train\): KeyError: 'missing file'"):
        list(batches(data.train.images, KIND, batch_size=8, workers=2))


def test_errors_of_preprocessing_name_the_image():
    images = [pixels_of(0, 0), Image.fromarray(np.zeros((4, 4), np.float32))]
    with pytest.raises(RequestError, match="image 1: its pixels are floats"):
        list(batches(images, KIND, batch_size=8, workers=1))


@pytest.mark.parametrize(("batch_size", "workers"), [(0, 1), (4, -1)])
def test_impossible_numbers_are_refused(batch_size, workers):
    with pytest.raises(RequestError, match="batch size must be at least 1"):
        next(batches([pixels_of(0, 0)], KIND, batch_size=batch_size, workers=workers))


def as_split(images):
    return Split(images, np.zeros(len(images), dtype=np.int64))


def test_image_shape_is_what_images_share():
    grey = np.zeros((5, 7), np.uint8)
    assert image_shape(as_split([grey] * 3)) == (1, 5, 7)
    assert image_shape(as_split([grey, Image.new("RGB", (7, 5))])) == (3, 5, 7)
    assert image_shape(as_split([grey, grey.T])) is None
    assert image_shape(as_split(torch.zeros(3, 4, 8, 9))) == (4, 8, 9)
    assert image_shape(as_split(torch.zeros(3, 4))) is None


def test_image_shape_looks_at_few_images():
    images = Slow(1000, seconds=0)
    assert image_shape(as_split(images)) == (3, 6, 6)
    assert len(images.asked) <= 64
    assert {0, 999} <= set(images.asked)


def fingerprint(images, labels):
    seen = Fingerprint()
    for image, label in zip(images, labels, strict=True):
        seen.update(image, label)
    return seen.hexdigest()


def test_fingerprint_sees_pixels_shape_labels_and_order():
    one, two = pixels_of(0, 0), pixels_of(1, 0)
    base = fingerprint([one, two], [0, 1])
    assert base == fingerprint([Image.fromarray(one), Image.fromarray(two)], np.array([0, 1]))
    changed = one.copy()
    changed[3, 3, 1] ^= 1
    others = [
        fingerprint([changed, two], [0, 1]),
        fingerprint([one, two], [0, 2]),
        fingerprint([two, one], [1, 0]),
        fingerprint([one], [0]),
        fingerprint([one.reshape(4, 9, 3), two], [0, 1]),
    ]
    assert len({base, *others}) == 6


def test_fingerprint_ignores_the_container():
    grey = pixels_of(0, 0)[:, :, 0]
    expected = fingerprint([grey], [3])
    assert fingerprint([grey[:, :, None]], [3]) == expected
    assert fingerprint([Image.fromarray(grey)], [3]) == expected
    colour = Image.fromarray(pixels_of(0, 0))
    palette = Image.new("P", (6, 6), 1)
    palette.putpalette([0, 0, 0, 9, 8, 7])
    assert fingerprint([palette], [0]) == fingerprint([Image.new("RGB", (6, 6), (9, 8, 7))], [0])
    assert fingerprint([colour.convert("RGBA")], [0]) == fingerprint([colour], [0])


def test_fingerprint_is_the_stated_hash():
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    digest = hashlib.sha256(b"uint8 (2, 2, 3)\n" + image.tobytes()).digest()
    assert fingerprint([image], [5]) == hashlib.sha256(digest + b" 5\n").hexdigest()


def test_images_are_looked_at_before_preprocessing_and_told_in_order():
    images = [np.full((9, 9, 3), value, dtype=np.uint8) for value in range(50)]
    seen = []
    told = batches(
        images,
        KIND,
        batch_size=16,
        workers=4,
        on_image=lambda index, given: seen.append((index, given)),
        look=lambda image: int(image[0, 0, 0]),
    )
    list(told)
    assert seen == [(index, index) for index in range(50)]
