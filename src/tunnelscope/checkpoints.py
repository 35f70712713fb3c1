"""Where a training's checkpoints lie, and what `train.json` beside them tells."""

import json
import re
from pathlib import Path
from typing import Any

from tunnelscope.errors import RequestError

STEP = re.compile(r"step-(\d+)\.safetensors")
SETTINGS = "train.json"
FIRST_STEPS = (0, 1, 2, 5, 10, 20, 35, 50, 75)  # after which weights are kept where nothing is said


def step_name(step: int) -> str:
    """What the weights after so many steps are called."""
    return f"step-{step:07d}"


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the weights after so many steps lie."""
    return folder / "checkpoints" / f"{step_name(step)}.safetensors"


def saved_steps(folder: Path) -> dict[int, Path]:
    """Return the checkpoints of a training by their steps, ascending."""
    found = ((STEP.fullmatch(path.name), path) for path in (folder / "checkpoints").glob("*.safetensors"))
    return dict(sorted((int(match[1]), path) for match, path in found if match))


def read_settings(folder: Path) -> dict[str, Any] | None:
    """Return what `train.json` holds; None where there is none.

    Raises:
        RequestError: it is damaged.
    """
    path = folder / SETTINGS
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(told["settings"]["recipe"], dict):
            raise ValueError("no recipe in it")
        return told
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RequestError(
            f"{path} cannot be read ({error}); remove the folder, or name another one"
        ) from error
