"""Saying that a long listing is going on, before anything can be counted in per cent."""

import time
from collections.abc import Callable

QUIET_SECONDS = 2.0  # before the first line
SECONDS_BETWEEN_LINES = 10.0


class Listing:
    """Counts what is listed; says so after two seconds and then every ten.

    Args:
        announce: takes a line; None says nothing.
        what: is being listed, in words.
    """

    def __init__(self, announce: Callable[[str], None] | None, what: str) -> None:
        self.announce, self.what = announce, what
        self.count = 0
        self.next_line = time.monotonic() + QUIET_SECONDS

    def __call__(self, count: int = 1) -> None:
        """Note that so many more are listed."""
        self.count += count
        if self.announce is not None and time.monotonic() >= self.next_line:
            self.announce(f"{self.what}: {self.count:,} listed so far")
            self.next_line = time.monotonic() + SECONDS_BETWEEN_LINES
