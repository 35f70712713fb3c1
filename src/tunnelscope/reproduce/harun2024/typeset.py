"""Printed tables of the 2024 paper held to themselves: swapped heads, intervals of a wrong rule.

Table 4 has been typed off the paper into a file beside the released table, its two swapped heads set right.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tunnelscope.errors import RequestError
from tunnelscope.reproduce.found import Found
from tunnelscope.reproduce.harun2024 import printed
from tunnelscope.reproduce.harun2024.released import DIGIT, Released
from tunnelscope.reproduce.verdicts import Estimate, within
from tunnelscope.variables.pairs import mean_of
from tunnelscope.variables.slopes import Array

TABLE_4 = "table4_ood_accuracy_transcribed.csv"
SETS = ("NINCO", "ImageNetR", "CUB", "Aircraft", "Flowers", "CIFAR100", "Pets", "STL10")
PETS = 3669  # test images of Oxford-IIIT Pets: what an accuracy on it is a multiple of
ROUNDED = 0.0051  # of an accuracy in percent printed with two decimals
HEADS = {"as printed": "CIFAR100", "with the heads Pets and CIFAR swapped": "Pets"}
NOT_TYPED = "the printed digits of most cells are not at hand"


def table4(table: Released) -> Found:
    """OOD accuracy of the 28 ImageNet-100 networks: which column can be that of Pets."""
    found, frame = Found(()), read_table4(table.path.with_name(TABLE_4))
    for head, column in HEADS.items():
        misses = np.abs(off_multiple(frame[column].to_numpy())) > ROUNDED
        words = f"H14 accuracies under Pets, of {len(frame)}, that are no multiple of 1/{PETS:,}"
        found.estimated(words, Estimate(float(misses.sum())), within(0, 0), head)
    near = DIGIT * 0.01
    for row in frame.to_dict("records"):
        mean = float(np.mean([row[name] for name in SETS]))
        which = (
            f"{row['model']} {row['resolution']}² {'aug' if row['aug'] else 'no aug'}, network {row['block']}"
        )
        found.printed(
            "H1 mean accuracy of a network over its OOD sets, %", mean, f"{row['avg']:.2f}", near, which
        )
    return found


def table8(table: Released) -> Found:
    """OOD accuracy of public backbones: the two digits that show its heads to be swapped too."""
    found = Found(())
    for name, accuracy in printed.UNDER_PETS.items():
        off = Estimate(float(off_multiple(np.array([accuracy]))[0]))
        words = f"H14 {name}: points from the nearest multiple of 1/{PETS:,} under Pets"
        found.estimated(words, off, within(-ROUNDED, ROUNDED), "as printed", f"{accuracy:.2f}")
    found.not_comparable("OOD accuracy by backbone and set", NOT_TYPED)
    return found


def table9(table: Released) -> Found:
    """r of public backbones: means and intervals from the eight printed values."""
    found = Found(())
    for name, (values, mean, low, high) in printed.R_OF_BACKBONES.items():
        told = np.array(values.split(), dtype=float)
        found.printed("H1 mean r of a backbone, %", float(told.mean()), mean, DIGIT * 0.01, name)
        for freedom, rule in (
            (len(told), "n degrees of freedom"),
            (len(told) - 1, "n − 1 degrees of freedom"),
        ):
            ours = mean_of(told, freedom)
            for end, value, text in (("lower", ours.low, low), ("upper", ours.high, high)):
                words = f"H1 {end} end of the 95 % interval of r, %"
                found.printed(words, value, text, 2 * ROUNDED, f"{name}; {rule}")
    return found


def read_table4(path: Path) -> pd.DataFrame:
    """Read Table 4. Raises RequestError: it is not there or lacks a column."""
    try:
        frame: Any = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise RequestError(f"{path} cannot be read; Table 4 of the paper belongs there: {error}") from error
    missing = [name for name in ("block", "model", "resolution", "aug", *SETS, "avg") if name not in frame]
    if missing:
        raise RequestError(f"{path} lacks the column {missing[0]}")
    return frame


def off_multiple(percent: Array) -> Array:
    """How far accuracies lie from the nearest one that so many test images can give, in points."""
    unit = 100 / PETS
    return percent - unit * np.round(percent / unit)
