"""Subscriptions at tills: has a till that can be told by its API post its hooks to a connection's address.

Owns when a till is told; the address itself is made of the operator's public one and the connection's token.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from pydantic import SecretStr

from connector_sdk.connector import HookAddress
from connectors.domain.connection import Connection
from connectors.store import connections
from connectors.store.connections.subscriptions import Subscription
from connectors.store.engine import Store
from connectors.sync.tills import Tills

log = logging.getLogger(__name__)

_LONGEST_KEY = 4096


class Subscriber:
    """Tells tills the addresses of their connections; `public_url` returns where the world reaches us, if known."""

    def __init__(self, store: Store, tills: Tills, public_url: Callable[[], str]) -> None:
        self._store = store
        self._tills = tills
        self._public_url = public_url

    def _address_to_tell(self, connection: Connection) -> str | None:
        """Return a connection's own address; `None` where its till is not told by its API."""
        connector_class = self._tills.classes.get(connection.connector)
        # before anything is decrypted: every read of a till asks, and few tills are told
        if connector_class is None or not connector_class.can("subscribe"):
            return None
        if connector_class.info.hook_address is not HookAddress.connection or not self._public_url():
            return None
        token = self._store.vault.decrypt(connection.hook_token)
        return f"{self._public_url()}/hooks/tills/{connection.connector}/{token}"

    def is_behind(self, connection: Connection) -> bool:
        """Say whether a till that can be told by its API was not told the connection's address as it is now."""
        address = self._address_to_tell(connection)
        if address is None:
            return False
        told = self._told(connection)
        return told is None or told.address != address

    def _told(self, connection: Connection) -> Subscription | None:
        return connections.subscriptions.of_connection(self._store.vault, connection)

    async def subscribe(self, connection: Connection) -> None:
        """Have the till post to the connection's address, and no more to the one that it was told before.

        What goes wrong is tried again with the next account check. The till is told once a day also what it knows
        already: it may have dropped an address that failed for long.
        """
        address, told = self._address_to_tell(connection), self._told(connection)
        if address is None:
            return
        try:
            key = _checked(await self._tills.of(connection).subscribe(address))
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything; polls find what no hook tells
            log.warning("connection %s: its hooks could not be set up: %s", connection.id, type(error).__name__)
            return
        is_new = told is None or told.address != address
        if key is None and told is not None and not is_new:
            key = told.key  # many tills name the key once: when they are told the address
        subscription = Subscription(address, key)
        if subscription != told:
            await self._store.write(lambda tx: connections.subscriptions.record(tx, connection.id, subscription))
        if told is not None and is_new:
            await self._unsubscribe(connection, told.address)

    async def unsubscribe(self, connection: Connection) -> None:
        """Have the till post no more, where it was told to; a till that fails is left to find nobody there."""
        if (told := self._told(connection)) is not None:
            await self._unsubscribe(connection, told.address)

    async def _unsubscribe(self, connection: Connection, address: str) -> None:
        try:
            await self._tills.of(connection).unsubscribe(address)
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything, and the connection goes on
            log.warning("connection %s: its hooks could not be ended: %s", connection.id, type(error).__name__)


def _checked(key: object) -> SecretStr | None:
    """Return what `subscribe` gave. Raises `TypeError` for what is no key: a plugin may return anything."""
    if key is None or (isinstance(key, SecretStr) and 0 < len(key.get_secret_value()) <= _LONGEST_KEY):
        return key
    raise TypeError("subscribe returned neither a key nor None")
