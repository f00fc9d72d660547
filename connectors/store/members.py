"""Members of a cluster: the hosts and workers that run on one database server, and who is known to be dead.

Owns the table `member`. Each member writes down now and then that it lives; one that has not for a while is taken over
by whichever member looks first. What it was sending is then in doubt, and its claimed work is anybody's. An embedded
database has no members: the lock beside it says who runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import ColumnElement, func, select

from connectors.store.engine import Transaction
from connectors.store.ledger import operations
from connectors.store.query_parts import claiming
from connectors.store.schema import member_table


class MemberRole(StrEnum):
    """What a member does."""

    host = "host"
    """Answers hooks and people, and says when work is due."""
    worker = "worker"
    """Does work that is due."""
    command = "command"
    """Does one command that somebody gave, and ends."""


@dataclass(frozen=True, slots=True)
class Member:
    """A member; times in UTC microseconds. `works` says whether it does work that is due."""

    id: str
    role: MemberRole
    works: bool
    version: str
    started_at: int
    seen_at: int


def join(tx: Transaction, member_id: str, role: MemberRole, version: str, *, works: bool) -> None:
    """Write down a new member."""
    row = {
        "id": member_id,
        "role": role,
        "works": int(works),
        "version": version,
        "started_at": tx.now,
        "seen_at": tx.now,
    }
    tx.run(member_table.insert(), [row])


def beat(tx: Transaction, member_id: str) -> bool:
    """Write down that a member lives; `False` where others have taken it for dead meanwhile."""
    is_it = member_table.c.id == member_id
    return bool(tx.run(member_table.update().where(is_it).values(seen_at=tx.now)).rowcount)


def leave(tx: Transaction, member_id: str) -> None:
    """Delete a member that ends; what it was still sending is in doubt."""
    tx.run(member_table.delete().where(member_table.c.id == member_id))
    operations.mark_unfinished_uncertain(tx, [member_id])


def _is_heard(tx: Transaction, silent_for: int) -> ColumnElement[bool]:
    return member_table.c.seen_at.between(tx.now - silent_for, tx.now + silent_for)


def take_over(tx: Transaction, silent_for: int) -> list[Member]:
    """Delete the members that have been silent for so many microseconds, and put in doubt what they were sending.

    Return them: each is returned to one caller only, whoever looks at the same time. One whose last word lies in the
    future died before the server's clock was put back.
    """
    is_silent = select(member_table).where(~_is_heard(tx, silent_for))
    dead = [_member(row) for row in tx.run(claiming(is_silent, member_table)).mappings()]
    if dead:
        ids = [member.id for member in dead]
        tx.run(member_table.delete().where(member_table.c.id.in_(ids)))
        operations.mark_unfinished_uncertain(tx, ids)
    # of a process that never joined, as a program that uses the host's parts by itself
    operations.mark_unclaimed_uncertain(tx, select(member_table.c.id), tx.now - 2 * silent_for)
    return dead


def _member(columns: object) -> Member:
    values = dict(columns)  # type: ignore[call-overload]
    return Member(**values | {"role": MemberRole(values["role"]), "works": bool(values["works"])})


def list_all(tx: Transaction) -> list[Member]:
    """List the members, the one that has run longest first."""
    query = select(member_table).order_by(member_table.c.started_at, member_table.c.id)
    return [_member(row) for row in tx.run(query).mappings()]


def count_workers(tx: Transaction, silent_for: int) -> int:
    """Count the members that do work and were heard of within so many microseconds."""
    lives = (member_table.c.works == 1) & _is_heard(tx, silent_for)
    return int(tx.run(select(func.count()).select_from(member_table).where(lives)).scalar_one())
