"""Fixtures of the relay's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.installation import build
from tests.relay.relayed import Relayed
from tests.relay.subscriber import subscribing
from tests.web.clock import MovableClock


@pytest.fixture
async def relayed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Relayed]:
    clock = MovableClock()
    async with AsyncExitStack() as stack:
        subscriber = await stack.enter_async_context(subscribing())
        installation = await stack.enter_async_context(
            build(tmp_path, monkeypatch, time=clock, relay_hosts="127.0.0.1")
        )
        await installation.connect()
        yield Relayed(installation, subscriber, clock)
