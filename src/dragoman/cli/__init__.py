"""The `dragoman` command: one file per subcommand.

Results go to standard output, everything else to standard error, one line per message. Nothing here imports a
framework, so that `--help`, `--version` and usage errors are instant.
"""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from dragoman._interrupts import INTERRUPTED
from dragoman._version import __version__
from dragoman.cli.argv import normalise
from dragoman.cli.average import average
from dragoman.cli.bench import bench
from dragoman.cli.bulk import bulk
from dragoman.cli.console import report, session
from dragoman.cli.data import data
from dragoman.cli.doctor import doctor
from dragoman.cli.evaluate import evaluate
from dragoman.cli.export import export
from dragoman.cli.generated import CommandWithGroups
from dragoman.cli.init import init
from dragoman.cli.inspect import inspect
from dragoman.cli.listen import listen
from dragoman.cli.serve import serve
from dragoman.cli.train import train
from dragoman.cli.transcribe import transcribe

__all__ = ["app", "main"]

app = typer.Typer(
    name="dragoman",
    add_completion=False,
    rich_markup_mode=None,  # its boxes cut long flags short and take a second
    context_settings={"help_option_names": ["--help", "-h"]},
)
for _command in (transcribe, bulk, inspect, listen, serve, init, data, train, average, evaluate, export, bench, doctor):
    app.command(cls=CommandWithGroups)(_command)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"dragoman {__version__}")  # noqa: T201
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Turn speech into text with any speech encoder joined to any text decoder."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    0 all done, 1 some inputs failed, 2 wrong usage, 3 model or data not found, 4 out of memory, 5 invalid or untrusted
    file refused, 130 interrupted.

    Args:
        arguments: What follows the name of the command; `sys.argv[1:]` if `None`.
    """
    command = typer.main.get_command(app)
    argv = normalise(command, sys.argv[1:] if arguments is None else arguments) or ["--help"]
    with session(debug="--debug" in argv, json_logs="--json_logs" in argv, verbose="--verbose" in argv):
        try:
            code = command.main(argv, prog_name="dragoman", standalone_mode=False) or 0
            # typer turns Ctrl-C into this code without a message.
            return report(KeyboardInterrupt()) if code == INTERRUPTED else code
        except BaseException as error:  # including SystemExit, which typer raises when a pipe closes
            return report(error)
