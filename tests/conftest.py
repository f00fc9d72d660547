"""Fixtures that rooms share."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.installation import Installation, build

settings.register_profile("ordinary", deadline=None, print_blob=True)
settings.load_profile("ordinary")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the machine's own environment reaches a test."""
    for name in list(os.environ):
        if name.startswith(("CONNECTORS_", "POSTER_", "SERVE_", "SQUARE_", "WEBHOOK_")):
            monkeypatch.delenv(name)


@pytest.fixture
async def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Installation]:
    async with build(tmp_path, monkeypatch) as one:
        yield one
