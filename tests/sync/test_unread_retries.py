"""A hook that could not be read is retried later: it earns its stamps then, and never beats what arrived after it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from connector_sdk import Money
from connector_sdk.rule import StampRule, UnknownCustomer
from connectors.domain.clock import SystemClock
from connectors.domain.connection import Connection
from connectors.services import ConnectOptions, Refusal
from connectors.store import connections
from connectors.store.engine import Transaction
from connectors.store.schema import kept_body_table
from tests.town import ANNA, KEY, Town
from tests.webhook.test_way_of_a_request import connect, send

PHONE = "+34600111222"
BASE = {
    "till_name": "Bar", "currency": "EUR", "zone": "Europe/Madrid", "country": "ES", "proof": "address",
    "map_receipt_id": "id", "map_paid": "sum", "map_refunded": "back", "map_closed_at": "at", "map_phone": "phone",
}  # fmt: skip
CORRECTED = {"map_paid": "sum || total"}


def sale(total: str | None = None, **changes: Any) -> bytes:
    """Build a hook of one sale; with a `total`, where the mapping looks for `sum`, it cannot be read."""
    at = (datetime.now(UTC) + timedelta(seconds=2)).isoformat()
    facts: dict[str, Any] = {"id": "7", "at": at, "phone": PHONE}
    return json.dumps(facts | ({"total": total} if total else {}) | changes).encode()


async def unread(town: Town) -> list[tuple[str | None, str]]:
    """The receipts that could not be read, newest first, each with the reason."""
    return [
        (entry.receipt_id, town.host.words.word(entry.why))
        for entry in await town.host.services.review.list_unread(town.connection.id)
    ]


async def retry_unread(town: Town) -> dict[str, Any]:
    return (await town.host.services.review.retry_unread(town.connection.id)).as_json()


async def test_a_hook_that_could_not_be_read_earns_its_stamps_once_it_can_be_read(town: Town) -> None:
    await connect(town, BASE)
    assert await send(town, sale("5.00"), {}) == 200
    assert await unread(town) == [("7", "nothing is at sum")]
    assert await retry_unread(town) == {"read": 0, "still_unread": 1, "asked": 0}
    assert await unread(town) == [("7", "nothing is at sum")]
    await town.host.services.connections.edit(town.connection.id, CORRECTED)
    assert await retry_unread(town) == {"read": 1, "still_unread": 0, "asked": 0}
    assert await retry_unread(town) == {"read": 0, "still_unread": 0, "asked": 0}
    await town.sync()
    assert town.stamps(PHONE) == 5
    assert await unread(town) == []
    assert "What could not be read before was tried again: 1 receipt was read." in await town.journal()


async def test_without_a_revision_a_retried_hook_does_not_beat_one_that_arrived_later(town: Town) -> None:
    await connect(town, BASE)
    await send(town, sale("5.00"), {})  # cannot be read
    await send(town, sale(sum="3.00"), {})  # a younger state, which can
    assert len(await unread(town)) == 1  # it may be the refund: nobody can tell before it is read
    await town.host.services.connections.edit(town.connection.id, CORRECTED)
    await retry_unread(town)
    assert await unread(town) == []
    await town.sync()
    assert town.stamps(PHONE) == 3


@pytest.mark.parametrize("backwards", [False, True])
async def test_two_retried_states_count_in_the_order_in_which_they_arrived(town: Town, backwards: bool) -> None:
    await connect(town, BASE)
    await send(town, sale("5.00"), {})
    await send(town, sale("5.00", back="2.00"), {})
    await town.host.services.connections.edit(town.connection.id, CORRECTED)
    ids = [entry.id for entry in await town.host.services.review.list_unread(town.connection.id)]
    for entry_id in ids if backwards else reversed(ids):
        await town.host.services.review.retry_unread(town.connection.id, [entry_id])
    await town.sync()
    assert town.stamps(PHONE) == 3


async def test_a_retried_state_does_not_beat_a_push_that_comes_afterwards(town: Town) -> None:
    await connect(town, BASE)
    await send(town, sale("5.00"), {})
    await town.host.services.connections.edit(town.connection.id, CORRECTED)
    await retry_unread(town)
    await send(town, sale("4.00"), {})
    await town.sync()
    assert town.stamps(PHONE) == 4


async def test_of_a_hook_with_several_receipts_only_those_that_still_cannot_be_read_stay(town: Town) -> None:
    await connect(town, {**BASE, "map_receipts": "all"})
    rows = [json.loads(sale(**{"id": str(number), "total" if number % 2 else "sum": "2.00"})) for number in range(4)]
    rows.append({**rows[0], "id": "9", "at": "soon"})
    assert await send(town, json.dumps({"all": rows}).encode(), {}) == 200
    assert sorted(str(receipt_id) for receipt_id, _ in await unread(town)) == ["1", "3", "9"]
    await town.host.services.connections.edit(town.connection.id, CORRECTED)
    entries = await town.host.services.review.list_unread(town.connection.id)
    first = next(entry for entry in entries if entry.receipt_id == "1")
    # one of them is enough, since they came together
    await town.host.services.review.retry_unread(town.connection.id, [first.id])
    assert [receipt_id for receipt_id, _ in await unread(town)] == ["9"]
    await town.sync()
    assert town.stamps(PHONE) == 8


async def test_a_receipt_is_fetched_where_the_till_can_be_asked_for_it(town: Town) -> None:
    await town.connect()
    receipt = town.cafe.sell(town.cafe.client(ANNA))
    readable = town.cafe.receipts[receipt]["payed_sum"]
    town.cafe.receipts[receipt]["payed_sum"] = "27.5"
    await town.sync()
    assert [receipt_id for receipt_id, _ in await unread(town)] == [str(receipt)]
    town.cafe.receipts[receipt]["payed_sum"] = readable
    assert await retry_unread(town) == {"read": 0, "still_unread": 0, "asked": 1}
    assert await unread(town) == []
    await town.sync()
    assert town.stamps(ANNA) == 1


async def test_a_sale_that_ingest_could_not_take_in_is_retried(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    await connect(town, {**BASE, "map_paid": "sum"})
    with monkeypatch.context() as failing:
        failing.setattr(town.host.ingestor, "_stamps_by_plugin", lambda *_: 1 / 0)
        await send(town, sale(sum="6.00"), {})
        assert [why for _, why in await unread(town)] == ["cannot be taken in (ZeroDivisionError)"]
        assert (await retry_unread(town))["still_unread"] == 1
    assert (await retry_unread(town))["read"] == 1
    await town.sync()
    assert town.stamps(PHONE) == 6
    assert await unread(town) == []


async def test_a_renewed_hook_address_is_used_and_the_former_one_is_valid_for_a_day(town: Town) -> None:
    await connect(town, {**BASE, "map_paid": "sum"})
    services, clock = town.host.services, ShiftedClock()
    town.host.store.clock = clock

    async def path() -> str:
        return str(services.connections.hook_url(await services.connections.get(town.connection.id))).removeprefix(
            town.host.public_url
        )

    first = await path()
    await services.connections.renew_hook_address(town.connection.id)
    second = await path()
    assert first != second
    for address in (first, second):
        assert (await town.hook(sale(sum="1.00"), path=address)).status_code == 200
    await services.connections.renew_hook_address(town.connection.id)
    third = await path()
    assert (await town.hook(b"{}", path=first)).status_code == 404  # two back: it ends at once
    clock.ahead = 24 * 3600 * 1_000_000 - 1_000_000
    assert (await town.hook(sale(sum="1.00"), path=second)).status_code == 200
    clock.ahead += 2_000_000
    assert (await town.hook(sale(sum="1.00"), path=second)).status_code == 404
    assert (await town.hook(sale(sum="1.00"), path=third)).status_code == 200
    await services.connections.remove(town.connection.id)
    assert (await town.hook(sale(sum="1.00"), path=third)).status_code == 404


class ShiftedClock:
    """The system's clock, `ahead` by so many microseconds."""

    def __init__(self) -> None:
        self.ahead = 0

    def now(self) -> int:
        return SystemClock().now() + self.ahead


