"""docs/data.md: every example in its tables is a source that can be read, every option is there."""

import re
from pathlib import Path

import pytest
from planted_pages import stand_in_for_the_hub, write_data

from tunnelscope.data import load_draws
from tunnelscope.data.query import Options

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "data.md").read_text()
SOURCES = [
    example
    for row in re.findall(r"^\|[^|]+\|([^|]+)\|", PAGE, re.MULTILINE)
    for example in re.findall(r"`([^`]+)`", row)
]


@pytest.fixture
def data(tmp_path, monkeypatch):
    """The folder `data` of the pages, with a hub that gives its pets."""
    pytest.importorskip("datasets")
    write_data(tmp_path / "data")
    stand_in_for_the_hub(monkeypatch, tmp_path / "data" / "pets", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("source", SOURCES)
def test_every_example_can_be_read(data, source):
    loaded = load_draws(source)[-1]
    assert len(loaded.train) > 0
    assert len(loaded.test) > 0
    assert loaded.train.images[0] is not None


def test_the_page_has_every_option_and_form():
    assert len(SOURCES) > 15
    for option in Options.__dataclass_fields__:
        assert f"`{option}`" in PAGE
        assert any(f"{option}=" in source for source in SOURCES)
