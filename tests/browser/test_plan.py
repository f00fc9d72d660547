"""A cafe sees, in Chromium, that its 7stamp plan ends, buys a larger one, and the stamps that waited go out."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.installation import ANNA
from tests.served_installation import NARROW, WIDE, ServedInstallation, serve_installation, signed_in


@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
async def test_a_cafe_sees_its_plan_end_and_says_that_it_has_a_larger_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, viewport: dict[str, int]
) -> None:
    async with serve_installation(tmp_path, monkeypatch) as served:
        await _see(served, viewport)


async def _see(served: ServedInstallation, viewport: dict[str, int]) -> None:
    installation = served.installation
    installation.sevenstamp.state.allowed = 5
    connection = await installation.connect()
    for _ in range(4):
        installation.cafe.sell(installation.cafe.client(ANNA))
    await installation.sync()
    page = await signed_in(await served.page(viewport=viewport))
    await page.goto(f"/connections/{connection.id}")
    await expect(page.get_by_text("4 of the 5 card updates of your 7stamp plan are used.")).to_be_visible()
    await expect(page.get_by_text(re.compile("When all are used, stamps wait until"))).to_be_visible()
    await _look(page, f"plan-near-{viewport['width']}")
    for _ in range(2):
        installation.cafe.sell(installation.cafe.client(ANNA))
    await installation.sync()
    await page.goto(f"/connections/{connection.id}")
    await expect(page.get_by_role("heading", name=re.compile("Your 7stamp plan is used up until"))).to_be_visible()
    await _look(page, f"plan-used-{viewport['width']}")
    installation.sevenstamp.state.allowed = 100
    button = page.get_by_role("button", name="I have a larger plan now")
    await button.focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("The plan has room: what waited is on its way.")).to_be_visible()
    await installation.sync()
    assert installation.stamps(ANNA) == 6


async def _look(page: Page, name: str) -> None:
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    if folder := os.environ.get("PICTURES"):
        await page.screenshot(path=f"{folder}/{name}.png", full_page=False)
