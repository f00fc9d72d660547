"""Phones, and other browsers, that are told by Web Push: whose they are, what each is told of, and when not.

Owns the table `push_device`: how many a business has, that a device goes with the session it was added in, and how long
one that cannot be reached is kept. What it was told of a till's trouble is `connections.push_alerts`'.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, func, or_, select

from connectors.domain.alert_timing import next_monday
from connectors.domain.clock import DAY, HOUR, MINUTE
from connectors.domain.quiet_hours import QuietHours
from connectors.store.engine import Transaction
from connectors.store.query_parts import AnyRow, in_parts
from connectors.store.schema import push_device_table

log = logging.getLogger(__name__)

MOST = 20
"""How many devices of a business can be told."""
_KEPT_FAILING_FOR = 14 * DAY
_SHORTEST_PAUSE, _LONGEST_PAUSE = 2 * MINUTE, 6 * HOUR
_LONGEST_DEVICE = 60


@dataclass(frozen=True, slots=True)
class PushOwner:
    """Whose a device is, and with which session and 7stamp key it goes."""

    business_id: str
    colleague_id: str | None
    session_hash: str
    key_hash: str | None


@dataclass(frozen=True, slots=True)
class PushAddress:
    """What a browser gives to be reached: its push service's address, and its two keys as base64url texts."""

    endpoint: str = field(repr=False)
    public_key: str
    auth: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class PushChoices:
    """What a device is told of, and when it is told nothing."""

    trouble: bool = True
    plan: bool = True
    week: bool = False
    quiet: QuietHours | None = None


@dataclass(frozen=True, slots=True)
class PushDevice:
    """One row; times in UTC microseconds."""

    id: str
    business_id: str
    colleague_id: str | None
    address: PushAddress
    device: str
    language: str
    zone: str
    choices: PushChoices
    week_told_next: int | None
    made_at: int
    told_at: int | None
    failing_since: int | None
    """Since when its push service could not be reached; `None` where the last message went out."""
    paused_until: int

    def quiet_until(self, now: int) -> int | None:
        """Return when its quiet hours end; `None` where it may be told now."""
        return self.choices.quiet.until(now, self.zone) if self.choices.quiet is not None else None


def device_of(tx: Transaction, row: AnyRow) -> PushDevice:
    """Return a device of its row, which may have columns of other tables beside."""
    has_quiet = row.quiet_begin is not None and row.quiet_end is not None
    return PushDevice(
        id=row.id,
        business_id=row.business_id,
        colleague_id=row.colleague_id,
        address=PushAddress(tx.vault.decrypt(row.endpoint), row.public_key, tx.vault.decrypt(row.auth)),
        device=row.device,
        language=row.language,
        zone=row.zone,
        choices=PushChoices(
            trouble=bool(row.tells_trouble),
            plan=bool(row.tells_plan),
            week=row.week_told_next is not None,
            quiet=QuietHours(row.quiet_begin, row.quiet_end) if has_quiet else None,
        ),
        week_told_next=row.week_told_next,
        made_at=row.made_at,
        told_at=row.told_at,
        failing_since=row.failing_since,
        paused_until=row.paused_until,
    )


def of_business(tx: Transaction, business_id: str) -> list[PushDevice]:
    """Return the devices of a business, newest first."""
    rows = tx.run(
        select(push_device_table)
        .where(push_device_table.c.business_id == business_id)
        .order_by(push_device_table.c.made_at.desc(), push_device_table.c.id)
    ).all()
    return [device_of(tx, row) for row in rows]


def get(tx: Transaction, device_id: str, business_id: str) -> PushDevice | None:
    """Return a device of this business; `None` where it is another's or gone."""
    row = tx.run(select(push_device_table).where(_is(device_id, business_id))).first()
    return device_of(tx, row) if row else None


def _is(device_id: str, business_id: str) -> ColumnElement[bool]:
    return (push_device_table.c.id == device_id) & (push_device_table.c.business_id == business_id)


