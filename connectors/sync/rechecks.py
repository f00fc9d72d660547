"""Rechecks: whether a till or 7stamp that refused a connection lets it in again.

Owns when that is asked, by itself with growing pauses and whenever a person wishes, and that a connection which is let
in works again. A till may have refused a token by mistake, or a cafe may have mended something at the till's side.
"""

from __future__ import annotations

import asyncio
import logging

from connector_sdk.errors import ConnectorError, NotAuthorised
from connector_sdk.messages import Message
from connectors.domain.connection import UNWELL, Connection, Health
from connectors.sevenstamp.client import InvalidKey, SevenStamp, SevenStampError
from connectors.store import connections
from connectors.store.engine import Store, Transaction
from connectors.store.errors import NotFound, StoreError
from connectors.sync.health import why_refused
from connectors.sync.tills import Tills

log = logging.getLogger(__name__)

_AT_A_TIME = 100
_CALLS_AT_ONCE = 8
_PATIENCE = 60.0
"""Seconds; a connector that hangs keeps its place among those that are asked at once no longer."""
_KEY_REFUSED = Message("why.key_refused")
_OTHER_ACCOUNT = Message("This token opens another account of the till than this connection's.")
_NOT_KNOWN = Message("The till or 7stamp did not answer: try again in a minute.")


class Rechecker:
    """Asks tills and 7stamp whether refused connections may work again."""

    def __init__(self, store: Store, tills: Tills, sevenstamp: SevenStamp) -> None:
        self._store = store
        self._tills = tills
        self._sevenstamp = sevenstamp

    async def round(self) -> None:
        """Recheck the connections that are due; each failure leaves the others alone."""
        due = await self._store.write(lambda tx: connections.schedule.lease_rechecks(tx, _AT_A_TIME))
        places = asyncio.Semaphore(_CALLS_AT_ONCE)

        async def recheck(connection: Connection) -> None:
            async with places:
                try:
                    await self.recheck(connection)
                except (StoreError, NotFound) as error:
                    log.warning("connection %s: could not be tried again: %s", connection.id, error)

        await asyncio.gather(*map(recheck, due))

    async def recheck(self, connection: Connection) -> Message | None:
        """Ask whether a connection may work again, and let it; return why it may not."""
        reason = await self._refusal_of_till(connection) or await self._refusal_of_key(connection)
        await self._store.write(lambda tx: _write_down(tx, connection, reason))
        return reason

    async def _refusal_of_till(self, connection: Connection) -> Message | None:
        try:
            async with asyncio.timeout(_PATIENCE):
                account = await self._tills.of(connection).check()
        except NotAuthorised as error:
            return why_refused(error)
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything
            if not isinstance(error, ConnectorError):
                log.info("connection %s: its recheck raised %s", connection.id, type(error).__name__)
            return _NOT_KNOWN
        return None if account.id == connection.account.id else _OTHER_ACCOUNT

    async def _refusal_of_key(self, connection: Connection) -> Message | None:
        key = self._store.vault.decrypt(connection.sevenstamp_key)
        try:
            await self._sevenstamp.with_key(key).me()
        except InvalidKey:
            return _KEY_REFUSED
        except (SevenStampError, RuntimeError, ValueError):
            return _NOT_KNOWN
        return None


def _write_down(tx: Transaction, asked: Connection, reason: Message | None) -> None:
    """Have a connection work again, or say why it still does not, unless somebody has changed it meanwhile."""
    connection = connections.registry.lock(tx, asked.id)
    if connection.generation != asked.generation or connection.health not in UNWELL:
        return
    if reason is None:
        connections.registry.set_health(tx, connection.id, Health.active, None)
    # what is not known says nothing new: the page goes on to say what was refused
    elif reason is not _NOT_KNOWN and connection.health is Health.needs_authorisation:
        connections.registry.set_reason(tx, connection.id, reason)
