import numpy as np
import pytest
import torch
from planted_features import clusters, rotation
from sklearn.neighbors import NearestNeighbors

from tunnelscope.metrics import dimension, twonn
from tunnelscope.metrics.dimension import two_nearest


def cube(dimensions: int, examples: int = 2000, width: int = 20, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(examples, dimensions, dtype=torch.float64, generator=generator)
    return points @ rotation(width)[:dimensions]


def neighbours_by_sklearn(features):
    x = features.double().numpy()
    search = NearestNeighbors(n_neighbors=3, algorithm="kd_tree").fit(x)
    return torch.from_numpy(search.kneighbors(x)[0][:, 1:])


@pytest.mark.parametrize("dimensions", [1, 2, 5])
def test_twonn_finds_the_dimension_of_a_cube_in_a_wider_space(dimensions):
    assert twonn(cube(dimensions)) == pytest.approx(dimensions, rel=0.08)


@pytest.mark.parametrize("dimensions", [1, 2, 4])
def test_twonn_finds_the_dimension_of_a_sphere(dimensions):
    points = torch.randn(2000, dimensions + 1, generator=torch.Generator().manual_seed(1))
    assert twonn(points / points.norm(dim=1, keepdim=True)) == pytest.approx(dimensions, rel=0.08)


def test_twonn_counts_equal_rows_once():
    points = cube(3, examples=500).float()
    doubled = torch.cat([points, points[:200], points[:50], points[:1].repeat(30, 1)])
    assert twonn(doubled) == pytest.approx(twonn(points), rel=1e-12)
    signed = torch.tensor([[0.0, 1.0], [-0.0, 1.0]]).repeat(50, 1)
    assert twonn(torch.cat([signed, cube(2, 100, 2).float()])) is not None


def test_twonn_with_near_duplicates_is_a_number_and_little_lower_while_they_are_few():
    points = cube(4, examples=4000).float()
    estimates = [twonn(torch.cat([points, points[:pairs] + 1e-6])) for pairs in (0, 40, 80, 4000)]
    assert estimates == sorted(estimates, reverse=True)
    assert estimates[1] == pytest.approx(estimates[0], rel=0.06)
    assert estimates[3] > 0


def test_twonn_equals_the_definition_on_neighbours_found_by_scikit_learn():
    features, _ = clusters(classes=4, each=150, width=10)
    mu = np.sort(np.divide(*neighbours_by_sklearn(features).numpy().T[::-1]))
    n = len(mu)
    kept = int(n * 0.9)
    x, y = np.log(mu[:kept]), -np.log(1 - np.arange(1, kept + 1) / n)
    assert twonn(features) == pytest.approx(np.linalg.lstsq(x[:, None], y, rcond=None)[0][0], rel=1e-9)


@pytest.mark.parametrize("spread", [1.0, 1e-3, 1e-5, 1e-6])
def test_two_nearest_is_exact_however_tight_and_far_the_clusters(spread):
    features, _ = clusters(classes=5, each=60, width=30, spread=spread)
    features = torch.unique(100 * features + 1000, dim=0)
    torch.testing.assert_close(two_nearest(features), neighbours_by_sklearn(features), rtol=1e-9, atol=0)


def test_two_nearest_needs_its_check_in_double_precision(monkeypatch):
    features = torch.unique(100 * clusters(classes=3, each=80, width=30, spread=1e-5)[0], dim=0)
    exact = neighbours_by_sklearn(features)
    search = dimension._search
    monkeypatch.setattr(
        dimension, "_search", lambda *a: (search(*a)[0], torch.ones(len(a[2]), dtype=torch.bool))
    )
    assert not torch.allclose(
        two_nearest(features), exact, rtol=1e-3
    )  # a float32 product alone is wrong here


def test_two_nearest_survives_one_row_far_from_all_others():
    features = torch.cat([cube(3, examples=200).float(), torch.full((1, 20), 1e25)])
    nearest = two_nearest(features)
    torch.testing.assert_close(nearest[:-1], two_nearest(features[:-1]), rtol=1e-9, atol=0)


def test_two_nearest_does_not_depend_on_blocks(monkeypatch):
    features, _ = clusters()
    whole = two_nearest(features)
    monkeypatch.setattr(dimension, "QUERY_ROWS", 17)
    torch.testing.assert_close(two_nearest(features), whole, rtol=1e-12, atol=0)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_twonn_ignores_extreme_scales_of_float32(scale):
    points = cube(3, examples=300).float()
    assert twonn(points * scale) == pytest.approx(twonn(points), rel=1e-4)


def test_twonn_has_no_value_for_few_rows_or_a_lattice():
    assert twonn(torch.randn(9, 4)) is None
    assert twonn(torch.ones(100, 4)) is None
    assert twonn(torch.randn(5, 4).repeat(20, 1)) is None
    lattice = torch.cartesian_prod(torch.arange(8.0), torch.arange(8.0))
    assert twonn(lattice) is None


def test_twonn_refuses_a_discard_that_is_no_share():
    with pytest.raises(ValueError, match="from 0 to below 1; got 1"):
        twonn(torch.randn(20, 2), discard=1)
