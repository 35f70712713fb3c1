"""Rows of one group (a patient, a video) are learnt from or judged on, never both."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tunnelscope.errors import RequestError
from tunnelscope.probes import choice_protocol, choice_scores, fit_probe, heldout_rows, probe
from tunnelscope.probes.choice import stratified_parts

ROWS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 12)), min_size=1, max_size=60)


def patients(count=20, rows=24, width=30, seed=0):
    """Two classes that the features do not know; each patient's rows are alike and of one class."""
    draws = np.random.default_rng(seed)
    groups = np.repeat(np.arange(count), rows)
    faces = draws.normal(size=(count, width))
    features = faces[groups] + 0.05 * draws.normal(size=(len(groups), width))
    labels = draws.permutation(np.arange(count) % 2)[groups]
    return torch.tensor(features).float(), torch.tensor(labels), torch.tensor(groups)


@given(ROWS, st.integers(0, 5))
@settings(max_examples=200, deadline=None)
def test_no_group_is_on_both_sides_and_each_class_keeps_a_row(rows, seed):
    labels, groups = torch.tensor(rows).T
    fit, heldout = heldout_rows(labels, seed, groups=groups)
    assert sorted(fit.tolist() + heldout.tolist()) == list(range(len(rows)))
    assert not set(groups[fit].tolist()) & set(groups[heldout].tolist())
    assert set(labels[fit].tolist()) == set(labels.tolist())
    can_be_spared = any(
        set(labels[groups != group].tolist()) == set(labels.tolist()) for group in groups.unique()
    )
    assert (len(heldout) > 0) == can_be_spared
    assert torch.equal(heldout, heldout_rows(labels, seed, groups=groups).heldout)


@given(ROWS, st.integers(0, 5))
@settings(max_examples=200, deadline=None)
def test_each_group_is_in_one_part_and_each_part_leaves_all_classes_to_learn(rows, seed):
    labels, groups = torch.tensor(rows).T
    parts = stratified_parts(labels, seed, groups=groups)
    for group in groups.unique():
        assert len(parts[groups == group].unique()) == 1
    used = parts[parts >= 0].unique().tolist()
    assert used == list(range(len(used)))
    for part in used:
        assert set(labels[parts != part].tolist()) == set(labels.tolist())


def test_a_tenth_of_each_class_is_held_out_and_parts_are_even():
    draws = np.random.default_rng(0)
    groups = torch.tensor(np.repeat(np.arange(300), draws.integers(1, 9, 300)))
    labels = torch.tensor(draws.integers(0, 5, len(groups)))
    held = torch.bincount(labels[heldout_rows(labels, 0, groups=groups).heldout]) / torch.bincount(labels)
    assert ((held > 0.07) & (held < 0.13)).all()
    parts = stratified_parts(labels, 0, groups=groups)
    shares = torch.stack([torch.bincount(labels[parts == part]) for part in range(10)]) / torch.bincount(
        labels
    )
    assert ((shares > 0.05) & (shares < 0.15)).all()


def test_rows_that_are_alike_do_not_judge_each_other():
    features, labels, groups = patients()
    for protocol in ("exact", "ridge", "knn", "harun2024"):
        alone, whole = (
            fit_probe(features, labels, protocol=protocol, groups=one, tolerance=1e-2)
            for one in (None, groups)
        )
        known = choice_scores(features, labels, alone).score
        new = choice_scores(features, labels, whole, groups).score
        assert new < 0.75, protocol  # the labels are drawn at random: a new patient's is at chance
        if protocol in ("exact", "knn"):
            assert known > new + 0.2, protocol


def test_groups_of_one_row_are_no_error_and_no_groups_change_nothing():
    features, labels, _ = patients()
    plain = probe(features, labels)
    assert torch.equal(plain.weights, probe(features, labels, groups=None).weights)
    assert probe(features, labels, groups=np.arange(len(labels))).converged


def test_the_choice_says_that_its_parts_are_whole_groups():
    features, labels, groups = patients()
    fitted = probe(features, labels, protocol="ridge", groups=groups)
    assert choice_protocol(fitted, grouped=True) == "choice/v1, 10 parts of whole groups, with ridge/v1"


@pytest.mark.parametrize("protocol", ["exact", "ridge"])
def test_a_group_for_each_class_leaves_nothing_to_choose_by(protocol):
    features, labels, _ = patients()
    with pytest.raises(RequestError, match="no rows can be held out to choose a penalty"):
        fit_probe(features, labels, protocol=protocol, groups=labels)


@pytest.mark.parametrize(
    ("groups", "message"), [([0.5] * 480, "groups are float"), ([1], "480 rows but 1 gro")]
)
def test_groups_that_do_not_fit_are_refused(groups, message):
    features, labels, _ = patients()
    with pytest.raises(RequestError, match=message):
        fit_probe(features, labels, groups=groups)
