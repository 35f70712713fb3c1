"""Options that several commands share, with the same words everywhere."""

from collections.abc import Callable, Sequence
from typing import Any

import click

from tunnelscope.errors import RequestError, unknown_name
from tunnelscope.protocol_names import short_names


class OneOf(click.Choice):
    """A choice among names; a wrong one is answered with the nearest."""

    def __init__(self, kind: str, names: Sequence[str]) -> None:
        super().__init__(names)
        self.kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value not in self.choices:
            raise unknown_name(self.kind, value, self.choices, f"Choices: {', '.join(self.choices)}.")
        return value


weights = click.option(
    "--weights",
    metavar="pretrained|random|FILE",
    help="Which weights: the library's own, random ones, or a .safetensors/.pth file. "
    "[default: pretrained for timm, torchvision and hf, random for zoo and file.py]",
)
layers = click.option(
    "--layers",
    default="blocks",
    show_default=True,
    metavar="blocks|modules|convs|conv-inputs|all|REGEX",
    help="Which layers: blocks as a person would count them, also the places inside the blocks "
    "(modules), convolutions of the main path (convs) or what they are given (conv-inputs), every module, "
    "one layer's name, or a regular expression.",
)
pool = click.option(
    "--pool",
    default="auto",
    show_default=True,
    type=OneOf("pooling", ["auto", "2x2", "avg", "flatten", "mean", "cls", "cls+mean", "last"]),
    help="How a layer's output becomes features: 2×2 cells of a map, its average, every number (at most "
    "8,000); of tokens the mean, the first (cls), both (cls+mean) or the last.",
)
probe = click.option(
    "--probe",
    default="exact",
    show_default=True,
    type=OneOf("probe", short_names()),
    help="The probe's protocol.",
)
precision = click.option(
    "--precision",
    default="f32",
    show_default=True,
    type=OneOf("precision", ["auto", "f32", "bf16"]),
    help="Numbers the network runs in; auto takes bf16 where the machine has it. Where that moves a layer's "
    "features by more than 5 % of their spread, f32 is taken instead.",
)
seeds = click.option(
    "--seeds", default=1, show_default=True, type=click.IntRange(min=1), help="Number of probe seeds."
)
tolerance = click.option(
    "--tolerance",
    default=1e-2,
    show_default=True,
    type=float,
    help="Certified relative gap at which an exact probe is done, from 1e-12 to below 1.",
)
penalty = click.option(
    "--penalty",
    type=float,
    metavar="NUMBER",
    help="Of exact and ridge probes, on standardised features, the same for all layers. "
    "[default: chosen on held-out training rows]",
)
device = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
batch_size = click.option("--batch-size", type=click.IntRange(min=1), help="Images per forward pass.")
workers = click.option(
    "--workers",
    default=2,
    show_default=True,
    type=click.IntRange(min=1),
    help="Threads that decode images ahead.",
)
threads = click.option("--threads", type=click.IntRange(min=1), help="CPU threads for tensor work.")
seed = click.option("--seed", default=0, show_default=True, help="Every random draw follows from it.")
label = click.option("--label", metavar="COLUMN", help="Label column of the data. [default: found]")
image = click.option("--image", metavar="COLUMN", help="Image column of the data. [default: found]")
max_samples = click.option(
    "--max-samples", type=click.IntRange(min=1), help="At most this many rows per split, balanced by class."
)
skip_corrupt = click.option(
    "--skip-corrupt", is_flag=True, help="Leave images out that cannot be decoded; a warning names them."
)
accept_scale = click.option(
    "--accept-scale",
    is_flag=True,
    help="Go on where the inputs' scale is off by a factor of 10 or more; a warning says so.",
)
cache = click.option(
    "--cache/--no-cache",
    default=True,
    help="Keep features and probes in the cache ($TUNNELSCOPE_CACHE) and take from it what is there. "
    "[default: --cache]",
)
memory = click.option(
    "--memory",
    metavar="SIZE",
    help="Keep the process below this, such as 4GB: smaller batches, fewer rows for CKA. "
    "[default: what is free]",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
debug = click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error.")


def numbers(text: str, option: str) -> list[int]:
    """Read whole numbers between commas.

    Raises:
        RequestError: something else stands there.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isdecimal() for part in parts):
        raise RequestError(f"{option} takes whole numbers such as 0,1,2,10, got {text!r}")
    return [int(part) for part in parts]


def together(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Apply options so that `--help` lists them in the order given."""

    def apply(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return apply
