"""Networks from a user's own Python file: `path/to/file.py:function`."""

import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from tunnelscope.errors import RequestError, unknown_name
from tunnelscope.models.network import seeded
from tunnelscope.models.spec import ModelSpec
from tunnelscope.models.weights import one_line


def build_from_file(spec: ModelSpec, seed: int) -> nn.Module:
    """Run the file and call the function with its arguments, torch's generator seeded for both.

    In place of a function the file may hold the network itself. What the file imports from its own folder
    is found.

    Raises:
        RequestError: no such file or function, the file or the function raises, or no module comes back;
            file, line and message are given.
    """
    path = spec.path or Path()
    if not path.is_file():
        raise no_file(path)
    with seeded(seed), folder_importable(path.parent):
        module = run_file(path)
        function = find_function(module, spec.name, path)
        if isinstance(function, nn.Module) and not spec.arguments:
            return function
        check_arguments(function, spec, path)
        try:
            network = function(**spec.arguments)
        except (Exception, SystemExit) as error:
            raise failed(f"{spec.name}()", error, path) from error
    if not isinstance(network, nn.Module):
        found = type(network).__name__
        raise RequestError(
            f"{place(function, path)}: {spec.name}() returns a {found}; return a torch.nn.Module"
        )
    return network


def no_file(path: Path) -> RequestError:
    """Say that there is no such file, and name the nearest beside it."""
    if not path.parent.is_dir():
        return RequestError(
            f"no file {str(path)!r}: there is no folder {str(path.parent)!r}; give the path of a .py file"
        )
    beside = [str(file) for file in sorted(path.parent.glob("*.py"))]
    return unknown_name("file", str(path), beside, "Give path/to/file.py:FUNCTION.")


def run_file(path: Path) -> ModuleType:
    """Run a Python file as a module; nothing is written beside it."""
    name = f"tunnelscope_file_{path.stem}"
    spec = importlib.util.spec_from_loader(name, loader=None, origin=str(path))
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses look their module up while the file runs
    try:
        code = compile(path.read_bytes(), str(path), "exec")
        exec(code, module.__dict__)
    except SyntaxError as error:
        where = f"{error.filename or path}:{error.lineno or 1}"
        raise RequestError(f"{where}: {error.msg}; correct the file") from error
    except OSError as error:
        if Path(error.filename or "") == path:
            raise RequestError(f"{path} cannot be read: {error.strerror}") from error
        raise failed("the file", error, path) from error
    except (Exception, SystemExit) as error:
        raise failed("the file", error, path) from error
    return module


def find_function(module: ModuleType, name: str, path: Path) -> Callable[..., Any]:
    """Return what the file calls `name`, if it can be called."""
    own = {key: value for key, value in vars(module).items() if callable(value) and not key.startswith("_")}
    if name in own:
        return own[name]
    defined = [key for key, value in own.items() if getattr(value, "__module__", None) == module.__name__]
    if not name:
        functions = ", ".join(defined) or "none"
        raise RequestError(
            f"{path} needs the name of a function after it, as in {path}:FUNCTION; there are: {functions}"
        )
    if hasattr(module, name):
        found = type(getattr(module, name)).__name__
        raise RequestError(
            f"{name} in {path} is a {found}, not a function; name a function that returns the network"
        )
    raise unknown_name("function", name, defined, f"Looked for in {path}.")


def check_arguments(function: Callable[..., Any], spec: ModelSpec, path: Path) -> None:
    """Refuse arguments the function does not take, and the absence of those it needs."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # written in C: it will speak for itself
        return
    parameters = signature.parameters.values()
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    for argument in spec.arguments:
        if argument not in named and not takes_any:
            raise unknown_name(
                f"argument of {spec.name}()", argument, named, f"It is at {place(function, path)}."
            )
    needed = [p.name for p in parameters if p.name in named and p.default is p.empty]
    absent = [name for name in needed if name not in spec.arguments]
    if absent:
        query = "&".join(f"{name}=…" for name in absent)
        raise RequestError(f"{place(function, path)}: {spec.name}() needs {', '.join(absent)}; add ?{query}")


def failed(what: str, error: BaseException, path: Path) -> RequestError:
    """Say in which line of the user's file an error arose."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path]
    line = frames[-1].lineno if frames else 1
    return RequestError(f"{path}:{line}: {what} raised {type(error).__name__}: {one_line(error)}")


def place(function: Callable[..., Any], path: Path) -> str:
    """Return file:line of a function's definition."""
    try:
        source = inspect.unwrap(function)
        return f"{inspect.getsourcefile(source) or path}:{inspect.getsourcelines(source)[1]}"
    except (TypeError, OSError):
        return str(path)


@contextmanager
def folder_importable(folder: Path) -> Iterator[None]:
    """Let files of the folder be imported inside the block, as when a script in it runs; none are written."""
    entry, writes_none = str(folder.resolve()), sys.dont_write_bytecode
    sys.path.insert(0, entry)
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.dont_write_bytecode = writes_none
        if entry in sys.path:
            sys.path.remove(entry)
