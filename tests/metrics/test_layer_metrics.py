import re

import pytest
import torch
from planted_features import clusters

from tunnelscope.metrics import FAMILIES, METRICS, Family, Metric, layer_metrics

FEATURES, LABELS = clusters(classes=3)
WEIGHTS, BIAS = torch.randn(3, 12, generator=torch.Generator().manual_seed(0)), torch.zeros(3)


def test_layer_metrics_give_every_quantity_of_the_results_table():
    values, notes = layer_metrics(FEATURES, FEATURES, LABELS, WEIGHTS, BIAS)
    assert notes == []
    assert set(values) >= {
        "numerical_rank", "numerical_rank_1e-2", "numerical_rank_1e-4", "effective_rank", "rankme",
        "within_variance", "between_variance", "variance_ratio",
        "nc1", "nc2", "nc3", "nc4", "nc2_harun", "nc4_harun", "twonn",
    }  # fmt: skip
    assert all(type(value) is float for value in values.values())


def test_every_metric_reads_the_rows_it_says():
    test, _ = clusters(classes=8, each=60, seed=9)
    mixed, _ = layer_metrics(test, FEATURES, LABELS, WEIGHTS, BIAS)
    of_test, _ = layer_metrics(test, test, torch.arange(len(test)) % 3, WEIGHTS, BIAS)
    of_train, _ = layer_metrics(FEATURES, FEATURES, LABELS, WEIGHTS, BIAS)
    for name, value in mixed.items():
        from_test = METRICS[name].split == "test"
        assert value == (of_test if from_test else of_train)[name], name
        if name not in ("nc2_harun", "dead_features") and "numerical_rank" not in name:  # equal in both
            assert value != (of_train if from_test else of_test)[name], name


def test_a_probe_without_weights_leaves_its_metrics_empty_and_says_why():
    values, notes = layer_metrics(FEATURES, FEATURES, LABELS)
    empty = [name for name, value in values.items() if value is None]
    assert empty == ["nc3", "nc4", "nc2_harun", "nc3_harun", "nc4_harun"]
    assert len(notes) == 1
    assert notes[0].startswith("nc3, nc4, nc2_harun, nc3_harun, nc4_harun: no value, they compare")
    assert notes[0].endswith("a linear probe's weights, and this probe has none")
    assert "coincide" not in notes[0]


def test_a_family_that_fails_takes_only_its_own_values_along():
    broken = FEATURES.clone()
    broken[3, 4] = torch.inf
    values, notes = layer_metrics(broken, FEATURES, LABELS, WEIGHTS, BIAS)
    empty = {name for name, value in values.items() if value is None}
    assert empty == {*FAMILIES[0].metrics, "twonn"}
    assert len(notes) == 2
    assert notes[0].startswith("rank metrics could not be computed: features hold values that are not finite")


def test_few_rows_leave_only_twonn_empty():
    values, notes = layer_metrics(FEATURES[:8], FEATURES, LABELS, WEIGHTS, BIAS)
    assert [name for name, value in values.items() if value is None] == ["twonn"]
    assert notes == [
        "twonn: no value with fewer than 10 distinct rows, or when both neighbours are equally far throughout"
    ]


def test_a_new_metric_is_one_family_in_the_list():
    largest = Metric(
        title="Largest value",
        unit="feature units",
        direction="higher means larger",
        definition="max x",
        source="here",
        edges="always a value",
        split="test",
        protocol="largest/v1",
    )
    family = Family("extremes", {"largest": largest}, lambda rows: {"largest": rows.test.max().item()})
    values, notes = layer_metrics(FEATURES, FEATURES, LABELS, families=[family])
    assert (values, notes) == ({"largest": FEATURES.max().item()}, [])


def test_every_metric_is_described_and_named_once():
    assert len(METRICS) == sum(len(family.metrics) for family in FAMILIES)
    for name, metric in METRICS.items():
        for field in (metric.title, metric.unit, metric.definition, metric.source, metric.edges):
            assert field.strip(), name
        assert re.fullmatch(r"[a-z0-9_]+/v\d+(, .+)?", metric.protocol), name
        assert metric.direction.startswith("higher means "), name


def test_a_metric_says_whether_the_probe_enters():
    another = torch.randn(3, 12, generator=torch.Generator().manual_seed(1))
    other, _ = layer_metrics(FEATURES, FEATURES, LABELS, another, BIAS + another[:, 0])
    values, _ = layer_metrics(FEATURES, FEATURES, LABELS, WEIGHTS, BIAS)
    for name, value in values.items():
        assert (other[name] != value) == METRICS[name].uses_probe, name


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"of one width; got \(2, 3\) and \(2, 4\)"):
        layer_metrics(torch.ones(2, 3), torch.ones(2, 4), torch.zeros(2))
    with pytest.raises(ValueError, match="weights and bias together, or neither"):
        layer_metrics(FEATURES, FEATURES, LABELS, WEIGHTS)
