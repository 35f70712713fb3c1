"""Every item of the 2023 paper runs at smoke scale on real images and shares its networks."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from tunnelscope.errors import RequestError
from tunnelscope.reproduce.items import ITEMS, MASARCZYK, chosen_items
from tunnelscope.reproduce.lab import Lab, own_accuracy
from tunnelscope.reproduce.ledger import PACKAGED, UNKNOWN
from tunnelscope.reproduce.masarczyk2023.continual import Continual, vgg
from tunnelscope.reproduce.masarczyk2023.experiment import EXACT, FAMILIES, Experiment
from tunnelscope.reproduce.masarczyk2023.scales import SCALES
from tunnelscope.reproduce.running import reproduce
from tunnelscope.reproduce.verdicts import AGREES, DISAGREES, NOT_COMPARABLE
from tunnelscope.store import default_folder


@pytest.fixture(scope="module")
def kept_results():
    return PACKAGED.read_bytes() if PACKAGED.exists() else None


LONG = (
    "fig1",
    "fig2",
    "fig7",
    "fig8",
    "fig10",
    "table1",
    "table2",
    "table3",
    "appendix-no-skip",
)  # in `make test-all`
ALL = [
    pytest.param(item, marks=[pytest.mark.slow] * (item.short in LONG), id=item.short) for item in MASARCZYK
]


@pytest.mark.parametrize("item", ALL)
def test_an_item_runs_at_smoke_scale(real_data: Path, tmp_path: Path, kept_results, item) -> None:
    rows = reproduce([item], "smoke", data=real_data, out=tmp_path / "figures")
    assert rows
    for row in rows:
        assert row.item == item.name
        assert row.scale == "smoke"
        assert row.verdict in (AGREES, DISAGREES, NOT_COMPARABLE)
        assert row.command == f"tunnelscope reproduce {item.name} --scale smoke"
        assert row.hardware
        assert row.note
        if row.verdict == NOT_COMPARABLE:
            assert row.published == UNKNOWN or row.ours is None
        else:
            assert row.test
            assert row.seeds == "0"
            assert row.ours is not None
    names = {row.claim for row in rows}
    assert len(names) > 1
    assert len({(row.claim, row.reading) for row in rows}) == len(rows), "two rows say the same"
    drawn = sorted(path.stem for path in (tmp_path / "figures").glob("*.svg"))
    assert drawn == sorted(path.stem for path in (tmp_path / "figures").glob("*.csv"))
    assert drawn or item.short == "table4"  # a table of accuracies, all of which are rows
    for path in (tmp_path / "figures").glob("*.csv"):
        with path.open() as file:
            assert len(list(csv.DictReader(file))) > 1
    assert (PACKAGED.read_bytes() if PACKAGED.exists() else None) == kept_results


def test_what_is_trained_is_trained_once(real_data: Path) -> None:
    lines: list[str] = []
    item = ITEMS["masarczyk2023/fig3"]
    first = reproduce([item], "smoke", data=real_data)
    again = reproduce([item], "smoke", data=real_data, announce=lines.append)
    assert first == again
    assert [line for line in lines if line.startswith(("training", "scanning"))] == []


def experiment(real_data: Path) -> Experiment:
    return Experiment(Lab(real_data, default_folder() / "reproduce"), SCALES["smoke"])


def test_layers_are_counted_as_the_paper_counts_them(real_data: Path) -> None:
    asked = experiment(real_data)
    last = {family: asked.curves(family, EXACT)[0].numbers.tolist() for family in FAMILIES}
    assert last["mlp"] == list(range(1, 13))
    assert last["vgg19"] == list(range(1, 19))  # 16 convolutions, 2 hidden linear layers
    assert last["resnet34"] == list(range(1, 34, 2))  # the stem, and the second convolution of each block


def test_swapped_parts_are_those_of_their_tasks(real_data: Path) -> None:
    run = Continual(experiment(real_data), 0, vgg(experiment(real_data), 16))
    cut = "features.22"
    first, second = (network.module.state_dict() for network in run.networks)
    mixed = run.swapped(0, 1, 0, cut).module.state_dict()
    after = run.stretch(cut).modules
    head = "classifier.4."
    for key, value in mixed.items():
        in_tunnel = any(key.startswith(f"{name}.") for name in after)
        wanted = first if key.startswith(head) or not in_tunnel else second
        assert torch.equal(value, wanted[key]), key
    assert not torch.equal(first["features.40.weight"], second["features.40.weight"])
    whole = run.swapped(1, 1, 1, cut)
    assert run.accuracy(whole, 1) == own_accuracy(run.networks[1], run.sources[1])


def test_an_extractor_alone_keeps_its_maps(real_data: Path) -> None:
    run = Continual(experiment(real_data), 0, vgg(experiment(real_data), 16))
    images = torch.randn(3, 3, 32, 32)
    for cut in ("features.22", "classifier.1"):
        alone = run.alone(1, cut).module
        with torch.no_grad():
            module = run.networks[1].module
            maps = module.features[: 22 + 1](images)
            if cut == "classifier.1":
                flat = module.flatten(module.avgpool(module.features(images)))
                wanted = module.classifier[:2](flat)
            else:
                wanted = torch.nn.functional.adaptive_avg_pool2d(maps, 2).flatten(1)
            assert torch.allclose(alone[0](images), wanted, atol=1e-6)
        assert alone[1].out_features == 5


def test_a_redrawn_tunnel_keeps_the_extractor_alone(real_data: Path) -> None:
    run = Continual(experiment(real_data), 0, vgg(experiment(real_data), 16))
    old, new = run.networks[1].module.state_dict(), run.redrawn(1, "features.22").module.state_dict()
    assert torch.equal(old["features.20.weight"], new["features.20.weight"])
    assert not torch.equal(old["features.40.weight"], new["features.40.weight"])
    assert not torch.equal(old["classifier.4.weight"], new["classifier.4.weight"])


def test_more_than_two_tasks(real_data: Path) -> None:
    run = Continual(experiment(real_data), 0, vgg(experiment(real_data), 5), tasks=("0-2", "3-5", "6-9"))
    told = [run.accuracy(run.swapped(task, task, task, "features.2"), task) for task in range(3)]
    assert len(run.trained) == 3
    for task, accuracy in enumerate(told):  # a network with its own parts is the network as it was trained
        assert accuracy == own_accuracy(run.networks[task], run.sources[task])


def test_names() -> None:
    assert [item.name for item in chosen_items(["masarczyk2023/cl_swaps", "masarczyk2023/table4"])] == [
        "masarczyk2023/table4"
    ]
    assert len(chosen_items(["masarczyk2023"])) == len(MASARCZYK)
    assert len(chosen_items(["harun2024"])) == 40
    with pytest.raises(RequestError, match="nearest: masarczyk2023/fig1"):
        chosen_items(["masarczyk2023/fig01"])


def test_scales_are_as_they_are_settled() -> None:
    small, paper = SCALES["small"], SCALES["paper"]
    assert max(small.width.values()) <= 0.25
    assert max(epochs for epochs in small.epochs.values() if epochs) <= 20
    assert all(value is None for name, value in paper.epochs.items() if name in ("mlp", "vgg", "resnet"))
    assert len(paper.seeds) >= 3
    assert small.draws >= 5
    assert not paper.changed
    assert small.changed
    assert np.isclose(sorted(small.shares), [0.1, 0.25, 0.5, 1]).all()
