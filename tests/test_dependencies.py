"""What is declared is what is imported, and the page about it says so."""

import ast
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# where a package and its module are called differently
PACKAGES = {"PIL": "pillow", "sklearn": "scikit-learn", "vl_convert": "vl-convert-python"}
COMES_WITH = {"markupsafe": "jinja2"}  # part of its interface


def names(requirements):
    return {re.split(r"[\[<>=]", requirement)[0] for requirement in requirements}


def imported(folder):
    modules = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules |= {name.name.partition(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules.add(node.module.partition(".")[0])
    return {PACKAGES.get(name, name) for name in modules - sys.stdlib_module_names - {"tunnelscope"}}


def test_every_dependency_is_imported_and_every_import_declared():
    declared = names(PROJECT["dependencies"])
    extras = PROJECT["optional-dependencies"]
    optional = names(extras["hf"]) | names(extras["training"]) - {"tensorboard"}  # which PyTorch imports
    optional |= names(extras["effects"]) | names(extras["slurm"]) | names(extras["dask"])
    found = {COMES_WITH.get(name, name) for name in imported(ROOT / "src")}
    assert found == declared | optional


def test_the_page_says_why_each_dependency_is_there():
    extras = PROJECT["optional-dependencies"].values()
    every = names(PROJECT["dependencies"]).union(*map(names, extras))
    section = (ROOT / "docs" / "architecture.md").read_text().split("## Dependencies and why")[1]
    listed = set()
    for row in re.findall(r"^\| ([^|]+) \|", section, re.MULTILINE)[1:]:
        listed |= set(re.sub(r"\(extra[^)]*\)", "", row).replace(",", " ").split())
    assert listed - {"---"} == every
