"""What a person does in the console holds against everything a till says later: claims, pauses, retries, sums."""

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
from connectors.store.errors import NotFound
from connectors.sync.ingest import Outcome, Snapshot, Source
from tests.town import ANNA, BORYS, KEY, Town


async def page_of(town: Town, receipt: int | str) -> str:
    one = town.connection
    found = await town.host.store.read(
        lambda tx: queries.receipts.search(tx, one, [queries.receipts.SearchTerm(receipt=str(receipt))])
    )
    return found[0].id


async def card(town: Town, phone: str) -> str:
    assert town.host.sevenstamp is not None
    return (await town.host.sevenstamp.with_key(KEY).issue_card(phone=phone)).id


async def give(town: Town, receipt: int | str, phone: str, by: str = "anna") -> int:
    one = await town.host.services.connections.get(town.connection.id)
    found, name = await town.host.services.review.find_card(one, phone)
    return await town.host.services.by(by).review.give_stamps(one, await page_of(town, receipt), found, name)


async def sums_are_true(town: Town, *ids: str) -> None:
    wanted = list(ids or [town.connection.id])
    kept = await town.host.store.read(lambda tx: ledger.daily_totals.of_days(tx, wanted, ""))

    def recount(tx: Any) -> Any:
        for one in wanted:
            ledger.daily_totals.recount(tx, one)
        return ledger.daily_totals.of_days(tx, wanted, "")

    true = await town.host.store.write(recount)
    nothing = ledger.daily_totals.DayTotals()
    assert {one: {d: t for d, t in days.items() if t != nothing} for one, days in kept.items()} == true


async def test_a_receipt_given_by_hand_is_given_once_and_no_till_undoes_it(town: Town) -> None:
    await town.connect()
    receipt = town.cafe.sell()
    await town.sync()
    await card(town, ANNA)
    assert await give(town, receipt, ANNA) == 1
    with pytest.raises(Refusal, match="has a card already"):
        await give(town, receipt, ANNA)
    await town.sync()
    town.cafe.attach(receipt, town.cafe.client(BORYS))
    await town.sync()
    assert (town.stamps(ANNA), town.stamps(BORYS)) == (1, 0)
    lines = await town.host.store.read(lambda tx: ledger.journal.of_connection(tx, town.connection.id))
    assert [line.by for line in lines if line.message.id == "sale.claimed"] == ["anna"]
    town.cafe.refund(receipt)
    await town.sync()
    assert (town.stamps(ANNA), town.stamps(BORYS)) == (0, 0)
    await sums_are_true(town)


async def test_what_waited_for_a_card_can_be_given_to_another(town: Town) -> None:
    await town.connect(StampRule(unknown_customer=UnknownCustomer.hold))
    receipt = town.cafe.sell(town.cafe.client(BORYS))
    await town.sync()
    await card(town, ANNA)
    await give(town, receipt, ANNA)
    await card(town, BORYS)  # too late: it is Anna's
    await town.sync()
    await town.sync()
    assert (town.stamps(ANNA), town.stamps(BORYS)) == (1, 0)


async def test_a_claim_whose_card_is_gone_can_be_made_again_and_goes_to_nobody_else(town: Town) -> None:
    await town.connect()
    receipt = town.cafe.sell()
    await town.sync()
    anna = await card(town, ANNA)
    await card(town, BORYS)
    await give(town, receipt, ANNA)
    town.cafe.attach(receipt, town.cafe.client(BORYS))
    state = town.sevenstamp.state
    state.by_name = {name: one for name, one in state.by_name.items() if one.id != anna}
    del state.cards[anna]
    await town.sync()
    await town.sync()
    assert town.applied("stamps_added") == []
    assert any("given to another" in line for line in await town.journal())
    assert await give(town, receipt, BORYS) == 1
    await town.sync()
    assert town.stamps(BORYS) == 1


