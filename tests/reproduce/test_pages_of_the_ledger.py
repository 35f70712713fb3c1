"""The committed results and the pages made of them: nothing on a page, and no verdict, is typed by hand."""

import importlib.util
import re
from dataclasses import replace
from pathlib import Path

import pytest

from tunnelscope.reproduce import verdicts
from tunnelscope.reproduce.items import ITEMS
from tunnelscope.reproduce.ledger import PACKAGED, Row, read_rows
from tunnelscope.reproduce.verdicts import (
    NOT_COMPARABLE,
    WAITS,
    Estimate,
    above,
    at_least,
    at_most,
    below,
    judge,
    no_effect,
    within,
)

DOCS = Path(__file__).resolve().parents[2] / "docs"
spec = importlib.util.spec_from_file_location("make_reproductions", DOCS / "make_reproductions.py")
make_reproductions = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make_reproductions)

ROWS = read_rows(PACKAGED)
BOUNDS = {"≥": at_least, "≤": at_most, ">": above, "<": below}


def test_pages_are_what_the_table_makes() -> None:
    told = make_reproductions.pages(ROWS)
    there = {path.name: path.read_text(encoding="utf-8") for path in (DOCS / "reproductions").glob("*.md")}
    assert told.keys() == there.keys()
    for name, text in told.items():
        assert text == there[name], f"{name}: run python docs/make_reproductions.py"


def test_pages_show_figures_that_are_there() -> None:
    shown = set()
    for path in (DOCS / "reproductions").glob("*.md"):
        for name in re.findall(r"\]\((images/[^)]+)\)", path.read_text(encoding="utf-8")):
            assert (DOCS / "reproductions" / name).is_file()
            shown.add(Path(name).name)
    drawn = {path.name for path in (DOCS / "reproductions" / "images").glob("*.svg")}
    assert shown == drawn
    assert all(
        path.stat().st_size < 1_000_000 for path in (DOCS / "reproductions").rglob("*") if path.is_file()
    )


@pytest.mark.parametrize("item", sorted({row.item for row in ROWS}))
def test_verdicts_follow_from_the_figures_beside_them(item: str) -> None:
    for row in (row for row in ROWS if row.item == item):
        assert row.item in ITEMS
        assert row.scale in ("small", "paper", "paper-20k", "released")
        assert row.verdict != WAITS
        assert row.hardware
        assert row.date
        assert row.command.startswith(f"tunnelscope reproduce {item} --scale")
        if not row.test:
            assert row.verdict == NOT_COMPARABLE
            assert row.note
            continue
        verdict, sure = judge(Estimate(row.ours, row.low, row.high), parsed(row.test))
        assert (row.verdict, row.sure) == (verdict, sure), row


def parsed(words: str) -> verdicts.Test:
    """The test that its words in the ledger mean."""
    if words.startswith("interval holds "):
        value, near = words.removeprefix("interval holds ").split(", within ±")
        return no_effect(float(near), float(value))
    if words[0] in BOUNDS:
        return BOUNDS[words[0]](float(words[1:]))
    least, most = words.split(" to ")
    return within(float(least), float(most))


def test_every_test_can_be_read_back() -> None:
    for test in (at_least(2), at_most(1.5), above(0), below(-20), within(-2, 2), no_effect(1)):
        assert parsed(test.words) == test


def judged(claim: str, reading: str, verdict: str, **others) -> Row:
    """A row of an item at `small`."""
    command = "tunnelscope reproduce masarczyk2023/fig1 --scale small"
    told = {"test": "≥ 2", "ours": 1.0, "scale": "small", "command": command} | others
    return Row("masarczyk2023/fig1", claim, reading=reading, verdict=verdict, **told)


def test_what_two_items_say_alike_counts_once() -> None:
    one = judged("C1 VGG-19: left", "a", "agrees", sure=True)
    again, other = replace(one, item="masarczyk2023/fig2"), replace(one, item="masarczyk2023/fig2", ours=2.0)
    assert make_reproductions.distinct([one, again, other]) == [again, other]
    assert "| 2 of 2 (2 surely) |" in make_reproductions.pages([one, again, other])["masarczyk2023.md"]
    printed = [replace(row, claim="H1 r of VGGm-11") for row in (one, again)]
    assert make_reproductions.distinct(printed) == printed  # a number printed twice is held to twice


def test_a_page_says_what_holds_and_what_depends_on_the_reading() -> None:
    rows = [
        judged("C10 VGG-19: far", "a", "agrees"),
        judged("C1 VGG-19: left", "a", "agrees", sure=True),
        judged("C1 VGG-19: left", "b", "disagrees", sure=False),
        judged("C2 VGG-19: start", "a", "agrees"),
        judged("VGG-19 on CIFAR-10: layer", "95 %", "not comparable", test="", ours=7.0),
        judged("VGG-19 on CIFAR-10: layer", "98 %", "not comparable", test="", ours=9.0),
        judged("MLP on CIFAR-10: layer", "95 %", "not comparable", test="", ours=4.0),
    ]
    told = make_reproductions.pages(rows)
    page = told["masarczyk2023-fig1.md"]
    assert "holds in part**. 1 of 2 (1 surely) agree; against it: VGG-19: left (b)." in page
    assert page.index("**C2, ") < page.index("**C10, ")
    assert "holds**. 1 of 1 agree." in page
    assert "| C1 VGG-19: left | b | unknown | 1 | ≥ 2 | disagrees ? |" in page
    assert (
        "| layer | 95 % | 98 % |\n|:--|--:|--:|\n| VGG-19 on CIFAR-10 | 7 | 9 |\n| MLP on CIFAR-10 | 4 |  |"
        in page
    )
    summary = told["masarczyk2023.md"]
    assert "## At `small`" in summary
    assert "holds in part | 1 of 2 (1 surely) | – | [fig1](masarczyk2023-fig1.md) |" in summary
    assert "Still to be run: fig2" in summary


@pytest.mark.parametrize(
    ("own", "beside", "outcome"),
    [
        (["agrees", "agrees"], [], "holds"),
        (["agrees", "agrees"], ["agrees", "disagrees"], "holds"),
        (["agrees", "agrees"], ["disagrees"], "no more than in the control"),
        (["agrees", "disagrees"], ["agrees"], "holds in part"),
        (["disagrees"], ["agrees"], "does not hold"),
        (["not comparable"], ["disagrees"], "not comparable"),
    ],
)
def test_a_claim_that_the_control_shows_too_does_not_hold(own, beside, outcome) -> None:
    rows = [judged("C3 MLP: rank", f"reading {number}", verdict) for number, verdict in enumerate(own)]
    rows += [judged("C3 MLP: rank", "against the untrained control", verdict) for verdict in beside]
    assert make_reproductions.outcome(rows) == outcome
