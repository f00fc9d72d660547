"""The conformance suite: our own connectors pass it, and a broken twin of each required behaviour fails by it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from importlib import resources
from typing import ClassVar

import pytest

from connector_sdk import Connector, ConnectorInfo, SalePage, TillAccount
from connector_sdk.testing import BEHAVIOURS, Conformance, Level, Outcome, Report, TillStub, examine
from connector_sdk.testing.suite import judge, unknown_excuses, vain_excuses
from connectors.plugins import CONFORMANCE
from poster_connector.stub import PosterStub
from serve_connector import ServeConnector
from serve_connector.stub import ServeStub
from square_connector.stub import SquareStub
from tests.model import NoSettings
from tests.sdk.twins import TWINS, AnyTwin, TrustsAForgedHook, stub_of
from webhook_connector.stub import WebhookStub

BY_NAME = {behaviour.name: behaviour for behaviour in BEHAVIOURS}
REQUIRED = [behaviour.name for behaviour in BEHAVIOURS if behaviour.level is Level.required]
# one worker runs all tests of a stub, so that `report_of` runs the suite once for them
STUBS = [
    pytest.param(stub, marks=pytest.mark.xdist_group(stub.__name__))
    for stub in (PosterStub, ServeStub, SquareStub, WebhookStub)
]


class TestAsAuthorsUseIt(Conformance):
    """The suite as a pytest class, collected and run as an author's would be."""

    stub = WebhookStub


@lru_cache
def report_of(stub: type[TillStub]) -> Report:
    """Run the whole suite over a stub, once for all tests that ask."""
    return asyncio.run(examine(stub))


@pytest.mark.parametrize("name", sorted(BY_NAME))
@pytest.mark.parametrize("stub", STUBS)
def test_our_connectors_keep_every_promise(stub: type[TillStub], name: str) -> None:
    (result,) = (result for result in report_of(stub).results if result.behaviour.name == name)
    assert result.outcome in (Outcome.passed, Outcome.not_asked), result.why
    if result.outcome is Outcome.not_asked:
        pytest.skip(result.why)


# A behaviour that no faulty connector fails shows nothing: each required one has a twin that breaks just that.
def test_every_required_behaviour_has_its_broken_twin() -> None:
    assert {name for name, _ in TWINS} == set(REQUIRED)


@pytest.mark.parametrize(("name", "twin"), [pytest.param(*pair, id=f"{pair[0]}-{pair[1].__name__}") for pair in TWINS])
async def test_a_broken_twin_fails_by_the_behaviour_it_breaks(name: str, twin: AnyTwin) -> None:
    result = await judge(stub_of(twin)(), BY_NAME[name])
    assert result.outcome is Outcome.failed
    # the behaviour found the fault; the twin did not simply crash
    assert not re.match(r"\w+Error:", result.why), result.why


class PromisesAtItsEnd(ServeConnector):
    """Sets its checkpoint to the end of the read, and misses what changed meanwhile."""

    async def poll(self, since: datetime) -> AsyncIterator[SalePage]:
        async for page in super().poll(since):
            yield page.model_copy(update={"complete_until": None})
        yield SalePage(complete_until=datetime.now(UTC))


class ListsByClosing(ServeConnector):
    """Lists receipts by when they were closed, and misses late refunds."""

    async def poll(self, since: datetime) -> AsyncIterator[SalePage]:
        async for page in super().poll(since):
            recent = tuple(sale for sale in page.sales if (sale.closed_at or since) >= since)
            yield page.model_copy(update={"sales": recent})


@pytest.mark.parametrize(("twin", "name"), [(PromisesAtItsEnd, "checkpoint"), (ListsByClosing, "late_refund")])
async def test_mistakes_that_an_integrator_made_are_found(twin: type[ServeConnector], name: str) -> None:
    result = await judge(stub_of(twin)(), BY_NAME[name])
    assert result.outcome is Outcome.failed


async def test_an_excuse_for_what_nobody_asks_is_a_slip_and_said_to_be() -> None:
    class Slip(ServeStub):
        till_has_no: ClassVar[Mapping[str, str]] = {"voided": "it never voids"}

    assert unknown_excuses(Slip) == ["voided"]


async def test_no_till_is_excused_from_what_every_till_can_have() -> None:
    excused = stub_of(TrustsAForgedHook)
    excused.till_has_no = {"forged_hook": "we say so", "late_refund": "it has none"}
    assert vain_excuses(excused) == ["forged_hook"]
    assert (await judge(excused(), BY_NAME["forged_hook"])).outcome is Outcome.failed


def test_behaviours_say_what_they_guard_and_how_to_mend() -> None:
    for behaviour in BEHAVIOURS:
        assert behaviour.title
        assert behaviour.guards
        assert behaviour.fix
    assert len(BY_NAME) == len(BEHAVIOURS)


@pytest.mark.parametrize("stub", STUBS)
def test_what_our_packages_say_of_themselves_is_what_the_suite_finds(stub: type[TillStub]) -> None:
    name = stub.connector.info.name
    shipped = json.loads((resources.files(f"{name}_connector") / CONFORMANCE).read_text())
    assert shipped == {name: report_of(stub).summary()}, f"run: connectors check {name} --write"


class OnlyChecks(Connector[NoSettings]):
    """A till that can do nothing but name its account."""

    info = ConnectorInfo(name="onlychecks", title="Only checks")

    async def check(self) -> TillAccount:
        return TillAccount(id="a", name="A", currency="EUR", zone="Europe/Madrid")


async def test_what_a_connector_does_not_claim_is_not_asked_and_what_a_stub_cannot_do_is_not_shown() -> None:
    class Stub(ServeStub):
        connector = OnlyChecks  # type: ignore[assignment]
        page_size = None

        def settings(self) -> dict[str, str]:
            return {}

        def app(self) -> None:  # type: ignore[override]
            return None

    report = await examine(Stub, [BY_NAME["account"], BY_NAME["window"], BY_NAME["forged_hook"]])
    assert [result.outcome for result in report.results] == [Outcome.passed, Outcome.not_asked, Outcome.not_asked]
    assert report.conforms

    # the connector claims pages and customers, and this stub has neither to show
    class Small(ServeStub):
        page_size = None
        customers = ()

    report = await examine(Small, [BY_NAME["every_page"], BY_NAME["customers"]])
    assert [result.outcome for result in report.results] == [Outcome.not_shown, Outcome.not_shown]
    assert not report.conforms
