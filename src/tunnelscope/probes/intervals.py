"""Intervals of a share that was counted."""

import math
from statistics import NormalDist


def wilson(successes: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval of a share (Wilson 1927).

    Args:
        successes: how many of the n were right, 0 … n (for an accuracy: accuracy · n).
        n: at least 1.
        confidence: of the two-sided interval.

    Returns:
        (low, high), within 0 … 1.

    Raises:
        ValueError: the count is not within 0 … n.
    """
    if n < 1 or not -1e-9 * n <= successes <= n * (1 + 1e-9):
        raise ValueError(f"{successes} of {n} is no share; the count runs from 0 to n, n from 1")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = min(max(successes / n, 0.0), 1.0)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low = 0.0 if share == 0 else max(0.0, centre - half)
    high = 1.0 if share == 1 else min(1.0, centre + half)
    return low, high
