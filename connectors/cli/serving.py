"""`connectors serve`: console, hooks and background sync in one process, until it is interrupted.

Owns the order of the start: the host takes the database over before it listens, and listens before it says so.
"""

from __future__ import annotations

import typer

from connectors.cli.options import ListenHost, ListenPort
from connectors.cli.output import log_to_stderr, run, say, the_host
from connectors.cli.servers import limits_of, listening
from connectors.cli.servers import serve as serve_application
from connectors.runtime.operator_password import ensure_operator_password
from connectors.services import Refusal
from connectors.web.app import application


def serve(ctx: typer.Context, host: ListenHost = "127.0.0.1", port: ListenPort = 8700) -> None:
    """Console, hooks and background sync in one process."""

    async def work() -> None:
        async with the_host() as running_host:
            running_host.take_over()
            sock = listening(host, port)
            origin = f"http://{f'[{host}]' if ':' in host else host}:{sock.getsockname()[1]}"
            running_host.listens_on(origin)
            if password := await ensure_operator_password(running_host.store, running_host.settings.operator_password):
                say(f"  The operator's password for the console, shown only now: {password}")
            say(f"✓ Listening on {origin} — the console is there; Ctrl-C ends it.")
            if running_host.public_url.startswith("https://"):
                say(f"  Open {running_host.public_url}: its cookies are for https only.")
            if not await serve_application(application(running_host), sock, limits_of(running_host)):
                raise Refusal("the host could not start: see the log above")

    log_to_stderr(ctx.obj or "INFO")
    run(work, interrupted=0)
