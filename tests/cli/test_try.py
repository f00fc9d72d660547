"""`connectors try`, the afternoon's loop: a till, its sales, where each field came from, and again at every save."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from connector_sdk.signatures import BodyHmac
from connectors.cli.main import app
from connectors.cli.servers import serving
from poster_connector.sandbox import Account, PosterSandbox

STUB_KEY = "a secret of the stub"


def tried(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["try", *arguments])
    return result.exit_code, result.output


async def tried_at(sandbox: PosterSandbox, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, str]:
    """The command over a till that answers over HTTP."""
    async with serving(sandbox.application()) as origin:
        for name, value in sandbox.environment(origin).items():
            monkeypatch.setenv(name, value)
        given = [one for name, value in sandbox.settings().items() for one in ("--set", f"{name}={value}")]
        return await asyncio.to_thread(tried, "poster", *given, *arguments)


def test_each_field_says_where_on_the_wire_it_came_from() -> None:
    for name, expected in {
        "poster": {
            "paid": ["response[].payed_sum"],
            "closed_at": ["response[].date_close"],
            "customer.till_id": ["response[].client_id"],
            "lines.product_id": ["response[].products[].product_id"],
        },
        "serve": {"paid": ["data[].total"], "version": ["data[].revision"], "customer.phone": ["data[].guest.phone"]},
        "webhook": {"paid": ["bons[].summe", "bons[].trinkgeld"], "receipt_id": ["bons[].nr"]},
    }.items():
        code, said = tried(name, "--stub", "--json")
        found = json.loads(said)
        first = found["sales"][0]
        assert first["sale"]["paid"]["minor"] == 1250
        assert {field: first["from"].get(field) for field in expected} == expected
        assert code == 1  # the stub's third receipt cannot be read
        assert [one["receipt_id"] for one in found["unreadable"]] != [None]


async def test_a_till_is_read_and_what_it_answered_is_kept_without_secrets_and_people(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = Account()
    account.sell(account.client("+380501112201"), paid=12750)
    sandbox = PosterSandbox(account)
    code, said = await tried_at(sandbox, monkeypatch, "--record", str(tmp_path / "kept"))
    assert code == 0, said
    assert "127.50 UAH" in said
    assert "response[].payed_sum" in said
    assert "+380501112201" in said  # the till's own customer id, asked for
    (file,) = (tmp_path / "kept").iterdir()
    kept = file.read_text()
    for hidden in (*sandbox.settings().values(), "501112201"):
        assert hidden not in kept
    assert json.loads(kept)["sales"][0]["paid"]["minor"] == 12750


def test_a_hook_is_proven_and_read_and_a_forged_one_is_said_to_be(tmp_path: Path) -> None:
    body = json.dumps({"id": "7", "at": "2026-11-20T08:15:30Z", "sum": 12.50, "phone": "600111222"}).encode()
    (tmp_path / "body.json").write_bytes(body)
    values = {
        "till_name": "T", "currency": "EUR", "zone": "Europe/Madrid", "proof": "hmac", "proof_header": "X-Sig",
        "secret": STUB_KEY, "map_receipt_id": "id", "map_closed_at": "at", "map_paid": "sum", "map_phone": "phone",
    }  # fmt: skip
    given = [one for name, value in values.items() for one in ("--set", f"{name}={value}")]
    given += ["--hook", str(tmp_path / "body.json"), "--header"]
    code, said = tried("webhook", *given, f"X-Sig: {BodyHmac(STUB_KEY).sign(body)}", "--json")
    assert code == 0, said
    assert json.loads(said)["sales"][0]["from"]["paid"] == ["sum"]
    code, said = tried("webhook", *given, "X-Sig: abc")
    assert code == 1
    assert "The proof does not hold" in said
    assert "12.50 EUR" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["poster"], "the settings do not fit: 'access_token' is missing"),
        (["poster", "--set", "nonsense"], "--set takes FIELD=VALUE"),
        (["poster", "--set", "acess_token=861052:0239"], "has no setting 'acess_token'; nearest: access_token"),
        (["poster", "--stub", "--since", "last week"], "is no day: write it as 2026-11-20"),
        (["poster", "--stub", "--set", "access_token=1:a"], "--stub brings its own settings"),
        (["poster", "--stub", "--record", "kept"], "a stub's answers prove nothing about the till"),
        (["webhook", "--hook", "no-such-file"], "no-such-file cannot be read"),
        (["webhook", "--header", "X: y"], "--header belongs to a hook"),
        (["nothing-here"], "there is no connector, package or folder 'nothing-here'"),
    ],
)
def test_what_cannot_be_tried_is_said(arguments: list[str], said: str) -> None:
    code, output = tried(*arguments)
    assert code == 1
    assert said in output.replace("\n", " ")


@pytest.mark.slow
async def test_it_reads_again_at_every_save_and_says_where_it_hurts(tmp_path: Path) -> None:
    runner = [sys.executable, "-m", "connectors"]
    made = await asyncio.create_subprocess_exec(*runner, "new", "my-till", "--shape", "poll", cwd=tmp_path)
    assert await made.wait() == 0
    mapping = tmp_path / "my-till" / "my_till" / "mapping.py"
    watching = await asyncio.create_subprocess_exec(
        *runner, "try", "my-till", "--stub", "--watch", cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env={**os.environ, "COLUMNS": "160"},
    )  # fmt: skip
    assert watching.stdout is not None
    try:
        before = await _until(watching.stdout, "Ctrl-C ends it")
        assert "12.50 EUR" in before
        text = mapping.read_text()
        mapping.write_text(text.replace('"total", currency) - ', '"totall", currency) - '))
        assert "total" in await _until(watching.stdout, "Ctrl-C ends it")
        mapping.write_text(text.replace("def _sale(", "def _sale(this is no Python"))
        assert "SyntaxError" in await _until(watching.stdout, "Ctrl-C ends it")
        mapping.write_text(text.replace('- _money(raw, "tip", currency)', ""))
        assert "13.50 EUR" in await _until(watching.stdout, "Ctrl-C ends it")
    finally:
        watching.terminate()
        await watching.wait()


async def _until(stream: asyncio.StreamReader, text: str) -> str:
    said = ""
    async with asyncio.timeout(60):
        while text not in said:
            said += (await stream.readline()).decode()
    return said
