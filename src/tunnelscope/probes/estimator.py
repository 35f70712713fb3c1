"""Probes as a scikit-learn estimator."""

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from tunnelscope.errors import RequestError
from tunnelscope.probes.protocols import fit_probe


class ProbeClassifier(ClassifierMixin, BaseEstimator):
    """A probe with `fit`, `predict`, `predict_proba` and `score`, for any kind of labels.

    Args:
        protocol: a name of `PROTOCOLS`, full or short.
        tolerance: certified relative gap of `exact`.
        penalty: of `exact` and `ridge`; None: chosen on held-out rows.
        seed: of all draws.

    Attributes:
        probe_: the probe that was fitted.
        classes_: the labels, sorted.
        n_features_in_: how many features it reads.
    """

    def __init__(
        self, protocol: str = "exact", tolerance: float = 1e-3, penalty: float | None = None, seed: int = 0
    ):
        self.protocol = protocol
        self.tolerance = tolerance
        self.penalty = penalty
        self.seed = seed

    def fit(self, X: Any, y: Any) -> Self:
        """Fit on rows X (n, d) and their labels y (n,). Raises RequestError, a ValueError."""
        X, y = validate_data(self, X, y, dtype=[np.float32, np.float64])
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise RequestError("all training labels are of one class; a probe tells apart at least two")
        self.probe_ = fit_probe(
            np.array(X),
            labels,
            protocol=self.protocol,
            class_names=[str(label) for label in self.classes_],
            tolerance=self.tolerance,
            penalty=self.penalty,
            seed=self.seed,
        )
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return the label of each row, (n,)."""
        rows = self._rows(X)
        return self.classes_[self.probe_.predict(rows).numpy()]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each label, (n, classes), in the order of `classes_`."""
        rows = self._rows(X)
        return self.probe_.predict_proba(rows).numpy()

    def _rows(self, X: Any) -> np.ndarray:
        check_is_fitted(self, "probe_")
        return np.array(validate_data(self, X, reset=False, dtype=[np.float32, np.float64]))
