"""`tunnelscope report`: draw the report and figures of a scan again."""

from pathlib import Path

import click

from tunnelscope.cli import options
from tunnelscope.errors import RequestError, TunnelscopeError


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
    try:
        drawn = [scan.report(folder / "report.html")]
        if figures:
            drawn += write_figures(scan.frame, scan.run, folder / "figures")
    except (TunnelscopeError, OSError, MemoryError):
        raise
    except Exception as error:  # a run.json changed by hand lacks what any line of the report may need
        said = f"{type(error).__name__}: {error}"
        raise RequestError(
            f"the scan in {folder} cannot be drawn, its run.json or results.parquet was changed or damaged "
            f"({said}); run the scan again"
        ) from error
    for path in drawn:
        click.echo(path)
