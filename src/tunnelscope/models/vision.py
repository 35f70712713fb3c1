"""The one door to torchvision and timm, open also where torchvision's compiled operators do not load.

torchvision's wheel is compiled against one build of torch. Beside another (commonly a CPU build of the same
version) its library cannot load, and `import torchvision`, hence `import timm`, stops with "operator
torchvision::nms does not exist". Only detection needs those operators. With the two missing schemas
declared, everything else works; with a matching pair nothing is touched.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import torch

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)

_declared: list[torch.library.Library] = []  # a Library takes its schemas along when it is collected


def import_torchvision() -> ModuleType:
    """Return torchvision with its `models` loaded.

    Raises:
        ImportError: torchvision is not installed.
    """
    declare_missing_operators()
    import torchvision.models

    return torchvision


def import_timm() -> ModuleType:
    """Return timm, which imports torchvision.

    Raises:
        ImportError: timm or torchvision is not installed.
    """
    declare_missing_operators()
    import timm

    return timm


def declare_missing_operators() -> None:
    """Declare the schemas of nms and qnms when torchvision could not be imported without."""
    if "torchvision" in sys.modules or _declared or compiled_library_loads():
        return
    library = torch.library.Library("torchvision", "DEF")
    for schema in SCHEMAS:
        library.define(schema)
    _declared.append(library)


def compiled_library_loads() -> bool:
    """Return whether torchvision's compiled operators load beside this torch."""
    package = importlib.util.find_spec("torchvision")
    folders = package.submodule_search_locations or [] if package else []
    for library in (file for folder in folders for file in sorted(Path(folder).glob("_C.*"))):
        try:
            torch.ops.load_library(str(library))
        except OSError:
            continue
        return True
    return False
