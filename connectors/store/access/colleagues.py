"""Colleagues whom an owner lets into the console by an invitation, each with a name and a role.

Owns the table `colleague`: how many a business has, how long an invitation can be used, and that it opens one session.
An invitation stands on the 7stamp key of whoever made it, and what it opens ends with that key, as any session does.
"""

from __future__ import annotations

import secrets
import unicodedata
from dataclasses import dataclass

from sqlalchemy import ColumnElement, func, select

from connectors.domain.clock import DAY
from connectors.store.access import push_devices, sessions
from connectors.store.access.sessions import OPERATOR, Principal, StaffRole
from connectors.store.engine import Transaction
from connectors.store.query_parts import AnyRow
from connectors.store.schema import colleague_table, console_session_table, passkey_table

MOST = 50
"""How many colleagues a business can have."""
LONGEST_NAME = 60
INVITATION_FOR = 3 * DAY
"""How long an invitation can be used, in microseconds."""


@dataclass(frozen=True, slots=True)
class Colleague:
    """One row; times in UTC microseconds."""

    id: str
    business_id: str
    name: str
    role: StaffRole
    invited_by: str
    joined_at: int | None
    """When an invitation was last used; `None` before the first."""
    invited_until: int | None
    """Until when an invitation can be used that nobody has used yet."""
    seen_at: int | None = None
    """When one of their devices was last used; `None` where none is signed in."""


def _colleague(row: AnyRow, seen_at: int | None = None) -> Colleague:
    return Colleague(
        row.id,
        row.business_id,
        row.name,
        StaffRole(row.role),
        row.invited_by,
        row.joined_at,
        row.invited_until,
        seen_at,
    )


def of_business(tx: Transaction, business_id: str) -> list[Colleague]:
    """Return the colleagues of a business, by name."""
    rows = tx.run(
        select(colleague_table)
        .where(colleague_table.c.business_id == business_id)
        .order_by(func.lower(colleague_table.c.name), colleague_table.c.id)
        .limit(MOST)
    ).all()
    seen = tx.run(
        select(console_session_table.c.colleague_id, func.max(console_session_table.c.seen_at).label("seen_at"))
        .where(console_session_table.c.business_id == business_id, console_session_table.c.expires_at > tx.now)
        .group_by(console_session_table.c.colleague_id)
    ).all()
    seen_at = {row.colleague_id: row.seen_at for row in seen}
    return [_colleague(row, seen_at.get(row.id)) for row in rows]


def get(tx: Transaction, colleague_id: str, business_id: str | None) -> Colleague | None:
    """Return a colleague of this business; `None` where it is another's or gone."""
    row = tx.run(select(colleague_table).where(_is(colleague_id, business_id))).first()
    return _colleague(row) if row else None


def _is(colleague_id: str, business_id: str | None) -> ColumnElement[bool]:
    return (colleague_table.c.id == colleague_id) & (colleague_table.c.business_id == business_id)


def is_taken(tx: Transaction, business_id: str, name: str) -> bool:
    """Tell whether somebody else is journalled by this name: a colleague, a staff login, the operator or a till."""
    named = [one.name for one in of_business(tx, business_id)]
    logins = [
        login
        for table in (console_session_table, passkey_table)
        for login in tx.run(select(table.c.login).where(table.c.business_id == business_id).distinct()).scalars()
    ]
    folded = _fold(name)
    return folded.startswith("api:") or folded in {_fold(one) for one in (OPERATOR, "till", *named, *logins)}


def _fold(name: str) -> str:
    """Return a name as names are compared: letters that look alike in another form are the same."""
    return unicodedata.normalize("NFKC", name).casefold()


def add(tx: Transaction, business_id: str, name: str, role: StaffRole, invited_by: str) -> Colleague | None:
    """Add a colleague, who has no invitation yet; `None` where the business has `MOST` of them."""
    count = select(func.count()).select_from(colleague_table).where(colleague_table.c.business_id == business_id)
    if int(tx.run(count).scalar_one()) >= MOST:
        return None
    row = {
        "id": secrets.token_hex(8),
        "business_id": business_id,
        "name": name[:LONGEST_NAME],
        "role": role.value,
        "invited_by": invited_by,
        "made_at": tx.now,
    }
    tx.run(colleague_table.insert(), [row])
    return get(tx, str(row["id"]), business_id)


