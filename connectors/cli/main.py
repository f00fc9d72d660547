"""The command line: `connectors …`.

Owns names and options of commands; each is a few lines over the services.
"""

from __future__ import annotations

import typer

from connectors.cli import connection, console, forget, installation, keys, kit, operations, security, trying, work
from connectors.cli.output import fail, log_to_stderr
from connectors.plugins import Plugins

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # they print what variables hold
    help="Every sale at the till becomes a stamp at 7stamp.",
)


@app.callback()
def _common(
    ctx: typer.Context,
    log_level: str | None = typer.Option(
        None, envvar="CONNECTORS_LOG_LEVEL", help="DEBUG, INFO, WARNING or ERROR; secrets are masked."
    ),
) -> None:
    if log_level is not None and log_level.upper() not in _LEVELS:
        fail(f"there is no log level {log_level!r}; known: {', '.join(_LEVELS)}")
    ctx.obj = log_level
    log_to_stderr(log_level or "WARNING")


app.add_typer(connection.app, name="connection")
app.add_typer(operations.app, name="operations")
app.add_typer(console.app, name="console")
app.add_typer(security.app, name="security")
app.add_typer(installation.database, name="db")
app.add_typer(keys.app, name="keys")
app.command()(work.sync)
app.command()(work.preview)
app.command()(work.backfill)
app.command()(work.replan)
app.command()(work.journal)
app.command()(work.unread)
app.command()(forget.forget)
app.command()(installation.serve)
app.command()(installation.plugins)
app.command()(installation.doctor)
app.command()(kit.new)
app.command()(kit.check)
app.command("try")(trying.try_)
app.command()(console.diagnostics)
app.command()(installation.sandbox)
app.command()(installation.demo)


def main() -> None:
    """The entry point; plugins may add commands of their own."""
    for implementation in Plugins().manager.hook.register_commands.get_hookimpls():
        implementation.function(cli=app)
    app()
