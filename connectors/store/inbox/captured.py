"""Captured requests of tills that are being taught: what a draft's address collected, and a connection's last sample.

Owns the table `captured` and its bounds. Everything in it is encrypted, and nothing of it ever becomes a stamp.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import case, func, select

from connector_sdk.hooks import HookRequest
from connectors.domain.clock import DAY
from connectors.store.engine import Transaction
from connectors.store.query_parts import AnyRow
from connectors.store.schema import captured_table, draft_table

LIFETIME = DAY
OF_DRAFT = "draft:"
"""What stands before a draft's id as an owner; a connection's owner is its id."""
_MOST_HEADER_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class CapturedRequest:
    """One request, `at` in UTC microseconds."""

    id: str
    at: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def request(self) -> HookRequest:
        """The request as a connector receives it."""
        return HookRequest("POST", self.headers, {}, self.body)


def keep(tx: Transaction, owner: str, hook: HookRequest, *, most: int | None = None) -> None:
    """Keep a request for a draft or a connection, no more of them than its quota (or `most`)."""
    # the bound in bytes is of what is stored: encrypted, with its headers
    content = {"headers": _kept_headers(hook.headers), "body": hook.body.decode("latin-1")}
    stored = tx.vault.encrypt(json.dumps(content))
    row = {"id": secrets.token_hex(8), "owner": owner, "at": tx.now, "size": len(stored), "content": stored}
    tx.run(captured_table.insert(), [row])
    surplus = _beyond_quota(tx, owner, most or tx.quotas.captured)
    if surplus:
        tx.run(captured_table.delete().where(captured_table.c.id.in_(surplus)))


def _beyond_quota(tx: Transaction, owner: str, most: int) -> list[str]:
    """List the ids of what an owner has too much of, in number or bytes.

    What was chosen stays. Of the others the newest and the oldest stay in turn: whoever knows the address can push
    neither the till's first request out, nor its latest.
    """
    rows = tx.run(
        select(captured_table.c.id, captured_table.c.size, captured_table.c.chosen)
        .where(captured_table.c.owner == owner)
        .order_by(captured_table.c.at.desc(), captured_table.c.id)
    ).all()
    size, surplus = 0, []
    for rank, row in enumerate(_by_rank(rows)):
        size += row.size
        # the first stays whatever its size: it was bounded when it came
        if rank >= most or (rank and size > tx.quotas.captured_bytes):
            surplus.append(row.id)
    return surplus


def _by_rank(rows: Sequence[AnyRow]) -> list[AnyRow]:
    """Sort an owner's requests, given newest first, by what stays longest: the chosen, then from either end in turn."""
    others = [row for row in rows if not row.chosen]
    in_turn = (row for pair in zip(others, reversed(others), strict=True) for row in pair)
    # each of the others comes twice, once from either end: its first place counts
    return list({row.id: row for row in (*(row for row in rows if row.chosen), *in_turn)}.values())


def _kept_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that teaching may look at: no cookies, and no more bytes than a till's own would have."""
    kept_headers: dict[str, str] = {}
    left = _MOST_HEADER_BYTES
    for name, value in headers.items():
        # counted also where it is left out: the rest of a flood of headers is not looked for
        left -= len(name) + len(value)
        if name != "cookie" and left >= 0:
            kept_headers[name] = value
    return kept_headers


def choose(tx: Transaction, owner: str, request_id: str) -> None:
    """Keep this request whatever else comes; the one chosen before loses that."""
    is_chosen = case((captured_table.c.id == request_id, 1), else_=0)
    tx.run(captured_table.update().where(captured_table.c.owner == owner).values(chosen=is_chosen))


def of_owner(tx: Transaction, owner: str) -> list[CapturedRequest]:
    """Read the requests of a draft or a connection, newest first."""
    query = select(captured_table).where(captured_table.c.owner == owner)
    return [_request(tx, row) for row in tx.run(query.order_by(captured_table.c.at.desc(), captured_table.c.id))]


def _request(tx: Transaction, row: AnyRow) -> CapturedRequest:
    content = json.loads(tx.vault.decrypt(row.content))
    return CapturedRequest(row.id, row.at, content["headers"], content["body"].encode("latin-1"))


def newest_at(tx: Transaction, owner: str) -> int:
    """Return when the newest request was kept (UTC microseconds); 0 where there is none."""
    newest = select(func.max(captured_table.c.at)).where(captured_table.c.owner == owner)
    return int(tx.run(newest).scalar() or 0)


def delete_of(tx: Transaction, owner: str) -> None:
    """Delete all requests of an owner."""
    tx.run(captured_table.delete().where(captured_table.c.owner == owner))


def sweep_drafts(tx: Transaction) -> None:
    """Delete the requests of drafts after a day, and with their drafts; samples of connections are `sweep_samples`'."""
    of_drafts = captured_table.c.owner.like(f"{OF_DRAFT}%")
    # drafts that were finished or thrown away take their requests with them
    is_orphan = captured_table.c.owner.not_in(select(OF_DRAFT + draft_table.c.id))
    is_old = captured_table.c.at <= tx.now - LIFETIME
    tx.run(captured_table.delete().where(of_drafts, is_old | is_orphan))


def sweep_samples(tx: Transaction, before: int, limit: int) -> int:
    """Delete requests kept before a moment, samples above all, at most `limit`; return how many."""
    old = list(tx.run(select(captured_table.c.id).where(captured_table.c.at < before).limit(limit)).scalars())
    delete(tx, old)
    return len(old)


# Erasing customers


@dataclass(frozen=True, slots=True)
class StoredRequest:
    """A captured request's body with its owner: a connection's id, or a draft's after `OF_DRAFT`."""

    id: str
    owner: str
    text: str = field(repr=False)


def requests_after(tx: Transaction, owners: Sequence[str], after: str, limit: int) -> list[StoredRequest]:
    """Read the next requests of these drafts and connections, in the order of their ids."""
    page = select(captured_table).where(captured_table.c.owner.in_(owners), captured_table.c.id > after)
    rows = tx.run(page.order_by(captured_table.c.id).limit(limit))
    return [StoredRequest(row.id, row.owner, json.loads(tx.vault.decrypt(row.content))["body"]) for row in rows]


def delete(tx: Transaction, ids: Sequence[str]) -> None:
    """Delete requests."""
    tx.run(captured_table.delete().where(captured_table.c.id.in_(ids)))
