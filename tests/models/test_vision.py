"""timm and torchvision open where torchvision's compiled operators do not load; nothing else is touched.

Each branch runs in a process of its own, against a stand-in for torchvision, because what torch has once
declared stays declared.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

HAS_SCHEMA = "torch._C._get_schema('torchvision::nms', '')"


def run(code: str, *folders: Path) -> subprocess.CompletedProcess[str]:
    source = str(Path(__file__).parents[2] / "src")
    lines = f"import sys; sys.path[:0] = {[*map(str, folders), source]!r}\n{code}"
    return subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True)


def stand_in(folder: Path, compiled: bytes | Path) -> Path:
    """A torchvision whose import fails where nms is neither compiled nor declared, as the real one's does."""
    package = folder / "torchvision"
    (package / "models").mkdir(parents=True)
    (package / "models" / "__init__.py").touch()
    (package / "__init__.py").write_text("import torch\n")
    if isinstance(compiled, bytes):
        (package / "_C.so").write_bytes(compiled)
        (package / "__init__.py").write_text(f"import torch\n{HAS_SCHEMA}\n")
    else:
        shutil.copy(compiled, package / "_C.so")
    return folder


def test_missing_operators_are_declared_before_a_mismatched_torchvision_is_imported(tmp_path):
    folder = stand_in(tmp_path, b"compiled against another torch")
    alone = run("import torchvision", folder)
    assert alone.returncode == 1
    assert "torchvision::nms" in alone.stderr
    shimmed = run(
        "from tunnelscope.models import vision; vision.import_torchvision(); vision.import_torchvision()",
        folder,
    )
    assert shimmed.returncode == 0, shimmed.stderr


def test_nothing_is_touched_beside_a_matching_torchvision(tmp_path):
    libraries = Path(torch.__file__).parent / "lib"
    loadable = next((file for file in libraries.glob("libtorch_global_deps.*")), None)
    if loadable is None:
        pytest.skip(f"no library to stand in for torchvision's in {libraries}")
    code = f"""
import torch
from tunnelscope.models import vision
assert vision.import_torchvision().__file__.startswith({str(tmp_path)!r})
assert vision._declared == []
try:
    {HAS_SCHEMA}
except RuntimeError:
    print("not declared")
"""
    result = run(code, stand_in(tmp_path, loadable))
    assert result.stdout == "not declared\n", result.stderr


def test_the_installed_timm_and_torchvision_work():
    code = """
from tunnelscope.models.vision import import_timm, import_torchvision
import torch
assert import_timm().is_model("resnet18")
assert import_torchvision().models.resnet18
import torchvision.transforms.v2
assert torch._C._get_schema("torchvision::nms", "")
"""
    result = run(code)
    assert result.returncode == 0, result.stderr
