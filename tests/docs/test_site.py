"""The site builds without a warning and without the network, and loads nothing from it.

`make docs` and `make test-all` install what this takes; elsewhere it is skipped.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOADED = re.compile(r'(?:<script[^>]*\ssrc|<link[^>]*\shref|<img[^>]*\ssrc|@import\s|url\()[=("\' ]*https?:')


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    for module in ("mkdocs", "material", "mkdocstrings_handlers.python"):
        pytest.importorskip(module, reason="no MkDocs here; `make docs` installs it")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    no_network = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    env = {**os.environ, **no_network, "NO_MKDOCS_2_WARNING": "1"}
    ended = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "WARNING" not in ended.stderr
    return folder


def test_every_page_is_there_and_loads_nothing_from_elsewhere(site):
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    assert pages <= {path.relative_to(site) for path in site.rglob("*.html")}
    for path in [*site.rglob("*.html"), *site.rglob("*.css")]:
        assert not LOADED.search(path.read_text(encoding="utf-8")), path


def test_pages_hold_what_is_written_while_the_site_is_built(site):
    assert "--skip-corrupt" in (site / "cli.html").read_text()
    assert "numerical_rank" in (site / "definitions.html").read_text()
    assert 'id="tunnelscope.scan"' in (site / "python.html").read_text()
    assert "semantic versioning" in (site / "changelog.html").read_text()


def test_scripts_and_lists_of_numbers_are_left_out(site):
    assert not list(site.rglob("make_*")) + list(site.rglob("hooks.py")) + list(site.rglob("examples.json"))
