"""Every page of the console, and how to get it in front of one's eyes; for pictures and for checks of all pages."""

from __future__ import annotations

from collections.abc import AsyncIterator

from playwright.async_api import Page

from tests.stage import KEY, PASSWORD, Stage


async def every_page(stage: Stage, page: Page, operator: Page) -> AsyncIterator[tuple[str, Page]]:
    """(name, page showing it), one after the other; `page` becomes the cafe's, `operator` the operator's.

    The stage needs its history first. Elements are found by their names in addresses and forms, not by words, so
    that it goes in every language.
    """
    one = stage.town.connection.id
    await page.goto("/sign-in")
    yield "sign-in", page
    await page.goto("/sign-in/operator")
    yield "sign-in-operator", page
    await page.goto("/link/none")
    yield "link", page
    await press(page, "main button.go")
    yield "link-used", page
    await page.goto("/sign-in")
    await page.locator("#key").fill("7loc_no")
    await press(page, "main button.go")
    yield "sign-in-wrong", page
    await page.locator("#key").fill(KEY)
    await press(page, "main button.go")
    await page.wait_for_url("**/")
    yield "catalogue", page
    await page.goto("/my-till")
    yield "my-till", page
    await page.goto("/devices")
    await press(page, "form[action='/devices/link'] button")
    yield "devices", page
    await page.goto("/nowhere")
    yield "missing", page
    async for shown in _connecting(stage, page):
        yield shown
    for name, path in {
        "connection": "",
        "connection-found": "?q=330660",
        "connection-not-found": "?q=99999",
        "connection-rule": "/rule",
        "connection-settings": "/settings",
        "connection-welcome": "/welcome",
        "connection-disconnect": "/disconnect",
        "connection-diagnostics": "/diagnostics",
    }.items():
        await page.goto(f"/connections/{one}{path}")
        yield name, page
    numbers = sorted(stage.town.cafe.receipts)
    await page.goto(await stage.receipt(numbers[-2]))
    yield "receipt", page
    await page.goto(await stage.receipt(numbers[-1]))
    await page.locator("#who").fill("12")
    await press(page, "form[action$='find-card'] button")
    yield "receipt-nobody", page
    card = next(iter(stage.town.sevenstamp.state.cards.values()))
    await page.locator("#who").fill(card.number)
    await press(page, "form[action$='find-card'] button")
    yield "receipt-confirm", page
    await page.goto(f"/connections/{one}")
    await press(page, "form[action$='/pause'] button")
    yield "connection-paused", page
    await page.goto(f"/connections/{one}/resume")
    yield "connection-resume", page
    await press(page, "form[action$='/resume'] button.go")
    await operator.goto("/sign-in/operator")
    await as_operator_anywhere(operator)
    yield "operator", operator


async def press(page: Page, selector: str) -> None:
    """Press a button and wait for the page it leads to."""
    async with page.expect_navigation():
        await page.locator(selector).click()


async def as_operator_anywhere(page: Page) -> None:
    """The same as `as_operator`, in any language."""
    await page.locator("#password").fill(PASSWORD)
    await press(page, "main button.go")
    await page.wait_for_url("**/operator")


async def _connecting(stage: Stage, page: Page) -> AsyncIterator[tuple[str, Page]]:
    """The steps of connecting, with the sandbox's second account, which nobody has connected."""
    await page.goto("/")
    await press(page, "form[action='/connect/poster'] button")
    yield "connect-authorise", page
    await page.locator("input[name='set.access_token']").fill("nonsense")
    await press(page, "form[action$='/authorise'] button")
    yield "connect-authorise-wrong", page
    await page.locator("input[name='set.access_token']").fill(stage.other.token)
    await press(page, "form[action$='/authorise'] button")
    yield "connect-key", page
    await press(page, "form[action$='/key'] button.go")
    yield "connect-where", page
    await press(page, "form[action$='/where'] button.go")
    yield "connect-rule", page
    await page.goto("/connect/return?state=forged")
    yield "consent", page
