"""Charts as Vega-Lite specifications, and those drawn to files without a browser."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

FILE_WIDTH = 680  # pixels; a slide's width of text


def spec_of(chart: alt.LayerChart) -> dict[str, Any]:
    """The chart as Vega-Lite without config: its look is given where it is drawn."""
    import altair as alt

    # 50 layers x 5 sets have more pairs of layers than Altair's row limit, which is meant for notebooks.
    with alt.data_transformers.enable("default", max_rows=None):
        spec = chart.to_dict()
    spec.pop("config", None)
    return spec


def vegalite_version() -> str:
    """The Vega-Lite version Altair writes for, in the form vl-convert takes ("6.4")."""
    import altair as alt

    return ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])


def file_name(key: str, choice: str | None = None) -> str:
    """A name of letters, digits, dots and dashes for a figure and the data set it shows."""
    return key if choice is None else f"{key}-{re.sub(r'[^A-Za-z0-9._-]+', '-', choice).strip('-.') or 'set'}"


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
    """
    import vl_convert

    from tunnelscope.report.figures import build_figures
    from tunnelscope.report.theme import TOKENS, vega_config
    from tunnelscope.report.tidy import shared_frame

    folder = Path(folder)
    frame = shared_frame(table, run)
    config = vega_config("light", len(frame.sets), frame.id_set is not None)
    config |= {"background": TOKENS["light"].paper, "padding": 12}
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    for figure in build_figures(table, run):
        for choice in figure.choices or (None,):
            spec = spec_of(figure.chart)
            spec["width"] = spec["height"] if figure.square else FILE_WIDTH
            set_choice(spec, choice)
            svg = vl_convert.vegalite_to_svg(spec, vl_version=vegalite_version(), config=config)
            name = file_name(figure.key, choice)
            for path, content in [
                (folder / f"{name}.svg", svg.encode()),
                (folder / f"{name}.pdf", vl_convert.svg_to_pdf(svg)),
            ]:
                path.write_bytes(content)
                paths.append(path)
    return paths


def set_choice(spec: dict[str, Any], choice: str | None) -> None:
    """Have the parameter `choice` of a specification start with a value."""
    for param in spec.get("params", []):
        if param["name"] == "choice" and choice is not None:
            param["value"] = choice
