"""`tunnelscope study`: many networks declared in a file, run anywhere, gathered in one table."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tunnelscope.cli import options
from tunnelscope.cli.output import columns, echo_error
from tunnelscope.errors import RequestError, unknown_name
from tunnelscope.studies import CLUSTER_WORKERS, EXECUTORS

if TYPE_CHECKING:
    from tunnelscope.studies.state import Status

FAILED, INTERRUPTED = 1, 130
WARNINGS = 6  # texts on the terminal; study.json and the report have all
WATCHED = 20  # networks in the live table

file_argument = click.argument("file", metavar="STUDY.toml", type=click.Path(path_type=Path))
folder_argument = click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
out_option = click.option(
    "--out", metavar="DIR", type=click.Path(path_type=Path), help="The study's folder. [default: runs/NAME]"
)
workers_option = click.option(
    "--workers", type=click.IntRange(min=1), help="How many at a time. [default: one a GPU, or a core]"
)


@click.group()
def study() -> None:
    """Run many networks declared in a file: plan, run, status, watch, collect.

    Example: tunnelscope study init study.toml
    """


@study.command()
@click.argument("file", metavar="STUDY.toml", default="study.toml", type=click.Path(path_type=Path))
@click.option("--from", "name", metavar="NAME", default="example", help="A shipped study, such as harun2024.")
@options.debug
def init(file: Path, name: str) -> None:
    """Write a commented example of a study's file, or a copy of a shipped one."""
    from tunnelscope.studies.declaration import SHIPPED

    if file.exists():
        raise RequestError(f"{file} is there already; name another file")
    source = SHIPPED / f"{name.removesuffix('.toml')}.toml"
    if not source.exists():
        raise unknown_name("shipped study", name, [path.stem for path in SHIPPED.glob("*.toml")])
    try:
        file.write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    except OSError as error:
        raise RequestError(f"{file} cannot be written ({error.strerror})") from error
    echo_error(f"Wrote {file}; next: tunnelscope study plan {file}")


@study.command()
@file_argument
@out_option
@workers_option
@options.together(options.as_json, options.debug)
def plan(file: Path, out: Path | None, workers: int | None, as_json: bool) -> None:
    """Say what a study takes: networks, probes, time, memory, disk. Needs no data; absent sets are listed.

    Example: tunnelscope study plan study.toml
    """
    from tunnelscope.cli.progress import ProgressDisplay
    from tunnelscope.studies.declaration import read_declaration
    from tunnelscope.studies.executors import cores
    from tunnelscope.studies.plan import describe, make_plan

    declared = read_declaration(file)
    folder = out or Path("runs") / declared.name
    count = dict.fromkeys(("slurm", "dask"), workers or CLUSTER_WORKERS)
    count = {"here": 1, "local": workers or cores()} | count
    with ProgressDisplay() as progress:
        planned = make_plan(declared, folder if folder.exists() else None, count, progress)
    if as_json:
        click.echo(json.dumps(planned.as_dict(), indent=1, ensure_ascii=False))
        return
    for line in describe(planned):
        click.echo(line)


@study.command()
@file_argument
@out_option
@workers_option
@click.option(
    "--executor",
    default="local",
    show_default=True,
    type=options.OneOf("executor", EXECUTORS),
    help="Processes on this machine, this process, a Slurm array, or a Dask cluster.",
)
@click.option("--dask", metavar="ADDRESS", help="Of the scheduler, with --executor dask.")
@click.option(
    "--only",
    metavar="PATTERN",
    multiple=True,
    help="Networks whose names match, such as '*depth=8*'; repeat.",
)
@click.option("--force", is_flag=True, help="Do them anew even if they are done.")
@click.option("--edited", is_flag=True, help="The file was edited since: keep what still holds.")
@options.together(options.threads, options.as_json, options.debug)
def run(
    file: Path,
    out: Path | None,
    workers: int | None,
    executor: str,
    dask: str | None,
    only: tuple[str, ...],
    force: bool,
    edited: bool,
    threads: int | None,
    as_json: bool,
) -> None:
    """Train and scan every network of a study, and gather the table; the same command goes on after anything.

    Example: tunnelscope study run study.toml --workers 2
    """
    from tunnelscope.cli.progress import ProgressDisplay
    from tunnelscope.studies.driver import run_study

    with ProgressDisplay() as progress:
        outcome = run_study(
            file,
            out=out,
            executor=executor,
            workers=workers,
            threads=threads,
            dask=dask,
            only=only or None,
            force=force,
            edited=edited,
            progress=progress,
            announce=progress.announce,
        )
    show(outcome.folder, as_json)
    if outcome.failed or outcome.damaged:
        sys.exit(FAILED)


