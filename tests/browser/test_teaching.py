"""A till that nobody knows, in Chromium: it sends a sale with curl, a cafe taps what is what, and stamps follow."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from playwright.async_api import Page, expect

from connector_sdk.signatures import BodyHmac
from tests.served_installation import NARROW, WIDE, ServedInstallation, signed_in, until

expect.set_options(timeout=15_000)
SECRET, PHONE, SIGNATURE = "a long secret of the till", "+34600111222", "X-Till-Signature"


def receipt(number: str = "A-1042", **more: Any) -> dict[str, Any]:
    """What this till sends of a receipt: decimal commas, and its own local time."""
    at = datetime.now(UTC).astimezone(ZoneInfo("Europe/Kyiv")) + timedelta(seconds=2)
    facts = {
        "number": number, "change": 1, "total": "12,50", "refunded": "0,00",
        "finished": f"{at:%d.%m.%Y %H:%M:%S}", "state": "paid", "guest": {"name": "Anna Smith", "mobile": PHONE},
    }  # fmt: skip
    return {"event": "sale", "sale": facts | more}


async def curl(folder: Path, address: str, body: Any, secret: str = SECRET) -> int:
    """The status that the till's request gets."""
    file = folder / "body.json"
    file.write_text(json.dumps(body, ensure_ascii=False))
    signed = f"{SIGNATURE}: {BodyHmac(secret).sign(file.read_bytes())}"
    command = [
        "curl",
        "-s",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "--data-binary",
        f"@{file}",
        "-H",
        signed,
        address,
    ]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    return int(output)


async def tap(page: Page, value: str) -> None:
    async with page.expect_navigation():
        await page.locator(".tree").get_by_role("button", name=value, exact=True).click()


async def teach(page: Page) -> None:
    """Answer every question of this till."""
    answers = {
        "number of the receipt": "A-1042", "sum that was paid": "12,50", "time at which": re.compile(r"^\d\d\.\d\d\."),
        "phone": "+3…22", "open, paid or cancelled": "paid", "given back": "0,00", "every time": "1",
    }  # fmt: skip
    while "What we read" not in (asked := await page.locator("h1").inner_text()) and "This is" not in asked:
        answer = next((value for words, value in answers.items() if words in asked), None)
        if answer is None:
            async with page.expect_navigation():
                await page.locator("button[name=skip]").click()
        elif isinstance(answer, str):
            await tap(page, answer)
        else:
            async with page.expect_navigation():
                await page.locator(".tree").get_by_role("button", name=answer).click()


