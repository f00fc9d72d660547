"""Forgotten customers: marks of those who asked to be forgotten.

Owns the table `forgotten`: what tills send again of such a customer's older receipts is not stored again. Names are
kept as keyed hashes only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from sqlalchemy import bindparam, select

from connectors.domain.person import Reference, TillId
from connectors.store.engine import Transaction
from connectors.store.query_parts import in_parts
from connectors.store.schema import business_table, forgotten_table

# by hash alone: the business is part of what is hashed
_MARKS = select(forgotten_table.c.name_hash, forgotten_table.c.at).where(
    forgotten_table.c.name_hash.in_(bindparam("hashes", expanding=True))
)


def mark_hash(tx: Transaction, business_id: str, name: Reference | TillId) -> str:
    """Hash a name within a business, as marks are stored."""
    return tx.vault.hash("forgotten", business_id, type(name).__name__, *name)


def mark(tx: Transaction, business_id: str, names: Iterable[Reference | TillId]) -> None:
    """Remember that whoever has these names is forgotten as of now."""
    rows = [
        {"business_id": business_id, "name_hash": mark_hash(tx, business_id, name), "at": tx.now}
        # the same name twice would be two rows of one key in one statement
        for name in dict.fromkeys(names)
    ]
    if rows:
        # forgotten again: receipts of since the first time are covered by the younger mark
        insert = tx.insert(forgotten_table)
        keys = [forgotten_table.c.business_id, forgotten_table.c.name_hash]
        tx.run(insert.on_conflict_do_update(index_elements=keys, set_={"at": insert.excluded.at}), rows)


def businesses_with_marks(tx: Transaction, business_ids: Collection[str]) -> dict[str, str]:
    """Map business id to country, for those that have forgotten anybody: the others need no look at names."""
    marked = select(forgotten_table.c.business_id).where(forgotten_table.c.business_id == business_table.c.id).exists()
    businesses = select(business_table.c.id, business_table.c.country).where(
        business_table.c.id.in_(sorted(business_ids)), marked
    )
    return {row.id: row.country for row in tx.run(businesses)}


def marks(tx: Transaction, hashes: Collection[str]) -> Mapping[str, int]:
    """Map each of these hashes that is a mark to when it was made (UTC microseconds)."""
    return {
        row.name_hash: row.at for part in in_parts(sorted(hashes)) for row in tx.run(_MARKS, {"hashes": list(part)})
    }
