"""The ``fl-he`` command.

Each command imports what it needs when it runs: Hydra, Flower and Ray take seconds to load.
"""

from __future__ import annotations

import errno
import gc
import os
import sys
from typing import Annotated

import typer

from fl_he.commands.agree import agree
from fl_he.commands.bench import bench
from fl_he.commands.capc import capc
from fl_he.commands.export import export
from fl_he.commands.federation import federation, show
from fl_he.commands.keygen import enroll, keygen
from fl_he.commands.ledger import ledger
from fl_he.commands.node import node
from fl_he.commands.plan import plan
from fl_he.commands.predict import predict
from fl_he.commands.report import report
from fl_he.commands.run import run
from fl_he.commands.schema import check, schema
from fl_he.commands.status import status
from fl_he.version import __version__

#: A pipe without a reader; a full disk, or one that fails.
_NO_OUTPUT = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
#: Objects made between two collections of garbage: with Python's own 700 a tenth of a run's CPU
#: time went into looking through modules while they are imported.
_COLLECT_AFTER = 50_000

app = typer.Typer(
    name="fl-he",
    help="Encrypted federated learning: hospitals train one model from encrypted updates.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    suggest_commands=False,  # Click makes the same suggestion
)


def main() -> None:
    """Run the command line; an output that nobody reads or that cannot be written ends it."""
    gc.set_threshold(_COLLECT_AFTER)
    try:
        try:
            app()
        finally:
            sys.stdout.flush()  # at the interpreter's end an error would be a traceback
    except OSError as error:
        if error.errno not in _NO_OUTPUT:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if error.errno != errno.EPIPE:
            typer.echo(f"fl-he: {error.filename or 'standard output'}: {error.strerror}", err=True)
        sys.exit(1)


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"fl-he {__version__}")
        raise typer.Exit


# Hydra parses all that follows, its own flags and --help included.
app.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})(run)
# The order of the help: the commands needed first come first.
_COMMANDS = (
    *(report, bench, predict, export, schema, check, keygen, enroll, plan, federation, agree, show),
    ledger,
)
for command in _COMMANDS:
    app.command()(command)
app.add_typer(capc, name="capc")
# Flower's SuperNode takes all that is not ours.
_ITS_OPTIONS = {"ignore_unknown_options": True, "allow_extra_args": True}
app.command(context_settings=_ITS_OPTIONS)(node)
app.command(context_settings=_ITS_OPTIONS)(status)

if __name__ == "__main__":
    main()
