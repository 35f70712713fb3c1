"""`tunnelscope demo`: the main job on an embedded example, in under a minute."""

import json
import shlex
from pathlib import Path

import click

from tunnelscope.cli import options
from tunnelscope.cli.output import echo_error, print_scan


@click.command()
@click.option("--out", default="runs/demo", show_default=True, metavar="DIR", help="Folder for the results.")
@options.together(options.seed, options.as_json, options.debug)
def demo(out: str, seed: int, as_json: bool) -> None:
    """Train a 12-layer MLP on the digits 0–4 (bundled with scikit-learn) and scan it on 0–4 (its
    own data) and 5–9 (other data).

    Example: tunnelscope demo --out runs/demo
    """
    from tunnelscope import scan
    from tunnelscope.cli.progress import ProgressDisplay
    from tunnelscope.demo import ID, MODEL, OOD, train_demo
    from tunnelscope.results import claim_folder

    claim_folder(out)
    weights = Path(out).with_name(f"{Path(out).name}-weights.safetensors")
    with ProgressDisplay() as progress:
        train_demo(weights, seed, progress)
        command = [
            "tunnelscope",
            "scan",
            MODEL,
            "--weights",
            str(weights),
            "--id",
            ID,
            "--ood",
            OOD,
            "--out",
            out,
        ]
        result = scan(
            MODEL,
            weights=str(weights),
            id=ID,
            ood=OOD,
            out=out,
            seed=seed,
            command=shlex.join(command),
            progress=progress,
            announce=progress.announce,
        )
    if as_json:
        click.echo(json.dumps(result.json(), indent=1, ensure_ascii=False))
    else:
        print_scan(result)
    echo_error(f"This was: {result.run['command']}")
