"""Notices requests that a proxy forwards while no proxy is trusted: then all visitors seem to be one.

Owns when that is written down; what is believed of such requests is the gate's.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from connectors.runtime.host import UNTRUSTED_PROXY, Host
from connectors.store import counters

_EVERY = 3600.0
_HEADERS = (b"x-forwarded-for", b"forwarded")


class NoticeForwarded:
    """Counts, at most once an hour, that a request came through a proxy although the operator named none."""

    def __init__(self, app: Any, host: Host) -> None:
        self._app = app
        self._host = host
        self._not_before = 0.0
        self._writing: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and self._listens() and any(name in _HEADERS for name, _ in scope["headers"]):
            self._not_before = time.monotonic() + _EVERY
            # nobody waits for this to be written
            task = asyncio.create_task(self._host.store.write(lambda tx: counters.raise_counter(tx, UNTRUSTED_PROXY)))
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)
        await self._app(scope, receive, send)

    def _listens(self) -> bool:
        return not self._host.settings.proxies and time.monotonic() >= self._not_before
