"""TODO docstring."""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import and_, bindparam, func, or_, select, true

from connector_sdk.connector import TillAccount
from connector_sdk.messages import Message
from connector_sdk.rule import StampRule
from connectors.domain.clock import HOUR, SECOND
from connectors.domain.connection import WORKING, Business, Connection, Health, named, overlap
from connectors.domain.events import HealthChanged, Wakeup
from connectors.store import inbox, ledger
from connectors.store.connections.businesses import store
from connectors.store.connections.rules import of_connection, put_in_force, write_all
from connectors.store.engine import Transaction
from connectors.store.errors import NotFound, QuotaMet, Taken
from connectors.store.schema import (
    business_table,
    connection_table,
    hint_table,
    identify_table,
    kept_body_table,
    kept_table,
    operation_table,
    sale_table,
)

# immutable values of texts that come again and again: read once
_account = lru_cache(maxsize=4096)(TillAccount.model_validate_json)


def connection_of(row: Any) -> Connection:
    """The value of a row with all columns of the table."""
    return Connection(
        id=row.id,
        connector=row.connector,
        account=_account(row.account),
        business_id=row.business_id,
        title=row.title,
        scope=tuple(json.loads(row.scope)),
        health=Health(row.health),
        health_since=row.health_since,
        authorised_at=row.authorised_at,
        reason=Message.restored(row.reason) if row.reason else None,
        began_at=row.began_at,
        poll_seconds=row.poll_seconds,
        next_poll_at=row.next_poll_at,
        next_lookback_at=row.next_lookback_at,
        checkpoint_at=row.checkpoint_at,
        last_poll_at=row.last_poll_at,
        last_lookback_at=row.last_lookback_at,
        last_hook_at=row.last_hook_at,
        key_hash=row.key_hash,
        failures=row.failures,
        generation=row.generation,
        settings=row.settings,
        sevenstamp_key=row.sevenstamp_key,
        hook_token=row.hook_token,
        key_login=row.key_login,
        expires_at=row.expires_at,
        skipped=tuple((start, end) for start, end in json.loads(row.skipped)),
        former_hook_until=row.former_hook_until,
        refused_at=row.refused_at,
    )


def get(tx: Transaction, connection_id: str) -> Connection:
    """Raises `NotFound`, which names the known ones."""
    row = tx.run(
        select(connection_table).where(
            connection_table.c.id == connection_id, connection_table.c.health != Health.removed
        )
    ).first()
    if row is None:
        known = [one.id for one in list_all(tx)]
        raise NotFound(
            f"there is no connection {connection_id!r}; "
            + (f"known: {', '.join(known)}" if known else "none is connected")
        )
    return connection_of(row)


def list_all(tx: Transaction) -> list[Connection]:
    """All connections that are not removed, oldest first."""
    rows = tx.run(
        select(connection_table)
        .where(connection_table.c.health != Health.removed)
        .order_by(connection_table.c.began_at, connection_table.c.id)
    )
    return [connection_of(row) for row in rows]


def count(tx: Transaction) -> int:
    return int(tx.run(select(func.count()).select_from(connection_table)).scalar_one())


_OF_IDS = select(connection_table).where(connection_table.c.id.in_(bindparam("ids", expanding=True)))


def by_ids(tx: Transaction, ids: Sequence[str]) -> dict[str, Connection]:
    rows = tx.run(_OF_IDS, {"ids": list(ids)})
    return {row.id: connection_of(row) for row in rows}


def of_account(tx: Transaction, connector: str, account_id: str) -> list[Connection]:
    """The connections, not removed, of a till account."""
    rows = tx.run(
        select(connection_table).where(
            connection_table.c.connector == connector,
            connection_table.c.account_id == account_id,
            connection_table.c.health != Health.removed,
        )
    )
    return [connection_of(row) for row in rows]


def by_hook_token(tx: Transaction, connector: str, token: str) -> Connection | None:
    """The connection at an address of its own, or at the one it had before while that still lives."""
    shown = tx.vault.hash("hook token", token)
    row = tx.run(
        select(connection_table).where(
            or_(
                connection_table.c.hook_token_hash == shown,
                and_(connection_table.c.former_hook_token_hash == shown, connection_table.c.former_hook_until > tx.now),
            ),
            connection_table.c.connector == connector,
            connection_table.c.health != Health.removed,
        )
    ).first()
    return connection_of(row) if row else None


