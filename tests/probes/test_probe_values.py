import json
import math

import pytest
import torch
from planted import planted
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from scipy.stats import binomtest

from tunnelscope.errors import RequestError
from tunnelscope.probes import PROTOCOLS, fit_probe, load_probe, probe, wilson

SHORT = ["exact", "ridge", "knn", "masarczyk2023", "harun2024"]


@pytest.mark.parametrize(("right", "n"), [(0, 1), (1, 1), (3, 10), (10, 10), (0, 50), (9339, 10_000)])
@pytest.mark.parametrize("confidence", [0.95, 0.8])
def test_wilson_is_that_of_scipy(right, n, confidence):
    expected = binomtest(right, n).proportion_ci(confidence, method="wilson")
    assert wilson(right, n, confidence) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(("right", "n"), [(-1, 10), (11, 10), (0, 0)])
def test_wilson_refuses_what_is_no_share(right, n):
    with pytest.raises(ValueError, match="is no share"):
        wilson(right, n)


@pytest.mark.parametrize("protocol", SHORT)
def test_a_saved_probe_comes_back_bit_for_bit(protocol, tmp_path):
    features, labels = planted(n=150, dtype=torch.float32)
    names = ["cat", "dog “quoted”", "Würfel", "4"]
    made = fit_probe(features, labels, protocol=protocol, class_names=names, layer="layer1.0", seed=7)
    made = made.scored(features, labels)
    made.save(tmp_path / "layer1.0.safetensors")
    read = load_probe(tmp_path / "layer1.0.safetensors")
    assert type(read) is type(made)
    for name, value in vars(made).items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, getattr(read, name)), name
            assert value.dtype == getattr(read, name).dtype
        else:
            assert value == getattr(read, name), name
    assert torch.equal(read.predict_proba(features), made.predict_proba(features))
    assert [path.name for path in tmp_path.iterdir()] == ["layer1.0.safetensors"]


def test_a_saved_probe_needs_no_code_of_ours(tmp_path):
    features, labels = planted("offset", dtype=torch.float32)
    made = fit_probe(features, labels, class_names="abcd")
    made.save(tmp_path / "p.safetensors")
    p = load_file(tmp_path / "p.safetensors")
    logits = ((features - p["mean"]) * p["scale"]).float() @ p["weights"].T + p["bias"]
    assert torch.allclose(logits, made.logits(features), atol=1e-5)
    with safe_open(tmp_path / "p.safetensors", "pt") as file:
        assert json.loads(file.metadata()["class_names"]) == ["a", "b", "c", "d"]
        assert json.loads(file.metadata()["protocol"]) == "exact/v2"
        assert json.loads(file.metadata()["penalty"]) == made.penalty


def test_files_that_hold_no_probe_are_refused(tmp_path):
    with pytest.raises(RequestError, match="no file"):
        load_probe(tmp_path / "absent.safetensors")
    (tmp_path / "text.safetensors").write_text("no tensors here")
    with pytest.raises(RequestError, match="is no safetensors file"):
        load_probe(tmp_path / "text.safetensors")
    save_file({"weights": torch.zeros(2, 2)}, tmp_path / "other.safetensors")
    with pytest.raises(RequestError, match="holds no probe"):
        load_probe(tmp_path / "other.safetensors")


def test_scores_are_those_counted_by_hand():
    features = torch.tensor([[-1.0], [-2.0], [1.0], [2.0], [3.0], [-1.5]])
    labels = torch.tensor([0, 0, 1, 1, 1, 0])
    made = fit_probe(features, labels, classes=3, penalty=0.01)
    scores = made.scores(torch.tensor([[-1.0], [1.0], [1.0], [1.0]]), torch.tensor([0, 0, 1, 1]))
    assert scores.accuracy == 0.75
    assert scores.balanced_accuracy == 0.75
    assert (scores.low, scores.high) == wilson(3, 4)
    log_shares = made.predict_proba(torch.tensor([[-1.0], [1.0]])).log()
    expected = -(log_shares[0, 0] + log_shares[1, 0] + 2 * log_shares[1, 1]) / 4
    assert scores.loss == pytest.approx(float(expected), rel=1e-5)


def test_balanced_accuracy_is_the_mean_over_the_classes_of_the_test_rows():
    features, labels = planted("unbalanced", n=400, spread=0.5)
    made = fit_probe(features, labels)
    rows = labels != 2  # a class that the test rows lack
    scores = made.scores(features[rows], labels[rows])
    predicted = made.predict(features)
    recalls = [float((predicted[labels == cls] == cls).double().mean()) for cls in (0, 1, 3)]
    assert scores.balanced_accuracy == pytest.approx(sum(recalls) / 3)


