"""`connectors serve`, `plugins`, `doctor`, `sandbox`, `demo` and `db upgrade`: the installation itself."""

from __future__ import annotations

import importlib
import os
import platform
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from connector_sdk.errors import ConnectorError
from connector_sdk.sandbox import TillSandbox
from connectors.cli import examining
from connectors.cli.output import console, escape, log_to_stderr, run, say, show_json, show_table, the_host
from connectors.cli.secrets import SPELLING, secret_given
from connectors.cli.servers import limits_of, listening
from connectors.cli.servers import serve as serve_application
from connectors.domain.finding import Finding
from connectors.plugins import Plugins, checked
from connectors.runtime.counter_names import REFUSED
from connectors.runtime.host import Host
from connectors.runtime.operator_password import ensure_operator_password
from connectors.services import Refusal, nearest
from connectors.settings import Settings
from connectors.sevenstamp.client import InvalidKey, SevenStampError
from connectors.sevenstamp.sandbox import Sandbox
from connectors.store import counters
from connectors.store.errors import StoreError
from connectors.sync.hooks import UNKNOWN_ACCOUNT
from connectors.sync.tills import app_settings
from connectors.web.app import application

database = typer.Typer(no_args_is_help=True, help="The database.")

AsJson = Annotated[bool, typer.Option("--json", help="For scripts.")]
ListenHost = Annotated[str, typer.Option("--host", help="The address to listen on.")]


def serve(
    ctx: typer.Context,
    host: ListenHost = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8700,
) -> None:
    """Console, hooks and background sync in one process."""

    async def work() -> None:
        async with the_host() as parts:
            parts.take_over()
            sock = listening(host, port)
            origin = f"http://{f'[{host}]' if ':' in host else host}:{sock.getsockname()[1]}"
            parts.listens_on(origin)
            if made := await ensure_operator_password(parts.store, parts.settings.operator_password):
                say(f"  The operator's password for the console, shown only now: {made}")
            say(f"✓ Listening on {origin} — the console is there; Ctrl-C ends it.")
            if parts.public_url.startswith("https://"):
                say(f"  Open {parts.public_url}: its cookies are for https only.")
            if not await serve_application(application(parts), sock, limits_of(parts)):
                raise Refusal("the host could not start: see the log above")

    log_to_stderr(ctx.obj or "INFO")
    run(work, interrupted=0)


def plugins(as_json: AsJson = False) -> None:
    """The connectors found, and plugins that are set aside with the reason."""
    loaded = Plugins()
    found = loaded.plugins
    rows = [
        {
            "name": one.name,
            "package": one.package,
            "connectors": one.connectors,
            "status": "set aside" if one.set_aside else "ready",
            "reason": one.set_aside,
            "checked": {name: _checked(loaded, name) for name in one.connectors},
        }
        for one in found
    ]
    if as_json:
        show_json(rows)
        return
    cells = [
        [
            one.name,
            one.package,
            ", ".join(one.connectors),
            "set aside" if one.set_aside else "ready",
            one.set_aside or "",
            "; ".join(_checked(loaded, name) for name in one.connectors),
        ]
        for one in found
    ]
    show_table(["plugin", "package", "connectors", "status", "reason", "checked"], cells, "No plugins are installed.")


def _checked(loaded: Plugins, name: str) -> str:
    """What the connector's package says of its conformance."""
    found = checked(loaded.classes[name])
    if found is None:
        return "not checked"
    said = f"{'conforms' if found.conforms else 'does not conform'}: {found.shown} of {found.asked}"
    return f"{said}, {found.recordings} recordings" if found.recordings else said


def doctor(as_json: AsJson = False) -> None:
    """Look whether everything a host needs is here; ends with 1 where something is wrong."""
    findings: list[dict[str, Any]] = []

    def find(what: str, good: bool | None, text: str) -> None:
        findings.append({"check": what, "ok": good, "text": text})

    def say_of(found: Iterable[Finding]) -> None:
        for one in found:
            find(one.check, one.ok, one.text)

    async def work() -> None:
        find("python", True, platform.python_version())
        loaded = Plugins()
        for one in loaded.plugins:
            find(f"plugin {one.name}", one.set_aside is None, one.set_aside or ", ".join(one.connectors) or "loaded")
        _operator_settings(loaded, find)
        try:
            settings = Settings()
            say_of(examining.addresses(settings, loaded))
            async with Host(settings, plugins=loaded) as host:
                await _look(host, find)
                say_of(examining.files(settings))
                counted = await host.store.read(counters.read_counters)
                say_of(examining.proxies(counted))
                reached = await examining.public_address(host, counted, host.lock.is_held_by_host())
                say_of([reached] if reached is not None else [])
        except StoreError as error:
            find("database", False, str(error))

    run(work)
    if as_json:
        show_json(findings)
    else:
        marks = {True: "[green]✓[/green]", False: "[red]✗[/red]", None: "[yellow]•[/yellow]"}
        for one in findings:
            console.print(f"{marks[one['ok']]} {escape(one['check'])}: {escape(one['text'])}", highlight=False)
    if any(one["ok"] is False for one in findings):
        raise typer.Exit(1)


