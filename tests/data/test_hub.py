"""The hub goes through the `datasets` library's own loading code, here fed from local files."""

import sys

import pytest
from planted_images import (
    fingerprint,
)

from tunnelscope.data import load_data
from tunnelscope.errors import MachineError, RequestError


@pytest.fixture
def local_hub(animals, monkeypatch, tmp_path):
    datasets = pytest.importorskip("datasets")
    original = datasets.load_dataset
    asked = []

    def load_dataset(name, config=None):
        asked.append((name, config))
        files = {split: sorted(map(str, animals.glob(f"{split}-*"))) for split in ("train", "test")}
        return original("parquet", data_files=files, cache_dir=str(tmp_path / "cache"))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    datasets.disable_progress_bars()
    return asked


@pytest.mark.parametrize("query", ["", "?classes=0,2&per_class=2", "?split=test", "?max_samples=5"])
def test_hub_and_local_parquet_are_the_same_data(animals, local_hub, query):
    hub, local = load_data(f"someone/animals{query}"), load_data(f"{animals}{query}")
    assert (hub.key, hub.source) == ("someone/animals", f"someone/animals{query}")
    assert fingerprint(hub) == fingerprint(local)
    assert hub.train.labels.tolist() == local.train.labels.tolist()
    assert (hub.class_names, hub.notes) == (local.class_names, local.notes)
    assert local_hub == [("someone/animals", None)]


def test_hub_configuration_is_handed_on(local_hub):
    load_data("someone/animals?config=small")
    assert local_hub == [("someone/animals", "small")]


def test_local_folder_wins_over_a_hub_id(animals, local_hub, monkeypatch):
    monkeypatch.chdir(animals.parent.parent)
    assert load_data(f"{animals.parent.name}/animals").key == "animals"
    assert local_hub == []


def test_offline_hub_is_one_line(monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(MachineError) as caught:
        load_data("nobody/nothing-of-this-name")
    said = str(caught.value)
    assert "\n" not in said
    assert "the hub cannot be reached for nobody/nothing-of-this-name" in said
    assert "give a local parquet folder" in said


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (ValueError("Config name is missing.\nPick one: ['a', 'b']"), RequestError, "\\?config=NAME"),
        (RuntimeError("no room\nleft"), MachineError, "RuntimeError: no room left"),
    ],
)
def test_other_failures_of_the_hub_are_one_line(monkeypatch, error, kind, words):
    datasets = pytest.importorskip("datasets")

    def load_dataset(*_):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(kind, match=words) as caught:
        load_data("some/set")
    assert "\n" not in str(caught.value)


def test_unknown_hub_set_names_it(monkeypatch):
    datasets = pytest.importorskip("datasets")

    def load_dataset(name, _):
        raise datasets.exceptions.DatasetNotFoundError(f"Dataset '{name}' doesn't exist on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(RequestError, match="no data set some/set on the hub"):
        load_data("some/set")


def test_missing_extra_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(RequestError, match=r'pip install "tunnelscope\[hf\]"'):
        load_data("uoft-cs/cifar10")
