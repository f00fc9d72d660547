"""Every page of the console, and how to get it in front of one's eyes; for pictures and for checks of all pages."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
from playwright.async_api import FilePayload, Page

from connector_sdk.rule import Mode, StampRule
from connectors.domain.quiet_hours import QuietHours
from connectors.store import access
from connectors.store.access.passkeys import Challenge
from connectors.store.access.sessions import OPERATOR, Principal, make_link
from connectors.store.engine import Transaction
from tests.installation import ANNA
from tests.served_installation import KEY, PASSWORD, ServedInstallation, keep_passkey


async def every_page(served: ServedInstallation, page: Page, operator: Page) -> AsyncIterator[tuple[str, Page]]:
    """(name, page showing it), one after the other; `page` becomes the cafe's, `operator` the operator's.

    The installation needs its history first. Elements are found by their names in addresses and forms, not by words, so
    that it goes in every language.
    """
    one = served.installation.connection.id
    await page.goto("/sign-in")
    yield "sign-in", page
    await page.goto("/sign-in/operator")
    yield "sign-in-operator", page
    await page.goto("/link/none")
    yield "link-used", page
    business = Principal(served.installation.connection.business_id, "Cafe", "Europe/Kyiv", OPERATOR)
    token = await served.installation.host.store.write(lambda tx: make_link(tx, business))
    await page.goto(f"/link/{token}")
    yield "link", page
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
    async for shown in _messages(served, page):
        yield shown
    await page.goto(f"/link/{token}")
    yield "link-replaces", page
    await page.goto("/people")
    yield "people-nobody", page
    await page.locator("#name").fill("")
    await press(page, "form[action='/people'] button.go")
    yield "people-wrong", page
    await page.locator("#name").fill("Wolfeschlegelsteinhausenbergerdorff Olena")
    await press(page, "form[action='/people'] button.go")
    yield "people", page
    await page.goto("/join/none")
    yield "join-used", page
    await page.goto("/security")
    yield "security", page
    async for shown in _passkeys(served, page):
        yield shown
    await page.goto("/nowhere")
    yield "missing", page
    async for shown in _connecting(served, page):
        yield shown
    for name, path in {
        "connection": "",
        "connection-found": "/receipts?q=330660",
        "connection-not-found": "/receipts?q=99999",
        "connection-rule": "/rule",
        "connection-settings": "/settings",
        "connection-welcome": "/welcome",
        "connection-disconnect": "/disconnect",
        "connection-diagnostics": "/diagnostics",
        "connection-forget": "/forget",
        "connection-subscriptions": "/subscriptions",
        "connection-tokens": "/tokens",
        "connection-vouchers": "/vouchers",
        "connection-numbers": "/numbers",
        "connection-receipts": "/receipts",
        "connection-receipts-none": "/receipts?kind=by-hand&day=2026-01-01",
        "connection-customers": "/customers",
        "connection-history": "/history",
    }.items():
        await page.goto(f"/connections/{one}{path}")
        yield name, page
    await press(page, "form[action$='/history/count'] button.go")
    yield "connection-history-counted", page
    await page.goto(f"/connections/{one}/subscriptions")
    await page.locator("#url").fill("https://93.184.216.34/a-very-long-address-of-a-subscriber/hook")
    await page.locator("input[name='event']").first.check()
    await page.locator("input[name='event']").last.check()
    await press(page, "form[action$='/subscriptions'] button.go")
    yield "connection-subscription", page
    for name, who in (("connection-forget-wrong", "12"), ("connection-forget-what", ANNA)):
        await page.goto(f"/connections/{one}/forget")
        await page.locator("#who").fill(who)
        await press(page, "form[action$='/forget'] button.go")
        yield name, page
    await page.goto(f"/connections/{one}/customers")
    await page.locator("#who").fill("12")
    await press(page, "form[action$='/customers'] button.go")
    yield "connection-customers-nobody", page
    await page.locator("#who").fill(next(iter(served.installation.sevenstamp.state.cards.values())).number)
    await press(page, "form[action$='/customers'] button.go")
    yield "connection-customer", page
    async for shown in _counter(served, page):
        yield shown
    numbers = sorted(served.installation.cafe.receipts)
    await page.goto(await served.receipt(numbers[-2]))
    yield "receipt", page
    await page.goto(await served.receipt(numbers[-1]))
    await page.locator("#who").fill("12")
    await press(page, "form[action$='find-card'] button")
    yield "receipt-nobody", page
    card = next(iter(served.installation.sevenstamp.state.cards.values()))
    await page.locator("#who").fill(card.number)
    await press(page, "form[action$='find-card'] button")
    yield "receipt-confirm", page
    await page.goto(f"/connections/{one}")
    await press(page, "form[action$='/pause'] button")
    yield "connection-paused", page
    await page.goto(f"/connections/{one}/resume")
    yield "connection-resume", page
    await press(page, "form[action$='/resume'] button.go")
    async for shown in _any_till(served, page):
        yield shown
    await operator.goto("/sign-in/operator")
    await as_operator_anywhere(operator)
    yield "operator", operator
    await operator.goto("/security")
    yield "operator-security", operator
    await operator.goto("/operator/quotas")
    yield "operator-quotas", operator
    await operator.goto("/operator/design")
    yield "operator-design", operator
    async for shown in _colleague(served, page, operator):
        yield shown


async def _colleague(served: ServedInstallation, owner: Page, other: Page) -> AsyncIterator[tuple[str, Page]]:
    """What a colleague sees: the invitation, in place of another session; the counter; and what is not for them."""
    await owner.goto("/people")
    await owner.locator("#name").fill("Borys")
    await press(owner, "form[action='/people'] button.go")
    await other.goto(await owner.locator("#invitation").input_value())
    yield "join", other
    await press(other, "form[action^='/join'] button.go")
    yield "till-of-counter", other
    await other.goto(f"/connections/{served.installation.connection.id}/settings")
    yield "not-allowed", other


async def _counter(served: ServedInstallation, page: Page) -> AsyncIterator[tuple[str, Page]]:
    """The counter's page without a card and with one, the card for tables, and what a customer sees of a receipt."""
    installation = served.installation
    await page.goto("/till")
    yield "till", page
    await page.locator("#who").fill("12")
    await press(page, "form[action$='/find'] button.go")
    yield "till-nobody", page
    await page.locator("#who").fill(next(iter(installation.sevenstamp.state.cards.values())).number)
    await press(page, "form[action$='/find'] button.go")
    yield "till-card", page
    connection = await installation.host.services.connections.edit(
        installation.connection.id, {}, rule=lambda _account, rule: rule.model_copy(update={"mode": Mode.both})
    )
    await page.goto(f"/connections/{connection.id}/table-card")
    yield "table-card", page
    claims = installation.host.services.claims
    await claims.set_consent(connection, "I agree that the cafe keeps my phone for its stamp card.")
    venue = await claims.venue_link(connection, None)
    await page.goto(venue)
    yield "claim-venue", page
    await page.goto(f"{venue}nonsense")
    yield "claim-unknown", page
    receipt = installation.cafe.sell(0)
    await installation.sync()
    await page.goto((await claims.receipt_link(connection, str(receipt))).url)
    yield "claim", page
    await press(page, "main button.go")
    yield "claim-wrong", page


