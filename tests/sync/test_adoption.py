"""Removing and adding again, editing the rule, backfills: nothing is given that was given before."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from connector_sdk.money import Money
from connector_sdk.rule import StampRule, UnknownCustomer
from connectors.domain.operation import State
from connectors.services import Refusal
from connectors.store.errors import AlreadyConnected
from tests.installation import ANNA, BORYS, KEY, Installation

SINCE = (datetime.now(UTC) - timedelta(days=5)).date().isoformat()


def rule_by_amount(text: str) -> StampRule:
    return StampRule(kind="by_amount", amount=Money.from_decimal(text, "UAH"), unknown_customer=UnknownCustomer.issue)


async def ignore_progress(_progress: object) -> None:
    """Progress that nobody watches."""


async def test_a_connection_removed_and_added_again_gives_nothing_twice(installation: Installation) -> None:
    await installation.connect()
    receipt = installation.cafe.sell(installation.cafe.client(ANNA))
    await installation.sync()
    await installation.host.services.connections.remove(installation.connection.id)
    await installation.connect()
    result = await installation.host.services.sync.backfill(installation.connection.id, SINCE, ignore_progress)
    assert sum(result.operations.values()) == 0
    assert len(installation.applied()) == 1
    installation.cafe.refund(receipt)
    await installation.sync()
    assert installation.stamps(ANNA) == 0
    assert installation.applied()[-1]["code"] == "poster:861052:330660:2"


async def test_operations_held_when_a_connection_was_removed_are_sent_by_the_next_one(
    installation: Installation,
) -> None:
    await installation.connect(StampRule(unknown_customer=UnknownCustomer.hold))
    installation.cafe.sell(installation.cafe.client(ANNA))
    await installation.sync()
    await installation.host.services.connections.remove(installation.connection.id)
    assert installation.host.sevenstamp is not None
    await installation.host.sevenstamp.with_key(KEY).issue_card(phone=ANNA)
    await installation.connect()
    await installation.sync()
    assert installation.stamps(ANNA) == 1
    assert [operation.state for operation in await installation.operations()] == [State.applied]


async def test_a_new_rule_counts_for_receipts_closed_from_now_on(installation: Installation) -> None:
    await installation.connect(rule_by_amount("10.00"))
    first = installation.cafe.sell(installation.cafe.client(ANNA), 5000)
    await installation.sync()
    await installation.host.services.connections.edit(
        installation.connection.id, {}, rule=lambda _account, _rule: rule_by_amount("25.00")
    )
    result = await installation.sync()
    assert sum(result["operations"].values()) == 0
    installation.cafe.sell(installation.cafe.client(BORYS), 5000)
    await installation.sync()
    assert (installation.stamps(ANNA), installation.stamps(BORYS)) == (5, 2)
    installation.cafe.refund(first)  # an older receipt: exactly what it earned comes back
    await installation.sync()
    assert (installation.stamps(ANNA), installation.stamps(BORYS)) == (0, 2)


async def test_replan_applies_a_new_rule_to_older_receipts(installation: Installation) -> None:
    await installation.connect(rule_by_amount("10.00"))
    receipt = installation.cafe.sell(installation.cafe.client(ANNA), 5000)
    await installation.sync()
    await installation.host.services.connections.edit(
        installation.connection.id, {}, rule=lambda _account, _rule: rule_by_amount("25.00")
    )
    forecast = await installation.host.services.sync.count_replan(installation.connection.id, SINCE, ignore_progress)
    assert forecast.as_json() == {"sales": 1, "more": 0, "fewer": 3}
    assert installation.stamps(ANNA) == 5
    await installation.host.services.sync.replan(installation.connection.id, SINCE, ignore_progress)
    assert installation.stamps(ANNA) == 2
    installation.cafe.correct(receipt, 7500)  # the rule it was planned by again stays its rule
    await installation.sync()
    assert installation.stamps(ANNA) == 3


async def test_receipts_from_before_the_connection_need_a_backfill(installation: Installation) -> None:
    receipt = installation.cafe.sell(installation.cafe.client(ANNA))
    await installation.connect()
    await installation.sync()
    assert installation.applied() == []
    result = await installation.host.services.sync.backfill(installation.connection.id, SINCE, ignore_progress)
    assert result.operations["applied"] == 1
    installation.cafe.refund(receipt)
    await installation.sync()
    assert installation.stamps(ANNA) == 0


async def test_a_location_belongs_to_one_connection(installation: Installation) -> None:
    await installation.connect(locations=["Main hall"])
    with pytest.raises(AlreadyConnected, match=installation.connection.id):
        await installation.connect(locations=["1"])
    with pytest.raises(AlreadyConnected, match="Main hall"):
        await installation.connect()
    with pytest.raises(Refusal, match=r"no location 'Terace'; known: Terrace \(2\)"):
        await installation.connect(locations=["Terace"])
    main = installation.connection
    terrace = await installation.connect(locations=["2"])
    receipt = installation.cafe.open(installation.cafe.client(ANNA), spot=2)
    installation.cafe.add(receipt, "161")
    installation.cafe.close(receipt)
    await installation.host.services.sync.run(main.id)
    assert installation.stamps(ANNA) == 0
    await installation.host.services.sync.run(terrace.id)
    assert installation.stamps(ANNA) == 1


async def test_a_paused_connection_reads_nothing_and_catches_up_when_it_is_resumed(installation: Installation) -> None:
    await installation.connect()
    await installation.host.services.connections.pause(installation.connection.id)
    installation.cafe.sell(installation.cafe.client(ANNA))
    with pytest.raises(Refusal, match="paused"):
        await installation.sync()
    await installation.host.services.connections.resume(installation.connection.id)
    await installation.sync()
    assert installation.stamps(ANNA) == 1
