"""Small studies of MLPs on digits, as files."""

from collections.abc import Callable
from pathlib import Path

import pytest

DIGITS = """
[data.low]
source = "sklearn:digits?classes=0-4&per_class=40"
[data.high]
source = "sklearn:digits?classes=5-9&per_class=40"
"""
HOW = """
[training]
recipe = "one-cycle"
epochs = 3
[scan]
ood = ["high"]
probes = ["ridge"]
"""
TWO = """
[[networks]]
model = "zoo:mlp"
id = "low"
arguments = { depth = [3, 4], width = 16 }
"""

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
