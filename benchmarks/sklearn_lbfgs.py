"""Exact probes against scikit-learn's lbfgs and a plain torch L-BFGS, the same objective on the same rows.

Features are standardised outside everyone's time but ours. Scikit-learn runs at its default tolerance; ours
stops at the first of a few tolerances that reaches an objective no worse than that. The search is 7 penalties
on nine tenths of the rows, judged on the others, and a refit; with 100 classes scikit-learn's is eight times
its one fit, as it starts each anew (smaller penalties take it longer).
"""

from collections.abc import Iterator
from typing import Any

import torch
from benchmarks.harness import Row, Timing, in_turn, ratio_row
from benchmarks.real_features import Case, cifar10_cases, cifar100_cases, wide_case
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn import functional as F

from tunnelscope.linalg.standardise import measure
from tunnelscope.probes import LinearProbe, fit_probe
from tunnelscope.probes.heldout import heldout_rows

PENALTY = 1e-3
SEARCH = 8  # fits: seven penalties and the refit
PENALTIES = [0.3 * 10 ** (-0.75 * power) for power in range(7)]
TOLERANCES = (1e-2, 5e-3, 3e-3, 2e-3, 1e-3, 5e-4, 3e-4, 2e-4, 1e-4, 3e-5, 1e-5, 1e-6)


def rows(quick: bool) -> Iterator[Row]:
    """The rows of this group."""
    early, middle, last = cifar10_cases(quick)
    narrow, many = cifar100_cases(quick)
    yield from _rows(early, 1, 25)
    yield from _rows(middle, 5, 25)
    yield from _rows(last, 1, 25)
    yield from _rows(narrow, 10, 60)
    yield from _rows(many, 10, 60)
    yield from _rows(wide_case(quick), 3, 25)


def _rows(case: Case, bar: float, search_bar: float) -> Iterator[Row]:
    standardised = measure(case.train).apply(case.train).float()
    weights, bias = scikit_learn(case, standardised)
    theirs = objective(case, standardised, weights, bias)
    tolerance = next(gap for gap in TOLERANCES if _value(case, standardised, _exact(case, gap)) <= theirs)
    sides = {
        "scikit-learn": lambda: scikit_learn(case, standardised),
        "torch": lambda: strong_wolfe(case, standardised),
        "ours": lambda: _exact(case, tolerance),
        "search": lambda: _exact(case, tolerance, None),
    }
    if case.classes <= 20:
        sides["scikit-learn's search"] = lambda: search(case, standardised)
    timing = in_turn(sides, most=3)
    told = _told(case, standardised, timing, theirs)
    one = f"one penalty {PENALTY:g}, {case.name}"
    note = f"ours at tolerance {tolerance:g}, certified {timing.results['ours'].gap:.1e}"
    what = f"against scikit-learn's lbfgs, {one}"
    yield ratio_row(what, timing, "scikit-learn", "ours", bar, accuracy=told, note=note)
    what = f"against torch's L-BFGS with strong Wolfe, {one}"
    yield ratio_row(what, timing, "torch", "ours", 5, accuracy=told, note=note)
    yield _search_row(case, timing, search_bar)


def _search_row(case: Case, timing: Timing, bar: float) -> Row:
    what = f"penalty search and refit against scikit-learn, {case.name}"
    if "scikit-learn's search" in timing.seconds:
        return ratio_row(what, timing, "scikit-learn's search", "search", bar)
    theirs, ours = SEARCH * timing.median("scikit-learn"), timing.median("search")
    low, high = timing.spread("scikit-learn", "search")
    return Row(
        what,
        theirs / ours,
        bar,
        spread=(SEARCH * low, SEARCH * high),
        seconds={"scikit-learn": theirs, "ours": ours},
        rounds=len(timing.seconds["search"]),
        note=f"scikit-learn's is one fit × {SEARCH}",
    )


def search(case: Case, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Scikit-learn's fit at the best of 7 penalties, by the loss on a tenth of the rows."""
    from sklearn.metrics import log_loss

    fit, heldout = heldout_rows(case.labels, seed=0)
    judged = []
    for penalty in PENALTIES:
        model = _fitted(rows[fit], case.labels[fit], penalty)
        judged.append(log_loss(case.labels[heldout].numpy(), model.predict_proba(rows[heldout].numpy())))
    model = _fitted(rows, case.labels, PENALTIES[judged.index(min(judged))])
    return torch.from_numpy(model.coef_), torch.from_numpy(model.intercept_)


def _fitted(rows: Tensor, labels: Tensor, penalty: float) -> Any:
    """Scikit-learn's fit at its defaults, on as many threads as torch has."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1 / (penalty * len(rows)), max_iter=10_000)
    with threadpool_limits(torch.get_num_threads()):
        return model.fit(rows.numpy(), labels.numpy())


def scikit_learn(case: Case, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Weights and bias of scikit-learn's fit at one penalty."""
    model = _fitted(rows, case.labels, PENALTY)
    return torch.from_numpy(model.coef_), torch.from_numpy(model.intercept_)


def strong_wolfe(case: Case, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Weights and bias of `torch.optim.LBFGS` on the whole set, stopped where scikit-learn would be."""
    weights = torch.zeros(case.classes, rows.shape[1], requires_grad=True)
    bias = torch.zeros(case.classes, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weights, bias], max_iter=1000, tolerance_grad=1e-4, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(rows @ weights.T + bias, case.labels) + PENALTY / 2 * weights.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return weights.detach(), bias.detach()


def objective(case: Case, rows: Tensor, weights: Tensor, bias: Tensor) -> float:
    """The objective in double precision."""
    weights, bias, value = weights.double(), bias.double(), 0.0
    for block, labels in zip(rows.split(4096), case.labels.split(4096), strict=True):
        value += float(F.cross_entropy(block.double() @ weights.T + bias, labels, reduction="sum"))
    return value / len(rows) + PENALTY / 2 * float(weights.square().sum())


def _exact(case: Case, gap: float, penalty: float | None = PENALTY) -> LinearProbe:
    fitted = fit_probe(case.train, case.labels, tolerance=gap, penalty=penalty, classes=case.classes)
    assert isinstance(fitted, LinearProbe)
    return fitted


def _value(case: Case, rows: Tensor, probe: LinearProbe) -> float:
    return objective(case, rows, probe.weights, probe.bias)


def _told(case: Case, rows: Tensor, timing: Timing, theirs: float) -> str:
    weights, bias = timing.results["scikit-learn"]
    tests = measure(case.train).apply(case.test)
    right = ((tests @ weights.double().T + bias).argmax(dim=1) == case.test_labels).double().mean()
    ours = timing.results["ours"]
    torchs = objective(case, rows, *timing.results["torch"])
    accuracies = f"{100 * ours.score(case.test, case.test_labels):.2f} % against {100 * float(right):.2f} %"
    own = _value(case, rows, ours)
    return f"{accuracies}; objective {own:.6f} against {theirs:.6f} (scikit-learn), {torchs:.6f} (torch)"
