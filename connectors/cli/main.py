"""The command line: `connectors …`.

Owns names and options of commands; each is a few lines over the desk.
"""

from __future__ import annotations

import typer

from connectors.cli import connection, installation, operations, work
from connectors.cli.output import log_to_stderr
from connectors.plugins import Plugins

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # they print what variables hold
    help="Every sale at the till becomes a stamp at 7stamp.",
)


@app.callback()
def _common(
    log_level: str = typer.Option("WARNING", help="DEBUG, INFO, WARNING or ERROR; secrets are masked."),
) -> None:
    log_to_stderr(log_level)


app.add_typer(connection.app, name="connection")
app.add_typer(operations.app, name="operations")
app.add_typer(installation.database, name="db")
app.command()(work.sync)
app.command()(work.preview)
app.command()(work.backfill)
app.command()(work.replan)
app.command()(work.journal)
app.command()(installation.serve)
app.command()(installation.plugins)
app.command()(installation.doctor)
app.command()(installation.sandbox)
app.command()(installation.demo)


def main() -> None:
    """The entry point; plugins may add commands of their own."""
    for implementation in Plugins().manager.hook.register_commands.get_hookimpls():
        implementation.function(cli=app)
    app()
