"""`connectors console link` and `connectors diagnostics`: a sign-in link, and a file for support, by command.

Owns how both are handed to whoever asked; the services decide what a link opens and what the file holds.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from connector_sdk.messages import Message
from connectors.cli.options import AsJson
from connectors.cli.output import run_with_host, say, show_json
from connectors.runtime.host import Host
from connectors.services import Refusal
from connectors.store import access, connections
from connectors.store.access.security_log import EventKind
from connectors.store.access.sessions import OPERATOR, Principal
from connectors.store.engine import Transaction

app = typer.Typer(no_args_is_help=True, help="The console in a browser.")


@app.command()
def link(
    connection: Annotated[
        str | None, typer.Option(help="For the business of this connection; without it, for the operator.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """A link that signs one device in, once, within ten minutes."""
    run_with_host(partial(_show_link, connection=connection, as_json=as_json))


async def _show_link(host: Host, connection: str | None, as_json: bool) -> None:
    token = await host.store.write(partial(_make_link, connection=connection))
    address = f"{host.public_url}/link/{token}"
    if as_json:
        # microseconds are the store's unit; scripts get seconds
        show_json({"url": address, "expires_in": access.sessions.LINK_FOR // 1_000_000})
    else:
        _say_link(address, public=bool(host.settings.public_url))


def _say_link(address: str, *, public: bool) -> None:
    say("✓ Open this within ten minutes; it works once:")
    say(f"  {address}")
    if not public:  # the address is then the usual one of a host on this machine, which may not be where it is reached
        say("  (CONNECTORS_PUBLIC_URL is not set: put the address at which this host is reached in its place)")


def _make_link(tx: Transaction, connection: str | None) -> str:
    principal = operator_at(tx, connection)
    _log_link(tx, principal, connection)
    return access.sessions.make_link(tx, principal)


def _log_link(tx: Transaction, principal: Principal, connection: str | None) -> None:
    """Log that a link was made, in the transaction that makes it: no link exists that the log does not know."""
    message = Message("security.link_made.command")
    access.security_log.record(
        tx, EventKind.link_made, message, business_id=principal.business_id, connection_id=connection
    )


def operator_at(tx: Transaction, connection: str | None) -> Principal:
    """Return the operator as a principal of a connection's business, or of the whole installation without one."""
    if connection is None:
        return Principal(None, "", "UTC", OPERATOR)
    business = connections.businesses.get(tx, connections.registry.get(tx, connection).business_id)
    return Principal(business.id, business.name, business.zone, OPERATOR)


def diagnostics(
    connection_id: str,
    out: Annotated[Path | None, typer.Option(help="Where to write it; by default here.")] = None,
) -> None:
    """A redacted file (zip) about a connection, to send to support; it lists what is in it."""
    run_with_host(partial(_write_diagnostics, connection_id=connection_id, out=out))


async def _write_diagnostics(host: Host, connection_id: str, out: Path | None) -> None:
    # collected before the file is opened: an unknown connection leaves no empty file behind
    body = await host.services.connections.diagnostics(connection_id)
    file = out or Path(f"7stamp-{connection_id}.zip")
    try:
        file.write_bytes(body)
    except OSError as error:
        raise Refusal("{file} cannot be written: {why}", file=str(file), why=error.strerror) from None
    say(f"✓ {file}: no keys, tokens, phones or emails are in it; README.txt in it says what is.")
