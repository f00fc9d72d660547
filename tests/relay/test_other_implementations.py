"""Signatures, both ways, with an implementation of Standard Webhooks that is not ours: the npm package under Node."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from connector_sdk.errors import Forged
from connector_sdk.signatures import StandardWebhooks
from tests.relay.relayed import Relayed

RECEIVER = Path(__file__).parents[2] / "integrations" / "receiver"
NODE = shutil.which("node")
HERE = NODE is not None and (RECEIVER / "node_modules" / "standardwebhooks").is_dir()

# in CI it must be there: a missing package must not turn into a test that is skipped
pytestmark = pytest.mark.skipif(not HERE and not os.environ.get("CI"), reason="npm ci --prefix integrations/receiver")


@asynccontextmanager
async def receiving(secret: str) -> AsyncIterator[tuple[str, asyncio.StreamReader]]:
    """Run the receiver of `integrations/receiver`; give its address, and the lines that it prints."""
    process = await asyncio.create_subprocess_exec(
        str(NODE), "receive.mjs", cwd=RECEIVER, stdout=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "EVENTS_SECRET": secret},
    )  # fmt: skip
    assert process.stdout is not None
    try:
        port = json.loads(await process.stdout.readline())["listening"]
        yield f"http://127.0.0.1:{port}/events", process.stdout
    finally:
        process.kill()
        await process.wait()


async def test_what_we_send_is_proven_by_the_npm_package(relayed: Relayed) -> None:
    made = await relayed.subscribe("stamp_added", personal=True)
    async with receiving(made.secret) as (url, lines):
        await relayed.service.edit(relayed.business, made.subscription.id, url=url)
        await relayed.happen("kärt_1", 3, further={"note": "☕ '\"\\ \u2028"})
        await relayed.host.relay.drain()
        printed = json.loads(await lines.readline())
        assert (printed["type"], printed["data"]["count"]) == ("stamp_added", 3)
        assert await relayed.states(made) == ["delivered"]
        forged = StandardWebhooks("whsec_" + "A" * 44).sign(b"{}", "msg_1", datetime.now(UTC))
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.post(url, content=b"{}", headers=forged)).status_code == 401


async def test_what_the_npm_package_signs_is_proven_by_us() -> None:
    secret, body = "whsec_" + "Q" * 44, json.dumps({"event": "card_opened", "note": "☕"}, ensure_ascii=False)
    process = await asyncio.create_subprocess_exec(
        str(NODE), "--input-type=module", "-e", (Path(__file__).parent / "sign.mjs").read_text(), cwd=RECEIVER,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate(json.dumps({"secret": secret, "id": "msg_1", "body": body}).encode())
    headers: dict[str, Any] = json.loads(out)
    StandardWebhooks(secret).verify(body.encode(), headers)
    with pytest.raises(Forged):
        StandardWebhooks(secret).verify(body.encode() + b" ", headers)
