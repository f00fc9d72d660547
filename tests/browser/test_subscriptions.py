"""A cafe has another program told of its events, in Chromium: it fails, is mended, and gets what it missed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from playwright.async_api import expect
from standardwebhooks.webhooks import Webhook

from tests.relay.subscriber import Received, subscribing
from tests.served_installation import NARROW, WIDE, ServedInstallation, serve_installation, signed_in, until


@pytest.fixture
async def allowing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ServedInstallation]:
    """An installation whose operator lets events be posted to this machine."""
    async with serve_installation(tmp_path, monkeypatch, relay_hosts="127.0.0.1") as served:
        yield served


@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
async def test_a_cafe_subscribes_an_address_mends_it_and_replays(
    allowing: ServedInstallation, viewport: dict[str, int]
) -> None:
    served = allowing
    installation = served.installation
    await installation.connect()
    page = await signed_in(await served.page(viewport=viewport))
    base = f"/connections/{installation.connection.id}"
    async with subscribing(answer=_only_the_right_path) as subscriber:
        await page.goto(f"{base}/settings")
        await page.get_by_role("main").get_by_role("link", name="Tell others").click()
        await expect(page.get_by_role("heading", name="Nobody is told of your events yet")).to_be_visible()

        # what cannot be used is refused beside the field, and what was typed stays
        await page.get_by_label("Address").fill("https://10.0.0.1/hook")
        await page.get_by_label("What you call it").fill("Our CRM")
        await page.get_by_label(re.compile("A receipt was read")).check()
        await page.get_by_role("button", name="Tell this address").click()
        await expect(page.get_by_text("it leads into a private network")).to_be_visible()
        await expect(page.get_by_label("What you call it")).to_have_value("Our CRM")

        await page.get_by_label("Address").fill(f"{subscriber.origin}/wrong")
        await page.get_by_role("button", name="Tell this address").click()
        secret = await page.get_by_label("Secret").input_value()
        assert secret.startswith("whsec_")
        await page.reload()
        await expect(page.get_by_label("Secret")).to_have_count(0)  # shown once

        # the test fails, and says how
        await page.get_by_role("button", name="Send a test").click()
        await expect(page.get_by_text("The test was not taken: see below.")).to_be_visible()
        await page.get_by_text("1 try").click()
        await expect(page.get_by_text("404")).to_be_visible()

        # mended, by keyboard
        await page.get_by_label("Address").focus()
        await page.keyboard.type(f"{subscriber.origin}/right")
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("Saved.")).to_be_visible()
        await page.get_by_role("button", name="Send a test").click()
        await expect(page.get_by_text("The test was taken.")).to_be_visible()

        # and sent once more
        await page.get_by_role("button", name=re.compile("Send again")).first.click()
        await expect(page.get_by_text(re.compile("1 event goes out again"))).to_be_visible()

        # on a slow machine the first test, which failed, is tried again meanwhile and taken too
        async def is_taken_twice() -> bool:
            return 2 in Counter(one.headers["webhook-id"] for one in subscriber.taken).values()

        await until(is_taken_twice)
        await page.reload()
        await expect(page.get_by_role("listitem").filter(has_text="A test: taken").nth(1)).to_be_visible()
        width = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert width <= 0
        taken = subscriber.taken
        assert {one.json["type"] for one in taken} == {"test"}
        assert Webhook(secret).verify(taken[0].body, taken[0].headers)

        # stopped and gone
        await page.locator("summary", has_text="End it").click()
        await page.get_by_role("button", name="Stop for now").click()
        await expect(page.get_by_text("Somebody stopped it.")).to_be_visible()
        await page.locator("summary", has_text="End it").click()
        await page.get_by_text("Remove it", exact=True).click()
        await page.get_by_role("button", name="Remove", exact=True).click()
        await expect(page.get_by_role("heading", name="Nobody is told of your events yet")).to_be_visible()


async def test_a_cafe_lets_a_program_in_and_out_again(allowing: ServedInstallation) -> None:
    installation = allowing.installation
    await installation.connect()
    page = await signed_in(await allowing.page(viewport=NARROW))
    await page.goto(f"/connections/{installation.connection.id}/settings")
    await page.get_by_role("main").get_by_role("link", name="API tokens").click()
    await expect(page.get_by_role("heading", name="No program uses the API yet")).to_be_visible()
    await page.get_by_label("What uses it").fill("Our CRM")
    await page.get_by_role("button", name="Make a token").click()
    await expect(page.get_by_text("choose at least one right")).to_be_visible()
    await page.get_by_label("See tills, receipts and events").check()
    await page.keyboard.press("Enter")
    token = await page.get_by_label("Token", exact=True).input_value()
    await page.reload()
    await expect(page.get_by_label("Token", exact=True)).to_have_count(0)  # shown once
    bearer = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=allowing.origin, trust_env=False, headers=bearer) as client:
        assert (await client.get("/api/v1/connections")).json()["items"][0]["id"] == installation.connection.id
        assert (await client.post("/api/v1/sales", json={})).status_code in (403, 422)
        await page.reload()
        await expect(page.get_by_text("Last used")).to_be_visible()
        await page.locator("summary", has_text="Revoke it").click()
        await page.get_by_role("button", name="Revoke").click()
        await expect(page.get_by_role("heading", name="No program uses the API yet")).to_be_visible()
        assert (await client.get("/api/v1/connections")).status_code == 401


def _only_the_right_path(request: Received) -> int:
    return 200 if request.path == "/right" else 404
