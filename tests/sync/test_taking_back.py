"""What a person gave to a card by hand is taken back by hand a moment later: no card keeps or lacks a stamp by it."""

from __future__ import annotations

import asyncio

import pytest

from connector_sdk.rule import Refunds, StampRule, UnknownCustomer
from connectors.domain.clock import DAY, MINUTE
from connectors.domain.operation import State
from connectors.domain.person import Reference
from connectors.services import Refusal
from connectors.sevenstamp.models import Card
from connectors.sevenstamp.sandbox import Faults
from connectors.store import queries
from connectors.sync.manual_card_assignment import LATER
from tests.installation import ANNA, BORYS, Installation
from tests.web.clock import MovableClock


async def _card(installation: Installation, phone: str) -> Card:
    return await installation.host.services.cards.issue_card(
        installation.connection.business_id, phone=phone, email=None
    )


async def _give(installation: Installation, sale_id: str, card: Card) -> None:
    reference = Reference("number", card.number)
    await installation.host.services.review.give_stamps(installation.connection, sale_id, card, reference)


async def _take_back(installation: Installation, sale_id: str) -> None:
    await installation.host.services.review.take_stamps_back(installation.connection, sale_id)


async def _receipt_of_nobody(installation: Installation) -> str:
    receipt = installation.cafe.sell(0)
    await installation.sync()
    return await _sale_id(installation, receipt)


async def _sale_id(installation: Installation, receipt: int) -> str:
    term = queries.receipts.SearchTerm(receipt=str(receipt))
    found = await installation.host.store.read(lambda tx: queries.receipts.search(tx, installation.connection, [term]))
    return found[0].id


async def test_what_went_to_the_wrong_card_is_taken_back_and_goes_to_the_right_one(installation: Installation) -> None:
    await installation.connect(StampRule(refunds=Refunds.flag))  # a mistake of ours is no refund to be looked at
    sale, wrong, right = (
        await _receipt_of_nobody(installation),
        await _card(installation, ANNA),
        await _card(installation, BORYS),
    )
    await _give(installation, sale, wrong)
    await installation.sync()
    assert installation.stamps(ANNA) == 1
    await _take_back(installation, sale)
    await installation.sync()
    assert installation.stamps(ANNA) == 0
    await _give(installation, sale, right)
    await installation.sync()
    assert (installation.stamps(ANNA), installation.stamps(BORYS)) == (0, 1)
    # and once more the first: each step has a code of its own
    await _take_back(installation, sale)
    with pytest.raises(Refusal, match="still being taken back"):
        await _give(installation, sale, wrong)
    await installation.sync()
    await _give(installation, sale, wrong)
    await installation.sync()
    assert (installation.stamps(ANNA), installation.stamps(BORYS)) == (1, 0)
    codes = [operation.code for operation in await installation.operations()]
    assert len(set(codes)) == len(codes)
    journal = await installation.journal()
    assert (
        f"Receipt 330660, UAH\xa027.50: it was given to the card ending {wrong.hint} by mistake, and is taken back."
        in journal
    )
    assert any(
        f"1 stamp is taken back from the card ending {wrong.hint}: it was given by mistake" in line for line in journal
    )


async def test_what_was_not_sent_yet_is_never_sent(installation: Installation) -> None:
    await installation.connect()
    sale, card = await _receipt_of_nobody(installation), await _card(installation, ANNA)
    await _give(installation, sale, card)
    await _take_back(installation, sale)
    await installation.sync()
    assert installation.applied() == []
    assert [operation.state for operation in await installation.operations()] == [State.cancelled]


async def test_what_is_in_doubt_is_settled_first_and_then_taken_back(installation: Installation) -> None:
    await installation.connect()
    sale, card = await _receipt_of_nobody(installation), await _card(installation, ANNA)
    installation.sevenstamp.faults = Faults(drop_after=1.0)
    await _give(installation, sale, card)
    await installation.sync()
    assert [operation.state for operation in await installation.operations()] == [State.uncertain]
    await _take_back(installation, sale)
    installation.sevenstamp.faults = Faults()
    async with asyncio.timeout(20):
        while {operation.state for operation in await installation.operations()} != {State.applied}:
            await installation.sync()
            await asyncio.sleep(0.1)
    assert installation.stamps(ANNA) == 0
    assert [one["kind"] for one in installation.applied()] == ["stamps_added", "stamps_reversed"]


