"""Write the pages of the ledger from its table, src/tunnelscope/reproduce/results.csv; no number is typed.

    python docs/make_reproductions.py

The figures lie in docs/reproductions/images, where `tunnelscope reproduce … --out docs/reproductions/images`
puts them. `tests/reproduce/test_pages_of_the_ledger.py` checks that the pages are what this script writes.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from tunnelscope.cli.reproduce import figure
from tunnelscope.reproduce.harun2024 import claims as harun_claims
from tunnelscope.reproduce.items import ITEMS, PAPERS, Item
from tunnelscope.reproduce.ledger import PACKAGED, Row, read_rows
from tunnelscope.reproduce.masarczyk2023 import claims
from tunnelscope.reproduce.verdicts import AGREES, DISAGREES, NOT_COMPARABLE

NUMBERS, NUMBERS_TITLE = "harun2024-numbers.md", "What follows from the published data, and what does not"
FOLDER = Path(__file__).resolve().parent / "reproductions"
TITLES = {
    "masarczyk2023": "The Tunnel Effect, claim by claim",
    "harun2024": "What Variables Affect OOD Generalization in Pretrained Models?",
}
LEAD = {
    "masarczyk2023": """Masarczyk et al., *The Tunnel Effect: Building Data Representations in Deep Neural
Networks* (NeurIPS 2023, arXiv:2305.19753). Its full text was not at hand when the items were written:
*published* holds what readers of the paper and replications report, and tests of claims that are not known
to us are ours. Unless a reading says otherwise, maps are averaged into 2×2 and layers are read at the outputs
of convolutions and linear layers.""",
    "harun2024": """Harun et al., *What Variables Affect OOD Generalization in Pretrained Models?* (NeurIPS
2024, arXiv:2405.15018). At `released` its own table of 64 networks is read: printed numbers are held to what
it gives, claims are judged on networks, each a mean over its eight OOD sets. At `small` networks of our own
are trained and read, those of `studies/harun2024-small.toml`, two seeds each, under four readings of r.""",
}
READING = {
    "masarczyk2023": """A row of the ledger is a claim about one kind of network under one reading: a probe, a
threshold, a place where the network is read. *Surely* counts the rows whose whole 95 % interval over seeds is
on the verdict's side. A claim *holds* where all rows agree and *holds in part* where some do: under some
readings, or of some networks, as its items tell. Rows beside a control compare with what has learnt nothing
(the network as it was drawn, a part drawn anew); where all of those surely disagree, the claim tells nothing
of training.""",
    "harun2024": """A row of the ledger is a claim or a printed number. *Surely* counts the rows whose whole
95 % interval is on the verdict's side: over networks or over resamples of networks, and at `small` over
seeds. Two seeds tell little of how far seeds lie apart, so there the spread is pooled over all kinds of
networks of the models in question.""",
}
LEDGER = """What two items say alike counts once. The whole ledger: `tunnelscope reproduce`; how it works:
[Redoing the papers](../reproduce.md)."""
CLAIMS = claims.CLAIMS | harun_claims.CLAIMS
QUESTIONS = {  # of the 2024 paper: file, question, the claims that answer it
    "augmentation": ("Does augmentation move r?", ("H4", "H13")),
    "resolution": ("Does resolution move r?", ("H5", "H3", "H20")),
    "classes": ("Do classes move r, or images of each?", ("H10", "H2", "H15")),
    "reduction": ("Does it move r how early maps are reduced (φ)?", ("H6",)),
    "depth": ("Does depth move r?", ("H7", "H8")),
    "family": ("Does it matter whether a network is a CNN or a ViT, and its stem?", ("H9", "H11", "H12")),
    "where": ("Do networks of CIFAR have tunnels, and where do they start?", ("H18", "H19", "H21")),
}
PROTOCOL = "harun2024/protocol"
SCALES_TOLD = {
    "released": "In the released table: 64 networks of the paper",
    "small": "In networks of our own, at `small`",
    "paper": "At the paper's scale",
}
WORDS = {AGREES: "agrees", DISAGREES: "disagrees", NOT_COMPARABLE: "not comparable"}
HOLDS, DEPENDS, FAILS = "holds", "holds in part", "does not hold"
LIKE_CONTROL = "no more than in the control"  # the readings agree, but so they do without any training
NOTHING = "not comparable"
SHOWN = 3  # readings that disagree


def pages(rows: Sequence[Row]) -> dict[str, str]:
    """Return every page by its file's name: one of each item that has rows, and one of each paper."""
    by_item = {name: [row for row in rows if row.item == name] for name in ITEMS}
    told = {f"{slug(ITEMS[name])}.md": item_page(ITEMS[name], own) for name, own in by_item.items() if own}
    if numbers := printed_numbers(rows):
        told[NUMBERS] = numbers_page(numbers)
    for paper in PAPERS:
        own = [row for row in rows if row.item.startswith(f"{paper}/")]
        if own:
            told[f"{paper}.md"] = paper_page(paper, own)
    for name, (question, numbers) in QUESTIONS.items():
        if own := judged_by(rows, numbers):
            told[f"{question_slug(name)}.md"] = question_page(question, own)
    return told


