"""Weights from a file: safetensors, or a file of torch read without running code from it."""

import struct
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tunnelscope.errors import RequestError, unknown_name
from tunnelscope.files import write_whole

KEYWORDS = ("pretrained", "random")
SUFFIXES = (".safetensors", ".pth", ".pt", ".th", ".ckpt", ".bin")
WRAPPERS = ("state_dict", "model_state_dict", "model")
PREFIXES = ("module.", "_orig_mod.")  # what DataParallel and torch.compile put before every key

SAFETENSORS = "safetensors"
TORCH = "torch"


def weights_file(weights: str | Path) -> Path:
    """Return the path of a weights file.

    Raises:
        RequestError: there is no such file; the nearest name beside it is given.
    """
    path = Path(weights).expanduser()
    if path.is_file():
        return path
    folder = path if path.is_dir() else path.parent
    files = (
        sorted(file.name for file in folder.iterdir() if file.suffix in SUFFIXES) if folder.is_dir() else []
    )
    if path.is_dir():
        raise unknown_name("weights file", str(weights), files, "It is a folder; name a file in it.")
    beside = [str(folder / file) if str(folder) != "." else file for file in files]
    hint = "Say pretrained, random or the path of a .safetensors, .pth or .pt file."
    raise unknown_name("weights", str(weights), [*KEYWORDS, *beside], hint)


def load_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict, its floating-point tensors as float32.

    A file of torch is read without running code from it. The state dict may lie one level down
    (under "state_dict", "model_state_dict" or "model"); a "module." before every key is taken away.

    Raises:
        RequestError: no such file, or one that holds no state dict.
    """
    path = weights_file(path)
    try:
        tensors = read_safetensors(path) if file_format(path) == SAFETENSORS else read_torch(path)
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror or error}") from error
    state = without_prefixes(tensors)
    return {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in state.items()}


def save_weights(path: Path, module: torch.nn.Module, told: Mapping[str, Any]) -> None:
    """Write a state dict, and in its metadata what is told about it."""
    from safetensors.torch import save_file

    state = {key: tensor.detach().cpu().contiguous() for key, tensor in module.state_dict().items()}
    metadata = {key: str(value) for key, value in told.items()}
    write_whole(path, lambda partial: save_file(state, partial, metadata))


def file_format(path: Path) -> str:
    """Tell safetensors from a file of torch by the first bytes, not by the name.

    Raises:
        RequestError: it is neither; where the bytes show what it is, that is said.
    """
    with path.open("rb") as file:
        start = file.read(512)
    if start.startswith((b"PK\x03\x04", b"\x80\x02")):
        return TORCH
    if start[8:9] == b"{":
        (header,) = struct.unpack("<Q", start[:8])
        held, needed = path.stat().st_size, header + 8
        if needed > held:
            raise RequestError(
                f"{path} is cut off: its header needs {needed:,} bytes, it has {held:,}; copy it again"
            )
        return SAFETENSORS
    raise RequestError(f"{path} {what_it_is(start)}")


def what_it_is(start: bytes) -> str:
    """Say what the first bytes of a file that holds no weights show, and what to do."""
    if not start:
        return "is empty; copy or download it again"
    if start.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the weights; run `git lfs pull` where it comes from"
    if start.lstrip()[:15].lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "is a web page, not weights; download the file itself, not the page that shows it"
    return "is neither a safetensors file nor one of torch (.pth, .pt); give a file that holds a state dict"


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read every tensor of a safetensors file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, ValueError, KeyError) as error:
        reason = one_line(error).removeprefix("Error while deserializing header: ")
        raise RequestError(
            f"{path} is a damaged or cut-off safetensors file ({reason}); copy it again"
        ) from error


def read_torch(path: Path) -> dict[str, Tensor]:
    """Read a state dict that torch saved, running no code from the file."""
    try:
        with warnings.catch_warnings(action="ignore"):  # the error below says it
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # a damaged pickle can end in nearly any of them
        reason = (
            "it is cut off or damaged, or holds more than tensors, which would need code from the file to run"
        )
        cure = "save it anew with torch.save(model.state_dict(), …) or as safetensors"
        raise RequestError(f"{path} cannot be read as weights only: {reason}; {cure}") from error
    return find_state_dict(content, path)


def find_state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    """Return the state dict in what a file of torch held: itself, or one level down."""
    if not isinstance(content, Mapping):
        raise RequestError(
            f"{path} holds a {type(content).__name__}, not a state dict; save model.state_dict()"
        )
    if is_state_dict(content):
        return dict(content)
    inside = {str(key): value for key, value in content.items() if is_state_dict(value)}
    named = [inside[key] for key in WRAPPERS if key in inside]
    if named or len(inside) == 1:
        return dict(named[0] if named else next(iter(inside.values())))
    entries = first_few(str(key) for key in content)
    raise RequestError(f"{path} holds no state dict, but {entries}; save model.state_dict()")


def is_state_dict(content: Any) -> bool:
    """Return whether it maps names to tensors, at least one."""
    if not isinstance(content, Mapping) or not content:
        return False
    return all(isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items())


def without_prefixes(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take away what DataParallel and torch.compile put before every key."""
    state = dict(tensors)
    for prefix in PREFIXES * 2:  # either may stand inside the other
        if state and all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    return state


def first_few(names: Iterable[str], count: int = 3) -> str:
    """Join the first few names and say when there are more."""
    listed = list(names)
    more = f", … {len(listed) - count} more" if len(listed) > count else ""
    return ", ".join(listed[:count]) + more


def one_line(error: BaseException) -> str:
    """Return an error's message on one line."""
    return " ".join(str(error).split()) or type(error).__name__
