"""Redeem codes encrypted: in operations, in the names of their lanes (hashed there), and in the journal."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa
from alembic import context, op

revision = "0006"
down_revision = "0005"

_AT_ONCE = 500


def upgrade() -> None:
    session = op.get_bind()
    vault = context.config.attributes["vault"]
    for rows in _batches(session, "operation", "business_id, redeem_code", "redeem_code IS NOT NULL"):
        values = [
            {
                "seq": row.seq,
                "redeem_code": vault.encrypt(row.redeem_code),
                "lane": f"voucher:{vault.hash('redeem code', row.business_id, row.redeem_code)}",
            }
            for row in rows
        ]
        session.execute(
            sa.text("UPDATE operation SET redeem_code = :redeem_code, lane = :lane WHERE seq = :seq"), values
        )
    naming = "message LIKE '[\"sale.redeems\"%' OR message LIKE '[\"operation.%.voucher_redeemed\"%'"
    for rows in _batches(session, "journal", "message", naming):
        values = [{"seq": row.seq, "message": vault.encrypt(row.message)} for row in rows]
        session.execute(sa.text("UPDATE journal SET message = :message WHERE seq = :seq"), values)
    if session.execute(sa.text("SELECT seq FROM operation WHERE redeem_code IS NOT NULL LIMIT 1")).first():
        session.execute(sa.text("INSERT INTO setting (name, value) VALUES ('rewrite', 'redeem codes')"))


def _batches(session: sa.Connection, table: str, columns: str, which: str) -> Iterator[list[sa.Row[tuple[str, ...]]]]:
    """The rows of a table by number, some at once."""
    last = -1
    query = f"SELECT seq, {columns} FROM {table} WHERE ({which}) AND seq > :last ORDER BY seq LIMIT {_AT_ONCE}"  # noqa: S608 - our own words
    while rows := list(session.execute(sa.text(query), {"last": last})):
        yield rows
        last = rows[-1].seq
