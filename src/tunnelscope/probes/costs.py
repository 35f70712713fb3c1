"""What fitting probes takes: the bytes and multiply-adds that a plan counts on.

Fitted to what `benchmarks/memory.py` measures with each kind of probe.
"""

import torch

from tunnelscope.linalg.coordinates import SUBSPACE, WIDEST_ROTATION
from tunnelscope.linalg.precision import SMALL, fast_type
from tunnelscope.probes.choice import FEW_HELDOUT
from tunnelscope.probes.surrogate import METRIC_ROWS, MOST_METRIC_ROWS

FLOAT, DOUBLE = 4, 8  # bytes of a number
FEW_ROWS = 10 * FEW_HELDOUT  # training rows below which a layer is chosen by ten fits more
LIBRARIES = 32 * 2**20  # what BLAS takes on its first use
SMALL_LIBRARIES = 24 * 2**20  # the same where all products are small
OVERHEAD = 4e6  # multiply-adds that go by while one evaluation is prepared: small fits cost nothing else
EVALUATIONS = 150  # of the objective in one exact fit with its path of penalties, about


CANDIDATES = 44 * 2**10  # bytes a column, of nearest rows that are looked at again in double precision
NEIGHBOURS = 64 * 2**20  # distances of a block of rows to all others, and their order


def fit_bytes(rows: int, width: int, classes: int, kind: str = "exact") -> int:
    """Memory that fitting and judging one probe takes at its peak, beside the layer's features.

    Args:
        rows: training rows.
        width: of the layer.
        classes: of the data.
        kind: `ridge`, `knn`, `regression` (of numbers); any other as `exact`.
    """
    judging = 1.5 * FLOAT * rows * width if rows < FEW_ROWS else 0.0  # ten times on nine parts of ten
    small = min(rows, width)
    if kind == "knn":  # the rows not held out, and as standardised; differences from the candidates
        return int(LIBRARIES + NEIGHBOURS + judging + 2.0 * FLOAT * rows * width + CANDIDATES * width)
    if kind == "ridge":
        return int(LIBRARIES + max(_ridge_fit_bytes(rows, width), _ridge_parts_bytes(rows, width)))
    if kind == "regression":  # standardised, and of these the rows not held out; moments, their eigenvectors
        return int(LIBRARIES + judging + 2.2 * DOUBLE * rows * width + 5.0 * DOUBLE * small**2)
    return int(judging + _exact_bytes(rows, width, classes))


def _ridge_fit_bytes(rows: int, width: int) -> float:
    """Of one fit: an orthonormal basis of few rows; or rows not held out, moments, their eigenvectors."""
    if rows < width:
        return 3.2 * DOUBLE * rows * width + 2.0 * DOUBLE * rows**2
    return FLOAT * rows * width + 7.0 * DOUBLE * width**2


def _ridge_parts_bytes(rows: int, width: int) -> float:
    """Of judging the layer on few rows: all of them standardised, and in the eigenvectors' coordinates."""
    if rows >= FEW_ROWS:
        return 0.0
    small = min(rows, width)
    return DOUBLE * (2.0 * rows * width + rows * small + 4.0 * small**2)


def _exact_bytes(rows: int, width: int, classes: int) -> float:
    """Memory that one exact fit takes at its peak, with the choice of its penalty.

    Copies of the training rows in the solver's coordinates: all, those not held out, and a quarter; the
    basis of these coordinates and what it is found with; of [W | b] the steps, path and metric, 65 copies;
    the shares of the rows; a sample of the rows that shapes the metric.
    """
    work = float(rows) * width * classes
    number_type = fast_type(torch.device("cpu"), work)
    small = min(rows, width)
    has_basis = small <= WIDEST_ROTATION
    coordinates = small if has_basis else width
    libraries = LIBRARIES if work >= SMALL else SMALL_LIBRARIES
    is_single = number_type == torch.float32  # the rows as the solver reads them are then no copy
    copies = (2.0 if is_single else 3.0) * number_type.itemsize * rows * coordinates
    if has_basis:
        basis = 5.0 * DOUBLE * small**2 + (3.2 * DOUBLE * rows * width if rows < width else 0.0)
    else:
        basis = DOUBLE * SUBSPACE * width
    points = 65.0 * FLOAT * classes * width
    sample = min(rows, max(METRIC_ROWS, 20 * classes), MOST_METRIC_ROWS)
    metric = number_type.itemsize * sample * coordinates * (2 if rows > sample else 1)
    shares = FLOAT * classes * rows + 3.0 * FLOAT * classes * sample
    return libraries + copies + basis + points + metric + shares + 4 * DOUBLE * classes**2


def fit_work(rows: int, width: int, classes: int) -> float:
    """Multiply-adds of fitting one probe and judging its layer, about; how many depends on the data."""
    fits = 1 + 0.3 * (10 if rows < FEW_ROWS else 1)
    return EVALUATIONS * fits * (2.0 * rows * width * classes + OVERHEAD)
