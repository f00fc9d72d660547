"""Account checks: asks each till once a day what its account is, and follows what changed there.

Owns what a changed account means for its connection: new venues, zones and names, and the till's own list of hook
addresses. Reading its receipts is `till_reader`'s.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from connector_sdk.connector import Location, TillAccount
from connector_sdk.messages import Message
from connectors.domain.clock import DAY, HOUR, MINUTE
from connectors.domain.connection import Connection
from connectors.store import connections, ledger
from connectors.store.connections.registry import ConnectionChange
from connectors.store.engine import Store, Transaction
from connectors.sync.subscriptions import Subscriber
from connectors.sync.tills import Tills

log = logging.getLogger(__name__)

_EVERY, _SOON, _AGAIN_AFTER = DAY, 10 * MINUTE, HOUR


class AccountChecker:
    """Asks tills what their accounts are."""

    def __init__(self, store: Store, tills: Tills, subscriber: Subscriber) -> None:
        self._store = store
        self._tills = tills
        self._subscriber = subscriber

    async def check_if_due(self, connection: Connection) -> None:
        """Ask a till unless that was done within the day; what goes wrong is tried again within the hour."""
        # sooner where the till has hooks to be told of: a connection that has just begun, or has another address
        every = _SOON if self._subscriber.is_behind(connection) else _EVERY
        checked_at = connection.account_checked_at
        if checked_at is not None and checked_at > self._store.clock.now() - every:
            return
        try:
            account = await self._tills.of(connection).check()
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything; its reads say whether it works
            log.info("connection %s: its account could not be asked: %s", connection.id, type(error).__name__)
            await self._try_again(connection, every)
            return
        if account.id != connection.account.id:
            log.error("connection %s: its till names another account than before", connection.id)
            await self._try_again(connection, every)
            return
        # also for connections from before it was asked who reads alike
        read_key = self._tills.read_key(connection, account)
        await self._store.write(lambda tx: follow_account(tx, connection, account, read_key))
        await self._subscriber.subscribe(connection)

    async def _try_again(self, connection: Connection, every: int) -> None:
        """Have the till asked again within the hour, not with its very next read: it would be asked every minute."""
        at = self._store.clock.now() - every + min(every, _AGAIN_AFTER)
        await self._store.write(lambda tx: connections.schedule.record_account_check(tx, connection, at))


def follow_account(tx: Transaction, asked: Connection, account: TillAccount, read_key: str) -> None:
    """Store what a till says of its account, and tell of venues that are new.

    `asked` is the connection as it was when the till was asked: of two hosts that asked at once one tells, and an edit
    made meanwhile, which asked the till as well, stays.
    """
    if not connections.schedule.record_account_check(tx, asked, tx.now):
        return
    connection = connections.registry.by_ids(tx, [asked.id])[asked.id]
    new = _new_venues(connection, account)
    if connection.left_out is None and connection.scope:
        # connected before anybody was asked: what was listed then was left out by whoever chose
        listed = [venue.id for venue in connection.account.locations if venue.id not in connection.scope]
        connections.registry.leave_out(tx, connection, *listed)
    if account != connection.account or read_key != connection.read_key:
        connections.registry.change(tx, connection, ConnectionChange(account=account, read_key=read_key))
    # a connection to all venues takes a new one along; otherwise somebody has to say whose it is
    message_id = "venue.asked" if connection.scope else "venue.joined"
    for venue in new:
        ledger.journal.write(tx, connection.id, Message(message_id, {"place": venue.name}))


def _new_venues(connection: Connection, account: TillAccount) -> Sequence[Location]:
    known = {venue.id for venue in connection.account.locations}
    return [venue for venue in account.locations if venue.id not in known]
