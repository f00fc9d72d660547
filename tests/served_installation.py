"""An installation that is served: its host runs and answers browsers, and Chromium looks at its console."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from connector_sdk.money import Money
from connector_sdk.rule import Refunds, StampRule, UnknownCustomer
from connectors.cli.servers import limits_of, serving
from connectors.domain.clock import moment
from connectors.runtime.host import Host
from connectors.store import access, queries
from connectors.store.access.passkeys import Challenge, Credential
from connectors.store.access.sessions import Principal
from connectors.web.app import application
from poster_connector.sandbox import Account
from tests.installation import ANNA, BORYS, CHRYSTYNA, KEY, Installation, build

OTHER = "861053:5a9e1570ff9af128e93c5a771055bb21"
PASSWORD = "an operator's password for tests"
PASSWORD_HASH = PasswordHasher(time_cost=1, memory_cost=8192).hash(PASSWORD)
NARROW, WIDE = {"width": 360, "height": 740}, {"width": 1200, "height": 900}
# Chromium's headless shell draws the same pages for half of the processor time
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser")
MISSING = "no Chromium here: `apt-get install chromium-headless-shell`, or set CHROMIUM to the path of one"


def chromium() -> str | None:
    """Where the browser is; Debian's, or another by `CHROMIUM`."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)


@dataclass
class ServedInstallation:
    """A served installation: `origin` is on 127.0.0.1, the till's on localhost, so that it is another site."""

    installation: Installation
    origin: str
    other: Account
    """A second till account, which nobody has connected."""
    browser: Browser | None = None
    contexts: list[BrowserContext] = field(default_factory=list)

    async def page(self, *, viewport: dict[str, int] | None = None, **more: Any) -> Page:
        """A page of a fresh browser profile."""
        assert self.browser is not None
        context = await self.browser.new_context(
            base_url=self.origin, viewport=viewport or WIDE, **{"locale": "en-GB", "reduced_motion": "reduce", **more}
        )
        context.set_default_timeout(30_000)
        self.contexts.append(context)
        return await context.new_page()

    async def history(self, days: int = 14) -> None:
        """A connection with two weeks behind it, and two receipts that need somebody."""
        installation = self.installation
        installation.till.two_weeks([ANNA, BORYS, CHRYSTYNA])
        rule = StampRule(
            kind="by_amount",
            amount=Money.from_decimal("15.00", "UAH"),
            unknown_customer=UnknownCustomer.issue,
            refunds=Refunds.flag,
        )
        await installation.connect(rule)
        since = installation.host.store.clock.now() - days * 86_400_000_000
        await installation.host.services.sync.backfill(
            installation.connection.id, moment(since).date().isoformat(), _quietly
        )
        receipt = installation.cafe.sell(installation.cafe.client(ANNA), paid=4500, comment="voucher FREECOFFEE9")
        installation.cafe.sell(0, paid=31000)
        await installation.sync()
        installation.cafe.refund(receipt)
        await installation.host.services.sync.backfill(
            installation.connection.id, moment(since).date().isoformat(), _quietly
        )

    async def receipt(self, number: int | str) -> str:
        """The address of a receipt's page."""
        one = self.installation.connection
        found = await self.installation.host.store.read(
            lambda tx: queries.receipts.search(tx, one, [queries.receipts.SearchTerm(receipt=str(number))])
        )
        return f"/connections/{one.id}/receipts/{found[0].id}"


async def _quietly(_now: Any) -> None:
    return


@asynccontextmanager
async def serve_installation(
    folder: Path, monkeypatch: Any, *, browser: bool = True, **settings: Any
) -> AsyncIterator[ServedInstallation]:
    """Everything runs; the till's address is another site's to the browser."""
    async with AsyncExitStack() as stack:
        other = Account(token=OTHER, name="other")
        for number in range(20):
            other.sell(other.client(ANNA) if number % 3 else 0, paid=1500 + 700 * number)
        installation = await stack.enter_async_context(build(folder, monkeypatch, Account(), other, **settings))
        for name in {"POSTER_API_URL", "SQUARE_API_URL"} & installation.environment.keys():
            monkeypatch.setenv(name, installation.environment[name].replace("127.0.0.1", "localhost"))
        await installation.host.store.write(lambda tx: access.operator_password.set_password_hash(tx, PASSWORD_HASH))
        app = application(installation.host)
        origin = await stack.enter_async_context(serving(app, protocol=limits_of(installation.host)))
        installation.host.listens_on(origin)
        made = ServedInstallation(installation, origin, other)
        if browser:
            playwright = await stack.enter_async_context(async_playwright())
            made.browser = await playwright.chromium.launch(
                executable_path=chromium(), args=["--no-sandbox", "--disable-gpu", "--disable-quic"]
            )
            stack.push_async_callback(made.browser.close)
        yield made
        for context in made.contexts:
            await context.close()


async def signed_in(page: Page, *, key: str = KEY, remember: bool = True) -> Page:
    await page.goto("/sign-in")
    await page.get_by_label("7stamp key").fill(key)
    if not remember:
        await page.get_by_label(re.compile("Remember")).uncheck()
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_url("**/")
    return page


async def as_operator(page: Page) -> Page:
    await page.goto("/sign-in/operator")
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_url("**/operator")
    return page


async def keep_passkey(host: Host, principal: Principal, label: str) -> str:
    """A passkey of somebody's that no authenticator holds, for looking at; its id."""
    credential, challenge = Credential(label, "", "", 0, ()), Challenge(label, 0)
    await host.store.write(lambda tx: access.passkeys.add(tx, credential, principal, challenge, label=label, device=""))
    there = await host.store.read(lambda tx: access.passkeys.of_owner(tx, principal.business_id))
    return next(one.id for one in there if one.label == label)


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 15) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - nothing tells us
            await asyncio.sleep(0.05)