def add(
    tx: Transaction, owner: PushOwner, address: PushAddress, device: str, *, language: str, zone: str, former: str = ""
) -> PushDevice | None:
    """Add a browser, or take it over from whoever had it before; `None` where there are `MOST` already.

    `former` is the id that the browser remembers: with a new address it keeps what was chosen for it.
    """
    business_id = owner.business_id
    endpoint_hash = tx.vault.hash("push endpoint", address.endpoint)
    is_former = (push_device_table.c.id == former) & (
        push_device_table.c.colleague_id.is_not_distinct_from(owner.colleague_id)
    )
    known = (
        tx.run(
            select(push_device_table.c.id)
            .where(
                push_device_table.c.business_id == business_id,
                or_(push_device_table.c.endpoint_hash == endpoint_hash, is_former),
            )
            .order_by(push_device_table.c.endpoint_hash == endpoint_hash)
        )
        .scalars()
        .all()
    )
    count = select(func.count()).select_from(push_device_table).where(push_device_table.c.business_id == business_id)
    if not known and int(tx.run(count).scalar_one()) >= MOST:
        return None
    columns = {
        "endpoint": tx.vault.encrypt(address.endpoint),
        "endpoint_hash": endpoint_hash,
        "public_key": address.public_key,
        "auth": tx.vault.encrypt(address.auth),
        "device": device[:_LONGEST_DEVICE],
        "language": language,
        "zone": zone,
        "failing_since": None,
        "paused_until": 0,
        **_owner_columns(owner),
    }
    if known:
        # the one that it remembers stands first, and takes the place of another with the same address
        tx.run(push_device_table.delete().where(push_device_table.c.id.in_(known[1:])))
        tx.run(push_device_table.update().where(push_device_table.c.id == known[0]).values(columns))
        return get(tx, known[0], business_id)
    row = {
        "id": secrets.token_hex(16),
        "business_id": business_id,
        "made_at": tx.now,
        **_choice_columns(tx, PushChoices(), zone),
        **columns,
    }
    tx.run(push_device_table.insert(), [row])
    return get(tx, str(row["id"]), business_id)


def _owner_columns(owner: PushOwner) -> dict[str, object]:
    return {
        "colleague_id": owner.colleague_id,
        "session_hash": owner.session_hash,
        "key_hash": owner.key_hash,
        "restricted": 0,
    }


def _choice_columns(tx: Transaction, choices: PushChoices, zone: str) -> dict[str, object]:
    return {
        "tells_trouble": int(choices.trouble),
        "tells_plan": int(choices.plan),
        "week_told_next": next_monday(tx.now, zone) if choices.week else None,
        "quiet_begin": choices.quiet.begin if choices.quiet else None,
        "quiet_end": choices.quiet.end if choices.quiet else None,
    }


def choose(tx: Transaction, device: PushDevice, choices: PushChoices) -> None:
    """Set what a device is told of, and its quiet hours."""
    columns = _choice_columns(tx, choices, device.zone)
    if choices.week and device.week_told_next is not None:
        del columns["week_told_next"]  # it stays the Monday that it is
    tx.run(push_device_table.update().where(push_device_table.c.id == device.id).values(**columns, paused_until=0))


# --- what ends them -------------------------------------------------------------------------------------------------


def remove(tx: Transaction, device_id: str) -> None:
    """Remove a device, where it is still there."""
    tx.run(push_device_table.delete().where(push_device_table.c.id == device_id))


def follow(tx: Transaction, device_id: str, owner: PushOwner) -> None:
    """Have a device go with another session of the same person, who signed in on it anew; another's ends here."""
    mine = _is(device_id, owner.business_id) & (
        push_device_table.c.colleague_id.is_not_distinct_from(owner.colleague_id)
    )
    if tx.run(push_device_table.update().where(mine).values(_owner_columns(owner))).rowcount == 0:
        remove(tx, device_id)


