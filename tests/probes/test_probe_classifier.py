from unittest import SkipTest

import numpy as np
import pytest
from planted import planted
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import estimator_checks_generator

from tunnelscope.probes import fit_probe
from tunnelscope.probes.estimator import ProbeClassifier


def test_any_labels_come_back():
    features, labels = planted()
    named = np.array(["cat", "dog", "eel", "fox"])[labels.numpy()]
    model = ProbeClassifier().fit(features.numpy(), named)
    assert model.classes_.tolist() == ["cat", "dog", "eel", "fox"]
    assert model.score(features.numpy(), named) > 0.9
    assert set(model.predict(features.numpy())) <= set(model.classes_)
    assert np.allclose(model.predict_proba(features.numpy()).sum(axis=1), 1, atol=1e-5)
    same = fit_probe(features, labels)
    assert np.array_equal(
        same.predict(features).numpy(), np.searchsorted(model.classes_, model.predict(features.numpy()))
    )


def test_a_clone_has_the_same_parameters():
    model = ProbeClassifier(protocol="ridge", penalty=0.1, seed=3)
    assert clone(model).get_params() == model.get_params()


def test_it_works_inside_scikit_learn():
    features, labels = planted()
    pipeline = make_pipeline(FunctionTransformer(), ProbeClassifier(protocol="ridge"))
    assert cross_val_score(pipeline, features.numpy(), labels.numpy(), cv=3).mean() > 0.8
    search = GridSearchCV(ProbeClassifier(), {"penalty": [0.01, 1.0]}, cv=2).fit(
        features.numpy(), labels.numpy()
    )
    assert search.best_params_["penalty"] in (0.01, 1.0)


@pytest.mark.parametrize("protocol", ["exact", "ridge"])
def test_scikit_learns_own_checks_pass(protocol):
    failures = []
    for estimator, check in estimator_checks_generator(ProbeClassifier(protocol=protocol)):
        try:
            check(estimator)
        except SkipTest:
            continue
        except Exception as error:
            failures.append(f"{check}: {error!r}"[:300])
    assert failures == []
