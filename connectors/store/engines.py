"""How connections to each kind of database are made, and what each one's errors mean.

Owns what differs between SQLite and PostgreSQL at the driver; `engine` has the threads and transactions.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec

import sqlalchemy
from sqlalchemy import Connection as Session
from sqlalchemy import Engine, event
from sqlalchemy.engine import make_url

from connectors.store.durability import keep_commits
from connectors.store.errors import Conflict, StoreBusy, StoreError, Unusable

BUSY_MILLISECONDS = 15_000
"""How long a statement waits for another process' lock before it gives up."""
_IDLE_MILLISECONDS = 60_000
"""After this a server ends a transaction whose process does nothing, for example because it is stopped."""
_CONNECT_SECONDS = 5
_KEEPALIVES = {"idle": 5, "interval": 2, "count": 3}
"""After so many seconds of silence the other side is asked whether it is there, so often before it is given up."""
_UNHEARD_MILLISECONDS = 10_000
"""After this a connection ends whose other side does not acknowledge what it was sent."""
# PostgreSQL's codes: deadlock, could not serialise; a server that ends, ended or begins; one that waited in vain for us
_CONFLICTS = ("40P01", "40001")
_GOING = ("57P01", "57P02", "57P03")
_STOOD_STILL = "25P03"
_CANCELLED = "57014"


def create_engine(url: str, begin: str) -> Engine:
    """Create an engine; on SQLite its transactions open with the statement `begin`. Raises `StoreError`."""
    # what a statement was given may be anybody's: it has no place in an error's text
    if make_url(url).get_backend_name() != "sqlite":
        if any(find_spec(package) is None for package in ("psycopg", "procrastinate")):
            raise StoreError(
                "a database server needs psycopg and procrastinate: install what requirements-cluster.lock names"
            )
        engine = sqlalchemy.create_engine(
            url,
            hide_parameters=True,
            # an insert that meets a row says so by its count, which the driver drops without this
            execution_options={"preserve_rowcount": True},
            connect_args=server_arguments("7stamp connectors"),
        )
        event.listen(engine, "connect", lambda connection, _record: keep_commits(connection))
        return engine
    engine = sqlalchemy.create_engine(
        url, hide_parameters=True, connect_args={"timeout": BUSY_MILLISECONDS / 1000, "check_same_thread": False}
    )

    @event.listens_for(engine, "connect")
    def _set_pragmas(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves
        connection.execute(f"PRAGMA busy_timeout={BUSY_MILLISECONDS}")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")  # committed is on disk, also when the power fails
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA secure_delete=ON")  # what is deleted is overwritten, not only let go

    @event.listens_for(engine, "begin")
    def _begin(session: Session) -> None:
        session.exec_driver_sql(begin)

    return engine


def server_arguments(application: str) -> Mapping[str, str | int]:
    """Return how to connect to a server as `application`, by the names that libpq has for it.

    A network that is cut is noticed within seconds, not hours, on both sides: a server that does not know that a client
    is gone keeps its rows locked, and nobody else can write them.
    """
    ours = {f"keepalives_{name}": value for name, value in _KEEPALIVES.items()}
    settings = {
        "lock_timeout": BUSY_MILLISECONDS,
        "idle_in_transaction_session_timeout": _IDLE_MILLISECONDS,
        **{f"tcp_keepalives_{name}": value for name, value in _KEEPALIVES.items()},
        "tcp_user_timeout": _UNHEARD_MILLISECONDS,
    }
    return {
        "connect_timeout": _CONNECT_SECONDS,
        "application_name": application,
        "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
        **ours,
        "tcp_user_timeout": _UNHEARD_MILLISECONDS,
    }


@contextmanager
def plain_errors(*, at_commit: bool = False) -> Iterator[None]:
    """Turn what a database says of itself into a sentence without the statement (which may hold anything).

    A connection that is lost `at_commit` leaves open whether there was one: such work is not tried again here.
    """
    try:
        yield
    except sqlalchemy.exc.IntegrityError:
        raise  # some callers expect a row that exists
    except (sqlalchemy.exc.DataError, sqlalchemy.exc.ProgrammingError) as error:
        # a value of one of many jobs: not `Unusable`, so that the others are committed without it
        raise ValueError(f"the database takes no such value: {type(error.orig).__name__}") from None
    except sqlalchemy.exc.DatabaseError as error:
        raise _database_error(error, at_commit=at_commit) from None


def _database_error(error: sqlalchemy.exc.DatabaseError, *, at_commit: bool) -> Unusable:
    """Return the error that says what a database's refusal to work means."""
    if isinstance(error.orig, sqlite3.Error):
        return _of_reason(str(error.orig))
    code = getattr(error.orig, "sqlstate", None)
    if code in _CONFLICTS:
        return Conflict("other changes of the same receipts stood in the way: try again")
    if code == _STOOD_STILL:  # also as the answer to a commit: that came too late
        return Conflict("the database server ended a transaction of ours, because this process stood still: try again")
    if code == _CANCELLED:
        return Conflict("what waited was given up, as somebody asked the database server: try again")
    # what the driver itself says of a connection has no code of the server's
    if code in _GOING or (code is None and isinstance(error, sqlalchemy.exc.OperationalError)):
        unreachable = "the database server cannot be reached, or is restarting: everything waits until it is back"
        return Unusable(unreachable) if at_commit else Conflict(unreachable)
    return _of_reason(str(error.orig))


def _of_reason(reason: str) -> Unusable:
    """Return the error for what a database says in words."""
    # the driver's own messages end in a line with the statement's place
    reason = reason.partition("\n")[0]
    if "locked" in reason or "busy" in reason or "lock timeout" in reason:
        return StoreBusy("the database is locked by another process: try again when it is done")
    if "full" in reason or "No space left" in reason:
        return StoreBusy("the disk is full: nothing was written; make room and try again")
    if "readonly" in reason or "read-only" in reason:
        return Unusable(
            "the database can only be read: see who owns its file and folder, or whether its server is a standby"
        )
    return Unusable(f"the database cannot be used: {reason}")
