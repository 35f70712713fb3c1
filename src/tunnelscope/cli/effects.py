"""`tunnelscope effects`: which variables of a table of networks move r, ρ and A."""

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tunnelscope.cli import options
from tunnelscope.cli.output import columns, echo_error
from tunnelscope.errors import RequestError

if TYPE_CHECKING:
    from tunnelscope.variables.analysis import Effects

MOST_PAIRS = 12  # on the terminal; --json and the report have all


@click.command()
@click.argument("tables", nargs=-1, required=True, metavar="TABLE | SCAN …", type=click.Path(path_type=Path))
@click.option(
    "--variables",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Of scans: CSV or parquet with a column network (a scan's folder) and one a variable.",
)
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Folder for the report, effects.json and tables.",
)
@click.option(
    "--probe",
    metavar="NAME",
    help="Of a study with several probes: whose r, ρ and A. [default: the first's]",
)
@click.option(
    "--target", "targets", multiple=True, metavar="r|rho|A", help="Only these. [default: all there are]"
)
@click.option("--slopes/--no-slopes", default=None, help="Fit the model. [default: with 8 networks or more]")
@click.option(
    "--resamples",
    type=click.IntRange(min=0),
    default=200,
    show_default=True,
    help="Of networks, for the slopes' intervals; 0 for none.",
)
@click.option(
    "--predict",
    metavar="PLAN.toml",
    type=click.Path(path_type=Path),
    help="Foretell networks that are not trained yet: [[network]] tables with every variable.",
)
@click.option(
    "--without-leaks",
    is_flag=True,
    help="Leave out OOD sets that share classes or images with the network's own data.",
)
@click.option(
    "--figures", is_flag=True, help="Also every figure as SVG and PDF into DIR/figures (with --out)."
)
@options.together(options.seed, options.as_json, options.debug)
def effects(
    tables: tuple[Path, ...],
    variables: Path | None,
    out: Path | None,
    probe: str | None,
    targets: tuple[str, ...],
    slopes: bool | None,
    resamples: int,
    predict: Path | None,
    without_leaks: bool,
    figures: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Say which variables of many networks move r, ρ and A, by how much and how surely.

    TABLE: the released table of Harun et al. 2024 (CSV), any table with columns network, ood, r (a share),
    rho, A and variables, or a folder with results.parquet and variables.parquet. SCAN …: folders of scans.

    Example: tunnelscope effects data/harun2024/experiments_results.csv --out runs/effects
    """
    from tunnelscope.cli.progress import ProgressDisplay

    if figures and out is None:
        raise RequestError("--figures needs --out DIR, the folder to draw into")
    from tunnelscope.variables.analysis import effects as run

    with ProgressDisplay() as progress:
        found = run(
            tables if len(tables) != 1 or variables else tables[0],
            variables=variables,
            probe=probe,
            targets=targets or None,
            slopes=slopes,
            resamples=resamples,
            predict=predict or (),
            without_leaks=without_leaks,
            seed=seed,
            progress=progress,
        )
    if out is not None:
        found.save(out, shlex.join(["tunnelscope", *sys.argv[1:]]), figures=figures)
    if as_json:
        click.echo(json.dumps(found.as_dict(), indent=1, ensure_ascii=False))
    else:
        show(found)
    for warning in found.warnings:
        echo_error(f"warning: {warning}")
    if out is not None:
        echo_error(f"Report: {out}/report.html")


def show(found: "Effects") -> None:
    """Print slopes with their intervals, then pairs, then what was foretold."""
    targets = list(found.slopes)
    if targets:
        rows = [
            [name, *(slope_cell(found, target, name) for target in targets)]
            for name in found.observations.variables
        ]
        rows.append(["R² in sample", *(f"{found.slopes[target].r2:.3f}" for target in targets)])
        rows.append(
            ["R² of networks left out", *(f"{found.r2_grouped[target]['network']:.3f}" for target in targets)]
        )
        click.echo(columns(["variable", *targets], rows))
        click.echo("")
    shown = sorted(found.pairs, key=lambda pair: -abs(pair.cliffs_delta))[:MOST_PAIRS]
    heads = ["variable", "levels", "target", "n", "means", "δ", "p, Holm", "p, networks"]
    click.echo(columns(heads, [pair_cells(pair) for pair in shown], right=(3, 5, 6, 7)))
    if len(shown) < len(found.pairs):
        echo_error(f"{len(shown)} of {len(found.pairs)} pairs shown, the largest effects; --json has all")
    if found.predictions:
        off = ", ".join(
            f"{target} {error['network']:.3f}" for target, error in found.prediction_error.items()
        )
        click.echo(f"\nForetold (networks that were left out are off by {off} on average):")
    for one in found.predictions:
        values = ", ".join(
            f"{target} {value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
            for target, value in one.values.items()
        )
        click.echo(f"{one.name}: {values}")


def slope_cell(found: "Effects", target: str, name: str) -> str:
    """A slope with its interval."""
    slope = found.slopes[target].slope[name]
    bounds = found.intervals.get(target, {}).get(name)
    return f"{slope:+.3f}" + (f" [{bounds[0]:+.3f}, {bounds[1]:+.3f}]" if bounds else "")


def pair_cells(pair: Any) -> list[str]:
    """One line of the table of pairs."""
    return [
        pair.variable,
        " → ".join(pair.levels),
        pair.target,
        str(pair.n),
        " → ".join(f"{mean.value:.3f}" for mean in pair.means),
        f"{pair.cliffs_delta:+.3f}",
        p_cell(pair.p_corrected),
        p_cell(pair.p_network),
    ]


def p_cell(p: float | None) -> str:
    """A p-value in three decimals."""
    return "–" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"
