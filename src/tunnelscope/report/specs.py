"""Charts as Vega-Lite specifications, and those drawn to files without a browser."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunnelscope.files import write_whole
from tunnelscope.report.theme import TOKENS, vega_config
from tunnelscope.report.tidy import Frame, shared_frame

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

    from tunnelscope.report.figures import Figure

FILE_WIDTH = 680  # pixels; a slide's width of text


def spec_of(chart: alt.LayerChart) -> dict[str, Any]:
    """The chart as Vega-Lite without config: its look is given where it is drawn."""
    import altair as alt

    # 50 layers x 5 sets have more pairs of layers than Altair's row limit, which is meant for notebooks.
    with alt.data_transformers.enable("default", max_rows=None):
        spec = chart.to_dict(validate=False)  # a third of a report's time; the tests validate every chart
    spec.pop("config", None)
    return spec


def vegalite_version() -> str:
    """The Vega-Lite version Altair writes for, in the form vl-convert takes ("6.4")."""
    import altair as alt

    return ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])


def file_name(*words: str) -> str:
    """A file's name from any words: letters, digits, dots, underscores and dashes."""
    parts = (re.sub(r"[^A-Za-z0-9._-]+", "-", word).strip("-.") for word in words)
    return "-".join(part for part in parts if part) or "figure"


def file_names(figures: Sequence[Figure]) -> dict[tuple[str, str | None], str]:
    """A name for each figure and choice of data set, made different with -2, -3 … where two would be one."""
    names: dict[tuple[str, str | None], str] = {}
    for figure in figures:
        for choice in figure.choices or (None,):
            name = first = file_name(figure.key, choice or "")
            again = 2
            while name in names.values():
                name, again = f"{first}-{again}", again + 1
            names[figure.key, choice] = name
    return names


def write_figures(table: pd.DataFrame, run: dict[str, Any], folder: Path | str) -> list[Path]:
    """Draw every figure of the report as SVG and PDF, in light colours on white.

    A figure with a choice of data sets is drawn once for each.

    Args:
        table: the long table of results.
        run: the object of `run.json`.
        folder: where to write; made if it is not there.

    Returns:
        The files in the order of the report, SVG before PDF.

    Raises:
        RequestError: the results name no layer.
        MachineError: the folder cannot be written.
    """

    from tunnelscope.report.figures import build_figures

    folder, frame = Path(folder), shared_frame(table, run)
    figures = build_figures(table, run)
    paths: list[Path] = []
    for (key, choice), name in file_names(figures).items():
        svg = figure_svg(next(figure for figure in figures if figure.key == key), frame, choice)
        paths += write_drawing(svg, folder / name)
    return paths


def write_drawing(svg: str, path: Path) -> list[Path]:
    """Write a drawing as PATH.svg and PATH.pdf."""
    import vl_convert

    paths = [path.with_name(f"{path.name}.{ending}") for ending in ("svg", "pdf")]
    write_file(paths[0], svg.encode())
    write_file(paths[1], vl_convert.svg_to_pdf(svg))
    return paths


def figure_svg(figure: Figure, frame: Frame, choice: str | None = None) -> str:
    """A figure in light colours on white as SVG, showing `choice` where it has a choice of data sets."""
    import vl_convert

    config = file_config(len(frame.sets), frame.id_set is not None)
    spec = spec_of(figure.chart)
    spec["width"] = spec["height"] if figure.square else FILE_WIDTH
    for param in spec["params"]:
        if param["name"] == "choice" and choice is not None:
            param["value"] = choice
    return vl_convert.vegalite_to_svg(spec, vl_version=vegalite_version(), config=config)


def file_config(sets: int, has_id: bool) -> dict[str, Any]:
    """How Vega-Lite draws a figure for a file: light colours on white."""
    return vega_config("light", sets, has_id) | {"background": TOKENS["light"].paper, "padding": 12}


def write_file(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all, and the folders above it.

    Raises:
        RequestError: there can be no such path, with the system's reason.
        MachineError: the disk is full or may not be written to.
    """
    write_whole(path, lambda partial: partial.write_bytes(content))
