"""`make screenshots`: every page of the console, light and dark, wide and narrow, as pictures in `screenshots/`."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from pathlib import Path

from tests.browser.pages import every_page
from tests.served_installation import MISSING, NARROW, WIDE, chromium, serve_installation

OUT = Path("screenshots")


class _Environment:
    """As pytest's, for a program of its own."""

    def setenv(self, name: str, value: str) -> None:
        os.environ[name] = value


async def main() -> None:
    number = 0
    for width, viewport in (("wide", WIDE), ("narrow", NARROW)):
        for scheme in ("light", "dark"):
            with tempfile.TemporaryDirectory() as folder:
                async with serve_installation(Path(folder), _Environment()) as one:
                    await one.history()
                    page = await one.page(viewport=viewport, color_scheme=scheme)
                    operator = await one.page(viewport=viewport, color_scheme=scheme)
                    async for name, shown in every_page(one, page, operator):
                        await shown.screenshot(path=OUT / f"{name}-{width}-{scheme}.png", full_page=True)
                        number += 1
    print(f"{number} pictures in {OUT}/")  # noqa: T201


if __name__ == "__main__":
    if chromium() is None:
        sys.exit(MISSING)
    OUT.mkdir(exist_ok=True)
    for old in OUT.glob("*.png"):
        old.unlink()
    asyncio.run(main())
