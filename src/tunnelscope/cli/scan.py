"""`tunnelscope scan`: probe every layer of a network and read its tunnel."""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from tunnelscope.cli import options
from tunnelscope.cli.output import columns, echo_error, print_result
from tunnelscope.errors import RequestError


@click.command()
@click.argument("model", required=False)
@click.option(
    "--checkpoints",
    metavar="DIR",
    help="Instead of MODEL: scan every checkpoint of a training that `tunnelscope train` wrote.",
)
@click.option("--steps", metavar="N,N,…", help="With --checkpoints: only those after these steps.")
@click.option("--id", "id_data", metavar="DATA", help="The data the network was trained on.")
@click.option("--ood", multiple=True, metavar="DATA", help="Other data; may be given several times.")
@click.option("--out", metavar="DIR", help="Folder for the results. [default: runs/NAME]")
@options.together(options.weights, options.layers, options.pool)
@options.together(options.probe, options.seeds, options.tolerance, options.penalty)
@click.option(
    "--control",
    is_flag=True,
    help="Scan the same network untrained beside it, to measure compression against.",
)
@click.option("--dry-run", is_flag=True, help="Only say what it would take: rows, memory, disk, time.")
@options.together(
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
    options.cache,
    options.memory,
    options.as_json,
    options.debug,
)
def scan(
    model: str | None,
    checkpoints: str | None,
    steps: str | None,
    id_data: str | None,
    ood: tuple[str, ...],
    out: str | None,
    threads: int | None,
    dry_run: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Probe every layer of MODEL on its own and on other data; say where its tunnel starts,
    what it costs, and which layer to take.

    MODEL: timm:NAME, torchvision:NAME, hf:NAME_OR_FOLDER, zoo:NAME or file.py:function, with
    arguments as a query.
    DATA: a parquet file or folder, class folders, tar shards, a hub id, or sklearn:digits.

    Example: tunnelscope scan timm:resnet18 --id data/cifar10 --ood data/cifar100 --out runs/r18
    """
    from tunnelscope import scan as run_scan
    from tunnelscope.cli.progress import ProgressDisplay
    from tunnelscope.scanning import set_threads

    set_threads(threads)
    if checkpoints is not None:
        _scan_checkpoints(checkpoints, model, steps, id_data, ood, out, dry_run, as_json, settings)
        return
    if model is None or steps is not None:
        raise RequestError("name a MODEL, or a training's folder with --checkpoints DIR [--steps N,N,…]")
    if dry_run:
        _print_plan(model, id_data, ood, as_json, settings)
        return
    with ProgressDisplay() as progress:
        result = run_scan(
            model,
            id=id_data,
            ood=ood,
            out=out or default_folder(model),
            command=shlex.join(["tunnelscope", *sys.argv[1:]]),
            progress=progress,
            announce=progress.announce,
            **settings,
        )
    print_result(result, as_json)


def _scan_checkpoints(
    checkpoints: str,
    model: str | None,
    steps: str | None,
    id_data: str | None,
    ood: tuple[str, ...],
    out: str | None,
    dry_run: bool,
    as_json: bool,
    settings: dict[str, Any],
) -> None:
    from tunnelscope.cli.progress import ProgressDisplay
    from tunnelscope.over_training import scan_checkpoints

    not_here = {
        "weights": settings.pop("weights"),
        "--control": settings.pop("control"),
        "--dry-run": dry_run,
    }
    given = [name for name, value in ({"MODEL": model} | not_here).items() if value]
    if given:
        raise RequestError(f"--checkpoints {checkpoints} names the networks itself; leave {given[0]} out")
    folder = out or str(Path("runs") / f"{Path(checkpoints).resolve().name}-over-training")
    with ProgressDisplay() as progress:
        done = scan_checkpoints(
            checkpoints,
            id=id_data,
            ood=ood,
            out=folder,
            steps=None if steps is None else options.numbers(steps, "--steps"),
            command=shlex.join(["tunnelscope", *sys.argv[1:]]),
            progress=progress,
            announce=progress.announce,
            **settings,
        )
    for warning in done.run["warnings"]:
        echo_error(f"warning: {warning}")
    if as_json:
        click.echo(json.dumps(done.run, indent=1, ensure_ascii=False))
    else:
        from tunnelscope.report.over_training import others, readings

        heads = ["step", "epoch", "network", "tunnel starts after", *(f"r {key}" for key in others(done.run))]
        click.echo(columns(heads, readings(done.run), right=[0, 1, 2, *range(4, len(heads))]))
    echo_error(done.verdict)
    echo_error(f"Report: {folder}/report.html")


def _print_plan(
    model: str, id_data: str | None, ood: tuple[str, ...], as_json: bool, settings: dict[str, Any]
) -> None:
    from tunnelscope import plan
    from tunnelscope.memory import size

    sized = plan(model, id=id_data, ood=ood, announce=echo_error, **settings)
    told = sized.as_dict()
    if as_json:
        click.echo(json.dumps(told, indent=1, ensure_ascii=False))
        return
    rows = [[one["name"], f"{one['width']:,}", size(one["bytes"])] for one in told["layers"]]
    click.echo(columns(["layer", "width", f"{told['rows']:,} rows"], rows, right=(1, 2)))
    disk = f"{size(sized.disk)} on the disk" if sized.disk else "nothing on the disk"
    least = f"(at least {size(sized.least)})"
    click.echo(f"memory {size(sized.memory)} {least}, {disk}, about {sized.seconds:.0f} s")


def default_folder(model: str) -> Path:
    """`runs/` and the model's name without kind and arguments."""
    name = model.partition("?")[0].rpartition(":")[2]
    return Path("runs") / "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in name)
