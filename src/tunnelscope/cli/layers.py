"""`tunnelscope layers`: list the places of a network where features can be read."""

import json

import click

from tunnelscope.cli import options
from tunnelscope.cli.output import columns, echo_error


@click.command()
@click.argument("model")
@options.together(options.layers, options.pool, options.as_json, options.debug)
def layers(model: str, layers: str, pool: str, as_json: bool) -> None:
    """List the layers of MODEL in forward order: read point, shape, parameters and FLOPs so far.

    Weights are never needed.

    Example: tunnelscope layers timm:resnet18 --layers 'conv2$'
    """
    from tunnelscope.models import load_network
    from tunnelscope.recording import make_recorder

    recorder = make_recorder(load_network(model, weights="random"), layers=layers, pool=pool, device="cpu")
    listed = [
        {
            "name": point.name,
            "index": point.index,
            "read_point": point.kind,
            "shape": list(point.shape),
            "pool": recorder.poolings[point.name].name,
            "width": recorder.poolings[point.name].width,
            "parameters": point.parameters,
            "flops": point.flops,
        }
        for point in recorder.points
    ]
    if as_json:
        click.echo(json.dumps({"model": recorder.network.source, "layers": listed}, indent=1))
        return
    if recorder.network.preprocessing is not None:
        echo_error(f"{recorder.network.source}: {recorder.network.preprocessing.describe()}")
    for line in recorder.warnings:
        echo_error(f"warning: {line}")
    head = ["#", "layer", "read point", "shape", "pool", "width", "parameters", "MFLOPs"]
    rows = [
        [
            str(layer["index"]),
            layer["name"],
            layer["read_point"],
            "×".join(map(str, layer["shape"])),
            layer["pool"],
            str(layer["width"]),
            f"{layer['parameters']:,}",
            f"{layer['flops'] / 1e6:,.1f}",
        ]
        for layer in listed
    ]
    click.echo(columns(head, rows, right=(5, 6, 7)))
