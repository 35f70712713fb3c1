"""The files of a transformers model: in a folder, or downloaded from the hub into one."""

import difflib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor

from tunnelscope.errors import MachineError, RequestError
from tunnelscope.hub_access import hub_asked_once
from tunnelscope.models.weights import load_weights, one_line

SETTINGS = ("*.json", "*.txt", "*.model")  # configuration, tokenizer, preprocessing
WEIGHTS = ("model.safetensors", "model-*.safetensors")
INDEX = "model.safetensors.index.json"
TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "spm.model", "spiece.model")
OTHER_WEIGHTS = ("*.bin", "*.h5", "*.msgpack", "*.pt", "*.pth")


def model_folder(name: str, with_weights: bool) -> Path:
    """Return the folder that holds a model's files: `name` itself, or the hub's, downloaded or cached.

    Raises:
        RequestError: a folder without config.json, a path that does not exist, or no such id on the hub.
        MachineError: the hub's files cannot be had.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            held = listed(entry.name for entry in sorted(path.iterdir()))
            raise RequestError(f"{path} holds no config.json, but: {held}; give the folder of one model")
        return path
    if path.exists() or not re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", name):
        raise no_folder(path)
    return downloaded(name, with_weights)


def no_folder(path: Path) -> RequestError:
    """Say that a path is no folder, with the nearest beside it."""
    what = "is a file, not a folder" if path.exists() else "does not exist"
    beside = [str(entry) for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    nearest = difflib.get_close_matches(str(path), beside, n=1, cutoff=0.6)
    near = f"; nearest: {nearest[0]}" if nearest and what == "does not exist" else ""
    return RequestError(
        f"{path} {what}{near}; give hf:FOLDER with config.json in it, or hf:ORGANISATION/NAME"
    )


def downloaded(name: str, with_weights: bool) -> Path:
    """Download a model's settings and safetensors, never its code or pickles, and return their folder."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError

    patterns = [*SETTINGS, *(WEIGHTS if with_weights else ())]
    why = ""
    try:
        with hub_asked_once() as why:
            folder = Path(snapshot_download(name, allow_patterns=patterns))
    except RepositoryNotFoundError as error:
        raise RequestError(
            f"no model {name} on the hub, or no access to it: {one_line(error)[:200]}"
        ) from error
    except Exception as error:  # the library hands on whatever its parts raise
        reason = why or one_line(error)[:200]
        raise MachineError(
            f"the files of hf:{name} cannot be had ({reason}); give a local folder with config.json instead"
        ) from error
    if not (folder / "config.json").is_file():
        raise RequestError(f"{name} on the hub holds no config.json; it is no model of transformers")
    return folder


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Read a model's safetensors, in one file or in the shards that its index lists.

    Raises:
        RequestError: there are none, one is damaged, or a shard is missing.
    """
    whole, index = folder / "model.safetensors", folder / INDEX
    if whole.is_file():
        return load_weights(whole)
    if not index.is_file():
        others = [file.name for pattern in OTHER_WEIGHTS for file in sorted(folder.glob(pattern))]
        held = f"it has {listed(others)}, which can run code" if others else "it has no weights"
        raise RequestError(
            f"{folder} has no model.safetensors: {held}; save it as safetensors, or say --weights random|FILE"
        )
    state: dict[str, Tensor] = {}
    for shard in shards(index):
        if not (folder / shard).is_file():
            raise RequestError(f"{folder} lacks {shard}, which {INDEX} lists; copy it again")
        state |= load_weights(folder / shard)
    return state


def shards(index: Path) -> list[str]:
    """Return the names of the shards that an index lists, each once."""
    try:
        names: dict[str, Any] = json.loads(index.read_text())["weight_map"]
        return sorted({Path(str(name)).name for name in names.values()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RequestError(f"{index} is no index of weights ({one_line(error)}); copy it again") from error


def has_tokenizer(folder: Path) -> bool:
    """Return whether a folder holds the files of a tokenizer."""
    return any((folder / name).is_file() for name in TOKENIZERS)


def listed(names: Iterable[str]) -> str:
    """Join the first few names."""
    every = list(names)
    return ", ".join(every[:6]) + (", …" if len(every) > 6 else "") if every else "nothing"
