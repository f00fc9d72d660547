"""Messages by Web Push in Chromium: switched on by a button, shown by the worker, and opened by touching them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from connectors.store import access
from tests.phone import Phone, phone
from tests.served_installation import NARROW, ServedInstallation, serve_installation, signed_in

expect.set_options(timeout=15_000)

# Chromium's own push service is on the internet: in its place the page gets the address of one on loopback. What the
# worker is then given is what that one received, decrypted.
_PUSH_SERVICE = """
(given) => {
  PushManager.prototype.subscribe = async function (options) {
    window.asked = { visible: options.userVisibleOnly, key: [...new Uint8Array(options.applicationServerKey)] };
    return { toJSON: () => ({ endpoint: given.endpoint, keys: { p256dh: given.public_key, auth: given.auth } }) };
  };
}
"""


@pytest.fixture
async def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ServedInstallation]:
    async with serve_installation(tmp_path, monkeypatch, relay_hosts="127.0.0.1") as served:
        yield served


@pytest.fixture
async def told() -> AsyncIterator[Phone]:
    async with phone() as one:
        yield one


async def _open(served: ServedInstallation, told: Phone | None, *, allowed: bool = True) -> Page:
    page = await served.page(viewport=NARROW)
    if allowed:
        await page.context.grant_permissions(["notifications"], origin=served.origin)
    if told is not None:
        await page.add_init_script(f"({_PUSH_SERVICE})({json.dumps(told.form)})")
    await signed_in(page)
    await page.get_by_role("button", name="Account").click()
    await page.get_by_role("link", name="Messages").click()
    return page


async def _push(served: ServedInstallation, page: Page, message: object) -> None:
    """Give the worker a message, as the browser does that has decrypted it."""
    devtools = await page.context.new_cdp_session(page)
    registrations: list[str] = []
    devtools.on(
        "ServiceWorker.workerRegistrationUpdated",
        lambda event: registrations.extend(one["registrationId"] for one in event["registrations"]),
    )
    await devtools.send("ServiceWorker.enable")
    await page.wait_for_function("navigator.serviceWorker.ready")
    assert registrations
    await devtools.send(
        "ServiceWorker.deliverPushMessage",
        {"origin": served.origin, "registrationId": registrations[0], "data": json.dumps(message)},
    )


_SHOWN = "navigator.serviceWorker.ready.then((worker) => worker.getNotifications())"


async def test_a_phone_is_switched_on_in_two_clicks_and_shows_what_it_is_sent(
    served: ServedInstallation, told: Phone
) -> None:
    await served.history(days=2)
    page = await _open(served, told)
    await page.get_by_role("button", name="Tell me on this device").click()
    await expect(page.get_by_role("status")).to_have_text("Messages come to this device. The first one is on its way.")
    [first] = told.messages
    assert first["path"] == "/messages"
    await expect(page.get_by_role("heading", name="This device")).to_be_visible()
    await page.get_by_label("From").fill("22:00")
    await page.get_by_label("Until").fill("07:00")
    await page.get_by_role("checkbox", name="The week, each Monday morning").check()
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_role("status")).to_have_text("Saved.")
    await expect(page.get_by_label("From")).to_have_value("22:00")
    business = served.installation.connection.business_id
    [device] = await served.installation.host.store.read(lambda tx: access.push_devices.of_business(tx, business))
    assert device.choices.week
    # the worker shows it, and shows the next one of the same till in its place
    message = {"title": "Harbour", "body": "needs you", "path": "/connections/one", "tag": "till one"}
    await _push(served, page, message)
    await page.wait_for_function(f"{_SHOWN}.then((shown) => shown.length === 1)")
    await _push(served, page, {**message, "body": "works again"})
    replaced = "shown.length === 1 && shown[0].body === 'works again' && shown[0].title === 'Harbour'"
    await page.wait_for_function(f"{_SHOWN}.then((shown) => {replaced})")
    # switched off, nothing of it is left here
    await page.get_by_role("button", name="Turn off").click()
    await expect(page.get_by_role("button", name="Tell me on this device")).to_be_visible()
    assert await served.installation.host.store.read(lambda tx: access.push_devices.of_business(tx, business)) == []


async def test_a_message_that_cannot_be_read_is_shown_all_the_same(served: ServedInstallation, told: Phone) -> None:
    page = await _open(served, told)
    await page.get_by_role("button", name="Tell me on this device").click()
    await expect(page.get_by_role("status")).to_be_visible()
    await _push(served, page, "no object")
    await page.wait_for_function(f"{_SHOWN}.then((shown) => shown.length === 1 && shown[0].title === '7stamp')")


async def test_a_browser_that_blocks_messages_or_reaches_no_push_service_says_so(served: ServedInstallation) -> None:
    page = await _open(served, None, allowed=False)
    await page.evaluate("() => { Notification.requestPermission = async () => 'denied' }")
    await page.get_by_role("button", name="Tell me on this device").click()
    await expect(page.get_by_role("alert")).to_contain_text("Messages are blocked for this site.")
    await page.evaluate("() => { Notification.requestPermission = async () => 'granted' }")
    await page.evaluate("() => { PushManager.prototype.subscribe = () => Promise.reject(new Error('away')) }")
    await page.get_by_role("button", name="Tell me on this device").click()
    await expect(page.get_by_role("alert")).to_contain_text("could not reach its push service")
    # one that waits for ever is not waited for
    await page.clock.install()
    silent = "() => { PushManager.prototype.subscribe = () => { window.asked = true; return new Promise(() => {}) } }"
    await page.evaluate(silent)
    await page.get_by_role("button", name="Tell me on this device").click()
    await expect(page.get_by_role("alert")).to_have_text("Asking your browser…")
    await page.wait_for_function("window.asked")
    await page.clock.fast_forward(16_000)
    await expect(page.get_by_role("alert")).to_contain_text("could not reach its push service")


async def test_without_a_push_service_in_the_browser_the_way_on_an_iphone_is_told(served: ServedInstallation) -> None:
    page = await served.page(viewport=NARROW)
    await page.add_init_script("delete window.PushManager")
    await signed_in(page)
    await page.goto("/messages")
    await expect(page.get_by_text("Add to Home Screen")).to_be_visible()
    await expect(page.get_by_role("button", name="Tell me on this device")).to_be_hidden()


async def test_the_console_can_be_installed(served: ServedInstallation) -> None:
    page = await served.page(viewport=NARROW)
    await page.goto("/sign-in")
    address = await page.locator("link[rel=manifest]").get_attribute("href")
    answer = await page.request.get(f"{served.origin}{address}")
    manifest = await answer.json()
    assert manifest["display"] == "standalone"
    for icon in manifest["icons"]:
        size = await page.evaluate(
            """async (src) => {
                const icon = new Image();
                icon.src = src;
                await icon.decode();
                return icon.width + "x" + icon.height;
            }""",
            icon["src"],
        )
        assert size == icon["sizes"]
    devtools = await page.context.new_cdp_session(page)
    found = await devtools.send("Page.getAppManifest")
    assert found["errors"] == []
