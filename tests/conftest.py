"""What several tests share: the real data where it is present, the command line, a demo scan."""

import atexit
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # before huggingface_hub reads it: no test reaches for the network

os.environ["TUNNELSCOPE_CACHE"] = tempfile.mkdtemp(prefix="tunnelscope-tests-")  # child processes too
atexit.register(shutil.rmtree, os.environ["TUNNELSCOPE_CACHE"], ignore_errors=True)

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("TUNNELSCOPE_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets and weights; the test skips where it is absent."""
    if not (DATA / "cifar10").is_dir():
        pytest.skip(f"no real data in {DATA} (set TUNNELSCOPE_DATA)")
    return DATA


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict:
        return json.loads(self.out)


@pytest.fixture
def tunnelscope(capsys):
    """Run a command in this process: `tunnelscope("scan", "zoo:mlp", …)`."""
    from tunnelscope.cli import main

    def run(*arguments: object) -> Ended:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Ended(int(stop.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory) -> Path:
    """The folder of the demo's scan, run once for all tests that look at it."""
    from tunnelscope import scan
    from tunnelscope.demo import ID, MODEL, OOD, train_demo

    folder = tmp_path_factory.mktemp("demo")
    train_demo(folder / "weights.safetensors")
    scan(MODEL, weights=str(folder / "weights.safetensors"), id=ID, ood=OOD, out=folder / "scan")
    return folder / "scan"


@pytest.fixture(scope="session")
def scans(tmp_path_factory) -> Path:
    """Folder of three tiny scans, `two`, `four` and `three` layers deep; the last has a data set less."""
    from tunnelscope import scan

    root = tmp_path_factory.mktemp("compared")
    for name, depth in [("two", 2), ("four", 4), ("three", 3)]:
        ood = {"fives": "sklearn:digits?classes=5-9"}
        ood |= {"all": "sklearn:digits"} if name != "three" else {}
        own, model = "sklearn:digits?classes=0-4", f"zoo:mlp?depth={depth}&width=16"
        scan(model, id=own, ood=ood, probe="ridge", max_samples=300, out=root / name)
    return root
