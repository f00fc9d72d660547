"""`connectors connection …`: join a till account to a 7stamp key, look at it, change it, take it apart."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from connector_sdk.connector import TillAccount
from connector_sdk.rule import StampRule
from connectors.cli.options import AsJson, Yes
from connectors.cli.output import confirm, fail, run_with_host, say, show_json, show_table
from connectors.cli.rules import SPELLING, RuleOptions, in_words
from connectors.cli.secrets import SPELLING as SECRET_SPELLING
from connectors.cli.secrets import secret_given, secrets_given
from connectors.domain.connection import Connection
from connectors.runtime.host import Host
from connectors.services import ConnectionDetails, ConnectOptions
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
    list[str] | None,
    typer.Option(
        metavar="WINDOW",
        help="'2 sat,sun 08:00-11:00': twice as many stamps then; 'from 2026-12-01', 'until 2026-12-24' and 'at"
        " LOCATION,LOCATION' may follow, and 'none' takes back what was set.",
    ),
]
MaxPerSale = Annotated[int | None, typer.Option(min=1, help="At most so many stamps for a receipt.")]
MaxPerDay = Annotated[int | None, typer.Option("--max-per-card-per-day", min=1, help="More is held for a person.")]
Refunds = Annotated[str | None, typer.Option(metavar="reverse|keep|flag", help="What a refund does.")]
Unknown = Annotated[
    str | None, typer.Option("--unknown-customer", metavar="issue|hold|skip", help="Customers without a card.")
]
HoldDays = Annotated[int | None, typer.Option(min=1, max=365, help="How long stamps wait for a card.")]
ModeOption = Annotated[
    str | None, typer.Option("--mode", metavar="identified|receipt_qr|both", help="How customers become known.")
]
ClaimDays = Annotated[int | None, typer.Option(min=1, max=90, help="How long a receipt's QR code is good.")]
GiftProducts = Annotated[
    list[str] | None,
    typer.Option("--gift-product", metavar="P", help="Given free, it uses a voucher of the card; `none` for none."),
]
DeadCodesOption = Annotated[
    str | None,
    typer.Option("--dead-codes", metavar="tell|flag|nothing", help="A gift against a used or unknown code."),
]


def names_given(options: Iterable[str]) -> set[str]:
    """Return the fields that `--set` options name."""
    return {option.partition("=")[0].strip() for option in options}


def settings_given(options: list[str], file: Path | None = None) -> dict[str, str]:
    """Read settings from a file and from `--set` options, which count before it.

    A secret in a file is in no shell's history. Ends the command with a sentence where something cannot be read.
    """
    values = _settings_in(file) if file is not None else {}
    return values | dict(_field_and_value(option) for option in options)


def _field_and_value(option: str) -> tuple[str, str]:
    # only the first `=` parts them: tokens and addresses hold others
    name, equals, value = option.partition("=")
    if not equals or not name:
        fail("--set takes FIELD=VALUE, as in --set access_token=861052:0239…")
    return name.strip(), value.strip()


def _settings_in(file: Path) -> dict[str, str]:
    """Read a TOML file of single values, as the texts that `--set` would give."""
    table = _toml_in(file)
    # a table would become the text of a Python object, which no connector's settings mean
    wrong = [name for name, value in table.items() if isinstance(value, dict | list)]
    if wrong:
        fail(f'{file}: {", ".join(wrong)} is no single value: write it as name = "value"')
    return {name: _as_typed(value) for name, value in table.items()}


def _toml_in(file: Path) -> Mapping[str, object]:
    """Parse a TOML file; end the command with a sentence where it cannot be read."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        fail(f"{file} cannot be read: {error.strerror}")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        fail(f"{file} is no TOML: {error}")


def _as_typed(value: object) -> str:
    # TOML's `true` is Python's `True`: settings spell it as TOML does
    return str(value).lower() if isinstance(value, bool) else str(value)


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
    mode: ModeOption = None,
    claim_days: ClaimDays = None,
    gift_product: GiftProducts = None,
    dead_codes: DeadCodesOption = None,
    poll_seconds: PollSeconds = None,
    as_json: AsJson = False,
) -> None:
    """Connect a till account; everything is checked before anything is stored."""
    values = settings_given(setting, settings_file)
    options = RuleOptions(
        rule=rule,
        minimum=minimum,
        multiply=tuple(multiply or ()),
        max_per_sale=max_per_sale,
        max_per_card_per_day=max_per_card_per_day,
        refunds=refunds,
        unknown_customer=unknown_customer,
        hold_days=hold_days,
        mode=mode,
        claim_days=claim_days,
        gift_products=tuple(gift_product or ()),
        dead_codes=dead_codes,
    )
    request = _AddRequest(name, sevenstamp_key, _Settings(values, names_given(setting)), options.new)
    run_with_host(
        partial(
            _add,
            request=request,
            options=ConnectOptions(locations=location or (), title=title, poll_seconds=poll_seconds),
            as_json=as_json,
        )
    )


