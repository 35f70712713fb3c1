"""The rows a layer is chosen by: unseen by the probe, and enough of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import AWKWARD
from planted import planted as awkward
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from tunnelscope.linalg.standardise import measure
from tunnelscope.probes import choice_protocol, choice_scores, fit_probe, probe
from tunnelscope.probes.choice import recipe_choices, stratified_parts
from tunnelscope.probes.ridge import predict_parts
from tunnelscope.probes.rows import Rows


def planted(rows, width=6, classes=4, seed=0):
    draws = np.random.default_rng(seed)
    labels = draws.integers(classes, size=rows)
    centres = draws.normal(size=(classes, width))
    return torch.tensor(centres[labels] + draws.normal(size=(rows, width))).float(), torch.tensor(labels)


def test_parts_spread_classes_evenly_and_are_reproducible():
    labels = torch.tensor([0] * 55 + [1] * 32 + [2])
    parts = stratified_parts(labels, seed=0)
    assert parts[-1] == -1  # a class of one row cannot be both learnt and judged
    counts = torch.stack([torch.bincount(parts[labels == label], minlength=10) for label in (0, 1)])
    assert ((counts.max(dim=1).values - counts.min(dim=1).values) <= 1).all()
    assert counts.sum(dim=0).max() - counts.sum(dim=0).min() <= 1
    assert torch.equal(parts, stratified_parts(labels, seed=0))
    assert not torch.equal(parts, stratified_parts(labels, seed=1))


def test_every_row_of_a_small_set_is_judged_by_a_probe_that_did_not_see_it():
    features, labels = planted(200)
    fitted = probe(features, labels, protocol="ridge")
    accuracy = choice_scores(features, labels, fitted).score
    parts = stratified_parts(labels, fitted.seed).numpy()
    right, scaled = [], StandardScaler().fit_transform(features)
    for part in range(10):
        fit, judge = parts != part, parts == part
        ridge = Ridge(alpha=fitted.penalty * fit.sum()).fit(scaled[fit], np.eye(4)[labels[fit]])
        right.extend(ridge.predict(scaled[judge]).argmax(axis=1) == labels[judge].numpy())
    assert accuracy == pytest.approx(np.mean(right))
    assert accuracy < fitted.score(features, labels)


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(AWKWARD),
    st.integers(0, 1000),
    st.sampled_from([1e-4, 1e-2, 1.0]),
    st.integers(2, 10),
)
def test_parts_of_a_ridge_probe_are_predicted_as_fits_without_them_do(kind, seed, penalty, count):
    features, labels = awkward(kind, n=80, seed=seed)
    classes = int(labels.max()) + 1
    rows = Rows(features, labels, tuple(map(str, range(classes))))
    parts = torch.arange(len(labels)) % count
    parts[:3] = -1  # in every fit
    scaling = measure(features)
    standardised = scaling.apply(features).numpy()
    for part, (held, outputs) in enumerate(predict_parts(rows, parts, penalty, scaling)):
        assert held.tolist() == (parts == part).nonzero().flatten().tolist()
        fit = (parts != part).numpy()
        plain = Ridge(alpha=penalty * fit.sum(), solver="svd").fit(
            standardised[fit], np.eye(classes)[labels[fit]]
        )
        seen = np.unique(labels[fit])
        wanted = plain.predict(standardised[~fit])[:, seen]
        np.testing.assert_allclose(outputs[:, seen], wanted, rtol=1e-5, atol=1e-6)
        absent = np.setdiff1d(np.arange(classes), seen)
        assert torch.isneginf(outputs[:, absent]).all()


def test_random_labels_are_at_chance_though_the_training_rows_fit():
    draws = torch.Generator().manual_seed(0)
    features, labels = torch.randn(300, 250, generator=draws), torch.randint(2, (300,), generator=draws)
    fitted = probe(features, labels, tolerance=1e-2)
    scores = choice_scores(features, labels, fitted)
    assert 0.4 < scores.score < 0.6
    assert scores.loss > 0.6


@pytest.mark.parametrize(
    ("protocol", "tolerance", "name"),
    [
        ("exact", 1e-3, "choice/v1, 10 parts, with exact/v2, tolerance 0.03"),
        ("exact", 0.1, "choice/v1, 10 parts, with exact/v2, tolerance 0.1"),
        ("knn", 1e-3, "choice/v1, 10 parts, with knn/v1"),
    ],
)
def test_the_choice_names_its_protocol_and_tolerance(protocol, tolerance, name):
    fitted = probe(*planted(200), protocol=protocol, tolerance=tolerance)
    assert choice_protocol(fitted) == name


@pytest.mark.parametrize("protocol", ["masarczyk2023", "harun2024"])
def test_layers_of_a_recipe_are_judged_side_by_side_as_one_by_one(protocol):
    features = {f"layer {seed}": planted(120, seed=seed)[0] for seed in range(3)}
    features["wide"] = planted(120, width=9)[0]
    labels = planted(120)[1]
    fitted = probe(features, labels, protocol=protocol)
    together = recipe_choices(features, labels, fitted)
    parts = stratified_parts(labels, seed=0)
    for name, layer in features.items():
        right = torch.zeros(120, dtype=torch.bool)
        for part in range(10):
            fit, judged = parts != part, parts == part
            alone = fit_probe(layer[fit], labels[fit], protocol=protocol, classes=4)
            right[judged] = alone.predict(layer[judged]) == labels[judged]
        assert torch.equal(together[name].credits, right)
        assert torch.equal(choice_scores(layer, labels, fitted[name]).credits, right)
        assert torch.equal(together[name].rows, torch.arange(120))


def test_a_large_set_is_judged_by_its_one_part():
    features, labels = planted(10_000)
    fitted = probe(features, labels, protocol="ridge")
    scores = choice_scores(features, labels, fitted)
    assert (scores.score, scores.loss) == (fitted.heldout_accuracy, fitted.heldout_loss)
    assert len(scores.credits) == 1000
    assert choice_protocol(fitted) == "choice/v1, one part, with ridge/v1"


def test_a_probe_whose_penalty_was_given_is_judged_too():
    for rows, judged in ((200, 200), (10_000, 1000)):
        features, labels = planted(rows)
        fitted = probe(features, labels, penalty=0.01)
        scores = choice_scores(features, labels, fitted)
        assert fitted.heldout_right is None
        assert len(scores.credits) == len(scores.rows) == judged
        assert 0.5 < scores.score < 1


def test_smoothed_probes_are_judged_by_smoothed_fits():
    features, labels = planted(300)
    smooth = fit_probe(features, labels, smoothing=0.3)
    plain = fit_probe(features, labels, penalty=smooth.penalty)
    told = [choice_scores(features, labels, one).loss for one in (smooth, plain)]
    assert told[0] > 1.05 * told[1]  # smoothing costs likelihood where it is judged too


def test_a_judge_that_missed_its_tolerance_is_told(monkeypatch):
    features, labels = planted(300)
    probe = fit_probe(features, labels, penalty=0.01)
    assert choice_scores(features, labels, probe).converged
    fitted = [0]

    def one_missed(*arguments, **settings):
        fitted[0] += 1
        return replace(fit_probe(*arguments, **settings), converged=fitted[0] != 4)

    monkeypatch.setattr("tunnelscope.probes.choice.fit_probe", one_missed)
    assert not choice_scores(features, labels, probe).converged
