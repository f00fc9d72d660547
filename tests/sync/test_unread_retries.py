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
from connectors.domain.clock import SteadyClock
from connectors.domain.connection import Connection
from connectors.services import ConnectOptions, Refusal
from connectors.store import connections
from connectors.store.engine import Transaction
from connectors.store.schema import kept_body_table
from tests.installation import ANNA, KEY, Installation
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


async def unread(installation: Installation) -> list[tuple[str | None, str]]:
    """The receipts that could not be read, newest first, each with the reason."""
    return [
        (entry.receipt_id, installation.host.words.word(entry.why))
        for entry in await installation.host.services.review.list_unread(installation.connection.id)
    ]


async def retry_unread(installation: Installation) -> dict[str, Any]:
    return (await installation.host.services.review.retry_unread(installation.connection.id)).as_json()


async def test_a_hook_that_could_not_be_read_earns_its_stamps_once_it_can_be_read(installation: Installation) -> None:
    await connect(installation, BASE)
    assert await send(installation, sale("5.00"), {}) == 200
    assert await unread(installation) == [("7", "nothing is at sum")]
    assert await retry_unread(installation) == {"read": 0, "still_unread": 1, "asked": 0}
    assert await unread(installation) == [("7", "nothing is at sum")]
    await installation.host.services.connections.edit(installation.connection.id, CORRECTED)
    assert await retry_unread(installation) == {"read": 1, "still_unread": 0, "asked": 0}
    assert await retry_unread(installation) == {"read": 0, "still_unread": 0, "asked": 0}
    await installation.sync()
    assert installation.stamps(PHONE) == 5
    assert await unread(installation) == []
    assert "What could not be read before was tried again: 1 receipt was read." in await installation.journal()


async def test_without_a_revision_a_retried_hook_does_not_beat_one_that_arrived_later(
    installation: Installation,
) -> None:
    await connect(installation, BASE)
    await send(installation, sale("5.00"), {})  # cannot be read
    await send(installation, sale(sum="3.00"), {})  # a younger state, which can
    assert len(await unread(installation)) == 1  # it may be the refund: nobody can tell before it is read
    await installation.host.services.connections.edit(installation.connection.id, CORRECTED)
    await retry_unread(installation)
    assert await unread(installation) == []
    await installation.sync()
    assert installation.stamps(PHONE) == 3


@pytest.mark.parametrize("backwards", [False, True])
async def test_two_retried_states_count_in_the_order_in_which_they_arrived(
    installation: Installation, backwards: bool
) -> None:
    await connect(installation, BASE)
    await send(installation, sale("5.00"), {})
    await send(installation, sale("5.00", back="2.00"), {})
    await installation.host.services.connections.edit(installation.connection.id, CORRECTED)
    ids = [entry.id for entry in await installation.host.services.review.list_unread(installation.connection.id)]
    for entry_id in ids if backwards else reversed(ids):
        await installation.host.services.review.retry_unread(installation.connection.id, [entry_id])
    await installation.sync()
    assert installation.stamps(PHONE) == 3


async def test_a_retried_state_does_not_beat_a_push_that_comes_afterwards(installation: Installation) -> None:
    await connect(installation, BASE)
    await send(installation, sale("5.00"), {})
    await installation.host.services.connections.edit(installation.connection.id, CORRECTED)
    await retry_unread(installation)
    await send(installation, sale("4.00"), {})
    await installation.sync()
    assert installation.stamps(PHONE) == 4


async def test_of_a_hook_with_several_receipts_only_those_that_still_cannot_be_read_stay(
    installation: Installation,
) -> None:
    await connect(installation, {**BASE, "map_receipts": "all"})
    rows = [json.loads(sale(**{"id": str(number), "total" if number % 2 else "sum": "2.00"})) for number in range(4)]
    rows.append({**rows[0], "id": "9", "at": "soon"})
    assert await send(installation, json.dumps({"all": rows}).encode(), {}) == 200
    assert sorted(str(receipt_id) for receipt_id, _ in await unread(installation)) == ["1", "3", "9"]
    await installation.host.services.connections.edit(installation.connection.id, CORRECTED)
    entries = await installation.host.services.review.list_unread(installation.connection.id)
    first = next(entry for entry in entries if entry.receipt_id == "1")
    # one of them is enough, since they came together
    await installation.host.services.review.retry_unread(installation.connection.id, [first.id])
    assert [receipt_id for receipt_id, _ in await unread(installation)] == ["9"]
    await installation.sync()
    assert installation.stamps(PHONE) == 8


