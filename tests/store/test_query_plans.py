"""What is asked again and again goes by the index over what is open: it costs what waits, not what is stored."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy

from connectors.store import ledger, queries
from connectors.store.engine import Transaction
from connectors.store.queries.receipts import ListedReceipts, ReceiptKind
from tests.installation import Installation

pytestmark = pytest.mark.embedded

QUERIES: dict[str, Callable[[Transaction], object]] = {
    "the load": lambda tx: queries.load.load(tx, embedded=True),
    "what is due": queries.due.kinds,
    "what to send": lambda tx: ledger.delivery_queue.due(tx, 1000),
    "whose is to be sent": lambda tx: ledger.delivery_queue.due_businesses(tx, 1000),
    "whether there is something to send": lambda tx: ledger.delivery_queue.is_busy(tx, None),
    "what was sent in the future": ledger.operations.correct_future,
    "what is in doubt": lambda tx: ledger.operations.lease_uncertain(tx, 200),
}


async def plan_of(installation: Installation, query: Callable[[Transaction], object]) -> list[str]:
    """The steps by which SQLite would run the statements of a query."""

    def plans(tx: Transaction) -> list[str]:
        statements: list[tuple[str, object]] = []
        listen = sqlalchemy.event.listens_for(tx.session, "before_cursor_execute")
        listen(lambda _c, _k, statement, parameters, *_: statements.append((statement, parameters)))
        query(tx)
        return [
            str(row[3])
            for statement, parameters in list(statements)
            for row in tx.session.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)  # type: ignore[arg-type]
        ]

    return await installation.host.store.read(plans)


async def test_numbers_read_the_receipts_of_their_days_and_no_others(installation: Installation) -> None:
    days = ("2026-11-01", "2026-11-27")
    plan = await plan_of(installation, lambda tx: queries.numbers.quarter_hours(tx, "c", *days, "EUR"))
    assert any("ix_sale_connection_closed (connection_id=? AND closed_at>? AND closed_at<?)" in step for step in plan)


async def test_a_connections_page_counts_what_nobody_has_among_todays_receipts_only(installation: Installation) -> None:
    plan = await plan_of(installation, lambda tx: queries.days.recent_days(tx, "c", "2026-11-01", (1, 2)))
    reads = [step for step in plan if "sale" in step]
    assert reads
    assert all("closed_at>? AND closed_at<?" in step for step in reads), plan


LISTS = {
    ReceiptKind.all: {"ix_sale_connection_closed"},
    ReceiptKind.paid: {"ix_sale_connection_closed"},
    ReceiptKind.nobody: {"ix_sale_customer"},
    ReceiptKind.refunded: {"ix_sale_refunded", "ix_sale_voided"},
    ReceiptKind.by_hand: {"ix_sale_by_hand"},
}


@pytest.mark.parametrize("kind", LISTS)
async def test_a_list_of_receipts_reads_what_it_shows_and_sorts_nothing_else(
    installation: Installation, kind: ReceiptKind
) -> None:
    asked = ListedReceipts(kind)
    plan = await plan_of(installation, lambda tx: queries.receipts.listed(tx, "c", asked, 50))
    assert {index for index in LISTS[kind] if any(f"USING INDEX {index} " in step for step in plan)} == LISTS[kind], (
        plan
    )
    assert not any(step.startswith("SCAN sale") for step in plan), plan


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
async def test_no_look_reads_all_operations(installation: Installation, query: Callable[[Transaction], object]) -> None:
    plan = await plan_of(installation, query)
    assert any("ix_operation_open" in step for step in plan)
    # a scan of a partial index reads what it holds; one of all operations of a connection reads what is stored
    assert "SCAN operation" not in plan
    assert [step for step in plan if "ix_operation_connection" in step] == []
