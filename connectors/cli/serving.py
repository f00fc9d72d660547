"""`connectors serve` and `connectors worker`: what runs until it is interrupted.

Owns the order of the start: the host takes the database over before it listens, and listens before it says so.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Annotated

import typer

from connectors import tracing
from connectors.cli.options import ListenHost, ListenPort
from connectors.cli.output import run, say, the_host
from connectors.cli.servers import limits_of, listening, serving
from connectors.cli.servers import serve as serve_application
from connectors.runtime.garbage import collect_rarely
from connectors.runtime.host import Host
from connectors.runtime.operator_password import ensure_operator_password
from connectors.services import Refusal
from connectors.store.members import MemberRole
from connectors.web.app import application, probes


def serve(
    ctx: typer.Context,
    host: ListenHost = "127.0.0.1",
    port: ListenPort = 8700,
    work: Annotated[
        bool, typer.Option("--work/--no-work", help="Leave the work to `connectors worker` with --no-work.")
    ] = True,
) -> None:
    """Console, hooks and background sync in one process.

    On a database server any number of hosts run side by side, and workers beside them.
    """
    # what happens in a host is worth a log by default; other commands log only what is wrong
    ctx.obj.begin("INFO")
    # Ctrl-C, or a service's stop, is how a host is meant to end: that is success
    run(partial(_serve, address=host, port=port, works=work), interrupted=0)


async def _serve(address: str, port: int, works: bool) -> None:
    async with the_host() as host, _tracing(host):
        if not works and host.membership is None:
            raise Refusal("a database in a file has no workers: leave --no-work out, or use a database server")
        # first of all: a second host on this database must be refused before it takes a request
        host.take_over()
        sock = listening(address, port)
        origin = _origin(address, sock)
        # before anything is shown: links in messages begin with it where no public address is set
        host.listens_on(origin)
        await _announce(host, origin)
        collect_rarely()
        if not await serve_application(application(host, works=works), sock, limits_of(host)):
            raise Refusal("the host could not start: see the log above")


@asynccontextmanager
async def _tracing(host: Host) -> AsyncIterator[None]:
    """Send traces meanwhile, where the operator names a collector; what is left goes at the end."""
    if (collector := host.settings.traces_url) is None:
        yield
        return
    try:
        tracing.begin(collector)
    except tracing.TracingUnavailable as error:
        raise Refusal(str(error)) from None
    try:
        yield
    finally:
        await asyncio.to_thread(tracing.end)


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


def worker(
    ctx: typer.Context,
    host: ListenHost = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(help="Answer /healthz, /readyz and /metrics there; without it nothing listens.")
    ] = None,
) -> None:
    """Do the work of a cluster, beside others, on a database server.

    It needs a database server (`CONNECTORS_DATABASE_URL`) and the same secret key as the hosts.
    """
    ctx.obj.begin("INFO")
    run(partial(_work, address=host, port=port), interrupted=0)


async def _work(address: str, port: int | None) -> None:
    async with AsyncExitStack() as stack:
        host = await stack.enter_async_context(the_host())
        await stack.enter_async_context(_tracing(host))
        if host.membership is None:
            raise Refusal("a database in a file has one host, which does the work: a worker needs a database server")
        await host.start(MemberRole.worker)
        if port is not None:
            origin = await stack.enter_async_context(serving(probes(host), address, port, protocol=limits_of(host)))
            say(f"✓ Listening on {origin} for probes and metrics.")
        collect_rarely()
        say("✓ Working; Ctrl-C ends it, after the calls that are under way.")
        try:
            await _wait_for_stop()
        finally:
            await host.stop()


async def _wait_for_stop() -> None:
    """Wait until the process is told to stop."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    try:
        await stopped.wait()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