async def _passkeys(served: ServedInstallation, page: Page) -> AsyncIterator[tuple[str, Page]]:
    """A passkey that may have been copied and one whose key 7stamp refuses; adding, removing, being asked once more."""
    host, business = served.installation.host, served.installation.connection.business_id
    owner = Principal(business, "Cafe Lviv", "UTC", "till", KEY)
    copied = await keep_passkey(host, owner, "Corner")
    for challenge in (Challenge("first", 0), Challenge("second", 0)):  # the same count twice
        await host.store.write(lambda tx, answered=challenge: access.passkeys.use(tx, copied, 5, answered))
    await keep_passkey(host, Principal(business, "Cafe Lviv", "UTC", "till"), "Terrace")
    await page.goto("/devices")
    yield "devices-passkeys", page
    await page.goto("/passkeys/add")
    yield "passkey-add", page
    await page.goto(f"/passkeys/{copied}/remove")
    yield "passkey-remove", page
    # a link of another device proves nobody: the key is asked for once more
    maker = (await host.store.read(lambda tx: access.sessions.devices(tx, business)))[0]
    token = await host.store.write(lambda tx: access.sessions.make_link(tx, owner, maker))
    await page.goto(f"/link/{token}")
    await press(page, "main button.go")
    await page.goto("/passkeys/add")
    yield "passkey-confirm", page
    await page.locator("#secret").fill(KEY)
    await press(page, "main button.go")


async def press(page: Page, selector: str) -> None:
    """Press a button and wait for the page it leads to."""
    async with page.expect_navigation():
        await page.locator(selector).click()


async def as_operator_anywhere(page: Page) -> None:
    """The same as `as_operator`, in any language."""
    await page.locator("#password").fill(PASSWORD)
    await press(page, "main button.go")
    await page.wait_for_url("**/operator")


