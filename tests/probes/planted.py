"""Small labelled features with planted difficulties, and an independent reference."""

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

AWKWARD = ["plain", "unbalanced", "constant", "duplicated", "wide", "rare", "offset", "scales", "binary"]


def planted(kind="plain", n=240, d=12, classes=4, seed=0, spread=1.0, dtype=torch.float64):
    """Return features (n, d) and labels (n,) of Gaussian classes with the difficulty that `kind` names."""
    draws = np.random.default_rng(seed)
    if kind == "wide":
        n, d = 60, 90
    if kind == "binary":
        classes = 2
    weights = 4.0 ** -np.arange(classes) if kind == "unbalanced" else np.ones(classes)
    labels = draws.choice(classes, size=n, p=weights / weights.sum())
    if kind == "rare":
        labels[labels == classes - 1] = 0
        labels[7] = classes - 1
    labels[:classes] = np.arange(classes)
    features = spread * draws.normal(size=(classes, d))[labels] + draws.normal(size=(n, d)) @ mixing(draws, d)
    if kind == "constant":
        features[:, 3], features[:, 5] = 0.1, 0.0
    if kind == "duplicated":
        features[:, 4] = features[:, 1]
        features[:, 6] = -2 * features[:, 1]
    if kind == "offset":
        features = features + 1e4 * features.std(axis=0)
    if kind == "scales":
        features = features * 10.0 ** np.linspace(-4, 4, d)
    return torch.from_numpy(features).to(dtype), torch.from_numpy(labels)


def mixing(draws, d):
    """Correlate the columns, so that standardising alone does not make the problem easy."""
    return np.eye(d) + 0.5 * draws.normal(size=(d, d)) / np.sqrt(d)


def standardised(features):
    """Standardise in plain numpy: population deviation, constant columns 0."""
    values = features.double().numpy()
    mean, deviation = values.mean(axis=0), values.std(axis=0)
    constant = deviation <= 1e-6 * np.abs(mean)
    return np.where(constant, 0.0, (values - mean) / np.where(constant, 1.0, deviation))


def reference(rows, labels, penalty):
    """Return scikit-learn's weights (classes, d) and bias, float64, solved to 1e-10."""
    labels = np.asarray(labels)
    classes = len(np.unique(labels))
    strength = (2 if classes == 2 else 1) / (penalty * len(labels))
    model = LogisticRegression(C=strength, tol=1e-10, max_iter=20_000).fit(rows, labels)
    if classes > 2:
        return model.coef_, model.intercept_
    return np.stack([-model.coef_[0], model.coef_[0]]) / 2, np.array([-1, 1]) * model.intercept_[0] / 2


def objective(rows, labels, weights, bias, penalty):
    """Return mean cross-entropy + penalty/2 ‖W‖² in plain float64."""
    logits = rows @ weights.T + bias
    top = logits.max(axis=1, keepdims=True)
    norm = top[:, 0] + np.log(np.exp(logits - top).sum(axis=1))
    own = logits[np.arange(len(rows)), np.asarray(labels)]
    return (norm - own).mean() + penalty / 2 * (np.asarray(weights) ** 2).sum()