def remove_of_sessions(tx: Transaction, session_hashes: Sequence[str]) -> None:
    """Remove the devices of sessions that a person ended."""
    for part in in_parts(session_hashes):
        tx.run(push_device_table.delete().where(push_device_table.c.session_hash.in_(part)))


def remove_of_colleague(tx: Transaction, colleague_id: str) -> None:
    """Remove the devices of a colleague who is gone, or may not see any more what they are told."""
    tx.run(push_device_table.delete().where(push_device_table.c.colleague_id == colleague_id))


def remove_of_business(tx: Transaction, business_id: str) -> None:
    """Remove all devices of a business."""
    tx.run(push_device_table.delete().where(push_device_table.c.business_id == business_id))


def restrict_of_key(tx: Transaction, key_hash: str) -> None:
    """Tell devices that were added with a refused key only that something needs a person."""
    # whoever stole a key learns no more by it, and whoever owns the cafe must hear that the key is refused
    tx.run(push_device_table.update().where(push_device_table.c.key_hash == key_hash).values(restricted=1))


# --- what became of messages ----------------------------------------------------------------------------------------


def pause(tx: Transaction, device_id: str, until: int) -> None:
    """Tell a device nothing until then."""
    tx.run(push_device_table.update().where(push_device_table.c.id == device_id).values(paused_until=until))


def mark_told(tx: Transaction, device_id: str) -> None:
    """Note that a message went out."""
    columns = {"told_at": tx.now, "failing_since": None, "paused_until": 0}
    tx.run(push_device_table.update().where(push_device_table.c.id == device_id).values(columns))


def mark_failed(tx: Transaction, device: PushDevice, wait: int) -> None:
    """Note that a message did not go out: it is tried later, after a growing pause; after two weeks no more.

    `wait` is how long its push service asked to wait, in microseconds.
    """
    # failures that lie apart are each one by itself: between them there was nothing to send, and no success to note
    goes_on = tx.now - device.paused_until < DAY
    since = device.failing_since if device.failing_since is not None and goes_on else tx.now
    if tx.now - since > _KEPT_FAILING_FOR:
        log.warning("device %s could not be reached for two weeks: it is told no more", device.id)
        remove(tx, device.id)
        return
    grown = max(_SHORTEST_PAUSE, min(tx.now - since, _LONGEST_PAUSE))
    columns = {"failing_since": since, "paused_until": tx.now + min(max(grown, wait), _LONGEST_PAUSE)}
    tx.run(push_device_table.update().where(push_device_table.c.id == device.id).values(columns))


def take_plan(tx: Transaction, device_id: str, until: int, *, used_up: bool) -> bool:
    """Note that a device is told of a plan's month, until it ends; return whether nobody else has told it."""
    column = push_device_table.c.plan_used_told_until if used_up else push_device_table.c.plan_near_told_until
    # whoever is told of the end need not be told any more that it is near
    columns = {"plan_near_told_until": until} | ({"plan_used_told_until": until} if used_up else {})
    untold = (push_device_table.c.id == device_id) & (column < until)
    return tx.run(push_device_table.update().where(untold).values(columns)).rowcount > 0


def give_plan_back(tx: Transaction, device_id: str, *, used_up: bool) -> None:
    """Have a device be told of its plan again."""
    column = push_device_table.c.plan_used_told_until if used_up else push_device_table.c.plan_near_told_until
    tx.run(push_device_table.update().where(push_device_table.c.id == device_id).values({column: 0}))


def set_week(tx: Transaction, device_id: str, before: int, following: int) -> bool:
    """Move a device's message about the week to another Monday; return whether it was still the one `before`."""
    mine = (push_device_table.c.id == device_id) & (push_device_table.c.week_told_next == before)
    return tx.run(push_device_table.update().where(mine).values(week_told_next=following)).rowcount > 0
