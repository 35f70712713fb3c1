"""`tunnelscope cache`: what features and probes are kept, and freeing them."""

import json
import time

import click

from tunnelscope.cli import options
from tunnelscope.cli.output import columns, echo_error
from tunnelscope.memory import read_size, size


@click.command()
@click.option("--free", is_flag=True, help="Delete what is listed.")
@click.option("--older", metavar="DAYS", type=float, help="Only what was not used for so many days.")
@click.option("--model", metavar="TEXT", help="Only what is of networks with this text in their name.")
@click.option("--down-to", metavar="SIZE", help="With --free: the longest unused first, until 20GB are left.")
@options.as_json
@options.debug
def cache(free: bool, older: float | None, model: str | None, down_to: str | None, as_json: bool) -> None:
    """List what the cache keeps, or free it.

    Features and probes of earlier scans are kept in $TUNNELSCOPE_CACHE, else in the user's cache
    folder, so that the same question is not computed twice and an interrupted scan goes on.

    Example: tunnelscope cache --free --older 30
    """
    from tunnelscope.store import Store

    store = Store()
    entries = store.entries()
    whole = sum(entry.bytes for entry in entries)
    if older is not None:
        entries = [entry for entry in entries if time.time() - entry.used > older * 24 * 3600]
    if model is not None:
        entries = [entry for entry in entries if model in str(entry.about.get("model", ""))]
    if down_to is not None:
        entries = _longest_unused(entries, whole - read_size(down_to, "--down-to"))
    freed = store.free(entries) if free else 0
    if as_json:
        listed = [
            {"key": entry.key, "kind": entry.kind, "bytes": entry.bytes, "used": entry.used, **entry.about}
            for entry in entries
        ]
        click.echo(json.dumps({"folder": str(store.folder), "entries": listed, "freed": freed}, indent=1))
        return
    if free:
        click.echo(f"{size(freed)} freed")
    else:
        click.echo(_table(entries))
    echo_error(f"{store.folder}: {size(whole - freed)} in use")


def _longest_unused(entries: list, surplus: int) -> list:
    chosen = []
    for entry in entries:  # the longest unused first
        if surplus <= 0:
            break
        chosen.append(entry)
        surplus -= entry.bytes
    return chosen


def _table(entries: list) -> str:
    """One line for each network and data set, the longest unused first."""
    groups: dict[tuple[str, str, str], list] = {}
    for entry in entries:
        place = (entry.kind, str(entry.about.get("model", "")), str(entry.about.get("data", "")))
        groups.setdefault(place, []).append(entry)
    rows = [
        [
            kind,
            model,
            data,
            str(len(group)),
            size(sum(entry.bytes for entry in group)),
            time.strftime("%Y-%m-%d", time.localtime(max(entry.used for entry in group))),
        ]
        for (kind, model, data), group in groups.items()
    ]
    return columns(["what", "model", "data", "layers", "size", "last used"], rows, right=(3, 4))
