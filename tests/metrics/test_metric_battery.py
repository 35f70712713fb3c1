"""What must and must not change each metric, and what no input may do to it."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_features import clusters, rotation

from tunnelscope.metrics import METRICS, layer_metrics, unbiased_cka

FEATURES, LABELS = clusters(classes=5, each=30, width=10)
FEATURES = FEATURES.double()
WEIGHTS = torch.randn(5, 10, generator=torch.Generator().manual_seed(7)).double()
BIAS = torch.randn(5, generator=torch.Generator().manual_seed(8)).double()
OFFSET = torch.linspace(-3, 4, 10, dtype=torch.float64)
BY_SCALE = {"within_variance": 9, "between_variance": 9}  # squared units, for a scale of 3
BY_OFFSET = {"rankme"}

BOUNDS = {
    "effective_rank": (0, math.inf), "rankme": (0, math.inf), "nc2": (0, 2), "nc2_equiangularity": (0, 1),
    "nc3": (0, 2), "nc4": (0, 1), "nc2_harun": (0, 2), "nc3_harun": (0, 2),
}  # fmt: skip


def measure(features, labels, weights=WEIGHTS, bias=BIAS):
    values, notes = layer_metrics(features, features, labels, weights, bias)
    assert notes == []
    return values


@pytest.fixture(scope="module")
def plain():
    return measure(FEATURES, LABELS)


def test_the_battery_covers_every_metric(plain):
    assert plain.keys() == METRICS.keys() - {"cka"}


def assert_equal_but(values, plain, factors=None, except_for=()):
    for name in plain.keys() - set(except_for):
        assert values[name] == pytest.approx((factors or {}).get(name, 1) * plain[name], rel=1e-7), name


def test_order_of_rows_changes_nothing(plain):
    order = torch.randperm(len(LABELS), generator=torch.Generator().manual_seed(0))
    assert_equal_but(measure(FEATURES[order], LABELS[order]), plain)


def test_rotation_changes_nothing(plain):
    turn = rotation(10)
    assert_equal_but(measure(FEATURES @ turn, LABELS, WEIGHTS @ turn), plain)


def test_offset_changes_only_what_is_not_centred(plain):
    values = measure(FEATURES + OFFSET, LABELS, WEIGHTS, BIAS - WEIGHTS @ OFFSET)
    assert_equal_but(values, plain, except_for=BY_OFFSET)
    assert values["rankme"] != pytest.approx(plain["rankme"], rel=1e-2)


def test_scale_changes_only_variances_by_its_square(plain):
    assert_equal_but(measure(3 * FEATURES, LABELS, WEIGHTS / 3), plain, factors=BY_SCALE)


def test_names_of_classes_change_nothing(plain):
    order = torch.tensor([3, 1, 4, 0, 2])
    values = measure(FEATURES, torch.argsort(order)[LABELS], WEIGHTS[order], BIAS[order])
    assert_equal_but(values, plain)


def test_float32_features_give_the_same_numbers(plain):
    values = measure(FEATURES.float(), LABELS, WEIGHTS.float(), BIAS.float())
    for name, value in plain.items():
        assert values[name] == pytest.approx(value, rel=1e-5), name


@st.composite
def awkward_features(draw):
    """Constant or repeated columns and rows, few rows, collapsed classes, a mean of 10⁴ deviations."""
    seed = draw(st.integers(0, 2**31))
    generator = torch.Generator().manual_seed(seed)
    n, d = draw(st.integers(4, 40)), draw(st.integers(1, 25))
    features = torch.randn(n, d, generator=generator)
    labels = torch.arange(n) % draw(st.sampled_from([2, 3, n]))
    if draw(st.booleans()):
        features[:, : d // 2 + 1] = draw(st.sampled_from([0.0, 0.1, -7.3]))
    if draw(st.booleans()):
        features = torch.cat([features, features[:, : max(d // 2, 1)]], dim=1)
    if draw(st.booleans()):
        rows = torch.randint(0, n, (n,), generator=generator)
        features, labels = features[rows], labels[rows]
    if draw(st.booleans()):
        features = features[labels]  # one point a class
    features = features * draw(st.sampled_from([1.0, 1e-20, 1e15])) * draw(st.sampled_from([1, -1]))
    if draw(st.booleans()):
        features = features + 1e4 * features.std()
    weights = torch.randn(n, features.shape[1], generator=generator) * draw(st.sampled_from([0, 1]))
    return features, labels, weights, torch.randn(n, generator=generator)


@settings(max_examples=200, deadline=None)
@given(awkward_features())
def test_no_input_gives_nan_or_leaves_the_bounds(drawn):
    features, labels, weights, bias = drawn
    values, notes = layer_metrics(features, features, labels, weights, bias)
    assert not [note for note in notes if "could not be computed" in note]
    n, d = features.shape
    for name, value in values.items():
        if value is None:
            assert any(name in note.split(":")[0].split(", ") for note in notes), name
            continue
        low, high = BOUNDS.get(name, (0, math.inf))
        assert low <= value <= high * (1 + 1e-9), name
        assert math.isfinite(value), name
    ranks = [values["numerical_rank_1e-2"], values["numerical_rank"], values["numerical_rank_1e-4"]]
    assert ranks == sorted(ranks)
    assert ranks[-1] <= min(n - 1, d)
    assert values["effective_rank"] <= min(n - 1, d) * (1 + 1e-9)
    assert values["rankme"] <= min(n, d) * (1 + 1e-9)


@settings(max_examples=100, deadline=None)
@given(awkward_features(), st.integers(0, 1000))
def test_cka_stays_within_its_bounds_on_any_input(drawn, seed):
    features = drawn[0]
    other = torch.randn(len(features), 3, generator=torch.Generator().manual_seed(seed))
    cka = unbiased_cka([features, other, features])
    known = ~cka.isnan()
    assert ((cka[known] >= -1) & (cka[known] <= 1)).all()
    assert torch.equal(known, known.T)
    assert cka[1, 1] == 1
    assert known[0, 0] == known[0, 2]
    if known[0, 0]:
        assert cka[0, 2] == pytest.approx(1, abs=1e-6)
