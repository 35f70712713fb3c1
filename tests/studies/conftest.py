"""Small studies of MLPs on digits, as files."""

import shutil
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
from small_studies import DIGITS, HOW, THREE, TWO

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a study's file from its tables; the test runs in the folder where it lies."""
    monkeypatch.chdir(tmp_path)

    def written(networks: str = TWO, how: str = HOW, data: str = DIGITS, name: str = "small") -> Path:
        path = tmp_path / "study.toml"
        path.write_text(text_of(networks, how, data, name))
        return path

    return written


def text_of(networks: str, how: str, data: str, name: str) -> str:
    """A study's file."""
    return f'name = "{name}"\n{data}{how}{networks}'


@pytest.fixture(scope="session")
def run_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the small study, run once for all tests that begin with it."""
    return run_in(tmp_path_factory.mktemp("run-once"), TWO, executor="here")


@pytest.fixture(scope="session")
def by_two_workers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study of three networks that two workers did without being disturbed."""
    return run_in(tmp_path_factory.mktemp("by-two-workers"), THREE, workers=2)


def run_in(place: Path, networks: str, **how: Any) -> Path:
    """Run a study in a folder of its own."""
    from tunnelscope.studies.driver import run_study

    (place / "study.toml").write_text(text_of(networks, HOW, DIGITS, "small"))
    with chdir(place):
        return run_study(place / "study.toml", **how).folder


@pytest.fixture
def finished(write: Write, run_once: Path, tmp_path: Path) -> Path:
    """The folder `runs/small` of the study that `write()` writes, done before: a copy of the test's own."""
    shutil.copytree(run_once, tmp_path / "runs" / "small")
    return tmp_path / "runs" / "small"
