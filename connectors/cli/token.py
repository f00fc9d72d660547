"""`connectors token …`: with which programs act for a business through the API."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from connectors.cli.options import AsJson, Yes
from connectors.cli.output import confirm, run_with_host, say, show_json, show_table
from connectors.runtime.host import Host
from connectors.services.shapes import TokenShape

app = typer.Typer(no_args_is_help=True, help="With which programs act for a business through the API.")

Connection = Annotated[str, typer.Argument(help="A connection of the business.")]


@app.command()
def make(
    connection_id: Connection,
    title: Annotated[str, typer.Option(help="What uses it.")],
    scope: Annotated[
        list[str], typer.Option("--scope", metavar="read|act|subscribe|sell", help="A right; may be repeated.")
    ],
    as_json: AsJson = False,
) -> None:
    """Make a token; it is printed once."""
    run_with_host(partial(_make, connection_id=connection_id, title=title, scopes=scope, as_json=as_json))


async def _make(host: Host, connection_id: str, title: str, scopes: list[str], as_json: bool) -> None:
    business = (await host.services.connections.get(connection_id)).business_id
    made, token = await host.services.tokens.make(business, title, scopes)
    if as_json:
        show_json({**TokenShape.of(made).model_dump(), "token": token})
        return
    say(f"✓ {made.id}: {made.title}")
    say(f"  The token, shown only now: {token}")


@app.command("list")
def list_(connection_id: Connection, as_json: AsJson = False) -> None:
    """The tokens of a connection's business, with when each was used last."""
    run_with_host(partial(_list, connection_id=connection_id, as_json=as_json))


async def _list(host: Host, connection_id: str, as_json: bool) -> None:
    business = (await host.services.connections.get(connection_id)).business_id
    shapes = [TokenShape.of(token) for token in await host.services.tokens.list_all(business)]
    if as_json:
        show_json([shape.model_dump() for shape in shapes])
        return
    cells = [
        [one.id, one.title, ", ".join(one.scopes), f"…{one.ending}", one.last_used_at or "never"] for one in shapes
    ]
    show_table(["id", "title", "rights", "token", "last used"], cells, "No tokens.")


@app.command()
def revoke(
    connection_id: Connection,
    token_id: Annotated[str, typer.Argument(metavar="TOKEN", help="As `connectors token list` shows it.")],
    yes: Yes = False,
) -> None:
    """Revoke a token: what uses it is refused from now on."""
    confirm(f"Revoke {token_id}? What uses it is refused from now on.", yes)
    run_with_host(partial(_revoke, connection_id=connection_id, token_id=token_id))


async def _revoke(host: Host, connection_id: str, token_id: str) -> None:
    business = (await host.services.connections.get(connection_id)).business_id
    await host.services.tokens.revoke(business, token_id)
    say("✓ Revoked.")
