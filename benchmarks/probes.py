"""Exact probes against the papers' released loop, one layer at a time, on the same rows.

The loop restated: DataLoader over a TensorDataset, AdamW with rate 1e-3 and no decay, batches of 128, 30
epochs, label smoothing 0.1. Ours has the choice of the penalty, the refit and the certificate in its time.
"""

import math
from collections.abc import Iterator

import torch
from benchmarks.harness import Row, Timing, in_turn, ratio_row
from benchmarks.real_features import Case, cifar10_cases, cifar100_cases, clustered_case, wide_case
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from tunnelscope.probes import LinearProbe, fit_probe

EPOCHS = 30
TIGHT = 1e-6  # certified gap of the optimum that accuracies are compared with
NEAR = 0.1  # points


def rows(quick: bool) -> Iterator[Row]:
    """The rows of this group."""
    epochs = 3 if quick else EPOCHS
    timings = []
    for case in cifar10_cases(quick):
        timing, told = measured(case, epochs)
        timings.append(timing)
        yield from _rows(case, timing, told, 20, None)
    yield _sum(timings, "1e-3", 30)
    yield _sum(timings, "1e-2", 35)
    for case, bar, loose in zip(cifar100_cases(quick), (12, 10), (None, 13), strict=True):
        yield from _rows(case, *measured(case, epochs), bar, loose)
    wide = wide_case(quick)
    yield from _rows(wide, *measured(wide, epochs), 4, 5)
    clustered = clustered_case(quick)
    yield from _rows(clustered, *measured(clustered, epochs, most=1), None, None)


def measured(case: Case, epochs: int, most: int = 3) -> tuple[Timing, list[Row]]:
    """Time the loop and ours at two gaps in turn; return with it the rows of their accuracies."""
    peers: list[nn.Linear] = []
    sides = {
        "loop": lambda: peers.append(released_loop(case, epochs, seed=len(peers))),
        "1e-3": lambda: _exact(case, 1e-3),
        "1e-2": lambda: _exact(case, 1e-2),
    }
    timing = in_turn(sides, most=most)
    return timing, list(_accuracies(case, timing, peers))


def released_loop(case: Case, epochs: int, seed: int) -> nn.Linear:
    """Train a linear probe as the released code does, on one layer's features."""
    torch.manual_seed(seed)
    probe = nn.Linear(case.train.shape[1], case.classes)
    loader = DataLoader(TensorDataset(case.train, case.labels), batch_size=128, shuffle=True)
    optimizer = torch.optim.AdamW(probe.parameters(), lr=1e-3, weight_decay=0)
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    for _ in range(epochs):
        for features, labels in loader:
            optimizer.zero_grad()
            loss(probe(features), labels).backward()
            optimizer.step()
    return probe


def _exact(case: Case, gap: float, penalty: float | None = None) -> LinearProbe:
    fitted = fit_probe(case.train, case.labels, tolerance=gap, penalty=penalty, classes=case.classes)
    assert isinstance(fitted, LinearProbe)
    return fitted


def _rows(
    case: Case, timing: Timing, told: list[Row], bar: float | None, loose: float | None
) -> Iterator[Row]:
    ours = timing.results["1e-3"]
    words = f"{100 * ours.score(case.test, case.test_labels):.2f} % against {told[0].note}"
    for gap, least in (("1e-3", bar), ("1e-2", loose)):
        note = f"certified gap {timing.results[gap].gap:.1e}, penalty {timing.results[gap].penalty:.1e}"
        what = f"probe at gap {gap} against the released loop, {case.name}"
        yield ratio_row(what, timing, "loop", gap, least, accuracy=words, note=note)
    yield from told


def _sum(timings: list[Timing], gap: str, bar: float) -> Row:
    loop, ours = (sum(timing.median(side) for timing in timings) for side in ("loop", gap))
    what = f"probes at gap {gap} against the released loop, sum over the 3 layers of 10 classes"
    return Row(
        what, loop / ours, bar, seconds={"loop": loop, gap: ours}, rounds=len(timings[0].seconds["loop"])
    )


def _accuracies(case: Case, timing: Timing, peers: list[nn.Linear]) -> Iterator[Row]:
    """Points above the loop's mean; points between ours and a tight optimum at the same penalty."""
    ours = _right(case, timing.results["1e-3"].logits(case.test))
    with torch.no_grad():
        loops = torch.stack([_right(case, peer(case.test)) for peer in peers])
    accuracies = 100 * loops.mean(dim=1)
    deviation = float(accuracies.std()) if len(peers) > 1 else 0.0
    paired = 100 * 1.96 * float((ours - loops[-1]).std()) / math.sqrt(len(ours))
    above = 100 * float(ours.mean()) - float(accuracies.mean())
    yield Row(
        f"accuracy above the released loop's, points, {case.name}",
        above,
        -max(2 * deviation, paired),
        rounds=len(peers),
        note=f"{float(accuracies.mean()):.2f} ± {deviation:.2f} %",
    )
    tight = _exact(case, TIGHT, timing.results["1e-3"].penalty)
    far = 100 * abs(float(ours.mean()) - tight.score(case.test, case.test_labels))
    note = f"certified gap of the optimum {tight.gap:.0e}"
    yield Row(f"accuracy from the optimum's, points, {case.name}", far, NEAR, "<=", note=note)


def _right(case: Case, logits: Tensor) -> Tensor:
    return (logits.argmax(dim=1) == case.test_labels).double()
