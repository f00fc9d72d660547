"""Emails, received by a real SMTP server on loopback: one of trouble, one of its end, never more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from email import message_from_bytes
from email.message import EmailMessage, Message
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP
from pydantic import SecretStr

from connector_sdk.messages import Message as Words
from connector_sdk.rule import Refunds, StampRule, UnknownCustomer
from connectors.domain.clock import MINUTE, SteadyClock
from connectors.services import Refusal, SubscriptionRequest
from connectors.store import connections, relay
from poster_connector.sandbox import Account
from tests.installation import ANNA, KEY, Installation, build

OTHER = "861053:5a9e1570ff9af128e93c5a771055bb21"


class Mailbox:
    """The emails that arrived; `answer` is what the server says to the next messages."""

    def __init__(self) -> None:
        self.letters: list[EmailMessage] = []
        self.answer = "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        if self.answer.startswith("250"):
            letter: Message = message_from_bytes(envelope.content, policy=default)
            assert isinstance(letter, EmailMessage)
            self.letters.append(letter)
        return self.answer


@pytest.fixture
async def mailbox() -> AsyncIterator[tuple[Mailbox, int]]:
    box = Mailbox()
    server = await asyncio.get_running_loop().create_server(lambda: SMTP(box), "127.0.0.1", 0)
    yield box, server.sockets[0].getsockname()[1]
    server.close()


class AdvancedClock:
    """The system's clock, `ahead` microseconds later."""

    ahead = 0

    def now(self) -> int:
        return SteadyClock().now() + self.ahead


@pytest.fixture
async def cafe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mailbox: tuple[Mailbox, int]
) -> AsyncIterator[Installation]:
    smtp = SecretStr(f"smtp://127.0.0.1:{mailbox[1]}?from=till@cafe.example")
    async with build(
        tmp_path, monkeypatch, Account(), Account(token=OTHER, name="other"), smtp_url=smtp
    ) as installation:
        installation.host.store.clock = AdvancedClock()
        installation.host.listens_on("https://till.example")
        await installation.connect(StampRule(unknown_customer=UnknownCustomer.issue, refunds=Refunds.flag))
        await installation.host.services.connections.set_alert_email(
            installation.connection.id, "anna@cafe.example", "en"
        )
        yield installation


async def rounds(installation: Installation, minutes: int) -> int:
    """Let some minutes pass, each with the host's maintenance, and return how many messages went out."""
    sent = 0
    for _ in range(minutes):
        installation.host.store.clock.ahead += MINUTE  # type: ignore[attr-defined]
        sent += await installation.host.notices.round()
    return sent


async def test_one_message_of_trouble_after_a_quarter_of_an_hour_and_one_of_its_end(
    cafe: Installation, mailbox: tuple[Mailbox, int]
) -> None:
    box, _ = mailbox
    assert await rounds(cafe, 30) == 0
    cafe.sevenstamp.revoked.add(KEY)
    cafe.cafe.sell(cafe.cafe.client(ANNA))
    await cafe.sync()
    assert await rounds(cafe, 15) == 0
    assert await rounds(cafe, 60) == 1
    letter = box.letters[0]
    assert (letter["To"], letter["From"]) == ("anna@cafe.example", "till@cafe.example")
    assert letter["Subject"] == "Poster · Cafe Lviv: something needs you"
    text = letter.get_content()
    assert f"https://till.example/connections/{cafe.connection.id}" in text
    assert KEY not in letter.as_string()
    assert ANNA not in letter.as_string()
    cafe.sevenstamp.revoked.clear()
    await cafe.host.services.connections.edit(cafe.connection.id, {}, key=KEY)
    assert await rounds(cafe, 60) == 1
    assert box.letters[1]["Subject"] == "Poster · Cafe Lviv: all is well again"
    assert await rounds(cafe, 30) == 0


async def test_trouble_that_passes_by_itself_is_not_worth_a_message(
    cafe: Installation, mailbox: tuple[Mailbox, int]
) -> None:
    receipt = cafe.cafe.sell(cafe.cafe.client(ANNA))
    await cafe.sync()
    cafe.cafe.refund(receipt)
    await cafe.sync()
    assert await rounds(cafe, 10) == 0
    held = next(operation for operation in await cafe.operations() if operation.state == "held")
    await cafe.host.services.review.dismiss(cafe.connection.id, held.id)
    assert await rounds(cafe, 60) == 0
    assert mailbox[0].letters == []


