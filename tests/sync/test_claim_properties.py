"""Receipts that are identified at the till, claimed, imported, and given by hand and taken back: in any order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from connector_sdk.rule import Mode, StampRule, UnknownCustomer
from connectors.domain.connection import Connection
from connectors.domain.person import Reference
from connectors.domain.receipt_links import ReceiptTarget
from connectors.services import Refusal
from connectors.store import ledger
from connectors.sync.ingest import Snapshot, Source
from tests.model import VirtualInstallation, sale

AT_THE_TILL, CLAIMERS = "+380501110001", ("+380501110007", "+380501110008")
RECEIPTS = 2
_RULE = StampRule(mode=Mode.both, unknown_customer=UnknownCustomer.issue)

receipts = st.integers(0, RECEIPTS - 1)
steps = st.lists(
    st.one_of(
        # the till says it, with a customer or without one; a refund ends what it has earned
        st.tuples(st.just("push"), receipts, st.booleans()),
        st.tuples(st.just("import"), receipts, st.booleans()),
        st.tuples(st.just("refund"), receipts, st.booleans()),
        st.tuples(st.just("claim"), receipts, st.sampled_from(CLAIMERS)),
        # a person in the console gives it to a card, and takes it back a moment later
        st.tuples(st.just("give"), receipts, st.sampled_from(CLAIMERS)),
        st.tuples(st.just("take back"), receipts, st.just(False)),
        st.tuples(st.just("deliver"), receipts, st.just(False)),
    ),
    min_size=4,
    max_size=14,
)


@dataclass
class Told:
    """What was said of a receipt, as the ledger is to understand it."""

    claimed_by: str | None = None
    by_hand: bool = False
    refunded: bool = False
    seen: set[tuple[bool, bool]] = field(default_factory=set)
    named: bool = False

    def hear(self, named: bool, refunded: bool) -> None:
        """A state without a version: one that was there before changes nothing, and refunds never shrink."""
        if (named, refunded) in self.seen or (self.refunded and not refunded):
            return
        self.seen.add((named, refunded))
        self.named, self.refunded = named, refunded

    @property
    def owner(self) -> str | None:
        if self.claimed_by is not None:
            return self.claimed_by
        return AT_THE_TILL if self.named else None


# the orders in which one could undo the other
@example(steps=[("push", 0, False), ("claim", 0, CLAIMERS[0]), ("push", 0, True), ("deliver", 0, False)])
@example(steps=[("push", 0, False), ("claim", 0, CLAIMERS[0]), ("deliver", 0, False), ("import", 0, True)])
@example(steps=[("push", 0, True), ("claim", 0, CLAIMERS[0]), ("deliver", 0, False), ("push", 0, False)])
@example(steps=[("push", 0, True), ("deliver", 0, False), ("claim", 0, CLAIMERS[0]), ("claim", 0, CLAIMERS[1])])
@example(steps=[("push", 0, True), ("give", 0, CLAIMERS[0]), ("deliver", 0, False), ("take back", 0, False)])
@example(steps=[("import", 0, False), ("claim", 0, CLAIMERS[0]), ("refund", 0, True), ("import", 0, False)])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=steps)
def test_each_receipts_stamps_are_given_once_and_to_the_right_card(steps: list[tuple[str, int, Any]]) -> None:
    installation = VirtualInstallation()
    try:
        installation.run(_play(installation, steps))
    finally:
        installation.end()


async def _play(installation: VirtualInstallation, steps: list[tuple[str, int, Any]]) -> None:
    host = await installation.open()
    connection = await host.services.connections.get(await installation.connect(_RULE))
    now = installation.clock.now()
    told = [Told() for _ in range(RECEIPTS)]

    async def say(number: int, source: Source, *, named: bool, refunded: bool) -> None:
        content = sale(
            f"r{number}", closed=now, refunded=1000 if refunded else 0, customer=AT_THE_TILL if named else None
        )
        await host.ingestor.ingest([Snapshot(connection, content, source, None, fetches=False)])
        told[number].hear(named, refunded)

    async def deliver() -> None:
        assert host.identifier is not None
        assert host.deliverer is not None
        while await host.identifier.round(connection.id):
            pass
        await host.deliverer.drain(connection.id)

    for step, number, how in steps:
        match step:
            case "push":
                await say(number, Source.push, named=how, refunded=False)
            case "import":
                await say(number, Source.imported, named=how, refunded=False)
            case "refund":
                await say(number, Source.push, named=how, refunded=True)
            case "claim":
                if await _claim(installation, connection.business_id, number, how):
                    assert told[number].claimed_by is None, "claimed twice"
                    told[number].claimed_by = how
            case "give":
                if await _give(installation, connection, number, how):
                    assert told[number].claimed_by is None, "given twice"
                    told[number].claimed_by, told[number].by_hand = how, True
            case "take back":
                taken = await _take_back(installation, connection, number)
                assert taken == told[number].by_hand
                if taken:
                    told[number].claimed_by, told[number].by_hand = None, False
            case _:
                await deliver()
    await deliver()
    expected: dict[str, int] = {}
    for receipt in told:
        if receipt.owner is not None and receipt.seen and not receipt.refunded:
            expected[receipt.owner] = expected.get(receipt.owner, 0) + 1
    assert installation.stamps_by_phone() == expected


async def _sale_id(installation: VirtualInstallation, business_id: str, number: int) -> str:
    return await installation.host.store.read(
        lambda tx: ledger.sales.sale_id_of(tx, business_id, "model", "a1", f"r{number}")
    )


async def _give(installation: VirtualInstallation, connection: Connection, number: int, who: str) -> bool:
    services = installation.host.services
    card = await services.cards.issue_card(connection.business_id, phone=who, email=None)
    sale_id = await _sale_id(installation, connection.business_id, number)
    try:
        await services.review.give_stamps(connection, sale_id, card, Reference("phone", who))
    except Refusal:
        return False
    return True


async def _take_back(installation: VirtualInstallation, connection: Connection, number: int) -> bool:
    sale_id = await _sale_id(installation, connection.business_id, number)
    try:
        await installation.host.services.review.take_stamps_back(connection, sale_id)
    except Refusal:
        return False
    return True


async def _claim(installation: VirtualInstallation, business_id: str, number: int, who: str) -> bool:
    host = installation.host
    sale_id = await _sale_id(installation, business_id, number)
    try:
        await host.services.claims.claim(ReceiptTarget(sale_id[:16]), who, agreed="", language="en")
    except Refusal:
        return False
    return True
