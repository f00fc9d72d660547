"""Serving ASGI applications on loopback or elsewhere, as many as a command needs.

Owns uvicorn's settings and a clean end; what is served, and within which limits, is the caller's.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import uvicorn
from starlette.types import ASGIApp

from connectors.descriptors import client_connections
from connectors.runtime.host import Host
from connectors.services import Refusal
from connectors.web.limited_protocol import LimitedProtocol, limited
from connectors.web.limits import Limits


def listening(host: str, port: int) -> socket.socket:
    """Bind a socket; port 0 takes a free one. Raises `Refusal` where the port is taken."""
    # bound here and not by uvicorn, which would end the process where the port is taken
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only where the protocol is named: 40 ms an answer on a fresh connection
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    # a host that is started again at once takes its port back from connections that are still closing
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise Refusal(f"cannot listen on {host}:{port}: {error.strerror}; choose another with --port") from None
    return sock


def limits_of(host: Host) -> type[LimitedProtocol]:
    """Return the protocol by which a host is served, within its settings' limits; what they refuse the host counts."""
    limits = Limits.of(host.settings)
    limits = replace(limits, connections=client_connections(limits.connections))
    return limited(limits, host.settings.proxies, host.refused)


def server(app: ASGIApp, protocol: type[LimitedProtocol] | None = None) -> uvicorn.Server:
    """Build a server without a log of requests, whose addresses hold secrets; without a `protocol` it has no limits."""
    config = uvicorn.Config(
        app,
        http=protocol or "httptools",
        ws="none",
        log_config=None,  # ours redacts; uvicorn's own would write beside it
        access_log=False,
        server_header=False,
        lifespan="on",
        timeout_graceful_shutdown=2,
        proxy_headers=False,  # anybody can send them: `LimitedProtocol` believes those of trusted proxies only
    )
    return uvicorn.Server(config)


async def serve(app: ASGIApp, sock: socket.socket, protocol: type[LimitedProtocol] | None = None) -> bool:
    """Serve until the process is told to stop, and return whether the application started at all."""
    uvicorn_server = server(app, protocol)
    await uvicorn_server.serve(sockets=[sock])
    return uvicorn_server.started


@asynccontextmanager
async def serving(
    app: ASGIApp, host: str = "127.0.0.1", port: int = 0, *, protocol: type[LimitedProtocol] | None = None
) -> AsyncIterator[str]:
    """Serve beside other work: give the origin, and end with the block. Raises `Refusal` where the start fails."""
    sock = listening(host, port)
    uvicorn_server = server(app, protocol)
    # the process' own signals stay with whoever runs the block
    uvicorn_server.capture_signals = _no_signals  # type: ignore[method-assign,assignment]
    task = asyncio.create_task(uvicorn_server.serve(sockets=[sock]))
    try:
        await _wait_for_start(uvicorn_server, task)
        yield f"http://{host}:{sock.getsockname()[1]}"
    finally:
        uvicorn_server.should_exit = True
        await task


async def _wait_for_start(uvicorn_server: uvicorn.Server, task: asyncio.Task[None]) -> None:
    # uvicorn tells nobody that it has started
    while not uvicorn_server.started:
        if task.done():
            await task  # raises what it ended with, where it did not end quietly
            raise Refusal("a server could not start")
        await asyncio.sleep(0.01)


class _no_signals:  # noqa: N801 - takes the place of uvicorn's context manager
    def __enter__(self) -> None:
        return

    def __exit__(self, *_: object) -> None:
        return
