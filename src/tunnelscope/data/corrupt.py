"""Images that cannot be decoded: left out where the user says so, never without a word."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tunnelscope.data.assemble import take_rows
from tunnelscope.data.classes import check_classes
from tunnelscope.data.dataset import DataSet, Split
from tunnelscope.data.images import UnreadableImage
from tunnelscope.errors import RequestError
from tunnelscope.tasks import CLASSIFICATION

SHOWN = 3  # images named in a warning


class Skipped:
    """The images of one split that could not be decoded, in order.

    Args:
        count: how many images the split has; more than half of them unreadable is an error of its own.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.rows: list[int] = []
        self.said: list[str] = []

    def add(self, row: int, error: UnreadableImage) -> None:
        """Note one image.

        Raises:
            RequestError: that makes more than half of the split.
        """
        self.rows.append(row)
        self.said.append(error.said)
        if 2 * len(self.rows) > self.count:
            raise RequestError(
                f"more than half of the {self.count:,} images of a split cannot be decoded, the first: "
                f"{self.said[0]}; look at the files before you skip them"
            )


def leave_out(data: DataSet, train: Skipped | None, test: Skipped | None) -> DataSet:
    """Return the set without the images skipped in each split, and say in its warnings which those were.

    Raises:
        RequestError: what is left has too few classes for a probe.
    """
    warnings = list(data.warnings)
    splits: dict[str, Split] = {}
    for role, split, skipped in (("training", data.train, train), ("test", data.test, test)):
        splits[role] = split
        if skipped is not None and skipped.rows:
            splits[role] = take_rows(split, np.setdiff1d(np.arange(len(split)), skipped.rows))
            warnings.append(
                f"{len(skipped.rows):,} of {len(split):,} {role} images left out, they cannot be decoded: "
                f"{_first(skipped.said)}"
            )
    if len(warnings) == len(data.warnings):
        return data
    left = splits["training"], splits["test"]
    if data.task == CLASSIFICATION:
        warnings += check_classes(left[0].labels, left[1].labels, data.class_names, data.key)
    return replace(data, train=left[0], test=left[1], warnings=tuple(dict.fromkeys(warnings)))


def _first(said: Sequence[str]) -> str:
    return "; ".join(said[:SHOWN]) + ("; …" if len(said) > SHOWN else "")
