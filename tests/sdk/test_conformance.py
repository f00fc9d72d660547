"""The conformance suite: our own connectors pass it, and a broken twin of each required behaviour fails by it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from importlib import resources
from typing import ClassVar

import pytest

from connector_sdk import Checkpoint, Connector, ConnectorInfo, SalePage, TillAccount
from connector_sdk.testing import BEHAVIOURS, Conformance, Level, Outcome, Report, TillStub, examine
from connector_sdk.testing.suite import judge, unknown_excuses
from connectors.plugins import CONFORMANCE
from poster_connector.stub import PosterStub
from serve_connector import ServeConnector
from serve_connector.stub import ServeStub
from tests.model import NoSettings
from tests.sdk.twins import TWINS, stub_of
from webhook_connector.stub import WebhookStub

BY_NAME = {one.name: one for one in BEHAVIOURS}
REQUIRED = [one.name for one in BEHAVIOURS if one.level is Level.required]


STUBS = [pytest.param(one, marks=pytest.mark.xdist_group(one.__name__)) for one in (PosterStub, ServeStub, WebhookStub)]


class TestAsAuthorsUseIt(Conformance):
    stub = WebhookStub


@lru_cache
def report_of(stub: type[TillStub]) -> Report:
    """The whole suite over a stub, once for all who ask."""
    return asyncio.run(examine(stub))


@pytest.mark.parametrize("name", sorted(BY_NAME))
@pytest.mark.parametrize("stub", STUBS)
def test_our_connectors_keep_every_promise(stub: type[TillStub], name: str) -> None:
    (result,) = (one for one in report_of(stub).results if one.behaviour.name == name)
    assert result.outcome in (Outcome.passed, Outcome.not_asked), result.why
    if result.outcome is Outcome.not_asked:
        pytest.skip(result.why)


def test_every_required_behaviour_has_its_broken_twin() -> None:
    assert sorted(TWINS) == sorted(REQUIRED)


@pytest.mark.parametrize("name", REQUIRED)
async def test_a_broken_twin_fails_by_the_behaviour_it_breaks(name: str) -> None:
    result = await judge(stub_of(TWINS[name])(), BY_NAME[name])
    assert result.outcome is Outcome.failed
    assert "Error" not in result.why, result.why  # it is judged, it did not fall over


class PromisesAtItsEnd(ServeConnector):
    async def poll(self, since: Checkpoint | None) -> AsyncIterator[SalePage]:
        async for page in super().poll(since):
            yield page.model_copy(update={"checkpoint": None})
        yield SalePage(checkpoint=Checkpoint(at=datetime.now(UTC)))


class ListsByClosing(ServeConnector):
    async def poll(self, since: Checkpoint | None) -> AsyncIterator[SalePage]:
        async for page in super().poll(since):
            recent = tuple(one for one in page.sales if not since or (one.closed_at or since.at) >= since.at)
            yield page.model_copy(update={"sales": recent})


@pytest.mark.parametrize(("twin", "name"), [(PromisesAtItsEnd, "checkpoint"), (ListsByClosing, "late_refund")])
async def test_mistakes_that_an_integrator_made_are_found(twin: type[ServeConnector], name: str) -> None:
    result = await judge(stub_of(twin)(), BY_NAME[name])
    assert result.outcome is Outcome.failed


async def test_an_excuse_for_what_nobody_asks_is_a_slip_and_said_to_be() -> None:
    class Slip(ServeStub):
        till_has_no: ClassVar[Mapping[str, str]] = {"voided": "it never voids"}

    assert unknown_excuses(Slip) == ["voided"]


def test_behaviours_say_what_they_guard_and_how_to_mend() -> None:
    for one in BEHAVIOURS:
        assert one.title
        assert one.guards
        assert one.fix
    assert len(BY_NAME) == len(BEHAVIOURS)


@pytest.mark.parametrize("stub", STUBS)
def test_what_our_packages_say_of_themselves_is_what_the_suite_finds(stub: type[TillStub]) -> None:
    name = stub.connector.info.name
    kept = json.loads((resources.files(f"{name}_connector") / CONFORMANCE).read_text())
    assert kept == {name: report_of(stub).summary()}, f"run: connectors check {name} --write"


class OnlyChecks(Connector[NoSettings]):
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
    assert [one.outcome for one in report.results] == [Outcome.passed, Outcome.not_asked, Outcome.not_asked]
    assert report.conforms

    class Small(ServeStub):
        page_size = None
        customers = ()

    report = await examine(Small, [BY_NAME["every_page"], BY_NAME["customers"]])
    assert [one.outcome for one in report.results] == [Outcome.not_shown, Outcome.not_shown]
    assert not report.conforms
