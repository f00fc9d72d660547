"""Delivery under every fault of the sandbox, with crashes, on virtual time: nothing lost, nothing twice."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from connector_sdk import Sale
from connectors.domain.operation import Kind, State
from connectors.sevenstamp.sandbox import Faults
from connectors.store import counters, ledger, queries
from connectors.sync.ingest import Snapshot, Source
from connectors.sync.vouchers import WantedVoucher
from tests.model import VirtualInstallation, sale

PHONES = tuple(f"+38050111000{number}" for number in range(5))
CODE = "COFFEE-01"
CHANCE = st.sampled_from([0.0, 0.1, 0.5, 0.9])


def milliseconds(most: int) -> st.SearchStrategy[tuple[int, int]]:
    """A range of delays, none longer than `most`."""
    return st.sampled_from([(0, 0), (0, most // 4), (most // 2, most), (most, most)])


FAULTS = st.fixed_dictionaries(
    {
        "drop_before": CHANCE,
        "drop_after": CHANCE,
        "status_500": CHANCE,
        "status_429": st.sampled_from([0.0, 0.3]),
        "garbage": CHANCE,
        # a request lives at most as long as its caller waits, or it would settle later than the contract says
        "latency_ms": milliseconds(7_000),
        "apply_late_ms": milliseconds(10_000),
        "history_lag_ms": milliseconds(10_000),
        "ignore_idempotency_keys": st.booleans(),
        "seed": st.integers(0, 2**32),
    }
)


class DeliveryLoops:
    """A host's delivery with its loops, which may die at any moment and be started anew over the same database."""

    def __init__(self, installation: VirtualInstallation) -> None:
        self.installation = installation
        self.tasks: list[asyncio.Task[Any]] = []

    async def start(self) -> None:
        """Open the host, doubt what a dead one had on the wire, and run both loops."""
        host = await self.installation.open()
        await host.store.write(ledger.operations.mark_unfinished_uncertain)
        assert host.deliverer is not None

        async def resolve() -> None:
            while True:
                await host.deliverer.resolve()  # type: ignore[union-attr]
                await asyncio.sleep(1)

        self.tasks = [asyncio.create_task(host.deliverer.run()), asyncio.create_task(resolve())]

    async def die(self) -> None:
        """Stop in the middle of everything: no result is written down, what was sent is sent."""
        host = self.installation.host
        assert host.deliverer is not None
        for task in [*self.tasks, *host.deliverer.on_the_wire()]:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.installation.close_host()


async def _all_settled(installation: VirtualInstallation, connection_id: str) -> bool:
    operations = await installation.host.store.read(lambda tx: queries.operations.list_newest(tx, connection_id))
    return all(
        operation.state in (State.applied, State.cancelled)
        # of the receipts that carry the voucher's code one is refused
        or (operation.kind is Kind.voucher_redeemed and operation.state is State.rejected)
        for operation in operations
    )


NO_FAULTS: dict[str, Any] = {
    **dict.fromkeys(("drop_before", "drop_after", "status_500", "status_429", "garbage"), 0.0),
    **dict.fromkeys(("latency_ms", "apply_late_ms", "history_lag_ms"), (0, 0)),
    "ignore_idempotency_keys": True,
    "seed": 1,
}
# the worst that the contract allows, always tried: applied or shown as late as can be, and no key remembered
APPLIED_LATE = NO_FAULTS | {"drop_after": 0.9, "apply_late_ms": (10_000, 10_000), "latency_ms": (7_000, 7_000)}
SHOWN_LATE = NO_FAULTS | {"drop_after": 0.9, "history_lag_ms": (10_000, 10_000), "latency_ms": (7_000, 7_000)}


@example(faults=APPLIED_LATE, cards=2, receipts=6, refunds=2, crashes=[0.5, 9.0])
@example(faults=SHOWN_LATE, cards=2, receipts=6, refunds=2, crashes=[0.5, 9.0])
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    faults=FAULTS,
    cards=st.integers(1, 5),
    receipts=st.integers(1, 10),
    refunds=st.integers(0, 4),
    crashes=st.lists(st.floats(0.01, 30), max_size=3),
)
def test_no_operation_is_lost_and_none_is_applied_twice(
    faults: dict[str, Any], cards: int, receipts: int, refunds: int, crashes: list[float]
) -> None:
    installation = VirtualInstallation()
    try:
        installation.run(_deliver_with_faults(installation, faults, cards, receipts, refunds, crashes))
    finally:
        installation.end()


async def _deliver_with_faults(
    installation: VirtualInstallation,
    faults: dict[str, Any],
    cards: int,
    receipts: int,
    refunds: int,
    crashes: list[float],
) -> None:
    loops = DeliveryLoops(installation)
    await loops.start()
    connection_id = await installation.connect()
    host = installation.host
    now = installation.clock.now()
    await host.services.cards.issue_voucher(
        (await host.services.connections.get(connection_id)).business_id,
        WantedVoucher(title="Coffee", redeem_code=CODE),
    )
    # a cashier typed the same code on two receipts
    codes = dict.fromkeys(range(min(2, receipts)), (CODE,))
    sales = [
        sale(f"r{n}", closed=now, customer=PHONES[n % cards], redeem_codes=codes.get(n, ())) for n in range(receipts)
    ]
    await _ingest(installation, connection_id, sales)
    assert host.identifier is not None
    await host.identifier.round()
    installation.sandbox.faults = Faults.parse(faults)
    installation.sandbox._random.seed(faults["seed"])
    for crash, pause in enumerate(crashes):
        await asyncio.sleep(pause)
        if crash == 0:
            refunded_sales = [
                sale(f"r{n}", closed=now, refunded=1000, customer=PHONES[n % cards], redeem_codes=codes.get(n, ()))
                for n in range(refunds)
            ]
            await _ingest(installation, connection_id, refunded_sales[:receipts])
        await loops.die()
        await loops.start()
    await asyncio.sleep(60)
    installation.sandbox.faults = Faults(ignore_idempotency_keys=faults["ignore_idempotency_keys"])
    async with asyncio.timeout(3600):  # of virtual time
        while not await _all_settled(installation, connection_id):  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(1)
    refunded = min(refunds, receipts) if crashes else 0
    expected: dict[str, int] = {}
    for n in range(refunded, receipts):
        expected[PHONES[n % cards]] = expected.get(PHONES[n % cards], 0) + 1
    assert installation.stamps_by_phone() == expected
    redemptions = [one for one in installation.sandbox.state.operations if one["kind"] == "voucher_redeemed"]
    assert len(redemptions) == 1
    sent = [
        operation["code"] for operation in installation.sandbox.state.operations if operation["kind"] != "card_issued"
    ]
    assert len(sent) == len(set(sent))
    await loops.die()
    await installation.open()


async def _ingest(installation: VirtualInstallation, connection_id: str, sales: list[Sale]) -> None:
    connection = await installation.host.services.connections.get(connection_id)
    ticket = await installation.host.store.write(lambda tx: counters.issue_tickets(tx, 1))
    await installation.host.ingestor.ingest([Snapshot(connection, sale, Source.poll, ticket) for sale in sales])
