"""Probes as safetensors files: tensors by their names, everything else in the metadata, each value as JSON.

A linear probe needs no code of ours:

    from safetensors.torch import load_file
    p = load_file("layer3.safetensors")
    logits = ((features - p["mean"]) * p["scale"]).float() @ p["weights"].T + p["bias"]
"""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from tunnelscope.errors import RequestError
from tunnelscope.files import write_whole
from tunnelscope.probes.knn import KnnProbe
from tunnelscope.probes.linear import LinearProbe, Probe
from tunnelscope.probes.targets import TargetProbe

FORMAT = "tunnelscope-probe/1"
GIVE = "give a file that a probe was saved to (a scan keeps them in probes/ of its folder)"
KINDS: dict[str, type[LinearProbe] | type[KnnProbe] | type[TargetProbe]] = {
    "linear": LinearProbe,
    "knn": KnnProbe,
    "target": TargetProbe,
}


def save_probe(probe: Probe, path: str | Path) -> None:
    """Write a probe; a file there before is replaced, and never left half written.

    Raises:
        MachineError: the disk is full or may not be written to.
    """
    values: dict[str, Any] = {item.name: getattr(probe, item.name) for item in fields(probe)}
    tensors = {name: value.cpu().contiguous() for name, value in values.items() if isinstance(value, Tensor)}
    kind = next(name for name, known in KINDS.items() if isinstance(probe, known))
    metadata = {name: json.dumps(value) for name, value in values.items() if name not in tensors}
    content = save(tensors, {"format": FORMAT, "kind": kind, **metadata})
    write_whole(Path(path), lambda partial: partial.write_bytes(content))


def load_probe(path: str | Path) -> LinearProbe | KnnProbe | TargetProbe:
    """Read a probe, bit for bit the one that was saved.

    Raises:
        RequestError: there is no such file, or it holds no probe.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except FileNotFoundError:
        raise RequestError(f"no file {path}; {GIVE}") from None
    except (SafetensorError, OSError) as error:
        raise RequestError(f"{path} is no safetensors file ({error}); {GIVE}") from None
    if metadata.pop("format", None) != FORMAT or metadata.get("kind") not in KINDS:
        raise RequestError(f"{path} holds no probe of format {FORMAT}; {GIVE}")
    kind = KINDS[metadata.pop("kind")]
    values = {name: json.loads(value) for name, value in metadata.items()}
    values["class_names"] = tuple(values["class_names"])
    return kind(**values, **tensors)
