"""The two plugins under `examples/`, which are no tills: loaded from their files and driven through the host."""

from __future__ import annotations

import importlib.util
from datetime import datetime
from pathlib import Path
from types import ModuleType
from zoneinfo import ZoneInfo

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from connectors.cli.servers import serving
from tests.installation import ANNA, Installation

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(folder: str) -> ModuleType:
    """Import the one module of an example, without installing it."""
    (file,) = (EXAMPLES / folder).glob("*.py")
    assert len(file.read_text().splitlines()) < 40
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def wait_for_plugins(installation: Installation) -> None:
    """Wait until plugins have been notified of everything so far."""
    await installation.host.plugin_calls.wait()


async def test_the_chat_hears_of_a_till_that_stops_and_works_again(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    posts: list[str] = []

    async def chat(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        posts.append((await Request(scope, receive).json())["text"])
        await Response(status_code=200 if len(posts) < 3 else 500)(scope, receive, send)

    installation.host.plugins.manager.register(load("health-to-chat"))
    async with serving(chat) as origin:
        monkeypatch.setenv("HEALTH_TO_CHAT_URL", f"{origin}/hook/secret")
        connection = await installation.connect(title="Main bar")
        await installation.host.services.connections.pause(connection.id)
        await wait_for_plugins(installation)
        await installation.host.services.connections.resume(connection.id)
        await wait_for_plugins(installation)
        assert [text.partition(".")[0] for text in posts] == ["⏸ Main bar: paused", "🟢 Main bar: active"]
        await installation.host.services.connections.pause(
            connection.id
        )  # the chat answers 500, and nothing comes of it
        await wait_for_plugins(installation)
    assert (await installation.host.services.connections.get(connection.id)).health == "paused"


async def test_the_venues_birthday_doubles_what_the_rule_gives(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    installation.host.plugins.manager.register(load("birthday"))
    await installation.connect()
    monkeypatch.setenv("VENUE_BIRTHDAY", "none")
    installation.cafe.sell(installation.cafe.client(ANNA))
    await installation.sync()
    assert installation.stamps(ANNA) == 1

    monkeypatch.setenv("VENUE_BIRTHDAY", datetime.now(ZoneInfo(installation.cafe.zone)).strftime("%m-%d"))
    installation.cafe.sell(installation.cafe.client(ANNA))
    await installation.sync()
    assert installation.stamps(ANNA) == 3
