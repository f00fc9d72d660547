"""The security log: who signed in, who was refused, and what ended, for the operator and for each business.

Owns the table `security_event`, its bounds, and that neither addresses nor names of customers stand in it. Each event
is also a line of the log `connectors.security`, for what watches servers.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from sqlalchemy import ColumnElement, delete, select

from connector_sdk.messages import Message
from connector_sdk.redaction import redact
from connectors.domain.clock import HOUR
from connectors.store.engine import Transaction
from connectors.store.query_parts import AnyRow
from connectors.store.schema import business_table, connection_table, security_event_table

log = logging.getLogger("connectors.security")


class EventKind(StrEnum):
    """The kinds of event that the log records."""

    sign_in = "sign_in"
    """A session began by a key, a password or anything else but a link."""
    failed_sign_in = "failed_sign_in"
    """A key or password was tried and is wrong: at a sign-in page, or as a confirmation inside a session."""
    sign_out = "sign_out"
    """A person ended a session: this device's, or another's."""
    operator_visit = "operator_visit"
    """The operator, signed in as such, opened a page of a business's connection."""
    link_made = "link_made"
    """A sign-in link was made, which nobody has used yet."""
    link_used = "link_used"
    """A sign-in link was spent and its session began."""
    key_refused = "key_refused"
    """7stamp refuses a key: the sessions and links of it ended, and passkeys that stand on it open nothing."""
    quota_met = "quota_met"
    """Somebody met a bound and was told to wait or refused."""
    forged_hook = "forged_hook"
    """A hook came whose proof does not hold; it was refused."""
    password_changed = "password_changed"  # noqa: S105 - the name of an event
    """The operator's password was set; everything the operator had opened ended."""
    passkey_changed = "passkey_changed"
    """A passkey was added or removed."""
    subscription_changed = "subscription_changed"
    """Events of a business go to another address, or no more: a subscription was made, changed or removed."""
    token_changed = "token_changed"  # noqa: S105 - the name of an event
    """An API token of a business was made or revoked."""
    people_changed = "people_changed"
    """A colleague was invited or removed, or has another role."""
    messages_changed = "messages_changed"
    """A phone or browser is told by Web Push, or not any more."""
    signed_out_everywhere = "signed_out_everywhere"
    """A business, or the operator, ended all its sessions and links at once."""


OPERATOR, STRANGER = "operator", "stranger"
"""Owners of events that are no business's: the operator's own, and those of whoever is not signed in."""
OF_STRANGERS = frozenset({EventKind.failed_sign_in, EventKind.quota_met, EventKind.forged_hook})
"""The kinds that somebody causes who is not signed in: without a business they are a stranger's."""
_ALARMING = OF_STRANGERS | {EventKind.key_refused}
_SAME_FOR = HOUR

# Of each owner and kind, so that failures, of which a stranger or a thief makes as many as they like, never push out
# the sign-ins and visits among which one looks for them. The oldest go.
_OF_BUSINESS_AT_MOST, _OF_OTHERS_AT_MOST = 500, 5000
_PRUNED_AT_ONCE = 1000
_SWEPT_AT_ONCE = 5000
_LONGEST_DEVICE = 60


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event to record, `count` times; without a `business_id` it is a stranger's or the operator's, by its kind."""

    kind: EventKind
    message: Message
    business_id: str | None = None
    connection_id: str | None = None
    address: str = ""
    device: str = ""
    count: int = 1

    @property
    def owner(self) -> str:
        """Whose event it is: a business's id, `OPERATOR` or `STRANGER`."""
        if self.business_id is not None:
            return self.business_id
        return STRANGER if self.kind in OF_STRANGERS else OPERATOR


@dataclass(frozen=True, slots=True)
class Event:
    """A row: it happened `count` times between `at` and `last_at` (UTC microseconds), `address` is a network."""

    seq: int
    at: int
    last_at: int
    kind: EventKind
    message: Message
    business_id: str | None
    business_name: str
    connection_id: str | None
    connection_title: str
    address: str
    device: str
    count: int


def masked(address: str) -> str:
    """Return the network of an address: /24 of IPv4, /48 of IPv6; empty where it is no address."""
    try:
        network = ipaddress.ip_network(address, strict=False)
    except ValueError:
        return ""
    prefix = min(network.prefixlen, 48 if network.version == 6 else 24)
    return str(ipaddress.ip_network((network.network_address, prefix), strict=False))


def record(
    tx: Transaction,
    kind: EventKind,
    message: Message | None = None,
    *,
    business_id: str | None = None,
    connection_id: str | None = None,
    address: str = "",
    device: str = "",
    count: int = 1,
) -> None:
    """Record an event; the same once more within an hour raises the count of its row.

    `message` says it in words and defaults to the kind's own, `security.<kind>`.
    """
    words = message or Message(f"security.{kind}")
    record_all(tx, [NewEvent(kind, words, business_id, connection_id, address, device, count)])


def record_all(tx: Transaction, events: Sequence[NewEvent]) -> None:
    """Record several events, as `record` does each."""
    # Whoever looks through the log must not learn customers from it: addresses become networks, and what a stranger
    # typed or a browser calls itself loses phones and emails before it is stored or logged.
    for event in events:
        device = redact(event.device)[:_LONGEST_DEVICE]
        _record(tx, replace(event, address=masked(event.address), device=device, message=_redacted(event.message)))


