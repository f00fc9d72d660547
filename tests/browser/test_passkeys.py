"""Passkeys in Chromium, with its virtual authenticators: adding, signing in, a second device, loss and coming back."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import CDPSession, Page, expect

from connectors.cli.support import operator_at
from connectors.store import access
from tests.served_installation import KEY, NARROW, ServedInstallation, as_operator, serve_installation, signed_in

expect.set_options(timeout=15_000)

WRONG = "No passkey was used. Try again, or sign in another way."


@pytest.fixture
async def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ServedInstallation]:
    """The console at `localhost`: browsers make no passkeys for an address without a name."""
    async with serve_installation(tmp_path, monkeypatch) as served:
        served.origin = served.origin.replace("127.0.0.1", "localhost")
        yield served


class Device:
    """A browser profile with an authenticator of its own, which verifies whoever holds it."""

    def __init__(self, page: Page, devtools: CDPSession, authenticator: str) -> None:
        self.page, self._devtools, self._authenticator = page, devtools, authenticator

    @classmethod
    async def new(cls, served: ServedInstallation, **options: object) -> Device:
        page = await served.page(**options)  # type: ignore[arg-type]
        devtools = await page.context.new_cdp_session(page)
        await devtools.send("WebAuthn.enable")
        authenticator = {
            "protocol": "ctap2",
            "transport": "internal",
            "hasResidentKey": True,
            "hasUserVerification": True,
            "isUserVerified": True,
            "automaticPresenceSimulation": True,
        }
        added = await devtools.send("WebAuthn.addVirtualAuthenticator", {"options": authenticator})
        return cls(page, devtools, added["authenticatorId"])

    async def credentials(self) -> int:
        answer = await self._devtools.send("WebAuthn.getCredentials", {"authenticatorId": self._authenticator})
        return len(answer["credentials"])

    async def set_locked(self, is_locked: bool) -> None:
        """Have the authenticator verify nobody, or its holder again."""
        await self._devtools.send(
            "WebAuthn.setUserVerified", {"authenticatorId": self._authenticator, "isUserVerified": not is_locked}
        )

    async def add(self, name: str) -> None:
        """Add a passkey from the page of devices."""
        await self.page.goto("/devices")
        await self.page.get_by_role("link", name="Add a passkey").click()
        await self.page.get_by_label("Name of this passkey").fill(name)
        await self.page.get_by_role("button", name="Add a passkey").click()
        await expect(self.page.get_by_text("The passkey was added.")).to_be_visible()
        await expect(self.page.get_by_role("link", name=f"Remove {name}")).to_be_visible()

    async def remove(self, name: str) -> None:
        await self.page.goto("/devices")
        await self.page.get_by_role("link", name=f"Remove {name}").click()
        await expect(self.page.get_by_role("heading", name=f"Remove the passkey {name}?")).to_be_visible()
        await self.page.get_by_role("button", name="Remove").click()
        await expect(self.page.get_by_text("The passkey was removed.")).to_be_visible()

    async def sign_out(self) -> None:
        await self.page.get_by_role("button", name="Account").click()
        await self.page.get_by_role("button", name="Sign out", exact=True).click()
        await self.page.wait_for_url("**/sign-in")

    async def use(self, path: str = "/sign-in") -> None:
        await self.page.goto(path)
        await self.page.get_by_role("button", name="Use a passkey").click()

    async def follow(self, link: str) -> None:
        await self.page.goto(link)
        await self.page.get_by_role("button", name="Sign in").click()
        await self.page.wait_for_url(re.compile(r"/(operator)?$"))


async def link_of_the_command_line(served: ServedInstallation, connection: str | None = None) -> str:
    """Return the link that `connectors console link` prints, as a path."""
    token = await served.installation.host.store.write(
        lambda tx: access.sessions.make_link(tx, operator_at(tx, connection))
    )
    return f"/link/{token}"


async def test_the_operator_adds_a_passkey_loses_it_and_comes_back(served: ServedInstallation) -> None:
    first = await Device.new(served)
    await as_operator(first.page)
    await first.page.get_by_role("link", name="Add a passkey").click()  # on the operator's own page, too
    await first.page.get_by_label("Name of this passkey").fill("Laptop")
    await first.page.get_by_role("button", name="Add a passkey").click()
    await expect(first.page.get_by_text("The passkey was added.")).to_be_visible()
    assert await first.credentials() == 1
    await first.sign_out()
    await first.use("/sign-in/operator")
    await first.page.wait_for_url(f"{served.origin}/operator")
    await first.page.goto("/devices")
    await expect(first.page.get_by_text(re.compile("Added today.*Last used"))).to_be_visible()

    # a second device: it comes in by password, and has a passkey of its own from then on
    second = await Device.new(served, viewport=NARROW)
    await as_operator(second.page)
    await second.add("Phone")
    await second.sign_out()
    await second.use()  # the page for cafes takes the operator's as well
    await second.page.wait_for_url(f"{served.origin}/operator")

    # the first is lost: what it opened ends, and it opens nothing
    await second.remove("Laptop")
    await first.page.goto("/operator")
    await expect(first.page).to_have_url(re.compile("/sign-in"))
    await first.use("/sign-in/operator")
    await expect(first.page.get_by_text(re.compile("was removed"))).to_be_visible()
    await expect(first.page.get_by_role("heading", name="Sign in as the operator")).to_be_visible()

    # all are lost: by the command line, without the password
    third = await Device.new(served)
    await third.follow(await link_of_the_command_line(served))
    await third.remove("Phone")
    await third.add("New laptop")
    await third.sign_out()
    await third.use("/sign-in/operator")
    await third.page.wait_for_url(f"{served.origin}/operator")
    await second.sign_out()
    await second.use()
    await expect(second.page.get_by_text(re.compile("was removed"))).to_be_visible()


@pytest.mark.parametrize("language", ["en-GB", "ms-MY"])
async def test_a_cafe_signs_in_by_passkey_on_a_device_that_is_remembered(
    served: ServedInstallation, language: str
) -> None:
    await served.installation.connect()
    device = await Device.new(served, viewport=NARROW, locale=language)
    page = device.page
    await page.goto("/sign-in")
    await page.locator("#key").fill(KEY)
    await page.locator("main button.go").click()
    await page.wait_for_url("**/")
    await page.goto("/passkeys/add")
    await page.locator("[data-passkey]").click()
    await page.wait_for_url("**/devices")
    await page.locator("[popovertarget=account]").click()
    await page.locator("#account form[action='/sign-out'] button").click()
    await page.wait_for_url("**/sign-in")
    await page.goto(f"/sign-in?next=/connections/{served.installation.connection.id}")
    await page.locator("[data-passkey]").click()
    await page.wait_for_url(f"{served.origin}/connections/{served.installation.connection.id}")
    session = (
        await served.installation.host.store.read(
            lambda tx: access.sessions.devices(tx, served.installation.connection.business_id)
        )
    )[0]
    assert session.remembered
    assert session.principal.login == "owner"

    # lost: removed with a link of the operator's, and another is added with a key
    other = await Device.new(served)
    await other.follow(await link_of_the_command_line(served, served.installation.connection.id))
    await other.page.goto("/devices")
    await other.page.get_by_role("link", name=re.compile("^Remove")).click()
    await other.page.get_by_role("button", name="Remove").click()
    await page.reload()
    await expect(page).to_have_url(re.compile("/sign-in"))
    await page.locator("[data-passkey]").click()
    await expect(page.locator("#wrong-passkey")).to_be_visible()
    await other.page.goto("/passkeys/add")
    await other.page.get_by_label("A 7stamp key of your business, once more").fill(KEY)
    await other.page.get_by_role("button", name="Continue").click()
    await other.page.get_by_role("button", name="Add a passkey").click()
    await expect(other.page.get_by_text("The passkey was added.")).to_be_visible()


async def test_what_goes_wrong_at_the_device_is_shown_beside_the_button(served: ServedInstallation) -> None:
    device = await Device.new(served)
    page = device.page
    await device.use()  # it has none
    await expect(page.get_by_text(WRONG)).to_be_visible()
    await signed_in(page)
    await device.add("Tablet")
    # the same account on the same device, once more
    await page.get_by_role("link", name="Add a passkey").click()
    await page.get_by_role("button", name="Add a passkey").click()
    await expect(page.get_by_text("This device has a passkey for this account already.")).to_be_visible()
    # whoever holds it cannot unlock it
    await device.sign_out()
    await device.set_locked(True)
    await device.use()
    await expect(page.get_by_text(WRONG)).to_be_visible()
    # a page that is still open after its CSRF token has gone is loaded anew, and works
    await device.set_locked(False)
    await page.context.clear_cookies()
    await page.get_by_role("button", name="Use a passkey").click()
    await page.wait_for_load_state()
    await expect(page.get_by_text(WRONG)).to_be_hidden()
    # what was typed as a key does not go along
    posted: list[str] = []
    page.on("request", lambda request: posted.append(request.post_data or ""))
    await page.get_by_label("7stamp key").fill("7loc_sc_typed_and_left")
    await page.get_by_role("button", name="Use a passkey").click()
    await page.wait_for_url("**/")
    assert any("credential=" in body for body in posted)
    assert not any("7loc_sc_typed_and_left" in body for body in posted)


async def test_the_buttons_are_for_everybody_and_only_where_they_work(served: ServedInstallation) -> None:
    page = await served.page(viewport=NARROW)
    for path in ("/sign-in", "/sign-in/operator"):
        await page.goto(path)
        await expect(page.get_by_role("button", name="Use a passkey")).to_be_visible()
        answer = await Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"]})
        assert answer.response["violations"] == []
        box = await page.get_by_role("button", name="Use a passkey").bounding_box()
        assert box
        assert box["height"] >= 44
    # at another name of the same host no passkey would work
    await page.goto(served.origin.replace("localhost", "127.0.0.1") + "/sign-in")
    await expect(page.get_by_role("button", name="Use a passkey")).to_be_hidden()
    # without scripts nothing is promised, and a key opens as before
    plain = await served.page(java_script_enabled=False)
    await plain.goto("/sign-in")
    await expect(plain.get_by_role("button", name="Use a passkey")).to_be_hidden()
    await signed_in(plain)
    await plain.goto("/passkeys/add")
    await expect(plain.get_by_text(re.compile("needs scripts, a browser that has passkeys"))).to_be_visible()
    await expect(plain.get_by_role("button", name="Add a passkey")).to_be_hidden()
    assert await served.installation.host.store.read(lambda tx: access.passkeys.of_owner(tx, None)) == []