async def test_the_customer_of_the_till_counts_again(installation: Installation) -> None:
    await installation.connect(StampRule(unknown_customer=UnknownCustomer.hold))
    receipt = installation.cafe.sell(installation.cafe.client(BORYS))
    await installation.sync()  # Borys has no card: his stamp waits
    sale, wrong = await _sale_id(installation, receipt), await _card(installation, ANNA)
    await _give(installation, sale, wrong)
    await installation.sync()
    assert installation.stamps(ANNA) == 1
    await _card(installation, BORYS)
    await _take_back(installation, sale)
    for _ in range(3):
        await installation.sync()
    assert (installation.stamps(ANNA), installation.stamps(BORYS)) == (0, 1)


async def test_a_refund_meanwhile_takes_nothing_back_twice(installation: Installation) -> None:
    await installation.connect()
    receipt = installation.cafe.sell(0)
    await installation.sync()
    sale, card = await _sale_id(installation, receipt), await _card(installation, ANNA)
    await _give(installation, sale, card)
    await installation.sync()
    installation.cafe.refund(receipt)
    await _take_back(installation, sale)
    await installation.sync()
    await installation.sync()
    assert installation.stamps(ANNA) == 0
    assert [one["count"] for one in installation.applied("stamps_reversed")] == [1]


async def test_it_is_taken_back_for_ten_minutes_once_and_only_what_a_hand_gave(installation: Installation) -> None:
    await installation.connect()
    installation.host.store.clock = clock = MovableClock()
    sale, card = await _receipt_of_nobody(installation), await _card(installation, ANNA)
    with pytest.raises(Refusal, match="only what was given by hand"):
        await _take_back(installation, sale)
    await _give(installation, sale, card)
    await _take_back(installation, sale)
    with pytest.raises(Refusal, match="only what was given by hand"):
        await _take_back(installation, sale)
    await _give(installation, sale, card)
    clock.ahead = 10 * MINUTE
    with pytest.raises(Refusal, match="for ten minutes only"):
        await _take_back(installation, sale)
    # an owner or manager may notice it later
    clock.ahead = 30 * DAY
    with pytest.raises(Refusal, match="for thirty days only"):
        await installation.host.services.review.take_stamps_back(installation.connection, sale, LATER)
    clock.ahead = 29 * DAY
    await installation.host.services.review.take_stamps_back(installation.connection, sale, LATER)
    # the till's own word is the till's to change
    receipt = installation.cafe.sell(installation.cafe.client(BORYS))
    await installation.sync()
    with pytest.raises(Refusal, match="only what was given by hand"):
        await _take_back(installation, await _sale_id(installation, receipt))
    with pytest.raises(Refusal, match="there is no such receipt here"):
        await _take_back(installation, "x")


async def test_a_receipt_fills_no_second_card_after_the_first_got_its_reward(installation: Installation) -> None:
    await installation.connect()
    sale, first, second = (
        await _receipt_of_nobody(installation), await _card(installation, ANNA), await _card(installation, BORYS),
    )  # fmt: skip
    installation.sevenstamp.state.goal = 1  # the stamp becomes a reward, and 7stamp takes it back no more
    await _give(installation, sale, first)
    await installation.sync()
    await _take_back(installation, sale)
    with pytest.raises(Refusal, match="still being taken back"):
        await _give(installation, sale, second)
    await installation.sync()
    assert State.rejected in {one.state for one in await installation.operations()}
    with pytest.raises(Refusal, match="used for a reward on another card"):
        await _give(installation, sale, second)
    await installation.sync()
    assert (installation.stamps(ANNA), installation.stamps(BORYS)) == (1, 0)
    # the card that has the stamps may have the receipt
    await _give(installation, sale, first)
    await installation.sync()
    assert installation.stamps(ANNA) == 1


async def test_what_a_refund_or_a_voucher_has_settled_is_not_taken_back(installation: Installation) -> None:
    await installation.connect(StampRule(refunds=Refunds.flag))
    receipt = installation.cafe.sell(0)
    await installation.sync()
    sale, card = await _sale_id(installation, receipt), await _card(installation, ANNA)
    await _give(installation, sale, card)
    await installation.sync()
    installation.cafe.refund(receipt)
    await installation.sync()
    with pytest.raises(Refusal, match="was refunded or removed"):
        await _take_back(installation, sale)
