"""Which classes and rows are taken, for any labels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunnelscope.data.query import choose_classes, parse_query
from tunnelscope.data.rows import balanced_rows, first_rows, split_rows
from tunnelscope.errors import RequestError

labels_of_any_kind = st.lists(st.integers(0, 6), min_size=1, max_size=120).map(np.array)
class_names = st.lists(st.text("abc-,%&=0 é", min_size=1, max_size=6), min_size=2, max_size=8, unique=True)


@settings(max_examples=100, deadline=None)
@given(labels=labels_of_any_kind, seed=st.integers(0, 2**40))
def test_a_split_takes_a_fifth_of_each_class(labels, seed):
    train, test = split_rows(labels, seed)
    assert sorted([*train, *test]) == list(range(len(labels)))
    assert (np.diff(train) > 0).all()
    assert (np.diff(test) > 0).all()
    for label in np.unique(labels):
        count = (labels == label).sum()
        expected = 0 if count == 1 else max(1, round(count / 5))
        assert (labels[test] == label).sum() == expected
    again, _ = split_rows(labels, seed)
    assert np.array_equal(train, again)


def test_the_seed_decides_which_rows_are_test():
    labels = np.zeros(50, dtype=np.int64)
    assert not np.array_equal(split_rows(labels, 0)[1], split_rows(labels, 1)[1])
    assert not np.array_equal(split_rows(labels, 0)[1], split_rows(labels + 1, 0)[1])


@settings(max_examples=100, deadline=None)
@given(labels=labels_of_any_kind, count=st.integers(1, 150), seed=st.integers(0, 9))
def test_balanced_rows_are_as_even_as_classes_allow(labels, count, seed):
    rows = balanced_rows(labels, count, seed)
    assert len(rows) == min(count, len(labels))
    assert (np.diff(rows) > 0).all()
    have = np.bincount(labels, minlength=7)
    taken = np.bincount(labels[rows], minlength=7)
    most = taken.max()
    for size, take in zip(have, taken, strict=True):
        assert take == size or take >= most - 1


@settings(max_examples=50, deadline=None)
@given(labels=labels_of_any_kind, count=st.integers(1, 30))
def test_first_rows_are_the_first(labels, count):
    rows = first_rows(labels, count).tolist()
    expected = [row for row in range(len(labels)) if (labels[:row] == labels[row]).sum() < count]
    assert rows == expected


@settings(max_examples=150, deadline=None)
@given(names=class_names, chosen=st.lists(st.integers(0, 7), min_size=1, max_size=5))
def test_every_name_can_be_chosen_from_a_query(names, chosen):
    from urllib.parse import quote

    names = [name for name in names if name.strip() == name] or ["a"]
    wanted = [index % len(names) for index in chosen]
    text = ",".join(quote(names[index], safe="") for index in wanted)
    options = parse_query(f"classes={text}", "set")
    assert choose_classes(options.classes, names, "set") == sorted(set(wanted))


@settings(max_examples=100, deadline=None)
@given(spans=st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), min_size=1, max_size=4))
def test_numbers_and_ranges_mean_class_numbers(spans):
    names = [f"class {letter}" for letter in "abcdefghijklmnopqrst"]
    spans = [tuple(sorted(span)) for span in spans]
    tokens = [f"{low}-{high}" if low < high else str(low) for low, high in spans]
    expected = sorted({index for low, high in spans for index in range(low, high + 1)})
    assert choose_classes(tokens, names, "set") == expected


def test_where_names_are_numbers_numbers_mean_names():
    names = ["0", "1", "10", "11", "2"]  # folders in the order of their names
    assert choose_classes(["0-2"], names, "set") == [0, 1, 4]
    assert choose_classes(["10"], names, "set") == [2]
    with pytest.raises(RequestError, match="no class 5 in set; its classes are numbered 0 to 11"):
        choose_classes(["5"], names, "set")


@settings(max_examples=150, deadline=None)
@given(token=st.text(max_size=12))
def test_any_other_class_is_refused_in_one_line(token):
    names = ["aeroplane", "t-shirt"]
    if token in (*names, "0", "1", "0-1", "0-0", "1-1"):
        return
    with pytest.raises(RequestError, match="class") as caught:
        choose_classes([token], names, "set")
    assert "\n" not in str(caught.value)