@dataclass(frozen=True, slots=True)
class NewConnection:
    """What `add` needs; `settings` and `sevenstamp_key` in the clear."""

    connector: str
    account: TillAccount
    business: Business
    title: str
    scope: tuple[str, ...]
    rule: StampRule
    settings: Mapping[str, Any]
    sevenstamp_key: str
    poll_seconds: int | None
    key_login: str | None = None
    expires_at: int | None = None
    hook_token: str | None = None
    """The token of an address that the till knows already; one is made where there is none."""


def add(tx: Transaction, new: NewConnection) -> Connection:
    """Store a connection, adopting what a removed one to the same account left. Raises `Taken`, `QuotaMet`."""
    mine = (connection_table.c.business_id == new.business.id) & (connection_table.c.health != Health.removed)
    if tx.run(select(func.count()).select_from(connection_table).where(mine)).scalar_one() >= tx.quotas.tills:
        raise QuotaMet(tx.quotas.tills)
    _refuse_overlap(tx, new.connector, new.account, new.scope, new.business.id, ignoring=None)
    store(tx, new.business)
    one = f"{new.connector}-{secrets.token_hex(3)}"
    token = new.hook_token or secrets.token_urlsafe(24)
    former = _removed_before(tx, new)
    tx.run(
        connection_table.insert(),
        [
            {
                "id": one,
                "connector": new.connector,
                "account_id": new.account.id,
                "account": new.account.model_dump_json(),
                "business_id": new.business.id,
                "title": new.title,
                "scope": json.dumps(new.scope),
                "health": Health.active,
                "health_since": tx.now,
                "authorised_at": tx.now,
                "began_at": tx.now,
                "poll_seconds": new.poll_seconds,
                "next_poll_at": tx.now,
                "next_lookback_at": tx.now + SECOND,
                "failures": 0,
                "generation": 1,
                "settings": tx.vault.encrypt(json.dumps(new.settings)),
                "sevenstamp_key": tx.vault.encrypt(new.sevenstamp_key),
                "key_hash": tx.vault.hash("7stamp key", new.sevenstamp_key),
                "hook_token": tx.vault.encrypt(token),
                "hook_token_hash": tx.vault.hash("hook token", token),
                "key_login": new.key_login,
                "expires_at": new.expires_at,
            }
        ],
    )
    if former:  # the youngest one's rules go on; receipts keep the rules they were planned by in any case
        write_all(tx, one, of_connection(tx, former[0]))
    put_in_force(tx, one, new.rule)
    if former:
        _adopt(tx, one, former, new.scope)
    ledger.journal.write(
        tx, one, Message("connection.added", {"account": new.account.name, "where": _locations_of(new)})
    )
    tx.wakeups.update({Wakeup.poll, Wakeup.deliver})
    return get(tx, one)


def _locations_of(new: NewConnection) -> str:
    return named(new.scope, new.account.locations)


def _refuse_overlap(
    tx: Transaction,
    connector: str,
    account: TillAccount,
    scope: tuple[str, ...],
    business_id: str,
    ignoring: str | None,
) -> None:
    for other in of_account(tx, connector, account.id):
        if other.id == ignoring or not overlap(scope, other.scope):
            continue
        where = named(other.scope, account.locations)
        if other.business_id != business_id:
            raise Taken(f"{account.name} ({where}) is already connected for another business: choose other locations")
        raise Taken(
            f"{account.name} is already connected as {other.id} ({where}): "
            f"change that one with `connectors connection edit {other.id}`, or choose other locations",
            other.id,
        )


def _removed_before(tx: Transaction, new: NewConnection) -> list[str]:
    """Removed connections of the same business to the same account whose locations this one takes over."""
    rows = tx.run(
        select(connection_table.c.id, connection_table.c.scope)
        .where(
            connection_table.c.connector == new.connector,
            connection_table.c.account_id == new.account.id,
            connection_table.c.business_id == new.business.id,
            connection_table.c.health == Health.removed,
        )
        .order_by(connection_table.c.health_since.desc())
    )
    return [row.id for row in rows if overlap(tuple(json.loads(row.scope)), new.scope)]