class _Settings(NamedTuple):
    """Settings of a connector, and the names of those that came by `--set`: only they may spell a secret's place."""

    values: dict[str, str]
    typed: set[str]

    def with_secrets(self, host: Host, connector: str) -> dict[str, str]:
        """Return the values with secrets read. Ends the command with a sentence where one cannot be read.

        The connector says which fields are secret, so this waits for an open host.
        """
        secret = secret_fields(host.services.connector_class(connector))
        return secrets_given(self.values, self.typed, secret)


class _AddRequest(NamedTuple):
    """The connection to make, as it was typed."""

    connector: str
    sevenstamp_key: str
    settings: _Settings
    rule: Callable[[TillAccount], StampRule]


async def _add(host: Host, request: _AddRequest, options: ConnectOptions, as_json: bool) -> None:
    connection = await host.services.onboarding.connect(
        request.connector,
        # settings before the key: on a terminal, that is the order in which hidden values are asked for
        request.settings.with_secrets(host, request.connector),
        secret_given(request.sevenstamp_key, "--sevenstamp-key"),
        request.rule,
        options,
    )
    await _show_change(host, connection, as_json, "Connected")


async def _show_change(host: Host, connection: Connection, as_json: bool, done: str) -> None:
    """Print a connection that was made or changed, and where its till may send hooks."""
    details = await host.services.connections.describe(connection)
    if as_json:
        show_json(details.as_json())
        return
    say(f"✓ {done}: {connection.title} ({connection.id})")
    if details.hook_url:
        _say_hook_url(details.hook_url, public=bool(host.settings.public_url))


def _say_hook_url(hook_url: str, *, public: bool) -> None:
    say(f"  Hooks may be sent to {hook_url}")
    if not public:  # the address begins with loopback then, which a till in the cloud cannot reach
        say("  (CONNECTORS_PUBLIC_URL is not set: put the address at which your host is reached in its place)")


@app.command("renew-address")
def renew_address(connection_id: str, yes: Yes = False, as_json: AsJson = False) -> None:
    """Make another hook address; the one now lives 24 hours more, one from before that ends at once."""
    # asked, because it starts a clock: who does not reach the till's admin in time loses hooks
    confirm("The till must be given the new address within 24 hours. Renew it?", yes)
    run_with_host(partial(_renew_address, connection_id=connection_id, as_json=as_json))


async def _renew_address(host: Host, connection_id: str, as_json: bool) -> None:
    connection = await host.services.connections.renew_hook_address(connection_id)
    await _show_change(host, connection, as_json, "Renewed")


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """All connections."""
    run_with_host(partial(_show_all, as_json=as_json))


async def _show_all(host: Host, as_json: bool) -> None:
    connections = await host.services.connections.list_all()
    if as_json:
        # described only for scripts: it reads several tables for each connection
        details = [await host.services.connections.describe(connection) for connection in connections]
        show_json([connection.as_json() for connection in details])
        return
    rows = [_cells(connection) for connection in connections]
    show_table(["id", "title", "status", "account"], rows, "No connection yet: `connectors connection add`.")


def _cells(connection: Connection) -> list[str]:
    return [connection.id, connection.title, connection.health.value, connection.account.id]


@app.command()
def show(connection_id: str, as_json: AsJson = False) -> None:
    """One connection: how it is doing, and since when."""
    run_with_host(partial(_show_details, connection_id=connection_id, as_json=as_json))


async def _show_details(host: Host, connection_id: str, as_json: bool) -> None:
    connection = await host.services.connections.get(connection_id)
    details = await host.services.connections.describe(connection)
    if as_json:
        show_json(details.as_json())
        return
    facts = details.as_json() | await _facts_in_words(host, connection, details)
    for name, value in facts.items():
        say(f"{name.replace('_', ' '):<16} {'-' if value is None else value}")


