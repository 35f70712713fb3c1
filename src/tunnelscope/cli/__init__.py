"""The command line: one file a command, each a thin layer over the library's call of that name."""

import sys
import traceback
import warnings

import click

from tunnelscope import __version__
from tunnelscope.cli.cache import cache
from tunnelscope.cli.compare import compare
from tunnelscope.cli.data import data
from tunnelscope.cli.demo import demo
from tunnelscope.cli.effects import effects
from tunnelscope.cli.layers import layers
from tunnelscope.cli.probe import probe
from tunnelscope.cli.record import record
from tunnelscope.cli.report import report
from tunnelscope.cli.reproduce import reproduce
from tunnelscope.cli.scan import scan
from tunnelscope.cli.study import study
from tunnelscope.cli.surgery import linearise, reset
from tunnelscope.cli.train import train
from tunnelscope.errors import TunnelscopeError

INTERRUPTED = 130
OUT_OF_MEMORY = 3
GOES_ON = (
    "interrupted; the same command goes on from what was finished (a scan with --no-cache from the start)"
)
OUR_FAULT = 70  # EX_SOFTWARE: a bug, which the message says


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="tunnelscope")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """At which layer does a trained network stop building its representation,
    what do the layers after it cost on other data, and which layer should you take?"""


for command in (
    scan,
    layers,
    record,
    probe,
    train,
    report,
    compare,
    reset,
    linearise,
    study,
    data,
    effects,
    reproduce,
    demo,
    cache,
):
    cli.add_command(command)


def main(arguments: list[str] | None = None) -> None:
    """Run a command and end with its exit code; an error is one line on stderr."""
    # what Pillow says of damaged images beside the error: a path in its source, and that line
    warnings.filterwarnings("ignore", module=r"PIL\.")
    arguments = sys.argv[1:] if arguments is None else arguments
    sys.exit(_run(arguments))


def _run(arguments: list[str]) -> int:
    try:
        cli.main(args=arguments, prog_name="tunnelscope", standalone_mode=False)
        return 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except click.ClickException as error:
        return _fail(error.format_message(), 2, arguments)
    except TunnelscopeError as error:
        return _fail(str(error), error.exit_code, arguments)
    except (click.Abort, KeyboardInterrupt):
        return _fail(
            GOES_ON,
            INTERRUPTED,
            arguments,
        )
    except MemoryError as error:
        return _fail(f"out of memory: {error}; give fewer rows with --max-samples", OUT_OF_MEMORY, arguments)
    except BrokenPipeError:
        return 0
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        line = f"a fault of tunnelscope itself: {what}; please report it with --debug's output"
        return _fail(line, OUR_FAULT, arguments)


def _fail(message: str, code: int, arguments: list[str]) -> int:
    if "--debug" in arguments:
        traceback.print_exc()
    click.echo(f"tunnelscope: {' '.join(message.split())}", err=True)
    return code