@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
async def test_an_unknown_till_is_taught_by_tapping_and_its_sales_become_stamps(
    served: ServedInstallation, tmp_path: Path, viewport: dict[str, int]
) -> None:
    installation, page = served.installation, await signed_in(await served.page(viewport=viewport))
    await page.get_by_role("button", name=re.compile("Connect Any till with a webhook")).click()
    await expect(page.get_by_text("Nothing has arrived yet.")).to_be_visible()
    address = await page.get_by_label("Address", exact=True).input_value()

    # a request sent with curl shows by itself; nobody's name or number is on the page
    assert await curl(tmp_path, address, receipt()) == 200
    await expect(page.get_by_role("button", name="Use this one")).to_be_visible()
    await page.get_by_role("button", name="Use this one").click()
    await expect(page.get_by_role("heading", name="Which of these is the number of the receipt?")).to_be_visible()
    for hidden in (PHONE, "Anna Smith"):
        assert hidden not in await page.content()
    await teach(page)
    await expect(page.get_by_role("heading", name="This is what we read")).to_be_visible()
    await expect(page.get_by_text(re.compile(r"Receipt A-1042: UAH\s12\.50, paid today"))).to_be_visible()
    await expect(page.get_by_text("By the usual rule it earns 1 stamp.")).to_be_visible()
    await page.get_by_role("link", name="Continue").click()

    # a mapping that makes no sale is refused with the field and what was found; so is another secret than the till's
    await page.get_by_label("Name of this till").fill("Corner till")
    # what only another proof needs is not asked for
    proof = page.get_by_label("How we know that it is your till")
    for chosen, asked in (("address", []), ("basic", ["Secret", "User"]), ("hmac", ["Secret", "Header", "Written as"])):
        await proof.select_option(chosen)
        shown = [
            name
            for name in ("Secret", "Header", "Written as", "User")
            if await page.get_by_label(name, exact=True).is_visible()
        ]
        assert shown == asked
    # nor is what was refused hidden: a weak secret that is still filled in is seen
    secret = page.get_by_label("Secret", exact=True)
    await secret.fill("short")
    await proof.select_option("address")
    await page.get_by_role("button", name="Continue").click()
    await expect(page.locator("#wrong-secret")).to_be_visible()
    await expect(secret).to_be_visible()
    await proof.select_option("hmac")
    await secret.fill("quite another secret")
    await page.get_by_text("Where things are in what it sends").click()
    await page.get_by_label("Paid", exact=True).fill("sale.state")
    await page.get_by_role("button", name="Continue").click()
    await expect(page.locator("#wrong-map_paid")).to_contain_text("“paid” is no number with a decimal comma")
    await page.get_by_label("Paid", exact=True).fill("sale.total")
    await page.get_by_role("button", name="Continue").click()
    await expect(page.locator("#wrong-secret")).to_contain_text("does not prove itself with this")
    await page.get_by_label("Secret", exact=True).fill(SECRET)
    await page.get_by_role("button", name="Continue").click()
    await expect(page.get_by_role("heading", name=re.compile("Your last receipt would have earned"))).to_be_visible()
    assert await installation.host.services.connections.list_all() == []
    assert await curl(tmp_path, address, receipt("A-1043")) == 200  # still only collected
    await page.get_by_label("One stamp for every receipt").check()
    await page.get_by_role("button", name=re.compile("Looks right")).click()
    await expect(page.get_by_role("heading", name="Connected", exact=True)).to_be_visible()
    (installation.connection,) = await installation.host.services.connections.list_all()
    assert installation.applied() == []

    # the address is the same; now a sale is a stamp, a forged one nothing, and a refund takes the stamp back
    assert await curl(tmp_path, address, receipt("A-1044"), secret="guessed") == 401
    assert await curl(tmp_path, address, receipt("A-1044")) == 200
    await expect(page.get_by_text(re.compile(r"Receipt A-1044 has arrived"))).to_be_visible()
    await until(lambda: _stamps(served, 1))
    await page.get_by_role("link", name="To your till").click()
    await expect(page.get_by_text(re.compile("Receipt A-1044: 1 stamp is on the card"))).to_be_visible()
    assert await curl(tmp_path, address, receipt("A-1044", refunded="12,50", change=2)) == 200
    await until(lambda: _stamps(served, 0))

    # what does not fit is kept, shown, and read once the mapping knows better
    renamed = receipt("A-1045")
    renamed["sale"]["sum"] = renamed["sale"].pop("total")
    assert await curl(tmp_path, address, renamed) == 200
    await page.reload()
    await page.get_by_role("link", name="Look at it").click()
    await expect(page.get_by_text("Paid: nothing is at sale.total")).to_be_visible()
    await page.get_by_role("button", name=re.compile("^Try again")).click()
    await expect(page.get_by_text("1 still cannot be read. Read now: 0.")).to_be_visible()
    await page.get_by_role("button", name=re.compile("^Look at it")).click()
    await page.get_by_role("link", name="Change Paid").click()
    await tap(page, "12,50")
    await page.get_by_role("button", name="Save, and read what waits").click()
    await expect(page.get_by_text("1 receipt was read.", exact=True)).to_be_visible()
    assert (
        installation.host.services.connections.settings_of(
            (await installation.host.services.connections.list_all())[0]
        )["map_paid"]
        == "sale.total || sale.sum"
    )
    await page.goto(f"/connections/{installation.connection.id}/unread")
    await expect(page.get_by_role("heading", name="Everything that arrived has been read")).to_be_visible()
    await until(lambda: _stamps(served, 1))

    # the address is renewed, and the old one goes on for a day
    await page.goto(f"/connections/{installation.connection.id}/settings#till")
    await page.get_by_role("link", name="Renew the address").click()
    await page.get_by_role("button", name="Make a new address").click()
    await expect(page.get_by_text("Here is the new address.")).to_be_visible()
    renewed = await page.get_by_label("Address", exact=True).input_value()
    assert renewed != address
    for number, where in (("A-1046", address), ("A-1047", renewed)):
        assert await curl(tmp_path, where, receipt(number)) == 200
    await until(lambda: _stamps(served, 3))


async def _stamps(served: ServedInstallation, number: int) -> bool:
    return served.installation.stamps(PHONE) == number


async def test_it_is_taught_by_keyboard_alone(served: ServedInstallation, tmp_path: Path) -> None:
    page = await signed_in(await served.page(viewport=NARROW))
    await page.get_by_role("button", name=re.compile("Connect Any till with a webhook")).click()
    await page.get_by_text("Or paste a request").press("Enter")
    await page.get_by_label("One request, as JSON").fill(json.dumps(receipt()))
    await page.get_by_role("button", name="Use what I pasted").press("Enter")
    await expect(page.get_by_role("heading", name="Which of these is the number of the receipt?")).to_be_visible()
    for _ in range(40):
        await page.keyboard.press("Tab")
        if await page.evaluate("document.activeElement.textContent.trim()") == "A-1042":
            break
    async with page.expect_navigation():
        await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Which is the sum that was paid?")).to_be_visible()