def _redacted(message: Message) -> Message:
    """Return the message without phones and emails: a login at 7stamp may be either."""
    params = {name: redact(value) if isinstance(value, str) else value for name, value in message.params.items()}
    return Message(message.id, params)


def _record(tx: Transaction, event: NewEvent) -> None:
    """Add an event to its row of the last hour, or begin a row; log some of them."""
    # A flood of the same raises one count, whoever makes it: it costs a row an hour, and pushes no other events out.
    row = _row_of_last_hour(tx, event)
    before = row.times if row is not None else 0
    if row is not None:
        values = {"times": before + event.count, "last_at": tx.now}
        tx.run(security_event_table.update().where(security_event_table.c.seq == row.seq).values(values))
    else:
        tx.run(security_event_table.insert(), [_values(tx, event)])
        _prune(tx, event)
    _log(event, before)


def _row_of_last_hour(tx: Transaction, event: NewEvent) -> AnyRow | None:
    """Return the newest row that says the same of the same owner, if it began less than an hour ago."""
    return tx.run(
        select(security_event_table.c.seq, security_event_table.c.times)
        .where(
            security_event_table.c.owner == event.owner,
            security_event_table.c.kind == event.kind,
            security_event_table.c.at > tx.now - _SAME_FOR,
            security_event_table.c.connection_id == event.connection_id,
            security_event_table.c.address == event.address,
            security_event_table.c.device == event.device,
            security_event_table.c.message == event.message.stored(),
        )
        .order_by(security_event_table.c.seq.desc())
        .limit(1)
    ).first()


def _log(event: NewEvent, before: int) -> None:
    """Log an event that came `before` times within the hour."""
    count = before + event.count
    # a line for the first of an hour, then at 10, 100, 1000 …: a flood does not fill the disk with its log
    if before and len(str(count)) == len(str(before)):
        return
    line = "%s owner=%s connection=%s address=%s device=%r count=%d"
    level = logging.WARNING if event.kind in _ALARMING else logging.INFO
    address = event.address or "-"
    log.log(level, line, event.kind, event.owner, event.connection_id or "-", address, event.device, count)


def _values(tx: Transaction, event: NewEvent) -> dict[str, object]:
    return {
        "at": tx.now,
        "last_at": tx.now,
        "kind": event.kind,
        "owner": event.owner,
        "connection_id": event.connection_id,
        "address": event.address,
        "device": event.device,
        "message": event.message.stored(),
        "times": event.count,
    }


def _prune(tx: Transaction, event: NewEvent) -> None:
    """Delete the oldest events of this kind and owner beyond the bound."""
    most = _OF_BUSINESS_AT_MOST if event.business_id is not None else _OF_OTHERS_AT_MOST
    # by owner and kind: what a stranger makes in masses pushes out only its like
    alike = (security_event_table.c.owner == event.owner) & (security_event_table.c.kind == event.kind)
    newest_first = select(security_event_table.c.seq).where(alike).order_by(security_event_table.c.seq.desc())
    beyond = list(tx.run(newest_first.offset(most).limit(_PRUNED_AT_ONCE)).scalars())
    if beyond:
        tx.run(delete(security_event_table).where(security_event_table.c.seq.in_(beyond)))


def sweep(tx: Transaction, keep_for: int) -> None:
    """Delete some of the events that are older than `keep_for` microseconds; the next sweep goes on."""
    # a bounded number at once: whoever waits for the writer waits no longer than that takes
    old = select(security_event_table.c.seq).where(security_event_table.c.at < tx.now - keep_for)
    oldest = old.order_by(security_event_table.c.at).limit(_SWEPT_AT_ONCE)
    tx.run(delete(security_event_table).where(security_event_table.c.seq.in_(oldest)))


def list_newest(
    tx: Transaction,
    business_id: str | None,
    *,
    before: int | None = None,
    limit: int = 50,
    kind: EventKind | None = None,
) -> list[Event]:
    """Return the events of a business, or of everybody, newest first; of one `kind`, where it is given.

    `before` is the row at which the last page ended.
    """
    # by the row's number, not by its time: pages neither repeat nor skip events of the same moment
    rows = tx.run(
        select(
            security_event_table,
            business_table.c.name.label("business_name"),
            connection_table.c.title.label("connection_title"),
        )
        .outerjoin(business_table, business_table.c.id == security_event_table.c.owner)
        .outerjoin(connection_table, connection_table.c.id == security_event_table.c.connection_id)
        .where(*_conditions(business_id, kind, before))
        .order_by(security_event_table.c.seq.desc())
        .limit(limit)
    )
    return [_event(row) for row in rows]


def _conditions(business_id: str | None, kind: EventKind | None, before: int | None) -> list[ColumnElement[bool]]:
    """Return the conditions that are given; `None` leaves one out."""
    conditions: list[ColumnElement[bool]] = []
    if business_id is not None:
        conditions.append(security_event_table.c.owner == business_id)
    if kind is not None:
        conditions.append(security_event_table.c.kind == kind)
    if before is not None:
        conditions.append(security_event_table.c.seq < before)
    return conditions


def _event(row: AnyRow) -> Event:
    business_id = row.owner if row.owner not in (OPERATOR, STRANGER) else None
    return Event(
        row.seq,
        row.at,
        row.last_at,
        EventKind(row.kind),
        Message.restored(row.message),
        business_id,
        row.business_name or "",
        row.connection_id,
        row.connection_title or "",
        row.address,
        row.device,
        row.times,
    )
