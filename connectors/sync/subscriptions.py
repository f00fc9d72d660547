"""Subscriptions at tills: has a till that can be told by its API post its hooks to a connection's address.

Owns when a till is told; the address itself is made of the operator's public one and the connection's token.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from connector_sdk.connector import HookAddress
from connectors.domain.connection import Connection
from connectors.store import connections
from connectors.store.engine import Store
from connectors.sync.tills import Tills

log = logging.getLogger(__name__)


class Subscriber:
    """Tells tills the addresses of their connections; `public_url` returns where the world reaches this host."""

    def __init__(self, store: Store, tills: Tills, public_url: Callable[[], str]) -> None:
        self._store = store
        self._tills = tills
        self._public_url = public_url

    def address_of(self, connection: Connection) -> str | None:
        """Return the address of a connection's own; `None` where its till has none, or its connector is not here."""
        connector_class = self._tills.classes.get(connection.connector)
        if connector_class is None or connector_class.info.hook_address is not HookAddress.connection:
            return None
        token = self._store.vault.decrypt(connection.hook_token)
        return f"{self._public_url()}/hooks/tills/{connection.connector}/{token}"

    async def subscribe(self, connection: Connection) -> None:
        """Have the till post to the connection's address; what goes wrong is tried again with the next account check.

        The till is told once a day also what it knows already: it may have dropped an address that failed for long.
        """
        address = self.address_of(connection)
        if address is None or not self._tills.classes[connection.connector].can("subscribe"):
            return
        try:
            await self._tills.of(connection).subscribe(address)
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything; polls find what no hook tells
            log.warning("connection %s: its hooks could not be set up: %s", connection.id, type(error).__name__)
            return
        address_hash = self._store.vault.hash("hook address", address)
        if address_hash != connection.subscribed:
            await self._store.write(
                lambda tx: connections.schedule.record_subscription(tx, connection.id, address_hash)
            )

    async def unsubscribe(self, connection: Connection) -> None:
        """Have the till post no more, where it was told to; a till that fails is left to find nobody there."""
        address = self.address_of(connection)
        if address is None or connection.subscribed is None:
            return
        try:
            await self._tills.of(connection).unsubscribe(address)
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything, and the connection ends all the same
            log.warning("connection %s: its hooks could not be ended: %s", connection.id, type(error).__name__)