@study.command()
@folder_argument
@options.together(options.as_json, options.debug)
def status(folder: Path, as_json: bool) -> None:
    """Say how the study in DIR stands, unit by unit with --json."""
    from tunnelscope.studies.collect import opened

    about, statuses = opened(folder)
    if as_json:
        click.echo(json.dumps({"study": about["study"], "units": list(map(as_told, statuses))}, indent=1))
        return
    click.echo(table_of(statuses))
    echo_error(summary(statuses))


@study.command()
@folder_argument
@options.together(options.as_json, options.debug)
def collect(folder: Path, as_json: bool) -> None:
    """Gather what is done in DIR into results.parquet, variables.parquet and report.html."""
    from tunnelscope.studies.collect import collect as gather

    told = gather(folder)
    show(folder, as_json)
    if told["failures"] or told["damaged"]:
        sys.exit(FAILED)


@study.command()
@folder_argument
@click.option("--seconds", default=2.0, show_default=True, help="Between looks.")
@options.debug
def watch(folder: Path, seconds: float) -> None:
    """Show how the study in DIR goes, until it is over."""
    import time

    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from tunnelscope.studies.collect import opened
    from tunnelscope.studies.state import State, is_over

    opened(folder)
    state = State(folder)
    with Live(console=Console(stderr=True), auto_refresh=False) as live:
        while True:
            statuses = state.statuses()
            live.update(Text(f"{table_of(statuses, WATCHED)}\n{summary(statuses)}"), refresh=True)
            if is_over(statuses):
                return
            try:
                time.sleep(seconds)
            except KeyboardInterrupt:
                echo_error("no longer watched; the study is as it was")
                sys.exit(INTERRUPTED)


def show(folder: Path, as_json: bool) -> None:
    """Print a study's networks, then warnings, what failed and where the report is."""
    from tunnelscope.report.study import probe_note, warning_rows

    told = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    if as_json:
        click.echo(json.dumps(told, indent=1, ensure_ascii=False))
    else:
        click.echo(networks_table(folder, told))
    if note := probe_note(told):
        echo_error(note)
    warnings = warning_rows(told)
    for whose, text in warnings[:WARNINGS]:
        echo_error(f"warning: {whose}: {text}")
    if len(warnings) > WARNINGS:
        echo_error(f"{len(warnings) - WARNINGS} more warnings stand in {folder}/report.html")
    for line in told["damaged"]:
        echo_error(f"damaged, left out, made anew by the next run: {line}")
    for one in told["failures"]:
        echo_error(f"failed: {one['network']}, {one['kind']}: {one['error']} ({folder / one['log']})")
    echo_error(f"Table: {folder}/results.parquet; which variables matter: tunnelscope effects {folder}")
    echo_error(f"Report: {folder}/report.html")


def networks_table(folder: Path, told: dict[str, Any]) -> str:
    """A line a network: accuracy, the tunnel's start, r by OOD set."""
    import pandas as pd

    from tunnelscope.report.study import network_rows, with_first_probes

    rows = network_rows(told, with_first_probes(told, pd.read_parquet(folder / "results.parquet")))
    heads = [name for name in rows[0] if name != "link"]
    return columns(heads, [[row[name] for name in heads] for row in rows], right=range(2, len(heads)))


def table_of(statuses: "list[Status]", most: int | None = None) -> str:
    """A line a network: how each of its units stands."""
    lines: dict[str, list[str]] = {}
    for status in statuses:
        unit = status.unit
        took = f" {status.seconds:.0f} s" if status.seconds else ""
        lines.setdefault(unit.network, []).append(f"{unit.title}: {status.state}{took}")
    told = [[name, "; ".join(parts)] for name, parts in lines.items()]
    if most is not None and len(told) > most:
        busy = [row for row in told if "running" in row[1] or "failed" in row[1]]
        told = (busy + [row for row in told if row not in busy])[:most]
    return columns(["network", "units"], told)


def summary(statuses: "list[Status]") -> str:
    """How many units are in which state, and how long the rest takes."""
    from tunnelscope.studies.driver import time_left
    from tunnelscope.studies.plan import duration
    from tunnelscope.studies.state import RUNNING, counts_of, deserted

    told = ", ".join(f"{count} {state}" for state, count in counts_of(statuses).items())
    if gone := deserted(statuses):
        if len(gone) == sum(status.state == RUNNING for status in statuses):
            return f"{told}; nobody is at it any more, the same `study run` goes on"
        told += f" (the workers of {len(gone)} are gone)"
    left = time_left(statuses)
    return told if left is None else f"{told}; about {duration(left)} left"


def as_told(status: "Status") -> dict[str, Any]:
    """A unit in `--json`."""
    unit = status.unit
    return {
        "network": unit.network,
        "kind": unit.kind,
        "probe": unit.probe,
        "key": unit.key,
        "state": status.state,
        "seconds": status.seconds,
        "deaths": status.deaths,
        "error": status.error,
    }
