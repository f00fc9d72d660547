"""The type of a row, how many ids one query takes, and how a query claims rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import Row, Select, Table

# the `Any` is SQLAlchemy's: a row is typed by the columns of its own query
AnyRow = Row[Any]
"""A row of whatever query: SQLAlchemy knows its columns only when it runs."""

MOST_IDS = 400
"""Ids in one query, below SQLite's oldest bound of variables (999), with room for others beside them."""

T = TypeVar("T")


def claiming(query: Select[Any], table: Table) -> Select[Any]:
    """Have a query lock the rows of a table that it finds, leaving out those that another transaction has locked.

    So of several hosts and workers that claim at once each gets others. SQLite drops it: there one process claims.
    """
    return query.with_for_update(of=table, skip_locked=True)


def in_parts(ids: Sequence[T], size: int = MOST_IDS) -> Iterator[Sequence[T]]:
    """Cut ids into parts that fit a query each."""
    return (ids[start : start + size] for start in range(0, len(ids), size))
