"""`tunnelscope record`: write a network's features at chosen layers to a file."""

import json
from pathlib import Path
from typing import Any

import click

from tunnelscope.cli import options
from tunnelscope.cli.output import echo_error


@click.command()
@click.argument("model")
@click.argument("data")
@click.option(
    "--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="A .safetensors file."
)
@options.together(
    options.weights,
    options.layers,
    options.pool,
    options.max_samples,
    options.label,
    options.image,
    options.skip_corrupt,
    options.accept_scale,
    options.device,
    options.precision,
    options.batch_size,
    options.workers,
    options.threads,
    options.seed,
    options.as_json,
    options.debug,
)
def record(model: str, data: str, out: Path, threads: int | None, as_json: bool, **settings: Any) -> None:
    """Write the features of DATA at chosen layers of MODEL to one safetensors file.

    The file holds `train/LAYER` and `test/LAYER`, (n, width) float32, and the labels as
    `train/labels` and `test/labels`; class names and what was done are in its metadata.

    Example: tunnelscope record timm:resnet18 data/pets --layers layer3.1 --out pets.safetensors
    """
    from tunnelscope.cli.progress import ProgressDisplay
    from tunnelscope.feature_file import record_file
    from tunnelscope.scanning import set_threads

    set_threads(threads)
    with ProgressDisplay() as progress:
        written = record_file(model, data, out, progress=progress, announce=progress.announce, **settings)
    for warning in written["warnings"]:
        echo_error(f"warning: {warning}")
    if as_json:
        click.echo(json.dumps(written, indent=1, ensure_ascii=False))
        return
    for layer in written["layers"]:
        click.echo(f"{layer['name']}  {layer['train'][0]} + {layer['test'][0]} rows × {layer['train'][1]}")
    echo_error(f"Features: {out}")
