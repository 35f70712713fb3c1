"""`tunnelscope reproduce`: redo figures and tables of the papers, and print the ledger."""

import json
import os
from pathlib import Path

import click

from tunnelscope.cli import options
from tunnelscope.cli.output import columns, echo_error
from tunnelscope.reproduce.items import SCALES, chosen_items

DATA = "TUNNELSCOPE_DATA"
CLAIM_WIDTH, PUBLISHED_WIDTH = 40, 16  # letters in the table on the terminal; --json has all


@click.command()
@click.argument("items", nargs=-1, metavar="[ITEM …]")
@click.option(
    "--scale",
    default="small",
    show_default=True,
    type=options.OneOf("scale", SCALES),
    help="How large: seconds, two cores in hours, or the paper's own sizes (a GPU).",
)
@click.option(
    "--data",
    metavar="DIR",
    help=f"Folder that holds cifar10 and cifar100. [default: ${DATA}, else data]",
)
@click.option("--out", metavar="DIR", help="Folder for the figures. [default: runs/reproduce/SCALE]")
@click.option(
    "--retrain",
    is_flag=True,
    help="Train the 2024 paper's small networks here although a table of what they gave ships.",
)
@options.together(options.threads, options.as_json, options.debug)
def reproduce(
    items: tuple[str, ...],
    scale: str,
    data: str | None,
    out: str | None,
    retrain: bool,
    threads: int | None,
    as_json: bool,
) -> None:
    """Redo figures and tables of the two papers and judge their claims; without ITEM, print the ledger.

    ITEM: masarczyk2023/fig1, a speaking name such as masarczyk2023/cl_swaps, or a paper for all of its items.
    What was trained is kept and shared between items; the same command goes on after an interruption.

    Example: tunnelscope reproduce masarczyk2023/fig1 --scale smoke --data data
    """
    from tunnelscope.reproduce.ledger import ledger_rows

    chosen = chosen_items(items)
    if chosen:
        folder = Path(data or os.environ.get(DATA) or "data")
        rows = _run(chosen, scale, folder, out, threads, retrain)
    else:
        rows = ledger_rows()
    if as_json:
        click.echo(json.dumps({"rows": [row.as_dict() for row in rows]}, indent=1, ensure_ascii=False))
        return
    click.echo(ledger_table(rows))
    echo_error(summary_line(rows))


def _run(chosen: list, scale: str, data: Path, out: str | None, threads: int | None, retrain: bool) -> list:
    from tunnelscope.cli.progress import ProgressDisplay
    from tunnelscope.reproduce.running import reproduce as run
    from tunnelscope.scanning import set_threads

    set_threads(threads)
    folder = Path(out) if out else Path("runs") / "reproduce" / scale
    with ProgressDisplay() as progress:
        rows = run(
            chosen,
            scale,
            data=data,
            out=folder,
            retrain=retrain,
            progress=progress,
            announce=progress.announce,
        )
    echo_error(f"Figures: {folder}")
    return rows


def ledger_table(rows: list) -> str:
    """One line a claim of an item at a scale, its readings together; `--json` has every row."""
    heads = ["item", "claim", "published", "ours", "scale", "verdict"]
    claims: dict[tuple[str, str, str], list] = {}
    for row in rows:
        claims.setdefault((row.item, row.claim, row.scale), []).append(row)
    return columns(heads, [claim_line(own) for own in claims.values()])


def claim_line(rows: list) -> list[str]:
    """A claim under all its readings: from the least to the largest figure, and how many agree."""
    from tunnelscope.reproduce.verdicts import AGREES, DISAGREES

    first = rows[0]
    published = dict.fromkeys(row.published for row in rows)
    values = [row.ours for row in rows if row.ours is not None]
    ours = figure(first.ours, first.low, first.high)
    verdict = first.verdict + (" ?" if first.sure is False else "")
    if len(rows) > 1:
        ends = [f"{value:.3g}" for value in sorted(values)]
        ours = " to ".join(dict.fromkeys(ends[:1] + ends[-1:]))
        kinds = {row.verdict for row in rows}
        agreeing = sum(row.verdict == AGREES for row in rows)
        verdict = f"agrees: {agreeing} of {len(rows)}" if kinds & {AGREES, DISAGREES} else first.verdict
    return [
        first.item,
        shortened(first.claim, CLAIM_WIDTH),
        shortened(first.published, PUBLISHED_WIDTH) if len(published) == 1 else "…",
        ours,
        first.scale,
        verdict,
    ]


def shortened(text: str, width: int) -> str:
    """Cut a text to a width."""
    return text if len(text) <= width else f"{text[: width - 1]}…"


def figure(value: float | None, low: float | None, high: float | None) -> str:
    """A value with its interval, in three digits."""
    if value is None:
        return ""
    return f"{value:.3g}" if low is None or high is None else f"{value:.3g} [{low:.3g}, {high:.3g}]"


def summary_line(rows: list) -> str:
    """How many rows have which verdict."""
    from tunnelscope.reproduce.verdicts import VERDICTS

    counts = {verdict: sum(row.verdict == verdict for row in rows) for verdict in VERDICTS}
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    unsure = sum(row.sure is False for row in rows)
    more = f"; of {unsure} the interval reaches the other side (?)" if unsure else ""
    return f"{len(rows)} rows: {told}{more}. Everything of a row: --json."