def judged_by(rows: Sequence[Row], numbers: Sequence[str]) -> list[Row]:
    """Rows that judge one of these claims."""
    return [row for row in rows if row.test and row.claim.partition(" ")[0] in numbers]


def question_slug(name: str) -> str:
    """What a question's page is called."""
    return f"harun2024-question-{name}"


def question_page(question: str, rows: Sequence[Row]) -> str:
    """What every item says to a question, by scale: the outcome, each judged row, the figures."""
    parts = [
        f"# {question}",
        f"A question of [{TITLES['harun2024']}](harun2024.md), which tells how to read this.",
    ]
    for scale in [one for one in SCALES_TOLD if any(row.scale == one for row in rows)]:
        own = [row for row in rows if row.scale == scale]
        parts.append(f"## {SCALES_TOLD[scale]}")
        parts += [summary_table(own), claims_table(own, with_item=True)]
        items = [ITEMS[name] for name in dict.fromkeys(row.item for row in own)]
        if scale == "small":
            parts += [image for item in items for image in images(item, scale)]
    return "\n\n".join(parts) + "\n"


def images(item: Item, scale: str) -> list[str]:
    """The figures of an item that are drawn at a scale, as Markdown."""
    there = [] if scale == "paper" else drawn_of(item, "svg")
    return [f"![{item.title}](images/{path.name})" for path in there]


def printed_numbers(rows: Sequence[Row]) -> list[Row]:
    """Rows that hold a number to a printed one."""
    return [row for row in rows if row.claim.startswith("H1 ")]


def numbers_page(rows: Sequence[Row]) -> str:
    """Printed numbers of the 2024 paper that do not come out of its table, with the rule that gives them."""
    by_number: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        by_number.setdefault((row.item, row.claim, row.reading.partition("; ")[0]), []).append(row)
    apart = [own for own in by_number.values() if any(row.verdict == DISAGREES for row in own)]
    nowhere = [own for own in apart if all(row.verdict == DISAGREES for row in own)]
    parts = [f"# {NUMBERS_TITLE}", LEAD["harun2024"]]
    out, always = len(by_number) - len(nowhere), len(by_number) - len(apart)
    all_told = f"{len(by_number):,} printed numbers"
    parts.append(
        f"Of {all_told} {out:,} come out under one rule or another, {always:,} of them under every rule that "
        f"was tried; {len(nowhere)} come out under none. Those that depend on the rule or do not come out:"
    )
    heads = ["| number | of | printed | comes out as | rule | item |", "|:--|:--|--:|--:|:--|:--|"]
    lines = []
    for (item, claim, subject), own in by_number.items():
        if own not in apart:
            continue
        for place, row in enumerate(own):
            mark = "" if row.verdict == AGREES else " ✗"
            first = (claim.removeprefix("H1 "), subject, row.published) if not place else ("", "", "")
            rule = row.reading.partition("; ")[2] or "the only one"
            place_of = link(ITEMS[item]) if not place else ""
            lines.append(table_line((*first, f"{as_printed(row)}{mark}", rule, place_of)))
    parts.append("\n".join([*heads, *lines]))
    parts.append(
        "An item's command makes its numbers again: `tunnelscope reproduce harun2024/ITEM --data data`."
    )
    return "\n\n".join(parts) + "\n"


def slug(item: Item) -> str:
    """What an item's files are called."""
    return f"{item.paper}-{item.short}"


def link(item: Item) -> str:
    """A link to an item's page from another."""
    return f"[{item.short}]({slug(item)}.md)"


