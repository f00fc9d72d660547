"""What a person decides holds against everything a till says later: assigned cards, pauses, retries, and totals."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from connector_sdk import Money, Sale, SaleStatus
from connector_sdk.rule import StampRule, UnknownCustomer
from connector_sdk.sale import Customer
from connectors.domain.operation import State
from connectors.services import Refusal
from connectors.sevenstamp.sandbox import Faults
from connectors.store import connections, ledger, queries
from connectors.store.engine import Transaction
from connectors.store.errors import NotFound
from connectors.sync.ingest import Outcome, Snapshot, Source
from tests.installation import ANNA, BORYS, KEY, Installation


async def sale_id_of(installation: Installation, receipt: int | str) -> str:
    term = queries.receipts.SearchTerm(receipt=str(receipt))
    matches = await installation.host.store.read(
        lambda tx: queries.receipts.search(tx, installation.connection, [term])
    )
    return matches[0].id


async def issue_card(installation: Installation, phone: str) -> str:
    """Issue a card at 7stamp; return its id."""
    assert installation.host.sevenstamp is not None
    return (await installation.host.sevenstamp.with_key(KEY).issue_card(phone=phone)).id


async def assign_card(installation: Installation, receipt: int | str, phone: str, by: str = "anna") -> int:
    """Give a receipt's stamps to the card of a phone, as a person does in the console; return how many."""
    connection = await installation.host.services.connections.get(installation.connection.id)
    card, name = await installation.host.services.review.find_card(connection, phone)
    sale_id = await sale_id_of(installation, receipt)
    return await installation.host.services.by(by).review.give_stamps(connection, sale_id, card, name)


async def assert_totals_are_true(installation: Installation, *ids: str) -> None:
    """Assert that the daily totals, which every change adds to, are what counting everything anew gives."""
    connection_ids = list(ids or [installation.connection.id])
    added_up = await installation.host.store.read(lambda tx: ledger.daily_totals.of_days(tx, connection_ids, ""))

    def recount(tx: Transaction) -> dict[str, dict[str, ledger.daily_totals.DayTotals]]:
        for connection_id in connection_ids:
            ledger.daily_totals.recount(tx, connection_id)
        return ledger.daily_totals.of_days(tx, connection_ids, "")

    recounted = await installation.host.store.write(recount)
    nothing = ledger.daily_totals.DayTotals()
    assert {
        connection_id: {day: totals for day, totals in days.items() if totals != nothing}
        for connection_id, days in added_up.items()
    } == recounted


async def test_a_card_is_assigned_to_a_receipt_once_and_no_till_undoes_it(installation: Installation) -> None:
    await installation.connect()
    receipt = installation.cafe.sell()
    await installation.sync()
    await issue_card(installation, ANNA)
    assert await assign_card(installation, receipt, ANNA) == 1
    with pytest.raises(Refusal, match="has a card already"):
        await assign_card(installation, receipt, ANNA)
    await installation.sync()
    installation.cafe.attach(receipt, installation.cafe.client(BORYS))
    await installation.sync()
    assert (installation.stamps(ANNA), installation.stamps(BORYS)) == (1, 0)
    lines = await installation.host.store.read(lambda tx: ledger.journal.of_connection(tx, installation.connection.id))
    assert [line.by for line in lines if line.message.id == "sale.claimed"] == ["anna"]
    installation.cafe.refund(receipt)
    await installation.sync()
    assert (installation.stamps(ANNA), installation.stamps(BORYS)) == (0, 0)
    await assert_totals_are_true(installation)


async def test_stamps_that_wait_for_a_card_can_be_given_to_another_card(installation: Installation) -> None:
    await installation.connect(StampRule(unknown_customer=UnknownCustomer.hold))
    receipt = installation.cafe.sell(installation.cafe.client(BORYS))
    await installation.sync()
    await issue_card(installation, ANNA)
    await assign_card(installation, receipt, ANNA)
    await issue_card(installation, BORYS)  # too late: it is Anna's
    await installation.sync()
    await installation.sync()
    assert (installation.stamps(ANNA), installation.stamps(BORYS)) == (1, 0)


async def test_an_assigned_card_that_is_gone_can_be_replaced_and_nobody_else_gets_the_stamps(
    installation: Installation,
) -> None:
    await installation.connect()
    receipt = installation.cafe.sell()
    await installation.sync()
    annas_card_id = await issue_card(installation, ANNA)
    await issue_card(installation, BORYS)
    await assign_card(installation, receipt, ANNA)
    installation.cafe.attach(receipt, installation.cafe.client(BORYS))
    state = installation.sevenstamp.state
    state.by_name = {name: card for name, card in state.by_name.items() if card.id != annas_card_id}
    del state.cards[annas_card_id]
    await installation.sync()
    await installation.sync()
    assert installation.applied("stamps_added") == []
    assert any("given to another" in line for line in await installation.journal())
    assert await assign_card(installation, receipt, BORYS) == 1
    await installation.sync()
    assert installation.stamps(BORYS) == 1


