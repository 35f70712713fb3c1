"""The report as one HTML file that needs no network: words, figures and their numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunnelscope.report import facts, words
from tunnelscope.report.layer_table import layer_table
from tunnelscope.report.specs import FILE_WIDTH, file_name, spec_of, vegalite_version, write_file
from tunnelscope.report.theme import FONT, TOKENS, vega_config
from tunnelscope.report.tidy import shared_frame
from tunnelscope.tasks import heading

if TYPE_CHECKING:
    import pandas as pd

    from tunnelscope.report.figures import Figure


def write_report(table: pd.DataFrame, run: dict[str, Any], path: Path | str) -> None:
    """Write the report of one scan: a single HTML file, interactive, with everything it needs inside.

    Args:
        table: the long table of results.
        run: the object of `run.json`.
        path: the file to write; its folder is made if it is not there.

    Raises:
        RequestError: the results name no layer.
        MachineError: the file cannot be written.
    """
    write_file(Path(path), render_page(table, run).encode())


def render_page(table: pd.DataFrame, run: dict[str, Any]) -> str:
    """The report's HTML."""
    from tunnelscope.report.figures import build_figures

    frame = shared_frame(table, run)
    figures = build_figures(table, run)
    layers = layer_table(table, run, frame)
    best_rows = facts.best_rows(run, frame)
    return render_template(
        "report.html.j2",
        figures,
        control=frame.control,
        colours=(len(frame.sets), frame.id_set is not None),
        tables={"layers": {"columns": layers.csv_columns, "rows": layers.csv_rows}},
        name=file_name(str(run.get("run") or "scan")),
        version=run.get("tunnelscope") or "",
        command=run.get("command") or "",
        title=str(run.get("run") or (run.get("model") or {}).get("name") or "scan"),
        verdict=run.get("verdict") or "",
        warnings=run.get("warnings") or [],
        score=facts.score_word(run),
        key_figures=facts.key_figures(run, frame),
        ood_rows=facts.ood_rows(run),
        best_rows=best_rows,
        savings_known=any(row[name] != words.UNKNOWN for row in best_rows for name in facts.SAVINGS),
        layers=layers,
        what_was_run=facts.what_was_run(run),
        data_rows=facts.data_rows(run),
        leakage_rows=facts.leakage_rows(run),
    )


def render_template(
    template: str,
    figures: Sequence[Figure],
    *,
    colours: tuple[int, bool],
    tables: dict[str, Any],
    name: str,
    **context: Any,
) -> str:
    """A page from its template, with its figures and everything they need inside.

    Args:
        template: a file of templates/, which includes head.html.j2 and scripts.html.j2.
        figures: the charts in the order of the page.
        colours: how many things the charts tell apart by colour, and whether the first is an ID set.
        tables: columns and rows of the tables that can be saved as CSV, by name.
        name: what saved files are called first.
        context: what else the template shows.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup

    payload = {
        "config": {scheme: vega_config(scheme, *colours) for scheme in TOKENS},
        "paper": TOKENS["light"].paper,
        "fileWidth": FILE_WIDTH,
        "figures": {figure.key: figure_payload(figure) for figure in figures},
        "tables": tables,
        "name": name,
    }
    environment = Environment(
        loader=FunctionLoader(asset),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"shorten": words.shorten, "heading": heading}
    return environment.get_template(template).render(
        figures=figures,
        tokens={scheme: tokens.css() for scheme, tokens in TOKENS.items()},
        font=Markup(FONT),
        css=Markup(asset("report.css")),
        payload=Markup(script_json(payload)),
        vega=Markup(script_safe(vega_bundle())),
        script=Markup(script_safe(asset("report.js"))),
        **context,
    )


def asset(name: str) -> str:
    """The text of a file that is packaged with the report."""
    return files("tunnelscope.report").joinpath("templates", name).read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def vega_bundle() -> str:
    """Vega, Vega-Lite and vega-embed as one script that sets `vegaEmbed`."""
    import vl_convert

    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=vegalite_version())


def figure_payload(figure: Figure) -> dict[str, Any]:
    """A figure's specification with its data packed by column, and which of the data its CSV holds."""
    spec = spec_of(figure.chart)
    datasets = {name: packed(rows) for name, rows in spec.pop("datasets", {}).items()}
    return {"spec": spec, "datasets": datasets, "csv": spec["data"]["name"], "square": figure.square}


def packed(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows by column, repeated text as places in a list: about a tenth of the rows written out.

    A column is a list of values, or `{"values": […], "places": […]}`.
    """
    columns: dict[str, Any] = {}
    for name in rows[0] if rows else []:
        values = [row.get(name) for row in rows]
        if any(isinstance(value, str) for value in values):
            distinct = {value: place for place, value in enumerate(dict.fromkeys(values))}
            columns[name] = {"values": list(distinct), "places": [distinct[value] for value in values]}
        else:
            columns[name] = [float(f"{value:.6g}") if isinstance(value, float) else value for value in values]
    return columns


def script_json(value: Any) -> str:
    """JSON that can stand inside a script element whatever names it holds."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def script_safe(script: str) -> str:
    """A script that cannot end its own element: `</script` and `<!--` only occur in strings and regexes."""
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--")
