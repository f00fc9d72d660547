"""Chromium, or a sentence that says how to get it; in CI its absence is a failure."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.served_installation import MISSING, ServedInstallation, chromium, serve_installation


@pytest.fixture(autouse=True)
def _browser() -> None:
    if chromium() is None:
        if os.environ.get("CI"):
            pytest.fail(MISSING)
        pytest.skip(MISSING)


@pytest.fixture
async def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ServedInstallation]:
    async with serve_installation(tmp_path, monkeypatch) as one:
        yield one
