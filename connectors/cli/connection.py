"""`connectors connection …`: join a till account to a 7stamp key, look at it, change it, take it apart."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from connectors.cli.options import AsJson, Yes
from connectors.cli.output import confirm, fail, run, say, show_json, show_table, the_host
from connectors.cli.rules import SPELLING, RuleOptions, in_words
from connectors.cli.secrets import SPELLING as SECRET_SPELLING
from connectors.cli.secrets import secret_given, secrets_given
from connectors.domain.connection import Connection
from connectors.runtime.host import Host
from connectors.services import ConnectOptions
from connectors.sync.tills import secret_fields

app = typer.Typer(no_args_is_help=True, help="Join a till account to a 7stamp key.")

Set = Annotated[
    list[str],
    typer.Option("--set", metavar="FIELD=VALUE", help=f"A setting of the connector. A secret: {SECRET_SPELLING}"),
]
SettingsFile = Annotated[
    Path | None,
    typer.Option("--settings", metavar="FILE", help="Settings as TOML, such as a mapping; --set counts before them."),
]
Locations = Annotated[
    list[str] | None, typer.Option("--location", metavar="L", help="Only this location (id or name); may be repeated.")
]
Title = Annotated[str | None, typer.Option(help="How people call it.")]
PollSeconds = Annotated[int | None, typer.Option(min=10, max=86400, help="How often the till is read.")]
Rule = Annotated[str | None, typer.Option(help=SPELLING)]
Minimum = Annotated[str | None, typer.Option(metavar="AMOUNT", help="Receipts below this earn nothing.")]
Multiply = Annotated[
    list[str] | None, typer.Option(metavar="WINDOW", help="'2 sat,sun 08:00-11:00': twice as many stamps then.")
]
MaxPerSale = Annotated[int | None, typer.Option(min=1, help="At most so many stamps for a receipt.")]
MaxPerDay = Annotated[int | None, typer.Option("--max-per-card-per-day", min=1, help="More is held for a person.")]
Refunds = Annotated[str | None, typer.Option(metavar="reverse|keep|flag", help="What a refund does.")]
Unknown = Annotated[
    str | None, typer.Option("--unknown-customer", metavar="issue|hold|skip", help="Customers without a card.")
]
HoldDays = Annotated[int | None, typer.Option(min=1, max=365, help="How long stamps wait for a card.")]


def names_given(options: Iterable[str]) -> set[str]:
    """Return the fields that `--set` options name."""
    return {option.partition("=")[0].strip() for option in options}


def settings_given(options: list[str], file: Path | None = None) -> dict[str, str]:
    """Read settings from a file and from `--set` options, which count before it.

    A secret in a file is in no shell's history. Ends the command with a sentence where something cannot be read.
    """
    values = _settings_in(file) if file is not None else {}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals or not name:
            fail("--set takes FIELD=VALUE, as in --set access_token=861052:0239…")
        values[name.strip()] = value.strip()
    return values


def _settings_in(file: Path) -> dict[str, str]:
    """Read a TOML file of single values, as the texts that `--set` would give."""
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        fail(f"{file} cannot be read: {error.strerror}")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        fail(f"{file} is no TOML: {error}")
    wrong = [name for name, value in table.items() if isinstance(value, dict | list)]
    if wrong:
        fail(f'{file}: {", ".join(wrong)} is no single value: write it as name = "value"')
    # TOML's `true` is Python's `True`: settings spell it as TOML does
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in table.items()}


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="The connector, as `connectors plugins` lists it.")],
    sevenstamp_key: Annotated[
        str,
        typer.Option(
            "--sevenstamp-key", metavar="K", envvar="CONNECTORS_SEVENSTAMP_KEY", help=f"7loc_sc_… {SECRET_SPELLING}"
        ),
    ],
    setting: Set = [],  # noqa: B006 - typer reads it as the option's default
    settings_file: SettingsFile = None,
    rule: Rule = None,
    location: Locations = None,
    title: Title = None,
    unknown_customer: Unknown = None,
    refunds: Refunds = None,
    minimum: Minimum = None,
    multiply: Multiply = None,
    max_per_sale: MaxPerSale = None,
    max_per_card_per_day: MaxPerDay = None,
    hold_days: HoldDays = None,
    poll_seconds: PollSeconds = None,
    as_json: AsJson = False,
) -> None:
    """Connect a till account; everything is checked before anything is stored."""
    values = settings_given(setting, settings_file)
    options = RuleOptions(
        rule, minimum, tuple(multiply or ()), max_per_sale, max_per_card_per_day, refunds, unknown_customer, hold_days
    )

    async def work() -> None:
        async with the_host() as host:
            secret = secret_fields(host.services.connector_class(name))
            connection = await host.services.onboarding.connect(
                name,
                secrets_given(values, names_given(setting), secret),
                secret_given(sevenstamp_key, "--sevenstamp-key"),
                options.new,
                ConnectOptions(locations=location or (), title=title, poll_seconds=poll_seconds),
            )
            await _show_change(host, connection, as_json, "Connected")

    run(work)


async def _show_change(host: Host, connection: Connection, as_json: bool, done: str) -> None:
    """Print a connection that was made or changed, and where its till may send hooks."""
    details = await host.services.connections.describe(connection)
    if as_json:
        show_json(details.as_json())
        return
    say(f"✓ {done}: {connection.title} ({connection.id})")
    if details.hook_url:
        say(f"  Hooks may be sent to {details.hook_url}")
        if not host.settings.public_url:
            say("  (CONNECTORS_PUBLIC_URL is not set: put the address at which your host is reached in its place)")


@app.command("renew-address")
def renew_address(connection_id: str, yes: Yes = False, as_json: AsJson = False) -> None:
    """Make another hook address; the one now lives 24 hours more, one from before that ends at once."""
    confirm("The till must be given the new address within 24 hours. Renew it?", yes)

    async def work() -> None:
        async with the_host() as host:
            connection = await host.services.connections.renew_hook_address(connection_id)
            await _show_change(host, connection, as_json, "Renewed")

    run(work)


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """All connections."""

    async def work() -> None:
        async with the_host() as host:
            connections = await host.services.connections.list_all()
            if as_json:
                details = [await host.services.connections.describe(connection) for connection in connections]
                show_json([connection.as_json() for connection in details])
                return
            rows = [
                [connection.id, connection.title, connection.health.value, connection.account.id]
                for connection in connections
            ]
            show_table(["id", "title", "status", "account"], rows, "No connection yet: `connectors connection add`.")

    run(work)


@app.command()
def show(connection_id: str, as_json: AsJson = False) -> None:
    """One connection: how it is doing, and since when."""

    async def work() -> None:
        async with the_host() as host:
            connection = await host.services.connections.get(connection_id)
            details = await host.services.connections.describe(connection)
            facts = details.as_json()
            if as_json:
                show_json(facts)
                return
            facts["reason"] = host.words.word(connection.reason) if connection.reason else None
            facts["rule"] = in_words(await host.services.connections.current_rule(connection))
            facts["locations"] = ", ".join(details.locations) or "all"
            for name, value in facts.items():
                say(f"{name.replace('_', ' '):<16} {'-' if value is None else value}")

    run(work)


@app.command()
def edit(
    connection_id: str,
    sevenstamp_key: Annotated[
        str | None, typer.Option("--sevenstamp-key", metavar="K", help=f"A new key. {SECRET_SPELLING}")
    ] = None,
    setting: Set = [],  # noqa: B006 - typer reads it as the option's default
    settings_file: SettingsFile = None,
    rule: Rule = None,
    location: Locations = None,
    title: Title = None,
    unknown_customer: Unknown = None,
    refunds: Refunds = None,
    minimum: Minimum = None,
    multiply: Multiply = None,
    max_per_sale: MaxPerSale = None,
    max_per_card_per_day: MaxPerDay = None,
    hold_days: HoldDays = None,
    poll_seconds: PollSeconds = None,
    as_json: AsJson = False,
) -> None:
    """Change a connection; a new rule counts for receipts closed from now on."""
    values = settings_given(setting, settings_file)
    options = RuleOptions(
        rule, minimum, tuple(multiply or ()), max_per_sale, max_per_card_per_day, refunds, unknown_customer, hold_days
    )

    if not (options or values or sevenstamp_key or title or poll_seconds or location is not None):
        fail("say what to change: `connectors connection edit --help` lists what can be")

    async def work() -> None:
        async with the_host() as host:
            before = await host.services.connections.get(connection_id)
            secret = secret_fields(host.services.connector_class(before.connector))
            connection = await host.services.connections.edit(
                connection_id,
                secrets_given(values, names_given(setting), secret),
                key=secret_given(sevenstamp_key, "--sevenstamp-key") if sevenstamp_key else None,
                rule=options.change if options else None,
                locations=location,
                title=title,
                poll_seconds=poll_seconds,
            )
            await _show_change(host, connection, as_json, "Changed")

    run(work)


@app.command()
def pause(connection_id: str) -> None:
    """Read nothing and send nothing until `resume`; hooks are still kept."""

    async def work() -> None:
        async with the_host() as host:
            await host.services.connections.pause(connection_id)
            say(f"✓ Paused. `connectors connection resume {connection_id}` catches up.")

    run(work)


@app.command()
def resume(connection_id: str) -> None:
    """Go on; the receipts of the pause earn their stamps."""

    async def work() -> None:
        async with the_host() as host:
            await host.services.connections.resume(connection_id)
            say("✓ Working again.")

    run(work)


@app.command()
def remove(connection_id: str, yes: Yes = False) -> None:
    """Forget a connection and its secrets; its ledger stays, and a new connection to the account takes it over."""

    async def count() -> tuple[str, int]:
        async with the_host() as host:
            connection = await host.services.connections.get(connection_id)
            return connection.title, await host.services.connections.count_unsettled(connection_id)

    title, waiting = run(count)
    left = f" {waiting} operations that still wait stay in the ledger unsent." if waiting else ""
    confirm(f"Disconnect {title}? Its token and key are forgotten.{left}", yes)

    async def work() -> None:
        async with the_host() as host:
            await host.services.connections.remove(connection_id)
            say("✓ Disconnected.")

    run(work)
