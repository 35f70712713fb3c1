"""`tunnelscope train`: train a network by one of the papers' recipes."""

import json
import os
import shlex
import sys
from typing import Any

import click

from tunnelscope.checkpoints import FIRST_STEPS
from tunnelscope.cli import options
from tunnelscope.cli.output import columns, echo_error
from tunnelscope.training.recipe import AUGMENTATIONS, KEEP


@click.command()
@click.argument("model")
@click.argument("data")
@click.option("--out", required=True, metavar="DIR", help="Folder of weights, checkpoints and log.")
@click.option(
    "--recipe",
    default="masarczyk2023",
    show_default=True,
    metavar="NAME",
    help="masarczyk2023/mlp, …/vgg, …/resnet, harun2024/vggm, …/resnet, …/vit, one-cycle; a paper's name "
    "alone is its recipe for this kind of network.",
)
@click.option("--tasks", metavar="A/B", help="Classes of tasks trained one after the other: 0-4/5-9.")
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over the images. [default: the recipe's]")
@click.option("--rate", type=float, help="Largest learning rate. [default: the recipe's]")
@click.option("--batch", type=click.IntRange(min=1), help="Images of a step. [default: the recipe's]")
@click.option("--decay", type=float, help="Weight decay. [default: the recipe's]")
@click.option("--momentum", type=float, help="Of SGD. [default: the recipe's]")
@click.option("--smoothing", type=float, help="Label smoothing. [default: the recipe's]")
@click.option(
    "--augmentation",
    type=options.OneOf("augmentation", AUGMENTATIONS),
    help="What is done to images at random. [default: the recipe's]",
)
@click.option(
    "--keep",
    type=options.OneOf("choice of weights", KEEP),
    help="The last weights, or the best on a tenth of the training images. [default: the recipe's]",
)
@click.option(
    "--save-steps",
    metavar="N,N,…",
    default=",".join(map(str, FIRST_STEPS)),
    show_default=True,
    help="Steps after which the weights are kept.",
)
@click.option(
    "--save-epochs",
    metavar="all|powers|N,N,…",
    default="powers",
    show_default=True,
    help="Epochs after which they are; powers: 1, 2, 4, … and the last.",
)
@click.option(
    "--state-every",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="Seconds between saves of the state that a killed training goes on from.",
)
@click.option("--tensorboard", is_flag=True, help="Write the log for TensorBoard too.")
@options.together(
    options.weights,
    options.max_samples,
    options.label,
    options.image,
    options.device,
)
@click.option(
    "--precision",
    default="auto",
    show_default=True,
    type=options.OneOf("precision", ["auto", "f32", "bf16"]),
    help="Numbers the products are made in; auto takes bf16 where the machine has it. Weights stay f32.",
)
@options.together(options.workers, options.threads, options.seed, options.as_json, options.debug)
def train(
    model: str,
    data: str,
    tasks: str | None,
    save_steps: str,
    save_epochs: str,
    threads: int | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Train MODEL on DATA by a recipe of the papers; the same command goes on after a kill.

    The folder holds model.safetensors, its card README.md, a line an epoch in train.jsonl, and weights after
    chosen steps and epochs, which `tunnelscope scan --checkpoints DIR` reads.

    Example: tunnelscope train zoo:mlp data/cifar10 --recipe one-cycle --out runs/mlp
    """
    from tunnelscope.cli.progress import ProgressDisplay
    from tunnelscope.scanning import set_threads
    from tunnelscope.training.run import train as run_training
    from tunnelscope.training.run import train_tasks

    set_threads(threads)
    settings |= {
        "save_steps": options.numbers(save_steps, "--save-steps"),
        "save_epochs": save_epochs
        if save_epochs in ("all", "powers")
        else options.numbers(save_epochs, "--save-epochs"),
        "command": shlex.join(["tunnelscope", *sys.argv[1:]]),
    }
    with ProgressDisplay() as progress:
        settings |= {"progress": progress, "announce": progress.announce}
        if tasks is None:
            trainings = [run_training(model, data, **settings)]
        else:
            trainings = train_tasks(model, data, tasks.split("/"), **settings)
    if os.environ.get("RANK", "0") != "0":  # one of several that torchrun started speaks
        return
    told = [training.as_dict() for training in trainings]
    if as_json:
        click.echo(json.dumps(told[0] if tasks is None else {"tasks": told}, indent=1, ensure_ascii=False))
        return
    for one in told:
        lines = one["epochs"][-10:]
        rows = [
            [
                f"{line['epoch']}",
                f"{line['rate']:.4g}",
                f"{line['loss']:.4f}",
                *map(percent, accuracies(line)),
            ]
            for line in lines
        ]
        click.echo(columns(["epoch", "rate", "loss", "train", "held out", "test"], rows, right=range(6)))
        echo_error(f"Test accuracy {one['accuracy']:.4f}; weights: {one['weights']}")
        echo_error(f"Next: tunnelscope scan --checkpoints {one['folder']}")


def accuracies(line: dict[str, Any]) -> list[float | None]:
    """Return the accuracies of an epoch's line: training, held-out and test images."""
    return [line.get(f"{which}_accuracy") for which in ("train", "heldout", "test")]


def percent(share: float | None) -> str:
    """Write an accuracy; nothing where there is none."""
    return "" if share is None else f"{100 * share:.2f}"