async def test_only_a_connections_own_hook_address_can_be_renewed(town: Town) -> None:
    await town.connect()
    with pytest.raises(Refusal, match="no address of its own"):
        await town.host.services.connections.renew_hook_address(town.connection.id)


# Found by a review, and kept from coming back

VERSIONED = {**BASE, "map_version": "v"}


async def test_an_unread_newer_revision_beats_an_older_one_that_comes_late(town: Town) -> None:
    await connect(town, VERSIONED)
    await send(town, sale(sum="5.00", v=1), {})
    await send(town, sale("1.00", v=3), {})  # cannot be read
    await send(town, sale(sum="4.00", v=2), {})
    assert len(await unread(town)) == 1
    await town.host.services.connections.edit(town.connection.id, CORRECTED)
    await retry_unread(town)
    await town.sync()
    assert town.stamps(PHONE) == 1


@pytest.mark.parametrize("changes", [{"back": "5.00"}, {"state": "void"}])
async def test_an_unread_refund_or_void_is_not_lost_to_an_older_state_that_comes_late(
    town: Town, changes: dict[str, str]
) -> None:
    states = {"map_status": "state", "closed_statuses": "paid", "voided_statuses": "void"}
    await connect(town, {**BASE, **states})
    await send(town, sale(sum="5.00", state="paid"), {})
    await send(town, sale("5.00", **{"state": "paid", **changes}), {})  # cannot be read
    await send(town, sale(sum="4.00", state="paid"), {})
    await town.host.services.connections.edit(town.connection.id, CORRECTED)
    await retry_unread(town)
    await town.sync()
    assert town.stamps(PHONE) == 0