@pytest.mark.parametrize("kind", ["plain", "constant", "scales"])
def test_weights_on_features_are_the_same_map(kind):
    features, labels = planted(kind)
    made = fit_probe(features, labels)
    weights, bias = made.weights_on_features
    assert torch.allclose((features @ weights.T + bias).float(), made.logits(features), atol=1e-4)


def test_interval_is_none_until_scored():
    features, labels = planted(spread=0.5)
    made = fit_probe(features, labels)
    assert made.interval is None
    assert made.accuracy is None
    low, high = made.scored(features, labels).interval
    assert low < made.score(features, labels) < high


def test_probe_fits_all_layers_and_reports_each():
    features, labels = planted(n=300)
    layers = {"good": features, "noise": torch.randn_like(features)}
    seen = []
    probes = probe(
        layers, labels, test=(layers, labels), progress=lambda name, done: seen.append((name, done))
    )
    assert list(probes) == ["good", "noise"]
    assert seen == list(probes.items())
    assert probes["good"].accuracy > 0.9 > probes["noise"].accuracy
    assert probes["good"].layer == "good"
    single = probe(features, labels, test=(features, labels))
    assert torch.equal(single.weights, probes["good"].weights)
    assert single.accuracy == probes["good"].accuracy


def test_a_layer_missing_from_the_test_features_is_named():
    features, labels = planted()
    with pytest.raises(RequestError, match="lack layer 'b'"):
        probe({"a": features, "b": features}, labels, test=({"a": features}, labels))


def test_test_labels_may_show_classes_that_training_lacks():
    features, labels = planted()
    few = labels < 3
    made = probe(features[few], labels[few], test=(features, labels))
    assert made.weights.shape[0] == 4
    assert math.isinf(made.loss)
    assert 0.5 < made.accuracy < 1


def test_numpy_arrays_and_half_precision_go_in():
    features, labels = planted()
    made = fit_probe(features.numpy(), labels.numpy())
    assert torch.equal(made.weights, fit_probe(features, labels).weights)
    assert fit_probe(features.half(), labels).score(features.half(), labels) > 0.9


def test_protocols_have_full_and_short_names():
    assert list(PROTOCOLS) == [
        *("exact/v2", "ridge/v1", "knn/v1", "masarczyk2023/v1"),
        *("harun2024/v1", "harun2024-vit/v1", "harun2024-code/v1"),
    ]
    features, labels = planted()
    assert fit_probe(features, labels, protocol="ridge/v1").protocol == "ridge/v1"
    with pytest.raises(RequestError, match="no probe protocol named 'exakt'; nearest: exact"):
        fit_probe(features, labels, protocol="exakt")


def broken(change):
    features, labels = planted(n=20, d=3, dtype=torch.float32)
    return change(features, labels)


def with_nan(features, labels):
    features[[4, 7], 1] = float("nan")
    features[4, 2] = float("inf")
    return features, labels


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_nan, r"layer 'fc': features are not finite in 2 of 20 rows \(first: 4\) and 2 of 3 columns"),
        (lambda x, y: (x, y[:-1]), "layer 'fc': 20 rows of features but 19 labels"),
        (lambda x, y: (x, y - 1), r"layer 'fc': label -1 \(row 0\) is outside 0 … 3"),
        (lambda x, y: (x, y + 4), r"layer 'fc': label 7 .* is outside 0 … 3"),
        (lambda x, y: (x, y * 0 + 2), "layer 'fc': all 20 training labels are 2"),
        (lambda x, y: (x[:0], y[:0]), r"layer 'fc': features of shape .* are empty"),
        (lambda x, y: (x[:, :0], y), r"layer 'fc': features of shape .* are empty"),
        (lambda x, y: (x[:, 0], y), r"layer 'fc': features have shape \(20,\)"),
        (lambda x, y: (x, y[:, None]), r"layer 'fc': labels have shape \(20, 1\)"),
        (lambda x, y: (x, y.double()), "layer 'fc': labels are float64"),
        (lambda x, y: (x, ["a"] * 20), "layer 'fc': labels are no numbers"),
    ],
)
@pytest.mark.parametrize("protocol", ["exact", "knn"])
def test_rows_that_cannot_be_fitted_are_refused(change, message, protocol):
    features, labels = broken(change)
    with pytest.raises(RequestError, match=message):
        fit_probe(features, labels, classes=4, layer="fc", protocol=protocol)


def test_test_rows_that_do_not_fit_are_refused():
    features, labels = planted(n=40, d=3)
    made = fit_probe(features, labels, layer="fc", penalty=0.1)
    with pytest.raises(
        RequestError, match="layer 'fc': test rows: 2 features, but the probe was fitted on 3"
    ):
        made.score(features[:, :2], labels)
    with pytest.raises(RequestError, match="layer 'fc': test rows: label 9"):
        made.score(features, labels + 6)
    with pytest.raises(RequestError, match="test rows: 2 features"):
        made.predict(features[:, :2])
