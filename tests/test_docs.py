"""Docs say what is so: pages from runs, links that lead somewhere, commands that exist.

That the examples run is tested in docs/test_pages.py, that the site builds in docs/test_site.py.
"""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from tunnelscope.cli import cli

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.fixture(scope="module")
def examples():
    spec = importlib.util.spec_from_file_location("make_examples", ROOT / "docs" / "make_examples.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_trainings_is_what_its_script_writes():
    spec = importlib.util.spec_from_file_location(
        "make_over_training", ROOT / "docs" / "make_over_training.py"
    )
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    kept = json.loads(script.KEPT.read_text())
    assert [run["name"] for run in kept["runs"]] == list(script.TITLES)
    assert (ROOT / "docs" / "tunnels-as-they-form.md").read_text() == script.page(kept["runs"])
    for run in kept["runs"]:
        assert (ROOT / "docs" / "images" / f"{run['name']}-over-training.svg").exists()


def test_the_page_of_mlps_is_what_its_script_writes():
    spec = importlib.util.spec_from_file_location("make_mlp_study", ROOT / "docs" / "make_mlp_study.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    kept = json.loads(script.KEPT.read_text())
    assert len(kept["networks"]) == 27
    assert script.PAGE.read_text() == script.page(kept)
    assert script.PICTURE.exists()


def test_pages_with_numbers_are_what_the_script_writes(examples):
    kept = json.loads(examples.KEPT.read_text())
    assert [run["name"] for run in kept["runs"]] == list(examples.TITLES)
    assert (ROOT / "docs" / "examples.md").read_text() == examples.page(kept["runs"])
    for (path, place), write in examples.FILLED.items():
        text = path.read_text()
        assert write(kept) in text
        assert examples.filled(text, write(kept), place) == text
    assert kept["runs"][1]["command"] in (ROOT / "README.md").read_text()


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


def test_five_lines_are_enough_for_ones_own_network():
    block = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[0]
    assert "ts.scan(my_model" in block  # tests/docs/test_pages.py runs it
    assert len([line for line in block.splitlines() if line.strip()]) <= 5
