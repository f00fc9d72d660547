"""The parts that work in the background, handed over together to whatever runs them.

Owns no decision: the host builds the parts, and the scheduler of one process or the jobs of a cluster call them.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from connectors.relay.delivering import RelayDeliverer
from connectors.store.engine import Store
from connectors.store.host_commands import HostCommand
from connectors.sync.agreement import Reconciler
from connectors.sync.delivery import Deliverer
from connectors.sync.gift_vouchers import GiftVouchers
from connectors.sync.identification import Identifier
from connectors.sync.loyalty_effects import LoyaltyEffects
from connectors.sync.loyalty_subscriptions import LoyaltySubscriber
from connectors.sync.rechecks import Rechecker
from connectors.sync.till_reader import TillReader
from connectors.sync.vouchers import Vouchers

Work = Callable[[], Awaitable[None]]
"""A piece of work; whatever it raises is logged, and the database says when it is due again."""


class CommandRunner(Protocol):
    """Does what commands ask of a running host."""

    async def claim(self) -> list[HostCommand]:
        """Claim the commands that are asked for."""
        ...

    async def execute(self, command: HostCommand) -> None:
        """Do a claimed command, and leave its result."""
        ...


@dataclass(frozen=True, slots=True)
class BackgroundParts:
    """What the background work is made of."""

    store: Store
    reader: TillReader
    identifier: Identifier
    deliverer: Deliverer
    loyalty: LoyaltyEffects
    loyalty_subscriber: LoyaltySubscriber
    vouchers: Vouchers
    gifts: GiftVouchers
    relay: RelayDeliverer
    reconciler: Reconciler
    rechecker: Rechecker
    commands: CommandRunner
    maintenance: Work
    counts: Work
    """Writes down what this process has counted and refused."""


def ending_quietly(job: Work) -> Work:
    """Return a job that ends without a word when it is cancelled, as a scheduler that stops does with what runs."""

    @functools.wraps(job)
    async def run() -> None:
        # APScheduler would log it as an error, with a traceback
        with contextlib.suppress(asyncio.CancelledError):
            await job()

    return run
