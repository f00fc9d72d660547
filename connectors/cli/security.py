"""`connectors security log`: the security log of this installation, for people and for scripts."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from connectors.cli.options import AsJson
from connectors.cli.output import run_with_host, show_json, show_table
from connectors.domain.clock import moment
from connectors.runtime.host import Host
from connectors.store import access
from connectors.store.access.security_log import Event

app = typer.Typer(no_args_is_help=True, help="Who came in, and what was refused.")


@app.command("log")
def show_log(
    business: Annotated[str | None, typer.Option(help="Only what is of this business (its id at 7stamp).")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="The newest so many rows.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Sign-ins, wrong keys and passwords, links, and forged hooks, newest first, in UTC."""
    run_with_host(partial(_show_events, business=business, limit=limit, as_json=as_json))


async def _show_events(host: Host, business: str | None, limit: int, as_json: bool) -> None:
    events = await host.store.read(partial(access.security_log.list_newest, business_id=business, limit=limit))
    if as_json:
        show_json([_as_json(host, event) for event in events])
        return
    rows = [_cells(host, event) for event in events]
    show_table(["when", "what", "whose", "from"], rows, "Nothing yet.")


def _cells(host: Host, event: Event) -> list[str]:
    # a guesser's attempts are one row with a count, which is worth showing only where there were several
    times = f" ({event.count} times)" if event.count > 1 else ""
    return [
        _in_utc(event.last_at),
        host.words.word(event.message) + times,
        _whose(event),
        " ".join(part for part in (event.address, event.device) if part),
    ]


def _in_utc(at: int) -> str:
    # the help says that times are UTC, so each row need not
    return moment(at).isoformat(sep=" ", timespec="seconds").removesuffix("+00:00")


def _whose(event: Event) -> str:
    """Name what an event is about as closely as is known; empty for one of the whole installation."""
    return event.connection_id or event.business_name or event.business_id or ""


def _as_json(host: Host, event: Event) -> dict[str, str | int | None]:
    return {
        "at": moment(event.at).isoformat(),
        "last_at": moment(event.last_at).isoformat(),
        "kind": event.kind.value,
        "business": event.business_id,
        "connection": event.connection_id,
        "address": event.address,
        "device": event.device,
        "count": event.count,
        "text": host.words.word(event.message),
    }
