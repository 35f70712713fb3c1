"""`tunnelscope reproduce`: the ledger, and what it says to bad input."""

from tunnelscope.reproduce.items import ITEMS
from tunnelscope.reproduce.ledger import COLUMNS

CONTRACT = {"item", "claim", "published", "ours", "low", "high", "reading", "scale", "verdict"}
CONTRACT |= {"seeds", "hardware", "date", "command"}


def test_the_ledger_has_every_item(tunnelscope) -> None:
    done = tunnelscope("reproduce", "--json")
    assert done.code == 0
    rows = done.json["rows"]
    assert set(COLUMNS) >= CONTRACT
    assert all(list(row) == list(COLUMNS) for row in rows)
    assert {row["item"] for row in rows} == set(ITEMS)
    assert not [row["item"] for row in rows if row["verdict"] == "waits"]


def test_the_ledger_as_a_table(tunnelscope) -> None:
    done = tunnelscope("reproduce")
    assert done.code == 0
    assert "harun2024/table13" in done.out
    assert "waits" not in done.out + done.err


def test_bad_input(tunnelscope, tmp_path) -> None:
    for arguments, said in (
        (["masarczyk2023/fig11"], "nearest: masarczyk2023/fig1"),
        (["masarczyk2023/fig1", "--scale", "smal"], "nearest: small"),
        (["masarczyk2023/fig1", "--scale", "smoke", "--data", tmp_path], "uoft-cs/cifar10"),
        (["harun2024/fig1", "--scale", "smoke", "--data", tmp_path], "cifar10 is not there"),
    ):
        done = tunnelscope("reproduce", *arguments)
        assert done.code == 2
        assert said in done.err
        assert done.out == ""
