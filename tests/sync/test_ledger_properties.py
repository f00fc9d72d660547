"""Whatever happens to receipts, in whatever order it is read: the stamps are the rule applied to the last version."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from connector_sdk import Money, Sale, SaleStatus
from connector_sdk.rule import StampRule, UnknownCustomer
from connectors.store import counters, inbox
from connectors.store.connections.registry import ConnectionChange
from connectors.sync import lifecycle
from connectors.sync.ingest import Snapshot, Source
from tests.model import ModelTill, VirtualInstallation, sale

PHONES = ("+380501110001", "+380501110002", "+380501110003")
RULES = (
    StampRule(unknown_customer=UnknownCustomer.issue),
    StampRule(kind="by_amount", amount=Money(500, "UAH"), unknown_customer=UnknownCustomer.issue),
    StampRule(kind="by_amount", amount=Money(300, "UAH"), unknown_customer=UnknownCustomer.issue),
)


def expected_stamps(sale: Sale, stamp_rule: StampRule) -> int:
    """Work out the stamps of a sale in the test's own way."""
    if sale.status is not SaleStatus.closed:
        return 0
    if stamp_rule.amount is None:
        return int(sale.refunded.minor < sale.paid.minor)
    return (sale.paid.minor - sale.refunded.minor) // stamp_rule.amount.minor


