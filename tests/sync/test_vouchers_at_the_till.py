"""Vouchers that receipts carry: by a code however it is spelled, or by a gift of the customer's card."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select

from connector_sdk.loyalty import VoucherIssued
from connector_sdk.rule import DeadCodes, Mode, StampRule, UnknownCustomer
from connectors.domain.clock import HOUR, moment
from connectors.domain.operation import Flag, Hold, State
from connectors.domain.person import Reference
from connectors.sevenstamp.sandbox import Faults
from connectors.store import connections, inbox, ledger, queries
from connectors.store.ledger.operations import Operation
from connectors.store.schema import watch_table
from connectors.sync.vouchers import WantedVoucher
from tests.installation import ANNA, BORYS, Installation, build
from tests.web.clock import MovableClock

_SINCE = select(watch_table.c.since)
COFFEE, CAKE = "161", "162"
RULE = StampRule(unknown_customer=UnknownCustomer.issue, gift_products=frozenset({CAKE}))


async def with_voucher(
    installation: Installation, code: str, *, phone: str | None = None, rule: StampRule = RULE, known: bool = True
) -> None:
    """A connection, and a voucher of which the host knows, or does not: then somebody else has issued it."""
    connection = await installation.connect(rule)
    cards = installation.host.services.cards
    card_id = (await cards.issue_card(connection.business_id, phone=phone, email=None)).id if phone else None
    wanted = WantedVoucher(title="Coffee", redeem_code=code, card_id=card_id)
    await cards.issue_voucher(connection.business_id, wanted)
    if not known:
        await installation.host.store.write(lambda tx: ledger.voucher_states.sweep(tx, 2**62, 10))


async def issue_another(installation: Installation, code: str) -> None:
    """Issue one more voucher, for the newest card."""
    *_, card = installation.sevenstamp.state.cards.values()
    wanted = WantedVoucher(title="Coffee", redeem_code=code, card_id=card.id)
    await installation.host.services.cards.issue_voucher(installation.connection.business_id, wanted)


async def learn(installation: Installation, *codes: str) -> None:
    business = installation.connection.business_id
    await installation.host.store.write(lambda tx: ledger.voucher_states.learn(tx, business, codes))


def redeemed(installation: Installation) -> list[str]:
    """The redeem codes that 7stamp has used up."""
    vouchers = installation.sevenstamp.state.vouchers.values()
    return [voucher.redeem_code for voucher in vouchers if voucher.status == "redeemed"]


async def needing_person(installation: Installation) -> list[Operation]:
    connection_id = installation.connection.id
    return await installation.host.store.read(lambda tx: queries.operations.needing_person(tx, connection_id))


def give(installation: Installation, *products: str, phone: str | None = ANNA, comment: str | None = None) -> int:
    """A receipt with a coffee that was paid, and these products for nothing."""
    cafe = installation.cafe
    receipt: int = cafe.open(cafe.client(phone) if phone else 0)
    cafe.add(receipt, COFFEE)
    for product in products:
        cafe.add(receipt, product, gift=True)
    cafe.close(receipt, paid=2750, comment=comment)
    return receipt


@pytest.mark.parametrize(
    "comment",
    [
        "FREECOFFEE-01",
        "freecoffee-01",
        "free coffee 01, please",
        "gift: FREECOFFEE 01",
        "FREEC0FFEE-O1",
        "freecoffee01",
        "FREECOFFEE-0l",
    ],
)
async def test_a_code_is_found_as_a_person_reads_it(installation: Installation, comment: str) -> None:
    await with_voucher(installation, "FREECOFFEE-01")
    installation.cafe.sell(0, comment=comment)
    await installation.sync()
    assert redeemed(installation) == ["FREECOFFEE-01"]
    assert [operation.redeem_code for operation in await installation.operations()] == ["FREECOFFEE-01"]


async def test_a_code_that_nobody_has_told_us_of_is_found_by_its_own_spelling(installation: Installation) -> None:
    await with_voucher(installation, "FREECOFFEE-01", known=False)
    installation.cafe.sell(0, comment="Voucher FREECOFFEE-01")
    await installation.sync()
    assert redeemed(installation) == ["FREECOFFEE-01"]


async def test_words_that_are_no_code_of_the_business_ask_7stamp_nothing(installation: Installation) -> None:
    await with_voucher(installation, "FREECOFFEE-01")
    installation.cafe.sell(0, comment="two coffees to go, table seven, thanks a lot")
    await installation.sync()
    assert await installation.operations() == []


async def test_codes_that_read_alike_are_found_only_as_they_are_written(installation: Installation) -> None:
    await with_voucher(installation, "COFFEE-O1")
    await installation.host.services.cards.issue_voucher(
        installation.connection.business_id, WantedVoucher(title="Cake", redeem_code="COFFEE-01")
    )
    await learn(installation, "COFFEE-01")
    installation.cafe.sell(0, comment="coffee o1")
    installation.cafe.sell(0, comment="COFFEE-01")
    await installation.sync()
    assert redeemed(installation) == ["COFFEE-01"]


@pytest.mark.parametrize(
    ("comment", "code"),
    [
        ("COFFEE-1 2 pcs", "COFFEE-1"),
        ("coffee-1, 2", "COFFEE-1"),
        ("coffee 12", "COFFEE-12"),
        ("FREE COFFEE 1", "FREE-COFFEE-1"),
        ("free coffee 1", "FREE-COFFEE-1"),
    ],
)
async def test_a_word_belongs_to_one_code_only(installation: Installation, comment: str, code: str) -> None:
    await with_voucher(installation, "COFFEE-1")
    for other in ("COFFEE-12", "FREE-COFFEE-1"):
        wanted = WantedVoucher(title="Coffee", redeem_code=other)
        await installation.host.services.cards.issue_voucher(installation.connection.business_id, wanted)
        await learn(installation, other)
    installation.cafe.sell(0, comment=comment)
    await installation.sync()
    assert redeemed(installation) == [code]


async def test_a_code_of_another_business_is_nobodys_here(installation: Installation) -> None:
    await installation.connect(RULE)
    assert installation.host.sevenstamp is not None
    other = installation.host.sevenstamp.with_key("7loc_sc_another_business")
    await other.write("/v1/vouchers", '{"code":"x","title":"Coffee","redeem_code":"FREECOFFEE-01"}', "x", 5)
    installation.cafe.sell(0, comment="FREECOFFEE-01")
    installation.cafe.sell(0, comment="freecoffee 01")
    await installation.sync()
    assert redeemed(installation) == []
    (operation,) = await installation.operations()
    assert (operation.state, operation.reason and operation.reason.id) == (State.rejected, "why.voucher_unknown")


async def test_a_code_that_is_learned_later_is_used_when_the_receipt_is_read_again(installation: Installation) -> None:
    await with_voucher(installation, "FREECOFFEE-01", known=False)
    receipt = installation.cafe.sell(0, comment="freecoffee 01")
    await installation.sync()
    assert redeemed(installation) == []
    await learn(installation, "FREECOFFEE-01")
    await installation.sync()
    await installation.sync()
    assert redeemed(installation) == ["FREECOFFEE-01"]
    assert [operation.receipt_id for operation in await installation.operations()] == [str(receipt)]


async def test_a_code_is_learned_from_7stamps_event(installation: Installation) -> None:
    business = (await installation.connect(RULE)).business_id
    assert installation.host.loyalty is not None
    event = VoucherIssued.model_validate(
        {"id": "e1", "at": moment(1), "business_id": "", "voucher": {"redeem_code": "FREECOFFEE-01"}}
    )
    new = inbox.loyalty_events.NewEvent(business, "e1", event, b"{}")
    await installation.host.store.write(lambda tx: inbox.loyalty_events.keep(tx, [new]))
    await installation.host.loyalty.round()
    found = await installation.host.store.read(
        lambda tx: ledger.voucher_states.unknown(tx, business, ["FREECOFFEE-01"])
    )
    assert found == []


# Gifts without a code


async def test_a_gift_uses_the_oldest_voucher_of_its_customers_card(installation: Installation) -> None:
    await with_voucher(installation, "FIRST-GIFT", phone=ANNA)
    await issue_another(installation, "SECOND-GIFT")
    give(installation, CAKE)
    await installation.sync()
    assert redeemed(installation) == ["FIRST-GIFT"]
    give(installation, CAKE)
    await installation.sync()
    await installation.sync()
    assert redeemed(installation) == ["FIRST-GIFT", "SECOND-GIFT"]


async def test_two_gifts_on_one_receipt_use_two_vouchers(installation: Installation) -> None:
    await with_voucher(installation, "FIRST-GIFT", phone=ANNA)
    await issue_another(installation, "SECOND-GIFT")
    give(installation, CAKE, CAKE)
    await installation.sync()
    assert sorted(redeemed(installation)) == ["FIRST-GIFT", "SECOND-GIFT"]


async def test_a_receipt_of_nothing_is_a_gift_of_the_products_that_are_named(installation: Installation) -> None:
    await with_voucher(installation, "FIRST-GIFT", phone=ANNA)
    receipt = installation.cafe.open(installation.cafe.client(ANNA))
    installation.cafe.add(receipt, CAKE)
    installation.cafe.close(receipt, paid=0)
    await installation.sync()
    assert redeemed(installation) == ["FIRST-GIFT"]


async def test_what_the_cafe_did_not_name_is_a_present_and_uses_nothing(installation: Installation) -> None:
    await with_voucher(installation, "FIRST-GIFT", phone=ANNA, rule=StampRule(unknown_customer=UnknownCustomer.issue))
    give(installation, CAKE)
    await installation.sync()
    assert redeemed(installation) == []


async def test_a_gift_beside_its_code_uses_one_voucher(installation: Installation) -> None:
    await with_voucher(installation, "FIRST-GIFT", phone=ANNA)
    await issue_another(installation, "SECOND-GIFT")
    give(installation, CAKE, comment="SECOND-GIFT")
    await installation.sync()
    await installation.sync()
    assert redeemed(installation) == ["SECOND-GIFT"]


async def test_a_gift_of_a_card_without_vouchers_is_shown_to_a_person(installation: Installation) -> None:
    await installation.connect(RULE)
    give(installation, CAKE)
    await installation.sync()
    operations = {operation.kind.value: operation for operation in await installation.operations()}
    gift = operations["voucher_redeemed"]
    assert (gift.state, gift.reason and gift.reason.id) == (State.rejected, "why.no_voucher")
    assert [operation.id for operation in await needing_person(installation)] == [gift.id]
    assert operations["stamps_added"].state is State.applied


async def test_a_person_has_a_gifts_voucher_looked_for_again(installation: Installation) -> None:
    await installation.connect(RULE)
    give(installation, CAKE)
    await installation.sync()
    (gift,) = await needing_person(installation)
    await issue_another(installation, "LATE-GIFT")
    await installation.host.services.review.retry(installation.connection.id, gift.id)
    await installation.sync()
    assert redeemed(installation) == ["LATE-GIFT"]


async def test_a_gift_waits_until_its_customer_has_a_card(installation: Installation) -> None:
    rule = RULE.model_copy(update={"unknown_customer": UnknownCustomer.hold})
    await installation.connect(rule)
    give(installation, CAKE, phone=BORYS)
    await installation.sync()
    gift = next(one for one in await installation.operations() if one.kind.value == "voucher_redeemed")
    assert (gift.state, gift.hold) == (State.held, Hold.gift)
    cards, business = installation.host.services.cards, installation.connection.business_id
    card = await cards.issue_card(business, phone=BORYS, email=None)
    await cards.issue_voucher(business, WantedVoucher(title="Coffee", redeem_code="WAITED-FOR", card_id=card.id))
    client = installation.cafe.client(BORYS)
    installation.cafe.sell(client)
    await installation.host.services.review.retry(
        installation.connection.id,
        next(one for one in await installation.operations() if one.kind.value == "stamps_added").id,
    )
    await installation.sync()
    await installation.sync()
    assert redeemed(installation) == ["WAITED-FOR"]


async def test_a_gift_for_nobody_uses_nothing_and_the_journal_says_so(installation: Installation) -> None:
    await with_voucher(installation, "FIRST-GIFT", phone=ANNA)
    give(installation, CAKE, phone=None)
    await installation.sync()
    assert redeemed(installation) == []
    assert any("without a customer" in line for line in await installation.journal())


# Dead codes, and receipts that are voided


@pytest.mark.parametrize(
    ("wish", "shown", "told"), [("tell", True, True), ("flag", True, False), ("nothing", False, False)]
)
async def test_a_dead_code_is_told_as_the_cafe_wishes(
    installation: Installation, wish: str, shown: bool, told: bool
) -> None:
    await with_voucher(installation, "FREECOFFEE-01", rule=RULE.model_copy(update={"dead_codes": DeadCodes(wish)}))
    connection_id, store = installation.connection.id, installation.host.store
    await store.write(lambda tx: connections.alerts.set_email(tx, connection_id, "anna@example.com", "en"))
    installation.cafe.sell(0, comment="FREECOFFEE-01")
    installation.cafe.sell(0, comment="FREECOFFEE-01")
    await installation.sync()
    states = sorted(operation.state.value for operation in await installation.operations())
    assert states == ["applied", "rejected"]
    assert bool(await needing_person(installation)) is shown
    await store.write(connections.alerts.take_due)
    assert (await store.read(lambda tx: tx.run(_SINCE).scalar()) is not None) is told


async def test_a_voided_receipt_whose_voucher_was_used_is_flagged_until_somebody_has_seen_it(
    installation: Installation,
) -> None:
    await with_voucher(installation, "FREECOFFEE-01")
    receipt = installation.cafe.sell(0, comment="FREECOFFEE-01")
    await installation.sync()
    installation.cafe.remove(receipt)
    await installation.sync()
    (flagged,) = await needing_person(installation)
    assert (flagged.state, flagged.flag) == (State.applied, Flag.voided)
    assert any("7stamp gives no voucher back" in line for line in await installation.journal())
    await installation.sync()
    await installation.host.services.review.acknowledge(installation.connection.id, flagged.id)
    await installation.sync()
    assert await needing_person(installation) == []
    assert redeemed(installation) == ["FREECOFFEE-01"]


async def test_a_receipt_that_counts_again_is_flagged_no_more(installation: Installation) -> None:
    await with_voucher(installation, "FREECOFFEE-01")
    receipt = installation.cafe.sell(0, comment="FREECOFFEE-01")
    await installation.sync()
    installation.cafe.remove(receipt)
    await installation.sync()
    assert await needing_person(installation)
    installation.cafe.receipts[receipt]["status"] = "2"
    await installation.sync()
    assert await needing_person(installation) == []


async def test_a_redemption_that_surely_was_not_done_is_flagged_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Voided while in doubt: flagged until it is known that 7stamp never did it."""
    clock = MovableClock()
    async with build(tmp_path, monkeypatch, time=clock) as installation:
        await _void_in_doubt(installation, clock)


