"""A sale from end to end: Poster sandbox, host and 7stamp sandbox over real HTTP."""

from __future__ import annotations

from connector_sdk.money import Money
from connector_sdk.rule import Refunds, StampRule, UnknownCustomer
from connectors.domain.operation import State
from connectors.store import inbox
from tests.town import ANNA, BORYS, KEY, Town

RULE_BY_TEN = StampRule(
    kind="by_amount", amount=Money.from_decimal("10.00", "UAH"), unknown_customer=UnknownCustomer.issue
)


async def test_a_receipt_becomes_stamps_and_the_journal_says_so(town: Town) -> None:
    await town.connect(RULE_BY_TEN)
    town.cafe.sell(town.cafe.client(ANNA), 2750)
    result = await town.sync()
    assert result["sales_seen"] == 1
    assert result["operations"] == {"applied": 1, "pending": 0, "held": 0, "rejected": 0, "cancelled": 0}
    assert town.stamps(ANNA) == 2
    (applied,) = town.applied()
    assert applied["code"] == applied["idempotency_key"] == "poster:861052:330660:1"
    card = next(iter(town.sevenstamp.state.cards.values()))
    lines = await town.journal()
    assert (
        f"Receipt 330660, UAH\xa027.50, earned 2 stamps for the card ending {card.number[-4:]}: "
        "UAH\xa027.50 ÷ UAH\xa010.00 = 2." in lines
    )
    assert not any(ANNA in line for line in lines)


async def test_a_receipt_that_is_read_again_changes_nothing(town: Town) -> None:
    await town.connect()
    town.cafe.sell(town.cafe.client(ANNA))
    await town.sync()
    for _ in range(3):
        result = await town.sync()
    assert result["operations"] == dict.fromkeys(("applied", "pending", "held", "rejected", "cancelled"), 0)
    assert len(town.applied()) == 1
    assert len(await town.operations()) == 1


async def test_a_refund_after_delivery_takes_the_stamps_back(town: Town) -> None:
    await town.connect(RULE_BY_TEN)
    receipt = town.cafe.sell(town.cafe.client(ANNA), 5000)
    await town.sync()
    town.cafe.refund(receipt)
    await town.sync()
    assert [(operation["kind"], operation["count"]) for operation in town.applied()] == [
        ("stamps_added", 5),
        ("stamps_reversed", 5),
    ]
    assert town.applied()[1]["code"] == "poster:861052:330660:2"


async def test_a_reopened_receipt_gives_its_stamps_back_until_it_is_closed_again(town: Town) -> None:
    await town.connect(RULE_BY_TEN)
    receipt = town.cafe.sell(town.cafe.client(ANNA), 5000)
    await town.sync()
    town.cafe.reopen(receipt)
    await town.sync()
    assert town.stamps(ANNA) == 0
    town.cafe.close(receipt, paid=7000)
    await town.sync()
    assert town.stamps(ANNA) == 7


async def test_a_removed_receipt_is_found_by_the_look_back(town: Town) -> None:
    await town.connect()
    receipt = town.cafe.sell(town.cafe.client(ANNA))
    await town.sync()
    town.cafe.remove(receipt)
    await town.sync()
    assert town.stamps(ANNA) == 0


async def test_a_correction_sends_only_the_difference(town: Town) -> None:
    await town.connect(RULE_BY_TEN)
    receipt = town.cafe.sell(town.cafe.client(ANNA), 5000)
    await town.sync()
    town.cafe.correct(receipt, 7000)
    await town.sync()
    assert [(operation["kind"], operation["count"]) for operation in town.applied()] == [
        ("stamps_added", 5),
        ("stamps_added", 2),
    ]


async def test_another_customer_gets_the_stamps_and_the_first_gives_them_back(town: Town) -> None:
    await town.connect()
    receipt = town.cafe.sell(town.cafe.client(ANNA))
    await town.sync()
    town.cafe.attach(receipt, town.cafe.client(BORYS))
    await town.sync()
    assert (town.stamps(ANNA), town.stamps(BORYS)) == (0, 1)
    town.cafe.attach(receipt, 0)
    await town.sync()
    assert (town.stamps(ANNA), town.stamps(BORYS)) == (0, 0)


async def test_a_receipt_that_was_opened_early_and_closed_late_is_not_missed(town: Town) -> None:
    await town.connect()
    early = town.cafe.open(town.cafe.client(ANNA))
    town.cafe.add(early, "161")
    town.cafe.sell(town.cafe.client(BORYS))
    await town.sync()
    town.cafe.close(early)
    await town.sync()
    assert (town.stamps(ANNA), town.stamps(BORYS)) == (1, 1)


async def test_a_customer_without_a_card_is_held_until_there_is_one(town: Town) -> None:
    await town.connect(StampRule(unknown_customer=UnknownCustomer.hold))
    town.cafe.sell(town.cafe.client(ANNA))
    result = await town.sync()
    assert result["operations"]["held"] == 1
    assert town.applied() == []
    assert town.host.sevenstamp is not None
    await town.host.sevenstamp.with_key(KEY).issue_card(phone=ANNA)
    result = await town.sync()
    assert result["operations"] == {"applied": 1, "pending": 0, "held": 0, "rejected": 0, "cancelled": 0}
    assert town.stamps(ANNA) == 1


