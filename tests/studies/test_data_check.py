"""`tunnelscope data check`: the counts that a study's file declares beside those of its sources."""

import re
import tomllib
from pathlib import Path

import pytest

from tunnelscope.studies.declaration import SHIPPED

PAGE = Path(__file__).parents[2] / "docs" / "harun2024-data.md"
LOW = "sklearn:digits?classes=0-4&per_class=40"


def sized(classes: int = 5, train: int = 200, test: int = 180, more: str = "") -> str:
    counts = f"classes = {classes}\ntrain = {train}\ntest = {test}\n"
    return f'[data.low]\nsource = "{LOW}"\n{counts}[data.high]\n{more}'


HERE = 'source = "sklearn:digits?classes=5-9"\n'
AWAY = 'source = "data/cub"\norigin = "a page of birds"\ntrain = 5994\n'


def test_what_agrees_is_said_a_line_a_set(tunnelscope, write):
    file = write(data=sized(more=HERE))
    ended = tunnelscope("data", "check", file)
    assert ended.code == 0, ended.err
    assert "low       agrees: 5 classes, 200 train, 180 test" in ended.out
    assert "high      agrees: 5 classes" in ended.out
    assert "(classes, train, test not declared)" in ended.out
    assert "2 agrees" in ended.err


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"classes": 10}, "differs: classes is 5, the file says 10"),
        ({"train": 50000}, "differs: train is 200, the file says 50,000"),
        ({"train": 1, "test": 2}, "differs: train is 200, the file says 1, test is 180, the file says 2"),
    ],
)
def test_what_differs_ends_with_2(tunnelscope, write, wrong, said):
    ended = tunnelscope("data", "check", write(data=sized(**wrong, more=HERE)))
    assert ended.code == 2
    assert said in ended.out


def test_what_is_not_there_fails_where_it_is_asked_to(tunnelscope, write):
    file = write(data=sized(more=AWAY))
    ended = tunnelscope("data", "check", file)
    assert ended.code == 0, ended.err
    assert "not there: from a page of birds; put it at data/cub, or name another" in ended.out
    assert tunnelscope("data", "check", file, "--strict").code == 2


def test_without_an_origin_the_line_says_what_was_not_found(tunnelscope, write):
    ended = tunnelscope("data", "check", write(data=sized(more='source = "./cub"\n')))
    assert ended.code == 0
    assert "not there: no data at ./cub" in ended.out


def test_what_is_there_and_cannot_be_read_is_a_fault(tunnelscope, write, tmp_path):
    (tmp_path / "cub").mkdir()
    ended = tunnelscope("data", "check", write(data=sized(more='source = "cub"\norigin = "birds"\n')))
    assert ended.code == 2
    assert "high      cannot be read: " in ended.out


def test_as_json(tunnelscope, write):
    told = tunnelscope("data", "check", write(data=sized(train=7, more=AWAY)), "--json")
    assert told.code == 2
    low, high = told.json["sets"]
    assert (told.json["study"], low["name"], low["source"], low["state"]) == ("small", "low", LOW, "differs")
    assert low["declared"] == {"classes": 5, "train": 7, "test": 180}
    assert low["found"] == {"classes": 5, "train": 200, "test": 180}
    assert (high["state"], high["declared"], high["found"]) == ("not there", {"train": 5994}, {})


def test_a_file_that_is_wrong_is_refused(tunnelscope, write):
    ended = tunnelscope("data", "check", write(data='[data.low]\nsourse = "a"\n[data.high]\nsource = "b"\n'))
    assert (ended.code, ended.out) == (2, "")
    assert "nearest: source" in ended.err


def test_the_page_of_the_papers_data_says_what_the_file_declares():
    declared = tomllib.loads((SHIPPED / "harun2024.toml").read_text())["data"]
    rows = re.findall(r"^\| `([\w-]+)` \|(.*)\|$", PAGE.read_text(), re.MULTILINE)
    assert [name for name, _ in rows] == list(declared)
    for name, rest in rows:
        _, classes, train, test, *_ = (cell.strip().replace(",", "") for cell in rest.split("|"))
        told = declared[name]
        assert (int(classes), int(train), int(test)) == (told["classes"], told["train"], told["test"]), name
        assert told["origin"]