def table_line(cells: Sequence[str]) -> str:
    """A line of a Markdown table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def item_page(item: Item, rows: Sequence[Row]) -> str:
    """The page of one item: what was found, the figure, every row."""
    alias = f" (`{item.alias}`; the number is assumed)" if item.alias else ""
    parts = [f"# {item.title}", f"`{item.name}`{alias} of [{TITLES[item.paper]}]({item.paper}.md)."]
    for scale in dict.fromkeys(row.scale for row in rows):
        own = [row for row in rows if row.scale == scale]
        first = own[0]
        parts.append(f"```sh\n{first.command}\n```")
        seeds = next((row.seeds for row in own if row.seeds), "")
        told = [f"Seeds {seeds}"] if seeds else []
        parts.append(f"{'; '.join([*told, first.hardware, first.date])}.")
        parts.append(findings(own))
        drawn = images(item, scale)
        parts += drawn
        if drawn and seeds and has_curves(item):
            parts.append("Means over seeds; bands: the least and the largest; shaded: the tunnel.")
        parts += [claims_table(own), cells_table(own), notes(own)]
    return "\n\n".join(filter(None, parts)) + "\n"


def has_curves(item: Item) -> bool:
    """Whether its figure has curves over layers, and not points with intervals."""
    tables = drawn_of(item, "csv")
    return any(path.read_text(encoding="utf-8").startswith("panel,series,x,y") for path in tables)


def drawn_of(item: Item, ending: str) -> list[Path]:
    """An item's pictures, or the tables that they are drawn from."""
    return [path for path in sorted((FOLDER / "images").glob(f"{slug(item)}*.{ending}")) if is_of(path, item)]


def is_of(path: Path, item: Item) -> bool:
    """Whether a picture is this item's: fig1 has none of fig10's."""
    return bool(re.fullmatch(rf"{slug(item)}(-(?!skip|no)[a-z]+)?", path.stem))


def findings(rows: Sequence[Row]) -> str:
    """What was found, a sentence or two a claim: how many readings agree, and what the control says."""
    lines = [sentence(number, own) for number, own in by_number(rows).items()]
    for row in rows:
        if not row.test and not row.reading:
            lines.append(f"- **not comparable**: {row.claim} ({reason(row)})")
    return "\n".join(lines)


def sentence(number: str, rows: Sequence[Row]) -> str:
    """A claim's outcome in words."""
    told = f"- **{number}, {CLAIMS[number]}: {outcome(rows)}**"
    own, beside = parted(rows)
    judged = decided(own)
    if not judged:
        return f"{told} ({reason(own[0])})." if own else f"{told}."
    told += f". {share(judged)} agree"
    apart = [f"{row.claim.partition(' ')[2]} ({row.reading})" for row in judged if row.verdict == DISAGREES]
    if apart and len(apart) < len(judged):
        more = f" and {len(apart) - SHOWN} more" if len(apart) > SHOWN else ""
        told += f"; against it: {'; '.join(apart[:SHOWN])}{more}"
    compared = decided(beside)
    return told + (f". Beside the control {share(compared)} agree." if compared else ".")


def decided(rows: Sequence[Row]) -> list[Row]:
    """Rows that agree or disagree."""
    return [row for row in rows if row.verdict in (AGREES, DISAGREES)]


def reason(row: Row) -> str:
    """Why nothing can be compared, without what was changed."""
    return row.note.partition("; ")[0]


def distinct(rows: Sequence[Row]) -> list[Row]:
    """Rows without those that say again what another item says; a number printed twice is held to twice."""
    found = {}
    for row in rows:
        item = row.item if row.claim.startswith("H1 ") else ""
        found[item, row.claim, row.reading, row.scale, row.ours] = row
    return list(found.values())


def share(rows: Sequence[Row]) -> str:
    """How many rows agree, and how many of those surely, where they have intervals."""
    yes = [row for row in rows if row.verdict == AGREES]
    known = any(row.sure is not None for row in yes)
    sure = f" ({sum(row.sure is True for row in yes)} surely)" if known else ""
    return f"{len(yes)} of {len(rows)}{sure}"


def outcome(rows: Sequence[Row]) -> str:
    """How a claim came out over its rows; what the control says counts where all of it is sure."""
    own, beside = parted(rows)
    found = {row.verdict for row in decided(own)}
    if not found:
        return NOTHING
    if found == {DISAGREES}:
        return FAILS
    if beside and all(row.verdict == DISAGREES and row.sure is not False for row in beside):
        return LIKE_CONTROL
    return DEPENDS if DISAGREES in found else HOLDS


