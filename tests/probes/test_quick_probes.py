import numpy as np
import pytest
import torch
from planted import AWKWARD, planted, standardised
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from tunnelscope.errors import RequestError
from tunnelscope.linalg.standardise import Standardisation, measure
from tunnelscope.probes import fit_probe
from tunnelscope.probes.heldout import heldout_rows
from tunnelscope.probes.knn import nearest_rows
from tunnelscope.probes.ridge import PENALTIES


@pytest.mark.parametrize("kind", AWKWARD)
def test_ridge_is_that_of_scikit_learn(kind):
    features, labels = planted(kind)
    probe = fit_probe(features, labels, protocol="ridge", penalty=0.03)
    targets = np.eye(int(labels.max()) + 1)[labels.numpy()]
    rows = standardised(features)
    model = Ridge(alpha=0.03 * len(labels)).fit(rows, targets)
    assert np.allclose(probe.weights.numpy(), model.coef_, atol=1e-5)
    assert np.allclose(probe.logits(features).numpy(), model.predict(rows), atol=1e-4)


def test_ridge_with_next_to_no_penalty_fits_columns_that_repeat_others():
    features, labels = planted("duplicated", n=300)
    probe = fit_probe(features, labels, protocol="ridge", penalty=1e-20)
    plain = fit_probe(features, labels, protocol="ridge", penalty=1e-9)
    torch.testing.assert_close(probe.logits(features), plain.logits(features), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", ["plain", "unbalanced", "wide", "duplicated"])
def test_ridge_takes_the_penalty_with_the_least_error_on_held_out_rows(kind):
    features, labels = planted(kind, spread=0.5)
    probe = fit_probe(features, labels, protocol="ridge", seed=4)
    rows, targets = standardised(features), np.eye(int(labels.max()) + 1)[labels.numpy()]
    fit, heldout = (part.numpy() for part in heldout_rows(labels, 4))
    errors, accuracies = [], []
    for penalty in PENALTIES:
        model = Ridge(alpha=penalty * len(fit)).fit(rows[fit], targets[fit])
        outputs = model.predict(rows[heldout])
        errors.append(((outputs - targets[heldout]) ** 2).sum())
        accuracies.append((outputs.argmax(axis=1) == labels.numpy()[heldout]).mean())
    assert probe.penalty == PENALTIES[int(np.argmin(errors))]
    assert probe.heldout_accuracy == pytest.approx(accuracies[int(np.argmin(errors))])


def test_ridge_never_predicts_a_class_without_rows():
    features, labels = planted()
    probe = fit_probe(features, labels * 2, protocol="ridge", classes=8)
    assert set(probe.predict(features).tolist()) <= {0, 2, 4, 6}
    assert np.isfinite(probe.heldout_loss)


@pytest.mark.parametrize("kind", AWKWARD)
def test_neighbours_are_those_of_a_float64_search(kind):
    features = planted(kind, n=500, dtype=torch.float32)[0]
    queries = planted(kind, n=200, seed=1, dtype=torch.float32)[0]
    scaling = measure(features)
    found = nearest_rows(features, queries, scaling, 7)
    rows, asked = scaling.apply(features).numpy(), scaling.apply(queries).numpy()
    distances, expected = NearestNeighbors(n_neighbors=7, algorithm="brute").fit(rows).kneighbors(asked)
    ours = np.linalg.norm(rows[found.numpy()] - asked[:, None], axis=2)
    assert np.allclose(ours, distances, rtol=1e-6, atol=1e-7)
    assert (found.numpy() == expected).mean() > 0.99 or kind == "wide"


def test_near_ties_far_below_float32_are_ordered_in_float64():
    offsets = torch.arange(200, dtype=torch.float64).flip(0) * 1e-9
    examples = torch.cat(
        [torch.full((200, 1), 3.0, dtype=torch.float64) + offsets[:, None], -torch.ones(50, 1)]
    )
    unit = Standardisation(torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
    found = nearest_rows(examples, torch.tensor([[2.0]], dtype=torch.float64), unit, 5)
    assert found.tolist() == [[199, 198, 197, 196, 195]]


def test_equal_rows_come_in_their_order():
    examples = torch.cat([torch.zeros(60, 2), torch.ones(60, 2)])
    unit = Standardisation(torch.zeros(2).double(), torch.ones(2).double())
    assert nearest_rows(examples, torch.ones(1, 2), unit, 4).tolist() == [[60, 61, 62, 63]]


def test_knn_votes_as_scikit_learn_does():
    features, labels = planted(n=600, spread=0.4)
    queries = planted(n=300, seed=0, spread=0.4)[0] + 0.1
    probe = fit_probe(features, labels, protocol="knn")
    assert probe.neighbours == 20
    scaling = measure(features)
    model = KNeighborsClassifier(20).fit(scaling.apply(features).numpy(), labels)
    asked = scaling.apply(queries).numpy()
    shares = model.predict_proba(asked)
    assert np.allclose(probe.predict_proba(queries).numpy(), shares, atol=1e-6)
    clear = np.sort(shares, axis=1)[:, -1] > np.sort(shares, axis=1)[:, -2]
    assert clear.sum() > 200
    assert (probe.predict(queries).numpy() == model.predict(asked))[clear].all()


def test_a_tied_vote_goes_to_the_class_with_the_nearest_row():
    features = torch.tensor([[0.0], [1.0], [2.0], [3.0], [50.0], [51.0], [52.0], [53.0]])
    labels = torch.tensor([1, 0, 0, 1, 2, 2, 2, 2])
    probe = fit_probe(features, labels, protocol="knn")
    assert probe.neighbours == 2
    assert probe.predict(torch.tensor([[0.4], [0.6], [2.6]])).tolist() == [1, 0, 1]


def test_knn_held_out_accuracy_leaves_the_held_out_rows_out():
    labels = torch.randint(0, 2, (400,), generator=torch.Generator().manual_seed(0))
    features = torch.randn(400, 5, generator=torch.Generator().manual_seed(1))
    probe = fit_probe(features, labels, protocol="knn")
    assert 0.25 < probe.heldout_accuracy < 0.75


@pytest.mark.parametrize("protocol", ["knn", "harun2024", "masarczyk2023"])
def test_a_penalty_for_a_protocol_without_one_is_refused(protocol):
    with pytest.raises(RequestError, match="has no penalty"):
        fit_probe(*planted(), protocol=protocol, penalty=0.1)
