"""Classes that are missing somewhere: a probe that can still be fitted is, with a warning that names them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_images import NAMES, TRAIN, write_folders, write_parquet

from tunnelscope.data import load_data
from tunnelscope.data.rows import split_groups
from tunnelscope.errors import RequestError


def write_set(folder, train, test):
    write_parquet(folder / "train.parquet", train, names=NAMES)
    write_parquet(folder / "test.parquet", test, names=NAMES)
    return str(folder)


@pytest.mark.parametrize(
    ("train", "test", "warnings"),
    [
        (TRAIN, [0, 1, 2], []),
        (TRAIN, [0, 2], ["1 of 3 classes (dog) are without test rows, accuracies say nothing of them"]),
        (
            [0, 1] * 4,
            [0, 1, 2],
            ["1 of 3 classes (t-shirt) are without training rows, so all their test rows count as errors"],
        ),
        ([0, 1] * 4, [0, 1], ["1 of 3 classes (t-shirt) are without any rows, though chance counts them"]),
    ],
)
def test_classes_absent_from_a_split_are_named(tmp_path, train, test, warnings):
    assert load_data(write_set(tmp_path / "s", train, test)).warnings == tuple(warnings)


def test_splits_that_share_no_class_are_refused(tmp_path):
    write_folders(tmp_path / "s" / "train", {"ant": 3, "bee": 3})
    write_folders(tmp_path / "s" / "test", {"cow": 3})
    with pytest.raises(RequestError, match="s: no class has both training and test rows; choose splits"):
        load_data(str(tmp_path / "s"))


def test_many_absent_classes_are_counted_and_some_named(tmp_path):
    write_folders(tmp_path / "s" / "train", {f"c{number}": 2 for number in range(9)})
    write_folders(tmp_path / "s" / "test", {"c0": 1})
    [warning] = load_data(str(tmp_path / "s")).warnings
    assert warning.startswith("8 of 9 classes (c1, c2, c3, c4, c5, …) are without test rows")


def test_a_set_cut_by_the_rule_warns(tmp_path):
    data = load_data(str(write_folders(tmp_path / "s", {"ant": 5, "bee": 1})))
    assert data.warnings == (
        "no test split: 20 % of each class, seed 0; accuracies are read on that part, "
        "not on an official test split",
        "1 of 2 classes (bee) are without test rows, accuracies say nothing of them",
    )
    assert load_data(data, max_samples=2).warnings[:1] == data.warnings[:1]


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({"ant": 5}, "ant is the only class in the training rows; a probe needs at least 2"),
        ({"ant": 5, "bee": 0}, "ant is the only class in the training rows"),
        ({"ant": 1, "bee": 1, "cow": 1}, "the test split is empty, each class has a single row; give more"),
        ({"ant": 0, "bee": 0}, "neither parquet files, class folders of images nor tar shards"),
    ],
)
def test_too_few_classes_or_images_are_one_line(tmp_path, counts, words):
    with pytest.raises(RequestError, match=words) as caught:
        load_data(str(write_folders(tmp_path / "s", counts)))
    assert "\n" not in str(caught.value)


def test_fewer_rows_than_classes_warn(tmp_path):
    write_folders(tmp_path / "s" / "train", {f"c{number}": 4 for number in range(6)})
    write_folders(tmp_path / "s" / "test", {f"c{number}": 4 for number in range(6)})
    for data in (
        load_data(f"{tmp_path}/s?max_samples=4"),
        load_data(load_data(f"{tmp_path}/s"), max_samples=4),
    ):
        assert len(np.unique(data.train.labels)) == 4
        assert any("2 of 6 classes" in warning for warning in data.warnings)


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), min_size=1, max_size=60),
    seed=st.integers(0, 3),
)
def test_groups_are_on_one_side_and_no_class_is_lost(rows, seed):
    labels, groups = np.array(rows, dtype=np.int64).T
    train, test = split_groups(labels, groups, seed)
    assert sorted([*train, *test]) == list(range(len(rows)))
    assert not set(groups[train]) & set(groups[test])
    assert set(labels[train]) == set(labels)
    again = split_groups(labels, groups, seed)
    assert np.array_equal(again[1], test)
    pure = {label for label in labels if len(set(groups[labels == label])) > 1}
    for label in pure:  # a class of two groups or more, none shared with another class, has test rows
        if not set(groups[labels == label]) & set(groups[labels != label]):
            assert label in labels[test]


def test_groups_give_about_a_fifth_of_each_class():
    draws = np.random.default_rng(0)
    groups = np.repeat(np.arange(300), draws.integers(1, 9, 300))
    labels = draws.integers(0, 5, len(groups))
    test = split_groups(labels, groups, 0)[1]
    shares = np.bincount(labels[test], minlength=5) / np.bincount(labels)
    assert np.abs(shares - 0.2).max() < 0.03
    assert not np.array_equal(test, split_groups(labels, groups, 1)[1])
