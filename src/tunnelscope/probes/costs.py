"""What fitting probes takes: the bytes and multiply-adds that a plan counts on.

Fitted to what `benchmarks/memory.py` measures with the exact probe, which takes the most.
"""

from tunnelscope.probes.choice import FEW_HELDOUT

FLOAT, DOUBLE = 4, 8  # bytes of a number
FEW_ROWS = 10 * FEW_HELDOUT  # training rows below which a layer is chosen by ten fits more
MANY_CLASSES = 50  # so many are often told apart to rounding, which calls for rows in double precision
LIBRARIES = 42 * 2**20  # blocks of rows in double precision, and what BLAS takes on its first use
OVERHEAD = 4e6  # multiply-adds that go by while one evaluation is prepared: small fits cost nothing else
EVALUATIONS = 150  # of the objective in one exact fit with its path of penalties, about


def fit_bytes(rows: int, width: int, classes: int) -> int:
    """Memory that fitting and judging one probe takes at its peak, beside the layer's features.

    The larger of two stages. Setting up the coordinates: copies of the training rows, eight square matrices
    in double precision. Solving: copies of the rows, with many classes in double precision too; the basis of
    the coordinates; of [W | b] the steps, path and metric, 40 copies, 120 with many classes (in double
    precision, and with what the allocator keeps between them); the shares of the rows that shape the metric,
    three times; four matrices of classes × classes.

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
    features, small = FLOAT * rows * width, min(rows, width)
    setting_up = 2.2 * features + 8 * DOUBLE * small**2
    points = (120 if is_many else 40) * FLOAT * classes * width
    shares = 3 * FLOAT * classes * min(rows, max(4096, 20 * classes))
    copies = (4 if is_many else 2.2) * features + DOUBLE * width * small
    return max(setting_up, copies + points + shares + 4 * DOUBLE * classes**2)


def fit_work(rows: int, width: int, classes: int) -> float:
    """Multiply-adds of fitting one probe and judging its layer, about; how many depends on the data."""
    fits = 1 + 0.3 * (10 if rows < FEW_ROWS else 1)
    return EVALUATIONS * fits * (2.0 * rows * width * classes + OVERHEAD)
