"""How many calls to 7stamp are on the wire at once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from connector_sdk.rule import StampRule, UnknownCustomer
from connectors.sevenstamp.client import SevenStamp
from connectors.sync.call_window import LEAST, MOST, CallWindow
from tests.installation import build


async def rounds(window: CallWindow, number: int, *seconds: float, failed: bool = False) -> None:
    """Fill the window so many times, with calls that wait, each answered after one of these times in turn."""
    for _ in range(number):
        width = window.size
        # one more than there are places: it waits
        calls = [asyncio.create_task(one_call(window)) for _ in range(width + 1)]
        await asyncio.gather(*calls)
        for place in range(width):
            window.answered(seconds[place % len(seconds)], failed=failed and place == 0)


async def one_call(window: CallWindow) -> None:
    async with window:
        await asyncio.sleep(0)


async def test_the_window_grows_while_answers_are_as_fast_as_ever() -> None:
    window = CallWindow()
    assert window.size == LEAST
    await rounds(window, 3, 0.1)
    assert LEAST < window.size < MOST
    await rounds(window, 20, 0.1, 0.11)
    assert window.size == MOST


async def test_the_window_lets_through_as_many_as_it_is_wide_and_no_more() -> None:
    window = CallWindow(2, 8)
    await rounds(window, 1, 0.1)
    inside = most = 0

    async def call() -> None:
        nonlocal inside, most
        async with window:
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    await rounds(window, 3, 0.1)
    wide = window.size
    await asyncio.gather(*(call() for _ in range(50)))
    assert most == wide > 2
    for _ in range(6):
        await rounds(window, 1, 0.1, failed=True)
    most = 0
    await asyncio.gather(*(call() for _ in range(50)))
    assert most == window.size == 2


async def test_the_window_shrinks_when_answers_get_slower_or_fail_and_never_below_the_least() -> None:
    window = CallWindow()
    await rounds(window, 20, 0.1)
    await rounds(window, 1, 0.25)
    assert window.size == MOST * 3 // 4
    await rounds(window, 1, 0.1, failed=True)
    assert window.size == MOST * 3 // 4 * 3 // 4
    await rounds(window, 20, 0.1, failed=True)
    assert window.size == LEAST


async def test_the_window_keeps_its_width_where_nobody_waits_or_answers_are_a_little_slower() -> None:
    window = CallWindow()
    for _ in range(10 * LEAST):
        await one_call(window)
        window.answered(0.1)
    assert window.size == LEAST
    await rounds(window, 1, 0.1)
    grown = window.size
    await rounds(window, 5, 0.17)
    assert window.size == grown


async def test_a_service_that_has_become_slower_for_good_is_its_new_measure() -> None:
    window = CallWindow()
    await rounds(window, 20, 0.1)
    await rounds(window, 100, 0.25)
    assert window.size == MOST


async def test_more_calls_are_on_the_wire_where_7stamp_takes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through a whole host: each answer takes as long, as from a service that is far away and idle."""
    on_the_wire = most = 0
    exchange = SevenStamp.exchange

    async def far_away(self: SevenStamp, method: str, path: str, **more: Any) -> Any:
        nonlocal on_the_wire, most
        if not path.endswith("/stamps"):
            return await exchange(self, method, path, **more)
        on_the_wire += 1
        most = max(most, on_the_wire)
        try:
            await asyncio.sleep(0.05)
            return await exchange(self, method, path, **more)
        finally:
            on_the_wire -= 1

    async with build(tmp_path, monkeypatch) as installation:
        await installation.connect(StampRule(unknown_customer=UnknownCustomer.issue))
        for person in range(150):
            installation.cafe.sell(installation.cafe.client(f"+38050{person:07d}"))
        monkeypatch.setattr(SevenStamp, "exchange", far_away)
        await installation.sync()
        assert most > LEAST
        assert len(installation.applied("stamps_added")) == 150
