"""Every example on every page runs, from top to bottom, in a folder with small data.

So that a page takes seconds, commands read few rows, and random weights stand in for those on the hub.
What reads real data is checked for its options in `make test` and runs in `make test-all`.
"""

import ast
import importlib.util
import inspect
import re
import shlex
import tomllib
from pathlib import Path

import pytest
from planted_pages import (
    copy_runs,
    link_real_data,
    names_of_your_own,
    stand_in_for_the_hub,
    write_data,
    write_networks,
)

import tunnelscope as ts
from tunnelscope.cli import cli
from tunnelscope.reproduce.items import chosen_items

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
FEW = {"classes": "0-1", "per_class": "3"}  # what a command reads of a set that is not a planted one
TUNNELS = {"runs/mlp": "hidden.0.relu", "runs/vgg19": "features.19", "runs/resnet34": "layer3.2"}
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
ON_THE_HUB = re.compile(r"(timm|torchvision):")

spec = importlib.util.spec_from_file_location("docs_hooks", DOCS / "hooks.py")
hooks = importlib.util.module_from_spec(spec)
spec.loader.exec_module(hooks)

PAGES = {
    str(path.relative_to(ROOT)): hooks.on_page_markdown(path.read_text(encoding="utf-8"))
    for path in (ROOT / "README.md", *sorted(DOCS.rglob("*.md")))
}
REAL_SETS = {f"data/{name}" for name in ("cifar10", "cifar100", "gtsrb", "caltech101", "clothing", "text")}
REAL_SETS |= {"data/weights", "data/harun2024"}


@pytest.fixture(scope="session")
def planted(tmp_path_factory, demo_folder, scans):
    """What pages find in the folder they run in."""
    pytest.importorskip("transformers")
    place = tmp_path_factory.mktemp("planted")
    write_data(place / "data")
    write_networks(place)
    copy_runs(place / "runs", demo_folder, scans)
    return place


@pytest.fixture
def place(planted, tmp_path, monkeypatch):
    """A folder of its own for one page, with links to what is planted."""
    for name in ("data", "runs"):
        (tmp_path / name).mkdir()
        for path in (planted / name).iterdir():
            (tmp_path / name / path.name).symlink_to(path)
    for name in ("models", "net.py", "net.safetensors"):
        (tmp_path / name).symlink_to(planted / name)
    stand_in_for_the_hub(monkeypatch, planted / "data" / "pets", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", PAGES)
def test_every_example_on_the_page_runs(page, place, tunnelscope):
    for words in run_page(page, tunnelscope):
        assert read_by(words) & REAL_SETS, f"{words}: no such data is planted"


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if any(name in PAGES[page] for name in REAL_SETS)])
def test_examples_on_real_data_run(page, place, tunnelscope, real_data):
    link_real_data(place / "data", real_data)
    assert run_page(page, tunnelscope) == []


def run_page(page: str, tunnelscope) -> list[list[str]]:
    """Run a page from top to bottom; return the commands that read what is not here."""
    names, not_run = names_of_your_own(), []
    for language, block in BLOCK.findall(PAGES[page]):
        if language == "python":
            run_python(block, names)
            continue
        for words in commands(block):
            check(words)
            if not all(Path(path).exists() for path in read_by(words)):
                not_run.append(words)
            elif words[0] == "tunnelscope":
                ended = tunnelscope(*quick(words[1:]))
                assert ended.code == 0, f"{shlex.join(words)}: {ended.err}"
    return not_run


def commands(block: str) -> list[list[str]]:
    """The words of each command, comments left out, lines that go on joined."""
    lines = block.replace("\\\n", " ").splitlines()
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


def check(words: list[str]) -> None:
    """Check a command's name, arguments and options."""
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), words
    elif words[0] == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        assert words[1] == "install"
        assert words[2] == "." or words[2][2:-1] in extras
    else:
        assert words[0] == "tunnelscope", f"no rule for how to test {words}"
        cli.commands[words[1]].make_context(words[1], words[2:])


def read_by(words: list[str]) -> set[str]:
    """The places in `data/` that a command reads."""
    return {"/".join(word.partition("?")[0].split("/")[:2]) for word in words if word.startswith("data/")}


