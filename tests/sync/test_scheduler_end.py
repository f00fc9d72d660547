"""A host that is told to end while its scheduler is at work: that is no error, and nothing is said of it."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from connectors.store import queries
from tests.installation import build


async def test_a_host_that_ends_during_a_tick_logs_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with build(tmp_path, monkeypatch) as installation:
        await installation.connect()
        store, begun = installation.host.store, asyncio.Event()
        read = store.read

        async def read_slowly(query: Any) -> Any:
            if query is queries.due.kinds:
                begun.set()
                await asyncio.sleep(60)
            return await read(query)

        monkeypatch.setattr(store, "read", read_slowly)
        with caplog.at_level(logging.WARNING):
            await installation.host.start()
            await asyncio.wait_for(begun.wait(), 20)
            await installation.host.stop()
            await asyncio.sleep(0.1)
        assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []
