"""A sale from end to end: Poster sandbox, host and 7stamp sandbox over real HTTP."""

from __future__ import annotations

from connector_sdk.money import Money
from connector_sdk.rule import Refunds, StampRule, UnknownCustomer
from connectors.domain.operation import State
from connectors.store import inbox
from tests.installation import ANNA, BORYS, KEY, Installation

RULE_BY_TEN = StampRule(
    kind="by_amount", amount=Money.from_decimal("10.00", "UAH"), unknown_customer=UnknownCustomer.issue
)


async def test_a_receipt_becomes_stamps_and_the_journal_says_so(installation: Installation) -> None:
    await installation.connect(RULE_BY_TEN)
    installation.cafe.sell(installation.cafe.client(ANNA), 2750)
    result = await installation.sync()
    assert result["sales_seen"] == 1
    assert result["operations"] == {"applied": 1, "pending": 0, "held": 0, "rejected": 0, "cancelled": 0}
    assert installation.stamps(ANNA) == 2
    (applied,) = installation.applied()
    assert applied["code"] == applied["idempotency_key"] == "poster:861052:330660:1"
    card = next(iter(installation.sevenstamp.state.cards.values()))
    lines = await installation.journal()
    assert (
        f"Receipt 330660, UAH\xa027.50, earned 2 stamps for the card ending {card.number[-4:]}: "
        "2 × UAH\xa010.00 in UAH\xa027.50." in lines
    )
    assert not any(ANNA in line for line in lines)


async def test_a_receipt_that_is_read_again_changes_nothing(installation: Installation) -> None:
    await installation.connect()
    installation.cafe.sell(installation.cafe.client(ANNA))
    await installation.sync()
    for _ in range(3):
        result = await installation.sync()
    assert result["operations"] == dict.fromkeys(("applied", "pending", "held", "rejected", "cancelled"), 0)
    assert len(installation.applied()) == 1
    assert len(await installation.operations()) == 1


async def test_a_refund_after_delivery_takes_the_stamps_back(installation: Installation) -> None:
    await installation.connect(RULE_BY_TEN)
    receipt = installation.cafe.sell(installation.cafe.client(ANNA), 5000)
    await installation.sync()
    installation.cafe.refund(receipt)
    await installation.sync()
    assert [(operation["kind"], operation["count"]) for operation in installation.applied()] == [
        ("stamps_added", 5),
        ("stamps_reversed", 5),
    ]
    assert installation.applied()[1]["code"] == "poster:861052:330660:2"


async def test_a_reopened_receipt_gives_its_stamps_back_until_it_is_closed_again(installation: Installation) -> None:
    await installation.connect(RULE_BY_TEN)
    receipt = installation.cafe.sell(installation.cafe.client(ANNA), 5000)
    await installation.sync()
    installation.cafe.reopen(receipt)
    await installation.sync()
    assert installation.stamps(ANNA) == 0
    installation.cafe.close(receipt, paid=7000)
    await installation.sync()
    assert installation.stamps(ANNA) == 7


async def test_a_removed_receipt_is_found_by_the_look_back(installation: Installation) -> None:
    await installation.connect()
    receipt = installation.cafe.sell(installation.cafe.client(ANNA))
    await installation.sync()
    installation.cafe.remove(receipt)
    await installation.sync()
    assert installation.stamps(ANNA) == 0


async def test_a_correction_sends_only_the_difference(installation: Installation) -> None:
    await installation.connect(RULE_BY_TEN)
    receipt = installation.cafe.sell(installation.cafe.client(ANNA), 5000)
    await installation.sync()
    installation.cafe.correct(receipt, 7000)
    await installation.sync()
    assert [(operation["kind"], operation["count"]) for operation in installation.applied()] == [
        ("stamps_added", 5),
        ("stamps_added", 2),
    ]


async def test_another_customer_gets_the_stamps_and_the_first_gives_them_back(installation: Installation) -> None:
    await installation.connect()
    receipt = installation.cafe.sell(installation.cafe.client(ANNA))
    await installation.sync()
    installation.cafe.attach(receipt, installation.cafe.client(BORYS))
    await installation.sync()
    assert (installation.stamps(ANNA), installation.stamps(BORYS)) == (0, 1)
    installation.cafe.attach(receipt, 0)
    await installation.sync()
    assert (installation.stamps(ANNA), installation.stamps(BORYS)) == (0, 0)


async def test_a_receipt_that_was_opened_early_and_closed_late_is_not_missed(installation: Installation) -> None:
    await installation.connect()
    early = installation.cafe.open(installation.cafe.client(ANNA))
    installation.cafe.add(early, "161")
    installation.cafe.sell(installation.cafe.client(BORYS))
    await installation.sync()
    installation.cafe.close(early)
    await installation.sync()
    assert (installation.stamps(ANNA), installation.stamps(BORYS)) == (1, 1)


async def test_a_customer_without_a_card_is_held_until_there_is_one(installation: Installation) -> None:
    await installation.connect(StampRule(unknown_customer=UnknownCustomer.hold))
    installation.cafe.sell(installation.cafe.client(ANNA))
    result = await installation.sync()
    assert result["operations"]["held"] == 1
    assert installation.applied() == []
    assert installation.host.sevenstamp is not None
    await installation.host.sevenstamp.with_key(KEY).issue_card(phone=ANNA)
    result = await installation.sync()
    assert result["operations"] == {"applied": 1, "pending": 0, "held": 0, "rejected": 0, "cancelled": 0}
    assert installation.stamps(ANNA) == 1


