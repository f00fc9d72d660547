"""The life of a connection: added, changed and removed, with what that means for the ledger.

Owns adoption (a new connection to an account takes over what a removed one left) and the rule that within one till
account a location belongs to at most one connection. All of it happens in the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from connector_sdk.authorisation import Grant
from connector_sdk.connector import Location, TillAccount
from connector_sdk.messages import Message
from connector_sdk.rule import StampRule
from connectors.domain.connection import UNWELL, Connection, Health, describe_scope, share_location
from connectors.domain.events import Wakeup
from connectors.store import connections, inbox, ledger
from connectors.store.connections.registry import ConnectionChange, NewConnection
from connectors.store.engine import Transaction
from connectors.store.errors import AlreadyConnected, QuotaMet


def add(tx: Transaction, new: NewConnection, rule: StampRule) -> Connection:
    """Store a connection, adopting what removed ones to the same account left.

    Raises `AlreadyConnected`, `QuotaMet`.
    """
    # in the transaction that stores it: two browsers cannot both take the last place
    tx.alone("connections", new.business.id)
    if connections.registry.count_of_business(tx, new.business.id) >= tx.quotas.tills:
        raise QuotaMet(tx.quotas.tills)
    _refuse_overlap(tx, new.connector, new.account, new.scope, new.business.id)
    connections.businesses.save(tx, new.business)
    # before the new one is stored: it would be among them
    former = _removed_with_same_locations(tx, new)
    connection_id = connections.registry.insert(tx, new)
    if former:  # the youngest one's rules go on; receipts keep the rules they were planned by in any case
        connections.rules.copy(tx, former[0], connection_id)
    connections.rules.put_in_force(tx, connection_id, rule)
    if former:
        _adopt(tx, connection_id, former, new.scope)
    ledger.agreements.schedule(tx, connection_id, 0)  # the next look plans its night
    where = describe_scope(new.scope, new.account.locations) if new.scope else Message("all locations")
    params = {"account": new.account.name, "where": where}
    ledger.journal.write(tx, connection_id, Message("connection.added", params))
    tx.wakeups.update({Wakeup.poll, Wakeup.deliver})
    return connections.registry.get(tx, connection_id)


def _refuse_overlap(
    tx: Transaction,
    connector: str,
    account: TillAccount,
    scope: tuple[str, ...],
    business_id: str,
    *,
    ignoring: str | None = None,
) -> None:
    """Refuse locations that another connection of the account has. Raises `AlreadyConnected`."""
    tx.alone("locations", connector, account.id)
    for other in connections.registry.of_account(tx, connector, account.id):
        if other.id == ignoring or not share_location(scope, other.scope):
            continue
        # by name, and not whose: another business must not learn more than that the place is taken
        where = describe_scope(other.scope, account.locations)
        if other.business_id != business_id:
            raise AlreadyConnected(
                f"{account.name} ({where}) is already connected for another business: choose other locations"
            )
        raise AlreadyConnected(
            f"{account.name} is already connected as {other.id} ({where}): "
            f"change that one with `connectors connection edit {other.id}`, or choose other locations",
            other.id,
        )


def _removed_with_same_locations(tx: Transaction, new: NewConnection) -> list[str]:
    """List the removed connections whose locations a new one takes over, the one removed last first."""
    removed = connections.registry.removed_of_account(tx, new.connector, new.account.id, new.business.id)
    return [connection.id for connection in removed if share_location(connection.scope, new.scope)]


def _adopt(tx: Transaction, connection_id: str, former: Sequence[str], scope: tuple[str, ...]) -> None:
    """Hand over sales at the new connection's locations, with their operations and searches, and what is unread.

    Operations and searches first: which they are is said by the sales as they still are.
    """
    sale_ids = ledger.sales.ids_of_connections(former, scope)
    ledger.operations.move_all(tx, sale_ids, connection_id)
    ledger.card_searches.move_all(tx, sale_ids, connection_id)
    ledger.sales.move_all(tx, former, scope, connection_id)
    inbox.unreadable.move_all(tx, former, connection_id)
    # of both sides: receipts have left one and come to the other
    for changed in (connection_id, *former):
        ledger.daily_totals.recount(tx, changed)


def edit(tx: Transaction, connection_id: str, change: ConnectionChange, rule: StampRule | None = None) -> Connection:
    """Change a connection; new secrets reactivate one that needed authorisation.

    Raises `AlreadyConnected`, `NotFound`.
    """
    before = connections.registry.lock(tx, connection_id)
    if change.scope is not None:
        _refuse_overlap(tx, before.connector, before.account, change.scope, before.business_id, ignoring=before.id)
    connections.registry.change(tx, before, change)
    if rule is not None and connections.rules.put_in_force(tx, connection_id, rule):
        ledger.journal.write(tx, connection_id, Message("connection.rule"))
    for message_id in _edited(before, change):
        ledger.journal.write(tx, connection_id, Message(message_id))
    # the way out of both states is a new token or key: there is nothing else to press
    has_new_secrets = any(part is not None for part in (change.settings, change.grant, change.sevenstamp_key))
    if has_new_secrets and before.health in UNWELL:
        connections.registry.set_health(tx, connection_id, Health.active, None)
    tx.wakeups.update({Wakeup.poll, Wakeup.deliver})
    return connections.registry.get(tx, connection_id)


def pause(tx: Transaction, connection_id: str) -> None:
    """Stop reading and sending. Raises `NotFound`."""
    connection = connections.registry.lock(tx, connection_id)
    connections.registry.set_health(tx, connection_id, Health.paused, None)
    connections.schedule.hand_over_hints(tx, connection)


def take_venue(tx: Transaction, connection_id: str, venue_id: str) -> None:
    """Have a venue's receipts give stamps here. Raises `AlreadyConnected`, `NotFound`."""
    # read in the transaction: two browsers that take a venue each must not undo one another
    connection = connections.registry.lock(tx, connection_id)
    if not connection.scope or venue_id in connection.scope:
        return
    # of other venues nothing was said: what was left out stays as it was
    edit(tx, connection_id, ConnectionChange(scope=(*connection.scope, venue_id), left_out=connection.left_out))


