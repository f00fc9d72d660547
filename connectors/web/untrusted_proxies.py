"""Notices requests that a proxy forwards while no proxy is trusted: then all visitors seem to have one address.

Owns when that is counted, for `connectors doctor` to tell; what is believed of such requests is the console's.
"""

from __future__ import annotations

import asyncio
import time

from starlette.types import ASGIApp, Receive, Scope, Send

from connectors.runtime.counter_names import UNTRUSTED_PROXY
from connectors.runtime.host import Host
from connectors.store import counters

_EVERY_SECONDS = 3600.0
_HEADERS = (b"x-forwarded-for", b"forwarded")


class UntrustedProxyCounter:
    """ASGI middleware that counts, at most once an hour, a forwarded request although the operator named no proxy."""

    def __init__(self, app: ASGIApp, host: Host) -> None:
        self._app = app
        self._host = host
        self._not_before = 0.0
        self._writing: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Look at a request's headers and pass it on."""
        if scope["type"] == "http" and self._is_due() and any(name in _HEADERS for name, _ in scope["headers"]):
            self._count()
        await self._app(scope, receive, send)

    def _is_due(self) -> bool:
        return not self._host.settings.proxies and time.monotonic() >= self._not_before

    def _count(self) -> None:
        """Count in the background: the request does not wait for the database."""
        # before the write has even begun, or every request of a burst would count
        self._not_before = time.monotonic() + _EVERY_SECONDS
        task = asyncio.create_task(self._host.store.write(lambda tx: counters.raise_counter(tx, UNTRUSTED_PROXY)))
        # the loop itself holds a task only weakly
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
