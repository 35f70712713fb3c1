"""Networks from a user's own file, and its mistakes by file, line and message."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tunnelscope.data.transforms import Preprocessing
from tunnelscope.errors import RequestError
from tunnelscope.models.load import load_network

NETS = """\
from dataclasses import dataclass

import torch
from torch import nn

from blocks import block


@dataclass
class Plan:
    width: int


def make(width=4, depth=2, norm=None):
    plan = Plan(width)
    layers = [block(3, plan.width)] + [block(plan.width, plan.width) for _ in range(depth - 1)]
    return nn.Sequential(*layers)


def prepared():
    network = make()
    network.preprocessing = {"mean": 0.5, "std": 0.5, "size": 24}
    return network


def needs(width, depth):
    return make(width, depth)


def fails():
    return block("three", 4)


def nothing():
    make()


def pair():
    return make(), 3


def leaves():
    raise SystemExit(2)


def anything(**arguments):
    return nn.Linear(2, arguments["out"])


network = nn.Conv2d(1, 2, 3)
widths = [1, 2]
"""


@pytest.fixture
def nets(tmp_path) -> Iterator[Path]:
    (tmp_path / "blocks.py").write_text(
        "from torch import nn\n\ndef block(a, b):\n    return nn.Sequential(nn.Conv2d(a, b, 3), nn.ReLU())\n"
    )
    path = tmp_path / "nets.py"
    path.write_text(NETS)
    yield path
    sys.modules.pop("blocks", None)


def test_a_function_builds_the_network_with_its_arguments(nets):
    network = load_network(f"{nets}:make?width=6&depth=3", image_shape=(3, 16, 16))
    assert [conv[0].out_channels for conv in network.module] == [6, 6, 6]
    assert network.name == "make"
    assert network.preprocessing == Preprocessing(size=(16, 16), mean=(0.0,) * 3, std=(1.0,) * 3)
    assert "they go in scaled to 0..1, not normalised; set ?mean=…&std=…" in network.warnings[0]
    assert network.weights == "as its function gave them (seed 0)"
    assert network.warnings[1].startswith(f"the weights of {network.source} are as its function gave them")


def test_what_is_said_comes_before_what_the_network_carries(nets):
    assert load_network(f"{nets}:prepared", image_shape=(3, 16, 16)).preprocessing == Preprocessing(
        size=(24, 24), mean=(0.5,) * 3, std=(0.5,) * 3
    )
    assert load_network(f"{nets}:prepared?size=20&mean=0,1,2&crop_pct=0.5").preprocessing == Preprocessing(
        size=(20, 20), mean=(0.0, 1.0, 2.0), std=(0.5,) * 3, crop_pct=0.5
    )


def test_the_file_may_hold_the_network_itself(nets):
    assert load_network(f"{nets}:network", image_shape=(1, 8, 8)).module.out_channels == 2


def test_any_argument_reaches_a_function_that_takes_any(nets):
    assert load_network(f"{nets}:anything?out=5", image_shape=(1, 8, 8)).module.out_features == 5


def test_same_seed_same_weights(nets):
    prints = [load_network(f"{nets}:make", seed=seed).fingerprint for seed in (1, 1, 2)]
    assert prints[0] == prints[1] != prints[2]


def test_weights_of_a_file_are_loaded(nets, tmp_path):
    trained = load_network(f"{nets}:make", seed=7)
    torch.save({"model": trained.module.state_dict()}, tmp_path / "w.pt")
    loaded = load_network(f"{nets}:make", weights=tmp_path / "w.pt", seed=1)
    assert loaded.fingerprint == trained.fingerprint
    assert loaded.weights == "w.pt"


def test_nothing_is_left_beside_the_file_or_on_the_path(nets):
    before = list(sys.path)
    load_network(f"{nets}:make")
    assert sys.path == before
    assert sorted(file.name for file in nets.parent.iterdir()) == ["blocks.py", "nets.py"]


REFUSED = {
    "make2": r"no function named 'make2'; nearest: make\. Looked for in .*nets\.py\.",
    "": r"nets\.py needs the name of a function after it, .*there are: Plan, make, prepared, needs",
    "widths": r"widths in .*nets\.py is a list, not a function; name a function that returns the network",
    "make?widht=3": r"no argument of make\(\) named 'widht'; nearest: width\. It is at .*nets\.py:14\.",
    "needs?width=3": r"nets\.py:26: needs\(\) needs depth; add \?depth=…",
    "fails": r"nets\.py:31: fails\(\) raised TypeError: ",
    "nothing": r"nets\.py:34: nothing\(\) returns a NoneType; return a torch\.nn\.Module",
    "pair": r"nets\.py:38: pair\(\) returns a tuple; return a torch\.nn\.Module",
    "leaves": r"nets\.py:43: leaves\(\) raised SystemExit: 2",
    "anything": r"nets\.py:47: anything\(\) raised KeyError: 'out'",
    "prepared?std=0": r"std must be above 0",
}


@pytest.mark.parametrize("function", REFUSED)
def test_mistakes_are_named_by_file_line_and_message(nets, function):
    with pytest.raises(RequestError, match=REFUSED[function]) as error:
        load_network(f"{nets}:{function}")
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import torch\n\ndef make(:\n    pass\n", r"broken\.py:3: invalid syntax; correct the file"),
        (
            "import torch\nimport no_such_package\n",
            r"broken\.py:2: the file raised ModuleNotFoundError: No module",
        ),
        ("width = 3\nwidth / 0\n", r"broken\.py:2: the file raised ZeroDivisionError: division by zero"),
        ("open('absent.txt')\n", r"broken\.py:1: the file raised FileNotFoundError: .*absent\.txt"),
        ("x = '\x00'\n", r"broken\.py:1: .*null bytes"),
    ],
)
def test_a_file_that_does_not_run_is_refused_with_its_line(tmp_path, source, message):
    (tmp_path / "broken.py").write_text(source)
    with pytest.raises(RequestError, match=message):
        load_network(f"{tmp_path}/broken.py:make")


def test_a_file_that_is_not_there_gives_the_nearest(nets):
    with pytest.raises(RequestError, match=r"no file named '.*net\.py'; nearest: .*nets\.py"):
        load_network(f"{nets.parent}/net.py:make")
    with pytest.raises(RequestError, match=r"there is no folder 'nowhere'; give the path of a \.py file"):
        load_network("nowhere/net.py:make")
