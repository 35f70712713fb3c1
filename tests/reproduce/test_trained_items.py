"""Items of the 2024 paper on trained networks: what they choose, what they compute, and that they run."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tunnelscope.errors import RequestError
from tunnelscope.models import load_network
from tunnelscope.reproduce.found import Found
from tunnelscope.reproduce.harun2024 import protocol, questions
from tunnelscope.reproduce.harun2024.continual import Halves, share_lost
from tunnelscope.reproduce.harun2024.networks import (
    AS_PAPER,
    EXACT,
    HELD_OUT,
    READINGS,
    Curves,
    Networks,
    differing,
)
from tunnelscope.reproduce.items import HARUN, ITEMS
from tunnelscope.reproduce.lab import Lab, own_accuracy
from tunnelscope.reproduce.ledger import PACKAGED, read_rows
from tunnelscope.reproduce.masarczyk2023.experiment import Experiment
from tunnelscope.reproduce.masarczyk2023.scales import SCALES
from tunnelscope.reproduce.running import function_of, reproduce
from tunnelscope.reproduce.verdicts import AGREES, DISAGREES, NOT_COMPARABLE
from tunnelscope.store import default_folder
from tunnelscope.studies.declaration import read_declaration
from tunnelscope.studies.networks import cells_of

QUICK = ("fig5", "fig18", "table3", "table10")  # the others in `make test-all`
TRAINED = [
    pytest.param(item, marks=[pytest.mark.slow] * (item.short not in QUICK), id=item.short)
    for item in HARUN
    if not item.is_released
]
RISING = np.array([0.1, 0.2, 0.4, 0.5, 0.58, 0.6, 0.6, 0.6, 0.6, 0.6])
FALLING = np.array([0.1, 0.2, 0.3, 0.4, 0.35, 0.3, 0.25, 0.22, 0.21, 0.2])


@pytest.fixture(scope="module")
def networks(real_data: Path) -> Networks:
    return Networks(Lab(real_data, default_folder() / "reproduce"), "small")


@pytest.fixture(scope="module")
def planted(networks: Networks) -> Curves:
    """A network whose tunnel starts after layer 4 by OOD accuracy, after layer 5 by ID accuracy."""
    cell = networks.chosen(model="vggm11", id="cifar100", augmentation="none", classes=None, per_class=None)[
        0
    ]
    return Curves(
        cell=cell,
        id=RISING,
        ood={"gtsrb": FALLING, "mnist": 2 * FALLING},
        retained={"gtsrb": 0.5, "mnist": 0.5},
        ranks=np.array([10, 20, 40, 80, 60, 40, 30, 20, 10, 8.0]),
        within=np.linspace(1, 0.1, 10),
        between=np.linspace(0.1, 1, 10),
        own=0.6,
        classes=100,
        ood_classes={"gtsrb": 43, "mnist": 10},
        parameters=200_000,
        images=10_000,
    )


@pytest.mark.parametrize("item", TRAINED)
def test_an_item_runs_at_smoke_scale(real_data: Path, tmp_path: Path, item) -> None:
    before = PACKAGED.read_bytes()
    rows = reproduce([item], "smoke", data=real_data, out=tmp_path / "figures")
    assert rows
    assert len({(row.claim, row.reading) for row in rows}) == len(rows), "two rows say the same"
    for row in rows:
        assert (row.item, row.scale) == (item.name, "smoke")
        assert row.command == f"tunnelscope reproduce {item.name} --scale smoke"
        assert row.verdict in (AGREES, DISAGREES, NOT_COMPARABLE)
        assert row.note
    for path in (tmp_path / "figures").glob("*.csv"):
        assert path.stem == f"harun2024-{item.short}"
        with path.open() as file:
            assert len(list(csv.DictReader(file))) > 1
    assert PACKAGED.read_bytes() == before


@pytest.mark.parametrize(
    "item",
    [
        pytest.param(item, marks=[pytest.mark.slow] * (item.short == "own-effects"), id=item.short)
        for item in HARUN
        if item.is_of_study
    ],
)
def test_the_ledger_is_what_the_table_of_networks_says_without_data(tmp_path: Path, item) -> None:
    """Made anew from the networks that ship, an item's rows are those that are put down."""
    rows = reproduce([item], "small", data=tmp_path / "nowhere", results=tmp_path / "rows.csv")
    put_down = [row for row in read_rows(PACKAGED) if (row.item, row.scale) == (item.name, "small")]
    assert len(rows) == len(put_down) > 0
    for row, kept in zip(rows, put_down, strict=True):
        facts = [(one.claim, one.reading, one.verdict, one.sure, one.hardware) for one in (row, kept)]
        assert facts[0] == facts[1]
        for one, other in ((row.ours, kept.ours), (row.low, kept.low), (row.high, kept.high)):
            assert one == other or one == pytest.approx(other, rel=1e-4, nan_ok=True), row.claim


