"""Moving: copies an embedded database to a database server, and proves that both hold the same.

Owns the copying, which goes on where it was interrupted: how far a table has come is written down in the transaction
that brought it there. Rows are copied as they are, encrypted values too, so the key stays the same. What is compared is
the number of rows and the sum of their hashes, which does not depend on the order in which a database reads them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection as Session
from sqlalchemy import Select, Table, func, select, text, tuple_
from sqlalchemy.engine import make_url

from connectors.store import migrate, stored_settings
from connectors.store.engines import create_engine, plain_errors
from connectors.store.errors import StoreError
from connectors.store.schema import metadata, setting_table
from connectors.store.stored_settings import MOVED_TO, MOVING, OLDEST_CODE, PROCRASTINATE
from connectors.store.vault import Vault

_ROWS = 2000
"""Rows copied in one transaction."""
_BITS = 2**128
_OWN_SETTINGS = (MOVED_TO, MOVING, OLDEST_CODE, PROCRASTINATE)
"""Settings that are each database's own: they are neither copied nor compared."""

Progress = Callable[[int, int], None]
"""Told how many rows are done, of how many."""
AnyValue = str | int | None


@dataclass(frozen=True, slots=True)
class Content:
    """What a table holds: its rows, and the sum of their hashes."""

    rows: int = 0
    hashes: int = 0


@dataclass(frozen=True, slots=True)
class Compared:
    """A table on both sides."""

    table: str
    here: Content
    there: Content

    @property
    def agrees(self) -> bool:
        """Say whether both sides hold the same."""
        return self.here == self.there


class Move:
    """One move from a file to a server; it may be interrupted and begun again at any moment."""

    def __init__(self, source: str, target: str, vault: Vault) -> None:
        self._source = create_engine(source, "BEGIN")
        self._locked_source = create_engine(source, "BEGIN IMMEDIATE")
        self._target = create_engine(target, "BEGIN")
        self._vault = vault
        if self._source.dialect.name != "sqlite" or self._target.dialect.name == "sqlite":
            raise StoreError("a move goes from a database in a file to a database server")

    def close(self) -> None:
        """Close all connections."""
        for engine in (self._source, self._locked_source, self._target):
            engine.dispose()

    def prepare(self) -> None:
        """Make the tables on the server. Raises `StoreError` where another installation is there."""
        with plain_errors():
            migrate.upgrade(self._target, self._vault)
            mark = self._mark()
            with self._target.begin() as session:
                found = stored_settings.find(session, MOVING)
                if found == mark:
                    return
                if found is not None or self._holds_rows(session):
                    raise StoreError(
                        "the database server holds another installation: name an empty database, or one into which "
                        "this installation was being moved"
                    )
                stored_settings.put(session, MOVING, mark)

    def _mark(self) -> str:
        """Return what tells this installation from others: its encrypted hash key."""
        with self._source.connect() as session:
            return hashlib.sha256((stored_settings.find(session, stored_settings.HASH_KEY) or "").encode()).hexdigest()

    @staticmethod
    def _holds_rows(session: Session) -> bool:
        tables = [table for table in metadata.sorted_tables if table is not setting_table]
        own = setting_table.c.name.not_in(_OWN_SETTINGS)
        if session.execute(select(setting_table.c.name).where(own).limit(1)).first() is not None:
            return True
        return any(session.execute(select(text("1")).select_from(table).limit(1)).first() for table in tables)

    # --- copying ------------------------------------------------------------------------------------------------

    def copy(self, progress: Progress) -> int:
        """Copy what is not there yet; return how many rows were copied now. Raises `StoreError`."""
        with plain_errors():
            total = sum(self._count(table) for table in metadata.sorted_tables)
            done = copied = 0
            for table in metadata.sorted_tables:
                done += self._copied_before(table)
                progress(done, total)
                for rows in self._copy_table(table):
                    done, copied = done + rows, copied + rows
                    progress(done, total)
            self._set_sequences()
            return copied

    def _count(self, table: Table) -> int:
        with self._source.connect() as session:
            return int(session.execute(_counted(table)).scalar_one())

    def _copied_before(self, table: Table) -> int:
        with self._target.connect() as session:
            return _Position.of(session, table).rows

    def _copy_table(self, table: Table) -> Iterator[int]:
        """Copy a table in the order of its key, from where it was interrupted; yield the rows of each transaction."""
        while True:
            with self._target.begin() as there:
                position = _Position.of(there, table)
                with self._source.connect() as here:
                    rows = _rows_after(here, table, position.after)
                if not rows:
                    return
                _insert(there, table, rows)
                after = [rows[-1][column.name] for column in table.primary_key]
                _Position(after, position.rows + len(rows)).put(there, table)
            yield len(rows)

    def _set_sequences(self) -> None:
        """Have the server number new rows after those that were copied."""
        with self._target.begin() as session:
            for table in metadata.sorted_tables:
                column = table.autoincrement_column
                if column is None or column.autoincrement is not True:
                    continue
                last = session.execute(select(func.max(column))).scalar()
                name = session.execute(
                    text("SELECT pg_get_serial_sequence(:table, :column)"), {"table": table.name, "column": column.name}
                ).scalar_one()
                session.execute(text("SELECT setval(:name, :last)"), {"name": name, "last": max(last or 0, 1)})

    # --- proving and switching ------------------------------------------------------------------------------------

    def switch(self, progress: Progress, shown: str) -> list[Compared]:
        """Compare both sides whole, and where they agree have the file say that it was moved (to `shown`).

        The file is locked from before the comparison until it says so: what a command writes meanwhile would be lost.
        The server's database may be used only after that, so that at no moment both may. Whoever is interrupted between
        the two goes on with `finish`.
        """
        compared: list[Compared] = []
        with plain_errors(), self._locked_source.begin() as here, self._target.connect() as there:
            total = 2 * sum(self._count(table) for table in metadata.sorted_tables)
            done = 0
            for table in metadata.sorted_tables:
                both = Compared(table.name, _content(here, table), _content(there, table))
                done += both.here.rows + both.there.rows
                progress(done, total)
                compared.append(both)
            if all(table.agrees for table in compared):
                stored_settings.put(here, MOVED_TO, shown)
        if all(table.agrees for table in compared):
            self.finish()
        return compared

    def finish(self) -> bool:
        """Have the server's database be used; say whether it was this installation's, and waited for that."""
        with plain_errors(), self._target.begin() as session:
            if stored_settings.find(session, MOVING) != self._mark():
                return False
            stored_settings.delete(session, MOVING)
            for table in metadata.sorted_tables:
                stored_settings.delete(session, _name_of_position(table))
            return True


