"""Augmentation of whole batches, against the plain way of one image at a time."""

import pytest
import torch

from tunnelscope.models.vision import import_torchvision
from tunnelscope.training.augment import _boxes, crop_flip, resized_crop_flip, unchanged

ALL = slice(None)


@pytest.fixture(scope="module")
def v2():
    import_torchvision()
    from torchvision.transforms import v2

    return v2


def images(count: int, height: int = 12, width: int = 10) -> torch.Tensor:
    draws = torch.Generator().manual_seed(1)
    return torch.randint(256, (count, height, width, 3), generator=draws, dtype=torch.uint8)


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_every_crop_is_one_of_the_padded_image_flipped_or_not():
    given = images(60)
    seen = set()
    for image, cropped in zip(given, crop_flip(given, draws(), ALL), strict=True):
        padded = torch.nn.functional.pad(image, (0, 0, 4, 4, 4, 4))
        places = [
            (top, left, flipped)
            for top in range(9)
            for left in range(9)
            for flipped in (False, True)
            if torch.equal(
                cropped,
                padded[top : top + 12, left : left + 10].flip(1)
                if flipped
                else padded[top : top + 12, left : left + 10],
            )
        ]
        assert len(places) == 1
        seen.add(places[0])
    assert len({place[0] for place in seen}) > 6
    assert len({place[1] for place in seen}) > 6
    assert len({place[2] for place in seen}) == 2


def test_crops_and_flips_are_evenly_drawn():
    given = torch.zeros(20000, 1, 1, 1, dtype=torch.uint8) + 1
    kept = crop_flip(given, draws(), ALL).float().mean()  # one of 81 places shows the only pixel
    assert float(kept) == pytest.approx(1 / 81, abs=4 * (1 / 81 / 20000) ** 0.5)


@pytest.mark.parametrize("augment", [unchanged, crop_flip, resized_crop_flip])
def test_processes_get_the_rows_of_the_one_process(augment):
    given = images(11)
    whole = augment(given, draws(3), ALL)
    parts = [augment(given, draws(3), part) for part in (slice(0, 5), slice(5, 11))]
    assert torch.equal(whole, torch.cat(parts))


def test_a_resized_crop_is_torchvisions_of_the_same_box(v2):
    tv = v2.functional
    given = images(40, 20, 20)
    got = resized_crop_flip(given, draws(5), ALL)
    generator = draws(5)
    boxes = _boxes(40, 20, 20, generator)
    flips = torch.rand(40, 1, generator=generator) < 0.5
    for image, box, flipped, mine in zip(given, boxes.int().tolist(), flips, got, strict=True):
        plane = image.permute(2, 0, 1).float()
        wanted = tv.resized_crop(plane, *box, [20, 20], v2.InterpolationMode.BILINEAR, antialias=False)
        wanted = tv.horizontal_flip(wanted) if flipped else wanted
        assert torch.allclose(mine.permute(2, 0, 1), wanted, atol=2e-2), box


@pytest.mark.parametrize("size", [(32, 32), (32, 12), (7, 40)])
def test_boxes_have_torchvisions_areas(v2, size):
    boxes = _boxes(4000, *size, draws(0))
    top, left, height, width = boxes.T
    assert bool((top >= 0).all())
    assert bool((left >= 0).all())
    assert bool((top + height <= size[0]).all())
    assert bool((left + width <= size[1]).all())
    torch.manual_seed(0)
    blank = torch.zeros(3, *size)
    transform = v2.RandomResizedCrop(size)
    theirs = [transform.make_params([blank]) for _ in range(4000)]
    for mine, key in ((height, "height"), (width, "width")):
        wanted = torch.tensor([float(one[key]) for one in theirs])
        error = 5 * float(wanted.std()) / 4000**0.5 + 0.05
        assert float(mine.mean()) == pytest.approx(float(wanted.mean()), abs=error)
        assert float(mine.std()) == pytest.approx(float(wanted.std()), rel=0.1, abs=0.05)