class History(RuleBasedStateMachine):
    """A till whose receipts change, and a host that reads some of it, some time, in some order."""

    versioned = False

    def __init__(self) -> None:
        super().__init__()
        self.installation = VirtualInstallation()
        self.last: dict[str, Sale] = {}
        self.snapshots: list[Sale] = []
        self.reads: list[tuple[int, list[Sale]]] = []
        self.rules: list[tuple[int, StampRule]] = []
        self.random = random.Random(7)
        # what a hint would fetch is the till as it is; without it, order alone decides
        ModelTill.receipts = {} if self.versioned else self.last

    @initialize(stamp_rule=st.sampled_from(RULES))
    def connect(self, stamp_rule: StampRule) -> None:
        self.installation.run(self.installation.open())
        self.id = self.installation.run(self.installation.connect(stamp_rule))
        self.rules.append((0, stamp_rule))
        self._let_time_pass(1)

    def _let_time_pass(self, seconds: float) -> None:
        self.installation.run(asyncio.sleep(seconds))

    def _change(self, receipt: str, **changes: Any) -> None:
        self._let_time_pass(1)
        before = self.last.get(receipt)
        version = (before.version or 0) + 1 if before and self.versioned else 1 if self.versioned else None
        values: dict[str, Any] = {"customer": None}
        if before is not None:
            values = {
                "closed": self.installation.clock.now(),
                "paid": before.paid.minor,
                "refunded": before.refunded.minor,
                "customer": before.customer.phone if before.customer else None,
                "status": before.status,
            }
            if before.closed_at is not None and changes.get("status", before.status) is before.status:
                values["closed"] = int(before.closed_at.timestamp() * 1_000_000)
        changed = sale(receipt, **(values | changes | {"version": version}))
        self.last[receipt] = changed
        self.snapshots.append(changed)

    @rule(phone=st.sampled_from([*PHONES, None]), paid=st.integers(1, 2000))
    def sell(self, phone: str | None, paid: int) -> None:
        now = self.installation.clock.now() + 1_000_000
        self._change(f"r{len(self.last) + 1}", closed=now, paid=paid, customer=phone)

    @precondition(lambda self: self.last)
    @rule(pick=st.randoms(use_true_random=False), paid=st.integers(1, 2000))
    def correct(self, pick: random.Random, paid: int) -> None:
        self._change(pick.choice(sorted(self.last)), paid=paid, refunded=0)

    @precondition(lambda self: self.last)
    @rule(pick=st.randoms(use_true_random=False), phone=st.sampled_from([*PHONES, None]))
    def attach(self, pick: random.Random, phone: str | None) -> None:
        self._change(pick.choice(sorted(self.last)), customer=phone)

    @precondition(lambda self: self.last)
    @rule(pick=st.randoms(use_true_random=False), share=st.integers(1, 4))
    def refund(self, pick: random.Random, share: int) -> None:
        receipt = pick.choice(sorted(self.last))
        self._change(receipt, refunded=self.last[receipt].paid.minor * share // 4)

    @precondition(lambda self: self.last)
    @rule(pick=st.randoms(use_true_random=False), status=st.sampled_from(list(SaleStatus)))
    def void_reopen_or_close_again(self, pick: random.Random, status: SaleStatus) -> None:
        self._change(pick.choice(sorted(self.last)), status=status)

    @rule(stamp_rule=st.sampled_from(RULES))
    def edit_the_rule(self, stamp_rule: StampRule) -> None:
        self._let_time_pass(1)
        self.installation.run(
            self.installation.host.store.write(lambda tx: lifecycle.edit(tx, self.id, ConnectionChange(), stamp_rule))
        )
        self.rules.append((self.installation.clock.now(), stamp_rule))

    @rule()
    def begin_a_read(self) -> None:
        """Claim a ticket and read the receipts as they are now; they are ingested at some later time."""
        ticket = self.installation.run(self.installation.host.store.write(lambda tx: counters.issue_tickets(tx, 1)))
        self.reads.append((ticket, list(self.last.values())))

    @precondition(lambda self: self.reads or self.snapshots)
    @rule(pick=st.randoms(use_true_random=False), is_repeated=st.booleans())
    def ingest_a_read(self, pick: random.Random, is_repeated: bool) -> None:
        """Ingest a read, or with versions any snapshots there ever were, shuffled and split into pages."""
        if self.versioned and self.snapshots:
            ticket = self.installation.run(self.installation.host.store.write(lambda tx: counters.issue_tickets(tx, 1)))
            sales = pick.sample(self.snapshots, pick.randint(1, min(5, len(self.snapshots))))
        elif self.reads:
            at = pick.randrange(len(self.reads))
            ticket, sales = self.reads[at] if is_repeated else self.reads.pop(at)
        else:
            return
        sales = list(sales)
        pick.shuffle(sales)
        self._ingest(sales, ticket, pick.randint(1, 3))

    def _ingest(self, sales: list[Sale], ticket: int, page: int) -> None:
        connection = self.installation.run(self.installation.host.services.connections.get(self.id))
        for start in range(0, len(sales), page):
            snapshots = [Snapshot(connection, sale, Source.poll, ticket) for sale in sales[start : start + page]]
            self.installation.run(self.installation.host.ingestor.ingest(snapshots))

    @precondition(lambda self: not self.versioned)
    @rule()
    def follow_hints(self) -> None:
        self.installation.run(self._follow_hints())

    async def _follow_hints(self) -> None:
        host = self.installation.host
        connection = await host.services.connections.get(self.id)
        while claimed := await host.store.write(lambda tx: inbox.hints.lease(tx, 50, self.id)):
            await host.reader.follow_hints(connection, claimed)

    @rule()
    def deliver(self) -> None:
        host = self.installation.host
        assert host.identifier is not None
        assert host.deliverer is not None
        self.installation.run(host.identifier.round(self.id))
        self.installation.run(host.deliverer.drain(self.id))

    def teardown(self) -> None:
        if not self.rules:
            return
        try:
            self.finish()
        finally:
            self.installation.end()

    def finish(self) -> None:
        """Read everything once more; then the stamps at 7stamp are what the last versions earn."""
        ticket = self.installation.run(self.installation.host.store.write(lambda tx: counters.issue_tickets(tx, 1)))
        self._ingest(list(self.last.values()), ticket, 7)
        self.settle_and_compare()

    def settle_and_compare(self) -> None:
        if not self.versioned:
            self.follow_hints()
        for _ in range(3):
            self.deliver()
            self._let_time_pass(2)
        expected: dict[str, int] = {}
        for last in self.last.values():
            if last.customer is None or last.customer.phone is None or last.closed_at is None:
                continue
            closed = int(last.closed_at.timestamp() * 1_000_000)
            in_force = [stamp_rule for since, stamp_rule in self.rules if since <= closed][-1]
            if stamps := expected_stamps(last, in_force):
                expected[last.customer.phone] = expected.get(last.customer.phone, 0) + stamps
        assert self.installation.stamps_by_phone() == expected
        codes = [o["code"] for o in self.installation.sandbox.state.operations if o["kind"] != "card_issued"]
        assert len(codes) == len(set(codes))


class VersionedHistory(History):
    """A history of a till whose receipts carry a revision."""

    versioned = True

    def finish(self) -> None:
        """Ingest the last versions first, then everything older: with revisions the order does not matter."""
        last = set(map(id, self.last.values()))
        older = [snapshot for snapshot in self.snapshots if id(snapshot) not in last]
        self.random.shuffle(older)
        for pages in (list(self.last.values()), older):
            ticket = self.installation.run(self.installation.host.store.write(lambda tx: counters.issue_tickets(tx, 1)))
            self._ingest(pages, ticket, 5)
        self.settle_and_compare()


_bounds = settings(max_examples=30, stateful_step_count=30, deadline=None)
TestHistory = History.TestCase
TestHistory.settings = _bounds
TestVersionedHistory = VersionedHistory.TestCase
TestVersionedHistory.settings = _bounds
