"""The Zapier integration's own tests, under Node, against a host that runs."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from connectors.cli.servers import serving
from connectors.web.app import application
from tests.installation import build
from tests.sync.test_unread_retries import BASE
from tests.web.api.program import token_for
from tests.webhook.test_way_of_a_request import connect

ZAPIER = Path(__file__).parents[2] / "integrations" / "zapier"
NODE = shutil.which("node")
HERE = NODE is not None and (ZAPIER / "node_modules" / "zapier-platform-core").is_dir()

# in CI it must be there: a missing package must not turn into a test that is skipped
pytestmark = pytest.mark.skipif(not HERE and not os.environ.get("CI"), reason="npm ci --prefix integrations/zapier")


async def test_the_integration_works_against_a_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with build(tmp_path, monkeypatch, relay_hosts="127.0.0.1") as installation:
        await connect(installation, BASE)
        token = await token_for(installation)
        await installation.host.start()
        async with serving(application(installation.host)) as origin:
            tests = await asyncio.create_subprocess_exec(
                str(NODE), "--test", "--test-force-exit", "test/", cwd=ZAPIER,
                env={
                    "PATH": os.environ["PATH"], "ADDRESS": origin, "TOKEN": token, "TILL": installation.connection.id,
                },
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            )  # fmt: skip
            said, _ = await asyncio.wait_for(tests.communicate(), 90)
        await installation.host.stop()
    assert tests.returncode == 0, said.decode()
    assert "# pass 7" in said.decode()
