"""What a till asks while the order is open: whose card it is, and the link of a receipt."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from connector_sdk.money import Money
from connector_sdk.rule import Mode, StampRule
from connectors.services.people import reference_from
from connectors.sevenstamp.sandbox import Faults
from connectors.sync import card_lookups
from connectors.sync.vouchers import WantedVoucher
from connectors.web.app import application
from poster_connector.sandbox import SECRET
from tests.installation import ANNA, Installation, build
from tests.web.api.program import Program, programming

RULE = StampRule(kind="by_amount", amount=Money(1000, "UAH"), mode=Mode.both)


@pytest.fixture
async def cafe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Installation]:
    async with build(tmp_path, monkeypatch, public_url="https://stamps.example") as installation:
        installation.sevenstamp.state.goal = 8
        await installation.connect(RULE)
        yield installation


@pytest.fixture
async def till(cafe: Installation) -> AsyncIterator[Program]:
    async with programming(cafe, "read") as made:
        yield made


async def a_card(cafe: Installation, stamps: int = 3) -> str:
    """Issue a card with stamps and a voucher; return its number."""
    business, cards = cafe.connection.business_id, cafe.host.services.cards
    card = await cards.issue_card(business, phone=ANNA, email=None)
    await cards.issue_voucher(business, WantedVoucher(title="Coffee", redeem_code="FREECOFFEE", card_id=card.id))
    cafe.sevenstamp.state.cards[card.id].stamps = stamps
    return card.number


def asking(cafe: Installation, **names: str) -> dict[str, str]:
    return {"connection": cafe.connection.id, **names}


@pytest.mark.parametrize("name", ["number", "phone", "token"])
async def test_a_card_is_shown_with_its_vouchers_and_what_the_basket_earns(
    cafe: Installation, till: Program, name: str
) -> None:
    number = await a_card(cafe)
    (card,) = cafe.sevenstamp.state.cards.values()
    names = {"number": number, "phone": "050 111 22 01", "token": card.token}
    answer = await till.get("/till/card", params=asking(cafe, **{name: names[name]}, amount="52.00"))
    assert answer.status_code == 200, answer.text
    shown = answer.json()
    assert shown["card"] == {
        "ending": number[-4:],
        "name": None,
        "stamps": 3,
        "goal": 8,
        "missing": 5,
        "vouchers": [{"redeem_code": "FREECOFFEE", "title": "Coffee"}],
    }
    assert (shown["found"], shown["stale"], shown["greeting"]) == (True, False, "3 of 8 stamps")
    assert (shown["basket"]["stamps"], shown["basket"]["fills_card"]) == (5, True)


async def test_people_of_one_name_are_all_shown(cafe: Installation, till: Program) -> None:
    assert cafe.host.sevenstamp is not None
    for phone, name in ((ANNA, "Anna Smith"), ("+380501112299", "Anna Jones"), ("+380501112288", "Borys")):
        await cafe.host.sevenstamp.with_key("7loc_sc_test_key_9f81").issue_card(phone=phone)
        list(cafe.sevenstamp.state.cards.values())[-1].name = name
    shown = (await till.get("/till/card", params=asking(cafe, name="anna"))).json()
    assert [shown["card"]["name"], *(other["name"] for other in shown["others"])] == ["Anna Smith", "Anna Jones"]
    assert shown["greeting"].startswith("Anna Smith: ")


async def test_who_has_no_card_is_told_so_and_nothing_is_made(cafe: Installation, till: Program) -> None:
    shown = (await till.get("/till/card", params=asking(cafe, phone=ANNA))).json()
    assert (shown["found"], shown["card"], shown["stale"]) == (False, None, False)
    assert cafe.sevenstamp.state.cards == {}


@pytest.mark.parametrize(
    "names", [{}, {"phone": ANNA, "number": "100000"}, {"phone": "12"}, {"number": "1"}, {"email": "nobody"}]
)
async def test_what_can_be_nobodys_is_refused_in_words(
    cafe: Installation, till: Program, names: dict[str, str]
) -> None:
    answer = await till.get("/till/card", params=asking(cafe, **names))
    assert answer.status_code in (409, 422), answer.text


@pytest.mark.parametrize(("amount", "item"), [("much", None), (None, ":"), (None, "1:many")])
async def test_a_basket_that_is_none_is_refused(
    cafe: Installation, till: Program, amount: str | None, item: str | None
) -> None:
    basket = {name: text for name, text in (("amount", amount), ("item", item)) if text}
    answer = await till.get("/till/card", params=asking(cafe, number="100000", **basket))
    assert answer.status_code == 422


async def test_a_slow_7stamp_gets_the_last_answer_marked_and_never_an_error(
    cafe: Installation, till: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(card_lookups, "_PATIENCE", 0.2)
    monkeypatch.setattr(card_lookups, "_PATIENCE_WITH_ANSWER", 0.05)
    await a_card(cafe)
    first = (await till.get("/till/card", params=asking(cafe, phone=ANNA))).json()
    cafe.sevenstamp.faults = Faults(latency_ms=(1500, 1500))
    second = (await till.get("/till/card", params=asking(cafe, phone=ANNA, amount="20.00"))).json()
    assert (second["stale"], second["card"], second["as_of"]) == (True, first["card"], first["as_of"])
    assert second["basket"]["stamps"] == 2
    unknown = await till.get("/till/card", params=asking(cafe, phone="+380501112299"))
    assert unknown.status_code == 200
    shown = unknown.json()
    assert (shown["found"], shown["stale"], shown["as_of"]) == (False, True, None)
    assert "Go on with the sale" in shown["greeting"]


@pytest.mark.parametrize("faults", [{"drop_before": 1.0}, {"status_500": 1.0}, {"status_429": 1.0}, {"garbage": 1.0}])
async def test_a_7stamp_that_fails_blocks_no_sale(cafe: Installation, till: Program, faults: dict[str, float]) -> None:
    cafe.sevenstamp.faults = Faults(**faults)  # type: ignore[arg-type]
    answer = await till.get("/till/card", params=asking(cafe, phone=ANNA))
    assert (answer.status_code, answer.json()["stale"]) == (200, True)


async def test_one_business_asks_7stamp_a_bounded_number_of_questions_at_once(
    cafe: Installation, till: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(card_lookups, "_PATIENCE", 0.3)
    cafe.sevenstamp.faults = Faults(latency_ms=(1000, 1000))
    assert cafe.host.lookups is not None
    most = 0

    async def ask(number: int) -> None:
        nonlocal most
        await till.get("/till/card", params=asking(cafe, number=f"{number:06d}"))

    asked = [asyncio.create_task(ask(number)) for number in range(40)]
    while not all(task.done() for task in asked):
        most = max(most, len(cafe.host.lookups._tasks))
        await asyncio.sleep(0.01)
    assert 0 < most <= 16


async def test_a_forgotten_customer_is_forgotten_here_too(cafe: Installation, till: Program) -> None:
    await a_card(cafe)
    await till.get("/till/card", params=asking(cafe, phone=ANNA))
    assert cafe.host.lookups is not None
    assert cafe.host.lookups._answers
    (business,) = await cafe.host.services.people.businesses(None)
    await cafe.host.services.people.forget_person(reference_from(ANNA, None), business, _ignore)
    assert not cafe.host.lookups._answers


async def _ignore(_done: float) -> None:
    return


# Poster's screen, which signs what it asks


@pytest.fixture
async def screen(cafe: Installation) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=application(cafe.host), client=("198.51.100.20", 4000))
    async with httpx.AsyncClient(transport=transport, base_url="https://stamps.example") as client:
        yield client


def signed(url: str, *, account: str = "api-demo", secret: str = SECRET, at: float | None = None) -> dict[str, str]:
    """The headers that Poster adds to what an application on its screen asks."""
    sent_at = str(int(time.time() if at is None else at))
    signature = hashlib.md5(f"{url}{sent_at}{secret}".encode()).hexdigest()
    return {"X-Poster-Signature": signature, "X-Poster-Time": sent_at, "X-Poster-Url": account}


async def test_posters_screen_asks_without_a_token(cafe: Installation, screen: httpx.AsyncClient) -> None:
    number = await a_card(cafe)
    url = f"https://stamps.example/api/v1/till/card?connection={cafe.connection.id}&number={number}"
    answer = await screen.get(url, headers=signed(url))
    assert answer.status_code == 200, answer.text
    assert answer.json()["card"]["stamps"] == 3


async def test_a_signature_of_something_else_lets_nobody_in(cafe: Installation, screen: httpx.AsyncClient) -> None:
    number = await a_card(cafe)
    url = f"https://stamps.example/api/v1/till/card?connection={cafe.connection.id}&number={number}"
    wrong = [
        signed(f"{url}&more=1"),
        signed(url, secret="another secret"),
        signed(url, account="another-account"),
        signed(url, at=time.time() - 3600),
        {**signed(url), "X-Poster-Signature": "nonsense"},
        {},
    ]
    for headers in wrong:
        answer = await screen.get(url, headers=headers)
        assert answer.status_code == 401, headers
    assert number not in answer.text


# Links


async def test_a_receipts_link_is_known_before_the_receipt_is(cafe: Installation, till: Program) -> None:
    path = f"/connections/{cafe.connection.id}/receipt-link"
    before = (await till.get(path, params={"receipt": "330660"})).json()
    assert before["url"].startswith("https://stamps.example/r/")
    assert len(before["url"].rpartition("/")[2]) == 24
    assert (before["svg"], before["png"], before["expires_at"]) == (
        f"{before['url']}.svg",
        f"{before['url']}.png",
        None,
    )
    assert cafe.cafe.sell(0) == 330660
    await cafe.sync()
    after = (await till.get(path, params={"receipt": "330660"})).json()
    assert after["url"] == before["url"]
    assert after["expires_at"] is not None


async def test_a_cafe_without_receipt_codes_has_no_links(installation: Installation) -> None:
    await installation.connect()
    async with programming(installation, "read") as till:
        answer = await till.get(f"/connections/{installation.connection.id}/receipt-link", params={"receipt": "1"})
    assert (answer.status_code, answer.json()["code"]) == (409, "refused")
    assert "choose so in its rule first" in answer.json()["detail"]
