"""The console of several hosts: what is begun at one goes on at another, behind any load balancer."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from connectors.runtime.host import Host
from tests.installation import ANNA, BORYS, KEY, Installation
from tests.postgresql import shared_postgresql
from tests.till_of_files import till_of_files
from tests.web.browser import Browser, Browsers, open_browsers
from tests.web.test_import_pages import COLUMNS, FILE, base, finished, uploaded


@pytest.fixture
def url() -> Iterator[str]:
    url = shared_postgresql().new_database()
    yield url
    shared_postgresql().drop(url)


@asynccontextmanager
async def two_hosts(
    url: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Installation, Browser, Browser]]:
    """An installation of two hosts, and one browser at each of them that has the same cookies."""
    async with (
        till_of_files(folder, monkeypatch, database_url=url) as installation,
        open_browsers(installation) as browsers,
        Host(installation.settings) as other,
    ):
        other.listens_on("http://host")
        here, there = await browsers.new().sign_in(), Browsers(other).new()
        there.client.cookies = here.client.cookies
        yield installation, here, there
        await there.client.aclose()


async def test_an_import_is_begun_at_one_host_and_looked_at_from_another(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two_hosts(url, tmp_path, monkeypatch) as (corner, here, there):
        name = await uploaded(corner, here, FILE)
        assert "1002" in (await there.get(f"{base(corner)}?file={name}")).text
        assert (await there.post(f"{base(corner)}/run", file=name, **COLUMNS)).status_code == 303
        assert "3 receipts were read , 3 of them new or changed" in await finished(corner, here)
        assert (corner.stamps(ANNA), corner.stamps(BORYS)) == (1, 1)


async def test_what_was_typed_at_one_host_is_there_again_at_another(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two_hosts(url, tmp_path, monkeypatch) as (corner, here, there):
        settings = f"/connections/{corner.connection.id}/settings"
        proof = await here.csrf_token()
        here.client.cookies.delete("console")
        away = await here.post(f"{settings}/title", csrf_token=proof, title="Our corner")
        fields = dict(re.findall(r'name="(next|kept)" value="([^"]*)"', away.text))
        back = await there.post("/sign-in", key=KEY, **fields)
        assert 'value="Our corner"' in (await there.get(back.headers["location"])).text
