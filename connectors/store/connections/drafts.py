"""TODO docstring."""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select

from connectors.domain.clock import DAY
from connectors.store import inbox
from connectors.store.engine import Transaction
from connectors.store.schema import draft_table

LIFETIME = DAY


@dataclass(frozen=True, slots=True)
class Draft:
    """What was chosen so far; `owner` is a business id, or the operator's name for itself."""

    id: str
    owner: str
    connector: str
    updated_at: int
    content: Mapping[str, Any] = field(repr=False)


def begin(tx: Transaction, owner: str, connector: str, *, listens: bool = False) -> str:
    """An empty draft; drafts that are too old go, and an owner's oldest beyond a few.

    One that `listens` has an address of its own (`content["hook_token"]`), at which it collects what a till sends.
    """
    tx.run(draft_table.delete().where(draft_table.c.updated_at <= tx.now - LIFETIME))
    newest = select(draft_table.c.id).where(draft_table.c.owner == owner).order_by(draft_table.c.updated_at.desc())
    old = list(tx.run(newest.offset(tx.quotas.drafts - 1).limit(1000)).scalars())
    tx.run(draft_table.delete().where(draft_table.c.id.in_(old)))
    one, token = secrets.token_urlsafe(9), secrets.token_urlsafe(24)
    tx.run(
        draft_table.insert(),
        [
            {
                "id": one,
                "owner": owner,
                "connector": connector,
                "content": tx.vault.encrypt(json.dumps({"hook_token": token} if listens else {})),
                "made_at": tx.now,
                "updated_at": tx.now,
                "hook_token_hash": tx.vault.hash("hook token", token) if listens else None,
            }
        ],
    )
    return one


def get(tx: Transaction, draft_id: str, owner: str) -> Draft | None:
    """An owner's draft; nobody else's."""
    row = tx.run(
        select(draft_table).where(
            draft_table.c.id == draft_id, draft_table.c.owner == owner, draft_table.c.updated_at > tx.now - LIFETIME
        )
    ).first()
    if row is None:
        return None
    return Draft(row.id, row.owner, row.connector, row.updated_at, json.loads(tx.vault.decrypt(row.content)))


def of_hook_token(tx: Transaction, connector: str, token: str) -> str | None:
    """The id of the draft that listens at an address."""
    return tx.run(
        select(draft_table.c.id).where(
            draft_table.c.hook_token_hash == tx.vault.hash("hook token", token),
            draft_table.c.connector == connector,
            draft_table.c.updated_at > tx.now - LIFETIME,
        )
    ).scalar()


def save(tx: Transaction, one: Draft, content: Mapping[str, Any]) -> None:
    tx.run(
        draft_table.update()
        .where(draft_table.c.id == one.id)
        .values(content=tx.vault.encrypt(json.dumps(dict(content))), updated_at=tx.now)
    )


def delete(tx: Transaction, draft_id: str, owner: str) -> None:
    if tx.run(draft_table.delete().where(draft_table.c.id == draft_id, draft_table.c.owner == owner)).rowcount:
        inbox.captured.delete_of(tx, f"{inbox.captured.OF_DRAFT}{draft_id}")


def of_owner(tx: Transaction, owner: str) -> list[tuple[str, str, int]]:
    """(id, connector, when it was last touched) of an owner's drafts, newest first."""
    rows = tx.run(
        select(draft_table.c.id, draft_table.c.connector, draft_table.c.updated_at)
        .where(draft_table.c.owner == owner, draft_table.c.updated_at > tx.now - LIFETIME)
        .order_by(draft_table.c.updated_at.desc())
    )
    return [(row.id, row.connector, row.updated_at) for row in rows]


def sweep(tx: Transaction) -> None:
    """Drafts older than a day are deleted, whether or not anybody begins another, and what they collected."""
    tx.run(draft_table.delete().where(draft_table.c.updated_at <= tx.now - LIFETIME))
    inbox.captured.sweep_drafts(tx)


@dataclass(frozen=True, slots=True)
class StoredDraft:
    """A draft with its owner, and everything in it as one text."""

    id: str
    owner: str
    text: str = field(repr=False)


def stored_of_owners(tx: Transaction, owners: Collection[str]) -> list[StoredDraft]:
    """All drafts of some owners; each has a few."""
    rows = tx.run(
        select(draft_table.c.id, draft_table.c.owner, draft_table.c.content).where(
            draft_table.c.owner.in_(sorted(owners))
        )
    )
    return [StoredDraft(row.id, row.owner, tx.vault.decrypt(row.content)) for row in rows]
