"""Every hold has its words, its way out, and pages that offer what the table of holds says."""

from __future__ import annotations

import html
import re

import pytest

from connector_sdk.messages import Catalogue, Message
from connector_sdk.rule import StampRule, UnknownCustomer
from connectors.domain.clock import DAY
from connectors.domain.holds import HOLDS, HOLDS_FOR_PERSON, REJECTED_CHOICES, WAITS_FOR_CARD, Action, Awaited, Choice
from connectors.domain.operation import Hold, Kind, State
from connectors.store.engine import Transaction
from connectors.store.ledger.operations import Operation
from connectors.store.schema import operation_table
from tests.installation import ANNA, Installation
from tests.web.browser import open_browsers

CATALOGUE = Catalogue(["connectors"])
PARAMETERS = {"most": 2, "given": 1}


def test_the_table_has_every_hold() -> None:
    assert set(HOLDS) == set(Hold)


@pytest.mark.parametrize("hold", Hold)
def test_every_reason_of_a_hold_is_worded_in_english_and_malay(hold: Hold) -> None:
    for message_id in HOLDS[hold].reasons:
        message = Message(message_id, PARAMETERS)
        english, malay = CATALOGUE.word(message, "en"), CATALOGUE.word(message, "ms")
        assert len({message_id, english, malay}) == 3


@pytest.mark.parametrize("hold", Hold)
def test_every_choice_of_a_hold_is_worded_in_malay(hold: Hold) -> None:
    for choice in (*HOLDS[hold].choices, *REJECTED_CHOICES):
        assert CATALOGUE.word(choice.label, "ms") != CATALOGUE.word(choice.label, "en")


@pytest.mark.parametrize("hold", Hold)
def test_a_person_can_release_every_hold_and_give_it_up(hold: Hold) -> None:
    assert {choice.action for choice in HOLDS[hold].choices} == {Action.retry, Action.dismiss}


def test_only_what_waits_for_a_card_of_its_customer_needs_nobody() -> None:
    assert set(Hold) - set(HOLDS_FOR_PERSON) == {Hold.no_card, Hold.gift}
    assert {Hold.no_card, Hold.conflict} == WAITS_FOR_CARD


@pytest.mark.parametrize("hold", Hold)
def test_a_hold_that_only_a_person_releases_needs_a_person(hold: Hold) -> None:
    assert HOLDS[hold].needs_person or HOLDS[hold].awaits is not Awaited.person


def test_a_rules_days_count_for_customers_without_a_card_only() -> None:
    assert HOLDS[Hold.no_card].expires_at(0, rule_days=7) == 7 * DAY
    assert HOLDS[Hold.no_card].expires_at(0) == 30 * DAY
    assert HOLDS[Hold.cap].expires_at(0, rule_days=7) == 30 * DAY
    assert HOLDS[Hold.flagged].expires_at(0, rule_days=7) is None


def offered_choices(page: str, operation: Operation) -> list[tuple[str, str]]:
    """The buttons that a page has for an operation: what each posts, and its words."""
    buttons = re.findall(rf'/operations/{operation.id}/(\w+)".*?<button[^>]*>([^<]+)<', page, re.DOTALL)
    return [(action, html.unescape(label)) for action, label in buttons]


def worded_choices(choices: tuple[Choice, ...]) -> list[tuple[str, str]]:
    return [(choice.action.value, CATALOGUE.word(choice.label)) for choice in choices]


async def stop_operation(installation: Installation, state: State, hold: Hold) -> Operation:
    """Have a receipt whose one operation was stopped, for the reason of a hold."""
    await installation.connect(StampRule(unknown_customer=UnknownCustomer.hold))
    installation.cafe.sell(installation.cafe.client(ANNA))
    await installation.sync()
    (operation,) = await installation.operations()
    reason = Message(HOLDS[hold].reason, PARAMETERS).stored()
    kind = Kind.stamps_reversed if hold is Hold.flagged else Kind.stamps_added

    def stop(tx: Transaction) -> None:
        row = operation_table.update().where(operation_table.c.id == operation.id)
        tx.run(row.values(state=state, hold=hold, reason=reason, kind=kind))

    await installation.host.store.write(stop)
    return operation


async def pages_of(installation: Installation, operation: Operation) -> list[str]:
    """The two pages that offer ways out: the connection's and the receipt's."""
    connection = f"/connections/{installation.connection.id}"
    async with open_browsers(installation) as browsers:
        browser = await browsers.new().sign_in()
        return [(await browser.get(path)).text for path in (connection, f"{connection}/receipts/{operation.sale_id}")]


@pytest.mark.parametrize("hold", HOLDS_FOR_PERSON)
async def test_pages_offer_the_choices_of_a_hold(installation: Installation, hold: Hold) -> None:
    operation = await stop_operation(installation, State.held, hold)
    for page in await pages_of(installation, operation):
        assert offered_choices(page, operation) == worded_choices(HOLDS[hold].choices)


async def test_pages_offer_the_choices_of_a_rejection_whatever_it_was_held_for(installation: Installation) -> None:
    operation = await stop_operation(installation, State.rejected, Hold.cap)
    for page in await pages_of(installation, operation):
        assert offered_choices(page, operation) == worded_choices(REJECTED_CHOICES)


async def test_no_page_asks_anybody_about_a_customer_without_a_card(installation: Installation) -> None:
    operation = await stop_operation(installation, State.held, Hold.no_card)
    for page in await pages_of(installation, operation):
        assert offered_choices(page, operation) == []
