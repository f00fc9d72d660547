"""The two plugins under `examples/` that are no tills: loaded as files, driven through the host."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from connectors.cli.servers import serving
from tests.town import ANNA, Town

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(folder: str) -> Any:
    (file,) = (EXAMPLES / folder).glob("*.py")
    assert len(file.read_text().splitlines()) < 40
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def told(town: Town) -> None:
    while town.host._telling:
        await asyncio.wait(set(town.host._telling))


async def test_the_chat_hears_of_a_till_that_stops_and_works_again(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []

    async def chat(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        heard.append(json.loads((await receive())["body"])["text"])
        status = 200 if len(heard) < 3 else 500
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    town.host.plugins.manager.register(load("health-to-chat"))
    async with serving(chat) as origin:
        monkeypatch.setenv("HEALTH_TO_CHAT_URL", f"{origin}/hook/secret")
        one = await town.connect(title="Main bar")
        await town.host.services.connections.pause(one.id)
        await told(town)
        await town.host.services.connections.resume(one.id)
        await told(town)
        assert [text.partition(".")[0] for text in heard] == ["⏸ Main bar: paused", "🟢 Main bar: active"]
        await town.host.services.connections.pause(one.id)  # the chat answers 500, and nothing comes of it
        await told(town)
    assert (await town.host.services.connections.get(one.id)).health == "paused"


async def test_the_venues_birthday_doubles_what_the_rule_gives(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    town.host.plugins.manager.register(load("birthday"))
    await town.connect()
    monkeypatch.setenv("VENUE_BIRTHDAY", "none")
    town.cafe.sell(town.cafe.client(ANNA))
    await town.sync()
    assert town.stamps(ANNA) == 1

    monkeypatch.setenv("VENUE_BIRTHDAY", datetime.now(ZoneInfo(town.cafe.zone)).strftime("%m-%d"))
    town.cafe.sell(town.cafe.client(ANNA))
    await town.sync()
    assert town.stamps(ANNA) == 3
