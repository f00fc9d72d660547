"""The indexes that connectors keep of their tills: values by key, of one business's till account.

Owns the table `till_index` and its bound: beyond a hundred thousand values of an account the oldest go.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import ColumnElement, and_, func, select

from connectors.store.engine import Transaction
from connectors.store.schema import till_index_table

MOST_VALUES = 100_000
_SWEPT_AT_ONCE = 1_000


class IndexOwner(NamedTuple):
    """Whose an index is: a business's, of one till account."""

    business_id: str
    connector: str
    account_id: str


def add(tx: Transaction, owner: IndexOwner, key: str, value: str) -> None:
    """Add a value to a key; one that is there already changes nothing."""
    row = {**owner._asdict(), "key": key, "value": value, "added_at": tx.now}
    if tx.run(tx.insert(till_index_table).values(**row).on_conflict_do_nothing()).rowcount:
        _sweep(tx, owner)


def _sweep(tx: Transaction, owner: IndexOwner) -> None:
    """Delete the oldest values beyond the bound, a thousand at once so that most additions delete nothing."""
    owned = _of(owner)
    number = tx.run(select(func.count()).select_from(till_index_table).where(owned)).scalar_one()
    if number <= MOST_VALUES + _SWEPT_AT_ONCE:
        return
    newest = select(till_index_table.c.added_at).where(owned).order_by(till_index_table.c.added_at.desc())
    limit = tx.run(newest.offset(MOST_VALUES - 1).limit(1)).scalar_one()
    tx.run(till_index_table.delete().where(owned, till_index_table.c.added_at < limit))


def values(tx: Transaction, owner: IndexOwner, key: str) -> tuple[str, ...]:
    """Return the values of a key, the first one added first."""
    query = select(till_index_table.c.value).where(_of(owner), till_index_table.c.key == key)
    return tuple(tx.run(query.order_by(till_index_table.c.added_at, till_index_table.c.value)).scalars())


def _of(owner: IndexOwner) -> ColumnElement[bool]:
    return and_(
        till_index_table.c.business_id == owner.business_id,
        till_index_table.c.connector == owner.connector,
        till_index_table.c.account_id == owner.account_id,
    )
