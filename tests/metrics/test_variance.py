import numpy as np
import pytest
import torch
from planted_features import clusters

from tunnelscope.metrics import between_variance, class_moments, variance_ratio, within_variance


def test_variances_equal_their_formulas_in_numpy():
    features, labels = clusters()
    x, y = features.double().numpy(), labels.numpy()
    within = between = 0.0
    for c in np.unique(y):
        rows = x[y == c]
        within += ((rows - rows.mean(0)) ** 2).sum() / len(x)
        between += len(rows) * ((rows.mean(0) - x.mean(0)) ** 2).sum() / len(x)
    assert within_variance(features, labels) == pytest.approx(within, rel=1e-10)
    assert between_variance(features, labels) == pytest.approx(between, rel=1e-10)
    assert variance_ratio(features, labels) == pytest.approx(within / between, rel=1e-10)


@pytest.mark.parametrize("offset", [0, 1e4])
def test_variances_add_up_to_the_trace_of_the_covariance(offset):
    features, labels = clusters()
    features = features + offset
    total = torch.cov(features.double().T, correction=0).trace().item()
    assert within_variance(features, labels) + between_variance(features, labels) == pytest.approx(
        total, rel=1e-9
    )


def test_variances_find_planted_spreads():
    features = torch.tensor([[0.0], [2.0], [10.0], [12.0]])  # means 1 and 11, spread 1, distance to 6: 5
    labels = torch.tensor([0, 0, 1, 1])
    assert within_variance(features, labels) == 1
    assert between_variance(features, labels) == 25
    assert variance_ratio(features, labels) == pytest.approx(1 / 25)


def test_class_moments_leave_out_classes_without_rows():
    features, labels = clusters(classes=3)
    moments = class_moments(features, 10 * labels + 5)
    assert moments.classes.tolist() == [5, 15, 25]
    assert moments.counts.tolist() == [(labels == c).sum() for c in range(3)]
    expected = torch.stack([features[labels == c].double().mean(dim=0) for c in range(3)])
    torch.testing.assert_close(moments.means, expected, rtol=1e-12, atol=1e-12)


def test_variance_ratio_has_no_value_when_class_means_coincide():
    features = torch.tensor([[0.1], [0.3], [0.1], [0.3]])
    assert variance_ratio(features, torch.tensor([0, 0, 1, 1])) is None
    assert variance_ratio(features, torch.zeros(4, dtype=torch.int64)) is None
    assert variance_ratio(torch.full((4, 3), 0.1), torch.tensor([0, 1, 1, 2])) is None


def test_class_moments_name_a_label_too_few():
    with pytest.raises(ValueError, match=r"labels must be \(4,\), one per row of features; got \(3,\)"):
        class_moments(torch.ones(4, 2), torch.zeros(3, dtype=torch.int64))
