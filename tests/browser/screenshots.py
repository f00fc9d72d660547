"""`make screenshots`: every page of the console, light and dark, wide and narrow, as pictures in `screenshots/`.

Beside them are contact sheets, on which all pages of a kind are seen together. `SCREENSHOTS="narrow light"` makes those
of that kind alone.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Sequence
from html import escape
from pathlib import Path

from playwright.async_api import Browser, Page

from tests.browser.pages import every_page
from tests.served_installation import MISSING, NARROW, WIDE, chromium, serve_installation

OUT = Path("screenshots")
_SHEET_WIDTH = 1800
_TALLEST = 620
"""How much of a long page is on its sheet, in pixels of the sheet."""
_STYLE = f"""
body {{ margin: 24px; background: #777; color: #fff; font: 14px system-ui; columns: 6 }}
figure {{ margin: 0 0 20px; break-inside: avoid }}
img {{ display: block; width: 100%; max-height: {_TALLEST}px; object-fit: cover; object-position: top }}
"""


class _Environment:
    """As pytest's, for a program of its own."""

    def setenv(self, name: str, value: str) -> None:
        os.environ[name] = value


async def main(wanted: Sequence[str]) -> None:
    number = 0
    for width, viewport in (("wide", WIDE), ("narrow", NARROW)):
        for scheme in ("light", "dark"):
            if not set(wanted) <= {width, scheme}:
                continue
            with tempfile.TemporaryDirectory() as folder:
                async with serve_installation(Path(folder), _Environment()) as one:
                    one.installation.sevenstamp.state.goal = 12  # so that a card is drawn as cafes have them
                    await one.history()
                    page = await one.page(viewport=viewport, color_scheme=scheme)
                    operator = await one.page(viewport=viewport, color_scheme=scheme)
                    pictures: list[Path] = []
                    async for name, shown in every_page(one, page, operator):
                        pictures.append(OUT / f"{name}-{width}-{scheme}.png")
                        await shown.screenshot(path=pictures[-1], full_page=True)
                    assert one.browser is not None
                    await _make_sheet(one.browser, pictures, OUT / f"sheet-{width}-{scheme}.png")
                    number += len(pictures)
    print(f"{number} pictures in {OUT}/, all of a kind on its sheet: {OUT}/sheet-*.png")  # noqa: T201


async def _make_sheet(browser: Browser, pictures: Sequence[Path], sheet: Path) -> None:
    """Put pictures beside each other, each with its name."""
    figures = "".join(
        f'<figure><img src="{picture.name}" alt=""><figcaption>{escape(picture.stem)}</figcaption></figure>'
        for picture in pictures
    )
    address = sheet.with_suffix(".html")
    address.write_text(f"<!doctype html><meta charset=utf-8><style>{_STYLE}</style>{figures}")
    page: Page = await browser.new_page(viewport={"width": _SHEET_WIDTH, "height": 1200})
    await page.goto(address.resolve().as_uri())
    await page.screenshot(path=sheet, full_page=True)
    await page.close()


if __name__ == "__main__":
    if chromium() is None:
        sys.exit(MISSING)
    OUT.mkdir(exist_ok=True)
    for old in (*OUT.glob("*.png"), *OUT.glob("*.html")):
        old.unlink()
    asyncio.run(main(os.environ.get("SCREENSHOTS", "").split()))
