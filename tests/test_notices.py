"""Emails, received by a real SMTP server on loopback: one of trouble, one of its end, never more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
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
from connectors.domain.alert_timing import next_monday
from connectors.domain.clock import DAY, MINUTE, SteadyClock, micros
from connectors.services import Refusal, SubscriptionRequest
from connectors.store import connections, relay
from poster_connector.sandbox import Account
from tests.installation import ANNA, KEY, Installation, build
from tests.web.browser import open_browsers

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
    assert box.letters[0]["Subject"] == f"{name}: 4 of 5 card updates of this month are used"
    assert "stamps wait until" in box.letters[0].get_content()
    for _ in range(2):
        cafe.cafe.sell(cafe.cafe.client(ANNA))
    await cafe.sync()
    assert await rounds(cafe, 30) == 1
    assert "all card updates of this month are used" in box.letters[1]["Subject"]
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


# --- the week -------------------------------------------------------------------------------------------------------


async def until(installation: Installation, moment_: int) -> int:
    """Go on to a moment, with one round of the host's maintenance there, and return how many messages went out."""
    clock = installation.host.store.clock
    clock.ahead += moment_ - clock.now()  # type: ignore[attr-defined]
    return await installation.host.notices.round()


async def test_each_monday_at_nine_the_cafe_is_told_of_its_week_once(
    cafe: Installation, mailbox: tuple[Mailbox, int]
) -> None:
    box, _ = mailbox
    services, connection = cafe.host.services, cafe.connection
    for number in range(4):
        cafe.cafe.sell(cafe.cafe.client(ANNA) if number == 0 else 0)
    await cafe.sync()
    monday = next_monday(cafe.host.store.clock.now(), "Europe/Kyiv")
    assert await until(cafe, monday + MINUTE) == 0  # nobody wanted it
    await services.connections.set_alert_email(connection.id, "anna@cafe.example", "en", weekly=True)
    second = next_monday(cafe.host.store.clock.now(), "Europe/Kyiv")
    assert second == monday + 7 * DAY
    assert await until(cafe, second - MINUTE) == 0
    assert await until(cafe, second + MINUTE) == 1
    assert await rounds(cafe, 5) == 0
    letter = box.letters[0]
    assert letter["Subject"] == "Poster · Cafe Lviv: the week"
    text = letter.get_content()
    assert "Receipts: 0 (100 % below 4)" in text
    assert f"https://till.example/connections/{connection.id}/numbers" in text
    assert f"https://till.example/connections/{connection.id}/settings#email-card" in text
    # a form that says nothing of it leaves it as it is; one that says no ends it
    await services.connections.set_alert_email(connection.id, "anna@cafe.example", "en")
    assert await until(cafe, second + 7 * DAY) == 1
    await services.connections.set_alert_email(connection.id, "anna@cafe.example", "en", weekly=False)
    assert await until(cafe, second + 14 * DAY) == 0


async def test_the_week_names_receipts_without_a_customer_and_no_person(
    cafe: Installation, mailbox: tuple[Mailbox, int]
) -> None:
    services, connection = cafe.host.services, cafe.connection
    await services.connections.set_alert_email(connection.id, "anna@cafe.example", "en", weekly=True)
    for number in range(4):
        cafe.cafe.sell(cafe.cafe.client(ANNA) if number == 0 else 0)
    await cafe.sync()
    assert await until(cafe, next_monday(cafe.host.store.clock.now(), "Europe/Kyiv")) == 1
    text = mailbox[0].letters[0].get_content()
    assert "Receipts: 4 (nothing to compare with)" in text
    assert "With a customer: 25 %" in text
    assert "3 receipts had no customer attached" in text
    assert ANNA not in text


async def test_a_week_that_could_not_be_told_is_told_later_and_an_old_one_never(
    cafe: Installation, mailbox: tuple[Mailbox, int]
) -> None:
    box, _ = mailbox
    await cafe.host.services.connections.set_alert_email(cafe.connection.id, "anna@cafe.example", "en", weekly=True)
    monday = next_monday(cafe.host.store.clock.now(), "Europe/Kyiv")
    box.answer = "451 later"
    assert await until(cafe, monday) == 0
    assert await rounds(cafe, 3) == 0
    box.answer = "250 OK"
    assert await rounds(cafe, 3) == 1
    # the host was off for half a week: the next Monday is soon
    assert await until(cafe, monday + 10 * DAY) == 0
    assert await until(cafe, monday + 14 * DAY) == 1


@pytest.mark.parametrize(
    ("now", "zone", "monday"),
    [
        ("2026-11-27T12:00:00+00:00", "Europe/Kyiv", "2026-11-30T09:00:00+02:00"),
        ("2026-11-30T06:59:59+00:00", "Europe/Kyiv", "2026-11-30T09:00:00+02:00"),
        ("2026-11-30T07:00:00+00:00", "Europe/Kyiv", "2026-12-07T09:00:00+02:00"),
        ("2026-11-29T23:30:00+00:00", "Asia/Kuala_Lumpur", "2026-11-30T09:00:00+08:00"),
        ("2026-03-29T12:00:00+00:00", "Europe/Kyiv", "2026-03-30T09:00:00+03:00"),  # the clock was put forward
        ("2026-10-19T12:00:00+00:00", "Europe/Kyiv", "2026-10-26T09:00:00+02:00"),
    ],
)
def test_nine_on_monday_is_the_venues(now: str, zone: str, monday: str) -> None:
    assert next_monday(micros(datetime.fromisoformat(now)), zone) == micros(datetime.fromisoformat(monday))


async def test_a_cafe_ticks_and_unticks_its_week_in_the_settings(cafe: Installation) -> None:
    async with open_browsers(cafe) as browsers:
        browser, page = await browsers.new().sign_in(), f"/connections/{cafe.connection.id}/settings"
        path = page.replace("settings", "email")

        async def is_ticked() -> bool:
            return 'name="weekly" value="1" checked' in (await browser.get(page)).text

        assert not await is_ticked()
        await browser.post(path, email="anna@cafe.example", weekly="1", **{"has.weekly": "1"})
        assert await is_ticked()
        # the form of the welcome page has no such box, and leaves it as it is
        await browser.post(path, email="borys@cafe.example", back="welcome")
        assert await is_ticked()
        await browser.post(path, email="borys@cafe.example", **{"has.weekly": "1"})
        assert not await is_ticked()
        lines = await cafe.journal()
        assert lines.count("Whether the cafe is told of each week was changed.") == 2
