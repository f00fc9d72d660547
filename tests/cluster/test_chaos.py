"""A short run under fire, drawn from one seed: every law holds. `make chaos` runs longer and harder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.chaos.fault_run import FaultRun, Profile

SECONDS = float(os.environ.get("CHAOS_SECONDS", "0"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("cluster"),
    pytest.mark.skipif(not SECONDS, reason="takes minutes of a whole machine: CHAOS_SECONDS=15, or make chaos"),
]


async def test_every_law_holds_after_everything_failed(tmp_path: Path) -> None:
    report = await FaultRun(Profile(seconds=SECONDS, seed=7, pause=0.08), tmp_path).run()
    assert report.holds or not report.proves, {law: breaks[:5] for law, breaks in report.broken.items() if breaks}
    assert report.counts["members killed"] >= 2
    assert report.counts["database restarts"] + report.counts["connections cut"] >= 1
    assert report.counts["hooks acknowledged"] >= 30