def invite(tx: Transaction, colleague: Colleague, owner: Principal, session: str | None = None) -> str:
    """Make an invitation in place of the one before, and return its token, which opens one session within three days.

    `owner` is the business as whoever invites is signed in to it, with the key that the session will stand on, and
    `session` is the hash of their session: the invitation ends where that device is signed out by another.
    """
    # what nobody used in time leaves no key behind
    tx.run(colleague_table.update().where(colleague_table.c.invited_until <= tx.now).values(_NO_INVITATION))
    token = secrets.token_urlsafe(24)
    columns = sessions.principal_columns(tx, owner)
    tx.run(
        colleague_table.update()
        .where(colleague_table.c.id == colleague.id)
        .values(
            token_hash=_hash_of_token(tx, token),
            invited_until=tx.now + INVITATION_FOR,
            invited_by=owner.login,
            invited_by_session=session,
            invited_by_colleague=owner.colleague_id,
            business_name=owner.business_name,
            zone=owner.zone,
            key=columns["key"],
            key_hash=columns["key_hash"],
        )
    )
    return token


_NO_INVITATION = {"token_hash": None, "invited_until": None, "key": None, "key_hash": None}


def _hash_of_token(tx: Transaction, token: str) -> str:
    return tx.vault.hash("invitation", token)


def invited_by_token(tx: Transaction, token: str) -> tuple[Colleague, Principal] | None:
    """Return whom an invitation lets in, without spending it; `None` where it is unknown, used or too old."""
    row = tx.run(
        select(colleague_table).where(
            colleague_table.c.token_hash == _hash_of_token(tx, token), colleague_table.c.invited_until > tx.now
        )
    ).first()
    if row is None or not row.key:
        return None
    colleague = _colleague(row)
    principal = Principal(
        row.business_id,
        row.business_name,
        row.zone,
        row.name,
        tx.vault.decrypt(row.key),
        StaffRole(row.role),
        row.id,
    )
    return colleague, principal


def join(tx: Transaction, token: str) -> Principal | None:
    """Spend an invitation, once, and return whom it lets in; `None` where it opens nothing."""
    found = invited_by_token(tx, token)
    if found is None:
        return None
    colleague, principal = found
    # a conditional update: of two requests with the same token only one finds it unspent
    spent = tx.run(
        colleague_table.update()
        .where(colleague_table.c.id == colleague.id, colleague_table.c.token_hash == _hash_of_token(tx, token))
        .values(joined_at=tx.now, **_NO_INVITATION)
    )
    return principal if spent.rowcount else None


def set_role(tx: Transaction, colleague_id: str, business_id: str, role: StaffRole) -> bool:
    """Give a colleague another role, which counts at once; return whether there is one."""
    changed = tx.run(colleague_table.update().where(_is(colleague_id, business_id)).values(role=role.value))
    if changed.rowcount == 0:
        return False
    _end_invitations_by(tx, colleague_id)
    if role is StaffRole.counter:
        push_devices.remove_of_colleague(tx, colleague_id)  # it would be told what it may not see
    return True


def remove(tx: Transaction, colleague_id: str, business_id: str) -> bool:
    """Remove a colleague, and end their sessions, links and invitation; return whether there was one."""
    if tx.run(colleague_table.delete().where(_is(colleague_id, business_id))).rowcount == 0:
        return False
    sessions.end_of_colleague(tx, colleague_id)
    _end_invitations_by(tx, colleague_id)
    return True


def _end_invitations_by(tx: Transaction, colleague_id: str) -> None:
    """End the invitations that a colleague made: whoever may invite no more comes back by none."""
    mine = colleague_table.c.invited_by_colleague == colleague_id
    tx.run(colleague_table.update().where(mine).values(_NO_INVITATION))


def end_invitations_of_session(tx: Transaction, session: str) -> None:
    """End the invitations that a device made which another signs out."""
    tx.run(colleague_table.update().where(colleague_table.c.invited_by_session == session).values(_NO_INVITATION))


def end_invitations(tx: Transaction, business_id: str) -> None:
    """End the invitations of a business that nobody has used yet."""
    tx.run(colleague_table.update().where(colleague_table.c.business_id == business_id).values(_NO_INVITATION))


def end_invitations_of_key(tx: Transaction, key_hash: str) -> None:
    """End the invitations that stand on a key that 7stamp refuses."""
    tx.run(colleague_table.update().where(colleague_table.c.key_hash == key_hash).values(_NO_INVITATION))
