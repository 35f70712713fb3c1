"""How many threads a piece of work is worth."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

SMALL = 2e7  # multiply-adds of one product: half a millisecond on one core


@contextmanager
def threads_for(work: float) -> Iterator[None]:
    """Use one thread inside the block when each product in it is small.

    A second thread gains nothing there, and waits for the first in a busy loop: where another process
    holds its core, that makes thousands of small products up to twenty times slower.

    Args:
        work: multiply-adds of the largest product that is made many times.
    """
    threads = torch.get_num_threads()
    if work >= SMALL or threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
