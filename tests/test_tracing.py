"""Every step of a receipt is in one trace at the operator's collector, and no step holds a secret or a person."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from connectors import tracing
from connectors.log_lines import about
from connectors.sevenstamp.sandbox import Faults
from tests.collector import Collector
from tests.installation import ANNA, KEY, Installation, served_together
from tests.processes import environment

pytestmark = pytest.mark.xdist_group("tracing")  # of a process: what one test begins another must not send


def facts_of(span: Span) -> dict[str, str]:
    return {one.key: one.value.string_value for one in span.attributes}


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    collector = Collector()
    async with served_together(collector) as (origin,):
        tracing.begin(f"{origin}/v1/traces")
        try:
            yield collector
        finally:
            await asyncio.to_thread(tracing.end)


async def test_a_receipt_is_followed_from_its_hook_to_its_stamp_in_one_trace(
    installation: Installation, collector: Collector
) -> None:
    await installation.connect()
    cafe = installation.cafe
    first, second = cafe.sell(cafe.client(ANNA)), cafe.sell(cafe.client(ANNA))
    assert (await installation.hook(cafe.hook(first, "closed"))).status_code == 200
    await installation.sync()
    await asyncio.to_thread(tracing.end)
    spans = collector.of_receipt(installation.connection.id, first)
    names = [span.name for span in spans]
    assert sorted(names) == ["fetch a receipt", "send to 7stamp", "take a receipt in"]
    assert names[-1] == "send to 7stamp"
    sent = facts_of(spans[-1])
    assert (sent["outcome"], sent["kind"], sent["receipt"]) == ("applied", "stamps_added", str(first))
    assert spans[-1].end_time_unix_nano > spans[-1].start_time_unix_nano
    # another receipt is another trace, and both name the step that brought them
    others = collector.of_receipt(installation.connection.id, second)
    assert [span.name for span in others] == ["take a receipt in", "send to 7stamp"]
    (read,) = {link.span_id for span in others for link in span.links}
    assert read in {span.span_id for span in collector.spans if span.name == "read the till"}
    assert "take a hook" in {span.name for span in collector.spans}
    assert "find the card" in {span.name for span in collector.spans}


async def test_no_span_holds_a_secret_or_a_person(installation: Installation, collector: Collector) -> None:
    await installation.connect()
    cafe = installation.cafe
    cafe.sell(cafe.client(ANNA))
    installation.sevenstamp.faults = Faults(status_500=0.5, seed=1)
    await installation.sync()
    with about("con_1", "+380501112201 anna@cafe.example"), tracing.step("x", why=f"Bearer {KEY}") as step:
        step.say(token=cafe.token)
    with pytest.raises(ValueError, match="Anna"), tracing.step("raises"):
        raise ValueError("Anna, +380501112201")
    await asyncio.to_thread(tracing.end)
    assert len(collector.spans) > 4
    for secret in (KEY, cafe.token, "380501112201", "anna@cafe", ANNA.lstrip("+"), "ValueError: Anna"):
        assert secret.encode() not in collector.bodies, secret


async def test_what_a_trace_cannot_tell_keeps_nothing_from_being_done(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = []
    with about("con_1", "receipt \ud800"), tracing.step("a till names its receipts as it likes", why="\ud800"):
        done.append("named oddly")
    monkeypatch.setattr(tracing, "_started", lambda *_: 1 / 0)
    with tracing.step("broken") as step:
        step.say(outcome="applied")
        done.append("broken")
    assert done == ["named oddly", "broken"]
    await asyncio.to_thread(tracing.end)
    assert collector.of_receipt("con_1", "receipt ?")


async def test_a_step_costs_nothing_and_sends_nothing_without_a_collector(installation: Installation) -> None:
    assert not tracing.is_on()
    await installation.connect()
    installation.cafe.sell(installation.cafe.client(ANNA))
    await installation.sync()
    assert installation.stamps(ANNA) == 1
    with tracing.step("nobody listens") as step:
        step.say(outcome="none")


async def test_a_collector_that_is_away_delays_no_stamp(installation: Installation) -> None:
    tracing.begin("http://127.0.0.1:9/v1/traces")
    try:
        await installation.connect()
        installation.cafe.sell(installation.cafe.client(ANNA))
        await installation.sync()
        assert installation.stamps(ANNA) == 1
    finally:
        await asyncio.to_thread(tracing.end)


def test_nothing_of_opentelemetry_is_loaded_until_somebody_wants_it() -> None:
    code = (
        "import sys, connectors.web.app, connectors.runtime.host, connectors.cli.serving\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry.sdk')], 'loaded'"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment({}), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_collector_without_the_extra_is_said_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(tracing.TracingUnavailable, match=r"pip install '7stamp-connectors\[tracing\]'"):
        tracing.begin("http://127.0.0.1:9/v1/traces")
    assert not tracing.is_on()
