"""The command reference is what the commands generate, and their JSON is what it says."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError
from typer.core import TyperGroup
from typer.testing import CliRunner

from connector_sdk.loyalty import StampAdded
from connector_sdk.rule import Multiplier, StampRule
from connectors.cli.main import app
from connectors.cli.servers import serving
from connectors.plugins import Plugins
from connectors.runtime.host import Host
from connectors.settings import Settings
from connectors.sevenstamp.sandbox import Sandbox
from connectors.store import inbox
from poster_connector.sandbox import PosterSandbox
from tests.postgresql import shared_postgresql
from tools.command_outputs import OUTPUTS, Output, Rule, RuleWindow, SyncResult
from tools.command_reference import MEANINGS, PAGE, load_root, render_page, shape_title, shapes, walk_commands
from webhook_connector import ready_made

PHONE = "+380501112244"
WITHOUT_A_RUN = {("journal", "--follow")}
"""Forms of JSON that no test prints: a command that only ends by Ctrl-C. Each line is the form without `--follow`."""


def test_the_committed_page_is_what_the_commands_generate() -> None:
    assert PAGE.read_text(encoding="utf-8") == render_page(), "run python -m tools.command_reference"


def test_every_command_and_only_commands_that_print_json_have_a_shape() -> None:
    with_json = {
        entry.name
        for entry in walk_commands(load_root())
        if any(parameter.name == "as_json" for parameter in entry.parameters)
    }
    assert with_json == set(OUTPUTS)


def test_every_parameter_and_every_key_has_a_meaning() -> None:
    parameters = {
        f"{entry.name} {parameter.name}"
        for entry in walk_commands(load_root())
        if not entry.is_group
        for parameter in entry.parameters
        if not getattr(parameter, "help", None) and parameter.name not in MEANINGS
    }
    assert parameters == set()
    assert [model.__name__ for model in _all_models() if not model.__doc__] == []
    keys = {f"{model.__name__}.{name}" for model in _all_models() for name, info in model.model_fields.items()
            if not info.description}  # fmt: skip
    assert keys == set()


def _all_models() -> list[type[Output]]:
    """Every described object, with those inside others."""
    models = list[type[Output]](Output.__subclasses__())
    for model in models:
        models.extend(model.__subclasses__())
    return models


def test_no_two_shapes_share_a_heading() -> None:
    titles = [shape_title(model) for model in shapes()]
    assert len(titles) == len(set(titles))


def test_the_described_rule_has_every_field_of_a_rule() -> None:
    assert set(Rule.model_fields) == set(StampRule.model_fields)
    assert set(RuleWindow.model_fields) == set(Multiplier.model_fields)


def test_a_key_too_many_and_a_key_too_few_are_refused() -> None:
    (form,) = OUTPUTS["sync"]
    counts = dict.fromkeys(("applied", "pending", "held", "rejected", "cancelled"), 0)
    good = {"sales_seen": 1, "sales_changed": 0, "operations": counts}
    form.validate(json.dumps(good))
    assert form.model is SyncResult
    with pytest.raises(ValidationError):
        form.validate(json.dumps({**good, "surprise": 1}))
    with pytest.raises(ValidationError):
        form.validate(json.dumps({"sales_seen": 1, "sales_changed": 0}))


# --- what commands really print --------------------------------------------------------------------------------------


@contextmanager
def _sandboxes(poster: PosterSandbox) -> Iterator[tuple[str, str]]:
    """Serve a Poster and a 7stamp in a thread of their own; give their origins, the till's first."""
    origins: list[str] = []
    is_serving, is_done = threading.Event(), threading.Event()

    async def serve_both() -> None:
        async with AsyncExitStack() as stack:
            origins.append(await stack.enter_async_context(serving(poster.application())))
            origins.append(await stack.enter_async_context(serving(Sandbox(goal=1000))))
            is_serving.set()
            await asyncio.to_thread(is_done.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve_both(),))
    thread.start()
    try:
        assert is_serving.wait(20)
        yield origins[0], origins[1]
    finally:
        is_done.set()
        thread.join(20)


@dataclass
class JsonRunner:
    """Runs commands in this process, and holds what each prints to its described form."""

    printed: set[tuple[str, str]] = field(default_factory=set)

    def run(self, command: str, *arguments: str, when: str = "", exit_code: int = 0) -> object:
        """Run a command with `--json`, validate its output, and return it parsed."""
        options = [*command.split(), *arguments, *when.split(), "--json"]
        result = CliRunner().invoke(app, options)
        assert result.exit_code == exit_code, f"{options}: {result.output}"
        (form,) = (form for form in OUTPUTS[command] if form.when == when)
        form.validate(result.stdout)
        self.printed.add((command, when))
        return json.loads(result.stdout)


@pytest.fixture
def with_plugin_commands() -> Iterator[TyperGroup]:
    """Register the commands of plugins for the length of a test."""
    groups, commands = list(app.registered_groups), list(app.registered_commands)
    for implementation in Plugins().manager.hook.register_commands.get_hookimpls():
        implementation.function(cli=app)
    yield load_root()
    app.registered_groups, app.registered_commands = groups, commands


def _move(runner: JsonRunner) -> None:
    url = shared_postgresql().new_database(empty=True)
    runner.run("move", "--to", url)
    shared_postgresql().drop(url)


