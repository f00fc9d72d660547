"""Subscriptions at 7stamp: has it post the events of each business to this host, once for all its connections.

Owns when 7stamp is told, and that it is told no more once a business's last connection is removed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from connectors.domain.connection import Health
from connectors.sevenstamp.client import SevenStamp, SevenStampError
from connectors.sevenstamp.events import EVENTS
from connectors.store import connections
from connectors.store.connections.loyalty_sources import LoyaltySource
from connectors.store.engine import Store, Transaction

log = logging.getLogger(__name__)

_AT_ONCE = 20


class LoyaltySubscriber:
    """Tells 7stamp where to post; `public_url` returns where the world reaches us, or "" where that is not known."""

    def __init__(self, store: Store, sevenstamp: SevenStamp, public_url: Callable[[], str]) -> None:
        self._store = store
        self._sevenstamp = sevenstamp
        self._public_url = public_url

    async def round(self) -> None:
        """Tell 7stamp of every business of which it is to be told, some of them a round."""
        origin = self._public_url()
        if not origin:
            return
        for due in await self._store.read(lambda tx: connections.loyalty_sources.due(tx, origin, _AT_ONCE)):
            await self.subscribe(due.business_id, due.connection_id)

    async def subscribe(self, business_id: str, connection_id: str) -> bool:
        """Have 7stamp post a business's events here, asked with the key of one of its connections; say whether it does.

        What goes wrong is tried again later: nothing here depends on events, they are only quicker than asking.
        """
        if not self._public_url():
            return False
        source = await self._store.write(lambda tx: connections.loyalty_sources.get_or_make(tx, business_id))
        owners = await self._store.read(lambda tx: connections.registry.by_ids(tx, [connection_id]))
        origin, key = self._public_url(), self._store.vault.decrypt(owners[connection_id].sevenstamp_key)
        client = self._sevenstamp.with_key(key)
        try:
            webhook = await client.subscribe(_address(origin, source), EVENTS, source.secrets[0])
            if source.webhook_id is not None and source.webhook_id != webhook.id:
                await client.unsubscribe(source.webhook_id)
        except SevenStampError as error:
            log.warning("business %s: 7stamp posts no events here yet: %s", business_id, error)
            await self._store.write(lambda tx: connections.loyalty_sources.record_failure(tx, source))
            return False
        await self._store.write(lambda tx: connections.loyalty_sources.record_told(tx, business_id, webhook.id, origin))
        return True

    async def unsubscribe(self, connection_id: str) -> None:
        """Have 7stamp post no more, where this is a business's last connection; to be called while it has its key."""
        last = await self._store.read(lambda tx: _last_connection_source(tx, connection_id))
        if last is None:
            return
        source, sealed_key = last
        if source.webhook_id is not None:
            try:
                await self._sevenstamp.with_key(self._store.vault.decrypt(sealed_key)).unsubscribe(source.webhook_id)
            except SevenStampError as error:
                # 7stamp finds nobody at the address from now on, and gives it up
                log.warning("business %s: its events could not be ended: %s", source.business_id, type(error).__name__)
        await self._store.write(lambda tx: connections.loyalty_sources.delete(tx, source.business_id))


def _address(origin: str, source: LoyaltySource) -> str:
    return f"{origin}/hooks/7stamp/{source.token}"


def _last_connection_source(tx: Transaction, connection_id: str) -> tuple[LoyaltySource, str] | None:
    """Return the source of a business and its encrypted key, where a connection is its last."""
    connection = connections.registry.get(tx, connection_id)
    connected = connections.registry.all_of_business(tx, connection.business_id)
    if any(other.health is not Health.removed and other.id != connection.id for other in connected):
        return None
    source = connections.loyalty_sources.find(tx, connection.business_id)
    return (source, connection.sevenstamp_key) if source is not None else None
