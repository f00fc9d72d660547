"""Metrics: only for whoever has the token, about nobody, and true."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from connectors.store.errors import StoreError
from connectors.web.app import application, probes
from tests.installation import ANNA, Installation, build
from tests.postgresql import shared_postgresql

TOKEN = "a token of the metrics"


async def _get(
    installation: Installation, authorization: str = f"Bearer {TOKEN}", *, worker: bool = False
) -> httpx.Response:
    app = probes(installation.host) if worker else application(installation.host)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://host") as client:
        await installation.sync()
        return await client.get("/metrics", headers={"Authorization": authorization})


@pytest.mark.parametrize("authorization", ["", "Bearer ", "Bearer wrong", TOKEN, TOKEN[:-1], f"Basic {TOKEN}"])
async def test_without_the_token_there_is_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, authorization: str
) -> None:
    async with build(tmp_path, monkeypatch, metrics_token=SecretStr(TOKEN)) as installation:
        await installation.connect()
        assert (await _get(installation, authorization)).status_code == 404


async def test_without_a_token_set_nobody_reads_them(installation: Installation) -> None:
    await installation.connect()
    for authorization in ("", "Bearer ", "Bearer None"):
        assert (await _get(installation, authorization)).status_code == 404


@pytest.mark.parametrize("worker", [False, True])
async def test_they_say_how_long_things_took_and_what_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, worker: bool
) -> None:
    async with build(tmp_path, monkeypatch, metrics_token=SecretStr(TOKEN)) as installation:
        await installation.connect()
        text = (await _get(installation, worker=worker)).text  # parts tell their times from here on
        receipt = installation.cafe.sell(installation.cafe.client(ANNA))
        await installation.hook(installation.cafe.hook(receipt, "closed"))
        answer = await _get(installation, worker=worker)
        samples = {
            (sample.name, *sorted(sample.labels.values())): sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
        }
        assert answer.headers["content-type"].startswith("text/plain")
        assert samples["connectors_connections", "active"] == 1
        assert samples["connectors_open_operations", "held"] == 0
        assert samples["connectors_operations_total", "applied"] == 1
        assert samples["connectors_sale_to_stamp_seconds_count",] == 1
        assert samples["connectors_till_call_seconds_count", "poll", "poster"] >= 1
        for secret in (ANNA[1:], str(receipt), installation.connection.id, installation.connection.business_id):
            assert secret not in text + answer.text


PAGE = Path("docs/operating/monitoring.md")
DASHBOARD = Path("examples/deployment/grafana-dashboard.json")


async def test_the_page_and_the_dashboard_name_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = shared_postgresql().new_database()  # a cluster has all of them
    async with build(tmp_path, monkeypatch, database_url=url, metrics_token=SecretStr(TOKEN)) as installation:
        await installation.connect()
        text = (await _get(installation)).text
    shared_postgresql().drop(url)
    names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE connectors_")}
    names = {name for name in names if not name.endswith("_created")}
    assert set(re.findall(r"^\| `(connectors_\w+)` \|", PAGE.read_text(), re.MULTILINE)) == names  # noqa: ASYNC240 - a test
    shown = set(re.findall(r"connectors_\w+", DASHBOARD.read_text()))  # noqa: ASYNC240 - a test
    assert {name.removesuffix("_bucket") for name in shown} <= names


async def test_without_a_database_a_host_is_not_ready_and_tells_its_own_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with build(tmp_path, monkeypatch, metrics_token=SecretStr(TOKEN)) as installation:
        app = application(installation.host)

        async def fail(_query: object) -> object:
            raise StoreError("the database server cannot be reached")

        monkeypatch.setattr(installation.host.store, "read", fail)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://host") as client:
            metrics = await client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
            assert (await client.get("/readyz")).status_code == 503
        assert metrics.status_code == 200
        assert "connectors_read_lateness_seconds_count" in metrics.text
        assert "connectors_open_operations" not in metrics.text
