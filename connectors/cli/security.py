"""`connectors security log`: the security log of this installation, for people and for scripts."""

from __future__ import annotations

from typing import Annotated

import typer

from connectors.cli.options import AsJson
from connectors.cli.output import run, show_json, show_table, the_host
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

    async def work() -> None:
        async with the_host() as host:
            events = await host.store.read(lambda tx: access.security_log.list_newest(tx, business, limit=limit))
            if as_json:
                show_json([_as_json(host, event) for event in events])
                return
            rows = [_cells(host, event) for event in events]
            show_table(["when", "what", "whose", "from"], rows, "Nothing yet.")

    run(work)


def _cells(host: Host, event: Event) -> list[str]:
    times = f" ({event.count} times)" if event.count > 1 else ""
    return [
        moment(event.last_at).isoformat(sep=" ", timespec="seconds").removesuffix("+00:00"),
        host.words.word(event.message) + times,
        event.connection_id or event.business_name or event.business_id or "",
        " ".join(part for part in (event.address, event.device) if part),
    ]


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