async def test_stamps_taken_back_because_the_customer_was_taken_off_can_be_given(installation: Installation) -> None:
    await installation.connect()
    await issue_card(installation, BORYS)
    receipt = installation.cafe.sell(installation.cafe.client(ANNA))
    await installation.sync()
    installation.cafe.attach(receipt, 0)
    await installation.sync()
    assert installation.stamps(ANNA) == 0
    await assign_card(installation, receipt, BORYS)
    await installation.sync()
    assert (installation.stamps(ANNA), installation.stamps(BORYS)) == (0, 1)
    await assert_totals_are_true(installation)


async def test_a_hook_in_a_pause_that_is_left_out_earns_nothing(installation: Installation) -> None:
    await installation.connect()
    await installation.sync()
    await issue_card(installation, ANNA)
    await installation.host.services.connections.pause(installation.connection.id)
    connection = await installation.host.services.connections.get(installation.connection.id)
    pushed = Sale(
        receipt_id="P1",
        version=7,
        status=SaleStatus.closed,
        closed_at=datetime.now(UTC),
        paid=Money(5000, "UAH"),
        refunded=Money(0, "UAH"),
        customer=Customer(phone=ANNA),
        redeem_codes=("FREECOFFEE9",),
        location_id="1",
    )
    assert await installation.host.ingestor.ingest([Snapshot(connection, pushed, Source.push, None)]) == [
        Outcome.stored
    ]
    installation.cafe.sell(installation.cafe.client(ANNA))
    await installation.host.services.connections.resume(connection.id, leave_out=True)
    await installation.sync()
    corrected = pushed.model_copy(update={"version": 8, "paid": Money(6000, "UAH")})
    await installation.host.ingestor.ingest(
        [Snapshot(await installation.host.services.connections.get(connection.id), corrected, Source.push, None)]
    )
    await installation.sync()
    assert installation.applied("stamps_added", "voucher_redeemed") == []
    assert any("in a pause whose receipts were left out" in line for line in await installation.journal())
    await assert_totals_are_true(installation)
    receipt = installation.cafe.sell(installation.cafe.client(ANNA))
    await installation.sync()
    assert installation.stamps(ANNA) == 1, receipt
    with pytest.raises(Refusal, match="not paused"):
        await installation.host.services.connections.resume(connection.id)


async def test_a_pause_that_is_not_left_out_earns_afterwards(installation: Installation) -> None:
    await installation.connect()
    await installation.sync()
    await installation.host.services.connections.pause(installation.connection.id)
    installation.cafe.sell(installation.cafe.client(ANNA))
    assert await installation.host.services.sync.count_since_pause(
        await installation.host.services.connections.get(installation.connection.id)
    ) == (1, 1)
    await installation.host.services.connections.resume(installation.connection.id)
    await installation.sync()
    assert installation.stamps(ANNA) == 1


async def test_daily_totals_follow_receipts_that_move_and_connections_that_are_added_again(
    installation: Installation,
) -> None:
    main = await installation.connect(locations=["1"])
    await installation.connect(locations=["2"])
    terrace = installation.connection
    receipt = installation.cafe.sell(installation.cafe.client(ANNA))
    await installation.host.services.sync.run(main.id)
    installation.cafe.receipts[receipt]["spot_id"] = "2"
    installation.cafe.correct(receipt, 2900)
    await installation.host.services.sync.run(terrace.id)
    await installation.host.services.sync.run(main.id)
    await assert_totals_are_true(installation, main.id, terrace.id)
    await installation.host.services.connections.remove(terrace.id)
    await installation.connect(locations=["2"])
    await assert_totals_are_true(installation, main.id, terrace.id, installation.connection.id)


async def test_an_answer_counts_for_the_connection_that_adopted_its_operation(installation: Installation) -> None:
    await installation.connect()
    installation.cafe.sell(installation.cafe.client(ANNA))
    former = installation.connection.id
    for turn in await installation.host.store.write(lambda tx: connections.schedule.lease_polls(tx, 1, former)):
        await installation.host.reader.poll(turn)
    assert installation.host.identifier is not None
    await installation.host.identifier.round(former)
    claimed = await installation.host.store.write(
        lambda tx: ledger.operations.claim(tx, [candidate.id for candidate in ledger.delivery_queue.due(tx, 10)])
    )
    await installation.host.services.connections.remove(former)
    await installation.connect()
    await installation.host.store.write(
        lambda tx: ledger.operations.settle(
            tx, [ledger.operations.Verdict(operation, State.applied) for operation in claimed]
        )
    )
    await assert_totals_are_true(installation, former, installation.connection.id)
    assert any("1 stamp is on the card" in line for line in await installation.journal())


async def test_the_history_of_an_operation_ends_with_its_last_answer_also_after_a_doubt(
    installation: Installation,
) -> None:
    await installation.connect()
    installation.cafe.sell(installation.cafe.client(ANNA))
    installation.sevenstamp.faults = Faults(drop_after=1.0)
    await installation.sync()
    installation.sevenstamp.faults = Faults()

    async with asyncio.timeout(15):
        while (await installation.operations())[0].state != "applied":
            await installation.sync()
            await asyncio.sleep(0.1)
    sale_id = (await installation.operations())[0].sale_id
    (history, *_others) = await installation.host.store.read(lambda tx: queries.operations.of_sale(tx, sale_id))
    assert history.tries[-1].state == "applied"


