"""Log lines as JSON: a receipt's lines are found by what they are about, and nothing secret is in them."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import pytest

from connectors.cli.output import log_to_stderr
from connectors.log_lines import JsonFormatter, about
from tests.installation import ANNA, Installation
from tests.processes import run


def lines_of(text: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in text.splitlines()]


async def test_the_lines_of_one_receipt_have_one_id_from_its_hook_to_its_stamp(
    installation: Installation, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    await installation.connect()
    first, second = (installation.cafe.sell(installation.cafe.client(ANNA)) for _ in range(2))
    capsys.readouterr()
    log_to_stderr("DEBUG", as_json=True)
    for receipt in (first, second):
        assert (await installation.hook(installation.cafe.hook(receipt, "closed"))).status_code == 200
    await installation.sync()
    lines = lines_of(capsys.readouterr().err)
    for receipt in (first, second):
        of_receipt = [line for line in lines if line.get("sale") == f"{installation.connection.id}/{receipt}"]
        messages = [line["message"] for line in of_receipt]
        assert messages[0] == "a hook told of it, and is stored"
        assert messages[-1] == "sent to 7stamp: applied"
        assert {line["receipt"] for line in of_receipt} == {str(receipt)}
    assert logging.getLogger().level == logging.DEBUG
    logging.getLogger().setLevel(logging.WARNING)


def test_a_line_of_json_is_redacted_and_stays_one_line() -> None:
    formatter = JsonFormatter()
    try:
        raise ValueError("a token: Bearer 7loc_sc_a_secret_of_somebody")
    except ValueError:
        record = logging.getLogger("x").makeRecord("x", logging.ERROR, "", 0, "it\nbroke", (), sys.exc_info())
    with about("con_1", "r1"):
        text = formatter.format(record)
    assert "7loc_sc_a_secret" not in text
    assert "\n" not in text
    assert json.loads(text)["sale"] == "con_1/r1"
    assert "sale" not in json.loads(formatter.format(record))
    with about("con_1", "somebody@example.com"):
        assert "somebody@" not in formatter.format(record)


def test_commands_log_as_json_where_that_is_asked(tmp_path: Path) -> None:
    env = {"CONNECTORS_DATABASE_URL": f"sqlite:///{tmp_path / 'x.db'}", "CONNECTORS_LOG_FORMAT": "json"}
    ended = run(["--log-level", "DEBUG", "db", "upgrade"], env)
    assert ended.returncode == 0
    assert all("at" in line for line in lines_of(ended.stderr))
    wrong = run(["--log-format", "xml", "db", "upgrade"], env)
    assert wrong.returncode == 2
    assert "text" in wrong.stderr