def test_every_item_has_a_function() -> None:
    assert all(callable(function_of(item)) for item in ITEMS.values())


def test_the_paper_scale_is_a_study(real_data: Path) -> None:
    with pytest.raises(RequestError, match=r"study plan studies/harun2024\.toml"):
        reproduce([ITEMS["harun2024/fig5"]], "paper", data=real_data)


def test_networks_are_chosen_by_what_they_are(networks: Networks) -> None:
    plain = {"model": "vggm11", "id": "cifar100", "augmentation": "none", "resolution": 32}
    whole = networks.chosen(**plain, classes=None, per_class=None)
    assert [cell.seed for cell in whole] == [0, 1]
    few = networks.chosen(**plain, classes=10, per_class=100)
    assert {cell.levels["classes"] for cell in few} == {10}
    with pytest.raises(RequestError, match="has no network"):
        networks.chosen(model="vggm11", id="mnist")


def test_groups_are_the_networks_without_their_seeds(networks: Networks) -> None:
    named = questions.groups(networks)
    chosen = [cell.name for levels in named.values() for cell in networks.chosen(**levels)]
    assert sorted(chosen) == sorted(cell.name for cell in networks.cells)
    assert len(chosen) == 2 * len(named)


def test_a_row_of_paper_scale_says_nothing_of_what_small_changes(real_data: Path, tmp_path: Path) -> None:
    rows = reproduce([ITEMS["harun2024/fig18"]], "paper", data=real_data, results=tmp_path / "rows.csv")
    assert [row.scale for row in rows] == ["paper"]


@pytest.mark.parametrize("name", ["harun2024-small", "harun2024"])
def test_the_stem_is_the_one_that_is_told(name: str) -> None:
    for model, stem in {
        (cell.model, cell.told["stem"]) for cell in cells_of(read_declaration(f"studies/{name}.toml"))
    }:
        module = load_network(model, weights="random", classes=10).module
        first = next(child for child in module.modules() if isinstance(child, nn.Conv2d))
        assert first.kernel_size == (stem, stem), model


def test_what_is_read_off_planted_curves(planted: Curves) -> None:
    assert planted.peak == 4
    assert planted.start == 5
    assert planted.r == 50
    assert planted.has_learnt
    assert not replace(planted, own=0.015).has_learnt
    assert questions.rank_left(planted) == pytest.approx(0.1)
    ratio = planted.within / planted.between
    assert questions.compression(planted) == pytest.approx(ratio[9] / ratio[6])
    assert questions.last_accuracy(planted) == pytest.approx(30)


def test_differences_are_taken_by_seed(networks: Networks, planted: Curves, monkeypatch) -> None:
    better = replace(planted, retained={"gtsrb": 0.7, "mnist": 0.9})
    unlearnt = replace(better, own=0.01)
    told = {"none": [planted, planted], "resized-crop-flip": [better, unlearnt]}
    monkeypatch.setattr(Networks, "curves", lambda self, reading, **levels: told[levels["augmentation"]])
    found = differing(networks, EXACT, questions.PLAIN, questions.AUGMENTED, questions.r)
    assert found == [pytest.approx(30), None]


def test_readings_differ_in_what_they_read() -> None:
    assert len({reading.words for reading in READINGS}) == 4
    assert HELD_OUT.kept == "retained"
    assert AS_PAPER.quantity == "best_test_accuracy"


def test_networks_become_the_papers_variables(planted: Curves) -> None:
    given = protocol.observations(
        [planted, replace(planted, cell=planted.cell.model_copy(update={"name": "b"}))]
    )
    assert list(given.variables) == [
        "Stem",
        "Spatial Reduction",
        "CNN vs ViT",
        "Augmentations",
        "Resolution",
        "ID Class Count",
        "OverParam. Level",
        "Depth",
    ]
    row = given.frame.iloc[0]
    assert (row["Stem"], row["Spatial Reduction"], row["ID Class Count"], row["Depth"]) == (3, 0.5, 100, 11)
    assert row["OverParam. Level"] == 20
    assert len(given.frame) == 4