def quick(arguments: list[str]) -> list[str]:
    """The command with few rows, and with random weights where it would ask the hub for some."""
    arguments = list(arguments)
    command, model, *_ = [*arguments, ""]
    if command == "demo":
        return ["demo", "--help"]  # it takes 20 s: run once for all tests as `demo_folder`
    if command == "reproduce":  # its items run in tests/reproduce; here their names are looked up
        chosen_items([word for word in arguments[1:] if "/" in word])
        return ["reproduce"]
    if arguments[:2] == ["data", "check"] and "mine" in arguments[2]:
        return ["data", "check", "--help"]  # the planted sets are not those of the paper
    if any("cifar10-mlps" in word for word in arguments):
        return [*arguments, "--help"]  # 27 networks; tests/test_docs.py checks the page's numbers
    if arguments[:2] == ["study", "run"]:
        return [*arguments, "--only", "mlp-depth=3-width=32-seed=0", "--executor", "here"]
    if command == "train":
        return [*arguments, "--epochs", "1", "--max-samples", "60", "--save-steps", "0"]
    if "--max-samples" in arguments:
        arguments[arguments.index("--max-samples") + 1] = "60"
    if command in ("reset", "linearise") and "--layer" not in arguments:  # 60 images make no tunnel
        arguments += ["--layer", TUNNELS[model]]
    if command in ("scan", "record", "reset", "linearise"):
        before = [command, *arguments]
        arguments = [
            few(word, option == "--id")
            if option in ("--id", "--ood") or (command, place) == ("record", 2)
            else word
            for place, (option, word) in enumerate(zip(before, arguments, strict=False))
        ]
        if ON_THE_HUB.match(model) and "--weights" not in arguments:
            arguments += ["--weights", "random"]
    return arguments


def few(source: str, is_id: bool) -> str:
    """A set of which few rows are read, the ID set with all classes; the planted ones have few."""
    name, _, query = source.partition("?")
    if not name.startswith("sklearn:") and not read_by([name]) & REAL_SETS:
        return source
    options = FEW | parse_options(query)
    if is_id and "classes" not in query:
        del options["classes"]
    return f"{name}?{'&'.join(f'{key}={value}' for key, value in options.items())}"


def parse_options(query: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in query.split("&") if part)


def run_python(block: str, names: dict) -> None:
    """Run a block; one that needs weights from the hub is checked for its names and arguments."""
    if not (ON_THE_HUB.search(block) and "random" not in block):
        exec(block, names)
        return
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("ts."):
            name = ast.unparse(node.func).removeprefix("ts.")
            assert name in ts.__all__
            known = inspect.signature(getattr(ts, name)).parameters
            assert {keyword.arg for keyword in node.keywords} <= set(known)


def test_every_command_and_option_is_in_the_reference():
    text = PAGES["docs/cli.md"]
    for name, command in hooks.commands(cli, "tunnelscope"):
        assert f"## {name}\n" in text
        _, rest = text.split(f"## {name}\n", 1)
        for parameter in command.params:
            for option in parameter.opts if parameter.param_type_name == "option" else ():
                assert f"| `{option}" in rest


def test_every_command_is_on_a_page_beside_the_reference():
    text = "".join(text for page, text in PAGES.items() if page != "docs/cli.md")
    for name, _ in hooks.commands(cli, "tunnelscope"):
        assert name in text


def test_the_python_page_has_the_public_names_and_no_others():
    listed = re.findall(r"^::: tunnelscope\.(\w+)$", PAGES["docs/python.md"], re.MULTILINE)
    assert sorted(listed) == sorted(ts.__all__), (
        "give each name a line `::: tunnelscope.NAME` in docs/python.md"
    )


def test_the_changelogs_links_are_turned_to_the_pages():
    assert "](docs/" not in PAGES["docs/changelog.md"]
    assert "](data.md)" in PAGES["docs/changelog.md"]


def test_every_page_is_in_the_navigation():
    listed = set(re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    below = {page for page in PAGES if re.search(r"reproductions/\w+-", page)}  # its paper's page links each
    assert {f"docs/{page}" for page in listed} | below == set(PAGES) - {"README.md"}
    for page in below:
        paper = re.sub(r"-[\w-]+\.md$", ".md", page)
        assert f"({Path(page).name})" in PAGES[paper]
