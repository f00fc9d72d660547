"""`connectors events`: what 7stamp said of a business's cards, and another secret for proving it."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from connectors.cli.options import AsJson
from connectors.cli.output import run_with_host, say, show_json, show_table
from connectors.domain.clock import moment
from connectors.runtime.host import Host
from connectors.services import Refusal
from connectors.services.shapes import LoyaltyEventShape
from connectors.store import connections, inbox
from connectors.store.inbox.loyalty_events import StoredEvent


def events(
    connection_id: str,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The newest so many.")] = 50,
    renew_secret: Annotated[
        bool,
        typer.Option("--renew-secret", help="Have 7stamp sign with another secret; the one before lives a day longer."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """What 7stamp said of the cards of a connection's business, newest first."""
    if renew_secret:
        run_with_host(partial(_renew_secret, connection_id=connection_id))
    else:
        run_with_host(partial(_show, connection_id=connection_id, limit=limit, as_json=as_json))


async def _renew_secret(host: Host, connection_id: str) -> None:
    connection = await host.services.connections.get(connection_id)
    host.services.require_sevenstamp()
    await host.store.write(lambda tx: connections.loyalty_sources.renew_secret(tx, connection.business_id))
    subscriber = host.loyalty_subscriber
    if subscriber is None or not await subscriber.subscribe(connection.business_id, connection.id):
        raise Refusal("7stamp could not be told of the new secret: it is told again within the day")
    say("✓ 7stamp signs with another secret from now on; the one before is taken for a day longer.")


async def _show(host: Host, connection_id: str, limit: int, as_json: bool) -> None:
    connection = await host.services.connections.get(connection_id)
    newest = await host.store.read(lambda tx: inbox.loyalty_events.newest(tx, connection.business_id, limit))
    if as_json:
        show_json([LoyaltyEventShape.of(event).model_dump() for event in newest])
        return
    nothing = (
        "Nothing yet: 7stamp tells of cards from the moment that it knows where this host is (CONNECTORS_PUBLIC_URL)."
    )
    show_table(["when", "event", "card", "code", "state"], [_cells(event) for event in newest], nothing)


def _cells(stored: StoredEvent) -> list[str]:
    event = stored.event
    when = moment(stored.received_at).isoformat(sep=" ", timespec="seconds").removesuffix("+00:00")
    if event is None:
        return [when, "?", "", "", stored.stage.value]
    return [when, event.event, event.card.id or "", event.code or "", stored.stage.value]
