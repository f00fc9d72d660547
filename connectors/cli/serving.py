"""`connectors serve`: console, hooks and background sync in one process, until it is interrupted.

Owns the order of the start: the host takes the database over before it listens, and listens before it says so.
"""

from __future__ import annotations

import socket
from functools import partial

import typer

from connectors.cli.options import ListenHost, ListenPort
from connectors.cli.output import log_to_stderr, run, say, the_host
from connectors.cli.servers import limits_of, listening
from connectors.cli.servers import serve as serve_application
from connectors.runtime.host import Host
from connectors.runtime.operator_password import ensure_operator_password
from connectors.services import Refusal
from connectors.web.app import application


def serve(ctx: typer.Context, host: ListenHost = "127.0.0.1", port: ListenPort = 8700) -> None:
    """Console, hooks and background sync in one process."""
    # what happens in a host is worth a log by default; other commands log only what is wrong
    log_to_stderr(ctx.obj or "INFO")
    # Ctrl-C, or a service's stop, is how a host is meant to end: that is success
    run(partial(_serve, address=host, port=port), interrupted=0)


async def _serve(address: str, port: int) -> None:
    async with the_host() as host:
        # first of all: a second host on this database must be refused before it takes a request
        host.take_over()
        sock = listening(address, port)
        origin = _origin(address, sock)
        # before anything is shown: links in messages begin with it where no public address is set
        host.listens_on(origin)
        await _announce(host, origin)
        if not await serve_application(application(host), sock, limits_of(host)):
            raise Refusal("the host could not start: see the log above")


def _origin(address: str, sock: socket.socket) -> str:
    name = f"[{address}]" if ":" in address else address  # IPv6 stands in brackets in a URL
    return f"http://{name}:{sock.getsockname()[1]}"


async def _announce(host: Host, origin: str) -> None:
    # made at the first start and stored as a hash only, so there is no second time to show it
    if password := await ensure_operator_password(host.store, host.settings.operator_password):
        say(f"  The operator's password for the console, shown only now: {password}")
    say(f"✓ Listening on {origin} — the console is there; Ctrl-C ends it.")
    if host.public_url.startswith("https://"):
        say(f"  Open {host.public_url}: its cookies are for https only.")
