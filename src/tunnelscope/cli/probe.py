"""`tunnelscope probe`: what `scan` says, of features that exist already."""

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from tunnelscope.cli import options
from tunnelscope.cli.output import print_result


@click.command()
@click.argument("features", nargs=-1, metavar="[FEATURES]...")
@click.option("--id", "id_features", metavar="FILE", help="Features of the data the network was trained on.")
@click.option("--ood", multiple=True, metavar="FILE", help="Features of other data, as FEATURES are.")
@click.option("--out", metavar="DIR", help="Folder for the results. [default: runs/NAME]")
@click.option("--labels", metavar="FILE", help="Labels of FEATURES without any: a .npy file.")
@click.option("--test", metavar="FILE", help="Features of the test rows. [default: cut from FEATURES]")
@click.option("--test-labels", metavar="FILE", help="Labels of the test rows: a .npy file.")
@click.option(
    "--layer",
    "layers",
    multiple=True,
    metavar="NAME",
    help="A matrix to take as a layer; several times, in forward order. [default: all, in the file's order]",
)
@click.option(
    "--label", metavar="NAME", help="Label column, or the labels' name in the file. [default: found]"
)
@options.together(
    options.probe,
    options.seeds,
    options.tolerance,
    options.penalty,
    options.max_samples,
    options.threads,
    options.seed,
    options.cache,
    options.as_json,
    options.debug,
)
def probe(
    features: tuple[str, ...],
    id_features: str | None,
    ood: tuple[str, ...],
    out: str | None,
    layers: tuple[str, ...],
    threads: int | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Probe every layer of FEATURES that exist already; say what `scan` says, without a network.

    FEATURES: files that `tunnelscope record` wrote, .npz (LAYER and labels, or train/LAYER …), .npy or
    .parquet; each is a data set. The last layer is the one before the classifier.

    Example: tunnelscope probe pets.safetensors --out runs/pets-features
    """
    from tunnelscope import scan_features
    from tunnelscope.cli.progress import ProgressDisplay
    from tunnelscope.scanning import set_threads

    set_threads(threads)
    others = [source for source in (*features, *ood) if source != id_features]
    first = id_features or next(iter(others), "features")
    with ProgressDisplay() as progress:
        result = scan_features(
            id=id_features,
            ood=others,
            out=out or Path("runs") / Path(first).stem,
            layers=layers or None,
            command=shlex.join(["tunnelscope", *sys.argv[1:]]),
            progress=progress,
            announce=progress.announce,
            **settings,
        )
    print_result(result, as_json)
