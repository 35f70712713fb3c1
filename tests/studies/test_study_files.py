"""A study's file: what it means, and what is said of one that is wrong."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_studies import unnamed

from tunnelscope.errors import RequestError
from tunnelscope.studies.declaration import SHIPPED, Declaration, read_declaration, shipped
from tunnelscope.studies.networks import cells_of
from tunnelscope.studies.plan import make_plan
from tunnelscope.studies.units import units_of

DATA = {"a": {"source": "data/a", "classes": 100}, "b": {"source": "data/b"}}


def declared(*networks: dict, **more: object) -> Declaration:
    told = {
        "name": "s",
        "data": DATA,
        "networks": [{"model": "zoo:mlp", "id": "a"} | one for one in networks],
    }
    return Declaration.model_validate(told | more)


LEVELS = st.lists(st.integers(1, 50), min_size=1, max_size=3, unique=True)


@given(depth=LEVELS, width=LEVELS, seed=LEVELS, out_depth=st.integers(1, 50))
def test_a_grid_is_every_combination_but_what_is_left_out(depth, width, seed, out_depth):
    grid = {"arguments": {"depth": depth, "width": width}, "seed": seed}
    kept = [one for one in depth if one != out_depth]
    study = declared(grid, exclude=[{"arguments": {"depth": out_depth}}])
    if not kept or kept == depth:
        with pytest.raises(RequestError, match="leaves no network" if not kept else "matches no network"):
            cells_of(study)
        return
    cells = cells_of(study)
    assert len(cells) == len(kept) * len(width) * len(seed)
    assert len({cell.name for cell in cells}) == len(cells)
    assert len({cell.training_key for cell in cells}) == len(cells)
    told = {(cell.levels["arguments.depth"], cell.levels["arguments.width"], cell.seed) for cell in cells}
    assert told == {(one, other, number) for one in kept for other in width for number in seed}


def test_models_sources_and_names_say_what_differs():
    study = declared(
        {"arguments": {"depth": 3}, "resolution": [32, 64], "classes": 10, "per_class": 5, "seed": [0, 1]}
    )
    cells = cells_of(study)
    assert [cell.name for cell in cells] == [
        "mlp-resolution=32-seed=0",
        "mlp-resolution=32-seed=1",
        "mlp-resolution=64-seed=0",
        "mlp-resolution=64-seed=1",
    ]
    assert cells[2].model == "zoo:mlp?depth=3&size=64"
    assert cells[2].source == "data/a?classes=0-9&per_class=5"
    assert cells_of(declared({"classes": 100}))[0].source == "data/a"  # all there are


def test_a_set_is_not_read_twice_and_sets_of_a_grid_come_first():
    cells = cells_of(declared({}, {"id": "b", "ood": ["a"]}, scan={"ood": ["a", "b"]}))
    assert [list(cell.ood) for cell in cells] == [["b"], ["a"]]


def test_what_decides_nothing_is_not_done_twice():
    cells = cells_of(declared({"variables": {"phi": 0.5}}, {"variables": {"phi": 1.0}, "pool": "flatten"}))
    assert [cell.name for cell in cells] == ["mlp", "mlp-pool=flatten"]
    assert cells[0].training_key == cells[1].training_key
    assert cells[0].scan_keys["exact"] != cells[1].scan_keys["exact"]
    units = units_of(cells)
    assert [unit.kind for unit in units] == ["train", "scan", "scan"]


def test_what_a_network_is_made_of_decides_its_keys(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own, start = Path("net.py"), Path("start.safetensors")
    study = declared({"model": "net.py:make", "training": {"weights": str(start)}})
    keys = set()
    for text in ("one", "another"):
        for path in (own, start):
            path.write_text(f"{path} {text}")
            keys.add(cells_of(study)[0].training_key)
    assert len(keys) == 4


def test_several_probes_are_scans_one_after_another():
    [cell] = cells_of(declared({}, scan={"probes": ["exact", "ridge"]}))
    training, first, second = units_of([cell])
    assert first.needs == (training.key,)
    assert second.needs == (training.key, first.key)


def test_networks_that_are_given_are_not_trained():
    cells = cells_of(declared({"weights": ["random", "x.pth"], "model": "timm:resnet18"}))
    assert [unit.kind for unit in units_of(cells)] == ["scan", "scan"]
    assert [cell.name for cell in cells] == ["resnet18-weights=random", "resnet18-weights=x.pth"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            'name = "x"\n[data.a]\nsource="s"\n[[networks]]\nmodel="m"\nid="a"\nseed=0.5',
            "networks[0].seed: Input should be a valid integer, got 0.5",
        ),
        (
            'name = "x"\n[data.a]\nsource="s"\n[[networks]]\nmodel="m"\nid="a"\nseed=[]',
            "networks[0].seed: ",
        ),
        ("name = ", "is no TOML"),
        ('name = "x y"\n[data.a]\nsource="s"\n[[networks]]\nmodel="zoo:mlp"\nid="a"', "name: "),
        ('nam = "x"', "no key of a study named 'nam'; nearest: name"),
        ('name = "x"\n[data.a]\nsorce = "s"', "no key of data.a named 'sorce'; nearest: source"),
        ('name = "x"\n[data.a]\nsource="s"\n[[networks]]\nmodel="m"\nid="a"\nsed=1', "nearest: seed"),
        (
            'name = "x"\n[data.a]\nsource="s"\n[[networks]]\nmodel="m"\nid="aa"',
            "no data set named 'aa'; nearest: a",
        ),
        ('name = "x"\n[data.a]\nsource="s"\n[[networks]]\nid="a"', "networks[0].model is missing"),
        (
            'name = "x"\n[data.a]\nsource="s"\n[scan]\nprobes=["exct"]\n[[networks]]\nmodel="m"\nid="a"',
            "no probe named 'exct'; nearest: exact",
        ),
        ('name = "x"\n[data.a]\nsource="s"\nclasses=1\n[[networks]]\nmodel="m"\nid="a"', "data.a.classes: "),
        (
            'name = "x"\n[training]\nepoch=1\n[data.a]\nsource="s"\n[[networks]]\nmodel="m"\nid="a"',
            "study.toml: no key of training named 'epoch'; nearest: epochs",
        ),
        (
            'name = "x"\n[data.a]\nsource="s"\n[[networks]]\nmodel="m"\nid="a"\ntraining.batches=[1]',
            "no key of networks[0].training named 'batches'; nearest: batch",
        ),
        ('extends = "study.toml"', "extends itself"),
        ("extends = 3", "takes the name of a file"),
    ],
)
def test_a_wrong_file_is_one_line_with_the_place_and_the_nearest_right_thing(
    text, said, tmp_path, tunnelscope
):
    path = tmp_path / "study.toml"
    path.write_text(text)
    done = tunnelscope("study", "run", path)
    assert done.code == 2
    assert said in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert done.out == ""


def test_a_file_that_is_not_there(tmp_path, tunnelscope):
    done = tunnelscope("study", "plan", tmp_path / "none.toml")
    assert done.code == 2
    assert "tunnelscope study init" in done.err
    assert "studies/harun2024.toml" in done.err


def test_a_file_over_another(tmp_path):
    (tmp_path / "base.toml").write_text(
        'name = "base"\n[data.a]\nsource = "s"\n[training]\nepochs = 3\nrate = 0.1\n'
        '[[networks]]\nmodel = "m"\nid = "a"\n'
    )
    (tmp_path / "more.toml").write_text(
        'extends = "base.toml"\nname = "more"\n[training]\nepochs = 5\n[[networks]]\nmodel = "n"\nid = "a"\n'
    )
    study = read_declaration(tmp_path / "more.toml")
    assert (study.name, study.training) == ("more", {"epochs": 5, "rate": 0.1})
    assert [grid.model for grid in study.networks] == ["m", "n"]


def test_the_example_and_shipped_files_can_be_read(tmp_path, tunnelscope):
    names = ["cifar10-mlps", "harun2024-small", "harun2024-v1", "harun2024"]
    assert shipped() == [f"{name}.toml" for name in names]
    for name in shipped():
        cells_of(read_declaration(Path("studies") / name))
    path = tmp_path / "study.toml"
    assert tunnelscope("study", "init", path).code == 0
    assert path.read_text() == (SHIPPED / "example.toml").read_text()
    assert len(cells_of(read_declaration(path))) == 10
    again = tunnelscope("study", "init", path)
    assert (again.code, "is there already" in again.err) == (2, True)
    other = tunnelscope("study", "init", tmp_path / "x.toml", "--from", "harun2023")
    assert "nearest: harun2024" in other.err


def test_a_training_on_fewer_images_is_planned_to_take_less(write):
    few = '[[networks]]\nmodel="zoo:mlp"\nid="low"\n[networks.training]\nmax_samples=[50, 100]\n'
    told = make_plan(read_declaration(write(few)), None, {"here": 1}).as_dict()
    assert not unnamed(told, "study plan", "cells")
    less, more = (cell["train_seconds"] for cell in told["cells"])
    assert more == pytest.approx(2 * less)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "counts"),
    [
        (
            "harun2024",
            {"networks": 64, "layers": 956, "probes": 8604, "curves": 576, "values_per_metric": 512},
        ),
        ("harun2024-v1", {"networks": 72, "layers": 1176, "probes": 10584, "curves": 648}),
    ],
)
def test_the_plan_of_the_paper(name, counts, tunnelscope, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # no data here
    done = tunnelscope("study", "plan", f"studies/{name}.toml", "--json")
    assert done.code == 0
    assert counts.items() <= done.json.items()
    assert "data/imagenet100" in done.json["missing"]
    assert done.json["seconds"]["here"] > done.json["seconds"]["local"] > 0
