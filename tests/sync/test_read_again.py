"""What could not be read is read again later: it gives its stamps then, and never beats what arrived after it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from connectors.domain.clock import SystemClock
from connectors.store import journal
from tests.town import ANNA, Town
from tests.webhook.test_way_of_a_request import connect, send

PHONE = "+34600111222"
BASE = {
    "till_name": "Bar", "currency": "EUR", "zone": "Europe/Madrid", "country": "ES", "proof": "address",
    "map_receipt_id": "id", "map_paid": "sum", "map_refunded": "back", "map_closed_at": "at", "map_phone": "phone",
}  # fmt: skip
MENDED = {"map_paid": "sum || total"}


def sale(total: str | None = None, **more: Any) -> bytes:
    at = (datetime.now(UTC) + timedelta(seconds=2)).isoformat()
    facts: dict[str, Any] = {"id": "7", "at": at, "phone": PHONE}
    return json.dumps(facts | ({"total": total} if total else {}) | more).encode()


async def unread(town: Town) -> list[tuple[str | None, str]]:
    return [(one.receipt_id, town.host.words.word(one.why)) for one in await town.host.desk.unread(town.connection.id)]


async def again(town: Town) -> dict[str, Any]:
    return await town.host.desk.try_again(town.connection.id)


async def test_a_hook_that_could_not_be_read_gives_its_stamps_once_it_can(town: Town) -> None:
    await connect(town, BASE)
    assert await send(town, sale("5.00"), {}) == 200
    assert await unread(town) == [("7", "nothing is at sum")]
    assert await again(town) == {"read": 0, "still_unread": 1, "asked": 0}
    assert await unread(town) == [("7", "nothing is at sum")]
    await town.host.desk.edit(town.connection.id, MENDED)
    assert await again(town) == {"read": 1, "still_unread": 0, "asked": 0}
    assert await again(town) == {"read": 0, "still_unread": 0, "asked": 0}
    await town.sync()
    assert town.stamps(PHONE) == 5
    assert await unread(town) == []
    assert "What could not be read before was tried again: 1 receipt was read." in await town.journal()


async def test_without_a_revision_what_arrived_later_is_not_beaten_by_what_is_read_again(town: Town) -> None:
    await connect(town, BASE)
    await send(town, sale("5.00"), {})  # cannot be read
    await send(town, sale(sum="3.00"), {})  # a younger state, which can
    assert await unread(town) == []  # overtaken: nobody need look
    await town.host.desk.edit(town.connection.id, MENDED)
    kept = [one.id for one in await town.host.store.read(lambda tx: journal.kept_reasons(tx, town.connection.id))]
    await town.host.desk.try_again(town.connection.id, kept)
    await town.sync()
    assert town.stamps(PHONE) == 3


@pytest.mark.parametrize("backwards", [False, True])
async def test_two_states_read_again_count_in_the_order_in_which_they_arrived(town: Town, backwards: bool) -> None:
    await connect(town, BASE)
    await send(town, sale("5.00"), {})
    await send(town, sale("5.00", back="2.00"), {})
    await town.host.desk.edit(town.connection.id, MENDED)
    ids = [one.id for one in await town.host.desk.unread(town.connection.id)]
    for one in ids if backwards else reversed(ids):
        await town.host.desk.try_again(town.connection.id, [one])
    await town.sync()
    assert town.stamps(PHONE) == 3


async def test_a_state_read_again_does_not_undo_a_younger_push_that_comes_afterwards(town: Town) -> None:
    await connect(town, BASE)
    await send(town, sale("5.00"), {})
    await town.host.desk.edit(town.connection.id, MENDED)
    await again(town)
    await send(town, sale("4.00"), {})
    await town.sync()
    assert town.stamps(PHONE) == 4


async def test_of_a_request_with_several_receipts_only_what_still_does_not_fit_stays(town: Town) -> None:
    await connect(town, {**BASE, "map_receipts": "all"})
    rows = [json.loads(sale(**{"id": str(number), "total" if number % 2 else "sum": "2.00"})) for number in range(4)]
    rows.append({**rows[0], "id": "9", "at": "soon"})
    assert await send(town, json.dumps({"all": rows}).encode(), {}) == 200
    assert sorted(str(receipt) for receipt, _ in await unread(town)) == ["1", "3", "9"]
    await town.host.desk.edit(town.connection.id, MENDED)
    one = next(kept for kept in await town.host.desk.unread(town.connection.id) if kept.receipt_id == "1")
    await town.host.desk.try_again(town.connection.id, [one.id])  # one of them is enough: they came together
    assert [receipt for receipt, _ in await unread(town)] == ["9"]
    await town.sync()
    assert town.stamps(PHONE) == 8


async def test_a_receipt_that_can_be_asked_for_is_asked_for(town: Town) -> None:
    await town.connect()
    receipt = town.cafe.sell(town.cafe.client(ANNA))
    good = town.cafe.receipts[receipt]["payed_sum"]
    town.cafe.receipts[receipt]["payed_sum"] = "27.5"
    await town.sync()
    assert [one for one, _ in await unread(town)] == [str(receipt)]
    town.cafe.receipts[receipt]["payed_sum"] = good
    assert await again(town) == {"read": 0, "still_unread": 0, "asked": 1}
    assert await unread(town) == []
    await town.sync()
    assert town.stamps(ANNA) == 1


async def test_a_sale_that_ingest_could_not_take_in_is_tried_again(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    await connect(town, {**BASE, "map_paid": "sum"})
    with monkeypatch.context() as broken:
        broken.setattr(town.host.door, "_stamps_by_plugin", lambda *_: 1 / 0)
        await send(town, sale(sum="6.00"), {})
        assert [why for _, why in await unread(town)] == ["cannot be taken in (ZeroDivisionError)"]
        assert (await again(town))["still_unread"] == 1
    assert (await again(town))["read"] == 1
    await town.sync()
    assert town.stamps(PHONE) == 6
    assert await unread(town) == []


async def test_a_renewed_address_takes_over_and_the_old_one_lives_a_day(town: Town) -> None:
    await connect(town, {**BASE, "map_paid": "sum"})
    desk, clock = town.host.desk, Later()
    town.host.store.clock = clock

    async def path() -> str:
        return str(desk.hook_url(await desk.get(town.connection.id))).removeprefix(town.host.public_url)

    first = await path()
    await desk.renew_address(town.connection.id)
    second = await path()
    assert first != second
    for address in (first, second):
        assert (await town.hook(sale(sum="1.00"), path=address)).status_code == 200
    await desk.renew_address(town.connection.id)
    third = await path()
    assert (await town.hook(b"{}", path=first)).status_code == 404  # two back: it ends at once
    clock.ahead = 24 * 3600 * 1_000_000 - 1_000_000
    assert (await town.hook(sale(sum="1.00"), path=second)).status_code == 200
    clock.ahead += 2_000_000
    assert (await town.hook(sale(sum="1.00"), path=second)).status_code == 404
    assert (await town.hook(sale(sum="1.00"), path=third)).status_code == 200
    await desk.remove(town.connection.id)
    assert (await town.hook(sale(sum="1.00"), path=third)).status_code == 404


class Later:
    def __init__(self) -> None:
        self.ahead = 0

    def now(self) -> int:
        return SystemClock().now() + self.ahead


async def test_only_an_address_of_its_own_can_be_renewed(town: Town) -> None:
    from connectors.desk import Refusal

    await town.connect()
    with pytest.raises(Refusal, match="no address of its own"):
        await town.host.desk.renew_address(town.connection.id)