async def test_a_customer_without_a_card_is_skipped_where_the_cafe_says_so(installation: Installation) -> None:
    await installation.connect(StampRule(unknown_customer=UnknownCustomer.skip))
    installation.cafe.sell(installation.cafe.client(ANNA))
    await installation.sync()
    assert await installation.operations() == []
    assert (await installation.journal())[
        -1
    ] == "Receipt 330660, UAH\xa027.50, earned no stamps: the customer has no card."


async def test_a_redeem_code_in_the_comment_uses_the_voucher_once(installation: Installation) -> None:
    await installation.connect()
    assert installation.host.sevenstamp is not None
    client = installation.host.sevenstamp.with_key(KEY)
    await client.write("/v1/vouchers", '{"code":"x","title":"Coffee","redeem_code":"FREECOFFEE"}', "x", 5)
    installation.cafe.sell(0, 1000, comment="for Anna FREECOFFEE please")
    await installation.sync()
    await installation.sync()
    assert [operation["kind"] for operation in installation.applied("voucher_redeemed")] == ["voucher_redeemed"]
    installation.cafe.sell(0, 1000, comment="FREECOFFEE")
    result = await installation.sync()
    assert result["operations"]["rejected"] == 1
    assert "the voucher FREECOFFEE was not redeemed: it was used before" in "\n".join(await installation.journal())


async def test_a_flagged_refund_is_held_until_a_person_releases_it(installation: Installation) -> None:
    await installation.connect(StampRule(unknown_customer=UnknownCustomer.issue, refunds=Refunds.flag))
    receipt = installation.cafe.sell(installation.cafe.client(ANNA))
    await installation.sync()
    installation.cafe.refund(receipt)
    result = await installation.sync()
    assert result["operations"]["held"] == 1
    held = (await installation.operations())[-1]
    assert (held.state, held.hold, installation.stamps(ANNA)) == (State.held, "flagged", 1)
    await installation.host.services.review.retry(installation.connection.id, held.id)
    await installation.sync()
    assert installation.stamps(ANNA) == 0


async def test_a_cap_holds_whole_operations_and_a_person_may_waive_it(installation: Installation) -> None:
    await installation.connect(StampRule(unknown_customer=UnknownCustomer.issue, max_per_card_per_day=2))
    client = installation.cafe.client(ANNA)
    for _ in range(3):
        installation.cafe.sell(client)
    result = await installation.sync()
    assert (result["operations"]["applied"], result["operations"]["held"]) == (2, 1)
    (held,) = [operation for operation in await installation.operations() if operation.state is State.held]
    await installation.host.services.review.retry(installation.connection.id, held.id)
    await installation.sync()
    assert installation.stamps(ANNA) == 3


async def test_a_used_up_plan_holds_operations_until_it_has_some_again(installation: Installation) -> None:
    await installation.connect()
    client = installation.cafe.client(ANNA)
    installation.sevenstamp.state.allowed = 1
    for _ in range(3):
        installation.cafe.sell(client)
    result = await installation.sync()
    assert result["operations"]["applied"] == 1
    assert result["operations"]["held"] == 1
    assert result["operations"]["pending"] == 1  # the business pauses: the third was not even tried
    installation.sevenstamp.state.allowed = None
    await installation.host.services.plans.check(installation.connection.business_id)
    await installation.sync()
    assert installation.stamps(ANNA) == 3


async def test_a_reward_is_never_taken_back(installation: Installation) -> None:
    installation.sevenstamp.state.goal = 1
    await installation.connect()
    receipt = installation.cafe.sell(installation.cafe.client(ANNA))
    await installation.sync()
    installation.cafe.refund(receipt)
    result = await installation.sync()
    assert result["operations"]["rejected"] == 1
    assert "the reward was already given" in "\n".join(await installation.journal())
    assert (await installation.sync())["operations"]["rejected"] == 0


async def test_a_refused_key_stops_the_connection_and_a_new_one_lets_it_go_on(installation: Installation) -> None:
    await installation.connect()
    installation.cafe.sell(installation.cafe.client(ANNA))
    installation.sevenstamp.revoked.add(KEY)
    await installation.sync()
    assert (
        await installation.host.services.connections.get(installation.connection.id)
    ).health == "needs_authorisation"
    installation.sevenstamp.revoked.clear()
    await installation.host.services.connections.edit(installation.connection.id, {}, key=KEY)
    await installation.sync()
    assert installation.stamps(ANNA) == 1


async def test_a_refused_till_token_stops_the_connection(installation: Installation) -> None:
    await installation.connect()
    installation.cafe.fail_next = [11]
    result = await installation.sync()
    assert result["status"] == "needs_authorisation"
    assert (await installation.journal())[-1] == "Stopped: the till refuses the token."


async def test_a_receipt_that_cannot_be_mapped_is_kept_and_the_page_goes_on(installation: Installation) -> None:

    await installation.connect()
    unreadable = installation.cafe.sell(installation.cafe.client(ANNA))
    installation.cafe.receipts[unreadable]["payed_sum"] = "27.5"
    installation.cafe.sell(installation.cafe.client(BORYS))
    for _ in range(2):
        await installation.sync()
    assert (installation.stamps(ANNA), installation.stamps(BORYS)) == (0, 1)
    lines = [line for line in await installation.journal() if "could not be read" in line]
    assert lines == ["Receipt 330660 could not be read and is kept: payed_sum is not a whole number."]
    (entry,) = await installation.host.store.read(
        lambda tx: inbox.unreadable.with_bodies(tx, installation.connection.id)
    )
    assert (entry.receipt_id, entry.where) == ("330660", "payed_sum")
    assert b'"payed_sum": "27.5"' in entry.body
    installation.cafe.receipts[unreadable]["payed_sum"] = "2750"
    await installation.sync()
    assert installation.stamps(ANNA) == 1
