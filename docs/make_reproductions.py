"""Write the pages of the ledger from its table, src/tunnelscope/reproduce/results.csv; no number is typed.

    python docs/make_reproductions.py

The figures lie in docs/reproductions/images, where `tunnelscope reproduce … --out docs/reproductions/images`
puts them. `tests/reproduce/test_pages_of_the_ledger.py` checks that the pages are what this script writes.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from tunnelscope.reproduce.items import ITEMS, PAPERS, Item
from tunnelscope.reproduce.ledger import PACKAGED, Row, read_rows
from tunnelscope.reproduce.verdicts import AGREES, DISAGREES, NOT_COMPARABLE

FOLDER = Path(__file__).resolve().parent / "reproductions"
TITLES = {
    "masarczyk2023": "The Tunnel Effect, claim by claim",
    "harun2024": "What Variables Affect OOD Generalization in Pretrained Models?",
}
LEAD = {
    "masarczyk2023": """Masarczyk et al., *The Tunnel Effect: Building Data Representations in Deep Neural
Networks* (NeurIPS 2023, arXiv:2305.19753). Its full text was not at hand when the items were written:
*published* holds what readers of the paper and replications report, and tests of claims that are not known
to us are ours.""",
}
READING = """A row of the ledger is a claim under one reading: a probe, a threshold, a place where the network
is read. *Surely* counts the readings whose whole 95 % interval over seeds is on the verdict's side. The whole
ledger: `tunnelscope reproduce`; how it works: [Redoing the papers](../reproduce.md)."""
WORDS = {AGREES: "agrees", DISAGREES: "disagrees", NOT_COMPARABLE: "not comparable"}


def pages(rows: Sequence[Row]) -> dict[str, str]:
    """Return every page by its file's name: one of each item that has rows, and one of each paper."""
    by_item = {name: [row for row in rows if row.item == name] for name in ITEMS}
    told = {f"{slug(ITEMS[name])}.md": item_page(ITEMS[name], own) for name, own in by_item.items() if own}
    for paper in PAPERS:
        own = [row for row in rows if row.item.startswith(f"{paper}/")]
        if own:
            told[f"{paper}.md"] = paper_page(paper, own)
    return told


def slug(item: Item) -> str:
    """What an item's files are called."""
    return f"{item.paper}-{item.short}"


def item_page(item: Item, rows: Sequence[Row]) -> str:
    """The page of one item: what was found, the figure, every row."""
    alias = f" (`{item.alias}`; the number is assumed)" if item.alias else ""
    parts = [f"# {item.title}", f"`{item.name}`{alias} of [{TITLES[item.paper]}]({item.paper}.md)."]
    for scale in dict.fromkeys(row.scale for row in rows):
        own = [row for row in rows if row.scale == scale]
        first = own[0]
        parts.append(f"```sh\n{first.command}\n```")
        seeds = next((row.seeds for row in own if row.seeds), "")
        parts.append(f"Seeds {seeds}; {first.hardware}; {first.date}.")
        parts.append(findings(own))
        there = sorted((FOLDER / "images").glob(f"{slug(item)}*.svg"))
        names = [path.name for path in there if is_of(path, item)]
        parts += [f"![{item.title}](images/{name})" for name in names]
        if names:
            parts.append("Lines are means over seeds, bands the least and the largest.")
        parts += [claims_table(own), cells_table(own), notes(own)]
    return "\n\n".join(filter(None, parts)) + "\n"


def is_of(path: Path, item: Item) -> bool:
    """Whether a picture is this item's: fig1 has none of fig10's."""
    return bool(re.fullmatch(rf"{slug(item)}(-(?!skip|no)[a-z]+)?", path.stem))


def findings(rows: Sequence[Row]) -> str:
    """What was found in words: each claim with the readings it holds in."""
    lines = []
    for claim, own in by_claim(rows).items():
        yes, no = readings(own, AGREES), readings(own, DISAGREES)
        if yes and no:
            share = f"{len(yes)} of {len(yes) + len(no)}"
            lines.append(f"- **depends on the reading** ({share} agree): {claim}")
        elif yes or no:
            judged = len(yes) + len(no)
            count = f" (all {judged} readings)" if judged > 1 else ""
            lines.append(f"- **{'holds' if yes else 'does not hold'}**{count}: {claim}")
        else:
            lines.append(f"- **not comparable**: {claim} ({own[0].note})")
    unsure, known = (sum(row.sure in wanted for row in rows) for wanted in ((False,), (False, True)))
    if unsure:
        lines.append(
            f"\nIn {unsure} of {known} rows with an interval it reaches the test's other side (marked ?)."
        )
    return "\n".join(lines)


