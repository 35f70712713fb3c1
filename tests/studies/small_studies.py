"""Parts of small studies of MLPs on digits, and which fields of JSON the page of studies names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

PAGE = (Path(__file__).parents[2] / "docs" / "studies.md").read_text(encoding="utf-8")

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
THREE = '[[networks]]\nmodel="zoo:mlp"\nid="low"\narguments={depth=[3, 4, 5], width=16}\n'
TWO = """
[[networks]]
model = "zoo:mlp"
id = "low"
arguments = { depth = [3, 4], width = 16 }
"""


def unnamed(told: Mapping[str, Any], heading: str, *lists: str) -> set[str]:
    """Fields of an object, and of the objects in its lists, that a part of the page does not name."""
    part = PAGE.split(f"\n### {heading}\n")[1].split("\n### ")[0]
    fields = set(told).union(*(one for name in lists for one in told[name]))
    return {field for field in fields if f"`{field}`" not in part}
