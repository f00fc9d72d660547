"""Statements that SQLAlchemy spells differently for each database.

Owns the choice by dialect; callers build the rest of the statement, which reads the same for both.
"""

from __future__ import annotations

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite

Insert = postgresql.Insert | sqlite.Insert
"""An insert that has `on_conflict_do_nothing` and `on_conflict_do_update`."""


def insert_into(dialect: str, table: Table) -> Insert:
    """Return an insert that can name what to do where the row exists, for a database whose dialect has this name."""
    # SQLAlchemy's own `insert` has no ON CONFLICT: only the two dialects' have, each its own class
    if dialect == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)