async def test_stamps_taken_back_because_the_customer_was_taken_off_can_be_given(town: Town) -> None:
    await town.connect()
    await card(town, BORYS)
    receipt = town.cafe.sell(town.cafe.client(ANNA))
    await town.sync()
    town.cafe.attach(receipt, 0)
    await town.sync()
    assert town.stamps(ANNA) == 0
    await give(town, receipt, BORYS)
    await town.sync()
    assert (town.stamps(ANNA), town.stamps(BORYS)) == (0, 1)
    await sums_are_true(town)


async def test_what_came_by_itself_in_a_pause_that_is_left_out_gives_nothing(town: Town) -> None:
    await town.connect()
    await town.sync()
    await card(town, ANNA)
    await town.host.services.connections.pause(town.connection.id)
    one = await town.host.services.connections.get(town.connection.id)
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
    assert await town.host.ingestor.ingest([Snapshot(one, pushed, Source.push, None)]) == [Outcome.stored]
    town.cafe.sell(town.cafe.client(ANNA))
    await town.host.services.connections.resume(one.id, leave_out=True)
    await town.sync()
    corrected = pushed.model_copy(update={"version": 8, "paid": Money(6000, "UAH")})
    await town.host.ingestor.ingest(
        [Snapshot(await town.host.services.connections.get(one.id), corrected, Source.push, None)]
    )
    await town.sync()
    assert town.applied("stamps_added", "voucher_redeemed") == []
    assert any("in a pause whose receipts were left out" in line for line in await town.journal())
    await sums_are_true(town)
    receipt = town.cafe.sell(town.cafe.client(ANNA))
    await town.sync()
    assert town.stamps(ANNA) == 1, receipt
    with pytest.raises(Refusal, match="not paused"):
        await town.host.services.connections.resume(one.id)


async def test_a_pause_that_is_not_left_out_gives_what_was_missed(town: Town) -> None:
    await town.connect()
    await town.sync()
    await town.host.services.connections.pause(town.connection.id)
    town.cafe.sell(town.cafe.client(ANNA))
    assert await town.host.services.sync.count_since_pause(
        await town.host.services.connections.get(town.connection.id)
    ) == (1, 1)
    await town.host.services.connections.resume(town.connection.id)
    await town.sync()
    assert town.stamps(ANNA) == 1


async def test_the_days_sums_follow_receipts_that_move_and_connections_that_come_again(town: Town) -> None:
    main = await town.connect(locations=["1"])
    await town.connect(locations=["2"])
    terrace = town.connection
    receipt = town.cafe.sell(town.cafe.client(ANNA))
    await town.host.services.sync.run(main.id)
    town.cafe.receipts[receipt]["spot_id"] = "2"
    town.cafe.correct(receipt, 2900)
    await town.host.services.sync.run(terrace.id)
    await town.host.services.sync.run(main.id)
    await sums_are_true(town, main.id, terrace.id)
    await town.host.services.connections.remove(terrace.id)
    await town.connect(locations=["2"])
    await sums_are_true(town, main.id, terrace.id, town.connection.id)


async def test_an_answer_that_comes_after_another_connection_took_over_counts_there(town: Town) -> None:
    await town.connect()
    town.cafe.sell(town.cafe.client(ANNA))
    former = town.connection.id
    for turn in await town.host.store.write(lambda tx: connections.schedule.claim_polls(tx, 1, former)):
        await town.host.reader.poll(turn)
    assert town.host.identifier is not None
    await town.host.identifier.round(former)
    sent = await town.host.store.write(
        lambda tx: ledger.operations.claim(tx, [one.id for one in ledger.delivery_queue.due(tx, 10)])
    )
    await town.host.services.connections.remove(former)
    await town.connect()
    await town.host.store.write(
        lambda tx: ledger.operations.settle(tx, [ledger.operations.Verdict(one, State.applied) for one in sent])
    )
    await sums_are_true(town, former, town.connection.id)
    assert any("1 stamp is on the card" in line for line in await town.journal())


