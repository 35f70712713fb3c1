"""What a model's name says: where the network comes from, its arguments, what it does to images.

`KIND:NAME?key=value&key=value`, where KIND is timm, torchvision, hf or zoo, or
`path/to/file.py:function?…`.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from tunnelscope.errors import RequestError, unknown_name
from tunnelscope.models.preprocessing import OVERRIDES, Overrides, Value, read_overrides

KINDS = ("timm", "torchvision", "hf", "zoo", "file.py")
HOW_TO_NAME = "Write timm:NAME, torchvision:NAME, hf:NAME_OR_FOLDER, zoo:NAME or path/to/file.py:FUNCTION."

INTEGER = re.compile(r"[+-]?\d+")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
WORDS = {"true": True, "false": False, "none": None}
FILE = re.compile(r"(?P<path>.+\.py)(:(?P<function>.*))?", re.DOTALL)


@dataclass(frozen=True)
class ModelSpec:
    """A model's name taken apart.

    `name` is what the kind calls it: an architecture, or the function in the file at `path`. `arguments`
    go to the constructor, `overrides` into the preprocessing.
    """

    source: str
    kind: str
    name: str
    path: Path | None = None
    arguments: dict[str, Value] = field(default_factory=dict)
    overrides: Overrides = field(default_factory=Overrides)


def parse_model(source: str) -> ModelSpec:
    """Take a model's name apart.

    Raises:
        RequestError: no such kind, no name, or a query that is not key=value&key=value.
    """
    address, _, query = source.partition("?")
    arguments = parse_query(query, source)
    overrides = read_overrides({key: arguments.pop(key) for key in OVERRIDES if key in arguments}, source)
    file = FILE.fullmatch(address)
    if file:
        path, function = Path(file["path"]).expanduser(), file["function"] or ""
        return ModelSpec(source, "file.py", function, path, arguments, overrides)

    kind, colon, name = address.partition(":")
    if not colon:
        raise RequestError(f"{source!r} does not say where the network comes from. {HOW_TO_NAME}")
    if kind not in KINDS[:-1]:
        raise unknown_name("kind of model", kind, KINDS, HOW_TO_NAME)
    if not name:
        raise RequestError(f"{source!r} names no network after {kind!r}. {HOW_TO_NAME}")
    return ModelSpec(source, kind, name, None, arguments, overrides)


def parse_query(query: str, source: str) -> dict[str, Value]:
    """Return the arguments of `key=value&key=value` in their order."""
    arguments: dict[str, Value] = {}
    for part in filter(None, query.split("&")):
        key, equals, value = (unquote(text) for text in part.partition("="))
        if not equals or not key.isidentifier():
            raise RequestError(f"{part!r} in {source!r} is no argument; write key=value, joined by &")
        if key in arguments:
            raise RequestError(f"{source!r} gives {key} twice; give it once")
        arguments[key] = parse_value(value)
    return arguments


def parse_value(text: str) -> Value:
    """Read an int, a float, true, false, none, a tuple of these joined by commas, or else a string."""
    if "," in text:
        return tuple(parse_scalar(part.strip()) for part in text.removesuffix(",").split(","))
    return parse_scalar(text)


def parse_scalar(text: str) -> int | float | bool | str | None:
    """Read one value that has no commas."""
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    if INTEGER.fullmatch(text):
        return int(text)
    if NUMBER.fullmatch(text):
        return float(text)
    return text