@pytest.mark.slow
@pytest.mark.usefixtures("with_plugin_commands")
def test_what_every_command_prints_has_the_described_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    poster = PosterSandbox()
    with _sandboxes(poster) as (till, sevenstamp):
        environment = {
            **poster.environment(till),
            "CONNECTORS_DATABASE_URL": f"sqlite:///{tmp_path / 'ledger.db'}",
            "CONNECTORS_SEVENSTAMP_URL": sevenstamp,
            "CONNECTORS_PLUGIN_WORKERS": "0",
            "CONNECTORS_RELAY_HOSTS": "127.0.0.1",
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        runner = JsonRunner()
        _run_connection_commands(runner, poster)
        _renew_an_address(runner, tmp_path)
        _run_installation_commands(runner)
        _run_integrator_commands(runner, tmp_path)
        _move(runner)
    every_form = {(command, form.when) for command, forms in OUTPUTS.items() for form in forms}
    assert every_form - runner.printed == WITHOUT_A_RUN


def _run_connection_commands(runner: JsonRunner, poster: PosterSandbox) -> None:
    settings = [part for name, value in poster.settings().items() for part in ("--set", f"{name}={value}")]
    added = runner.run(
        "connection add",
        *("poster", "--sevenstamp-key", "7loc_sc_docs", *settings, "--rule", "amount:10.00", "--minimum", "1.00"),
        *(
            "--multiply",
            "2 sat,sun 08:00-11:00 from 2026-12-01 at 1",
            "--max-per-sale",
            "9",
            "--unknown-customer",
            "issue",
        ),
        *("--refunds", "flag"),
    )
    assert isinstance(added, Mapping)
    connection = str(added["id"])
    since = ("--since", (datetime.now(UTC) - timedelta(days=2)).date().isoformat())
    first = poster.account.sell(poster.account.client(PHONE))
    spoiled = poster.account.sell(poster.account.client(PHONE))
    poster.account.receipts[spoiled]["payed_sum"] = "twelve"
    runner.run("preview", connection, *since)
    runner.run("sync", connection)
    poster.account.refund(first)
    runner.run("sync", connection)
    asyncio.run(_keep_event())
    for listing in ("operations list", "journal", "unread", "events"):
        assert runner.run(listing, connection), listing
    made = runner.run("subscription add", connection, "--url", "http://127.0.0.1:9/", "--event", "card_opened")
    assert isinstance(made, Mapping)
    subscription = (connection, str(made["id"]))
    runner.run("subscription list", connection)
    runner.run("subscription test", *subscription, exit_code=1)
    runner.run("subscription edit", *subscription, "--title", "CRM")
    runner.run("subscription show", *subscription)
    runner.run("subscription replay", *subscription, "--failed")
    runner.run("subscription renew-secret", *subscription)
    voucher = runner.run("voucher issue", connection, "--title", "A free coffee")
    assert isinstance(voucher, Mapping)
    runner.run("voucher redeem", connection, str(voucher["redeem_code"]), "--yes")
    runner.run("voucher show", connection, str(voucher["redeem_code"]))
    runner.run("token make", connection, "--title", "Zapier", "--scope", "read")
    runner.run("token list", connection)
    runner.run("unread", connection, when="--try-again")
    runner.run("backfill", connection, *since, when="--dry-run")
    runner.run("backfill", connection, *since)
    runner.run("reconcile", connection, *since)
    runner.run("connection edit", connection, "--rule", "per-order")
    runner.run("replan", connection, *since, when="--dry-run")
    runner.run("replan", connection, *since)
    runner.run("connection show", connection)
    runner.run("connection list")
    runner.run("forget", "--phone", PHONE, "--yes")


async def _keep_event() -> None:
    """Keep an event of 7stamp, as a host that runs would: no host runs beside these commands."""
    async with Host(Settings()) as host:
        (connection,) = await host.services.connections.list_all()
        event = StampAdded(id="msg_1", at=datetime.now(UTC), business_id=connection.business_id)
        new = inbox.loyalty_events.NewEvent(connection.business_id, event.id, event, b"")
        await host.store.write(lambda tx: inbox.loyalty_events.keep(tx, [new]))


def _import_a_file(runner: JsonRunner, connection: str, folder: Path) -> None:
    file = folder / "receipts.csv"
    file.write_text("no,at,sum,phone\n1,2026-11-20 09:00,12.50,+34600111222\nTotal,,12.50,\n")
    runner.run("import", connection, str(file), when="--dry-run")
    runner.run("import", connection, str(file))


def _renew_an_address(runner: JsonRunner, folder: Path) -> None:
    """Only a connection with a hook address of its own has one to renew: Poster has one address for all."""
    mapping = {"map_receipt_id": "no", "map_paid": "sum", "map_closed_at": "at", "map_phone": "phone"}
    settings = {"till_name": "Corner", "currency": "EUR", "zone": "Europe/Madrid", "proof": "address", **mapping}
    options = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    added = runner.run("connection add", "webhook", "--sevenstamp-key", "7loc_sc_docs", *options)
    assert isinstance(added, Mapping)
    runner.run("connection renew-address", str(added["id"]), "--yes")
    _import_a_file(runner, str(added["id"]), folder)


def _run_installation_commands(runner: JsonRunner) -> None:
    runner.run("console link")
    runner.run("security log")
    runner.run("plugins")
    runner.run("doctor")
    runner.run("keys rotate")


def _run_integrator_commands(runner: JsonRunner, folder: Path) -> None:
    runner.run("new", "tea-till")
    runner.run("check", when="--list")
    runner.run("check", "webhook", "--only", "place")
    runner.run("try", "webhook", "--stub", exit_code=1)
    ready = ready_made.ALL[0]
    sample = folder / "sample.json"
    sample.write_bytes(ready.sample)
    runner.run("mapping try", str(sample), "--ready", ready.name)
