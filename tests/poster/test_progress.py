"""A card's progress in the customer's comment in Poster: one line, and the cafe's own words around it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from connector_sdk import LoyaltyEvent, TillAccount
from connector_sdk.loyalty import StampAdded, VoucherExpired, VoucherIssued, VoucherRedeemed
from connectors.cli.servers import serving
from poster_connector import progress
from poster_connector.connector import PosterConnector
from poster_connector.progress import Progress, progress_in, with_progress
from poster_connector.sandbox import Account, PosterSandbox
from poster_connector.settings import PosterApp, PosterSettings
from tests.installation import ANNA, BORYS, Installation

WORDS = "Likes oat milk.\nBirthday cake in May, ask for Olena ★ regular"
START = datetime(2026, 11, 20, 8, tzinfo=UTC)
ACCOUNT = TillAccount(id="861052", name="Cafe", currency="UAH", zone="Europe/Kyiv")


@pytest.fixture
async def cafe() -> AsyncIterator[tuple[Account, PosterConnector]]:
    """A Poster account over HTTP, and the connector that was switched on for it."""
    account = Account()
    async with serving(PosterSandbox(account).application()) as origin:
        settings = PosterSettings(access_token=SecretStr(account.token), show_progress=True)
        connector = PosterConnector(settings, app=PosterApp(api_url=f"{origin}/api"), account=ACCOUNT)
        yield account, connector
        await connector.aclose()


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_WRITES", 0.0)


def event(kind: type[LoyaltyEvent], number: int, phone: str = ANNA, **more: object) -> LoyaltyEvent:
    content = {"id": f"e{number}", "at": START + timedelta(seconds=number), "business_id": "", **more}
    return kind.model_validate({**content, "customer": {"phone": phone}})


def stamped(number: int, stamps: int, phone: str = ANNA) -> LoyaltyEvent:
    return event(StampAdded, number, phone, card={"stamps": stamps, "goal": 8})


def voucher(kind: type[LoyaltyEvent], number: int, code: str) -> LoyaltyEvent:
    return event(kind, number, voucher={"redeem_code": code})


def comment_of(account: Account, phone: str = ANNA) -> str:
    return str(account.clients[account.client(phone)]["comment"])


async def test_progress_and_vouchers_stand_in_a_line_of_their_own(cafe: tuple[Account, PosterConnector]) -> None:
    account, connector = cafe
    account.clients[account.client(ANNA)]["comment"] = WORDS
    await connector.on_loyalty_event(stamped(1, 4))
    assert comment_of(account) == f"{WORDS}\n★ 4/8"
    await connector.on_loyalty_event(voucher(VoucherIssued, 2, "FREECOFFEE"))
    assert comment_of(account) == f"{WORDS}\n★ 4/8 · FREECOFFEE"
    await connector.on_loyalty_event(voucher(VoucherRedeemed, 3, "FREECOFFEE"))
    assert comment_of(account) == f"{WORDS}\n★ 4/8"
    assert account.echoes == []


async def test_a_thousand_updates_leave_the_cafes_own_words_alone(cafe: tuple[Account, PosterConnector]) -> None:
    account, connector = cafe
    account.clients[account.client(ANNA)]["comment"] = WORDS
    chance = random.Random(3)
    for number in range(1000):
        match chance.randrange(4):
            case 0:
                happened = voucher(VoucherIssued, number, f"GIFT{number:04d}")
            case 1:
                happened = voucher(chance.choice([VoucherRedeemed, VoucherExpired]), number, f"GIFT{number - 2:04d}")
            case _:
                happened = stamped(number, chance.randrange(9))
        await connector.on_loyalty_event(happened)
    assert with_progress(comment_of(account), None) == WORDS
    await connector.leave()
    assert comment_of(account) == WORDS


async def test_what_the_cafe_types_meanwhile_stays(cafe: tuple[Account, PosterConnector]) -> None:
    account, connector = cafe
    client = account.clients[account.client(ANNA)]
    await connector.on_loyalty_event(stamped(1, 4))
    client["comment"] += "\nCalled about the cake"
    await connector.on_loyalty_event(stamped(2, 5))
    assert client["comment"] == "★ 5/8\nCalled about the cake"
    await connector.leave()
    assert client["comment"] == "Called about the cake"


async def test_what_happens_at_once_is_written_together(cafe: tuple[Account, PosterConnector]) -> None:
    account, connector = cafe
    account.client(ANNA)
    events = [stamped(number, number % 8) for number in range(1, 30)]
    events += [voucher(VoucherIssued, 40, "GIFT-A"), voucher(VoucherIssued, 41, "GIFT-B")]
    await asyncio.gather(*map(connector.on_loyalty_event, events))
    assert account.comments_written <= 3
    assert comment_of(account) == "★ 5/8 · GIFT-A · GIFT-B"


async def test_the_event_of_a_voucher_that_comes_after_its_use_shows_nothing(
    cafe: tuple[Account, PosterConnector],
) -> None:
    account, connector = cafe
    account.client(ANNA)
    await connector.on_loyalty_event(stamped(1, 4))
    await connector.on_loyalty_event(voucher(VoucherRedeemed, 3, "FREECOFFEE"))
    await connector.on_loyalty_event(voucher(VoucherIssued, 2, "FREECOFFEE"))
    assert comment_of(account) == "★ 4/8"


async def test_a_failed_write_is_told_to_everybody_who_waited_for_it(cafe: tuple[Account, PosterConnector]) -> None:
    account, connector = cafe
    account.client(ANNA)
    account.fail_next = [20] * 3
    told = await asyncio.gather(
        *(connector.on_loyalty_event(stamped(number, number)) for number in range(1, 4)), return_exceptions=True
    )
    assert any(isinstance(error, Exception) for error in told)
    account.fail_next = []
    await connector.on_loyalty_event(stamped(9, 6))
    assert comment_of(account) == "★ 6/8"


async def test_nobody_elses_comment_is_written_and_nothing_without_the_wish(
    cafe: tuple[Account, PosterConnector],
) -> None:
    account, connector = cafe
    account.client(ANNA)
    account.clients[account.client(BORYS)]["comment"] = WORDS
    await connector.on_loyalty_event(stamped(1, 4))
    assert comment_of(account, BORYS) == WORDS
    quiet = PosterConnector(PosterSettings(access_token=SecretStr(account.token)), app=connector.app, account=ACCOUNT)
    await quiet.on_loyalty_event(stamped(2, 5))
    assert comment_of(account) == "★ 4/8"


async def test_the_lines_are_gone_with_the_connection(installation: Installation) -> None:
    connection = await installation.connect()
    installation.cafe.clients[installation.cafe.client(ANNA)]["comment"] = WORDS
    await installation.host.services.connections.edit(connection.id, {"show_progress": "true"})
    edited = await installation.host.services.connections.get(connection.id)
    await installation.host.tills.of(edited).on_loyalty_event(stamped(1, 4))
    assert comment_of(installation.cafe) == f"{WORDS}\n★ 4/8"
    await installation.host.services.connections.remove(connection.id)
    assert comment_of(installation.cafe) == WORDS


@given(
    words=st.text(alphabet="ab ★/8·\n4\r", max_size=60),
    stamps=st.integers(0, 9),
    codes=st.lists(st.just("X1"), max_size=2),
)
def test_a_line_that_comes_and_goes_leaves_the_text_as_it_was(words: str, stamps: int, codes: list[str]) -> None:
    if progress_in(words) is not None:  # what looks like our line is our line
        return
    shown = with_progress(words, Progress(stamps, 8, tuple(codes)))
    assert progress_in(shown) == Progress(stamps, 8, tuple(codes))
    assert with_progress(shown, None) == words


@pytest.mark.parametrize(
    ("comment", "without"),
    [
        ("Regular\r\n★ 4/8 · FREECOFFEE\r\nlikes oat", "Regular\r\nlikes oat"),
        ("★ 4/8\r\nlikes oat", "likes oat"),
        ("★ 4/8\nlikes oat", "likes oat"),
        ("Regular\n★ 4/8\n\nlikes oat", "Regular\n\nlikes oat"),
    ],
)
def test_a_line_among_others_is_found_whatever_breaks_them(comment: str, without: str) -> None:
    assert progress_in(comment) is not None
    assert with_progress(comment, None) == without
    changed = with_progress(comment, Progress(5, 8))
    assert changed.count("★") == 1
    assert with_progress(changed, None) == without


@pytest.mark.parametrize("comment", [4521, {"text": "a door code"}])
async def test_a_comment_that_cannot_be_read_is_left_as_it_is(
    cafe: tuple[Account, PosterConnector], comment: object
) -> None:
    account, connector = cafe
    account.clients[account.client(ANNA)]["comment"] = comment  # type: ignore[typeddict-item]
    await connector.on_loyalty_event(stamped(1, 4))
    assert account.clients[account.client(ANNA)]["comment"] == comment


async def test_an_event_that_is_told_late_brings_no_older_stamps_back(cafe: tuple[Account, PosterConnector]) -> None:
    account, connector = cafe
    account.client(ANNA)
    await connector.on_loyalty_event(stamped(5, 5))
    await connector.on_loyalty_event(stamped(4, 4))
    assert comment_of(account) == "★ 5/8"


async def test_nothing_is_written_back_once_the_connection_was_left(cafe: tuple[Account, PosterConnector]) -> None:
    account, connector = cafe
    account.client(ANNA)
    await connector.on_loyalty_event(stamped(1, 4))
    await connector.leave()
    await connector.on_loyalty_event(stamped(2, 5))
    assert comment_of(account) == ""