def _adopt(tx: Transaction, one: str, former: Sequence[str], scope: tuple[str, ...]) -> None:
    mine = sale_table.c.connection_id.in_(list(former)) & (
        sale_table.c.location_id.in_(list(scope)) if scope else true()
    )
    moved = select(sale_table.c.id).where(mine).scalar_subquery()
    for table in (operation_table, identify_table):
        tx.run(table.update().where(table.c.sale_id.in_(moved)).values(connection_id=one))
    tx.run(sale_table.update().where(mine).values(connection_id=one))
    for table in (kept_table, kept_body_table):  # what could not be read waits on, for the new connection
        tx.run(table.update().where(table.c.connection_id.in_(list(former))).values(connection_id=one))
    for changed in (one, *former):
        ledger.daily_totals.recount(tx, changed)


def all_of_business(tx: Transaction, business_id: str) -> list[Connection]:
    """All connections of a business, the removed ones too."""
    rows = tx.run(
        select(connection_table).where(connection_table.c.business_id == business_id).order_by(connection_table.c.id)
    )
    return [connection_of(row) for row in rows]


@dataclass(frozen=True, slots=True)
class ConnectionEdit:
    """What to change; `None` leaves a field as it is."""

    title: str | None = None
    scope: tuple[str, ...] | None = None
    rule: StampRule | None = None
    settings: Mapping[str, Any] | None = None
    account: TillAccount | None = None
    sevenstamp_key: str | None = None
    poll_seconds: int | None = None
    key_login: str | None = None
    expires_at: int | None = None


def edit(tx: Transaction, connection_id: str, change: ConnectionEdit) -> Connection:
    """Change a connection; new secrets reactivate one that needed authorisation. Raises `Taken`, `NotFound`."""
    kept = get(tx, connection_id)
    values: dict[str, Any] = {"generation": kept.generation + 1}
    if change.scope is not None:
        _refuse_overlap(tx, kept.connector, kept.account, change.scope, kept.business_id, ignoring=kept.id)
        values["scope"] = json.dumps(change.scope)
    if change.title is not None:
        values["title"] = change.title
    if change.poll_seconds is not None:
        values.update(poll_seconds=change.poll_seconds, next_poll_at=tx.now)
    if change.settings is not None:
        values.update(settings=tx.vault.encrypt(json.dumps(change.settings)), authorised_at=tx.now)
        values["expires_at"] = change.expires_at
    if change.account is not None:
        values["account"] = change.account.model_dump_json()
    if change.sevenstamp_key is not None:
        values["sevenstamp_key"] = tx.vault.encrypt(change.sevenstamp_key)
        values["key_hash"] = tx.vault.hash("7stamp key", change.sevenstamp_key)
        values["key_login"] = change.key_login
    tx.run(connection_table.update().where(connection_table.c.id == connection_id).values(values))
    if change.rule is not None and put_in_force(tx, connection_id, change.rule):
        ledger.journal.write(tx, connection_id, Message("connection.rule"))
    for what, changed in (
        ("title", change.title is not None and change.title != kept.title),
        ("locations", change.scope is not None and change.scope != kept.scope),
        ("till", change.settings is not None),
        ("key", change.sevenstamp_key is not None),
    ):
        if changed:
            ledger.journal.write(tx, connection_id, Message(f"connection.edited.{what}"))
    if (change.settings is not None or change.sevenstamp_key is not None) and kept.health in (
        Health.needs_authorisation,
        Health.failing,
    ):
        set_health(tx, connection_id, Health.active, None)
    tx.wakeups.update({Wakeup.poll, Wakeup.deliver})
    return get(tx, connection_id)


FORMER_ADDRESS_LIFETIME = 24 * HOUR


def record_refused_hook(tx: Transaction, connection_id: str) -> None:
    """A hook came whose proof does not hold: its cafe should know, for its sales may be among them."""
    tx.run(connection_table.update().where(connection_table.c.id == connection_id).values(refused_at=tx.now))
    ledger.journal.write(tx, connection_id, Message("hook.refused"))


def renew_hook_address(tx: Transaction, connection_id: str) -> Connection:
    """Another hook address; the one it had lives a day longer, and the one before that no longer. Raises `NotFound`."""
    kept, token = get(tx, connection_id), secrets.token_urlsafe(24)
    tx.run(
        connection_table.update()
        .where(connection_table.c.id == connection_id)
        .values(
            hook_token=tx.vault.encrypt(token),
            hook_token_hash=tx.vault.hash("hook token", token),
            former_hook_token_hash=connection_table.c.hook_token_hash,
            former_hook_until=tx.now + FORMER_ADDRESS_LIFETIME,
            generation=kept.generation + 1,
        )
    )
    ledger.journal.write(tx, connection_id, Message("connection.address_renewed"))
    return get(tx, connection_id)