async def _void_in_doubt(installation: Installation, clock: MovableClock) -> None:
    await with_voucher(installation, "FREECOFFEE-01")
    installation.sevenstamp.faults = Faults(drop_before=1.0)
    receipt = installation.cafe.sell(0, comment="FREECOFFEE-01")
    await installation.sync()
    installation.cafe.remove(receipt)
    await installation.sync()
    assert [operation.flag for operation in await needing_person(installation)] == [Flag.voided]
    installation.sevenstamp.faults = Faults()
    for _ in range(10):
        clock.ahead += HOUR
        await installation.sync()
    (redemption,) = [operation for operation in await installation.operations() if operation.redeem_code]
    assert (redemption.state, redemption.flag) == (State.cancelled, None)
    assert await needing_person(installation) == []
    assert redeemed(installation) == []


async def test_a_gift_uses_no_voucher_of_the_customer_that_its_receipt_had_before(installation: Installation) -> None:
    await with_voucher(installation, "ANNAS-GIFT", phone=ANNA)
    await installation.host.services.cards.issue_card(installation.connection.business_id, phone=BORYS, email=None)
    await issue_another(installation, "BORYS-GIFT")
    receipt = give(installation)
    await installation.sync()
    cafe, host = installation.cafe, installation.host
    cafe.add(receipt, CAKE, gift=True)
    await installation.sync_quietly()
    assert host.gifts is not None
    await host.gifts.round()
    assert "ANNAS-GIFT" in [operation.redeem_code for operation in await installation.operations()]
    cafe.attach(receipt, cafe.client(BORYS))
    await installation.sync()
    await installation.sync()
    assert redeemed(installation) == ["BORYS-GIFT"]


