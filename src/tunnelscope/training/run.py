"""`ts.train`: a network trained by a recipe into a folder, and gone on with after any interruption."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tunnelscope.checkpoints import FIRST_STEPS
from tunnelscope.data import DataSet, Preprocessing, Split, image_shape, load_data
from tunnelscope.errors import RequestError
from tunnelscope.files import check_writable
from tunnelscope.forward import choose_device, lay_channels_last
from tunnelscope.models import Network, load_network
from tunnelscope.models.load import redraw, with_trained
from tunnelscope.models.network import head_of, ready, seeded
from tunnelscope.models.weights import load_weights, save_weights
from tunnelscope.pixels import as_pixels
from tunnelscope.precision import check_precision, has_bf16
from tunnelscope.probes.heldout import heldout_rows
from tunnelscope.randomness import named_seed
from tunnelscope.tasks import CLASSIFICATION
from tunnelscope.training.card import write_card
from tunnelscope.training.loop import Inputs, Labelled, Loop, Saves
from tunnelscope.training.processes import join
from tunnelscope.training.recipe import Recipe, changed, recipe_named
from tunnelscope.training.state import RunFolder

EVALUATIONS = 20  # of the test images over a training, about
Report = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Training:
    """A trained network and where it lies.

    Attributes:
        folder: what `tunnelscope scan --checkpoints` takes.
        network: in eval mode, with the weights that the recipe keeps.
        accuracy: on the test images.
        lines: of `train.jsonl`, one an epoch.
        settings: what decided the weights.
    """

    folder: Path
    network: Network
    accuracy: float
    lines: list[dict[str, Any]]
    settings: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            "folder": str(self.folder),
            "accuracy": self.accuracy,
            "weights": str(self.folder / "model.safetensors"),
            "settings": self.settings,
            "epochs": self.lines,
        }


def train(
    model: str | nn.Module,
    data: Any,
    *,
    out: str | Path,
    recipe: str | Recipe = "masarczyk2023",
    weights: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    save_steps: Iterable[int] = FIRST_STEPS,
    save_epochs: Iterable[int] | str = "powers",
    state_every: float = 60.0,
    max_samples: int | None = None,
    label: str | None = None,
    image: str | None = None,
    workers: int = 2,
    tensorboard: bool = False,
    command: str = "",
    progress: Callable[[str, int, int], None] | None = None,
    announce: Callable[[str], None] | None = None,
    start: Mapping[str, Tensor] | None = None,
    **changes: Any,
) -> Training:
    """Train a network by a recipe, or go on with a training that was interrupted.

    The same call goes on where the folder holds a state, and gives the weights that an uninterrupted training
    gives, bit for bit on the CPU.

    Args:
        model: as `ts.scan` takes it; a zoo network is made for the images and classes of the data.
        data: labelled images with a train and a test split, as `ts.load_data` takes them.
        out: folder of weights, checkpoints and log.
        recipe: a name of `RECIPES`, a paper (the recipe of this network's family), or a Recipe.
        weights: to start from; by default random for zoo networks, else as `ts.load_network` has it.
        seed: of the initial weights, the order of images, augmentation and dropout.
        precision: "auto" trains in bfloat16 (weights stay float32) where the hardware multiplies it.
        save_steps: steps after which the weights are kept; 0 are the initial ones.
        save_epochs: the same of epochs: numbers, "all", or "powers" for 1, 2, 4, … and the last.
        state_every: seconds between saves of the state that a killed training goes on from.
        tensorboard: also write the log's numbers for TensorBoard, into `out`/tensorboard.
        start: tensors of an earlier network to start from; the head is drawn anew (`train_tasks`).
        changes: fields of `Recipe` to change, such as `epochs=20`.

    Raises:
        RequestError: unknown names; another training in the folder; a loss that is not finite.
        MachineError: the images do not fit into memory, or the folder cannot be written.
    """
    processes, device = join(device)
    if not processes.is_first or progress is None:
        progress = _silent
    if not processes.is_first or announce is None:
        announce = _silent
    chosen_device = choose_device(device)
    folder = RunFolder(Path(out))
    check_writable(folder.path)
    reading = {"label": label, "image": image, "max_samples": max_samples}
    dataset = load_data(data, **reading, seed=seed, announce=announce)
    network = _network(model, weights, dataset, seed)
    if start is not None:
        take_over(network.module, start, seed)
        network = replace(network, weights="the weights after the task before, the head drawn anew")
    recipe = recipe_of(recipe, network, changes)
    used = _numbers(precision, chosen_device)
    saves = Saves(frozenset(save_steps), _epochs(save_epochs, recipe.epochs), state_every)
    pixels = _Pixels(network.preprocessing, workers, progress)
    settings = _settings(network, dataset, recipe, seed, used, saves) | {"reading": reading}
    _refuse_others(folder, settings)
    train, heldout, settings["images"] = pixels.of_training(dataset.train, recipe, seed)
    test, settings["test_images"] = pixels.of(dataset.test)
    _refuse_others(folder, settings)
    if (done := _done_before(folder, network)) is not None:
        announce(f"{folder.path} holds this training, finished; nothing is trained again")
        return done
    if processes.is_first:
        folder.write_settings({"settings": settings, "command": command})
    loop = Loop(
        network.module,
        recipe,
        train.on(chosen_device),
        Inputs(pixels.preprocessing if train.images.dtype == torch.uint8 else None, chosen_device),
        folder,
        saves,
        seed=seed,
        used=used,
        processes=processes,
    )
    _check_outputs(loop, network, dataset)
    if loop.resume() and loop.progress.step < loop.total:
        announce(f"going on after step {loop.progress.step} of {loop.total}")
    on_line = _tensorboard(folder.path) if tensorboard and processes.is_first else _silent
    # What the caller draws from torch's generators is the same after a training as without one.
    with torch.random.fork_rng([loop.device] if loop.device.type == "cuda" else []):
        loop.run(_judge(loop, heldout, test), progress, on_line)
    return _finished(loop, network, test, settings, command)


def _silent(*_: Any) -> None:
    """Tell nobody."""


def recipe_of(recipe: str | Recipe, network: Network, changes: Mapping[str, Any]) -> Recipe:
    """Return the recipe for a network, with the changes asked for."""
    if isinstance(recipe, Recipe):
        return changed(recipe, changes)
    return recipe_named(recipe, network.name, changes)


def take_over(module: nn.Module, tensors: Mapping[str, Tensor], seed: int) -> None:
    """Start a network from another's tensors; its head, the last linear layer, is drawn anew, biases 0."""
    head = head_of(module)
    kept = {key: tensor for key, tensor in tensors.items() if not key.startswith(f"{head}.")}
    module.load_state_dict(kept, strict=False)
    if not head:
        return
    layer = module.get_submodule(head)
    with seeded(named_seed(seed, "head of a task")):
        redraw(layer, head)
    if isinstance(layer.bias, Tensor):
        nn.init.zeros_(layer.bias)


def _network(model: str | nn.Module, weights: str | Path | None, dataset: DataSet, seed: int) -> Network:
    if dataset.task != CLASSIFICATION:
        raise RequestError(
            f"{dataset.source} holds {dataset.task} labels; networks are trained on classes, whole numbers "
            "from 0"
        )
    network = load_network(
        model,
        weights=weights,
        image_shape=image_shape(dataset.train),
        classes=len(dataset.class_names),
        seed=seed,
    )
    lay_channels_last(network.module)
    return network


def _check_outputs(loop: Loop, network: Network, dataset: DataSet) -> None:
    """Refuse a network with fewer outputs than there are classes."""
    loop.module.eval()
    with torch.no_grad():
        outputs = loop.module(loop.inputs(loop.train.images[:2])).shape[-1]
    if outputs < len(dataset.class_names):
        raise RequestError(
            f"{network.source} tells {outputs} classes apart, {dataset.source} has "
            f"{len(dataset.class_names)}; give a network with as many outputs, or take fewer classes "
            "(?classes=0-4)"
        )


def _numbers(precision: str, device: torch.device) -> str:
    check_precision(precision)
    if precision == "auto":
        return "bf16" if has_bf16(device) else "f32"
    return precision


def _epochs(wanted: Iterable[int] | str, epochs: int) -> frozenset[int]:
    if wanted == "all":
        return frozenset(range(1, epochs + 1))
    if wanted == "powers":
        return frozenset({2**power for power in range(epochs.bit_length())} | {epochs})
    if isinstance(wanted, str):
        raise RequestError(f"save_epochs is all, powers or numbers such as 1,2,10, got {wanted!r}")
    return frozenset(wanted) | {epochs}


class _Pixels:
    """Reads splits into memory, with progress."""

    def __init__(self, preprocessing: Any, workers: int, progress: Report):
        if not (preprocessing is None or isinstance(preprocessing, Preprocessing)):
            raise RequestError("the network reads texts; only networks of images can be trained")
        self.preprocessing, self.workers, self.progress = preprocessing, workers, progress

    def of(self, split: Split) -> tuple[Labelled, str]:
        """Return a split and its fingerprint."""
        total = len(split)
        images, fingerprint = as_pixels(
            split,
            self.preprocessing,
            workers=self.workers,
            progress=lambda done: self.progress("reading images", done, total),
        )
        return Labelled(images, torch.as_tensor(split.labels)), fingerprint

    def of_training(self, split: Split, recipe: Recipe, seed: int) -> tuple[Labelled, Labelled | None, str]:
        """Return the rows to train on, those to choose the best weights on, and the split's fingerprint."""
        whole, fingerprint = self.of(split)
        if recipe.keep == "last":
            return whole, None, fingerprint
        fit, heldout = heldout_rows(whole.labels, seed)
        if not len(heldout):
            raise RequestError(
                "no training image can be held out to choose the best weights; use --keep last"
            )
        return whole.rows(fit), whole.rows(heldout), fingerprint


def _settings(
    network: Network, dataset: DataSet, recipe: Recipe, seed: int, used: str, saves: Saves
) -> dict[str, Any]:
    """Return what decides the weights; with other values the training in a folder is another one."""
    return {
        "model": network.loadable or network.source,
        "start": network.weights,
        "network": network.fingerprint,
        "data": dataset.source,
        "classes": list(dataset.class_names),
        **_scaling(network),
        "train_rows": len(dataset.train),
        "test_rows": len(dataset.test),
        "recipe": recipe.as_dict(),
        "seed": seed,
        "precision": used,
        "save_steps": sorted(saves.steps),
        "save_epochs": sorted(saves.epochs),
    }


def _scaling(network: Network) -> dict[str, list[float]]:
    """What pixels are scaled by, where they are."""
    used = network.preprocessing
    return {"mean": list(used.mean), "std": list(used.std)} if isinstance(used, Preprocessing) else {}


def _done_before(folder: RunFolder, network: Network) -> Training | None:
    """The finished training in the folder, where there is one: nothing is written again."""
    told = folder.read_settings()
    if told is None or "result" not in told or not folder.file("model").exists():
        return None
    network.module.load_state_dict(load_weights(folder.file("model")))
    lines = folder.read_log(told["result"]["steps"])
    return _training(folder, network, lines, told)


def _training(
    folder: RunFolder, network: Network, lines: list[dict[str, Any]], told: Mapping[str, Any]
) -> Training:
    kept = str(folder.file("model"))
    ready(network.module.to("cpu"), network.source)
    settings, result = told["settings"], told["result"]
    trained = with_trained(network, kept)
    return Training(folder.path, trained, result["accuracy"], lines, settings | {"result": result})


def _refuse_others(folder: RunFolder, settings: Mapping[str, Any]) -> None:
    """Refuse a folder that holds a training with other settings.

    Raises:
        RequestError: it names what differs.
    """
    told = folder.read_settings()
    if told is None:
        return
    there = told["settings"]
    flat_there, flat_here = ({**one, **one["recipe"]} for one in (there, settings))
    differing = [
        f"{key} {flat_there[key]!r}, now {flat_here[key]!r}"
        for key in flat_here
        if key in flat_there and flat_there[key] != flat_here[key] and key not in ("recipe", "source")
    ]
    if differing:
        raise RequestError(
            f"{folder.path} holds another training ({'; '.join(differing[:3])}); give another --out, or "
            "the same settings to go on with it"
        )


def _judge(loop: Loop, heldout: Labelled | None, test: Labelled) -> Callable[[int], dict[str, float]]:
    """Return what an epoch's line tells besides: accuracy held out, and now and then on the test images."""
    every = max(1, loop.recipe.epochs // EVALUATIONS)

    def judge(epoch: int) -> dict[str, float]:
        told = {} if heldout is None else {"heldout_accuracy": loop.accuracy(heldout)}
        if epoch % every == 0 or epoch == loop.recipe.epochs:
            told["test_accuracy"] = loop.accuracy(test)
        return told

    return judge


def _tensorboard(folder: Path) -> Callable[[dict[str, Any]], None]:
    """Return what writes a line of the log for TensorBoard."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise RequestError(
            "TensorBoard is not installed; `pip install tunnelscope[training]`, or leave --tensorboard out"
        ) from error
    writer = SummaryWriter(folder / "tensorboard")

    def write(line: dict[str, Any]) -> None:
        for name, value in line.items():
            if name not in ("step", "epoch"):
                writer.add_scalar(name, value, line["step"])
        writer.flush()

    return write


def _finished(
    loop: Loop, network: Network, test: Labelled, settings: dict[str, Any], command: str
) -> Training:
    """Take the weights that the recipe keeps, score them once, write them with their card."""
    folder, progress = loop.folder, loop.progress
    kept = progress.step
    if loop.recipe.keep == "best":
        kept = progress.best_step
        loop.processes.wait()  # the first one writes it
        network.module.load_state_dict(load_weights(folder.file("best")))
    accuracy = loop.accuracy(test)
    result = {
        "accuracy": accuracy,
        "step": kept,
        "steps": loop.total,
        "steps_per_epoch": loop.steps,
        "seconds": round(progress.seconds, 1),
        "images_per_second": round(loop.recipe.epochs * loop.seen / max(progress.seconds, 1e-9), 1),
        "threads": torch.get_num_threads(),
        "device": str(loop.device),
        "processes": loop.processes.count,
    }
    if loop.recipe.keep == "best":
        result["heldout_accuracy"] = progress.best
    told = {"settings": settings, "command": command, "result": result}
    if loop.processes.is_first:
        save_weights(folder.file("model"), network.module, {"step": kept, "accuracy": accuracy})
        folder.write_settings(told)
        write_card(folder.file("card"), network, told)
    loop.processes.wait()
    return _training(folder, network, loop.lines, told)


def train_tasks(
    model: str | nn.Module, data: str, tasks: Sequence[str], *, out: str | Path, **settings: Any
) -> list[Training]:
    """Train on the classes of one task after the other, each with a head of its own.

    Task i lies in `out`/task-i, a training like any other; it starts from the weights after task i − 1, all
    but the head, the last linear layer, which is drawn anew.

    Args:
        model, settings: as in `train`.
        data: a source that takes `?classes=`.
        tasks: classes of each, such as ["0-4", "5-9"].

    Raises:
        RequestError: as in `train`, or fewer than two tasks.
    """
    if len(tasks) < 2:
        raise RequestError(f"--tasks takes two tasks or more, such as 0-4/5-9, got {'/'.join(tasks)!r}")
    sources = [f"{data}{'&' if '?' in data else '?'}classes={classes}" for classes in tasks]
    for source in sources:  # what is wrong with a later task is said before the first one is trained
        load_data(source, label=settings.get("label"), image=settings.get("image"))
    trainings: list[Training] = []
    for number, source in enumerate(sources, start=1):
        start = trainings[-1].network.module.state_dict() if trainings else None
        trainings.append(train(model, source, out=Path(out) / f"task-{number}", start=start, **settings))
    return trainings
