"""Removing and adding again, editing the rule, backfills: nothing is given that was given before."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from connector_sdk.money import Money
from connector_sdk.rule import StampRule, UnknownCustomer
from connectors.domain.operation import State
from connectors.services import Refusal
from connectors.store.errors import Taken
from tests.town import ANNA, BORYS, KEY, Town

SINCE = (datetime.now(UTC) - timedelta(days=5)).date().isoformat()


def rule_by_amount(text: str) -> StampRule:
    return StampRule(kind="by_amount", amount=Money.from_decimal(text, "UAH"), unknown_customer=UnknownCustomer.issue)


async def ignore_progress(_progress: object) -> None:
    """Progress that nobody watches."""


async def test_a_connection_removed_and_added_again_gives_nothing_twice(town: Town) -> None:
    await town.connect()
    receipt = town.cafe.sell(town.cafe.client(ANNA))
    await town.sync()
    await town.host.services.connections.remove(town.connection.id)
    await town.connect()
    result = await town.host.services.sync.backfill(town.connection.id, SINCE, ignore_progress)
    assert sum(result["operations"].values()) == 0
    assert len(town.applied()) == 1
    town.cafe.refund(receipt)
    await town.sync()
    assert town.stamps(ANNA) == 0
    assert town.applied()[-1]["code"] == "poster:861052:330660:2"


async def test_operations_held_when_a_connection_was_removed_are_sent_by_the_next_one(town: Town) -> None:
    await town.connect(StampRule(unknown_customer=UnknownCustomer.hold))
    town.cafe.sell(town.cafe.client(ANNA))
    await town.sync()
    await town.host.services.connections.remove(town.connection.id)
    assert town.host.sevenstamp is not None
    await town.host.sevenstamp.with_key(KEY).issue_card(phone=ANNA)
    await town.connect()
    await town.sync()
    assert town.stamps(ANNA) == 1
    assert [operation.state for operation in await town.operations()] == [State.applied]


async def test_a_new_rule_counts_for_receipts_closed_from_now_on(town: Town) -> None:
    await town.connect(rule_by_amount("10.00"))
    first = town.cafe.sell(town.cafe.client(ANNA), 5000)
    await town.sync()
    await town.host.services.connections.edit(
        town.connection.id, {}, rule=lambda _account, _rule: rule_by_amount("25.00")
    )
    result = await town.sync()
    assert sum(result["operations"].values()) == 0
    town.cafe.sell(town.cafe.client(BORYS), 5000)
    await town.sync()
    assert (town.stamps(ANNA), town.stamps(BORYS)) == (5, 2)
    town.cafe.refund(first)  # an older receipt: exactly what it earned comes back
    await town.sync()
    assert (town.stamps(ANNA), town.stamps(BORYS)) == (0, 2)


async def test_replan_applies_a_new_rule_to_older_receipts(town: Town) -> None:
    await town.connect(rule_by_amount("10.00"))
    receipt = town.cafe.sell(town.cafe.client(ANNA), 5000)
    await town.sync()
    await town.host.services.connections.edit(
        town.connection.id, {}, rule=lambda _account, _rule: rule_by_amount("25.00")
    )
    forecast = await town.host.services.sync.count_replan(town.connection.id, SINCE, ignore_progress)
    assert forecast.as_json() == {"sales": 1, "more": 0, "fewer": 3}
    assert town.stamps(ANNA) == 5
    await town.host.services.sync.replan(town.connection.id, SINCE, ignore_progress)
    assert town.stamps(ANNA) == 2
    town.cafe.correct(receipt, 7500)  # the rule it was planned by again stays its rule
    await town.sync()
    assert town.stamps(ANNA) == 3


async def test_receipts_from_before_the_connection_need_a_backfill(town: Town) -> None:
    receipt = town.cafe.sell(town.cafe.client(ANNA))
    await town.connect()
    await town.sync()
    assert town.applied() == []
    result = await town.host.services.sync.backfill(town.connection.id, SINCE, ignore_progress)
    assert result.operations["applied"] == 1
    town.cafe.refund(receipt)
    await town.sync()
    assert town.stamps(ANNA) == 0


async def test_a_location_belongs_to_one_connection(town: Town) -> None:
    await town.connect(locations=["Main hall"])
    with pytest.raises(Taken, match=town.connection.id):
        await town.connect(locations=["1"])
    with pytest.raises(Taken, match="Main hall"):
        await town.connect()
    with pytest.raises(Refusal, match=r"no location 'Terace'; known: Terrace \(2\)"):
        await town.connect(locations=["Terace"])
    main = town.connection
    terrace = await town.connect(locations=["2"])
    receipt = town.cafe.open(town.cafe.client(ANNA), spot=2)
    town.cafe.add(receipt, "161")
    town.cafe.close(receipt)
    await town.host.services.sync.run(main.id)
    assert town.stamps(ANNA) == 0
    await town.host.services.sync.run(terrace.id)
    assert town.stamps(ANNA) == 1


async def test_a_paused_connection_reads_nothing_and_catches_up_when_it_is_resumed(town: Town) -> None:
    await town.connect()
    await town.host.services.connections.pause(town.connection.id)
    town.cafe.sell(town.cafe.client(ANNA))
    with pytest.raises(Refusal, match="paused"):
        await town.sync()
    await town.host.services.connections.resume(town.connection.id)
    await town.sync()
    assert town.stamps(ANNA) == 1
