"""`connectors check`, as an integrator uses it: a name, a package or a folder, and what a broken connector is told."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from connectors.cli.main import app

BROKEN = """
from connector_sdk.hookspecs import hookimpl
from dataclasses import replace
from serve_connector import ServeConnector

class Mine(ServeConnector):
    info = replace(ServeConnector.info, name="brokentill", stub="broken_till.stub:Stub")

    async def fetch(self, receipt_id):
        raise RuntimeError("no")

@hookimpl
def register_connectors(register):
    register(Mine)
"""
STUB = """
from broken_till import Mine
from serve_connector.stub import ServeStub

class Stub(ServeStub):
    connector = Mine
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    package = tmp_path / "a-till" / "broken_till"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(BROKEN)
    (package / "stub.py").write_text(STUB)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("broken_till", "broken_till.stub"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return package.parent


def check(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["check", *arguments])
    return result.exit_code, result.output


def test_a_good_connector_conforms() -> None:
    code, said = check("serve", "--only", "account", "--only", "forged_hook")
    assert code == 0
    assert "serve: 2 shown, 0 failed, 0 not shown, 0 not asked." in said
    assert "Only 2 of 58 behaviours were looked at." in said
    assert "It conforms" not in said


def test_a_broken_connector_in_a_folder_is_told_what_it_guards_against_and_how_to_mend_it(folder: Path) -> None:
    code, said = check(str(folder), "--only", "unknown_receipt")
    assert code == 1
    assert "RuntimeError: no" in said
    assert "guards against hints that are followed for ever" in said
    assert "mend it: return `None` from `fetch` for an unknown id" in said


def test_scripts_get_every_behaviour_and_the_result_can_be_kept(folder: Path) -> None:
    code, said = check(str(folder), "--only", "unknown_receipt", "--json")
    (row,) = json.loads(said)["behaviours"]
    assert (code, row["outcome"], row["level"]) == (1, "failed", "required")
    code, said = check(str(folder), "--only", "unknown_receipt", "--write")
    assert code == 1
    assert "leave out --only" in said
    assert not (folder / "broken_till" / "conformance.json").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["posterr"], "there is no connector, package or folder 'posterr'; known: poster"),
        (["serve", "--only", "acount"], "there is no behaviour 'acount'; nearest: account"),
        (["json"], "registers no connector"),
    ],
)
def test_what_cannot_be_checked_is_said(arguments: list[str], said: str) -> None:
    code, output = check(*arguments)
    assert code == 1
    assert said in output.replace("\n", " ")
