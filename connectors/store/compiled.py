"""Statements that are compiled once and given to the driver with plain rows.

For constant statements of the ledger that are executed for many rows: SQLAlchemy builds and checks the parameters of
each row anew, which costs as much as the database's own work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from sqlalchemy import Connection as Session
from sqlalchemy import Delete, Dialect, Insert, Update

Statement = Insert | Update | Delete
Row = Mapping[str, object]
_Parameters = Callable[[Row], object]


def execute_each(session: Session, statement: Statement, rows: Sequence[Row]) -> int:
    """Execute a statement that lives as long as the process once for each row; all rows have the same columns.

    Return how many rows of the table were changed.
    """
    text, parameters = _compile(statement, session.dialect, frozenset(rows[0]))
    return session.exec_driver_sql(text, [parameters(row) for row in rows]).rowcount


# the statements are constants of modules, and each engine has one dialect for as long as it lives
@lru_cache(maxsize=256)
def _compile(statement: Statement, dialect: Dialect, columns: frozenset[str]) -> tuple[str, _Parameters]:
    """Return a statement's text, and what makes the driver's parameters of a row.

    Raises `TypeError` where a value would have to be converted first, which only SQLAlchemy does.
    """
    compiled = statement.compile(dialect=dialect, column_keys=sorted(columns))
    if compiled._bind_processors:
        raise TypeError(f"{statement} has columns whose values SQLAlchemy converts")
    # values that stand in the statement itself
    constants = {name: value for name, value in compiled.params.items() if name not in columns}
    names: Sequence[str] | None = compiled.positiontup
    if names is None:
        return str(compiled), lambda row: {**constants, **row}
    if constants:
        return str(compiled), lambda row: tuple(map({**constants, **row}.__getitem__, names))
    return str(compiled), lambda row: tuple(map(row.__getitem__, names))
