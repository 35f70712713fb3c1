"""What a training leaves on the disk: weights at chosen steps, and all that an exact resume needs.

    RUN/train.json                          settings, and the result once it is done
    RUN/train.jsonl                         a line an epoch
    RUN/state.safetensors                   weights, optimizer and counters, to go on from
    RUN/checkpoints/step-0000075.safetensors   weights after 75 steps
    RUN/model.safetensors, RUN/README.md    the trained network and its card

Every file is written beside its place and moved there: a kill or a full disk leaves the one before whole.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tunnelscope.checkpoints import SETTINGS, checkpoint_path, read_settings
from tunnelscope.errors import RequestError
from tunnelscope.files import write_json, write_whole


@dataclass
class Progress:
    """How far a training has come.

    Attributes:
        step: updates done.
        seconds: spent on them, evaluations and saves included.
        loss, right: sums over the images of the epoch so far.
        best, best_step: largest held-out accuracy, and the step after which it was read.
    """

    step: int = 0
    seconds: float = 0.0
    loss: float = 0.0
    right: int = 0
    best: float = -1.0
    best_step: int = 0


FILES = {
    "log": "train.jsonl",
    "state": "state.safetensors",
    "best": "best.safetensors",
    "model": "model.safetensors",
    "card": "README.md",
}


@dataclass(frozen=True)
class RunFolder:
    """The folder of one training."""

    path: Path

    def file(self, what: str) -> Path:
        """Where one of `FILES` lies."""
        return self.path / FILES[what]

    def checkpoint(self, step: int) -> Path:
        """Where the weights after so many steps lie."""
        return checkpoint_path(self.path, step)

    def read_settings(self) -> dict[str, Any] | None:
        """Return what `train.json` holds; None where there is none."""
        return read_settings(self.path)

    def write_settings(self, told: Mapping[str, Any]) -> None:
        """Write `train.json`."""
        write_json(self.path / SETTINGS, told)

    def write_log(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Write all lines of `train.jsonl`."""
        text = "".join(json.dumps(line) + "\n" for line in lines)
        write_whole(self.file("log"), lambda partial: partial.write_text(text, encoding="utf-8"))

    def read_log(self, last: int) -> list[dict[str, Any]]:
        """Return the lines of `train.jsonl` up to a step: what a kill left after it is done again."""
        try:
            lines = self.file("log").read_text(encoding="utf-8").splitlines()
            return [line for line in map(json.loads, lines) if line["step"] <= last]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RequestError(
                f"{self.file('log')} cannot be read ({error}); remove it to go on without what it told"
            ) from error


def save_state(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
    """Write what an exact resume needs."""
    from safetensors.torch import save_file

    tensors = {f"model.{key}": tensor for key, tensor in module.state_dict().items()}
    for number, kept in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{key}": value for key, value in kept.items() if value is not None}
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    metadata = {"progress": json.dumps(vars(progress))}
    write_whole(path, lambda partial: save_file(tensors, partial, metadata))


def load_state(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
    """Read what `save_state` wrote, into the network and the optimizer.

    Raises:
        RequestError: it is damaged, or of another network.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
            progress = Progress(**json.loads(file.metadata()["progress"]))
        weights = {
            key.removeprefix("model."): one for key, one in tensors.items() if key.startswith("model.")
        }
        module.load_state_dict(weights)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        said = " ".join(str(error).split())
        raise RequestError(
            f"{path} cannot be gone on from ({said}); remove it to start again, or name another --out"
        ) from error
    told = optimizer.state_dict()
    told["state"] = _by_parameter(tensors, list(module.parameters()))
    optimizer.load_state_dict(told)
    return progress


def _by_parameter(
    tensors: Mapping[str, Tensor], parameters: list[nn.Parameter]
) -> dict[int, dict[str, Tensor]]:
    """Sort tensors by parameter, each laid out in memory as its parameter is: fused steps rely on that."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        kind, _, rest = key.partition(".")
        if kind == "optimizer":
            number, _, name = rest.partition(".")
            own = parameters[int(number)]
            if tensor.shape == own.shape:
                tensor = torch.empty_like(own, requires_grad=False).copy_(tensor)
            state.setdefault(int(number), {})[name] = tensor
    return state
