"""What MkDocs writes into pages while it builds the site: the commands' reference, the changelog."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

CHANGELOG = Path(__file__).resolve().parent.parent / "CHANGELOG.md"


def on_page_markdown(markdown: str, page: Any = None, **_: Any) -> str:
    """MkDocs asks this for each page: fill the places that pages have for what is kept elsewhere."""
    if page is not None and "\n## " not in markdown:
        page.meta["hide"] = ["toc"]  # without sections there is nothing to list, and tables get the room
    for place, written in (("<!-- every command -->", command_reference), ("<!-- changelog -->", changelog)):
        if place in markdown:
            markdown = markdown.replace(place, written())
    return markdown


def changelog() -> str:
    """CHANGELOG.md, its links as they are seen from this folder."""
    return CHANGELOG.read_text(encoding="utf-8").replace("](docs/", "](")


def command_reference() -> str:
    """A section a command, in the order of `tunnelscope --help`."""
    from tunnelscope.cli import cli

    return "\n\n".join(section(name, command) for name, command in commands(cli, "tunnelscope"))


def commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    """Every command under a group by its full name, a group's own commands after it."""
    for name, command in group.commands.items():
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")


def section(name: str, command: click.Command) -> str:
    """Usage, words, example and options of one command."""
    context = click.Context(command, info_name=name)
    words, _, example = inspect.cleandoc(command.help or "").partition("Example: ")
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    parts = [f"## {name}", f"```text\n{usage}\n```", words.strip()]
    if example:
        parts.append(f"```sh\n{' '.join(example.split())}\n```")
    options = (parameter for parameter in command.get_params(context) if isinstance(parameter, click.Option))
    records = filter(None, (option.get_help_record(context) for option in options))
    # Python-Markdown takes | inside of `…` as it is; spaces around it are where a narrow page breaks the line
    rows = [f"| `{' | '.join(option.split('|'))}` | {cell(meaning)} |" for option, meaning in records]
    return "\n\n".join([*parts, "\n".join(["| option | what it does |", "|---|---|", *rows])])


def cell(text: str) -> str:
    """Text that a table of Markdown takes as it is."""
    told = " ".join(text.split()).replace("] [", "; ")  # two brackets side by side are a link to Markdown
    return told.replace("|", "\\|").replace("<", "&lt;")
