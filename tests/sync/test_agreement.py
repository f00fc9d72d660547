"""Agreement: every planted difference between till, ledger and cards is found, the certain ones are mended, and a sound
ledger has none; calls are counted, and what is interrupted goes on."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from connectors.domain.agreement import Days, DifferenceKind, next_night
from connectors.domain.clock import DAY, HOUR, SECOND, micros
from connectors.domain.events import ReconciliationDiffers
from connectors.services import ReconcileResult, Refusal
from connectors.services.results import ignore
from connectors.sevenstamp.client import SevenStamp
from connectors.sevenstamp.sandbox import Faults
from connectors.store import ledger
from connectors.sync.agreement import Reconciler
from connectors.sync.doubt_resolution import Timing
from tests.databases import change_database
from tests.installation import ANNA, BORYS, CHRYSTYNA, KEY, Installation, build
from tests.web.clock import MovableClock

LATER = 60 * SECOND
"""Long after a call's deadline and the settling time of these tests: an absence proves something."""


class Compared:
    """An installation with receipts of three customers, whose database and 7stamp a test changes behind its back."""

    def __init__(self, installation: Installation, clock: MovableClock, folder: Path, calls: list[str]) -> None:
        self.installation, self.clock, self.folder, self.calls = installation, clock, folder, calls
        self.cafe, self.sevenstamp = installation.cafe, installation.sevenstamp
        self.first = 0

    async def fill(self) -> None:
        self.first = self.cafe.sell(self.cafe.client(ANNA))
        for customer in (ANNA, BORYS, BORYS, CHRYSTYNA, CHRYSTYNA):
            self.cafe.sell(self.cafe.client(customer))
        await self.installation.sync()
        # on a busy machine an answer may come after its deadline: then it is in doubt, and looked up later
        while any(operation.state != "applied" for operation in await self.installation.operations()):
            self.clock.ahead += LATER
            await self.installation.sync()
        self.clock.ahead += LATER
        self.calls.clear()

    async def reconcile(self) -> ReconcileResult:
        since, _ = _yesterday_and_today(self)
        return await self.installation.host.services.agreement.reconcile(self.installation.connection.id, since, ignore)

    def change_database(self, statement: str, *values: object) -> None:
        change_database(self.installation.settings.database_url, statement, *values)

    async def stamps_counted(self) -> int:
        """The stamps that the daily totals have."""
        connection = self.installation.connection.id
        days = await self.installation.host.store.read(
            lambda tx: ledger.daily_totals.of_days(tx, [connection], "2000-01-01")
        )
        return sum(totals.stamps for totals in days[connection].values())

    async def operation(self, receipt: int) -> ledger.operations.Operation:
        return next(one for one in await self.installation.operations() if one.receipt_id == str(receipt))

    def card_of(self, operation: ledger.operations.Operation) -> Any:
        return self.sevenstamp.state.cards[str(operation.card_id)]

    def lose(self, operation: ledger.operations.Operation) -> None:
        """Have 7stamp forget an operation, as one that is brought back from a backup."""
        card = self.card_of(operation)
        card.events = [event for event in card.events if event.code != operation.code]
        card.stamps -= operation.count
        self.sevenstamp.state.answers.clear()
        self.sevenstamp.state.operations[:] = [
            one for one in self.sevenstamp.state.operations if one["code"] != operation.code
        ]

    def rewrite(self, operation: ledger.operations.Operation, **values: Any) -> None:
        """Have a card's history say something else of an operation."""
        card = self.card_of(operation)
        card.events = [
            dataclasses.replace(event, **values) if event.code == operation.code else event for event in card.events
        ]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that 7stamp was asked for."""
    asked: list[str] = []
    exchange = SevenStamp.exchange

    async def counted(self: SevenStamp, method: str, path: str, **more: Any) -> Any:
        asked.append(f"{method} {path}")
        return await exchange(self, method, path, **more)

    monkeypatch.setattr(SevenStamp, "exchange", counted)
    return asked


@pytest.fixture
async def compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: list[str]) -> AsyncIterator[Compared]:
    clock = MovableClock()
    async with build(tmp_path, monkeypatch, time=clock) as installation:
        await installation.connect()
        compared = Compared(installation, clock, tmp_path, calls)
        await compared.fill()
        yield compared


def kinds(result: ReconcileResult) -> list[str]:
    return [difference.kind for difference in result.differences]


async def test_a_sound_ledger_has_no_difference_and_costs_a_call_for_each_card(compared: Compared) -> None:
    told: list[object] = []
    compared.installation.host.store.listeners.append(lambda _wakeups, events: told.extend(events))
    result = await compared.reconcile()
    assert (result.receipts, result.mended, result.open, result.differences) == (6, 0, 0, ())
    assert result.till_read
    assert result.calls == len(compared.calls) == 3
    assert not [event for event in told if isinstance(event, ReconciliationDiffers)]
    assert "All 6 receipts from" in (await compared.installation.journal())[-1]
    # and again, with nothing sent
    assert (await compared.reconcile()).differences == ()
    assert len(compared.installation.applied()) == 6


async def test_what_7stamp_lost_is_sent_once_more_and_what_it_loses_twice_needs_a_person(compared: Compared) -> None:
    told: list[object] = []
    compared.installation.host.store.listeners.append(lambda _wakeups, events: told.extend(events))
    lost = await compared.operation(compared.first)
    compared.lose(lost)
    result = await compared.reconcile()
    assert kinds(result) == ["not_on_card"]
    assert (result.mended, result.open) == (1, 0)
    (event,) = [event for event in told if isinstance(event, ReconciliationDiffers)]
    assert (event.receipts, event.mended, event.still_open, len(event.days)) == (6, 1, 0, 2)
    compared.clock.ahead += LATER
    await compared.installation.sync()
    assert compared.installation.stamps(ANNA) == 2
    assert await compared.stamps_counted() == 6
    assert (await compared.reconcile()).differences == ()

    compared.lose(lost)
    compared.clock.ahead += LATER
    again = await compared.reconcile()
    assert kinds(again) == ["still_not_on_card"]
    assert (again.mended, again.open) == (0, 1)
    compared.clock.ahead += LATER
    await compared.installation.sync()
    assert compared.installation.stamps(ANNA) == 1  # nobody sends it a third time


async def test_what_was_lost_long_ago_is_not_sent_again_by_itself(compared: Compared) -> None:
    days = _yesterday_and_today(compared)
    compared.lose(await compared.operation(compared.first))
    compared.clock.ahead += 8 * DAY
    connection = compared.installation.connection.id
    result = await compared.installation.host.services.agreement.reconcile(connection, days[0], ignore)
    assert kinds(result) == ["lost_long_ago"]
    assert (result.mended, result.open) == (0, 1)
    await compared.installation.sync()
    assert compared.installation.stamps(ANNA) == 1


async def test_what_was_sent_a_moment_ago_is_not_missed_yet(compared: Compared) -> None:
    receipt = compared.cafe.sell(compared.cafe.client(ANNA))
    compared.sevenstamp.faults = Faults(history_lag_ms=(5000, 5000))
    await compared.installation.sync()
    assert (await compared.operation(receipt)).state == "applied"
    assert (await compared.reconcile()).differences == ()


@pytest.mark.parametrize("state", ["pending", "uncertain", "held", "rejected"])
async def test_what_the_card_has_and_the_ledger_had_not_recorded_is_recorded_and_sent_no_more(
    compared: Compared, state: str
) -> None:
    operation = await compared.operation(compared.first)
    # neither in time for the sender nor for the resolver
    next_at = compared.clock.now() + HOUR
    compared.change_database(
        "UPDATE operation SET state = ?, hold = ?, next_at = ? WHERE id = ?",
        state, "flagged" if state == "held" else None, next_at, operation.id,
    )  # fmt: skip
    connection = compared.installation.connection.id
    await compared.installation.host.store.write(lambda tx: ledger.daily_totals.recount(tx, connection))
    assert await compared.stamps_counted() == 5
    result = await compared.reconcile()
    assert kinds(result) == ["unrecorded"]
    assert (result.mended, result.open) == (1, 0)
    assert await compared.stamps_counted() == 6
    assert (await compared.operation(compared.first)).state == "applied"
    compared.clock.ahead += 2 * HOUR
    await compared.installation.sync()
    assert len(compared.installation.applied()) == 6
    assert (await compared.reconcile()).differences == ()


async def test_a_receipt_that_the_till_changed_unseen_is_taken_in(compared: Compared) -> None:
    compared.cafe.refund(compared.first)
    new = compared.cafe.sell(compared.cafe.client(BORYS))
    result = await compared.reconcile()
    assert kinds(result) == ["changed_unseen", "changed_unseen"]
    assert {difference.receipt for difference in result.differences} == {str(compared.first), str(new)}
    await compared.installation.sync()
    assert (compared.installation.stamps(ANNA), compared.installation.stamps(BORYS)) == (1, 3)
    assert (await compared.reconcile()).differences == ()


async def test_a_receipt_that_the_till_does_not_show_any_more_needs_a_person_and_keeps_its_stamps(
    compared: Compared,
) -> None:
    del compared.cafe.receipts[compared.first]
    for _ in range(2):
        result = await compared.reconcile()
        assert kinds(result) == ["not_at_till"]
        assert (result.mended, result.open) == (0, 1)
    assert compared.installation.stamps(ANNA) == 2
    # said once, however often it is compared
    assert sum("does not show it any more" in line for line in await compared.installation.journal()) == 1


async def test_a_voided_receipt_that_is_gone_at_the_till_is_no_difference(compared: Compared) -> None:
    compared.cafe.remove(compared.first)
    await compared.installation.sync()
    del compared.cafe.receipts[compared.first]
    compared.clock.ahead += LATER
    assert (await compared.reconcile()).differences == ()


async def test_what_changed_since_it_was_read_is_not_mended(compared: Compared) -> None:
    store, seen = compared.installation.host.store, await compared.operation(compared.first)
    compared.change_database("UPDATE operation SET state = 'uncertain' WHERE id = ?", seen.id)
    assert not await store.write(lambda tx: ledger.operations.doubt_again(tx, seen))
    doubted = await compared.operation(compared.first)
    compared.change_database("UPDATE operation SET state = 'cancelled' WHERE id = ?", seen.id)
    assert not await store.write(lambda tx: ledger.operations.record_applied(tx, doubted))
    assert await compared.stamps_counted() == 6


Plant = Callable[[Compared, ledger.operations.Operation], None]


def _other_count(compared: Compared, operation: ledger.operations.Operation) -> None:
    compared.rewrite(operation, stamps=operation.count + 1)


def _cancelled(compared: Compared, operation: ledger.operations.Operation) -> None:
    compared.change_database("UPDATE operation SET state = 'cancelled' WHERE id = ?", operation.id)


def _unknown(compared: Compared, operation: ledger.operations.Operation) -> None:
    # as where the ledger was brought back from a backup, and the till no longer has the receipt
    card, code = compared.card_of(operation), operation.code.replace(f":{operation.receipt_id}:", ":98765:")
    (event,) = [event for event in card.events if event.code == operation.code]
    card.events.append(dataclasses.replace(event, id="ev_other", code=code))


def _other_card(compared: Compared, operation: ledger.operations.Operation) -> None:
    other = next(card for card in compared.sevenstamp.state.cards.values() if card.id != operation.card_id)
    (event,) = [event for event in compared.card_of(operation).events if event.code == operation.code]
    other.events.append(event)


@pytest.mark.parametrize(
    ("plant", "kind"),
    [(_other_count, "other_count"), (_cancelled, "cancelled"), (_unknown, "unknown"), (_other_card, "other_card")],
)
async def test_what_is_not_certain_is_listed_for_a_person_and_left_as_it_is(
    compared: Compared, plant: Plant, kind: str
) -> None:
    operation = await compared.operation(compared.first)
    plant(compared, operation)
    before = await compared.operation(compared.first)
    result = await compared.reconcile()
    assert kinds(result) == [kind]
    assert (result.mended, result.open) == (0, 1)
    assert await compared.operation(compared.first) == before
    assert len(compared.installation.applied()) == 6


async def test_a_voucher_that_somebody_else_used_and_one_that_is_not_used_at_all(compared: Compared) -> None:
    assert compared.installation.host.sevenstamp is not None
    client = compared.installation.host.sevenstamp.with_key(KEY)
    for number in (1, 2, 3):
        await client.write(
            "/v1/vouchers", f'{{"code":"v:{number}","redeem_code":"FREECOFFEE{number}"}}', f"k{number}", 5
        )
        compared.cafe.sell(0, comment=f"voucher FREECOFFEE{number}")
    await compared.installation.sync()
    compared.clock.ahead += LATER
    assert (await compared.reconcile()).differences == ()
    vouchers = compared.sevenstamp.state.vouchers
    by_code = {voucher.redeem_code: key for key, voucher in vouchers.items()}
    other, unused = by_code["FREECOFFEE1"], by_code["FREECOFFEE2"]
    vouchers[other] = dataclasses.replace(vouchers[other], redeemed_by_code="somebody:else:1:0")
    vouchers[unused] = dataclasses.replace(vouchers[unused], redeemed_by_code=None, status="active")
    compared.sevenstamp.state.answers.clear()
    result = await compared.reconcile()
    assert sorted(kinds(result)) == ["not_on_card", "other_use"]
    assert (result.mended, result.open) == (1, 1)
    compared.clock.ahead += LATER
    await compared.installation.sync()
    assert vouchers[unused].status == "redeemed"


async def test_a_card_that_is_gone_is_not_compared(compared: Compared) -> None:
    operation = await compared.operation(compared.first)
    del compared.sevenstamp.state.cards[str(operation.card_id)]
    assert (await compared.reconcile()).differences == ()


async def test_an_interrupted_comparison_goes_on_where_it_was(compared: Compared) -> None:
    compared.lose(await compared.operation(compared.first))
    compared.sevenstamp.faults = Faults(status_500=1.0)
    with pytest.raises(Refusal, match="it goes on from where it was"):
        await compared.reconcile()
    compared.sevenstamp.faults = Faults()
    host = compared.installation.host
    assert host.reconciler is not None
    # two cards in one turn, the last in the next
    days = Days(*_yesterday_and_today(compared))
    compared.calls.clear()
    first = await host.reconciler.run(compared.installation.connection, days, most_calls=2)
    assert (first.finished_at, first.calls, len(compared.calls)) == (None, 2, 2)
    second = await host.reconciler.run(compared.installation.connection, days)
    assert (second.finished_at is not None, second.calls, len(compared.calls)) == (True, 3, 3)
    assert [difference.kind for difference in second.differences] == [DifferenceKind.not_on_card]


def _yesterday_and_today(compared: Compared) -> tuple[str, str]:
    zone = ZoneInfo(compared.installation.connection.account.zone)
    today = datetime.fromtimestamp(compared.installation.host.store.clock.now() / 1_000_000, zone).date()
    return (today - timedelta(days=1)).isoformat(), today.isoformat()


async def test_each_night_the_last_days_are_compared_once_in_the_venues_zone(compared: Compared) -> None:
    host, clock = compared.installation.host, compared.clock
    assert host.reconciler is not None
    assert await host.reconciler.due() == []  # the first look plans the night
    assert await host.reconciler.due() == []
    clock.ahead += 4 * DAY
    (connection,) = await host.reconciler.due()
    assert await host.reconciler.due() == []  # whoever has it has it
    assert host.sevenstamp is not None
    other = Reconciler(host.store, host.reader, host.sevenstamp, Timing())
    assert await other.due() == []  # another host, too
    await host.reconciler.night(connection)
    last = await host.services.agreement.last(connection)
    assert last is not None
    assert last.finished_at is not None
    assert (date.fromisoformat(last.days.last) - date.fromisoformat(last.days.first)).days == 2
    assert await host.reconciler.due() == []
    clock.ahead += DAY
    assert [due.id for due in await host.reconciler.due()] == [connection.id]


async def test_a_paused_connection_waits_for_another_night_and_a_removed_one_has_none(compared: Compared) -> None:
    host = compared.installation.host
    assert host.reconciler is not None
    await host.reconciler.due()
    await host.services.connections.pause(compared.installation.connection.id)
    compared.clock.ahead += 2 * DAY
    assert await host.reconciler.due() == []
    await host.services.connections.remove(compared.installation.connection.id)
    compared.clock.ahead += 2 * DAY
    assert await host.reconciler.due() == []
    assert await host.store.read(lambda tx: ledger.agreements.due(tx, 10, ())) == {}


def test_the_night_is_four_in_the_morning_there_and_the_hours_are_spread() -> None:
    noon = micros(datetime(2026, 11, 23, 12, tzinfo=UTC))
    kyiv = {next_night(noon, "Europe/Kyiv", place) for place in range(1000)}
    assert len(kyiv) == 120
    assert min(kyiv) == micros(datetime(2026, 11, 24, 2, tzinfo=UTC))
    assert max(kyiv) < micros(datetime(2026, 11, 24, 4, tzinfo=UTC))
    assert next_night(noon, "Asia/Kuala_Lumpur", 0) == micros(datetime(2026, 11, 23, 20, tzinfo=UTC))


async def test_a_day_that_is_not_yet_is_refused(compared: Compared) -> None:
    with pytest.raises(Refusal, match="is not yet"):
        await compared.installation.host.services.agreement.reconcile(
            compared.installation.connection.id, "2099-01-01", ignore
        )
