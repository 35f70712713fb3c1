"""What the metrics take: the bytes and multiply-adds that a plan counts on."""

from collections.abc import Sequence

from tunnelscope.linalg.spectrum import PRODUCT_ELEMENTS
from tunnelscope.metrics.dimension import QUERY_ROWS

FLOAT, DOUBLE = 4, 8  # bytes of a number
BLOCKS = 22 * 2**20  # of rows in double precision, and what of them the allocator keeps


def metrics_bytes(test: int, width: int, classes: int) -> int:
    """Memory that all metrics of one layer take at their peak, beside its features.

    Rows in long blocks and two square matrices in double precision (rank), five matrices of classes × width
    and five of classes × classes (collapse), two blocks of distances (dimension).
    """
    rank = 2 * DOUBLE * (min(test * width, PRODUCT_ELEMENTS) + min(test, width) ** 2)
    collapse = 5 * DOUBLE * classes * (width + classes)
    return rank + collapse + 2 * FLOAT * QUERY_ROWS * test + BLOCKS


def metrics_work(train: int, test: int, width: int, classes: int) -> float:
    """Multiply-adds of all metrics of one layer, about."""
    small, few = min(test, width), min(classes, width)
    rank = test * width * small + 15.0 * small**3
    return rank + 2.0 * train * width * classes + 15.0 * width * few**2 + float(test) ** 2 * width


def cka_bytes(rows: int, widths: Sequence[int]) -> int:
    """Memory that CKA between all layers takes: the features, and once more side by side, in double."""
    return 3 * FLOAT * rows * sum(widths)


def cka_work(rows: int, widths: Sequence[int]) -> float:
    """Multiply-adds of CKA between all layers, by features or by Gram matrices as `unbiased_cka` chooses."""
    total = float(sum(widths))
    return min(rows * total**2 / 2, rows**2 * (total + len(widths) ** 2))