async def test_a_retry_is_journalled_by_name(installation: Installation) -> None:
    await installation.connect()
    installation.cafe.sell(installation.cafe.client(ANNA), comment="FREECOFFEE9")
    await installation.sync()
    rejected = next(operation for operation in await installation.operations() if operation.state == "rejected")
    await installation.host.services.by("borys").review.retry(installation.connection.id, rejected.id)
    lines = await installation.host.store.read(lambda tx: ledger.journal.of_connection(tx, installation.connection.id))
    assert [line.by for line in lines if line.message.id == "operation.retried"] == ["borys"]


async def test_a_retry_does_not_take_back_what_is_on_the_wire(installation: Installation) -> None:
    await installation.connect()
    installation.cafe.sell(installation.cafe.client(ANNA), comment="FREECOFFEE9")
    await installation.sync()
    rejected = next(operation for operation in await installation.operations() if operation.state == "rejected")
    store = installation.host.store
    # two people read the page and press the button; in between a sender claims what the first one released
    assert await store.write(lambda tx: ledger.operations.retry(tx, rejected))
    (sending,) = await store.write(lambda tx: ledger.operations.claim(tx, [rejected.id]))
    assert not await store.write(lambda tx: ledger.operations.retry(tx, rejected))
    now = await store.read(lambda tx: ledger.operations.get(tx, installation.connection.id, rejected.id))
    assert (now.state, now.key) == ("sending", sending.key)
    await store.write(lambda tx: ledger.operations.unclaim(tx, [rejected.id]))


async def test_a_write_that_fails_fails_no_other_of_its_commit(installation: Installation) -> None:
    """Many writes share a transaction; an error of one of them is only its own."""
    await installation.connect()

    def read_unknown_operation(tx: Transaction) -> None:
        ledger.operations.get(tx, installation.connection.id, "nope")

    def count_connections(tx: Transaction) -> int:
        return connections.registry.count(tx)

    def stop_iteration(_tx: Transaction) -> None:
        raise StopIteration

    with pytest.raises(RuntimeError):
        await installation.host.store.write(stop_iteration)
    writes = [read_unknown_operation if number % 2 else count_connections for number in range(200)]
    results = await asyncio.gather(*(installation.host.store.write(write) for write in writes), return_exceptions=True)
    assert all(isinstance(result, NotFound) for result in results[1::2])
    assert results[::2] == [1] * 100


async def test_a_title_with_line_breaks_becomes_one_line(installation: Installation) -> None:
    await installation.connect()
    await installation.host.services.connections.edit(
        installation.connection.id, {}, title="Cafe\r\nBcc: everybody@example.com"
    )
    assert (
        await installation.host.services.connections.get(installation.connection.id)
    ).title == "Cafe Bcc: everybody@example.com"


def _pushed_sale(**changes: Any) -> Sale:
    facts: dict[str, Any] = {
        "receipt_id": "P1",
        "version": 7,
        "status": SaleStatus.closed,
        "closed_at": datetime.now(UTC),
        "paid": Money(5000, "UAH"),
        "refunded": Money(0, "UAH"),
        "location_id": "1",
    }
    return Sale(**(facts | changes))


async def test_a_pause_that_is_left_out_issues_no_card_and_keeps_an_assigned_one(installation: Installation) -> None:
    await installation.connect()
    await installation.sync()
    await installation.host.services.connections.pause(installation.connection.id)
    connection = await installation.host.services.connections.get(installation.connection.id)
    await installation.host.ingestor.ingest(
        [Snapshot(connection, _pushed_sale(customer=Customer(phone=BORYS)), Source.push, None)]
    )
    await installation.host.ingestor.ingest([Snapshot(connection, _pushed_sale(receipt_id="P2"), Source.push, None)])
    await issue_card(installation, ANNA)
    await assign_card(installation, "P2", ANNA)
    await installation.host.services.connections.resume(connection.id, leave_out=True)
    await installation.sync()
    assert [card.phone for card in installation.sevenstamp.state.cards.values()] == [ANNA]
    assert installation.stamps(ANNA) == 1


async def test_dismissing_one_customers_stamps_does_not_stop_the_search_for_anothers_card(
    installation: Installation,
) -> None:
    await installation.connect(StampRule(unknown_customer=UnknownCustomer.hold))
    receipt = installation.cafe.sell(installation.cafe.client(ANNA))
    await installation.sync()
    await issue_card(installation, BORYS)
    installation.cafe.attach(receipt, installation.cafe.client(BORYS))
    for turn in await installation.host.store.write(
        lambda tx: connections.schedule.lease_polls(tx, 1, installation.connection.id)
    ):
        await installation.host.reader.poll(turn)
    held = next(operation for operation in await installation.operations() if operation.state == "held")
    await installation.host.services.review.dismiss(installation.connection.id, held.id)
    await installation.sync()
    assert installation.stamps(BORYS) == 1
