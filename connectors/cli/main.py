"""The command line: `connectors …`.

Owns the names of the commands, their order in the help, and the options before a command; what each command does is
with its module.
"""

from __future__ import annotations

import gc
from importlib.metadata import version
from typing import Annotated

import typer

from connectors.cli.command_table import OUR_DISTRIBUTION, CommandEntry, LazyGroup
from connectors.cli.output import LogFormat, Logging, fail, say

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


class ConnectorsGroup(LazyGroup):
    """All commands, in the order in which the help lists them."""

    entries = (
        CommandEntry("sync", "connectors.cli.sync_commands:sync", "Poll, look-back, hints and delivery once, now."),
        CommandEntry(
            "preview",
            "connectors.cli.sync_commands:preview",
            "What receipts would be stamped; sends nothing and stores nothing.",
        ),
        CommandEntry(
            "backfill",
            "connectors.cli.sync_commands:backfill",
            "Take in history: receipts from before the connection earn stamps too.",
        ),
        CommandEntry(
            "import",
            "connectors.cli.import_command:import_",
            "Take in the receipts of a file: the same file again, or an overlapping one, changes nothing.",
        ),
        CommandEntry(
            "replan", "connectors.cli.sync_commands:replan", "Plan stored receipts again by the rule as it is now."
        ),
        CommandEntry(
            "reconcile",
            "connectors.cli.reconcile:reconcile",
            "Compare till, ledger and cards; mend what is certain, list the rest.",
        ),
        CommandEntry("journal", "connectors.cli.sync_commands:journal", "What happened, in plain words."),
        CommandEntry(
            "unread",
            "connectors.cli.sync_commands:unread",
            "What arrived and could not be read, newest first, and why; nothing of it is lost.",
        ),
        CommandEntry(
            "events",
            "connectors.cli.events:events",
            "What 7stamp said of the cards of a connection's business, newest first.",
        ),
        CommandEntry(
            "forget",
            "connectors.cli.forget:forget",
            "Erase a customer: names, kept requests and drafts. Stamps that were given stay given.",
        ),
        CommandEntry("serve", "connectors.cli.serving:serve", "Console, hooks and background sync in one process."),
        CommandEntry(
            "worker", "connectors.cli.serving:worker", "Do the work of a cluster, beside others, on a database server."
        ),
        CommandEntry(
            "plugins",
            "connectors.cli.installation:plugins",
            "The connectors found, and plugins that are set aside with the reason.",
        ),
        CommandEntry(
            "doctor",
            "connectors.cli.doctor:doctor",
            "Look whether everything a host needs is here; ends with 1 where something is wrong.",
        ),
        CommandEntry(
            "new",
            "connectors.cli.new:new",
            "Make a connector's package: it works, and passes the conformance suite, before a line is changed.",
        ),
        CommandEntry(
            "check",
            "connectors.cli.check:check",
            "Run the conformance suite over a connector's stub; ends with 1 where something required is missing.",
        ),
        CommandEntry(
            "try",
            "connectors.cli.try_command:try_",
            "Read a till and show each sale, field by field, with the path on the wire that each field came from.",
        ),
        CommandEntry(
            "diagnostics",
            "connectors.cli.support:diagnostics",
            "A redacted file (zip) about a connection, to send to support; it lists what is in it.",
        ),
        CommandEntry("sandbox", "connectors.cli.sandbox:sandbox", "A stand-in for 7stamp or a till, with faults."),
        CommandEntry(
            "demo",
            "connectors.cli.demo:demo",
            "Sandboxes, host and a cafe with live sales: receipts turn into stamps before your eyes.",
        ),
        CommandEntry("connection", "connectors.cli.connection:app", "Join a till account to a 7stamp key."),
        CommandEntry(
            "operations",
            "connectors.cli.operations:app",
            "What is on its way to 7stamp: `connectors operations ID`.",
        ),
        CommandEntry(
            "subscription",
            "connectors.cli.subscription:app",
            "Tell others of events: Zapier, Make, Slack, or any address.",
        ),
        CommandEntry("voucher", "connectors.cli.voucher:app", "Vouchers apart from receipts: issue, show and redeem."),
        CommandEntry("token", "connectors.cli.token:app", "With which programs act for a business through the API."),
        CommandEntry("console", "connectors.cli.support:app", "The console in a browser."),
        CommandEntry("security", "connectors.cli.security:app", "Who came in, and what was refused."),
        CommandEntry("db", "connectors.cli.installation:database", "The database."),
        CommandEntry(
            "move",
            "connectors.cli.move:move",
            "Move this installation from its file to a database server.",
        ),
        CommandEntry("keys", "connectors.cli.keys:app", "The secret keys that encrypt the database."),
    )


app = typer.Typer(
    cls=ConnectorsGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # they print what variables hold
    help="Every sale at the till becomes a stamp at 7stamp.",
)


def _print_version(wanted: bool) -> None:
    # eager, so that `--version` answers without a command, and before another option is found wrong
    if wanted:
        say(f"connectors {version(OUR_DISTRIBUTION)}")
        raise typer.Exit


@app.callback()
def _common(
    ctx: typer.Context,
    log_level: str | None = typer.Option(
        None, envvar="CONNECTORS_LOG_LEVEL", help="DEBUG, INFO, WARNING or ERROR; secrets are masked."
    ),
    log_format: Annotated[
        LogFormat,
        typer.Option(envvar="CONNECTORS_LOG_FORMAT", help="Log lines as text, or as JSON with what each is about."),
    ] = LogFormat.text,
    version_: bool = typer.Option(
        False, "--version", is_eager=True, callback=_print_version, help="Print the version and end."
    ),
) -> None:
    # checked here: `logging` takes numbers and made-up names too, and raises for others
    if log_level is not None and log_level.upper() not in _LEVELS:
        fail(f"there is no log level {log_level!r}; known: {', '.join(_LEVELS)}")
    # kept as typed, for a command with another level by default (`serve`) to see whether one was named
    ctx.obj = Logging(log_level, log_format is LogFormat.json)
    ctx.obj.begin("WARNING")


def main() -> None:
    """Run the command that the process was started with."""
    gc.disable()  # the command table enables it when the command is imported
    app()