def parted(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Rows that test a claim, and rows that compare it with a control."""
    beside = [row for row in rows if is_control(row)]
    return [row for row in rows if row not in beside], beside


def is_control(row: Row) -> bool:
    """Whether a row compares the network with what has learnt nothing."""
    return any(word in f"{row.claim} {row.reading}" for word in ("untrained", "control", "step 0"))


def by_number(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows that judge a claim, by its number in our list, ascending."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row.test:
            found.setdefault(row.claim.partition(" ")[0], []).append(row)
    return {number: found[number] for number in sorted(found, key=lambda one: int(one[1:]))}


def claims_table(rows: Sequence[Row], with_item: bool = False) -> str:
    """Every judged row."""
    lines = ["| claim | reading | published | ours | holds if | verdict |", "|:--|:--|:--|--:|:--|:--|"]
    if with_item:
        lines = [f"{lines[0]} item |", f"{lines[1]}:--|"]
    judged = [row for row in rows if row.test]
    for row in judged:
        mark = " ?" if row.sure is False else ""
        cells = [row.claim, row.reading, row.published, number(row), row.test, WORDS[row.verdict] + mark]
        lines.append(table_line([*cells, link(ITEMS[row.item])] if with_item else cells))
    return "\n".join(lines) if judged else ""


def cells_table(rows: Sequence[Row]) -> str:
    """Numbers whose published value is not known to us: a row a subject, a column a reading, or turned."""
    cells = [row for row in rows if not row.test and row.reading]
    by_quantity: dict[str, list[Row]] = {}
    for row in cells:
        by_quantity.setdefault(row.claim.rpartition(": ")[2], []).append(row)
    parts = ["Cells of the paper that are not known to us, as they come out here:"] if cells else []
    for quantity, own in by_quantity.items():
        told = {(row.claim.rpartition(": ")[0], row.reading): number(row) for row in own}
        if len({subject for subject, _ in told}) < len({reading for _, reading in told}):
            told = {(reading, subject): value for (subject, reading), value in told.items()}  # words in rows
        heads = list(dict.fromkeys(head for _, head in told))
        lines = [f"| {quantity} | {' | '.join(heads)} |", "|:--|" + "--:|" * len(heads)]
        for name in dict.fromkeys(name for name, _ in told):
            lines.append(f"| {name} | {' | '.join(told.get((name, head), '') for head in heads)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def notes(rows: Sequence[Row]) -> str:
    """What was changed against the paper."""
    own = ("the published value is not known to us", "the statistic is not defined here", "defined for ")
    told = dict.fromkeys(
        part
        for row in rows
        if row.reading
        for part in row.note.split("; ")
        if part and not part.startswith(own)
    )
    return f"Changed against the paper, and notes: {'; '.join(told)}." if told else ""


def as_printed(row: Row) -> str:
    """A value with one digit more than what it is held to."""
    _, point, digits = row.published.partition(".")
    if row.ours is None or not point or row.published.startswith("<"):
        return number(row)
    return f"{row.ours:.{len(digits) + 1}f}"


def number(row: Row) -> str:
    """A value with its interval."""
    return figure(row.ours, row.low, row.high) or "–"


def paper_page(paper: str, rows: Sequence[Row]) -> str:
    """The summary of a paper: which claims hold, which depend on the reading, which do not."""
    parts = [f"# {TITLES[paper]}", LEAD[paper], READING[paper], LEDGER]
    for scale in dict.fromkeys(row.scale for row in rows):
        parts.append(f"## At `{scale}`")
        parts.append(summary_table([row for row in rows if row.scale == scale]))
    if printed_numbers(rows):
        parts.append(f"Each printed number that does not come out: [{NUMBERS_TITLE}]({NUMBERS}).")
    if paper == "harun2024":
        asked = [
            f"[{question}]({question_slug(name)}.md)"
            for name, (question, numbers) in QUESTIONS.items()
            if judged_by(rows, numbers)
        ]
        if any(row.item == PROTOCOL for row in rows):
            asked.append(f"[How much of r is the protocol?]({slug(ITEMS[PROTOCOL])}.md)")
        parts.append("A page a question: " + " · ".join(asked))
    items = [item for item in ITEMS.values() if item.paper == paper]
    answered = [item for item in items if any(row.item == item.name for row in rows)]
    parts.append("## Items")
    parts.append("\n".join(f"- {link(item)}: {item.title}" for item in answered))
    if waiting := [item.short for item in items if item not in answered]:
        parts.append(f"Still to be run: {', '.join(waiting)}.")
    return "\n\n".join(filter(None, parts)) + "\n"


def summary_table(rows: Sequence[Row]) -> str:
    """A row a claim: its outcome, how many rows agree, what the control says, and the items."""
    lines = ["| | claim | outcome | agree | beside the control | items |", "|:--|:--|:--|:--|:--|:--|"]
    for number, own in by_number(rows).items():
        tests, beside = map(decided, parted(distinct(own)))
        items = dict.fromkeys(row.item for row in own)
        links = ", ".join(link(ITEMS[item]) for item in items)
        cells = (number, CLAIMS[number], outcome(own), share(tests), share(beside) if beside else "–", links)
        lines.append(table_line(cells))
    return "\n".join(lines)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages(read_rows(PACKAGED)).items():
        (FOLDER / name).write_text(text, encoding="utf-8")