async def test_a_customer_without_a_card_is_skipped_where_the_cafe_says_so(town: Town) -> None:
    await town.connect(StampRule(unknown_customer=UnknownCustomer.skip))
    town.cafe.sell(town.cafe.client(ANNA))
    await town.sync()
    assert await town.operations() == []
    assert (await town.journal())[-1] == "Receipt 330660, UAH\xa027.50, earned no stamps: the customer has no card."


async def test_a_redeem_code_in_the_comment_uses_the_voucher_once(town: Town) -> None:
    await town.connect()
    assert town.host.sevenstamp is not None
    client = town.host.sevenstamp.with_key(KEY)
    await client.write("/v1/vouchers", '{"code":"x","title":"Coffee","redeem_code":"FREECOFFEE"}', "x", 5)
    town.cafe.sell(0, 1000, comment="for Anna FREECOFFEE please")
    await town.sync()
    await town.sync()
    assert [operation["kind"] for operation in town.applied("voucher_redeemed")] == ["voucher_redeemed"]
    town.cafe.sell(0, 1000, comment="FREECOFFEE")
    result = await town.sync()
    assert result["operations"]["rejected"] == 1
    assert "the voucher FREECOFFEE was not redeemed: it was used before" in "\n".join(await town.journal())


async def test_a_flagged_refund_is_held_until_a_person_releases_it(town: Town) -> None:
    await town.connect(StampRule(unknown_customer=UnknownCustomer.issue, refunds=Refunds.flag))
    receipt = town.cafe.sell(town.cafe.client(ANNA))
    await town.sync()
    town.cafe.refund(receipt)
    result = await town.sync()
    assert result["operations"]["held"] == 1
    held = (await town.operations())[-1]
    assert (held.state, held.hold, town.stamps(ANNA)) == (State.held, "flagged", 1)
    await town.host.services.review.retry(town.connection.id, held.id)
    await town.sync()
    assert town.stamps(ANNA) == 0


async def test_a_cap_holds_whole_operations_and_a_person_may_waive_it(town: Town) -> None:
    await town.connect(StampRule(unknown_customer=UnknownCustomer.issue, max_per_card_per_day=2))
    client = town.cafe.client(ANNA)
    for _ in range(3):
        town.cafe.sell(client)
    result = await town.sync()
    assert (result["operations"]["applied"], result["operations"]["held"]) == (2, 1)
    (held,) = [operation for operation in await town.operations() if operation.state is State.held]
    await town.host.services.review.retry(town.connection.id, held.id)
    await town.sync()
    assert town.stamps(ANNA) == 3


async def test_a_used_up_plan_holds_operations_until_it_has_some_again(town: Town) -> None:
    await town.connect()
    client = town.cafe.client(ANNA)
    town.sevenstamp.state.allowed = 1
    for _ in range(3):
        town.cafe.sell(client)
    result = await town.sync()
    assert result["operations"]["applied"] == 1
    assert result["operations"]["held"] == 1
    assert result["operations"]["pending"] == 1  # the business pauses: the third was not even tried
    town.sevenstamp.state.allowed = None
    assert town.host.deliverer is not None
    await town.host.deliverer.check_paused_businesses(every=0)
    await town.sync()
    assert town.stamps(ANNA) == 3


async def test_a_reward_is_never_taken_back(town: Town) -> None:
    town.sevenstamp.state.goal = 1
    await town.connect()
    receipt = town.cafe.sell(town.cafe.client(ANNA))
    await town.sync()
    town.cafe.refund(receipt)
    result = await town.sync()
    assert result["operations"]["rejected"] == 1
    assert "the reward was already given" in "\n".join(await town.journal())
    assert (await town.sync())["operations"]["rejected"] == 0


async def test_a_refused_key_stops_the_connection_and_a_new_one_lets_it_go_on(town: Town) -> None:
    await town.connect()
    town.cafe.sell(town.cafe.client(ANNA))
    town.sevenstamp.revoked.add(KEY)
    await town.sync()
    assert (await town.host.services.connections.get(town.connection.id)).health == "needs_authorisation"
    town.sevenstamp.revoked.clear()
    await town.host.services.connections.edit(town.connection.id, {}, key=KEY)
    await town.sync()
    assert town.stamps(ANNA) == 1


async def test_a_refused_till_token_stops_the_connection(town: Town) -> None:
    await town.connect()
    town.cafe.fail_next = [11]
    result = await town.sync()
    assert result["status"] == "needs_authorisation"
    assert (await town.journal())[-1] == "Stopped: the till refuses the token."


async def test_a_receipt_that_cannot_be_mapped_is_kept_and_the_page_goes_on(town: Town) -> None:

    await town.connect()
    unreadable = town.cafe.sell(town.cafe.client(ANNA))
    town.cafe.receipts[unreadable]["payed_sum"] = "27.5"
    town.cafe.sell(town.cafe.client(BORYS))
    for _ in range(2):
        await town.sync()
    assert (town.stamps(ANNA), town.stamps(BORYS)) == (0, 1)
    lines = [line for line in await town.journal() if "could not be read" in line]
    assert lines == ["Receipt 330660 could not be read and is kept: payed_sum is not a whole number."]
    (entry,) = await town.host.store.read(lambda tx: inbox.unreadable.with_bodies(tx, town.connection.id))
    assert (entry.receipt_id, entry.where) == ("330660", "payed_sum")
    assert b'"payed_sum": "27.5"' in entry.body
    town.cafe.receipts[unreadable]["payed_sum"] = "2750"
    await town.sync()
    assert town.stamps(ANNA) == 1