def _operator_settings(loaded: Plugins, find: Any) -> None:
    """What a connector's operator may set: optional, so only pointed out."""
    for name, one in sorted(loaded.classes.items()):
        app = app_settings(one)
        missing = [
            f"{app.model_config.get('env_prefix', '')}{field}".upper()
            for field in (type(app).model_fields if app is not None else {})
            if getattr(app, field) is None
        ]
        if missing:
            find(f"connector {name}", None, f"{', '.join(missing)} not set: hooks are not taken, polling works")


async def _look(host: Host, find: Any) -> None:
    file = host.settings.database_file
    counted = await host.store.read(counters.read_counters)
    find("database", True, f"{file or 'server'}, schema up to date, key {host.store.vault.key_id}")
    for finding in await host.key_findings():
        find(finding.check, finding.ok, finding.text)
    running = host.lock.is_held_by_host()
    find("host", True if running else None, "running" if running else "not running on this database")
    if unknown := counted.get(UNKNOWN_ACCOUNT):
        find("hooks", None, f"{unknown} hooks came for accounts that are not connected here")
    for name, count in sorted(counted.items()):
        if name.startswith(REFUSED):
            find("limits", None, f"{name} ({count} times)")
    if host.sevenstamp is None:
        find("7stamp", False, str(host.settings.without_sevenstamp))
        return
    try:
        await host.sevenstamp.with_key("7loc_sc_doctor").me()
        find("7stamp", True, "answers")
    except InvalidKey:
        find("7stamp", True, "answers")
    except SevenStampError as error:
        find("7stamp", False, f"{error}: is CONNECTORS_SEVENSTAMP_URL right?")
    for one in await host.services.connections.list_all():
        try:
            host.tills.of(one)
            find(f"connection {one.id}", one.health in ("active", "paused"), one.health.value)
        except (ConnectorError, ValueError) as error:
            find(f"connection {one.id}", False, str(error))


def load_sandbox(loaded: Plugins, name: str) -> TillSandbox:
    """A connector's stand-in till. Raises `Refusal`."""
    offered = {one: found for one, found in loaded.classes.items() if found.info.sandbox}
    if name not in offered:
        raise Refusal(f"there is no sandbox {name!r}; known: {', '.join(nearest(name, ['sevenstamp', *offered]))}")
    module, _, attribute = str(offered[name].info.sandbox).partition(":")
    made: TillSandbox = getattr(importlib.import_module(module), attribute)()
    return made


def sandbox(
    name: Annotated[str, typer.Argument(help="sevenstamp, or a connector that has one.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 0,
    host: ListenHost = "127.0.0.1",
    key: Annotated[str | None, typer.Option(help=f"sevenstamp: accept only this key. {SPELLING}")] = None,
    state: Annotated[Path | None, typer.Option(help="sevenstamp: keep its operations in this file.")] = None,
    goal: Annotated[int, typer.Option(min=1, help="sevenstamp: stamps to a reward.")] = 8,
    allowed: Annotated[int | None, typer.Option(min=0, help="sevenstamp: operations a month.")] = None,
) -> None:
    """A stand-in for 7stamp or a till, with faults."""

    async def work() -> None:
        if name == "sevenstamp":
            only = secret_given(key, "--key") if key is not None else None
            app: Any = Sandbox(key=only, state=state, goal=goal, allowed=allowed)
            hints: dict[str, str] = {}
        else:
            stand_in = load_sandbox(Plugins(), name)
            app, hints = stand_in.application(), dict(stand_in.settings())
        sock = listening(host, port)
        origin = f"http://{host}:{sock.getsockname()[1]}"
        say(f"✓ The {name} sandbox listens on {origin} — Ctrl-C ends it.")
        if name == "sevenstamp":
            say(f"  export CONNECTORS_SEVENSTAMP_URL={origin}")
            any_key = "" if key else " (any that begins so; each is a business)"
            # a key from a file or from standard input is not shown again
            shown = "7loc_sc_mycafe" if only is None else only if only == key else "the one that was given"
            say(f"  A key to sign in with: {shown}{any_key}")
            say(f"  Faults: POST {origin}/_sandbox/faults, what was applied: GET {origin}/_sandbox/operations")
        else:
            for variable, value in stand_in.environment(origin).items():
                say(f"  export {variable}={value}")
            for field, value in hints.items():
                say(f"  --set {field}={value}")
            say(f"  Controls: POST {origin}/_sandbox/sell, refund, correct, hooks and more (see docs/operating.md)")
        await serve_application(app, sock)

    run(work, interrupted=0)


def demo(
    seconds: Annotated[float, typer.Option("--for", min=0, help="End by itself after so many seconds.")] = 0.0,
    connector: Annotated[str, typer.Option(help="Whose sandbox plays the till.")] = "poster",
) -> None:
    """Sandboxes, host and a cafe with live sales: receipts turn into stamps before your eyes."""
    from connectors.cli.demo import play

    # whoever ends it with TERM wants it to end as with Ctrl-C: tidily
    signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    run(lambda: play(connector, seconds), interrupted=0)


@database.command()
def upgrade() -> None:
    """Bring the database to this version's schema; done at every start anyway."""

    async def work() -> None:
        async with the_host():  # opening it is what upgrades
            say("✓ The database is up to date.")

    run(work)
