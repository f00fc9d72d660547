"""While one client does its worst, the sales of other cafes become stamps, and the host answers and stays small."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.attacks.attacks import ATTACKS
from tests.attacks.deployment import can_attack, deployed
from tests.attacks.monitor import Measurements, Monitor

SECONDS = 1.0
PATIENCE = 60.0
MOST_GROWTH = 200 * 1024 * 1024

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("attacks"),
    pytest.mark.skipif(not can_attack(), reason="clients cannot come from other addresses of the loopback network"),
]


async def test_while_one_client_does_its_worst_sales_of_others_become_stamps(tmp_path: Path) -> None:
    with deployed(tmp_path) as deployment:
        async with Monitor.of(deployment, patience=PATIENCE) as monitor:
            await monitor.sell(Measurements())  # cards are issued, workers run
            before = monitor.memory()
            for name in ATTACKS:
                measurements, answers = await monitor.attack(name, SECONDS)
                assert answers, f"{name}: nothing was attacked"
                assert not measurements.lost, f"{name}: these sales are no stamps: {measurements.lost}"
                assert measurements.health, f"{name}: nobody was asked"
                assert not measurements.unhealthy, f"{name}: /healthz was answered {measurements.unhealthy}"
            assert deployment.process.poll() is None, deployment.log.read_text()
            assert monitor.memory() - before < MOST_GROWTH
