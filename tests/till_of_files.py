"""A till that can neither be asked nor send: its receipts come in files, from before it was connected."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from connector_sdk.rule import StampRule, UnknownCustomer
from tests.installation import KEY, Installation, build

SETTINGS = {
    "till_name": "Corner",
    "till_id": "corner-till",
    "currency": "UAH",
    "zone": "Europe/Kyiv",
    "country": "UA",
    "proof": "address",
    "map_receipt_id": '"Receipt number"',
    "map_paid": "Total",
    "map_closed_at": "Closed",
    "map_phone": "Phone",
}


@asynccontextmanager
async def till_of_files(folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> AsyncIterator[Installation]:
    """Connect such a till, whose unknown customers get cards."""
    async with build(folder, monkeypatch, **settings) as installation:
        rule = StampRule(unknown_customer=UnknownCustomer.issue)
        installation.connection = await installation.host.services.onboarding.connect(
            "webhook", SETTINGS, KEY, lambda _account: rule
        )
        yield installation