async def test_a_receipt_is_fetched_where_the_till_can_be_asked_for_it(installation: Installation) -> None:
    await installation.connect()
    receipt = installation.cafe.sell(installation.cafe.client(ANNA))
    readable = installation.cafe.receipts[receipt]["payed_sum"]
    installation.cafe.receipts[receipt]["payed_sum"] = "27.5"
    await installation.sync()
    assert [receipt_id for receipt_id, _ in await unread(installation)] == [str(receipt)]
    installation.cafe.receipts[receipt]["payed_sum"] = readable
    assert await retry_unread(installation) == {"read": 0, "still_unread": 0, "asked": 1}
    assert await unread(installation) == []
    await installation.sync()
    assert installation.stamps(ANNA) == 1


async def test_a_sale_that_ingest_could_not_take_in_is_retried(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    await connect(installation, {**BASE, "map_paid": "sum"})
    with monkeypatch.context() as failing:
        failing.setattr(installation.host.ingestor, "_stamps_by_plugin", lambda *_: 1 / 0)
        await send(installation, sale(sum="6.00"), {})
        assert [why for _, why in await unread(installation)] == ["cannot be taken in (ZeroDivisionError)"]
        assert (await retry_unread(installation))["still_unread"] == 1
    assert (await retry_unread(installation))["read"] == 1
    await installation.sync()
    assert installation.stamps(PHONE) == 6
    assert await unread(installation) == []


async def test_a_renewed_hook_address_is_used_and_the_former_one_is_valid_for_a_day(installation: Installation) -> None:
    await connect(installation, {**BASE, "map_paid": "sum"})
    services, clock = installation.host.services, ShiftedClock()
    installation.host.store.clock = clock

    async def path() -> str:
        return str(
            services.connections.hook_url(await services.connections.get(installation.connection.id))
        ).removeprefix(installation.host.public_url)

    first = await path()
    await services.connections.renew_hook_address(installation.connection.id)
    second = await path()
    assert first != second
    for address in (first, second):
        assert (await installation.hook(sale(sum="1.00"), path=address)).status_code == 200
    await services.connections.renew_hook_address(installation.connection.id)
    third = await path()
    assert (await installation.hook(b"{}", path=first)).status_code == 404  # two back: it ends at once
    clock.ahead = 24 * 3600 * 1_000_000 - 1_000_000
    assert (await installation.hook(sale(sum="1.00"), path=second)).status_code == 200
    clock.ahead += 2_000_000
    assert (await installation.hook(sale(sum="1.00"), path=second)).status_code == 404
    assert (await installation.hook(sale(sum="1.00"), path=third)).status_code == 200
    await services.connections.remove(installation.connection.id)
    assert (await installation.hook(sale(sum="1.00"), path=third)).status_code == 404


class ShiftedClock:
    """The system's clock, `ahead` by so many microseconds."""

    def __init__(self) -> None:
        self.ahead = 0

    def now(self) -> int:
        return SteadyClock().now() + self.ahead


async def test_only_a_connections_own_hook_address_can_be_renewed(installation: Installation) -> None:
    await installation.connect()
    with pytest.raises(Refusal, match="no address of its own"):
        await installation.host.services.connections.renew_hook_address(installation.connection.id)


# Found by a review, and kept from coming back

VERSIONED = {**BASE, "map_version": "v"}


async def test_an_unread_newer_revision_beats_an_older_one_that_comes_late(installation: Installation) -> None:
    await connect(installation, VERSIONED)
    await send(installation, sale(sum="5.00", v=1), {})
    await send(installation, sale("1.00", v=3), {})  # cannot be read
    await send(installation, sale(sum="4.00", v=2), {})
    assert len(await unread(installation)) == 1
    await installation.host.services.connections.edit(installation.connection.id, CORRECTED)
    await retry_unread(installation)
    await installation.sync()
    assert installation.stamps(PHONE) == 1


@pytest.mark.parametrize("changes", [{"back": "5.00"}, {"state": "void"}])
async def test_an_unread_refund_or_void_is_not_lost_to_an_older_state_that_comes_late(
    installation: Installation, changes: dict[str, str]
) -> None:
    states = {"map_status": "state", "closed_statuses": "paid", "voided_statuses": "void"}
    await connect(installation, {**BASE, **states})
    await send(installation, sale(sum="5.00", state="paid"), {})
    await send(installation, sale("5.00", **{"state": "paid", **changes}), {})  # cannot be read
    await send(installation, sale(sum="4.00", state="paid"), {})
    await installation.host.services.connections.edit(installation.connection.id, CORRECTED)
    await retry_unread(installation)
    await installation.sync()
    assert installation.stamps(PHONE) == 0


async def test_a_sale_that_ingest_sets_aside_in_a_retry_keeps_its_arrival(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    await connect(installation, BASE)
    await send(installation, sale("5.00"), {})
    await installation.host.services.connections.edit(installation.connection.id, CORRECTED)
    with monkeypatch.context() as failing:
        failing.setattr(installation.host.ingestor, "_stamps_by_plugin", lambda *_: 1 / 0)
        assert (await retry_unread(installation))["still_unread"] == 1
    await send(installation, sale(sum="3.00"), {})
    await retry_unread(installation)
    await installation.sync()
    assert installation.stamps(PHONE) == 3


async def test_of_two_states_in_one_hook_the_later_one_counts(installation: Installation) -> None:
    await connect(installation, {**BASE, "map_receipts": "all"})
    rows = [json.loads(sale("5.00")), json.loads(sale(sum="3.00"))]
    await send(installation, json.dumps({"all": rows}).encode(), {})
    await installation.host.services.connections.edit(installation.connection.id, CORRECTED)
    await retry_unread(installation)
    await installation.sync()
    assert installation.stamps(PHONE) == 3


async def test_a_body_that_is_sent_again_is_as_old_as_when_it_first_came(installation: Installation) -> None:
    await connect(installation, BASE)
    first = sale("5.00")
    await send(installation, first, {})
    await send(installation, sale(sum="3.00"), {})
    await installation.host.services.connections.edit(installation.connection.id, CORRECTED)
    await send(installation, first, {})
    await installation.sync()
    assert installation.stamps(PHONE) == 3


async def test_everything_unread_is_retried_however_much_came_after_it(installation: Installation) -> None:
    await connect(installation, BASE)
    for number in range(3):
        await send(installation, sale("1.00", id=f"good-{number}"), {})
    for number in range(210):
        await send(installation, json.dumps({"event": "product", "n": number}).encode(), {})
    rows = await installation.host.services.review.list_unread(installation.connection.id, 500)
    events = [row.id for row in rows if row.receipt_id is None][:200]
    for start in range(0, len(events), 50):
        await installation.host.services.review.discard_unread(installation.connection.id, events[start : start + 50])
    await installation.host.services.connections.edit(installation.connection.id, CORRECTED)
    assert await retry_unread(installation) == {"read": 3, "still_unread": 10, "asked": 0}
    await installation.sync()
    assert installation.stamps(PHONE) == 3


async def test_requests_that_are_no_sales_do_not_stop_a_retry(installation: Installation) -> None:
    await connect(installation, BASE)
    await send(installation, sale("5.00"), {})
    for number in range(6):
        await send(installation, json.dumps({"event": "product.updated", "n": number}).encode(), {})
    await installation.host.services.connections.edit(installation.connection.id, CORRECTED)
    assert (await retry_unread(installation))["read"] == 1


async def test_a_body_is_stored_once_however_many_of_its_receipts_cannot_be_read(installation: Installation) -> None:
    await connect(installation, {**BASE, "map_receipts": "all"})
    rows = [json.loads(sale("1.00", id=str(number), note="x" * 200)) for number in range(300)]
    assert await send(installation, json.dumps({"all": rows}).encode(), {}) == 200
    assert len(await installation.host.services.review.list_unread(installation.connection.id, 500)) == 300
    (number,) = await installation.host.store.read(
        lambda tx: tx.run(select(func.count()).select_from(kept_body_table)).one()
    )
    assert number == 1
    await installation.host.services.connections.edit(installation.connection.id, CORRECTED)
    assert (await retry_unread(installation))["read"] == 300
    (number,) = await installation.host.store.read(
        lambda tx: tx.run(select(func.count()).select_from(kept_body_table)).one()
    )
    assert number == 0


async def test_a_lone_surrogate_in_one_receipt_does_not_stop_the_others(installation: Installation) -> None:
    await connect(installation, {**BASE, "map_receipts": "all"})
    rows = [json.loads(sale(sum="2.00", id="1")), json.loads(sale(sum="\ud800", id="2"))]
    assert await send(installation, json.dumps({"all": rows}).encode(), {}) == 200
    assert [receipt_id for receipt_id, _ in await unread(installation)] == ["2"]
    await installation.sync()
    assert installation.stamps(PHONE) == 2


async def test_retries_at_the_same_time_are_journalled_once(installation: Installation) -> None:
    await connect(installation, BASE)
    await send(installation, sale("5.00"), {})
    await installation.host.services.connections.edit(installation.connection.id, CORRECTED)
    results = await asyncio.gather(*(retry_unread(installation) for _ in range(4)))
    assert sum(result["read"] for result in results) == 1
    await installation.sync()
    assert installation.stamps(PHONE) == 5
    assert sum("tried again" in line for line in await installation.journal()) == 1


async def test_a_hook_that_is_no_sale_can_be_discarded(installation: Installation) -> None:
    await connect(installation, BASE)
    await send(installation, b'{"ping": true}', {})
    (row,) = await installation.host.services.review.list_unread(installation.connection.id)
    assert (
        await installation.host.services.review.unread_body(installation.connection.id, row.id[:8]) == b'{"ping": true}'
    )
    with pytest.raises(Refusal, match="there is no 'zzz'"):
        await installation.host.services.review.discard_unread(installation.connection.id, ["zzz"])
    assert await installation.host.services.review.discard_unread(installation.connection.id, [row.id[:8]]) == 1
    assert await unread(installation) == []
    assert (await installation.journal())[
        -1
    ] == "1 request that could not be read is no sale, and is not kept any more."


async def test_a_sale_that_comes_while_a_draft_becomes_a_connection_is_a_sale(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    drafts = installation.host.services.drafts
    draft = await drafts.find("biz", await drafts.begin("biz", "webhook"))
    assert draft is not None
    token = draft.content.hook_token
    by_hook_token, lookups = connections.registry.by_hook_token, []

    def none_at_first(tx: Transaction, name: str, shown: str) -> Connection | None:
        lookups.append(shown)
        return None if len(lookups) == 1 else by_hook_token(tx, name, shown)

    rule = StampRule(kind="by_amount", amount=Money(100, "EUR"), unknown_customer=UnknownCustomer.issue)
    installation.connection = await installation.host.services.onboarding.connect(
        "webhook", {**BASE, "map_paid": "sum"}, KEY, lambda _account: rule, ConnectOptions(hook_token=token)
    )
    monkeypatch.setattr(connections.registry, "by_hook_token", none_at_first)
    assert (await installation.hook(sale(sum="5.00"), path=f"/hooks/tills/webhook/{token}")).status_code == 200
    await installation.sync()
    assert installation.stamps(PHONE) == 5


@pytest.mark.parametrize("first", [{}, {"v": 1}])
async def test_a_revision_that_is_taught_or_missing_once_loses_no_refund(
    installation: Installation, first: dict[str, int]
) -> None:
    await connect(installation, {**BASE, "map_version": "v"} if first else {**BASE, "map_paid": "sum"})
    await send(installation, sale(sum="5.00", **first), {})
    if first:
        await send(installation, sale(sum="4.00"), {})  # one without its revision
    else:
        await installation.host.services.connections.edit(installation.connection.id, {"map_version": "v"})
    await send(installation, sale(sum="5.00", back="5.00", v=2), {})
    await installation.sync()
    assert installation.stamps(PHONE) == 0


async def test_of_two_unread_states_the_younger_counts_whatever_was_read_in_between(installation: Installation) -> None:
    await connect(installation, BASE)
    await send(installation, sale("9.00", back="2.00"), {})
    await send(installation, sale("6.00", back="2.00"), {})
    await send(installation, sale(sum="7.00"), {})
    await installation.host.services.connections.edit(installation.connection.id, CORRECTED)
    await retry_unread(installation)
    await installation.sync()
    assert installation.stamps(PHONE) == 4


async def test_a_void_counts_whatever_it_says_of_refunds(installation: Installation) -> None:
    states = {"map_status": "state", "closed_statuses": "paid", "voided_statuses": "void", "map_paid": "sum"}
    await connect(installation, {**BASE, **states})
    for changes in ({"state": "paid"}, {"state": "paid", "back": "2.00"}, {"state": "void"}):
        await send(installation, sale(sum="5.00", **changes), {})
    await installation.sync()
    assert installation.stamps(PHONE) == 0


async def test_of_two_states_in_one_hook_the_later_counts_though_it_could_not_be_read_at_first(
    installation: Installation,
) -> None:
    await connect(installation, {**BASE, "map_receipts": "all"})
    rows = [json.loads(sale(sum="5.00")), json.loads(sale("3.00"))]
    await send(installation, json.dumps({"all": rows}).encode(), {})
    await installation.host.services.connections.edit(installation.connection.id, CORRECTED)
    await retry_unread(installation)
    await installation.sync()
    assert installation.stamps(PHONE) == 3


async def test_a_snapshot_that_lost_does_not_win_when_it_is_sent_again(installation: Installation) -> None:
    await connect(installation, BASE)
    loser = sale("5.00")
    await send(installation, loser, {})
    await send(installation, sale(sum="3.00"), {})
    await installation.host.services.connections.edit(installation.connection.id, CORRECTED)
    await retry_unread(installation)
    await send(installation, loser, {})
    await installation.sync()
    assert installation.stamps(PHONE) == 3


async def test_receipts_that_stay_unread_are_counted_once(installation: Installation) -> None:
    await connect(installation, {**BASE, "map_receipts": "all"})
    rows = [json.loads(sale("1.00", id=str(number))) for number in range(50)]
    await send(installation, json.dumps({"all": rows}).encode(), {})
    assert await retry_unread(installation) == {"read": 0, "still_unread": 50, "asked": 0}
    assert len(await unread(installation)) == 50


async def test_unread_hooks_are_adopted_with_the_account_and_deleted_after_their_days(
    installation: Installation,
) -> None:
    await connect(installation, {**BASE, "till_id": "till-of-the-bar"})
    await send(installation, sale("5.00"), {})
    await installation.host.services.connections.remove(installation.connection.id)
    await connect(installation, {**BASE, "till_id": "till-of-the-bar", **CORRECTED})
    assert (await retry_unread(installation))["read"] == 1
    await send(installation, b'{"ping": 1}', {})
    clock = installation.host.store.clock = ShiftedClock()
    clock.ahead = 31 * 24 * 3600 * 1_000_000
    await installation.host.retention.round()
    assert await unread(installation) == []


async def test_a_refused_hook_is_shown_to_its_cafe(installation: Installation) -> None:
    proof = {"proof": "header", "proof_header": "X-Key", "secret": "a long secret", "map_paid": "sum"}
    await connect(installation, {**BASE, **proof})
    assert await send(installation, sale(sum="5.00"), {"X-Key": "another"}) == 401
    assert (await installation.host.services.connections.get(installation.connection.id)).refuses
    assert "its secret is another" in (await installation.journal())[-1]
    assert await send(installation, sale(sum="5.00"), {"X-Key": "a long secret"}) == 200
    assert not (await installation.host.services.connections.get(installation.connection.id)).refuses


async def test_a_till_that_writes_no_seconds_earns_its_first_stamp(installation: Installation) -> None:
    await connect(installation, {**BASE, "map_paid": "sum"})
    began = (await installation.host.services.connections.get(installation.connection.id)).began_at
    minute = datetime.fromtimestamp(began // 60_000_000 * 60, UTC)
    await send(installation, sale(sum="2.00", at=minute.isoformat()), {})
    await send(installation, sale(sum="3.00", id="8", at=(minute - timedelta(minutes=1)).isoformat()), {})
    await installation.sync()
    assert installation.stamps(PHONE) == 2


async def test_the_unread_receipts_of_hooks_that_are_read_in_part_are_bounded(installation: Installation) -> None:
    installation.host.store.quotas = replace(installation.host.store.quotas, unread=3)
    await connect(installation, {**BASE, "map_receipts": "all"})
    for number in range(6):
        rows = [json.loads(sale(sum="1.00", id=f"good-{number}")), json.loads(sale("1.00", id=f"bad-{number}"))]
        assert await send(installation, json.dumps({"all": rows}).encode(), {}) == 200
    assert [receipt_id for receipt_id, _ in await unread(installation)] == ["bad-5", "bad-4", "bad-3"]
