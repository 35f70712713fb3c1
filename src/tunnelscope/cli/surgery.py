"""`tunnelscope reset` and `tunnelscope linearise`: a trained network with its tunnel changed."""

import json
from typing import Any

import click

from tunnelscope.cli import options
from tunnelscope.cli.output import columns, echo_error

COMMON = options.together(
    click.argument("folder", metavar="RUN"),
    click.option(
        "--layer", metavar="NAME", help="Change what comes after it. [default: where the tunnel starts]"
    ),
    click.option("--id", "id_data", metavar="DATA", help="What it was trained on. [default: the training's]"),
    click.option("--ood", multiple=True, metavar="DATA", help="Other data; may be given several times."),
    options.layers,
    options.pool,
    options.probe,
    options.max_samples,
    options.cache,
    options.workers,
    options.threads,
    options.seed,
    options.as_json,
    options.debug,
)


@click.command()
@COMMON
@click.option(
    "--draws", default=3, show_default=True, type=click.IntRange(min=0), help="Other random tunnels."
)
def reset(draws: int, **settings: Any) -> None:
    """Set the tunnel of a network that `tunnelscope train` made back to its initial weights.

    Beside it: the same layers drawn anew. The head keeps its weights; the probe on the last layer is a fresh
    one. If other data lose nothing, the tunnel's weights held nothing that they need.

    Example: tunnelscope reset runs/mlp --ood data/cifar100
    """
    from tunnelscope.surgery.reset import reset as run_reset

    _print(*_operate(run_reset, settings, draws=draws))


@click.command()
@COMMON
@click.option("--last", metavar="NAME", help="The last layer that is replaced. [default: the network's last]")
def linearise(last: str | None, **settings: Any) -> None:
    """Replace the tunnel of a network that `tunnelscope train` made by one linear map.

    It is fitted to the features of training images in closed form; no label is used.

    Example: tunnelscope linearise runs/mlp --ood data/cifar100
    """
    from tunnelscope.surgery.linearise import linearise as run_linearise

    _print(*_operate(run_linearise, settings, last=last))


def _operate(operation: Any, settings: dict[str, Any], **own: Any) -> tuple[dict[str, Any], bool]:
    from tunnelscope.cli.progress import ProgressDisplay
    from tunnelscope.scanning import set_threads

    set_threads(settings.pop("threads"))
    as_json = settings.pop("as_json")
    settings["id"] = settings.pop("id_data")
    with ProgressDisplay() as progress:
        done = operation(**own, progress=progress, announce=progress.announce, **settings)
    return done.as_dict(), as_json


def _print(told: dict[str, Any], as_json: bool) -> None:
    for warning in told["warnings"]:
        echo_error(f"warning: {warning}")
    echo_error(f"{told['what']}; probes are those of the last layer")
    if as_json:
        click.echo(json.dumps(told, indent=1, ensure_ascii=False))
        return
    conditions = told["conditions"]
    sets = list(conditions["trained"]["last_layer"])
    has_costs = "parameters" in conditions["trained"]
    heads = ["", "network", *(f"probe {key}" for key in sets)]
    heads += ["parameters", "ms an image"] if has_costs else []
    rows = []
    for name, one in conditions.items():
        own = one["network_accuracy"]
        row = [name, "–" if own is None else f"{own['value']:.1%}"]
        row += [f"{one['last_layer'][key]['accuracy']:.1%}" for key in sets]
        row += [f"{one['parameters']:,}", f"{one['milliseconds']:.2f}"] if has_costs else []
        rows.append(row)
    click.echo(columns(heads, rows, right=range(1, len(heads))))
    if "r2" in conditions.get("linear", {}):
        echo_error(
            f"the map explains {conditions['linear']['r2']:.1%} of what the run gives for held-out images"
        )