def leave_out_venue(tx: Transaction, connection_id: str, venue: Location) -> None:
    """Note that a person left a venue to nobody, so that it is not asked about again. Raises `NotFound`."""
    connection = connections.registry.lock(tx, connection_id)
    connections.registry.leave_out(tx, connection, venue.id)
    ledger.journal.write(tx, connection_id, Message("venue.left_out", {"place": venue.name}))


def authorise(tx: Transaction, connection_id: str, grant: Grant, settings: Mapping[str, object] | None) -> Connection:
    """Give a connection what a till's consent granted; `settings`, where they change with it, hold no token any more.

    Raises `NotFound`.
    """
    return edit(tx, connection_id, ConnectionChange(grant=grant, settings=settings))


def _edited(before: Connection, change: ConnectionChange) -> list[str]:
    """List the messages of what an edit changes, for the journal."""
    changed = {
        "connection.edited.title": change.title is not None and change.title != before.title,
        "connection.edited.locations": change.scope is not None and change.scope != before.scope,
        "connection.authorised": change.grant is not None,
        "connection.edited.till": change.settings is not None and change.grant is None,
        "connection.edited.key": change.sevenstamp_key is not None,
    }
    return [message_id for message_id, is_changed in changed.items() if is_changed]


def remove(tx: Transaction, connection_id: str) -> None:
    """Remove a connection with its secrets; its sales and operations stay in the ledger. Raises `NotFound`."""
    connections.schedule.hand_over_hints(tx, connections.registry.lock(tx, connection_id))
    # before it is marked: a removed connection has no journal that anybody reads
    ledger.journal.write(tx, connection_id, Message("connection.removed"))
    connections.registry.mark_removed(tx, connection_id)
    # the address goes with it: nobody is told of a connection that there is no more
    connections.alerts.set_email(tx, connection_id, None, "")
    inbox.hints.delete_of_connection(tx, connection_id)
    inbox.captured.delete_of(tx, connection_id)
