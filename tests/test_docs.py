"""Docs say what is so: pages from runs, links that lead somewhere, commands that exist, examples that run."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from tunnelscope.cli import cli

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.fixture(scope="module")
def examples():
    spec = importlib.util.spec_from_file_location("make_examples", ROOT / "docs" / "make_examples.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_examples_and_readme_are_what_the_script_writes(examples):
    runs = json.loads(examples.KEPT.read_text())
    assert [run["name"] for run in runs] == list(examples.TITLES)
    assert (ROOT / "docs" / "examples.md").read_text() == examples.page(runs)
    text = (ROOT / "README.md").read_text()
    assert examples.readme(text, runs) == text
    assert runs[1]["command"] in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_every_command_is_in_the_readme_and_has_an_example():
    text = (ROOT / "README.md").read_text()
    for name, command in cli.commands.items():
        assert name in text
        assert "Example: tunnelscope" in command.help


def test_every_option_in_the_readmes_commands_exists():
    known = {
        option
        for command in cli.commands.values()
        for parameter in command.params
        for option in parameter.opts
    }
    for line in re.findall(r"tunnelscope [a-z]+ .*", (ROOT / "README.md").read_text()):
        for option in re.findall(r"(?<= )--[a-z-]+", line):
            assert option in known | {"--help"}, line


def test_the_five_lines_for_ones_own_network_run(tmp_path, monkeypatch):
    import torch
    from torch import nn
    from torch.utils.data import TensorDataset

    monkeypatch.chdir(tmp_path)
    block = next(
        code for code in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    )
    draws = torch.Generator().manual_seed(0)
    labels = torch.arange(120) % 3
    dataset = TensorDataset(torch.randn(120, 3, 8, 8, generator=draws) + labels[:, None, None, None], labels)
    place = {
        "my_train_dataset": dataset,
        "my_test_dataset": dataset,
        "my_model": nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU()),
    }
    assert len([line for line in block.splitlines() if line.strip()]) <= 5
    exec(block, place)
    assert (tmp_path / "runs" / "mine" / "report.html").exists()