def shown_address(url: str) -> str:
    """Return the server and the name of a database: user, password and options may be secrets."""
    parts = make_url(url)
    return f"{parts.host or 'the server'}{f':{parts.port}' if parts.port else ''}/{parts.database or ''}"


def take_back(source: str) -> bool:
    """Have a file that was moved be used again; say whether it was."""
    engine = create_engine(source, "BEGIN IMMEDIATE")
    try:
        with plain_errors(), engine.begin() as session:
            was_moved = stored_settings.find(session, MOVED_TO) is not None
            stored_settings.delete(session, MOVED_TO)
            return was_moved
    finally:
        engine.dispose()


@dataclass(frozen=True, slots=True)
class _Position:
    """How far a table has come: the key of the row that was copied last, and how many rows were."""

    after: Sequence[AnyValue] | None = None
    rows: int = 0

    @classmethod
    def of(cls, session: Session, table: Table) -> _Position:
        state = stored_settings.find(session, _name_of_position(table))
        return cls(**json.loads(state)) if state else cls()

    def put(self, session: Session, table: Table) -> None:
        state = json.dumps({"after": self.after, "rows": self.rows})
        stored_settings.put(session, _name_of_position(table), state)


def _name_of_position(table: Table) -> str:
    return f"{MOVING}: {table.name}"


def _counted(table: Table) -> Select[int]:
    query = select(func.count()).select_from(table)
    return query.where(setting_table.c.name.not_in(_OWN_SETTINGS)) if table is setting_table else query


def _rows_after(session: Session, table: Table, after: Sequence[AnyValue] | None) -> list[Mapping[str, AnyValue]]:
    keys = list(table.primary_key)
    query = select(table).order_by(*keys).limit(_ROWS)
    if table is setting_table:
        query = query.where(setting_table.c.name.not_in(_OWN_SETTINGS))
    if after is not None:
        query = query.where(tuple_(*keys) > tuple_(*after))
    return [dict(row._mapping) for row in session.execute(query)]


def _insert(session: Session, table: Table, rows: Sequence[Mapping[str, AnyValue]]) -> None:
    """Copy rows by COPY, several times as fast as inserts. Raises `StoreError` for what a server cannot hold."""
    import psycopg  # of the extra `cluster`

    names = [column.name for column in table.columns]
    columns = ", ".join(f'"{name}"' for name in names)
    cursor = session.connection.cursor()
    try:
        with cursor.copy(f'COPY "{table.name}" ({columns}) FROM STDIN') as copy:
            for row in rows:
                copy.write_row([row[name] for name in names])
    except (psycopg.Error, ValueError) as error:
        # the driver's own errors, which quote rows
        raise _unfit(table, rows) or StoreError(
            f"table {table.name} could not be copied ({type(error).__name__}): run the command again, and it goes on"
        ) from None
    finally:
        cursor.close()


def _unfit(table: Table, rows: Sequence[Mapping[str, AnyValue]]) -> StoreError | None:
    """Name the row that holds a zero byte, which PostgreSQL takes in no text."""
    for row in rows:
        for name, value in row.items():
            if isinstance(value, str) and "\0" in value:
                key = ", ".join(str(row[column.name])[:60] for column in table.primary_key)
                return StoreError(f"table {table.name}, row {key!r}: {name} holds a zero byte, which no server takes")
    return None


def _content(session: Session, table: Table) -> Content:
    """Read a table whole."""
    names = [column.name for column in table.columns]
    rows = hashes = 0
    query = select(table)
    if table is setting_table:
        query = query.where(setting_table.c.name.not_in(_OWN_SETTINGS), setting_table.c.name.not_like(f"{MOVING}: %"))
    for row in session.execute(query, execution_options={"yield_per": _ROWS}):
        values = row._mapping
        line = json.dumps([values[name] for name in names], ensure_ascii=False).encode("utf-8", "surrogatepass")
        hashes = (hashes + int.from_bytes(hashlib.blake2b(line, digest_size=16).digest())) % _BITS
        rows += 1
    return Content(rows, hashes)
