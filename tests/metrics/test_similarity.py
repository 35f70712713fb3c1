import numpy as np
import pytest
import torch
from hypothesis import given as given_by
from hypothesis import settings
from hypothesis import strategies as st
from planted_features import rotation

from tunnelscope.metrics import similarity, unbiased_cka


def hsic_in_numpy(k, m):
    """HSIC₁ of Song et al. 2012 with n × n matrices."""
    n = len(k)
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    one = np.ones(n)
    total = np.trace(k @ m) + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
    return (total - 2 / (n - 2) * (one @ k @ m @ one)) / (n * (n - 3))


def cka_in_numpy(layers):
    grams = [x.double().numpy() @ x.double().numpy().T for x in layers]
    hsic = np.array([[hsic_in_numpy(k, m) for m in grams] for k in grams])
    return torch.from_numpy(hsic / np.sqrt(np.outer(np.diag(hsic), np.diag(hsic))))


def layers(n, widths, seed=0):
    """Return layers with a common part, the later the noisier, each with a mean of its own."""
    generator = torch.Generator().manual_seed(seed)
    common = torch.randn(n, 6, generator=generator)
    made = []
    for index, width in enumerate(widths):
        signal = common @ torch.randn(6, width, generator=generator)
        noise = torch.randn(n, width, generator=generator)
        made.append((signal + index * noise) ** 3 + index)
    return made


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize(("n", "widths"), [(200, [5, 20, 40]), (30, [50, 8, 200]), (4, [3, 9]), (5, [1, 2])])
def test_cka_equals_the_estimator_with_gram_matrices(n, widths, double, monkeypatch):
    if not double:
        monkeypatch.setattr(similarity, "SMALL_WORK", 0)
    given = layers(n, widths)
    torch.testing.assert_close(
        unbiased_cka(given), cka_in_numpy(given), rtol=0, atol=1e-10 if double else 1e-6
    )


def test_both_ways_and_all_block_sizes_agree(monkeypatch):
    given = [similarity._Layer(x, torch.float64) for x in layers(90, [7, 30, 64])]
    lengths = torch.stack([layer.squared_lengths for layer in given])
    by_features, by_grams = similarity._traces_by_features(given, lengths), similarity._traces_by_grams(given)
    monkeypatch.setattr(similarity, "PRODUCT_ROWS", 11)
    monkeypatch.setattr(similarity, "GRAM_ELEMENTS", 1)  # then blocks of 64 rows
    for traces in (
        by_grams,
        similarity._traces_by_features(given, lengths),
        similarity._traces_by_grams(given),
    ):
        torch.testing.assert_close(traces, by_features, rtol=1e-10, atol=1e-8)


def test_float32_products_keep_1e6_behind_a_large_offset(monkeypatch):
    given = [1e-3 * x.double() + 10 for x in layers(500, [16, 64])]
    exact = unbiased_cka(given)
    monkeypatch.setattr(similarity, "SMALL_WORK", 0)
    torch.testing.assert_close(unbiased_cka(given), exact, rtol=0, atol=1e-6)


def test_where_sums_cancel_products_are_made_in_double_precision(monkeypatch):
    monkeypatch.setattr(similarity, "SMALL_WORK", 0)
    given = layers(300, [12, 20])
    given[1][0] *= 2000  # one row outweighs all: HSIC₁ is what is left of sums a thousand times as large
    used = []
    by_features = similarity._traces_by_features
    monkeypatch.setattr(
        similarity, "_traces_by_features", lambda ls, k: used.append(ls[0].dtype) or by_features(ls, k)
    )
    torch.testing.assert_close(unbiased_cka(given), cka_in_numpy(given), rtol=0, atol=1e-6)
    assert used == [torch.float32, torch.float64]
    unbiased_cka(layers(300, [12, 20]))
    assert used == [torch.float32, torch.float64, torch.float32]


@st.composite
def awkward_layers(draw):
    """Constant and repeated columns, nearly equal rows, scales over 8 orders, a mean of 10⁴ deviations."""
    n, generator = draw(st.integers(4, 60)), torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    common, made = torch.randn(n, 4, generator=generator), []
    for width in draw(st.lists(st.integers(1, 90), min_size=2, max_size=4)):
        x = common @ torch.randn(4, width, generator=generator)
        x = x + torch.randn(n, width, generator=generator)
        if draw(st.booleans()):
            x[:, : width // 2] = 0.1
        if draw(st.booleans()):
            x = torch.cat([x, x], dim=1)
        if draw(st.booleans()):
            x[1 : n // 2] = x[0] + 1e-5 * x[1 : n // 2]
        if draw(st.booleans()):
            x = x * torch.logspace(-4, 4, x.shape[1])
        if draw(st.booleans()):
            x = x + 1e4 * x.std()
        made.append(x)
    return made


@settings(max_examples=100, deadline=None)
@given_by(awkward_layers(), st.booleans())
def test_float32_products_keep_1e6_on_awkward_layers(made, by_grams):
    exact = cka_in_numpy([x.double() - x.double().mean(dim=0) for x in made])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(similarity, "SMALL_WORK", 0)
        if by_grams:
            patch.setattr(similarity, "_traces_by_features", lambda ls, k: similarity._traces_by_grams(ls))
        cka = unbiased_cka(made)
    known = ~cka.isnan()
    torch.testing.assert_close(cka[known], exact[known].clamp(-1, 1), rtol=0, atol=1e-6)


def test_cka_of_a_rotated_scaled_shifted_copy_is_one():
    x = layers(60, [12])[0].double()
    cka = unbiased_cka([x, 40 * x @ rotation(12) - 3])
    torch.testing.assert_close(cka, torch.ones(2, 2, dtype=torch.float64))
    assert cka[0, 0] == cka[1, 1] == 1


def test_cka_of_unrelated_wide_layers_is_near_zero_where_the_biased_one_is_not():
    generator = torch.Generator().manual_seed(5)
    x, y = (torch.randn(50, 400, generator=generator) for _ in range(2))
    assert abs(unbiased_cka([x, y])[0, 1]) < 0.05
    xc, yc = x - x.mean(0), y - y.mean(0)
    biased = (xc.T @ yc).square().sum() / ((xc.T @ xc).norm() * (yc.T @ yc).norm())
    assert biased > 0.8


@pytest.mark.parametrize("dead", [torch.full((40, 7), 0.1), torch.zeros(40, 1), torch.eye(40)[:, :1]])
def test_a_layer_without_spread_gives_nan_in_its_row_only(dead):
    first, last = layers(40, [5, 6])
    cka = unbiased_cka([first, dead, last])
    assert cka[1].isnan().all()
    assert cka[:, 1].isnan().all()
    torch.testing.assert_close(cka[[0, 2]][:, [0, 2]], unbiased_cka([first, last]))


def test_cka_names_what_it_cannot_compare():
    with pytest.raises(ValueError, match="at least 4 rows, got 3"):
        unbiased_cka([torch.randn(3, 2)])
    with pytest.raises(ValueError, match=r"same rows; got \[5, 6\] rows"):
        unbiased_cka([torch.randn(5, 2), torch.randn(6, 2)])
    with pytest.raises(ValueError, match="at least one layer"):
        unbiased_cka([])