async def _messages(served: ServedInstallation, page: Page) -> AsyncIterator[tuple[str, Page]]:
    """The page of messages, before and after a device is told that has a name of somebody's choice."""
    await page.goto("/messages")
    yield "messages-off", page
    business = str(served.installation.connection.business_id)
    owner = access.push_devices.PushOwner(business, None, "session", None)
    address = access.push_devices.PushAddress("https://push.example/1", "public", "auth")

    def add(tx: Transaction) -> None:
        device = access.push_devices.add(tx, owner, address, "Chrome · Android", language="en", zone="Europe/Kyiv")
        assert device is not None
        quiet = QuietHours(22 * 60, 7 * 60)
        access.push_devices.choose(tx, device, access.push_devices.PushChoices(week=True, quiet=quiet))

    await served.installation.host.store.write(add)
    await page.goto("/messages")
    await page.locator("section details > summary").first.click()
    yield "messages", page


async def _connecting(served: ServedInstallation, page: Page) -> AsyncIterator[tuple[str, Page]]:
    """The steps of connecting, with the sandbox's second account, which nobody has connected."""
    await page.goto("/")
    await page.locator("main details > summary").first.click()
    await press(page, "form[action='/connect/poster'] button")
    yield "connect-authorise", page
    await page.locator("input[name='set.access_token']").fill("nonsense")
    await press(page, "form[action$='/authorise'] button")
    yield "connect-authorise-wrong", page
    await page.locator("input[name='set.access_token']").fill(served.other.token)
    await press(page, "form[action$='/authorise'] button")
    yield "connect-where", page
    await page.goto(page.url.replace("/where", "/key"))
    yield "connect-key", page
    await press(page, "form[action$='/key'] button.go")
    await press(page, "form[action$='/where'] button.go")
    yield "connect-rule", page
    async for shown in _teaching(served, page):
        yield shown
    await page.goto("/connect/return?state=forged")
    yield "consent", page


SENT = {
    "number": "A-1042",
    "total": 1250,
    "at": "2026-11-20T08:15:30Z",
    "guest": {"phone": "+380501112201", "name": "Anna Smith"},
    "refunds": [{"value": 100}],
}


async def _teaching(served: ServedInstallation, page: Page) -> AsyncIterator[tuple[str, Page]]:
    """A till that nobody knows, as it is taught by a request that arrived."""
    await page.goto("/")
    await page.locator("main details > summary").first.click()
    await press(page, "form[action='/connect/webhook'] button")
    yield "teach-begin", page
    address = await page.locator("#address").input_value()
    async with httpx.AsyncClient(trust_env=False) as till:
        await till.post(address, json=SENT, headers={"X-Till-Signature": "ab" * 32})
    await page.reload()
    yield "teach-arrived", page
    await press(page, "form[action$='/sample'] input[name=request] + button")
    yield "teach-question", page
    for path in ("number", "total"):
        await press(page, f".tree form:has(input[name=path][value={path}]) button")
    yield "teach-question-amount", page
    for path in ("minor", "at"):
        await press(page, f".tree form:has(input[name=path][value={path}]) button")
    yield "teach-question-likely", page
    await page.goto(f"{page.url.partition('/teach')[0]}/teach?all=1")
    yield "teach-read", page
    await page.goto(page.url.replace("/teach?all=1", "/authorise"))
    await press(page, "form[action$='/authorise'] button.go")
    yield "teach-wrong", page


FILE = f"""Receipt no,Closed,Total,Phone,A column whose name is long and says little
1001,2026-11-20 08:15:30,45.00,{ANNA},x
1002,2026-11-20 08:20:00,30.50,,x
Total,,75.50,,
""".encode()


async def _any_till(served: ServedInstallation, page: Page) -> AsyncIterator[tuple[str, Page]]:
    """A connection with an address of its own, and a request that could not be read."""
    values = {
        "till_name": "Corner", "currency": "UAH", "zone": "Europe/Kyiv", "proof": "address",
        "map_receipt_id": "number", "map_paid": "sum", "map_closed_at": "at", "map_phone": "guest.phone",
    }  # fmt: skip
    one = await served.installation.host.services.onboarding.connect(
        "webhook", values, KEY, lambda _account: StampRule()
    )
    async with httpx.AsyncClient(trust_env=False) as till:
        await till.post(str(served.installation.host.services.connections.hook_url(one)), json=SENT)
    for name in ("", "/unread", "/address", "/settings", "/welcome", "/import"):
        await page.goto(f"/connections/{one.id}{name}")
        yield f"any-till{name.replace('/', '-')}", page
    file = FilePayload(name="november.csv", mimeType="text/csv", buffer=FILE)
    await page.locator("#file").set_input_files(file)
    await press(page, "form[action$='/import/file'] button")
    yield "import-columns", page
    await press(page, "form[action$='/import/try'] button")
    yield "import-tried", page
    await press(page, "button[formaction$='/import/run']")
    await page.locator("main a.button.go").wait_for()
    yield "import-done", page
    await page.goto(f"/connections/{one.id}/unread")
    await press(page, f"form[action='/connections/{one.id}/teach'] button")
    yield "any-till-mend", page
