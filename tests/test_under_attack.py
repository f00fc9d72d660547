"""While one client does its worst, the sales of other cafes become stamps, and the host answers and stays small."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.attacks.attacks import ATTACKS
from tests.attacks.deployment import can_attack, deployed
from tests.attacks.observer import Figures, Observer

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
        async with Observer.of(deployment, patience=PATIENCE) as observer:
            await observer.sell(Figures())  # cards are issued, workers run
            before = observer.memory()
            for name in ATTACKS:
                figures, answers = await observer.attack(name, SECONDS)
                assert answers, f"{name}: nothing was attacked"
                assert not figures.lost, f"{name}: these sales are no stamps: {figures.lost}"
                assert figures.health, f"{name}: nobody was asked"
                assert not figures.unhealthy, f"{name}: /healthz was answered {figures.unhealthy}"
            assert deployment.process.poll() is None, deployment.log.read_text()
            assert observer.memory() - before < MOST_GROWTH
