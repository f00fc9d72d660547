"""Clicks of a journey, counted: what a person has to press from one moment to another."""

from __future__ import annotations

from playwright.async_api import Locator


class Clicks:
    """Clicks things and counts how many."""

    def __init__(self) -> None:
        self.count = 0

    async def on(self, what: Locator) -> None:
        """Click something."""
        self.count += 1
        await what.click()
