"""A process that renews a grant, to be killed at one of its steps."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from connector_sdk.errors import ConnectorError
from connectors.domain.clock import Clock
from connectors.plugins import Plugins
from connectors.settings import Settings
from connectors.store import connections
from connectors.store.engine import Store
from connectors.sync.renewals import Renewer
from connectors.sync.tills import Tills

STEPS = ("begin", "ask", "answered", "store", "stored")
"""Where a renewal can be killed: before each of its three steps, and after the last two."""

_CLASSES = Plugins().classes
"""Found once, by the server that forks."""


class StoppedClock(Clock):
    """A clock that shows one moment, until it is set."""

    def __init__(self, at: int) -> None:
        self.at = at

    def now(self) -> int:
        return self.at


def renew(settings: Settings, environment: Mapping[str, str], now: int, connection_id: str, step: str) -> None:
    """Renew a connection's grant at a moment, but be killed at a step."""
    # the server that forks may have started for another test, and with its settings
    for name in [name for name in os.environ if name.startswith("SQUARE_")]:
        del os.environ[name]
    os.environ.update(environment)
    _kill_at(step)
    asyncio.run(_renew(settings, now, connection_id))


def _kill_at(step: str) -> None:
    def killed() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def before(function: Callable[..., Any]) -> Callable[..., Any]:
        def replaced(*arguments: Any, **named: Any) -> Any:
            killed()
            return function(*arguments, **named)

        return replaced

    def after(function: Callable[..., Any]) -> Callable[..., Any]:
        async def replaced(*arguments: Any, **named: Any) -> Any:
            result = await function(*arguments, **named)
            killed()
            return result

        return replaced

    match step:
        case "begin":
            connections.renewals.begin_renewal = before(connections.renewals.begin_renewal)
        case "ask":
            Renewer._ask = before(Renewer._ask)  # type: ignore[method-assign]
        case "answered":
            Renewer._ask = after(Renewer._ask)  # type: ignore[method-assign]
        case "store":
            connections.renewals.finish_renewal = before(connections.renewals.finish_renewal)
        case "stored":
            Renewer._trade = after(Renewer._trade)  # type: ignore[method-assign]


async def _renew(settings: Settings, now: int, connection_id: str) -> None:
    store = Store(settings.database_url, settings.vault(), clock=StoppedClock(now))
    await store.open()
    tills = Tills(_CLASSES, store)
    with suppress(ConnectorError):
        await tills.renewer.renew(connection_id)
    await tills.aclose()
    await store.close()
