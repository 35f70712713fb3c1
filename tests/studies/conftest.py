"""Small studies of MLPs on digits, as files."""

from collections.abc import Callable
from pathlib import Path

import pytest
from small_studies import DIGITS, HOW, TWO

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a study's file from its tables; the test runs in the folder where it lies."""
    monkeypatch.chdir(tmp_path)

    def written(networks: str = TWO, how: str = HOW, data: str = DIGITS, name: str = "small") -> Path:
        path = tmp_path / "study.toml"
        path.write_text(f'name = "{name}"\n{data}{how}{networks}')
        return path

    return written