async def test_every_try_and_its_answer_is_told_also_after_a_doubt(town: Town) -> None:
    await town.connect()
    town.cafe.sell(town.cafe.client(ANNA))
    town.sevenstamp.faults = Faults(drop_after=1.0)
    await town.sync()
    town.sevenstamp.faults = Faults()

    async with asyncio.timeout(15):
        while (await town.operations())[0].state != "applied":
            await town.sync()
            await asyncio.sleep(0.1)
    sale = (await town.operations())[0].sale_id
    (history, *_others) = await town.host.store.read(lambda tx: queries.operations.of_sale(tx, sale))
    assert history.attempts[-1].state == "applied"


async def test_a_retry_is_journalled_by_name(town: Town) -> None:
    await town.connect()
    town.cafe.sell(town.cafe.client(ANNA), comment="FREECOFFEE9")
    await town.sync()
    rejected = next(one for one in await town.operations() if one.state == "rejected")
    await town.host.services.by("borys").review.retry(town.connection.id, rejected.id)
    lines = await town.host.store.read(lambda tx: ledger.journal.of_connection(tx, town.connection.id))
    assert [line.by for line in lines if line.message.id == "operation.retried"] == ["borys"]


async def test_nobody_elses_writes_fail_with_mine(town: Town) -> None:
    """Many write at once in one transaction; what one of them asks for and is not there concerns only that one."""
    await town.connect()

    def wrong(tx: Any) -> None:
        ledger.operations.get(tx, town.connection.id, "nope")

    def right(tx: Any) -> int:
        return connections.registry.count(tx)

    def worse(_tx: Any) -> None:
        raise StopIteration

    with pytest.raises(RuntimeError):
        await town.host.store.write(worse)
    done = await asyncio.gather(
        *(town.host.store.write(wrong if n % 2 else right) for n in range(200)), return_exceptions=True
    )
    assert all(isinstance(one, NotFound) if n % 2 else one == 1 for n, one in enumerate(done))


async def test_an_email_that_cannot_be_written_does_not_silence_the_others(town: Town) -> None:
    await town.connect()
    await town.host.services.connections.edit(town.connection.id, {}, title="Cafe\r\nBcc: everybody@example.com")
    assert (await town.host.services.connections.get(town.connection.id)).title == "Cafe Bcc: everybody@example.com"


def _pushed(**more: Any) -> Sale:
    facts: dict[str, Any] = {
        "receipt_id": "P1",
        "version": 7,
        "status": SaleStatus.closed,
        "closed_at": datetime.now(UTC),
        "paid": Money(5000, "UAH"),
        "refunded": Money(0, "UAH"),
        "location_id": "1",
    }
    return Sale(**(facts | more))


async def test_a_pause_that_is_left_out_issues_no_card_and_keeps_what_was_given_by_hand(town: Town) -> None:
    await town.connect()
    await town.sync()
    await town.host.services.connections.pause(town.connection.id)
    one = await town.host.services.connections.get(town.connection.id)
    await town.host.ingestor.ingest([Snapshot(one, _pushed(customer=Customer(phone=BORYS)), Source.push, None)])
    await town.host.ingestor.ingest([Snapshot(one, _pushed(receipt_id="P2"), Source.push, None)])
    await card(town, ANNA)
    await give(town, "P2", ANNA)
    await town.host.services.connections.resume(one.id, leave_out=True)
    await town.sync()
    assert [one.phone for one in town.sevenstamp.state.cards.values()] == [ANNA]
    assert town.stamps(ANNA) == 1


async def test_giving_up_one_customers_stamps_does_not_stop_the_search_for_anothers(town: Town) -> None:
    await town.connect(StampRule(unknown_customer=UnknownCustomer.hold))
    receipt = town.cafe.sell(town.cafe.client(ANNA))
    await town.sync()
    await card(town, BORYS)
    town.cafe.attach(receipt, town.cafe.client(BORYS))
    for turn in await town.host.store.write(lambda tx: connections.schedule.claim_polls(tx, 1, town.connection.id)):
        await town.host.reader.poll(turn)
    held = next(one for one in await town.operations() if one.state == "held")
    await town.host.services.review.dismiss(town.connection.id, held.id)
    await town.sync()
    assert town.stamps(BORYS) == 1