async def test_a_sale_that_ingest_sets_aside_in_a_retry_keeps_its_arrival(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    await connect(town, BASE)
    await send(town, sale("5.00"), {})
    await town.host.services.connections.edit(town.connection.id, CORRECTED)
    with monkeypatch.context() as failing:
        failing.setattr(town.host.ingestor, "_stamps_by_plugin", lambda *_: 1 / 0)
        assert (await retry_unread(town))["still_unread"] == 1
    await send(town, sale(sum="3.00"), {})
    await retry_unread(town)
    await town.sync()
    assert town.stamps(PHONE) == 3


async def test_of_two_states_in_one_hook_the_later_one_counts(town: Town) -> None:
    await connect(town, {**BASE, "map_receipts": "all"})
    rows = [json.loads(sale("5.00")), json.loads(sale(sum="3.00"))]
    await send(town, json.dumps({"all": rows}).encode(), {})
    await town.host.services.connections.edit(town.connection.id, CORRECTED)
    await retry_unread(town)
    await town.sync()
    assert town.stamps(PHONE) == 3


async def test_a_body_that_is_sent_again_is_as_old_as_when_it_first_came(town: Town) -> None:
    await connect(town, BASE)
    first = sale("5.00")
    await send(town, first, {})
    await send(town, sale(sum="3.00"), {})
    await town.host.services.connections.edit(town.connection.id, CORRECTED)
    await send(town, first, {})
    await town.sync()
    assert town.stamps(PHONE) == 3


async def test_everything_unread_is_retried_however_much_came_after_it(town: Town) -> None:
    await connect(town, BASE)
    for number in range(3):
        await send(town, sale("1.00", id=f"good-{number}"), {})
    for number in range(210):
        await send(town, json.dumps({"event": "product", "n": number}).encode(), {})
    rows = await town.host.services.review.list_unread(town.connection.id, 500)
    events = [row.id for row in rows if row.receipt_id is None][:200]
    for start in range(0, len(events), 50):
        await town.host.services.review.discard_unread(town.connection.id, events[start : start + 50])
    await town.host.services.connections.edit(town.connection.id, CORRECTED)
    assert await retry_unread(town) == {"read": 3, "still_unread": 10, "asked": 0}
    await town.sync()
    assert town.stamps(PHONE) == 3


async def test_requests_that_are_no_sales_do_not_stop_a_retry(town: Town) -> None:
    await connect(town, BASE)
    await send(town, sale("5.00"), {})
    for number in range(6):
        await send(town, json.dumps({"event": "product.updated", "n": number}).encode(), {})
    await town.host.services.connections.edit(town.connection.id, CORRECTED)
    assert (await retry_unread(town))["read"] == 1


async def test_a_body_is_stored_once_however_many_of_its_receipts_cannot_be_read(town: Town) -> None:
    await connect(town, {**BASE, "map_receipts": "all"})
    rows = [json.loads(sale("1.00", id=str(number), note="x" * 200)) for number in range(300)]
    assert await send(town, json.dumps({"all": rows}).encode(), {}) == 200
    assert len(await town.host.services.review.list_unread(town.connection.id, 500)) == 300
    (number,) = await town.host.store.read(lambda tx: tx.run(select(func.count()).select_from(kept_body_table)).one())
    assert number == 1
    await town.host.services.connections.edit(town.connection.id, CORRECTED)
    assert (await retry_unread(town))["read"] == 300
    (number,) = await town.host.store.read(lambda tx: tx.run(select(func.count()).select_from(kept_body_table)).one())
    assert number == 0


async def test_a_lone_surrogate_in_one_receipt_does_not_stop_the_others(town: Town) -> None:
    await connect(town, {**BASE, "map_receipts": "all"})
    rows = [json.loads(sale(sum="2.00", id="1")), json.loads(sale(sum="\ud800", id="2"))]
    assert await send(town, json.dumps({"all": rows}).encode(), {}) == 200
    assert [receipt_id for receipt_id, _ in await unread(town)] == ["2"]
    await town.sync()
    assert town.stamps(PHONE) == 2


async def test_retries_at_the_same_time_are_journalled_once(town: Town) -> None:
    await connect(town, BASE)
    await send(town, sale("5.00"), {})
    await town.host.services.connections.edit(town.connection.id, CORRECTED)
    results = await asyncio.gather(*(retry_unread(town) for _ in range(4)))
    assert sum(result["read"] for result in results) == 1
    await town.sync()
    assert town.stamps(PHONE) == 5
    assert sum("tried again" in line for line in await town.journal()) == 1


async def test_a_hook_that_is_no_sale_can_be_discarded(town: Town) -> None:
    await connect(town, BASE)
    await send(town, b'{"ping": true}', {})
    (row,) = await town.host.services.review.list_unread(town.connection.id)
    assert await town.host.services.review.unread_body(town.connection.id, row.id[:8]) == b'{"ping": true}'
    with pytest.raises(Refusal, match="there is no 'zzz'"):
        await town.host.services.review.discard_unread(town.connection.id, ["zzz"])
    assert await town.host.services.review.discard_unread(town.connection.id, [row.id[:8]]) == 1
    assert await unread(town) == []
    assert (await town.journal())[-1] == "1 request that could not be read is no sale, and is not kept any more."


async def test_a_sale_that_comes_while_a_draft_becomes_a_connection_is_a_sale(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    drafts = town.host.services.drafts
    draft = await drafts.find("biz", await drafts.begin("biz", "webhook"))
    assert draft is not None
    token = draft.content.hook_token
    by_hook_token, lookups = connections.registry.by_hook_token, []

    def none_at_first(tx: Transaction, name: str, shown: str) -> Connection | None:
        lookups.append(shown)
        return None if len(lookups) == 1 else by_hook_token(tx, name, shown)

    rule = StampRule(kind="by_amount", amount=Money(100, "EUR"), unknown_customer=UnknownCustomer.issue)
    town.connection = await town.host.services.onboarding.connect(
        "webhook", {**BASE, "map_paid": "sum"}, KEY, lambda _account: rule, ConnectOptions(hook_token=token)
    )
    monkeypatch.setattr(connections.registry, "by_hook_token", none_at_first)
    assert (await town.hook(sale(sum="5.00"), path=f"/hooks/tills/webhook/{token}")).status_code == 200
    await town.sync()
    assert town.stamps(PHONE) == 5


@pytest.mark.parametrize("first", [{}, {"v": 1}])
async def test_a_revision_that_is_taught_or_missing_once_loses_no_refund(town: Town, first: dict[str, int]) -> None:
    await connect(town, {**BASE, "map_version": "v"} if first else {**BASE, "map_paid": "sum"})
    await send(town, sale(sum="5.00", **first), {})
    if first:
        await send(town, sale(sum="4.00"), {})  # one without its revision
    else:
        await town.host.services.connections.edit(town.connection.id, {"map_version": "v"})
    await send(town, sale(sum="5.00", back="5.00", v=2), {})
    await town.sync()
    assert town.stamps(PHONE) == 0


async def test_of_two_unread_states_the_younger_counts_whatever_was_read_in_between(town: Town) -> None:
    await connect(town, BASE)
    await send(town, sale("9.00", back="2.00"), {})
    await send(town, sale("6.00", back="2.00"), {})
    await send(town, sale(sum="7.00"), {})
    await town.host.services.connections.edit(town.connection.id, CORRECTED)
    await retry_unread(town)
    await town.sync()
    assert town.stamps(PHONE) == 4


async def test_a_void_counts_whatever_it_says_of_refunds(town: Town) -> None:
    states = {"map_status": "state", "closed_statuses": "paid", "voided_statuses": "void", "map_paid": "sum"}
    await connect(town, {**BASE, **states})
    for changes in ({"state": "paid"}, {"state": "paid", "back": "2.00"}, {"state": "void"}):
        await send(town, sale(sum="5.00", **changes), {})
    await town.sync()
    assert town.stamps(PHONE) == 0


async def test_of_two_states_in_one_hook_the_later_counts_though_it_could_not_be_read_at_first(town: Town) -> None:
    await connect(town, {**BASE, "map_receipts": "all"})
    rows = [json.loads(sale(sum="5.00")), json.loads(sale("3.00"))]
    await send(town, json.dumps({"all": rows}).encode(), {})
    await town.host.services.connections.edit(town.connection.id, CORRECTED)
    await retry_unread(town)
    await town.sync()
    assert town.stamps(PHONE) == 3


async def test_a_snapshot_that_lost_does_not_win_when_it_is_sent_again(town: Town) -> None:
    await connect(town, BASE)
    loser = sale("5.00")
    await send(town, loser, {})
    await send(town, sale(sum="3.00"), {})
    await town.host.services.connections.edit(town.connection.id, CORRECTED)
    await retry_unread(town)
    await send(town, loser, {})
    await town.sync()
    assert town.stamps(PHONE) == 3


async def test_receipts_that_stay_unread_are_counted_once(town: Town) -> None:
    await connect(town, {**BASE, "map_receipts": "all"})
    rows = [json.loads(sale("1.00", id=str(number))) for number in range(50)]
    await send(town, json.dumps({"all": rows}).encode(), {})
    assert await retry_unread(town) == {"read": 0, "still_unread": 50, "asked": 0}
    assert len(await unread(town)) == 50


async def test_unread_hooks_are_adopted_with_the_account_and_deleted_after_their_days(town: Town) -> None:
    await connect(town, {**BASE, "till_id": "till-of-the-bar"})
    await send(town, sale("5.00"), {})
    await town.host.services.connections.remove(town.connection.id)
    await connect(town, {**BASE, "till_id": "till-of-the-bar", **CORRECTED})
    assert (await retry_unread(town))["read"] == 1
    await send(town, b'{"ping": 1}', {})
    clock = town.host.store.clock = ShiftedClock()
    clock.ahead = 31 * 24 * 3600 * 1_000_000
    await town.host.retention.round()
    assert await unread(town) == []


async def test_a_refused_hook_is_shown_to_its_cafe(town: Town) -> None:
    proof = {"proof": "header", "proof_header": "X-Key", "secret": "a long secret", "map_paid": "sum"}
    await connect(town, {**BASE, **proof})
    assert await send(town, sale(sum="5.00"), {"X-Key": "another"}) == 401
    assert (await town.host.services.connections.get(town.connection.id)).refuses
    assert "its secret is another" in (await town.journal())[-1]
    assert await send(town, sale(sum="5.00"), {"X-Key": "a long secret"}) == 200
    assert not (await town.host.services.connections.get(town.connection.id)).refuses


async def test_a_till_that_writes_no_seconds_earns_its_first_stamp(town: Town) -> None:
    await connect(town, {**BASE, "map_paid": "sum"})
    began = (await town.host.services.connections.get(town.connection.id)).began_at
    minute = datetime.fromtimestamp(began // 60_000_000 * 60, UTC)
    await send(town, sale(sum="2.00", at=minute.isoformat()), {})
    await send(town, sale(sum="3.00", id="8", at=(minute - timedelta(minutes=1)).isoformat()), {})
    await town.sync()
    assert town.stamps(PHONE) == 2


async def test_the_unread_receipts_of_hooks_that_are_read_in_part_are_bounded(town: Town) -> None:
    town.host.store.quotas = replace(town.host.store.quotas, unread=3)
    await connect(town, {**BASE, "map_receipts": "all"})
    for number in range(6):
        rows = [json.loads(sale(sum="1.00", id=f"good-{number}")), json.loads(sale("1.00", id=f"bad-{number}"))]
        assert await send(town, json.dumps({"all": rows}).encode(), {}) == 200
    assert [receipt_id for receipt_id, _ in await unread(town)] == ["bad-5", "bad-4", "bad-3"]
