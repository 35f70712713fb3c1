"""What fitting probes takes: the bytes and multiply-adds that a plan counts on.

Fitted to what `benchmarks/memory.py` measures with the exact probe, which takes the most.
"""

from tunnelscope.probes.choice import FEW_HELDOUT

FLOAT, DOUBLE = 4, 8  # bytes of a number
FEW_ROWS = 10 * FEW_HELDOUT  # training rows below which a layer is chosen by ten fits more
MANY_CLASSES = 50  # so many are often told apart to rounding, which calls for rows in double precision
LIBRARIES = 42 * 2**20  # blocks of rows in double precision, and what BLAS takes on its first use
EVALUATIONS = 150  # of the objective in one exact fit with its path of penalties, about


def fit_bytes(rows: int, width: int, classes: int) -> int:
    """Memory that fitting and judging one probe takes at its peak, beside the layer's features.

    Copies of the training rows: those of the solver, of the path and, with many classes, in double
    precision. Eight square matrices in double precision for the coordinates. Of [W | b] the solver's
    memory of steps, path and metric: 40 copies, 75 where in double precision. Shares of the rows that shape
    the metric, three times; six matrices of classes × classes.

    Args:
        rows: training rows.
        width: of the layer.
        classes: of the data.
    """
    if rows >= FEW_ROWS:
        return int(_one_fit(rows, width, classes)) + LIBRARIES
    part = 0.9 * FLOAT * rows * width  # of ten, with the features of nine of them at hand
    return int(max(part + _one_fit(0.9 * rows, width, classes), _one_fit(rows, width, classes))) + LIBRARIES


def _one_fit(rows: float, width: int, classes: int) -> float:
    is_many = classes >= MANY_CLASSES
    copies = (4 if is_many else 2.2) * FLOAT * rows * width
    squares = 8 * DOUBLE * min(rows, width) ** 2
    points = (75 if is_many else 40) * FLOAT * classes * width
    shares = 3 * FLOAT * classes * min(rows, max(4096, 20 * classes))
    return copies + squares + points + shares + 6 * DOUBLE * classes**2


def fit_work(rows: int, width: int, classes: int) -> float:
    """Multiply-adds of fitting one probe and judging its layer, about; how many depends on the data."""
    fits = 1 + 0.3 * (10 if rows < FEW_ROWS else 1)
    return EVALUATIONS * 2.0 * rows * width * classes * fits
