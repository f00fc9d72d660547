"""TODO docstring."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, or_, select

from connectors.domain.clock import DAY, SECOND
from connectors.store.engine import Transaction
from connectors.store.schema import errand_table

_PATIENCE = 60 * SECOND


@dataclass(frozen=True, slots=True)
class HostCommand:
    """`state` is asked, running, done or failed; `result` holds `{"error": …}` for a failed one."""

    id: str
    connection_id: str
    kind: str
    params: Mapping[str, Any]
    state: str
    progress: Mapping[str, Any] | None
    result: Mapping[str, Any] | None


def _command(row: Any) -> HostCommand:
    return HostCommand(
        row.id,
        row.connection_id,
        row.kind,
        json.loads(row.params),
        row.state,
        json.loads(row.progress) if row.progress else None,
        json.loads(row.result) if row.result else None,
    )


def ask(tx: Transaction, connection_id: str, kind: str, params: Mapping[str, Any]) -> str:
    """Ask for an errand; its id."""
    one = secrets.token_hex(6)
    tx.run(errand_table.delete().where(errand_table.c.updated_at < tx.now - 7 * DAY))
    tx.run(
        errand_table.insert(),
        [
            {
                "id": one,
                "connection_id": connection_id,
                "kind": kind,
                "params": json.dumps(params),
                "state": "asked",
                "created_at": tx.now,
                "updated_at": tx.now,
            }
        ],
    )
    return one


def claim(tx: Transaction) -> list[HostCommand]:
    """Take all errands that are asked for."""
    rows = tx.run(select(errand_table).where(errand_table.c.state == "asked").order_by(errand_table.c.created_at)).all()
    if rows:
        tx.run(
            errand_table.update()
            .where(errand_table.c.id.in_([row.id for row in rows]))
            .values(state="running", updated_at=tx.now)
        )
    return [_command(row) for row in rows]


def report_progress(tx: Transaction, errand_id: str, now: Mapping[str, Any]) -> None:
    tx.run(
        errand_table.update().where(errand_table.c.id == errand_id).values(progress=json.dumps(now), updated_at=tx.now)
    )


def finish(tx: Transaction, errand_id: str, state: str, result: Mapping[str, Any]) -> None:
    tx.run(
        errand_table.update()
        .where(errand_table.c.id == errand_id)
        .values(state=state, result=json.dumps(result), updated_at=tx.now)
    )


def get(tx: Transaction, errand_id: str) -> HostCommand:
    return _command(tx.run(select(errand_table).where(errand_table.c.id == errand_id)).one())


def abandon(tx: Transaction) -> None:
    """Errands that a host left running when it ended are said to have failed: whoever waits may ask again."""
    tx.run(
        errand_table.update()
        .where(
            or_(
                errand_table.c.state == "running",
                and_(errand_table.c.state == "asked", errand_table.c.created_at < tx.now - _PATIENCE),
            )
        )
        .values(state="failed", result=json.dumps({"error": "the host was stopped meanwhile"}), updated_at=tx.now)
    )


def is_any_asked(tx: Transaction) -> bool:
    """Whether somebody waits for an errand; a cheap look before the write lock."""
    return tx.run(select(errand_table.c.id).where(errand_table.c.state == "asked").limit(1)).first() is not None
