import numpy as np
import pytest
import torch
from planted_features import clusters, simplex

from tunnelscope.metrics import neural_collapse


def collapse_in_numpy(x, y, w, b):
    """The definitions, written out with d × d matrices and every pair."""
    classes = np.unique(y)
    w, b, c = w[classes], b[classes], len(classes)
    means = np.stack([x[y == k].mean(0) for k in classes])
    centre = means.mean(0)
    m = means - centre
    residuals = np.concatenate([x[y == k] - x[y == k].mean(0) for k in classes])
    sigma_w = residuals.T @ residuals / len(x)
    sigma_b = m.T @ m / c
    lengths = np.linalg.norm(m, axis=1)
    cosines = np.array([m[i] @ m[j] / lengths[i] / lengths[j] for i in range(c) for j in range(c) if i != j])
    target = (np.eye(c) - 1 / c) / np.sqrt(c - 1)
    nearest = np.array([np.linalg.norm(row - means, axis=1).argmin() for row in x])
    return {
        "nc1": np.trace(sigma_w @ np.linalg.pinv(sigma_b, rcond=1e-10, hermitian=True)) / c,
        "nc2": np.abs(cosines + 1 / (c - 1)).mean(),
        "nc2_equinorm": lengths.std() / lengths.mean(),
        "nc2_equiangularity": cosines.std(),
        "nc3": np.linalg.norm(w.T / np.linalg.norm(w) - m.T / np.linalg.norm(m)),
        "nc4": ((x @ w.T + b).argmax(1) != nearest).mean(),
        "nc2_harun": np.linalg.norm(w @ w.T / np.linalg.norm(w @ w.T) - target),
        "nc3_harun": np.linalg.norm(w @ m.T / np.linalg.norm(w @ m.T) - target),
        "nc4_harun": np.linalg.norm(w @ centre + b),
    }


@pytest.mark.parametrize(("classes", "width"), [(5, 12), (2, 6), (4, 90), (12, 5)])
def test_neural_collapse_equals_its_formulas_in_numpy(classes, width):
    features, labels = clusters(classes, each=12, width=width, seed=classes)
    generator = torch.Generator().manual_seed(4)
    weights, bias = (
        torch.randn(classes, width, generator=generator),
        torch.randn(classes, generator=generator),
    )
    ours = neural_collapse(features, labels, weights, bias)
    expected = collapse_in_numpy(
        *(
            t.double().numpy() if t.is_floating_point() else t.numpy()
            for t in (features, labels, weights, bias)
        )
    )
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        assert ours[name] == pytest.approx(value, rel=1e-8, abs=1e-12), name


def test_a_fully_collapsed_layer_has_every_measure_at_zero():
    means = simplex(classes=10, width=32)
    labels = torch.arange(10).repeat(20)
    values = neural_collapse(means[labels], labels, 3 * means, torch.zeros(10))
    for name, value in values.items():
        assert value == pytest.approx(0, abs=1e-7), name


def test_nc1_falls_with_the_square_of_the_spread_inside_classes():
    means = simplex(classes=6, width=20)
    labels = torch.arange(6).repeat(50)
    noise = torch.randn(300, 20, generator=torch.Generator().manual_seed(1)).double()
    nc1 = [neural_collapse(means[labels] + spread * noise, labels)["nc1"] for spread in (1e-1, 1e-3, 1e-5)]
    assert nc1[0] / nc1[2] == pytest.approx(1e8, rel=0.1)
    assert nc1[2] < 1e-8


def test_nc1_of_isotropic_noise_around_a_simplex_is_known():
    classes, noise_variance = 5, 0.04
    means = simplex(classes, width=8)  # between-class eigenvalues 1/(C-1), C - 1 of them
    labels = torch.arange(classes).repeat(20_000)
    noise = torch.randn(len(labels), 8, generator=torch.Generator().manual_seed(2)).double()
    nc1 = neural_collapse(means[labels] + noise_variance**0.5 * noise, labels)["nc1"]
    assert nc1 == pytest.approx(noise_variance * (classes - 1) ** 2 / classes, rel=0.02)


def test_nc2_sees_unequal_lengths_and_unequal_angles_apart():
    square = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])  # equal lengths, angles 90 and 180 degrees
    values = neural_collapse(square, torch.arange(4))
    assert values["nc2_equinorm"] == pytest.approx(0, abs=1e-12)
    assert values["nc2"] == pytest.approx((4 * 1 / 3 + 2 * 2 / 3) / 6)
    assert values["nc2_equiangularity"] == pytest.approx(np.std([0, 0, 0, 0, -1, -1]))


def test_nc4_counts_rows_where_the_probe_leaves_the_nearest_mean():
    features = torch.tensor([[-1.0], [-0.9], [-0.2], [1.0], [0.9], [0.2]])  # means -0.7 and 0.7
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    weights = torch.tensor([[-1.0], [1.0]])
    assert neural_collapse(features, labels, weights, torch.zeros(2))["nc4"] == 0
    shifted = torch.tensor([0.0, 1.0])  # the border moves to -0.5
    assert neural_collapse(features, labels, weights, shifted)["nc4"] == pytest.approx(1 / 6)


def test_classes_without_rows_are_left_out_of_the_classifier_too():
    features, labels = clusters(classes=3)
    weights, bias = torch.randn(6, 12, generator=torch.Generator().manual_seed(0)), torch.zeros(6)
    bias[[0, 2, 4]] = -torch.inf  # what a probe gives a class that it never saw
    present = torch.tensor([1, 3, 5])
    assert neural_collapse(features, present[labels], weights, bias) == neural_collapse(
        features, labels, weights[present], bias[present]
    )


def test_without_a_classifier_only_the_geometry_has_values():
    features, labels = clusters()
    values = neural_collapse(features, labels)
    assert [name for name, value in values.items() if value is not None] == [
        "nc1", "nc2", "nc2_equinorm", "nc2_equiangularity",
    ]  # fmt: skip


@pytest.mark.parametrize("labels", [torch.zeros(6, dtype=torch.int64), torch.tensor([0, 1, 0, 1, 0, 1])])
def test_one_class_or_coinciding_means_have_no_values(labels):
    features = torch.tensor([0.1, 0.1, 0.3, 0.3, 0.7, 0.7])[:, None]
    assert set(neural_collapse(features, labels, torch.ones(2, 1), torch.zeros(2)).values()) == {None}


def test_a_class_mean_at_the_centre_has_no_angle():
    values = neural_collapse(torch.tensor([[-1.0], [0.0], [1.0]]), torch.arange(3))
    assert values["nc2"] is None
    assert values["nc2_equinorm"] == pytest.approx(np.std([1, 0, 1]) / (2 / 3))


def test_a_classifier_that_does_not_fit_is_named():
    features, labels = clusters(classes=3)
    with pytest.raises(
        ValueError, match=r"weights must be \(classes, 12\) and bias \(classes,\); got \(3, 5\)"
    ):
        neural_collapse(features, labels, torch.ones(3, 5), torch.ones(3))
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.1, the rows of weights; found up to 2"):
        neural_collapse(features, labels, torch.ones(2, 12), torch.ones(2))
    with pytest.raises(ValueError, match="weights or bias are not finite"):
        neural_collapse(features, labels, torch.full((3, 12), torch.nan), torch.ones(3))
