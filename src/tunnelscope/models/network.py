"""A network ready to be looked at: in eval mode, in float32, with its preprocessing and its story."""

import hashlib
import inspect
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from tunnelscope.data.text import Tokenisation
from tunnelscope.data.transforms import Preprocessing
from tunnelscope.errors import RequestError

GENERATOR = threading.RLock()  # of torch, one for all threads
ADDRESS = re.compile(r" at 0x[0-9a-f]+")  # where a function in a module's repr lies in memory


@dataclass(frozen=True)
class Network:
    """A network and what is known about it.

    `name` is short ("cifar_resnet56"), `source` what was asked for ("zoo:cifar_resnet56"), `weights` what was
    loaded, in words; `preprocessing` is what is done to an image or a text, None where no image size is
    known; `warnings` are lines for the user.
    `loadable` and `weights_file` load it again with no data at hand; None for a module given from Python.
    """

    name: str
    source: str
    module: nn.Module
    preprocessing: Preprocessing | Tokenisation | None
    weights: str
    warnings: tuple[str, ...] = ()
    loadable: str | None = None
    weights_file: str | None = None

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the architecture and of every tensor of the state dict, in hexadecimal.

        The architecture is the modules' names, classes and settings, and the source files of the
        classes: an edited forward gives another network.
        """
        digest = hashlib.sha256(ADDRESS.sub("", repr(self.module)).encode())
        digest.update(_settings(self.module).encode())
        for source in sorted(_sources(self.module)):
            digest.update(source.encode())
        for key, tensor in self.module.state_dict().items():
            if not isinstance(tensor, torch.Tensor):  # a module's own extra state
                digest.update(f"{key} {tensor!r}".encode())
                continue
            digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    @property
    def parameters(self) -> int:
        """The number of weights that training would move."""
        return sum(parameter.numel() for parameter in self.module.parameters())


def ready(module: nn.Module, source: str) -> nn.Module:
    """Put a network, in place, into eval mode and float32 and take its parameters out of training.

    Raises:
        RequestError: a parameter has no shape or no values yet.
    """
    for key, parameter in module.named_parameters():
        if is_lazy(parameter) or parameter.is_meta:
            raise RequestError(f"{source}: parameter {key} has no values yet; run one batch through it first")
    return module.eval().float().requires_grad_(False)


def without_graphs(module: nn.Module) -> dict[int, Tensor]:
    """For `copy.deepcopy`: copies of tensors that modules keep with the graph that made them.

    Of themselves these cannot be copied: a stored activation, the weight of an old weight norm.
    """
    kept = (value for child in module.modules() for value in vars(child).values())
    graphs = (value for value in kept if isinstance(value, Tensor) and value.grad_fn is not None)
    return {id(value): value.detach().clone() for value in graphs}


def head_of(module: nn.Module) -> str:
    """Name the head: the last linear layer in the order of the modules; empty where there is none."""
    return next(
        (name for name, child in reversed(list(module.named_modules())) if isinstance(child, nn.Linear)), ""
    )


def _settings(module: nn.Module) -> str:
    """Plain values that modules hold, of which many do not show in a module's repr."""
    values = [
        f"{name}.{key}={value!r}"
        for name, child in module.named_modules()
        for key, value in sorted(vars(child).items())
        if isinstance(value, (int, float, str, tuple)) and not key.startswith("_")
    ]
    return ADDRESS.sub("", "\n".join(values))


def _sources(module: nn.Module) -> set[str]:
    """What computes: the source files of the modules' classes, or their code where there is no file."""
    sources = set()
    for kind in {type(child) for child in module.modules()}:
        if kind.__module__.partition(".")[0] == "torch":
            continue  # versions of torch differ in the last bits, which is no other network
        try:
            sources.add(Path(inspect.getfile(kind)).read_text(encoding="utf-8", errors="replace"))
        except (OSError, TypeError):  # a class of a notebook
            code = getattr(kind.forward, "__code__", None)
            sources.add(f"{kind.__qualname__} {code.co_code if code else kind.forward!r}")
    return sources


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from torch's CPU generator as the seed says inside the block, and leave it untouched after."""
    with GENERATOR:
        state = torch.random.get_rng_state()
        torch.random.default_generator.manual_seed(seed)
        try:
            yield
        finally:
            torch.random.set_rng_state(state)