async def test_a_voucher_that_somebody_typed_is_given_to_no_gift(installation: Installation) -> None:
    await with_voucher(installation, "FIRST-GIFT", phone=ANNA)
    await issue_another(installation, "SECOND-GIFT")
    # typed on a receipt without a customer, and not sent yet when the gift looks for its voucher
    installation.cafe.sell(0, comment="FIRST-GIFT")
    give(installation, CAKE)
    await installation.sync()
    await installation.sync()
    assert sorted(redeemed(installation)) == ["FIRST-GIFT", "SECOND-GIFT"]


async def test_a_receipt_of_the_receipt_qr_mode_looks_at_no_customer_of_the_till(installation: Installation) -> None:
    await installation.connect(StampRule(unknown_customer=UnknownCustomer.issue, mode=Mode.receipt_qr))
    installation.cafe.sell(installation.cafe.client(ANNA))
    await installation.sync()
    assert await installation.operations() == []
    assert installation.sevenstamp.state.cards == {}


async def test_a_gift_uses_no_voucher_of_a_card_that_was_taken_back_from_it(installation: Installation) -> None:
    rule = RULE.model_copy(update={"unknown_customer": UnknownCustomer.hold})
    await with_voucher(installation, "ANNAS-GIFT", phone=ANNA, rule=rule)
    receipt = give(installation, CAKE, phone=BORYS)  # who has no card
    await installation.sync()
    host, connection = installation.host, installation.connection
    term = queries.receipts.SearchTerm(receipt=str(receipt))
    (sale,) = await host.store.read(lambda tx: queries.receipts.search(tx, connection, [term]))
    card = await host.services.cards.find_card(connection.business_id, phone=ANNA, email=None, number=None)
    await host.services.review.give_stamps(connection, sale.id, card, Reference("number", card.number))
    assert host.gifts is not None
    await host.gifts.round()
    assert "ANNAS-GIFT" in [operation.redeem_code for operation in await installation.operations()]
    await host.services.review.take_stamps_back(connection, sale.id)
    for _ in range(2):
        await installation.sync()
    assert redeemed(installation) == []
    # the gift waits for the customer that the till named
    await host.services.cards.issue_card(connection.business_id, phone=BORYS, email=None)
    await issue_another(installation, "BORYS-GIFT")
    for _ in range(3):
        await installation.sync()
    assert redeemed(installation) == ["BORYS-GIFT"]
    assert (installation.stamps(ANNA), installation.stamps(BORYS)) == (0, 1)
