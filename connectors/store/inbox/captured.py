"""TODO docstring."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import case, func, select

from connector_sdk.hooks import HookRequest
from connectors.domain.clock import DAY
from connectors.store.engine import Transaction
from connectors.store.schema import captured_table, draft_table

LIFETIME = DAY


OF_DRAFT = "draft:"
"""What stands before a draft's id as an owner; a connection's is its id."""


_MOST_HEADERS = 16 * 1024


@dataclass(frozen=True, slots=True)
class CapturedRequest:
    """One request, `at` in UTC microseconds."""

    id: str
    at: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def request(self) -> HookRequest:
        return HookRequest("POST", self.headers, {}, self.body)


def keep(tx: Transaction, owner: str, hook: HookRequest, *, most: int | None = None) -> None:
    """Keep a request for a draft or a connection, no more of them than its quota.

    What was chosen stays. Of the others the newest and the oldest stay in turn: whoever knows the address can push
    neither the till's first request out, nor its latest.
    """
    stored = tx.vault.encrypt(json.dumps({"headers": _headers(hook.headers), "body": hook.body.decode("latin-1")}))
    new = {"id": secrets.token_hex(8), "owner": owner, "at": tx.now, "size": len(stored), "content": stored}
    tx.run(captured_table.insert(), [new])
    rows = tx.run(
        select(captured_table.c.id, captured_table.c.size, captured_table.c.chosen)
        .where(captured_table.c.owner == owner)
        .order_by(captured_table.c.at.desc(), captured_table.c.id)
    ).all()
    chosen, others = [row for row in rows if row.chosen], [row for row in rows if not row.chosen]
    in_turn = [row for pair in zip(others, reversed(others), strict=True) for row in pair]
    wanted = list({row.id: row for row in (*chosen, *in_turn)}.values())
    size, old = 0, []
    for number, row in enumerate(wanted):
        size += row.size
        if number >= (most or tx.quotas.captured) or (number and size > tx.quotas.captured_bytes):
            old.append(row.id)
    if old:
        tx.run(captured_table.delete().where(captured_table.c.id.in_(old)))


def _headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that teaching may look at: no cookies, and no more than a till's own would be."""
    found: dict[str, str] = {}
    left = _MOST_HEADERS
    for name, value in headers.items():
        left -= len(name) + len(value)
        if name != "cookie" and left >= 0:
            found[name] = value
    return found


def choose(tx: Transaction, owner: str, request_id: str) -> None:
    """Keep this request whatever else comes; the one chosen before is one of the others again."""
    mine = captured_table.c.owner == owner
    tx.run(captured_table.update().where(mine).values(chosen=case((captured_table.c.id == request_id, 1), else_=0)))


def of_owner(tx: Transaction, owner: str) -> list[CapturedRequest]:
    """What is kept for a draft or a connection, newest first."""
    rows = tx.run(
        select(captured_table)
        .where(captured_table.c.owner == owner)
        .order_by(captured_table.c.at.desc(), captured_table.c.id)
    )
    return [_captured(tx, row) for row in rows]


def _captured(tx: Transaction, row: Any) -> CapturedRequest:
    content = json.loads(tx.vault.decrypt(row.content))
    return CapturedRequest(row.id, row.at, content["headers"], content["body"].encode("latin-1"))


def newest_at(tx: Transaction, owner: str) -> int:
    """When the newest was kept; 0 where there is none."""
    return int(tx.run(select(func.max(captured_table.c.at)).where(captured_table.c.owner == owner)).scalar() or 0)


def delete_of(tx: Transaction, owner: str) -> None:
    tx.run(captured_table.delete().where(captured_table.c.owner == owner))


def sweep_drafts(tx: Transaction) -> None:
    """A draft's requests go after a day, and with their draft; the samples of connections are `sweep_samples`'."""
    of_drafts = captured_table.c.owner.like(f"{OF_DRAFT}%")
    gone = captured_table.c.owner.not_in(select(OF_DRAFT + draft_table.c.id))
    tx.run(captured_table.delete().where(of_drafts, (captured_table.c.at <= tx.now - LIFETIME) | gone))


@dataclass(frozen=True, slots=True)
class StoredRequest:
    """A captured request with whose it is: a connection's id, or a draft's after `OF_DRAFT`."""

    id: str
    owner: str
    text: str = field(repr=False)


def requests_after(tx: Transaction, owners: Sequence[str], after: str, limit: int) -> list[StoredRequest]:
    """The next captured requests of these drafts and connections, in the order of their ids."""
    mine = captured_table.c.owner.in_(owners)
    rows = tx.run(
        select(captured_table).where(mine, captured_table.c.id > after).order_by(captured_table.c.id).limit(limit)
    )
    return [StoredRequest(row.id, row.owner, json.loads(tx.vault.decrypt(row.content))["body"]) for row in rows]


def delete(tx: Transaction, ids: Sequence[str]) -> None:
    """Delete captured requests."""
    tx.run(captured_table.delete().where(captured_table.c.id.in_(ids)))


def sweep_samples(tx: Transaction, before: int, limit: int) -> int:
    """Delete the samples of connections to which nothing came since a moment, at most so many; how many that were."""
    old = list(tx.run(select(captured_table.c.id).where(captured_table.c.at < before).limit(limit)).scalars())
    tx.run(captured_table.delete().where(captured_table.c.id.in_(old)))
    return len(old)
