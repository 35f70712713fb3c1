"""The hub goes through the `datasets` library's own loading code, here fed from local files."""

import sys

import pytest
from planted_images import NAMES, TEST, TRAIN, fingerprint, write_folders, write_parquet

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


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A hub repository of two configurations in a folder, loaded by the library's own code."""
    datasets = pytest.importorskip("datasets")
    folder = tmp_path / "repository"
    for config, labels in (("coarse", [row % 2 for row in TRAIN]), ("fine", TRAIN)):
        columns = {"names": NAMES, "image": "picture", "column": "kind"}
        write_parquet(folder / config / "train-00000-of-00001.parquet", labels, **columns)
        write_parquet(folder / config / "test-00000-of-00001.parquet", TEST, **columns)
    configs = "".join(f"- config_name: {name}\n  data_dir: {name}\n" for name in ("coarse", "fine"))
    (folder / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    original = datasets.load_dataset

    def load_dataset(name, config=None):
        return original(str(folder), config, cache_dir=str(tmp_path / "cache"))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    datasets.disable_progress_bars()
    return folder


@pytest.mark.parametrize("config", ["coarse", "fine"])
def test_configurations_and_columns_of_a_hub_set_are_chosen(repository, config):
    hub = load_data(f"someone/animals?config={config}&label=kind&image=picture&classes=0,1")
    local = load_data(f"{repository / config}?label=kind&classes=0,1")
    assert fingerprint(hub) == fingerprint(local)
    assert hub.train.labels.tolist() == local.train.labels.tolist()
    alone = load_data(f"someone/animals?config={config}&label=kind&split=test")
    assert len(alone.train) + len(alone.test) == len(TEST)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("", r"animals has 2 configurations: coarse, fine; choose one with someone/animals\?config=coarse"),
        ("?config=fien", "no configuration named 'fien'; nearest: fine. someone/animals has them"),
        ("?config=fine&label=knd", "no column named 'knd'; nearest: kind"),
        ("?config=fine&label=kind&image=img", "no column named 'img'"),
        ("?config=fine&label=kind&split=tset", "no split named 'tset'; nearest: test"),
        ("?config=fine&group=patient", "no column named 'patient'"),
    ],
)
def test_what_a_hub_set_lacks_is_named(repository, query, words):
    with pytest.raises(RequestError, match=words) as caught:
        load_data(f"someone/animals{query}")
    assert "\n" not in str(caught.value)


def test_a_hub_set_of_image_files_is_read_from_its_cache(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    for split, count in (("train", 4), ("test", 2)):
        write_folders(tmp_path / "files" / split, {"ant": count, "bee": count})
    original = datasets.load_dataset
    folder, cache = str(tmp_path / "files"), str(tmp_path / "cache")
    monkeypatch.setattr(datasets, "load_dataset", lambda *_: original(folder, cache_dir=cache))
    hub, local = load_data("someone/insects"), load_data(folder)
    assert hub.class_names == local.class_names == ("ant", "bee")
    assert fingerprint(hub) == fingerprint(local)


def test_the_first_configuration_is_not_taken_for_another(repository):
    labels = {
        config: load_data(f"a/b?config={config}&label=kind").train.labels for config in ("coarse", "fine")
    }
    assert labels["coarse"].tolist() == [row % 2 for row in TRAIN]
    assert labels["fine"].tolist() == TRAIN


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
        (ValueError("a new\nmessage"), RequestError, r"some/set: a new message \(\?config=NAME\)"),
        (RuntimeError("no room\nleft"), MachineError, "RuntimeError: no room left"),
        (
            RuntimeError("Dataset scripts are no longer supported, but found x.py"),
            RequestError,
            "some/set is a Python script.*refs/convert/parquet",
        ),
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
