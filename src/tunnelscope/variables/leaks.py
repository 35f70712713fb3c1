"""Observations whose OOD set shares classes or images with the network's own data, told and left out."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tunnelscope.errors import RequestError
from tunnelscope.health import FEW_LIKE
from tunnelscope.results import KNOWN_IMAGES, SHARED_CLASSES

if TYPE_CHECKING:
    from tunnelscope.variables.observations import Observations

COLUMN = "leakage"  # of a table: why a row's OOD set is not wholly other data; empty where nothing says so
NO = ("", "0", "no", "none", "false")  # as a table may write that there is nothing


def leaks_of(table: Any) -> dict[tuple[str, str], str]:
    """Why the OOD sets of a results table are not wholly other data, by run and set; "" where they are.

    A pair of which nothing is known is not among them.

    Args:
        table: a frame with the columns of a results table.
    """
    rows = table[table["quantity"].isin([SHARED_CLASSES, KNOWN_IMAGES]) & table["layer"].isna()]
    rows = rows.dropna(subset="value")
    told: dict[tuple[str, str], list[str]] = {}
    for run, dataset, quantity, value in rows[["run", "dataset", "quantity", "value"]].itertuples(
        index=False
    ):
        reasons = told.setdefault((run, dataset), [])
        if reason := _reason(quantity, float(value)):
            reasons.append(reason)
    return {pair: " and ".join(dict.fromkeys(reasons)) for pair, reasons in told.items()}


def _reason(quantity: str, value: float) -> str:
    """Why a set is not wholly other data; empty where the value does not say so."""
    if quantity == SHARED_CLASSES and value > 0:
        return f"shares {value:.0f} class{'es' if value > 1 else ''} with the ID set"
    if quantity == KNOWN_IMAGES and value > FEW_LIKE:
        return f"{value:.1%} of its test examples equal or nearly equal training examples of the ID set"
    return ""


def with_leaks(given: "Observations", told: Mapping[tuple[str, str], str]) -> "Observations":
    """The same observations, each with what is told of its network and OOD set; None where nothing is."""
    pairs = zip(given.frame["network"], given.frame["ood"], strict=True)
    column = np.array([told.get(pair) for pair in pairs], dtype=object)
    return replace(given, frame=given.frame.assign(**{COLUMN: column}))


def read_column(values: Any) -> list[str]:
    """A table's own column of reasons, or of yes and no, as reasons."""
    told = ["" if value is None or value != value else str(value).strip() for value in values]  # NaN ≠ NaN
    marks = {"1": "marked in the table", "1.0": "marked in the table", "true": "marked in the table"}
    marks |= dict.fromkeys((*NO, "0.0"), "")
    return [marks.get(value.casefold(), value) for value in told]


def without_leaks(given: "Observations") -> tuple["Observations", list[dict[str, str]]]:
    """The observations on wholly other data, and those left out: `network`, `ood`, `reason`.

    Raises:
        RequestError: the table does not tell which these are, or all are left out.
    """
    frame = given.frame
    if COLUMN not in frame.columns:
        raise RequestError(
            f"--without-leaks: {given.source} does not tell what its OOD sets share with the networks' own "
            f"data; give it a column {COLUMN!r} (why a row is to be left out; empty: it stays), or name the "
            "folders of scans or of a study, which are looked through when they are made"
        )
    unknown = frame[frame[COLUMN].isna()]
    if len(unknown):
        first = unknown.iloc[0]
        raise RequestError(
            f"--without-leaks: {given.source}: {len(unknown)} of {len(frame)} observations (first: "
            f"{first['network']} on {first['ood']}) are of scans that do not tell what their sets share with "
            "the ID set; scan these networks again, with --id"
        )
    is_leaking = (frame[COLUMN] != "").to_numpy()
    if is_leaking.all():
        raise RequestError(
            f"--without-leaks: {given.source}: every observation is on a set that shares classes or images "
            f"with the ID set (first: {frame['ood'].iloc[0]} {frame[COLUMN].iloc[0]}); nothing is left"
        )
    named = frame.loc[is_leaking, ["network", "ood", COLUMN]].rename(columns={COLUMN: "reason"})
    kept = replace(given, frame=frame[~is_leaking].reset_index(drop=True))
    return kept, named.astype(str).to_dict("records")


def lines_of(left_out: list[dict[str, str]], kept: "Observations") -> list[str]:
    """What was left out and why, a line an OOD set and reason, then the networks of which nothing is left."""
    networks: dict[tuple[str, str], list[str]] = {}
    for one in left_out:
        networks.setdefault((one["ood"], one["reason"]), []).append(one["network"])
    lines = [
        f"left out: {ood} of {len(names)} network{'s' if len(names) > 1 else ''}: {reason}"
        for (ood, reason), names in networks.items()
    ]
    gone = dict.fromkeys(one["network"] for one in left_out if one["network"] not in set(kept.networks))
    if gone:
        lines.append(f"left out: nothing is left of {', '.join(gone)}")
    return lines
