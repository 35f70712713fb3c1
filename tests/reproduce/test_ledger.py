"""The ledger's table: what is written is read back, rows replace their item's, bad tables are refused."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunnelscope.errors import RequestError
from tunnelscope.reproduce import ledger
from tunnelscope.reproduce.items import ITEMS
from tunnelscope.reproduce.ledger import Row, ledger_rows, put, read_rows, write_rows
from tunnelscope.reproduce.verdicts import VERDICTS, WAITS

words = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=30)
figures = st.none() | st.floats(-1e6, 1e6).map(lambda value: float(f"{value:.6g}"))
rows = st.builds(
    Row,
    item=words,
    claim=words,
    published=words,
    ours=figures,
    low=figures,
    high=figures,
    test=words,
    reading=words,
    scale=words,
    verdict=st.sampled_from(VERDICTS),
    sure=st.sampled_from([None, True, False]),
    seeds=words,
    hardware=words,
    date=words,
    command=words,
    note=words,
)


@given(st.lists(rows, max_size=5))
@settings(max_examples=50)
def test_rows_come_back_as_they_were(tmp_path_factory, given_rows: list[Row]) -> None:
    path = tmp_path_factory.mktemp("ledger") / "results.csv"
    write_rows(given_rows, path)
    assert read_rows(path) == given_rows


def test_rows_take_the_place_of_those_of_their_item_and_scale(tmp_path: Path) -> None:
    path, order = tmp_path / "results.csv", ["a", "b"]
    put([Row("b", "one", scale="small")], path, order)
    put([Row("a", "two", scale="small"), Row("a", "three", scale="small")], path, order)
    put([Row("a", "four", scale="paper")], path, order)
    put([Row("a", "five", scale="small")], path, order)
    assert [(row.item, row.claim) for row in read_rows(path)] == [("a", "four"), ("a", "five"), ("b", "one")]


def test_several_writers_lose_nothing(tmp_path: Path) -> None:
    path, names = tmp_path / "results.csv", [f"item{number}" for number in range(12)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda name: put([Row(name, "claim", scale="small")], path, names), names))
    assert [row.item for row in read_rows(path)] == names


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace("results table 1", "results table 0"), "another version"),
        (lambda text: text.replace("verdict", "judgement"), "other columns"),
        (lambda text: text.replace("waits", "perhaps"), "damaged"),
        (lambda text: text.replace(",0.5,", ",half,"), "damaged"),
    ],
)
def test_a_table_that_is_not_ours_is_refused(tmp_path: Path, change, said: str) -> None:
    path = tmp_path / "results.csv"
    write_rows([Row("a", "claim", ours=0.5)], path)
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(RequestError, match=said):
        read_rows(path)


def test_every_item_of_both_papers_stands_in_the_ledger_in_order(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ledger, "PACKAGED", tmp_path / "results.csv")
    waiting = ledger_rows()
    assert [row.item for row in waiting] == list(ITEMS)
    assert {row.verdict for row in waiting} == {WAITS}
    assert all(row.claim for row in waiting)
    done = Row("masarczyk2023/fig2", "C1", verdict="agrees", scale="small")
    put([done, replace(done, claim="C2")], tmp_path / "results.csv", list(ITEMS))
    assert [row.claim for row in ledger_rows() if row.item == done.item] == ["C1", "C2"]


def test_where_the_package_cannot_be_written_results_are_the_users_own(monkeypatch, tmp_path: Path) -> None:
    packaged = tmp_path / "package" / "results.csv"
    put([Row("masarczyk2023/fig1", "packaged", scale="small")], packaged, list(ITEMS))
    put([Row("masarczyk2023/fig2", "packaged", scale="small")], packaged, list(ITEMS))
    monkeypatch.setattr(ledger, "PACKAGED", packaged)
    monkeypatch.setattr(ledger, "_is_writable", lambda path: False)
    monkeypatch.setenv("TUNNELSCOPE_CACHE", str(tmp_path / "cache"))
    own = ledger.results_path()
    assert own.is_relative_to(tmp_path / "cache")
    put([Row("masarczyk2023/fig1", "own", scale="small")], own, list(ITEMS))
    told = {row.item: row.claim for row in ledger_rows()}
    assert (told["masarczyk2023/fig1"], told["masarczyk2023/fig2"]) == ("own", "packaged")
