"""What a command imports: the help and the version next to nothing, other commands only what they need."""

from __future__ import annotations

import ast
import gc
import json
import subprocess
import sys
from importlib.metadata import EntryPoint, version
from pathlib import Path
from typing import Any

import pytest
import typer.main
from alembic.script import ScriptDirectory
from typer.testing import CliRunner

import connector_sdk
from connector_sdk.hookspecs import hookimpl
from connectors.cli import command_table
from connectors.cli.main import ConnectorsGroup, app
from connectors.store import migrate

_WATCHED = """
import json, sys
from connectors.cli import main
try:
    main()
except SystemExit as end:
    if end.code:
        raise
finally:
    print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""
SERVERS = {"fastapi", "starlette", "uvicorn", "apscheduler", "jinja2", "webauthn"}
"""What only a host that serves needs."""
ONCE = {"alembic", "argon2", "aiohttp"}
"""What a database that is up to date, and a command that calls nobody, need not."""
EVERYTHING = SERVERS | ONCE | {
    "asyncio", "babel", "connectors.runtime", "connectors.store", "connectors.sync", "connector_sdk.connector",
    "connector_sdk.sale", "cryptography", "httpx", "phonenumbers", "pydantic", "pydantic_settings", "sqlalchemy",
    "uvloop",
}  # fmt: skip


def modules_of(folder: Path, *arguments: str) -> set[str]:
    """The modules that a process has imported when `connectors` with these arguments is done."""
    done = subprocess.run(
        [sys.executable, "-c", _WATCHED, *arguments],
        env={
            "CONNECTORS_DATABASE_URL": f"sqlite:///{folder / 'ledger.db'}",
            "CONNECTORS_SEVENSTAMP_URL": "http://127.0.0.1:9",
        },
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_the_help_imports_no_library_but_typer_and_rich(tmp_path: Path, option: str) -> None:
    modules = modules_of(tmp_path, option)
    assert not modules & EVERYTHING
    ours = {name for name in modules if name.startswith(("connectors.", "connector_sdk."))}
    assert ours == {
        "connectors.cli", "connectors.cli.main", "connectors.cli.command_table", "connectors.cli.output",
        "connector_sdk.hookspecs", "connector_sdk.redaction",
    }  # fmt: skip


def test_the_version_is_the_distributions() -> None:
    assert CliRunner().invoke(app, ["--version"]).output == f"connectors {version('sevenstamp-connectors')}\n"


@pytest.fixture(scope="module")
def upgraded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose database is up to date."""
    folder = tmp_path_factory.mktemp("upgraded")
    modules_of(folder, "db", "upgrade")
    return folder


@pytest.mark.xdist_group("startup")
@pytest.mark.parametrize(
    "arguments",
    [
        ("connection", "list"),
        ("operations", "list", "--help"),
        ("journal", "--help"),
        ("plugins",),
        ("security", "log"),
    ],
    ids=" ".join,
)
def test_an_ordinary_command_imports_nothing_that_only_a_serving_host_needs(
    upgraded: Path, arguments: tuple[str, ...]
) -> None:
    assert not modules_of(upgraded, *arguments) & (SERVERS | ONCE)


def test_the_list_of_commands_says_of_each_what_its_own_help_says() -> None:
    for entry in ConnectorsGroup.entries:
        command = entry.load()
        assert command.name == entry.name
        assert entry.help == (command.help or "").partition("\n\n")[0].replace("\n", " ")


def test_commands_of_plugins_stand_behind_ours_and_replace_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def register_commands(cli: Any) -> None:
        cli.command("hello")(lambda: typer.echo("hello from a plugin"))
        cli.command("serve")(lambda: typer.echo("not the host"))

    module = type(sys)("greeting")
    module.register_commands = hookimpl(register_commands)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "greeting", module)
    points = [EntryPoint(name, name, "sevenstamp_connectors") for name in ("greeting", "not_installed")]
    monkeypatch.setattr(command_table, "entry_points", lambda group: points)
    group = typer.main.get_command(app)
    assert list(group.commands)[-1] == "hello"  # type: ignore[attr-defined]
    assert "Console, hooks and background sync" in CliRunner().invoke(app, ["serve", "--help"]).output
    assert CliRunner().invoke(app, ["hello"]).output == "hello from a plugin\n"
    assert "hello" in CliRunner().invoke(app, ["--help"]).output


def test_the_public_names_of_the_sdk_are_those_that_type_checkers_see() -> None:
    (block,) = [node for node in ast.parse(Path(connector_sdk.__file__).read_text()).body if isinstance(node, ast.If)]
    seen = {name.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for name in node.names}
    assert {*seen, "__version__"} == set(connector_sdk.__all__)
    for name, module in seen.items():
        assert getattr(connector_sdk, name) is getattr(sys.modules[str(module)], name)
    assert set(connector_sdk.__all__) <= set(dir(connector_sdk))
    with pytest.raises(AttributeError, match="has no attribute 'Cnnector'"):
        _ = connector_sdk.Cnnector  # type: ignore[attr-defined]


def test_the_newest_schema_is_the_one_that_alembic_takes_for_it() -> None:
    assert ScriptDirectory.from_config(migrate._config()).get_current_head() == migrate.newest()


def test_garbage_is_looked_for_from_when_a_command_is_imported() -> None:
    group = typer.main.get_command(app)
    gc.disable()  # as `main` does
    try:
        assert group.commands["plugins"].name == "plugins"  # type: ignore[attr-defined]
        assert gc.isenabled()
        assert gc.get_freeze_count() > 0
    finally:
        gc.enable()
