"""Rows taken a block at a time, so that what is computed from them in double precision stays small."""

from collections.abc import Iterator

BLOCK_ELEMENTS = 1 << 17  # 8 MB in double precision: about what a core's cache holds


def row_blocks(rows: int, width: int, elements: int = BLOCK_ELEMENTS) -> Iterator[slice]:
    """Yield slices that cover `rows` rows of `width` numbers in blocks of about `elements` numbers."""
    step = max(1, elements // max(1, width))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))
