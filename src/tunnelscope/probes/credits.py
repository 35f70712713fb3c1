"""What each row adds to a score, so that the score is the mean over rows whatever it is.

For an accuracy that is 1 where the row is right. For R² and average precision it is the score plus the row's
influence on it (n times the derivative by the row's weight; Hampel, 1974): their mean is the score itself,
their spread its standard error to first order, and a bootstrap of rows resamples them as it does hits. So
curves, choices and intervals are read from one matrix of layers by rows for every task.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

ROUNDING = 1e-12  # of the largest target: a spread below is none


def r2_credits(predictions: Array, targets: Array) -> Array:
    """What each row adds to R², the mean over the targets, (n,).

    Constant targets are left out; NaN if all are.

    Args:
        predictions, targets: (n, t).
    """
    centred = targets - targets.mean(axis=0)
    around, missed = np.square(centred).mean(axis=0), np.square(targets - predictions).mean(axis=0)
    known = around > np.square(ROUNDING * np.abs(targets).max(axis=0))
    if not known.any():
        return np.full(len(targets), np.nan)
    centred, around, missed = centred[:, known], around[known], missed[known]
    squares = np.square(targets[:, known] - predictions[:, known])
    gained = np.square(centred) * (missed / around) - squares
    return (1 - missed / around + gained / around).mean(axis=1)


def map_credits(scores: Array, labels: Array) -> Array:
    """What each row adds to mean average precision, (n,).

    Labels that no row has, or every row, are left out: they rank nothing. NaN if all are.

    Args:
        scores: (n, C), higher where the label is thought to be.
        labels: (n, C) of 0 and 1.
    """
    there = [label for label in range(labels.shape[1]) if 0 < labels[:, label].sum() < len(labels)]
    if not there:
        return np.full(len(labels), np.nan)
    return np.mean([_precision_credits(scores[:, one], labels[:, one]) for one in there], axis=0)


def _precision_credits(scores: Array, truth: Array) -> Array:
    """Credits of one label's average precision: the area under the steps of precision over recall.

    With thresholds k in falling order, F_k rows found and T_k taken down to k, and P rows in all that have
    the label, the score is Σ (F_k − F_{k−1}) F_k / T_k / P; rows of one score are taken together.
    """
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    place = np.empty(len(scores), dtype=np.int64)  # of each row: its threshold
    place[order] = np.searchsorted(last, np.arange(len(scores)))
    found, taken = np.cumsum(truth[order])[last].astype(np.float64), (last + 1).astype(np.float64)
    gains = np.diff(found, prepend=0.0)
    precision = found / taken
    # a row's weight moves its own gain, and found and taken from its threshold on
    after_found = np.cumsum((gains / taken)[::-1])[::-1]
    after_taken = np.cumsum((gains * precision / taken)[::-1])[::-1]
    moved = truth * (precision[place] + after_found[place]) - after_taken[place]
    average = float(gains @ precision) / found[-1]
    return average + len(scores) * (moved - average * truth) / found[-1]
