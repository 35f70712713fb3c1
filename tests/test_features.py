"""Pooling gives one row an image, by the definition of each choice."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tunnelscope.errors import RequestError
from tunnelscope.features import MOST_COLUMNS, Pooling, pool_2x2
from tunnelscope.layers import ReadPoint


def layer(shape, name="layer", **more):
    return ReadPoint(name, name, 1, 1, "block", shape, 0, 0, **more)


@given(st.integers(1, 9), st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_pool_2x2_is_adaptive_average_pooling_or_flattening(height, width):
    maps = torch.randn(3, 4, height, width)
    size = (min(height, 2), min(width, 2))
    torch.testing.assert_close(pool_2x2(maps), F.adaptive_avg_pool2d(maps, size).flatten(1))


@settings(deadline=None)
@given(st.integers(1, 5), st.integers(1, 20), st.integers(1, 40), st.integers(1, 40), st.integers(0, 9))
def test_pool_2x2_of_maps_that_lie_by_pixels_is_the_same(images, channels, height, width, seed):
    maps = torch.randn(images, channels, height, width, generator=torch.Generator().manual_seed(seed)) + 3
    by_pixels = maps.contiguous(memory_format=torch.channels_last)
    expected = F.adaptive_avg_pool2d(maps, (min(height, 2), min(width, 2))).flatten(1)
    torch.testing.assert_close(pool_2x2(by_pixels), expected, atol=1e-5, rtol=1e-5)
    rounded = pool_2x2(by_pixels.bfloat16()).float()
    torch.testing.assert_close(rounded, expected, atol=0.05, rtol=0.01)
    sliced = by_pixels[:, :, :, : max(1, width - 2)]  # as a crop would leave them
    torch.testing.assert_close(pool_2x2(sliced), pool_2x2(sliced.contiguous()), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("shape", "choice", "name", "width"),
    [
        ((16, 8, 8), "auto", "2x2", 64),
        ((16, 2, 2), "auto", "2x2", 64),
        ((16, 1, 1), "auto", "2x2", 16),
        ((16, 8, 8), "avg", "avg", 16),
        ((16, 8, 8), "flatten", "flatten", 1024),
        ((50, 12), "auto", "mean tokens", 12),
        ((50, 12), "flatten", "flatten", 600),
        ((16, 8, 8), "mean", "avg", 16),
        ((16, 8, 8), "cls", "avg", 16),
        ((50, 12), "mean", "mean tokens", 12),
        ((12,), "cls", "none", 12),
        ((12,), "flatten", "flatten", 12),
        ((12,), "auto", "none", 12),
    ],
)
def test_width_and_name_of_each_choice(shape, choice, name, width):
    pooling = Pooling(layer(shape), choice)
    expected = "none" if len(shape) == 1 else name
    assert (pooling.name, pooling.width) == (expected, width)
    assert pooling(torch.randn(5, *shape)).shape == (5, width)


def test_class_tokens_stay_out_of_the_mean():
    tokens = torch.randn(2, 6, 4)
    torch.testing.assert_close(Pooling(layer((6, 4), prefix_tokens=1))(tokens), tokens[:, 1:].mean(dim=1))


def test_channels_last_maps_are_pooled_over_space():
    maps = torch.randn(2, 12, 6, 6)
    pooled = Pooling(layer((6, 6, 12), channel_axis=2))(maps.permute(0, 2, 3, 1))
    torch.testing.assert_close(pooled, pool_2x2(maps))


def test_flatten_keeps_the_same_8000_columns_for_the_same_layer_and_seed():
    wide = layer((40, 20, 20))
    maps = torch.randn(2, 40, 20, 20)
    first, again, other = (Pooling(wide, "flatten", seed)(maps) for seed in (0, 0, 1))
    assert first.shape == (2, MOST_COLUMNS)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_unknown_pooling_names_the_nearest():
    with pytest.raises(RequestError, match="no pooling named 'flaten'; nearest: flatten"):
        Pooling(layer((4, 4, 4)), "flaten")


@pytest.mark.parametrize(
    ("choice", "name", "width"),
    [("cls", "cls", 4), ("mean", "mean tokens", 4), ("cls+mean", "cls+mean", 8), ("auto", "mean tokens", 4)],
)
def test_class_token_and_patches_are_taken_apart(choice, name, width):
    tokens = torch.randn(2, 7, 4)  # class, distillation, five patches
    pooling = Pooling(layer((7, 4), prefix_tokens=2, has_class_token=True), choice)
    mean = tokens[:, 2:].mean(dim=1)
    expected = {"cls": tokens[:, 0], "cls+mean": torch.cat([tokens[:, 0], mean], dim=1)}.get(choice, mean)
    assert (pooling.name, pooling.width) == (name, width)
    torch.testing.assert_close(pooling(tokens), expected)


@pytest.mark.parametrize("choice", ["cls", "cls+mean"])
def test_a_layer_before_the_class_token_is_averaged_and_says_so(choice):
    tokens = torch.randn(2, 5, 4)
    pooling = Pooling(layer((5, 4)), choice)
    assert pooling.name == "mean tokens"
    torch.testing.assert_close(pooling(tokens), tokens.mean(dim=1))


def test_a_class_token_alone_has_no_patches_to_average():
    tokens = torch.randn(2, 1, 4)
    pooling = Pooling(layer((1, 4), prefix_tokens=1, has_class_token=True), "mean")
    assert pooling.name == "cls"
    torch.testing.assert_close(pooling(tokens), tokens[:, 0])


@given(st.permutations(["channel", "high", "wide"]), st.integers(1, 5), st.integers(1, 5), st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_where_the_channels_lie_changes_nothing(order, channels, height, width):
    maps = torch.randn(2, channels, height, width)
    axes = [1 + ["channel", "high", "wide"].index(axis) for axis in order]
    if axes.index(2) > axes.index(3):
        return  # a map turned on its side is another map
    moved = maps.permute(0, *axes)
    axis = order.index("channel")
    pooled = Pooling(layer(tuple(moved.shape[1:]), channel_axis=axis))(moved)
    torch.testing.assert_close(pooled, pool_2x2(maps))


def test_a_sequence_with_its_channels_first_is_averaged_over_its_length():
    sequence = torch.randn(2, 12, 50)
    pooled = Pooling(layer((12, 50), channel_axis=0))(sequence)
    torch.testing.assert_close(pooled, sequence.mean(dim=2))
