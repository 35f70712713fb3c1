import pytest
import torch

from tunnelscope.probes import heldout_rows
from tunnelscope.randomness import named_generator


def labels_of(counts):
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]


def test_the_two_parts_make_up_all_rows():
    fit, heldout = heldout_rows(labels_of([50, 30, 20]), seed=0)
    assert sorted(fit.tolist() + heldout.tolist()) == list(range(100))
    assert len(heldout) == 10


def test_each_class_gives_its_share():
    labels = labels_of([500, 300, 200])
    _, heldout = heldout_rows(labels, seed=0)
    assert torch.bincount(labels[heldout]).tolist() == [50, 30, 20]


def test_quotas_of_many_small_classes_still_add_up():
    labels = labels_of([4] * 50)
    fit, heldout = heldout_rows(labels, seed=0)
    assert len(heldout) == 20
    assert torch.bincount(labels[heldout]).max() == 1
    assert torch.bincount(labels[fit], minlength=50).min() >= 3


def test_a_class_keeps_a_row_to_fit_on():
    labels = labels_of([1, 1, 1, 40])
    fit, heldout = heldout_rows(labels, seed=0, share=0.9)
    assert set(labels[fit].tolist()) == {0, 1, 2, 3}
    assert set(labels[heldout].tolist()) == {3}


def test_nothing_is_held_out_of_single_rows():
    fit, heldout = heldout_rows(torch.arange(5), seed=0)
    assert len(heldout) == 0
    assert len(fit) == 5


def test_at_most_so_many():
    assert len(heldout_rows(labels_of([300, 300]), seed=0, most=11).heldout) == 11


def test_the_same_seed_holds_out_the_same_rows_and_another_seed_others():
    labels = labels_of([100, 100])
    assert torch.equal(heldout_rows(labels, 1).heldout, heldout_rows(labels, 1).heldout)
    assert not torch.equal(heldout_rows(labels, 1).heldout, heldout_rows(labels, 2).heldout)


def test_rows_in_class_order_are_drawn_from_all_of_a_class():
    labels = torch.repeat_interleave(torch.arange(2), 1000)
    heldout = heldout_rows(labels, seed=0).heldout
    first = heldout[labels[heldout] == 0].double()
    assert float(first.mean()) == pytest.approx(500, abs=100)


def test_a_generator_depends_on_seed_and_name():
    draws = {
        (seed, name): torch.rand(4, generator=named_generator(seed, name)).tolist()
        for seed in (0, 1)
        for name in ("probe rows", "probe weights")
    }
    assert len({tuple(values) for values in draws.values()}) == 4
    assert draws[0, "probe rows"] == torch.rand(4, generator=named_generator(0, "probe rows")).tolist()
