"""`connectors reconcile ID`: till, ledger and cards compared now.

Owns its options and how the outcome is shown; where a host runs on the same database, it is the host that does it.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from connector_sdk.messages import Message
from connectors.cli.options import AsJson
from connectors.cli.output import run_with_host, say, show_json, show_table
from connectors.cli.progress import report_bar
from connectors.runtime.host import Host
from connectors.services import ReconcileResult, reconcile_command


def reconcile(
    connection_id: str,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="YYYY-MM-DD",
            help="The first day, in the till's time zone, until today; else the last three days that have ended.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare till, ledger and cards; mend what is certain, list the rest.

    Ends with 1 where something needs a person.
    """
    result = run_with_host(partial(_reconcile, connection_id=connection_id, since=since, as_json=as_json))
    if result.open:
        raise typer.Exit(1)


async def _reconcile(host: Host, connection_id: str, since: str | None, as_json: bool) -> ReconcileResult:
    with report_bar("reconcile") as tell:
        result = await host.commands.run(reconcile_command(connection_id, since), tell)
    if as_json:
        show_json(result.as_json())
    else:
        _show(host, result)
    return result


def _show(host: Host, result: ReconcileResult) -> None:
    days = f"from {result.first_day} to {result.last_day}"
    calls = f"{result.calls} calls to 7stamp"
    if not result.till_read:
        say("The till cannot be read back: ledger and cards were compared.")
    if not (result.mended or result.open):
        say(f"All {result.receipts} receipts {days} agree ({calls}).")
        return
    say(f"{result.receipts} receipts {days}: {result.mended} mended, {result.open} for a person ({calls}).")
    cells = [
        [
            difference.receipt,
            "mended" if difference.mended else "open",
            host.words.word(
                Message(
                    f"agreement.{difference.kind}", {"receipt": difference.receipt, "count": difference.stamps or 0}
                )
            ),
        ]
        for difference in result.differences
    ]
    show_table(["receipt", "state", "what"], cells, "")