def test_pairs_differ_in_one_variable(networks: Networks, monkeypatch) -> None:
    asked: list[tuple[dict, dict]] = []

    def differing(networks, reading, one, other, statistic):
        asked.append((dict(one), dict(other)))
        return [1.0, 2.0]

    monkeypatch.setattr(protocol, "differing", differing)
    found = Found((0, 1))
    protocol.matched(found, networks, EXACT)
    assert all(sum(one[name] != other[name] for name in one) == 1 for one, other in asked)
    counts = [(row.claim.split()[0], int(row.reading.split("; ")[-1].split()[0])) for row in found.rows]
    # 2 sets of VGGm-11 and VGGm-17, VGGm-17 at 64², ResNets, ViTs (T+ at two sizes), VGGm†-11
    assert counts == [("H4", 11), ("H7", 4), ("H7", 2), ("H7", 2), ("H6", 2), ("H5", 5)]
    assert all(row.ours == pytest.approx(1.5) for row in found.rows)  # seeds are averaged first
    assert {row.claim.split()[0]: row.verdict for row in found.rows}["H7"] == DISAGREES


def test_replicates_are_one_network_with_their_mean(planted: Curves) -> None:
    other = planted.cell.model_copy(update={"name": planted.cell.name.replace("seed=0", "seed=1")})
    assert other.name != planted.cell.name
    better = replace(planted, cell=other, retained={"gtsrb": 0.7, "mnist": 0.9})
    given = protocol.observations([planted, better])
    assert len(given.networks) == 1
    assert dict(zip(given.frame["ood"], given.frame["r"], strict=True)) == pytest.approx(
        {"gtsrb": 0.6, "mnist": 0.7}
    )


def test_id_sets_are_compared_on_the_sets_that_both_are_read_on(
    networks: Networks, planted: Curves, monkeypatch
) -> None:
    retained = {"gtsrb": 0.8, "mnist": 0.6, "caltech101": 0.7, "clothing": 0.9}
    of_ten = replace(planted, retained={**retained, "cifar100": 0.0})  # its own extra set is left out
    of_hundred = replace(planted, retained={name: value + 0.05 for name, value in retained.items()})
    told = {"cifar10": [of_ten, of_ten], "cifar100": [of_hundred, of_hundred]}
    monkeypatch.setattr(Networks, "curves", lambda self, reading, id, **levels: told[id])
    found = Found((0, 1))
    questions.by_set(found, networks, questions.VGGM11, questions.PLAIN, "published")
    assert [row.ours for row in found.rows] == pytest.approx([5] * len(READINGS))
    assert {row.verdict for row in found.rows} == {AGREES}


def family(planted: Curves, networks: Networks) -> list[Curves]:
    """A network for each of the study's: r is 40 % without and 70 % with augmentation, 1 % less by seed."""
    given = []
    for cell in networks.cells:
        level = 0.4 if cell.levels["training.augmentation"] == "none" else 0.7
        retained = dict.fromkeys(planted.ood, level - 0.01 * cell.seed)
        given.append(replace(planted, cell=cell, retained=retained))
    return given


def test_the_protocol_is_compared_on_the_same_networks(
    networks: Networks, planted: Curves, monkeypatch
) -> None:
    first = {one.cell.name: one for one in family(planted, networks)}
    part = dict(list(first.items())[:12])  # fewer are read under the others, 5 points lower
    lower = {
        name: replace(one, retained={key: value - 0.05 for key, value in one.retained.items()})
        for name, one in part.items()
    }
    monkeypatch.setattr(
        protocol, "all_curves", lambda networks, reading: first if reading is HELD_OUT else lower
    )
    found = protocol.protocol(networks)
    apart = [row for row in found.rows if row.claim == "the same networks: r less r, points"]
    assert [row.ours for row in apart] == pytest.approx([-5] * 4 + [0])  # the code's also beside the paper's
    ranked = [row.ours for row in found.rows if "rank correlation" in row.claim]
    assert ranked == pytest.approx([1] * 5)
    means = [row.ours for row in found.rows if row.claim.startswith("mean over networks")]
    assert means[1] == pytest.approx(np.mean([one.r for one in part.values()]) - 5)
    assert any("12 networks" in row.note for row in found.rows)


