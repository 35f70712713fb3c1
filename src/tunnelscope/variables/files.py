"""The analysis as tables: CSV for programs, LaTeX for papers."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunnelscope.files import write_whole

ESCAPED = {
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "_": r"\_",
    "²": "$^2$",
    "→": r"$\to$",
    "δ": r"$\delta$",
    "ρ": r"$\rho$",
}
ESCAPED |= {"†": r"$\dagger$", "φ": r"$\phi$", "γ": r"$\gamma$"}


def write_tables(told: dict[str, Any], folder: Path) -> None:
    """Write pairs.csv and .tex, and slopes.csv and .tex where there are slopes.

    Args:
        told: the object that `tunnelscope effects --json` prints.
    """
    tables = {"pairs": pairs_table(told)}
    if told["slopes"]:
        tables["slopes"] = slopes_table(told)
    for name, (head, rows) in tables.items():
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([head, *rows])
        for ending, written in (("csv", text.getvalue()), ("tex", latex(head, rows))):
            path = folder / f"{name}.{ending}"
            write_whole(path, lambda place, written=written: place.write_text(written, encoding="utf-8"))


def pairs_table(told: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """One row a pair and target."""
    head = ["variable", "from", "to", "target", "n", "networks", "mean from", "mean to", "δ", "size"]
    head += ["p", "p Holm", "p networks"]
    rows = [
        [
            pair["variable"],
            *pair["levels"],
            pair["target"],
            str(pair["n"]),
            str(pair["networks"]),
            *(f"{mean['value']:.4f}" for mean in pair["means"]),
            f"{pair['cliffs_delta']:.4f}",
            pair["band"],
            *(
                "" if pair[name] is None else f"{pair[name]:.4g}"
                for name in ("p", "p_corrected", "p_network")
            ),
        ]
        for pair in told["pairs"]
    ]
    return head, rows


def slopes_table(told: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """One row a variable and target."""
    head = ["target", "variable", "slope", "low", "high", "slope normalised", "line R2"]
    rows = []
    for target, slopes in told["slopes"].items():
        for name, slope in slopes.items():
            bounds = told["intervals"].get(target, {}).get(name, (None, None))
            cells = ["" if bound is None else f"{bound:.4f}" for bound in bounds]
            more = (told["slopes_normalised"][target][name], told["line_r2"][target][name])
            rows.append([target, name, f"{slope:.4f}", *cells, *(f"{value:.4f}" for value in more)])
    return head, rows


def latex(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A tabular in the manner of booktabs."""
    lines = [rf"\begin{{tabular}}{{{'l' * len(head)}}}", r"\toprule"]
    lines += [" & ".join(map(escaped, head)) + r" \\", r"\midrule"]
    lines += [" & ".join(map(escaped, row)) + r" \\" for row in rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def escaped(text: str) -> str:
    """Text as LaTeX reads it."""
    return "".join(ESCAPED.get(letter, letter) for letter in text)
