"""A cafe sees, in Chromium, whether till, records and cards agree, and looks at what does not."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from playwright.async_api import expect

from connectors.services.results import ignore
from tests.installation import ANNA, BORYS
from tests.served_installation import NARROW, WIDE, ServedInstallation, serve_installation, signed_in


@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
async def test_a_cafe_sees_that_all_agree_and_then_what_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, viewport: dict[str, int]
) -> None:
    async with serve_installation(tmp_path, monkeypatch) as served:
        await _see(served, viewport)


async def _see(served: ServedInstallation, viewport: dict[str, int]) -> None:
    installation = served.installation
    connection = await installation.connect()
    first = installation.cafe.sell(installation.cafe.client(ANNA))
    installation.cafe.sell(installation.cafe.client(BORYS))
    await installation.sync()
    page = await signed_in(await served.page(viewport=viewport))
    # no night has come yet: nothing is said
    await page.goto(f"/connections/{connection.id}")
    await expect(page.get_by_text(re.compile("agree"))).to_have_count(0)
    reconcile = installation.host.services.agreement.reconcile
    today = (await installation.operations())[0].day
    await reconcile(connection.id, today, ignore)
    await page.goto(f"/connections/{connection.id}")
    state = page.locator('[data-piece="state"]')
    await expect(state.get_by_text(re.compile(r"All 2 receipts from .* agree"))).to_be_visible()

    del installation.cafe.receipts[first]
    await reconcile(connection.id, today, ignore)
    await page.goto(f"/connections/{connection.id}")
    await expect(page.get_by_role("heading", name="1 difference between till, records and cards")).to_be_visible()
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    if folder := os.environ.get("PICTURES"):
        await page.screenshot(path=f"{folder}/agreement-{viewport['width']}.png", full_page=True)
    link = page.get_by_role("region", name="difference").get_by_role("link")
    await link.focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("the till does not show it any more")).to_be_visible()
