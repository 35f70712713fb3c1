"""`tunnelscope data`: what a study's file says of its data beside what is there."""

import json
import sys
from collections import Counter
from pathlib import Path

import click

from tunnelscope.cli import options
from tunnelscope.cli.output import columns, echo_error

WRONG = 2


@click.group()
def data() -> None:
    """Look after the data sets of a study: check.

    Example: tunnelscope data check study.toml
    """


@data.command()
@click.argument("file", metavar="STUDY.toml", type=click.Path(path_type=Path))
@click.option("--strict", is_flag=True, help="Fail where a set is not there, too.")
@options.together(options.as_json, options.debug)
def check(file: Path, strict: bool, as_json: bool) -> None:
    """Compare the classes, train and test counts that a study's file declares with the data, a line a set.

    Ends with 2 where a set differs or cannot be read; sets that are not there are listed, and fail with
    --strict only. Labels are read, images are not; sets by hub id are fetched.

    Example: tunnelscope data check study.toml
    """
    from tunnelscope.cli.progress import ProgressDisplay
    from tunnelscope.studies.checking import check_data
    from tunnelscope.studies.declaration import read_declaration

    declared = read_declaration(file)
    with ProgressDisplay() as progress:
        sets = check_data(declared, progress.announce)
    if as_json:
        told = {"study": declared.name, "sets": [one.as_dict() for one in sets]}
        click.echo(json.dumps(told, indent=1, ensure_ascii=False))
    else:
        rows = [[one.name, f"{one.state}: {one.said}"] for one in sets]
        click.echo(columns(["data set", "the file against its source"], rows))
    faults = [one.name for one in sets if one.is_fault(strict)]
    counts = Counter(one.state for one in sets)
    echo_error(f"{file}: {', '.join(f'{count} {state}' for state, count in counts.items())}")
    if faults:
        sys.exit(WRONG)
