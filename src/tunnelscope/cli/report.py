"""`tunnelscope report`: draw the report and figures of a scan again."""

from pathlib import Path

import click

from tunnelscope.cli import options


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--figures", is_flag=True, help="Also write every figure as SVG and PDF into DIR/figures.")
@options.debug
def report(folder: Path, figures: bool) -> None:
    """Draw the report of the scan in FOLDER again, from its results alone.

    Example: tunnelscope report runs/r18 --figures
    """
    from tunnelscope import load
    from tunnelscope.report import write_figures

    scan = load(folder)
    click.echo(scan.report(folder / "report.html"))
    if figures:
        for path in write_figures(scan.frame, scan.run, folder / "figures"):
            click.echo(path)
