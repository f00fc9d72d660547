"""A cafe forgets a customer of its own: it sees what goes and shows its key once more, and nobody else's go."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest

from tests.installation import ANNA, BORYS, KEY, Installation
from tests.sync.test_erasure import BY_AMOUNT, EMAIL, KEY_OF_OTHER, decrypted_database, traces_of_anna, two_tills
from tests.web.browser import Browser, Browsers, open_browsers


@pytest.fixture
async def browsers(installation: Installation) -> AsyncIterator[Browsers]:
    async with open_browsers(installation) as browsers:
        yield browsers


def sealed_in(text: str) -> str:
    match = re.search(r'name="person" value="([^"]+)"', text)
    assert match, text
    return match[1]


async def asked(browser: Browser, path: str, who: str) -> str:
    return (await browser.post(path, who=who)).text


async def test_a_cafe_forgets_its_customer_with_its_key(installation: Installation, browsers: Browsers) -> None:
    await two_tills(installation)
    mine = await browsers.new().sign_in()
    path = f"/connections/{installation.connection.id}/forget"
    receipt = re.findall(
        r"/connections/[\w-]+/receipts/[0-9a-f]+", (await mine.get(path[:-7] + f"/receipts?q={ANNA}")).text
    )
    for page in (f"/connections/{installation.connection.id}/settings", receipt[0]):
        assert f'href="{path}"' in (await mine.get(page)).text
    for odd in ("", "12", "anna", "+380"):
        assert (await mine.post(path, who=odd)).status_code == 422, odd
    assert "Nothing here names this customer." in await asked(mine, path, "+380509999999")
    shown = await asked(mine, path, "050 111 22 01")
    assert "Who it was, on 3 receipts." in shown
    assert "3 requests of tills that name them." in shown
    assert ANNA not in shown
    assert EMAIL not in shown
    person = sealed_in(shown)
    wrong = await mine.post(path, person=person, secret=KEY_OF_OTHER)
    assert wrong.status_code == 422
    assert sealed_in(wrong.text)
    assert traces_of_anna(await decrypted_database(installation))
    done = await mine.post(path, person=person, secret=KEY)
    assert done.status_code == 303
    assert "forgotten, on 3 receipts" in (await mine.get(done.headers["location"])).text
    left = await decrypted_database(installation)
    assert traces_of_anna(left) == []
    assert BORYS in left
    assert "Nothing here names this customer." in await asked(mine, path, ANNA)
    story = (await mine.get(receipt[0])).text
    assert "····" in story
    assert "Find the card" not in story


async def test_another_cafe_cannot_use_what_was_sealed_here(installation: Installation, browsers: Browsers) -> None:
    await two_tills(installation)
    other = await installation.host.services.onboarding.connect(
        "webhook",
        {"till_name": "x", "currency": "EUR", "zone": "Europe/Madrid", "proof": "address", "map_receipt_id": "id",
         "map_paid": "total", "map_closed_at": "at", "map_phone": "phone"},
        KEY_OF_OTHER,
        lambda _account: BY_AMOUNT.model_copy(update={"kind": "per_order", "amount": None}),
    )  # fmt: skip
    mine, their_browser = await browsers.new().sign_in(), await browsers.new().sign_in(KEY_OF_OTHER)
    person = sealed_in(await asked(mine, f"/connections/{installation.connection.id}/forget", ANNA))
    path = f"/connections/{other.id}/forget"
    assert "Nothing here names this customer." in await asked(their_browser, path, ANNA)
    for sealed in (person, "x", "A" * 4000):
        assert (await their_browser.post(path, person=sealed, secret=KEY_OF_OTHER)).status_code == 404
    assert traces_of_anna(await decrypted_database(installation))


async def test_looking_for_customers_is_bounded(installation: Installation, browsers: Browsers) -> None:
    await two_tills(installation)
    mine = await browsers.new().sign_in()
    path = f"/connections/{installation.connection.id}/forget"
    texts = [await asked(mine, path, f"{number:06d}") for number in range(25)]
    assert "Too many tries" in texts[-1]
