"""API tokens: with which programs act for a business, each with the rights that it was given.

Owns the tables `api_token` and `api_answer`. Of a token only a keyed hash is stored; it is shown once, by whoever made
it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import ColumnElement, func, select

from connectors.domain.clock import DAY, MINUTE
from connectors.store.engine import Transaction
from connectors.store.errors import NotFound, QuotaMet
from connectors.store.query_parts import AnyRow
from connectors.store.schema import api_answer_table, api_token_table

PREFIX = "7con_"
"""What every token begins with, so that whoever finds one knows what it is."""
_TOKEN_BYTES = 32
_ENDING = 4
_USE_RECORDED_EVERY = MINUTE
_ANSWERS_KEPT = DAY
_ANSWERED_WITHIN = MINUTE
_MOST_ANSWERS = 1000
"""Of a token, in a day: beyond that the oldest are forgotten."""


class Scope(StrEnum):
    """What a token may do."""

    read = "read"
    """See connections, receipts, operations, events and totals."""
    act = "act"
    """Retry and dismiss operations, and take history in."""
    subscribe = "subscribe"
    """Make, change and end subscriptions, and replay what they missed."""
    sell = "sell"
    """Report sales of a till."""


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A token without itself: `ending` are its last characters, by which people tell tokens apart."""

    id: str
    business_id: str
    title: str
    scopes: frozenset[Scope]
    ending: str
    made_at: int
    made_by: str | None
    last_used_at: int | None


def _token(row: AnyRow) -> ApiToken:
    return ApiToken(
        id=row.id,
        business_id=row.business_id,
        title=row.title,
        scopes=frozenset(Scope(name) for name in json.loads(row.scopes)),
        ending=row.ending,
        made_at=row.made_at,
        made_by=row.made_by,
        last_used_at=row.last_used_at,
    )


def of_business(tx: Transaction, business_id: str) -> list[ApiToken]:
    """List the tokens of a business, oldest first."""
    query = select(api_token_table).where(api_token_table.c.business_id == business_id)
    return [_token(row) for row in tx.run(query.order_by(api_token_table.c.made_at, api_token_table.c.id))]


def find(tx: Transaction, token: str) -> ApiToken | None:
    """Find what a token may do; `None` for one that nobody has."""
    row = tx.run(
        select(api_token_table).where(api_token_table.c.token_hash == tx.vault.hash("api token", token))
    ).first()
    return _token(row) if row is not None else None


def make(tx: Transaction, business_id: str, title: str, scopes: Collection[Scope]) -> tuple[ApiToken, str]:
    """Make a token; return it, and itself in the clear. Raises `QuotaMet` beyond the business's quota."""
    tx.alone("tokens", business_id)
    number = select(func.count()).where(api_token_table.c.business_id == business_id)
    if tx.run(number).scalar_one() >= tx.quotas.tokens:
        raise QuotaMet(tx.quotas.tokens, "API tokens")
    token = PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)
    row = {
        "id": f"tok_{secrets.token_hex(6)}",
        "business_id": business_id,
        "title": title,
        "scopes": json.dumps(sorted(scopes)),
        "token_hash": tx.vault.hash("api token", token),
        "ending": token[-_ENDING:],
        "made_at": tx.now,
        "made_by": tx.by,
    }
    tx.run(api_token_table.insert(), [row])
    made = tx.run(select(api_token_table).where(api_token_table.c.id == row["id"])).one()
    return _token(made), token


def revoke(tx: Transaction, business_id: str, token_id: str) -> ApiToken:
    """Delete a token of a business: it opens nothing any more. Raises `NotFound`."""
    mine = (api_token_table.c.id == token_id) & (api_token_table.c.business_id == business_id)
    row = tx.run(select(api_token_table).where(mine)).first()
    if row is None:
        raise NotFound(f"there is no API token {token_id!r}: see `connectors token list`")
    tx.run(api_answer_table.delete().where(api_answer_table.c.token_id == token_id))
    tx.run(api_token_table.delete().where(mine))
    return _token(row)


def is_use_news(token: ApiToken, now: int) -> bool:
    """Say whether a use is to be recorded: not more often than once a minute."""
    return token.last_used_at is None or token.last_used_at <= now - _USE_RECORDED_EVERY


def record_use(tx: Transaction, token_id: str) -> None:
    """Note that a token was used."""
    tx.run(api_token_table.update().where(api_token_table.c.id == token_id).values(last_used_at=tx.now))


# Answers that a repeated request gets again


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """What a request under an idempotency key was answered, and the digest of that request."""

    digest: str
    status: int
    body: str


UNANSWERED = 0
"""The status of a request that is being answered."""


def take_key(tx: Transaction, token_id: str, key: str, digest: str) -> StoredAnswer | None:
    """Take a token's idempotency key for a request; return what the key's request got within a day, if there was one.

    That is `UNANSWERED` while it is being answered: of two that come at once, one takes the key.
    """
    tx.alone("idempotency key", token_id, key)
    row = tx.run(select(api_answer_table).where(_of_key(tx, token_id, key))).first()
    # whoever had it and never answered has died since
    kept_for = _ANSWERS_KEPT if row is None or row.status != UNANSWERED else _ANSWERED_WITHIN
    if row is not None and row.at > tx.now - kept_for:
        return StoredAnswer(row.digest, row.status, tx.vault.decrypt(row.body))
    keep_answer(tx, token_id, key, StoredAnswer(digest, UNANSWERED, ""))
    return None


def give_key_back(tx: Transaction, token_id: str, key: str) -> None:
    """Give a key back whose request came to nothing."""
    tx.run(api_answer_table.delete().where(_of_key(tx, token_id, key), api_answer_table.c.status == UNANSWERED))


def _of_key(tx: Transaction, token_id: str, key: str) -> ColumnElement[bool]:
    key_hash = tx.vault.hash("idempotency key", token_id, key)
    return (api_answer_table.c.token_id == token_id) & (api_answer_table.c.key_hash == key_hash)


def keep_answer(tx: Transaction, token_id: str, key: str, answer: StoredAnswer) -> None:
    """Keep an answer for a day; the oldest of a token's go beyond a bound."""
    values = {"digest": answer.digest, "status": answer.status, "body": tx.vault.encrypt(answer.body), "at": tx.now}
    keys = [api_answer_table.c.token_id, api_answer_table.c.key_hash]
    insert = tx.insert(api_answer_table).values(
        token_id=token_id, key_hash=tx.vault.hash("idempotency key", token_id, key), **values
    )
    tx.run(insert.on_conflict_do_update(index_elements=keys, set_=values))
    of_token = api_answer_table.c.token_id == token_id
    newest = select(api_answer_table.c.at).where(of_token).order_by(api_answer_table.c.at.desc())
    oldest_kept = tx.run(newest.offset(_MOST_ANSWERS - 1).limit(1)).scalar()
    tx.run(
        api_answer_table.delete().where(of_token, api_answer_table.c.at < max(oldest_kept or 0, tx.now - _ANSWERS_KEPT))
    )