def report_unwell(tx: Transaction, seen: Connection, health: Health, reason: Message) -> None:
    """A call made with what `seen` was then says so: it counts unless a person changed something meanwhile."""
    row = tx.run(
        select(connection_table.c.generation, connection_table.c.health).where(connection_table.c.id == seen.id)
    ).first()
    if row is not None and row.generation == seen.generation and row.health in WORKING:
        set_health(tx, seen.id, health, reason)


def set_health(tx: Transaction, connection_id: str, health: Health, reason: Message | None) -> None:
    """Change how a connection is doing; journalled and told to plugins only where it is a change."""
    values = {"health": health, "health_since": tx.now, "reason": reason.stored() if reason else None}
    if health is Health.active:
        values.update(failures=0, next_poll_at=tx.now, next_lookback_at=tx.now + SECOND)
    changed = tx.run(
        connection_table.update()
        .where(
            connection_table.c.id == connection_id,
            connection_table.c.health != health,
            connection_table.c.health != Health.removed,
        )
        .values(values)
    )
    if changed.rowcount:
        ledger.journal.write(tx, connection_id, Message(f"connection.{health}", {"why": reason} if reason else {}))
        tx.events.append(HealthChanged(get(tx, connection_id).facts(), health, reason))
        tx.wakeups.update({Wakeup.poll, Wakeup.deliver})


def leave_out_pause(tx: Transaction, kept: Connection) -> None:
    """The receipts closed since a connection was paused earn nothing: only a backfill admits them."""
    skipped = [*kept.skipped, (kept.health_since, tx.now)][-100:]
    tx.run(connection_table.update().where(connection_table.c.id == kept.id).values(skipped=json.dumps(skipped)))
    ledger.journal.write(tx, kept.id, Message("connection.pause_left_out"))


def set_hook_name(tx: Transaction, connection_id: str, name: str) -> None:
    """Remember what the till's hooks call the account of a connection that was made before this was asked."""
    kept = get(tx, connection_id)
    account = kept.account.model_copy(update={"hook_name": name})
    tx.run(
        connection_table.update()
        .where(connection_table.c.id == connection_id)
        .values(account=account.model_dump_json(), generation=kept.generation + 1)
    )


def set_health_of_key(tx: Transaction, key_hash: str, health: Health, reason: Message) -> None:
    """The same for every working connection that uses a 7stamp key."""
    rows = tx.run(
        select(connection_table.c.id).where(
            connection_table.c.key_hash == key_hash, connection_table.c.health.in_(WORKING)
        )
    )
    for one in rows.scalars().all():
        set_health(tx, one, health, reason)


def remove(tx: Transaction, connection_id: str) -> None:
    """Forget a connection and its secrets; its sales and operations stay in the ledger."""
    get(tx, connection_id)
    ledger.journal.write(tx, connection_id, Message("connection.removed"))
    nothing = tx.vault.encrypt("{}")
    tx.run(
        connection_table.update()
        .where(connection_table.c.id == connection_id)
        .values(
            health=Health.removed,
            health_since=tx.now,
            reason=None,
            settings=nothing,
            sevenstamp_key=nothing,
            key_hash="",
            hook_token=nothing,
            hook_token_hash=tx.vault.hash("hook token", secrets.token_hex(16)),
            former_hook_token_hash=None,
            former_hook_until=None,
            generation=connection_table.c.generation + 1,
        )
    )
    tx.run(hint_table.delete().where(hint_table.c.connection_id == connection_id))
    inbox.captured.delete_of(tx, connection_id)


def pause_key(tx: Transaction, key_hash: str, until: int) -> None:
    """Send nothing with a 7stamp key before `until`: it asked for that (429)."""
    tx.run(
        connection_table.update()
        .where(connection_table.c.key_hash == key_hash, connection_table.c.send_after < until)
        .values(send_after=until)
    )


def sendable(tx: Transaction, ids: Collection[str]) -> dict[str, int]:
    """Those of these connections for which something may be sent now, with their generations."""
    rows = tx.run(
        select(connection_table.c.id, connection_table.c.generation)
        .join(business_table, business_table.c.id == connection_table.c.business_id)
        .where(
            connection_table.c.id.in_(sorted(ids)),
            connection_table.c.health.in_(WORKING),
            connection_table.c.send_after <= tx.now,
            business_table.c.paused_until <= tx.now,
        )
    )
    return {row.id: row.generation for row in rows}
