"""Commands that another process leaves to the running host: asked, claimed, and answered through the database.

Owns the table `errand`, whose parameters, progress and results are JSON as it was given; which kinds of command there
are, and what their parameters and results mean, is `connectors.services.commands`'.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from pydantic import JsonValue
from sqlalchemy import and_, or_, select

from connectors.domain.clock import DAY, SECOND
from connectors.domain.events import Wakeup
from connectors.store.engine import Transaction
from connectors.store.query_parts import AnyRow, claiming
from connectors.store.schema import errand_table

JsonObject = Mapping[str, JsonValue]
_CLAIM_PATIENCE = 60 * SECOND
_KEEP_FOR = 7 * DAY
_STOPPED = json.dumps({"error": "the host was stopped meanwhile"})


class CommandState(StrEnum):
    """How far a command has come; a host moves it on, and nothing leaves `done` or `failed`."""

    asked = "asked"
    """Another process asks for it: the host claims it, or the next host says that it failed."""
    running = "running"
    """The host has claimed it and reports its progress."""
    done = "done"
    """It ended, and its result is stored."""
    failed = "failed"
    """It was refused or raised, or its host was stopped: the result is `{"error": …}`."""


@dataclass(frozen=True, slots=True)
class HostCommand:
    """One row; `result` is set once it is `done`, or holds `{"error": …}` for a failed one."""

    id: str
    connection_id: str
    """The connection it is about; empty for one that concerns the whole installation."""
    kind: str
    params: JsonObject
    state: CommandState
    progress: JsonObject | None
    result: JsonObject | None


class Asked(NamedTuple):
    """A command's id, and whether it was asked for just now."""

    id: str
    is_new: bool


def _command_of(row: AnyRow) -> HostCommand:
    return HostCommand(
        row.id,
        row.connection_id,
        row.kind,
        json.loads(row.params),
        CommandState(row.state),
        json.loads(row.progress) if row.progress else None,
        json.loads(row.result) if row.result else None,
    )


def ask(tx: Transaction, connection_id: str, kind: str, params: JsonObject) -> str:
    """Ask the running host for a command and return the command's id; rows that nobody waits for any more go."""
    command_id = secrets.token_hex(6)
    tx.run(errand_table.delete().where(errand_table.c.updated_at < tx.now - _KEEP_FOR))
    tx.run(
        errand_table.insert(),
        [
            {
                "id": command_id,
                "connection_id": connection_id,
                "kind": kind,
                "params": json.dumps(params),
                "state": CommandState.asked,
                "created_at": tx.now,
                "updated_at": tx.now,
            }
        ],
    )
    tx.wakeups.add(Wakeup.commands)
    return command_id


def ask_alone(tx: Transaction, connection_id: str, kind: str, params: JsonObject) -> Asked:
    """Ask for a command as `ask` does, or return the one of this kind that is still to be done for the connection."""
    tx.alone(f"command {kind}", connection_id)
    under_way = unfinished(tx, connection_id, kind)
    return Asked(under_way or ask(tx, connection_id, kind, params), is_new=under_way is None)


def claim(tx: Transaction) -> list[HostCommand]:
    """Take all commands that are asked for, oldest first; they are `running` from now on."""
    asked = errand_table.c.state == CommandState.asked
    rows = tx.run(claiming(select(errand_table).where(asked).order_by(errand_table.c.created_at), errand_table)).all()
    if rows:
        claimed = errand_table.c.id.in_([row.id for row in rows])
        tx.run(errand_table.update().where(claimed).values(state=CommandState.running, updated_at=tx.now))
    return [_command_of(row) for row in rows]


def unfinished_ids(tx: Transaction, limit: int) -> list[str]:
    """List the ids of commands that have not ended, oldest first.

    Also of those that are being done: the worker that did one may have been stopped. Whoever does one whose worker is
    still there waits for it, and then finds it ended.
    """
    is_open = errand_table.c.state.in_([CommandState.asked, CommandState.running])
    query = select(errand_table.c.id).where(is_open).order_by(errand_table.c.created_at)
    return list(tx.run(query.limit(limit)).scalars())


def begin(tx: Transaction, command_id: str) -> HostCommand | None:
    """Mark a command as running, also one whose worker died while it did it; `None` where it has ended, or is gone."""
    is_open = (errand_table.c.id == command_id) & errand_table.c.state.in_([CommandState.asked, CommandState.running])
    begun = errand_table.update().where(is_open).values(state=CommandState.running, updated_at=tx.now)
    row = tx.run(begun.returning(errand_table)).first()
    return _command_of(row) if row is not None else None


def report_progress(tx: Transaction, command_id: str, progress: JsonObject) -> None:
    """Store how far a running command has come."""
    values = {"progress": json.dumps(progress), "updated_at": tx.now}
    tx.run(errand_table.update().where(errand_table.c.id == command_id).values(values))


def finish(tx: Transaction, command_id: str, state: CommandState, result: JsonObject) -> None:
    """End a command as `done` with its result, or as `failed` with `{"error": …}`."""
    values = {"state": state, "result": json.dumps(result), "updated_at": tx.now}
    tx.run(errand_table.update().where(errand_table.c.id == command_id).values(values))


def get(tx: Transaction, command_id: str) -> HostCommand:
    """Return a command that was asked for."""
    return _command_of(tx.run(select(errand_table).where(errand_table.c.id == command_id)).one())


def find(tx: Transaction, command_id: str) -> HostCommand | None:
    """Return a command, for a week after it ended; `None` where there is none of that id."""
    row = tx.run(select(errand_table).where(errand_table.c.id == command_id)).first()
    return _command_of(row) if row is not None else None


def newest(tx: Transaction, connection_id: str, kind: str) -> HostCommand | None:
    """Return the last command of this kind for a connection, for a week after it ended."""
    mine = (errand_table.c.connection_id == connection_id) & (errand_table.c.kind == kind)
    # rows go when somebody asks for another command, which may be much later
    mine &= errand_table.c.updated_at > tx.now - _KEEP_FOR
    row = tx.run(select(errand_table).where(mine).order_by(errand_table.c.created_at.desc()).limit(1)).first()
    return _command_of(row) if row is not None else None


def unfinished(tx: Transaction, connection_id: str, kind: str) -> str | None:
    """Return the id of a command of this kind that is still to be done for a connection, if there is one."""
    is_open = errand_table.c.state.in_([CommandState.asked, CommandState.running])
    mine = (errand_table.c.connection_id == connection_id) & (errand_table.c.kind == kind) & is_open
    return tx.run(select(errand_table.c.id).where(mine).limit(1)).scalar()


def abandon(tx: Transaction) -> None:
    """Fail the commands that a host left running when it ended: whoever waits may ask again.

    So are those that no host claimed in a minute. Younger ones stay asked: the host that calls this claims them.
    """
    unclaimed = and_(errand_table.c.state == CommandState.asked, errand_table.c.created_at < tx.now - _CLAIM_PATIENCE)
    tx.run(
        errand_table.update()
        .where(or_(errand_table.c.state == CommandState.running, unclaimed))
        .values(state=CommandState.failed, result=_STOPPED, updated_at=tx.now)
    )


def is_any_asked(tx: Transaction) -> bool:
    """Return whether somebody waits for a command; a cheap look before the write lock is taken."""
    asked = errand_table.c.state == CommandState.asked
    return tx.run(select(errand_table.c.id).where(asked).limit(1)).first() is not None