def test_resnets_read_at_inputs_are_held_to_the_same_trainings(
    networks: Networks, planted: Curves, monkeypatch
) -> None:
    cells = networks.at_inputs.cells
    assert {cell.layers for cell in cells} == {"conv-inputs"}
    assert len(cells) == 8  # two depths, with and without augmentation, two seeds
    trainings = {cell.training_key for cell in networks.cells if "resnet" in cell.model}
    assert {cell.training_key for cell in cells} == trainings

    def all_curves(asked, reading):
        level = 0.6 if asked.is_at_inputs else 0.4
        return {
            cell.name: replace(
                planted,
                cell=cell,
                retained=dict.fromkeys(planted.ood, level + 0.1 * cell.seed + 0.2 * ("34" in cell.model)),
            )
            for cell in asked.cells
        }

    monkeypatch.setattr(protocol, "all_curves", all_curves)
    found = Found((0, 1))
    protocol.at_inputs(found, networks)
    row, without = found.rows
    assert (row.ours, row.low, row.high) == pytest.approx((20, 20, 20))  # of each kind, not in the mean alone
    assert "8 networks" in row.note
    assert without.ours == pytest.approx(
        100 * 0.21 / 0.4 - np.mean([40, 50, 60, 70])
    )  # of the planted curves


def test_own_effects_find_what_is_planted(networks: Networks, planted: Curves, monkeypatch) -> None:
    given = {one.cell.name: one for one in family(planted, networks)}
    monkeypatch.setattr(protocol, "all_curves", lambda networks, reading: given)
    monkeypatch.setattr(protocol, "RESAMPLES", {"small": 20})
    monkeypatch.setattr(protocol, "matched", lambda found, networks, reading: None)
    found = protocol.own_effects(networks)
    slopes = [row for row in found.rows if row.reading.startswith(HELD_OUT.words)]
    raised = next(row for row in slopes if row.claim.startswith("H4 "))
    assert raised.verdict == AGREES
    assert raised.sure
    others = [abs(row.ours) for row in slopes if row.test and row is not raised and row.ours is not None]
    assert raised.ours > 5 * max(others)
    assert found.figures["own-effects"].kind == "points"


def test_classes_have_to_move_r_upwards_and_twice_as_much_as_images() -> None:
    assert questions.classes_lead(20.0, -5.0) == 10
    assert questions.classes_lead(-20.0, 5.0) == -30
    assert questions.classes_lead(None, 5.0) is None


def test_a_share_of_an_accuracy_is_lost() -> None:
    cells = {"E1+T1, task 1": 40.0, "E1+T2, task 1": 10.0, "at chance": 3.0}
    assert share_lost(cells, "E1+T2, task 1", "E1+T1, task 1", 2.0) == pytest.approx(0.75)
    assert share_lost(cells, "E1+T2, task 1", "at chance", 2.0) is None


def test_no_tunnel_is_shaded_where_hardly_anything_is_lost(
    networks: Networks, planted: Curves, monkeypatch
) -> None:
    whole = replace(planted, retained={"gtsrb": 0.97, "mnist": 0.98})
    told = {"lost": [planted, planted], "kept": [whole, whole]}
    monkeypatch.setattr(Networks, "curves", lambda self, reading, which: told[which])
    drawn = questions.curves_figure(networks, {name: {"which": name} for name in told})
    assert drawn.shaded == {"lost": (4.0, 10.0)}


def test_a_resnets_parts_are_those_of_its_tasks(real_data: Path) -> None:
    experiment = Experiment(Lab(real_data, default_folder() / "reproduce"), SCALES["smoke"])
    run = Halves(experiment, 0, "zoo:resnet18?stem=imagenet&width=0.0625", ("0-4", "5-9"))
    assert run.places()[0] == "relu"
    assert run.places()[-1] == "layer4.1"
    assert len(run.places()) == 9
    first, second = (network.module.state_dict() for network in run.networks)
    mixed = run.swapped(0, 1, 0, "layer2.1").module.state_dict()
    for key, value in mixed.items():
        is_tunnel = key.startswith(("layer3", "layer4"))
        assert torch.equal(value, (second if is_tunnel else first)[key]), key
    assert not torch.equal(first["layer4.0.conv1.weight"], second["layer4.0.conv1.weight"])
    assert run.accuracy(run.swapped(1, 1, 1, "layer2.1"), 1) == own_accuracy(run.networks[1], run.sources[1])
    images = torch.randn(3, 3, 32, 32)
    module = run.networks[1].module
    with torch.no_grad():
        maps = module.maxpool(module.relu(module.bn1(module.conv1(images))))
        maps = nn.functional.adaptive_avg_pool2d(module.layer2(module.layer1(maps)), 2).flatten(1)
        assert torch.allclose(run.alone(1, "layer2.1").module[0](images), maps, atol=1e-5)