async def _facts_in_words(host: Host, connection: Connection, details: ConnectionDetails) -> dict[str, str | None]:
    """Word the facts that scripts get as ids and lists; they take the place of those, in the same order."""
    return {
        "reason": host.words.word(connection.reason) if connection.reason else None,
        "rule": in_words(await host.services.connections.current_rule(connection)),
        "locations": ", ".join(details.locations) or "all",
    }


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
    mode: ModeOption = None,
    claim_days: ClaimDays = None,
    gift_product: GiftProducts = None,
    dead_codes: DeadCodesOption = None,
    poll_seconds: PollSeconds = None,
    as_json: AsJson = False,
) -> None:
    """Change a connection; a new rule counts for receipts closed from now on."""
    values = settings_given(setting, settings_file)
    options = RuleOptions(
        rule=rule,
        minimum=minimum,
        multiply=tuple(multiply or ()),
        max_per_sale=max_per_sale,
        max_per_card_per_day=max_per_card_per_day,
        refunds=refunds,
        unknown_customer=unknown_customer,
        hold_days=hold_days,
        mode=mode,
        claim_days=claim_days,
        gift_products=tuple(gift_product or ()),
        dead_codes=dead_codes,
    )
    # an edit of nothing would read as done: the id was typed, and the option forgotten
    if not (options or values or sevenstamp_key or title or poll_seconds or location is not None):
        fail("say what to change: `connectors connection edit --help` lists what can be")
    settings = _Settings(values, names_given(setting))
    change = _Change(connection_id, settings, sevenstamp_key, options, location, title, poll_seconds)
    run_with_host(partial(_edit, change=change, as_json=as_json))


@dataclass(frozen=True, slots=True)
class _Change:
    """A change of a connection as it was typed; `None`, and no settings, leave a part of it as it is."""

    connection_id: str
    settings: _Settings
    sevenstamp_key: str | None
    options: RuleOptions
    locations: list[str] | None
    title: str | None
    poll_seconds: int | None

    def key(self) -> str | None:
        """Read the new key, where one was named. Ends the command with a sentence where it cannot be read."""
        return secret_given(self.sevenstamp_key, "--sevenstamp-key") if self.sevenstamp_key else None


async def _edit(host: Host, change: _Change, as_json: bool) -> None:
    # the stored connection says which connector it has, and so which of the settings are secret
    before = await host.services.connections.get(change.connection_id)
    connection = await host.services.connections.edit(
        change.connection_id,
        change.settings.with_secrets(host, before.connector),
        key=change.key(),
        rule=change.options.change if change.options else None,
        locations=change.locations,
        title=change.title,
        poll_seconds=change.poll_seconds,
    )
    await _show_change(host, connection, as_json, "Changed")


@app.command()
def pause(connection_id: str) -> None:
    """Read nothing and send nothing until `resume`; hooks are still kept."""
    run_with_host(partial(_pause, connection_id=connection_id))


async def _pause(host: Host, connection_id: str) -> None:
    await host.services.connections.pause(connection_id)
    say(f"✓ Paused. `connectors connection resume {connection_id}` catches up.")


@app.command()
def resume(connection_id: str) -> None:
    """Go on; the receipts of the pause earn their stamps."""
    run_with_host(partial(_resume, connection_id=connection_id))


async def _resume(host: Host, connection_id: str) -> None:
    await host.services.connections.resume(connection_id)
    say("✓ Working again.")


@app.command()
def recheck(connection_id: str) -> None:
    """Ask till and 7stamp whether a connection that was refused is let in again; it works again then."""
    run_with_host(partial(_recheck, connection_id=connection_id))


async def _recheck(host: Host, connection_id: str) -> None:
    await host.services.connections.recheck(connection_id)
    say("✓ Working again.")


@app.command()
def remove(connection_id: str, yes: Yes = False) -> None:
    """Forget a connection and its secrets; its ledger stays, and a new connection to the account takes it over."""
    # looked up before the question: an unknown id is refused at once, and whoever answers sees what is given up; the
    # host is closed meanwhile, so nothing of the database is held while a person thinks
    title, waiting = run_with_host(partial(_count_waiting, connection_id=connection_id))
    left = f" {waiting} operations that still wait stay in the ledger unsent." if waiting else ""
    confirm(f"Disconnect {title}? Its token and key are forgotten.{left}", yes)
    run_with_host(partial(_remove, connection_id=connection_id))


class _Waiting(NamedTuple):
    """What is asked about before a connection goes: its title, and how many operations are not settled."""

    title: str
    operations: int


async def _count_waiting(host: Host, connection_id: str) -> _Waiting:
    connection = await host.services.connections.get(connection_id)
    return _Waiting(connection.title, await host.services.connections.count_unsettled(connection_id))


async def _remove(host: Host, connection_id: str) -> None:
    await host.services.connections.remove(connection_id)
    say("✓ Disconnected.")
