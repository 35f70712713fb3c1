"""Where a training's checkpoints lie, and what `train.json` beside them tells."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tunnelscope.data import DataSet, load_data
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


def trained_on(
    settings: Mapping[str, Any],
    *,
    label: str | None,
    image: str | None,
    max_samples: int | None,
    announce: Callable[[str], None] | None,
) -> DataSet:
    """Return the data of a training, read as the training read them where nothing else is asked for.

    Args:
        settings: of `train.json`.
        label, image, max_samples, announce: as for `load_data`.

    Raises:
        RequestError: they are not there, or hold other classes now.
    """
    asked = {"label": label, "image": image, "max_samples": max_samples}
    asked = settings.get("reading", {}) | {key: value for key, value in asked.items() if value is not None}
    dataset = load_data(settings["data"], seed=settings["seed"], announce=announce, **asked)
    if list(dataset.class_names) != settings["classes"]:
        raise RequestError(
            f"{dataset.source} holds {len(dataset.class_names)} classes ({dataset.class_names[0]} …), the "
            f"training had {len(settings['classes'])} ({settings['classes'][0]} …); name its data with --id"
        )
    return dataset