def by_claim(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows that judge something, by their claim; with those of which nothing can be compared at all."""
    judged: dict[str, list[Row]] = {}
    for row in rows:
        if row.test or not row.reading:
            judged.setdefault(row.claim, []).append(row)
    return judged


def readings(rows: Sequence[Row], verdict: str) -> list[str]:
    """Readings under which a verdict was reached."""
    return [row.reading for row in rows if row.verdict == verdict]


def claims_table(rows: Sequence[Row]) -> str:
    """Every judged row."""
    lines = ["| claim | reading | published | ours | holds if | verdict |", "|:--|:--|:--|--:|:--|:--|"]
    judged = [row for row in rows if row.test]
    for row in judged:
        mark = " ?" if row.sure is False else ""
        cells = (row.claim, row.reading, row.published, number(row), row.test, WORDS[row.verdict] + mark)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) if judged else ""


def cells_table(rows: Sequence[Row]) -> str:
    """Numbers whose published value is not known to us."""
    cells = [row for row in rows if not row.test and row.reading]
    if not cells:
        return ""
    lines = ["Cells of the paper that are not known to us, as they come out here:", ""]
    lines += ["| cell | reading | ours |", "|:--|:--|--:|"]
    return "\n".join([*lines, *(f"| {row.claim} | {row.reading} | {number(row)} |" for row in cells)])


def notes(rows: Sequence[Row]) -> str:
    """What was changed against the paper."""
    known = "the published value is not known to us"
    told = dict.fromkeys(
        part for row in rows if row.reading for part in row.note.split("; ") if part and part != known
    )
    return f"Changed against the paper: {'; '.join(told)}." if told else ""


def number(row: Row) -> str:
    """A value with its interval."""
    if row.ours is None:
        return "–"
    if row.low is None or row.high is None:
        return f"{row.ours:.3g}"
    return f"{row.ours:.3g} [{row.low:.3g}, {row.high:.3g}]"


def paper_page(paper: str, rows: Sequence[Row]) -> str:
    """The summary of a paper: which claims hold, which depend on the reading, which do not."""
    groups: dict[str, list[str]] = {"Holds": [], "Depends on the reading": [], "Does not hold": []}
    for (item, claim), own in by_item_and_claim(rows).items():
        yes, no = readings(own, AGREES), readings(own, DISAGREES)
        if not yes and not no:
            continue
        kind = "Depends on the reading" if yes and no else "Holds" if yes else "Does not hold"
        sure = sum(row.sure is True for row in own)
        link = f"[{ITEMS[item].short}]({slug(ITEMS[item])}.md)"
        share = f"{len(yes)} of {len(yes) + len(no)}"
        groups[kind].append(f"| {claim} | {link} | {share} | {sure} |")
    parts = [f"# {TITLES[paper]}", LEAD.get(paper, "")]
    parts.append(READING)
    for kind, lines in groups.items():
        if lines:
            parts.append(f"## {kind}")
            heads = ["| claim | item | readings that agree | surely |", "|:--|:--|:--|--:|"]
            parts.append("\n".join([*heads, *lines]))
    items = [item for item in ITEMS.values() if item.paper == paper]
    answered = [item for item in items if any(row.item == item.name for row in rows)]
    parts.append("## Items")
    parts.append("\n".join(f"- [{item.short}]({slug(item)}.md): {item.title}" for item in answered))
    if waiting := [item.short for item in items if item not in answered]:
        parts.append(f"Still to be run: {', '.join(waiting)}.")
    return "\n\n".join(filter(None, parts)) + "\n"


def by_item_and_claim(rows: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    """Judged rows by item and claim."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row.test:
            found.setdefault((row.item, row.claim), []).append(row)
    return found


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages(read_rows(PACKAGED)).items():
        (FOLDER / name).write_text(text, encoding="utf-8")