async def test_a_refund_that_waits_for_a_person_is_told_in_the_readers_language(
    cafe: Installation, mailbox: tuple[Mailbox, int]
) -> None:
    await cafe.host.services.connections.set_alert_email(cafe.connection.id, "borys@cafe.example", "ms")
    receipt = cafe.cafe.sell(cafe.cafe.client(ANNA))
    await cafe.sync()
    cafe.cafe.refund(receipt)
    await cafe.sync()
    assert await rounds(cafe, 60) == 1
    assert "something needs you" not in mailbox[0].letters[0]["Subject"]


async def test_what_surely_did_not_go_out_goes_out_later_once(cafe: Installation, mailbox: tuple[Mailbox, int]) -> None:
    box, _ = mailbox
    cafe.sevenstamp.revoked.add(KEY)
    cafe.cafe.sell(cafe.cafe.client(ANNA))
    await cafe.sync()
    box.answer = "451 later"
    assert await rounds(cafe, 30) == 0
    box.answer = "250 OK"
    assert await rounds(cafe, 30) == 1
    assert len(box.letters) == 1


async def test_customers_without_a_card_are_waited_for_and_need_nobody(
    cafe: Installation, mailbox: tuple[Mailbox, int]
) -> None:
    rule = StampRule(unknown_customer=UnknownCustomer.hold)
    await cafe.host.services.connections.edit(cafe.connection.id, {}, rule=lambda _account, _current: rule)
    cafe.cafe.sell(cafe.cafe.client(ANNA))
    await cafe.sync()
    assert [operation.state for operation in await cafe.operations()] == ["held"]
    assert await rounds(cafe, 60) == 0


@pytest.mark.parametrize(
    "address", ["nobody", "a@b", "a b@c.de", "a@b.c\nBcc: all@example.com", "x" * 70 + "@example.com"]
)
async def test_an_address_that_is_none_is_refused(cafe: Installation, address: str) -> None:
    with pytest.raises(Refusal, match="not an email address"):
        await cafe.host.services.connections.set_alert_email(cafe.connection.id, address, "en")


async def test_a_plan_that_is_nearly_used_up_and_one_that_is_are_each_told_once_a_month(
    cafe: Installation, mailbox: tuple[Mailbox, int]
) -> None:
    box, services = mailbox[0], cafe.host.services
    cafe.sevenstamp.state.allowed = 5
    await services.plans.check(cafe.connection.business_id)
    # a second till of the same cafe tells the same address: one message
    other = await services.onboarding.connect("poster", {"access_token": OTHER}, KEY, lambda _account: StampRule())
    await services.connections.set_alert_email(other.id, "anna@cafe.example", "en")
    for _ in range(3):
        cafe.cafe.sell(cafe.cafe.client(ANNA))
    await cafe.sync()
    assert await rounds(cafe, 2) == 0
    cafe.cafe.sell(cafe.cafe.client(ANNA))
    await cafe.sync()
    assert await rounds(cafe, 30) == 1
    name = (await cafe.host.store.read(lambda tx: connections.businesses.get(tx, cafe.connection.business_id))).name
    assert box.letters[0]["Subject"] == f"{name}: 4 of 5 card operations of this month are used"
    assert "stamps wait until" in box.letters[0].get_content()
    for _ in range(2):
        cafe.cafe.sell(cafe.cafe.client(ANNA))
    await cafe.sync()
    assert await rounds(cafe, 30) == 1
    assert "all card operations of this month are used" in box.letters[1]["Subject"]
    assert "None is lost" in box.letters[1].get_content()


async def test_a_subscription_that_was_stopped_is_told_like_other_trouble(
    cafe: Installation, mailbox: tuple[Mailbox, int]
) -> None:
    business, store = cafe.connection.business_id, cafe.host.store
    made = await cafe.host.services.subscriptions.create(business, SubscriptionRequest("https://93.184.216.34/hook"))
    await store.write(lambda tx: relay.subscriptions.disable(tx, made.subscription.id, Words("relay.failing")))
    assert await rounds(cafe, 60) == 1
    await cafe.host.services.subscriptions.set_active(business, made.subscription.id, active=True)
    assert await rounds(cafe, 60) == 1
    assert len(mailbox[0].letters) == 2
