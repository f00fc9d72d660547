"""Corners of the ledger's invariants, each found by a review and kept from coming back."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import httpx
import pytest

from connector_sdk import Line, Money, Sale, SaleStatus
from connector_sdk.messages import Message
from connector_sdk.rule import StampRule, UnknownCustomer
from connectors.domain.connection import Health
from connectors.domain.operation import Kind, Planned, State
from connectors.domain.plan import start_of_next_month
from connectors.domain.planning import plan
from connectors.domain.stamps import Earned, stamps_for
from connectors.services import Refusal, Services
from connectors.sevenstamp.client import SevenStamp
from connectors.store import connections, counters, inbox, ledger, queries
from connectors.store.connections.registry import ConnectionChange
from connectors.store.engine import Transaction
from connectors.store.ledger.sales import SaleRow
from connectors.store.schema import operation_table
from connectors.sync import health, ingest, lifecycle
from connectors.sync.delivery import Deliverer
from connectors.sync.doubt_resolution import Timing
from connectors.sync.identification import _conclude, _NoCard
from connectors.sync.ingest import Outcome, Snapshot, Source
from connectors.sync.key_pacing import Pace
from tests.installation import ANNA, BORYS, KEY, Installation
from tests.model import ModelTill, VirtualInstallation, sale

HOLD = StampRule(unknown_customer=UnknownCustomer.hold)
ISSUE = StampRule(unknown_customer=UnknownCustomer.issue)
SKIP = StampRule(unknown_customer=UnknownCustomer.skip)


def operation(n: int, signed: int, state: State) -> Planned:
    return Planned(f"o{n}", n, "card", signed, state)


@pytest.mark.parametrize(
    ("target", "operations", "cancel", "remainder"),
    [
        (5, [], (), 5),
        (0, [operation(1, 5, State.applied)], (), -5),
        (0, [operation(1, 5, State.pending)], ("o1",), 0),
        (4, [operation(1, 5, State.held)], ("o1",), 4),
        (0, [operation(1, 5, State.uncertain)], (), -5),
        (5, [operation(1, 5, State.applied), operation(2, -5, State.pending)], ("o2",), 0),
        # a rejected addition was never given: nothing of it is taken back, and it is not planned again
        (5, [operation(1, 5, State.applied), operation(2, 2, State.rejected)], (), 0),
        (0, [operation(1, 5, State.applied), operation(2, 2, State.rejected)], (), -5),
        (7, [operation(1, 5, State.applied), operation(2, 2, State.rejected)], (), 0),
        # a rejected reversal left its stamps on the card: they are not given a second time
        (2, [operation(1, 2, State.applied), operation(2, -2, State.rejected)], (), 0),
        (5, [operation(1, 2, State.applied), operation(2, -2, State.rejected)], (), 3),
    ],
)
def test_the_next_operation_is_the_entitlement_minus_what_is_planned(
    target: int, operations: list[Planned], cancel: tuple[str, ...], remainder: int
) -> None:
    step = plan(target, operations)
    assert (step.cancel, step.remainder) == (cancel, remainder)


@pytest.mark.parametrize("kind", ["per_order", "per_item", "by_amount"])
def test_a_return_kept_as_a_receipt_of_its_own_earns_nothing(kind: str) -> None:
    amount = Money(100, "EUR") if kind == "by_amount" else None
    products = frozenset({"latte"}) if kind == "per_item" else frozenset()
    rule = StampRule.model_validate({"kind": kind, "amount": amount, "products": products})
    returned = Sale(
        receipt_id="R1",
        status=SaleStatus.closed,
        closed_at=datetime(2026, 11, 20, 8, tzinfo=UTC),
        paid=Money(-1250, "EUR"),
        refunded=Money.zero("EUR"),
        lines=(Line(product_id="latte", quantity=Decimal(1)),),
    )
    assert stamps_for(returned, rule, "Europe/Madrid").stamps == 0


async def test_only_a_history_that_was_read_proves_absence(installation: Installation) -> None:
    """A 403 on the history says nothing; the stamp must not be sent a second time."""
    inner = httpx.AsyncHTTPTransport()
    reads: list[int] = []

    class ForbiddenHistory(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            if "/history" in request.url.path:
                reads.append(1)
                return httpx.Response(403, json={"code": "forbidden"})
            answer = await inner.handle_async_request(request)
            if request.method == "POST" and request.url.path.endswith("/stamps"):
                raise httpx.ReadError("cut")
            return answer

    await installation.connect()
    installation.cafe.sell(installation.cafe.client(ANNA))
    timing = Timing(deadline=0.2, settle=0.1)
    service = SevenStamp(str(installation.settings.sevenstamp_url), transport=ForbiddenHistory(), deadline=0.2)
    deliverer = Deliverer(installation.host.store, service, timing)
    installation.host.services = Services(replace(installation.host.services._context, deliverer=deliverer))
    await installation.sync()
    for _ in range(4):
        await asyncio.sleep(0.2)
        await installation.host.store.write(_make_doubts_due)
        await deliverer.resolve()
        await deliverer.drain()
    assert reads
    assert len(installation.applied()) == 1
    assert [operation.state for operation in await installation.operations()] == [State.uncertain]


def _make_doubts_due(tx: Transaction) -> None:
    is_uncertain = operation_table.c.state == State.uncertain
    tx.run(operation_table.update().where(is_uncertain).values(next_at=0))


async def test_a_page_read_while_its_connection_was_removed_is_left_to_the_next_connection(
    installation: Installation,
) -> None:
    removed = await installation.connect()
    installation.cafe.sell(installation.cafe.client(ANNA))
    await installation.host.services.connections.remove(removed.id)
    adopting = await installation.connect()
    snapshot = Snapshot(
        removed, sale("330660", closed=installation.host.store.clock.now(), customer=None), Source.poll, 1
    )
    assert await installation.host.ingestor.ingest([snapshot]) == [Outcome.elsewhere]
    await installation.host.services.sync.backfill(adopting.id, "2026-01-01", _ignore_progress)
    assert installation.stamps(ANNA) == 1


async def _ignore_progress(_progress: object) -> None:
    """Progress that nobody watches."""


async def test_one_connection_for_all_takes_over_from_several_removed_ones(installation: Installation) -> None:
    for spot in (1, 2):
        connection = await installation.connect(HOLD, locations=[str(spot)])
        receipt = installation.cafe.open(installation.cafe.client((ANNA, BORYS)[spot - 1]), spot=spot)
        installation.cafe.add(receipt, "161")
        installation.cafe.close(receipt)
        await installation.sync()
        await installation.host.services.connections.remove(connection.id)
    assert installation.host.sevenstamp is not None
    for phone in (ANNA, BORYS):
        await installation.host.sevenstamp.with_key(KEY).issue_card(phone=phone)
    await installation.connect(HOLD)
    await installation.sync()
    assert (installation.stamps(ANNA), installation.stamps(BORYS)) == (1, 1)


async def test_a_receipt_that_another_connection_takes_over_keeps_the_rule_it_was_closed_under(
    installation: Installation,
) -> None:
    tens = StampRule(
        kind="by_amount", amount=Money.from_decimal("10.00", "UAH"), unknown_customer=UnknownCustomer.issue
    )
    first = await installation.connect(tens)
    receipt = installation.cafe.sell(installation.cafe.client(ANNA), 10000)
    await installation.sync()
    await installation.host.services.connections.edit(first.id, {}, locations=["2"])
    await installation.connect(ISSUE, locations=["1"])
    installation.cafe.correct(receipt, 9000)
    await installation.sync()
    assert installation.stamps(ANNA) == 9


async def test_an_older_search_without_a_card_does_not_undo_a_card_that_was_found(installation: Installation) -> None:
    await installation.connect(HOLD)
    installation.cafe.sell(installation.cafe.client(ANNA))
    assert installation.host.identifier is not None
    for turn in await installation.host.store.write(
        lambda tx: connections.schedule.lease_polls(tx, 1, installation.connection.id)
    ):
        await installation.host.reader.poll(turn)
    (stale,) = await installation.host.store.write(
        lambda tx: ledger.card_searches.lease(tx, 10, installation.connection.id)
    )
    assert installation.host.sevenstamp is not None
    await installation.host.sevenstamp.with_key(KEY).issue_card(phone=ANNA)
    await installation.sync()
    connection = await installation.host.services.connections.get(installation.connection.id)
    await installation.host.store.write(lambda tx: _conclude(tx, connection, stale, _NoCard()))
    await installation.sync()
    assert installation.stamps(ANNA) == 1


async def test_a_search_decides_for_each_sale_by_its_own_rule(installation: Installation) -> None:
    await installation.connect(SKIP)
    client = installation.cafe.client(ANNA)
    installation.cafe.sell(client)
    await installation.host.services.connections.edit(
        installation.connection.id, {}, rule=lambda _account, _rule: ISSUE
    )
    installation.cafe.sell(client)
    await installation.sync()
    assert installation.stamps(ANNA) == 1
    assert [operation.receipt_id for operation in await installation.operations()] == ["330661"]


async def test_a_dismissed_hold_is_not_given_when_the_card_appears(installation: Installation) -> None:
    await installation.connect(HOLD)
    receipt = installation.cafe.sell(installation.cafe.client(ANNA))
    await installation.sync()
    (held,) = await installation.operations()
    await installation.host.services.review.dismiss(installation.connection.id, held.id)
    assert installation.host.sevenstamp is not None
    await installation.host.sevenstamp.with_key(KEY).issue_card(phone=ANNA)
    await installation.sync()
    assert installation.applied() == []
    installation.cafe.receipts[receipt]["spot_id"] = "2"  # a new version: the card is found, the hold stays dismissed
    await installation.sync()
    assert installation.applied() == []
    await installation.host.services.review.retry(installation.connection.id, held.id)
    await installation.sync()
    assert installation.stamps(ANNA) == 1


async def test_a_retry_never_gives_more_than_the_receipt_earns(installation: Installation) -> None:
    await installation.connect(StampRule(unknown_customer=UnknownCustomer.issue, max_per_card_per_day=1))
    client = installation.cafe.client(ANNA)
    installation.cafe.sell(client)
    second = installation.cafe.sell(client)
    await installation.sync()
    (held,) = [operation for operation in await installation.operations() if operation.state is State.held]
    await installation.host.services.review.dismiss(installation.connection.id, held.id)
    installation.cafe.attach(second, installation.cafe.client(BORYS))
    await installation.sync()
    assert installation.stamps(BORYS) == 1
    with pytest.raises(Refusal, match="does not call for that any more"):
        await installation.host.services.review.retry(installation.connection.id, held.id)


async def test_a_customer_whom_7stamp_cannot_know_is_held_and_not_searched_for_ever(installation: Installation) -> None:
    await installation.connect(ISSUE)
    installation.cafe.clients[38] = {"client_id": "38", "phone_number": "", "email": "no@mail", "card_number": "0"}
    installation.cafe.sell(38)
    installation.cafe.clients[39] = {"client_id": "39", "phone_number": ANNA[1:], "email": "@", "card_number": "²"}
    installation.cafe.sell(39)
    result = await installation.sync()
    assert (result["operations"]["held"], result["operations"]["applied"]) == (1, 1)
    assert installation.stamps(ANNA) == 1


async def test_a_receipt_that_cannot_be_planned_stops_no_other(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    await installation.connect()
    installation.cafe.sell(installation.cafe.client(ANNA))
    installation.cafe.sell(installation.cafe.client(BORYS))
    original_entitlement = ingest.entitlement

    def raise_for_first_receipt(row: SaleRow, sale: Sale, rule: StampRule, zone: str) -> Earned:
        if sale.receipt_id == "330660":
            raise OverflowError("far too much")
        return original_entitlement(row, sale, rule, zone)

    monkeypatch.setattr(ingest, "entitlement", raise_for_first_receipt)
    await installation.sync()
    assert (installation.stamps(ANNA), installation.stamps(BORYS)) == (0, 1)
    assert any("330660 could not be read and is kept" in line for line in await installation.journal())
    monkeypatch.undo()
    for name, value in installation.environment.items():
        monkeypatch.setenv(name, value)
    await installation.sync()
    assert installation.stamps(ANNA) == 1


async def test_a_rule_in_another_currency_earns_nothing_and_says_so(installation: Installation) -> None:
    await installation.connect(
        StampRule(kind="by_amount", amount=Money(1000, "EUR"), unknown_customer=UnknownCustomer.issue)
    )
    installation.cafe.sell(installation.cafe.client(ANNA))
    await installation.sync()
    assert (await installation.journal())[-1].endswith("earned no stamps: the rule is in another currency (€10.00).")


async def test_a_stamp_taken_back_makes_room_under_the_cap(installation: Installation) -> None:
    await installation.connect(StampRule(unknown_customer=UnknownCustomer.issue, max_per_card_per_day=1))
    client = installation.cafe.client(ANNA)
    installation.cafe.refund(installation.cafe.sell(client))
    first = installation.cafe.sell(client)
    await installation.sync()
    installation.cafe.refund(first)
    await installation.sync()
    installation.cafe.sell(client)
    await installation.sync()
    assert installation.stamps(ANNA) == 1


async def test_a_call_made_with_old_settings_does_not_undo_what_a_person_changed(installation: Installation) -> None:
    before = await installation.connect()
    await installation.host.services.connections.pause(before.id)
    reason = Message("why.till_refuses")
    for _ in range(4):
        await installation.host.store.write(lambda tx: health.record_failed_read(tx, before, reason, retry_after=None))
    assert (await installation.host.services.connections.get(before.id)).health == "paused"
    await installation.host.services.connections.resume(before.id)
    await installation.host.services.connections.edit(before.id, dict(installation.till.settings()))
    await installation.host.store.write(lambda tx: health.report_unwell(tx, before, Health.needs_authorisation, reason))
    assert (await installation.host.services.connections.get(before.id)).health == "active"


async def test_a_voucher_does_not_wait_behind_a_held_stamp(installation: Installation) -> None:
    await installation.connect(HOLD)
    assert installation.host.sevenstamp is not None
    client = installation.host.sevenstamp.with_key(KEY)
    await client.write("/v1/vouchers", json.dumps({"code": "x", "title": "C", "redeem_code": "FREECOFFEE"}), "x", 5)
    installation.cafe.sell(installation.cafe.client(ANNA), comment="FREECOFFEE")
    result = await installation.sync()
    assert (result["operations"]["held"], result["operations"]["applied"]) == (1, 1)


async def test_pushes_without_a_version_only_ever_go_forward(installation: Installation) -> None:
    """A till that pushes whole sales, has no revisions and cannot be asked."""
    connection = await installation.connect()
    closed = installation.host.store.clock.now()

    async def push(pushed: Sale) -> Outcome:
        (outcome,) = await installation.host.ingestor.ingest(
            [Snapshot(connection, pushed, Source.push, None, fetches=False)]
        )
        return outcome

    assert await push(sale("p1", closed=closed, customer=ANNA)) is Outcome.stored
    assert await push(sale("p1", closed=closed, customer=ANNA, refunded=400)) is Outcome.stored
    assert await push(sale("p1", closed=closed, customer=ANNA)) is Outcome.unchanged
    assert await push(sale("p1", closed=closed, customer=ANNA, refunded=100)) is Outcome.lost
    assert (
        await push(sale("p1", closed=closed, customer=ANNA, status=SaleStatus.voided, refunded=400)) is Outcome.stored
    )
    assert await push(sale("p1", closed=closed, customer=ANNA, refunded=500)) is Outcome.lost
    (hinted,) = await installation.host.ingestor.ingest(
        [Snapshot(connection, sale("p2", closed=closed), Source.push, None)]
    )
    assert hinted is Outcome.hinted


async def test_a_losing_snapshot_that_differs_leaves_a_hint(installation: Installation) -> None:
    connection = await installation.connect()
    closed = installation.host.store.clock.now()
    younger = Snapshot(connection, sale("x", closed=closed, paid=500), Source.poll, ticket=1001)
    older = Snapshot(connection, sale("x", closed=closed, paid=400), Source.poll, ticket=1000)
    await installation.host.ingestor.ingest([younger])
    assert await installation.host.ingestor.ingest([older]) == [Outcome.lost]
    assert await installation.host.store.read(lambda tx: inbox.hints.count_of(tx, connection.id)) == 1


def test_a_key_that_was_asked_to_slow_down_delays_no_other() -> None:
    """A hundred pending for a key limited to one a second, and one for another cafe: that one goes at once."""
    installation = VirtualInstallation()
    try:
        installation.run(_deliver_for_a_slowed_and_another_key(installation))
    finally:
        installation.end()


async def _deliver_for_a_slowed_and_another_key(installation: VirtualInstallation) -> None:
    host = await installation.open()
    slow = await installation.connect()
    other = type("Other", (ModelTill,), {"info": ModelTill.info.__class__(name="other", title="Other")})
    host.plugins.classes["other"] = other
    fast = (await host.services.onboarding.connect("other", {}, "7loc_sc_other", lambda _account: ISSUE)).id
    closed = installation.clock.now()
    for connection_id, count in ((slow, 100), (fast, 1)):
        connection = await host.services.connections.get(connection_id)
        sales = [sale(f"r{n}", closed=closed, customer=f"+38050111{n:04d}") for n in range(count)]
        await host.ingestor.ingest([Snapshot(connection, sale, Source.poll, 1) for sale in sales])
    assert host.identifier is not None
    assert host.deliverer is not None
    while await host.identifier.round():
        pass
    pace = host.deliverer._paces.setdefault((await host.services.connections.get(slow)).key_hash, Pace())
    pace.limited(asyncio.get_running_loop().time(), 1.0)
    running = asyncio.create_task(host.deliverer.run())
    began = asyncio.get_running_loop().time()
    while not (await host.store.read(lambda tx: queries.operations.counts_by_state(tx, fast, 0)))["applied"]:  # noqa: ASYNC110 - virtual time
        await asyncio.sleep(0.1)
    assert asyncio.get_running_loop().time() - began < 5  # virtual seconds
    host.deliverer.stop()
    await running


def test_the_next_month_begins_in_utc_where_a_zone_is_unknown() -> None:
    now = 1_764_000_000_000_000  # 24 November 2025
    assert start_of_next_month(now, "No/Where") == 1_764_547_200_000_000
    assert start_of_next_month(now, "Europe/Kyiv") == 1_764_547_200_000_000 - 2 * 3600 * 10**6


def test_the_kinds_of_operations_are_those_that_7stamp_reports() -> None:
    assert {kind.value for kind in Kind} == {"stamps_added", "stamps_reversed", "voucher_redeemed"}


async def test_tickets_grow(installation: Installation) -> None:
    first = await installation.host.store.write(lambda tx: counters.issue_tickets(tx, 3))
    assert await installation.host.store.write(lambda tx: counters.issue_tickets(tx, 1)) == first + 3
    await installation.connect()
    await installation.host.store.write(
        lambda tx: lifecycle.edit(tx, installation.connection.id, ConnectionChange(title="x"))
    )
