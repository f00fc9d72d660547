"""Schemathesis against the API as it is served: no error of ours, and every answer as the description says.

Forty seconds in the ordinary run; `SCHEMATHESIS_SECONDS=300` looks longer.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from connectors.cli.servers import serving
from connectors.services import SubscriptionRequest
from connectors.web.app import application
from tests.installation import ANNA, build
from tests.sync.test_unread_retries import BASE
from tests.web.api.program import token_for
from tests.webhook.test_way_of_a_request import connect

SECONDS = int(os.environ.get("SCHEMATHESIS_SECONDS", "40"))
OVERLAP = 120.0  # until it has ended what it was at, on a busy machine

# not promised: that every id of the right form is of something here
UNPROMISED = "positive_data_acceptance"


@pytest.mark.slow
async def test_no_call_makes_an_error_of_ours_or_answers_otherwise_than_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # it tries without a token again and again, and is not to be slowed down for that
    monkeypatch.setattr("connectors.web.api.access._STRANGERS_AT_ONCE", 1_000_000)
    settings = {"api_calls_per_minute": 1_000_000, "relay_hosts": "127.0.0.1", "max_subscriptions": 1000}
    async with build(tmp_path, monkeypatch, **settings) as installation:
        await connect(installation, BASE)
        await installation.connect()
        installation.cafe.sell(installation.cafe.client(ANNA), comment="FREECOFFEE9")
        await installation.sync()
        business = installation.connection.business_id
        await installation.host.services.subscriptions.create(business, SubscriptionRequest("http://127.0.0.1:9/"))
        token = await token_for(installation)
        async with serving(application(installation.host)) as origin:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "schemathesis.cli", "run", f"{origin}/api/v1/openapi.json"),
                *("--header", f"Authorization: Bearer {token}", "--max-time", str(SECONDS), "--no-color"),
                *("--exclude-checks", UNPROMISED, "--generation-database", "none", "--seed", "13"),
                *("--request-timeout", "30", "--warnings", "off"),
                cwd=tmp_path,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            try:
                out, _ = await asyncio.wait_for(process.communicate(), SECONDS + OVERLAP)
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
    assert process.returncode == 0, out.decode()
