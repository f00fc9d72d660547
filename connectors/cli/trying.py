"""`connectors try`: a connector over a real till or its stub, without 7stamp and without a database.

Owns the afternoon's loop: read, show each sale with where its fields came from, and again when a file is saved.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import httpx
import typer
from pydantic import BaseModel, ValidationError

from connector_sdk.connector import Connector, TillAccount
from connector_sdk.errors import ConnectorError, Forged, NotConfigured, NotSupported
from connector_sdk.hooks import HookRequest
from connector_sdk.http import production_transport
from connector_sdk.money import Money
from connector_sdk.redaction import redact
from connector_sdk.sale import Customer, Sale
from connector_sdk.testing import CannotShow, Sold, TillStub
from connector_sdk.testing.disguise import Undisguisable
from connector_sdk.testing.recording import Exchange, Recorder, Replay, Seen, make_recording, read_once, write_recording
from connector_sdk.testing.tracing import Document, Trace, sale_fields, trace
from connector_sdk.till_client import unpaced
from connectors.cli.connection import Set, SettingsFile, names_given, settings_given
from connectors.cli.kit import Target, connector_at, stub_of
from connectors.cli.output import console, fail, run, say, show_json, show_table
from connectors.cli.secrets import secrets_given
from connectors.services import Refusal, require_known_fields
from connectors.sync.field_errors import describe_field_errors
from connectors.sync.tills import app_settings
from connectors.web.console.forms import secret_fields

_MOST_HOOK = 256 * 1024
_LOOK_EVERY = 0.3
_MOST_FILES = 2000
_SHORTEST_SECRET = 6
_REREAD_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is to be tried, as it was typed."""

    target: str
    values: Mapping[str, str]
    since: datetime
    hook: HookRequest | None
    stub: bool
    most: int


@dataclass(frozen=True, slots=True)
class _Tried:
    """What came of it."""

    found: type[Connector[Any]]
    settings: BaseModel
    account: TillAccount
    seen: Seen
    traced: Trace
    exchanges: tuple[Exchange, ...]
    customers: Mapping[str, Customer]
    """Who the till's own customer ids are, as far as it was asked."""
    forged: str = ""


def try_(
    target: Target,
    setting: Set = [],  # noqa: B006 - typer reads it as the option's default
    settings_file: SettingsFile = None,
    since: Annotated[str | None, typer.Option(metavar="D", help="A day or moment; yesterday, by default.")] = None,
    hook: Annotated[Path | None, typer.Option(metavar="FILE", help="A request's body, instead of a poll.")] = None,
    header: Annotated[list[str] | None, typer.Option(metavar="'K: V'", help="A header of that request.")] = None,
    stub: Annotated[bool, typer.Option("--stub", help="At the connector's own stub, with a small morning's sales.")] = (
        False
    ),
    record: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep what the till answered there, disguised."),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Again at every save, without asking the till anew.")] = (
        False
    ),
    most: Annotated[int, typer.Option(min=1, max=10_000, help="Show at most so many sales.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Read a till and show each sale, field by field, with the path on the wire that each field came from.

    Nothing is stored and nothing sent to 7stamp. Ends with 1 where something could not be read.
    """
    if stub and (setting or settings_file or hook is not None):
        fail("--stub brings its own settings and hooks: leave out --set and --hook")
    if header and hook is None:
        fail("--header belongs to a hook: give its body with --hook FILE")
    if watch and as_json:
        fail("--watch is for people: leave out --json")
    values = _settings(target, setting, settings_file)
    asked = _Asked(target, values, _moment(since), _hook(hook, header or ()), stub, most)
    if watch:
        run(lambda: _watch(asked, hook, record), interrupted=0)
        return
    tried: list[_Tried] = []

    async def work() -> None:
        try:
            tried.append(await _once(asked, ()))
        except (Refusal, ConnectorError):
            raise
        except Exception as error:  # noqa: BLE001 - a connector that is being written may raise anything
            where = _where(error, _folder_of(asked.target))
            raise Refusal(f"{type(error).__name__}: {_safe(error, asked)}{where}") from None
        if record is not None:
            await _record(asked, tried[0], record, quiet=as_json)

    run(work)
    _show_json(tried[0]) if as_json else _show(tried[0], asked.most)
    if tried[0].seen.unreadable or tried[0].forged:
        raise typer.Exit(1)


# --- what was typed -------------------------------------------------------------------------------------------------


def _settings(target: str, setting: list[str], file: Path | None) -> dict[str, str]:
    """The settings as they were given, with the secrets that stand in files or come by standard input."""
    values, given = settings_given(setting, file), names_given(setting)
    if not any(values[name] == "-" or values[name].startswith("@") for name in given):
        return values

    async def work() -> set[str]:
        return secret_fields(connector_at(target))

    return secrets_given(values, given, run(work))


def _moment(text: str | None) -> datetime:
    if text is None:
        return datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        fail(f"{text!r} is no day: write it as 2026-11-20 or 2026-11-20T08:00")
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _hook(file: Path | None, headers: Sequence[str]) -> HookRequest | None:
    if file is None:
        return None
    given: dict[str, str] = {}
    for one in headers:
        name, colon, value = one.partition(":")
        if not colon or not name.strip():
            fail("--header takes 'NAME: VALUE', as in --header 'X-Signature: 9f…'")
        given[name.strip().lower()] = value.strip()
    try:
        body = file.read_bytes()
    except OSError as error:
        fail(f"{file} cannot be read: {error.strerror}")
    if len(body) > _MOST_HOOK:
        fail(f"{file} is over 256 KiB, more than a hook may have")
    return HookRequest("POST", given, {}, body)


# --- one reading ----------------------------------------------------------------------------------------------------


async def _once(asked: _Asked, known: Sequence[Exchange]) -> _Tried:
    """Read once; what is `known` already is not asked again. Raises `Refusal`, `ConnectorError`."""
    found = connector_at(asked.target)
    double = stub_of(found)() if asked.stub else None
    app = double.app() if double is not None else app_settings(found)
    values = double.settings() if double is not None else asked.values
    require_known_fields(found, values)
    try:
        settings = found.settings_model.model_validate(dict(values))
    except ValidationError as error:
        raise Refusal(
            f"the settings do not fit: {describe_field_errors(error)}; say them with --set FIELD=VALUE"
        ) from None
    inner = double.transport() if double is not None else production_transport()
    transport = Recorder(Replay(known, inner))
    try:
        account = await _account(found, settings, app, transport)
        checked = len(transport.exchanges)
        till = found(settings, app=app, account=account, transport=transport)
        hooks = _morning(double, found, asked.since) if double is not None else [asked.hook]
        forged, seen = _proven(till, hooks), await _read_all(till, asked.since, hooks)
        read = len(transport.exchanges)
        customers = await _customers(till, seen.sales[: asked.most])
        await till.aclose()
    finally:
        await transport.aclose()
    exchanges = tuple(transport.exchanges)
    traced = await _traced(found, settings, app, account, asked.since, exchanges[checked:read], hooks, seen)
    return _Tried(found, settings, account, seen, traced, exchanges, customers, forged)


async def _account(found: type[Connector[Any]], settings: BaseModel, app: Any, transport: Any) -> TillAccount:
    till = found(settings, app=app, transport=transport)
    try:
        return await till.check()
    finally:
        await till.aclose()


async def _read_all(till: Connector[Any], since: datetime, hooks: Sequence[HookRequest | None]) -> Seen:
    """What a poll (no hook), or some hooks, give together."""
    made = Seen()
    for hook in hooks:
        if hook is None and not till.can("poll"):
            raise Refusal(
                f"{till.info.title} cannot be polled: it sends. Give what it sent with --hook FILE, or --stub"
            )
        if hook is not None and not till.can("receive"):
            raise Refusal(f"{till.info.title} takes no hooks: leave out --hook")
        one = await read_once(till, since, hook)
        made = Seen((*made.items, *one.items), (*made.hints, *one.hints), one.ignored or made.ignored)
    return made


async def _customers(till: Connector[Any], sales: Sequence[Sale]) -> dict[str, Customer]:
    """Who the till's own customer ids are: a receipt may name nothing else."""
    ids = {one.customer.till_id for one in sales if one.customer and one.customer.till_id}
    found: dict[str, Customer] = {}
    for one in sorted(ids) if till.can("customer") else ():
        who = await till.customer(one)
        if who is not None:
            found[one] = who
    return found


def _proven(till: Connector[Any], hooks: Sequence[HookRequest | None]) -> str:
    """Why a hook's proof does not hold; empty where it does."""
    for hook in hooks:
        if hook is None:
            continue
        try:
            till.prove(hook)
        except (Forged, NotConfigured, NotSupported) as error:
            return str(error)
    return ""


def _morning(double: TillStub, found: type[Connector[Any]], since: datetime) -> list[HookRequest | None]:
    """A few sales at a stub; the hooks about them where the connector has nothing to poll."""
    now = datetime.now(UTC).replace(microsecond=0)
    some = max(now - since, timedelta(minutes=10)) / 10

    def money(text: str) -> Money:
        return Money.from_decimal(text, double.currency)

    who = double.customers[0] if double.customers else None
    receipts = [
        double.sell(Sold(money("12.50"), now - 4 * some, who, money("1.00"))),
        double.sell(Sold(money("7.00"), now - 3 * some)),
        double.sell(Sold(money("3.20"), now - 2 * some, redeem_code="FREECOFFEE")),
    ]
    with suppress(CannotShow):
        double.refund(receipts[1], money("2.00"))
    with suppress(CannotShow):
        double.spoil(receipts[2])
    if found.can("poll"):
        return [None]
    return [double.hook(one) for one in receipts]


async def _traced(
    found: type[Connector[Any]],
    settings: BaseModel,
    app: Any,
    account: TillAccount,
    since: datetime,
    exchanges: Sequence[Exchange],
    hooks: Sequence[HookRequest | None],
    seen: Seen,
) -> Trace:
    """Where the fields came from: what was answered is replayed with one value changed at a time."""
    if not seen.sales:
        return Trace([{} for _ in seen.items], [[] for _ in seen.items])
    posted = [one for one in hooks if one is not None]
    bodies = [*(one.body for one in posted), *(one.body for one in exchanges)]
    kinds = [*(("hook", str(at)) for at in range(len(posted))), *(one.endpoint for one in exchanges)]
    documents: list[Document] = [Document(*pair) for pair in zip(kinds, map(_parsed, bodies), strict=True)]

    async def reread(changed: Sequence[Document]) -> Sequence[Any]:
        now = [
            body if one is None else json.dumps(one).encode() for body, (_, one) in zip(bodies, changed, strict=True)
        ]
        again = [replace(one, body=body) for one, body in zip(posted, now, strict=False)]
        answers = [replace(one, body=body) for one, body in zip(exchanges, now[len(posted) :], strict=True)]
        till = found(settings, app=app, account=account, transport=Replay(answers))
        try:
            async with asyncio.timeout(_REREAD_SECONDS):
                with unpaced():
                    return (await _read_all(till, since, again or [None])).items
        finally:
            await till.aclose()

    return await trace(documents, reread)


def _parsed(body: bytes) -> Any:
    """A body's JSON; `None` where it has none."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


async def _record(asked: _Asked, tried: _Tried, folder: Path, *, quiet: bool) -> None:
    if asked.stub:
        raise Refusal("a stub's answers prove nothing about the till: record a real account's, without --stub")
    try:
        made = await make_recording(
            tried.found,
            tried.settings,
            app_settings(tried.found),
            tried.account,
            tried.exchanges,
            asked.since,
            asked.hook.body if asked.hook is not None else None,
        )
    except Undisguisable as error:
        raise Refusal(f"nothing is recorded: {error}") from None
    try:
        file = write_recording(made, folder)
    except OSError as error:
        raise Refusal(f"{folder} cannot be written: {error.strerror}") from None
    if quiet:
        return
    say(f"✓ {file}: {len(made.exchanges)} answers, secrets and people disguised. Look it through before you commit it.")
    if len(made.sales) != len(tried.seen.sales):
        say(f"  Disguised, only {len(made.sales)} of {len(tried.seen.sales)} receipts can still be read.")


# --- again and again ------------------------------------------------------------------------------------------------


async def _watch(asked: _Asked, hook_file: Path | None, record: Path | None) -> None:
    """Read, and read again what was answered whenever a file is saved, until it is interrupted."""
    sys.dont_write_bytecode = True  # a file saved twice within a second must not be read from what was compiled before
    known: Sequence[Exchange] = ()
    while True:
        console.rule(datetime.now().astimezone().strftime("%H:%M:%S"))
        started, folder = time.monotonic(), _folder_of(asked.target)
        before = _saved(folder, hook_file)
        try:
            tried = await _once(asked, known)
            if not known and record is not None:
                await _record(asked, tried, record, quiet=False)
            known = () if asked.stub else tried.exchanges
            _show(tried, asked.most)
        except (Refusal, ConnectorError, httpx.HTTPError) as error:
            say(f"✗ {_safe(error, asked)}")
        except Exception as error:  # noqa: BLE001 - what is being written may raise anything
            say(f"✗ {type(error).__name__}: {_safe(error, asked)}{_where(error, folder)}")
        say(f"{time.monotonic() - started:.1f} s. Watching {folder.name}/: save a file to read again, Ctrl-C ends it.")
        while _saved(folder, hook_file) == before:  # noqa: ASYNC110 - nothing tells us of a save
            await asyncio.sleep(_LOOK_EVERY)
        _forget(folder)
        asked = _with_hook_anew(asked, hook_file)


def _safe(error: BaseException, asked: _Asked) -> str:
    """What an error says, without whatever was given to open the account: a library may put an address in it."""
    return redact(str(error), [one for one in asked.values.values() if len(one) >= _SHORTEST_SECRET])


def _with_hook_anew(asked: _Asked, file: Path | None) -> _Asked:
    if file is None or asked.hook is None:
        return asked
    with suppress(OSError):
        return replace(asked, hook=replace(asked.hook, body=file.read_bytes()))
    return asked


def _folder_of(target: str) -> Path:
    if Path(target).is_dir():
        return Path(target).resolve()
    package = connector_at(target).__module__.partition(".")[0]
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise Refusal(f"the files of {target!r} are not found: name their folder")
    return Path(spec.origin).parent


def _saved(folder: Path, hook: Path | None) -> dict[str, int]:
    """When each file was last saved."""
    files = [one for one in folder.rglob("*.py") if ".venv" not in one.parts][:_MOST_FILES]
    found: dict[str, int] = {}
    for one in (*files, *([hook] if hook else [])):
        with suppress(OSError):
            found[str(one)] = one.stat().st_mtime_ns
    return found


def _forget(folder: Path) -> None:
    """Unload whatever was imported from a folder, so that it is imported anew."""
    inside = str(folder)
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(inside):
            del sys.modules[name]
    importlib.invalidate_caches()


def _where(error: BaseException, folder: Path) -> str:
    """The line in the author's own files where it was raised."""
    trail, said = error.__traceback__, ""
    while trail is not None:
        file = trail.tb_frame.f_code.co_filename
        if file.startswith(str(folder)):
            said = f" ({Path(file).name}, line {trail.tb_lineno})"
        trail = trail.tb_next
    return said


# --- showing --------------------------------------------------------------------------------------------------------


def _show(tried: _Tried, most: int) -> None:
    account = tried.account
    say(f"{tried.found.info.title}: {account.name} ({account.id}), {account.currency}, {account.zone}")
    if tried.forged:
        say(f"✗ The proof does not hold: {tried.forged}. A host would keep nothing of it; read all the same:")
    if tried.seen.hints:
        say(f"The hook names {len(tried.seen.hints)} receipts to read again: {', '.join(tried.seen.hints)}")
    if tried.seen.ignored:
        say(f"The hook says nothing of a sale: {tried.seen.ignored}")
    shown = 0
    for at, one in enumerate(tried.seen.items):
        if isinstance(one, Sale) and shown < most:
            shown += 1
            _show_sale(one, tried, at)
    for unreadable in tried.seen.unreadable:
        say(f"✗ receipt {unreadable.receipt_id or '?'}: {unreadable.where}: {unreadable.why}")
    if not tried.traced.whole:
        say("There was no time to follow every field: try fewer receipts, with a later --since.")
    more = len(tried.seen.sales) - shown
    hidden = f" ({more} not shown: --most {len(tried.seen.sales)})" if more else ""
    say(f"{len(tried.seen.sales)} sales read{hidden}, {len(tried.seen.unreadable)} could not be read.")


def _show_sale(one: Sale, tried: _Tried, at: int) -> None:
    came = tried.traced.fields[at]
    rows = [
        [name, _worded(value, tried.account), ", ".join(came.get(name, ()))]
        for name, value in sale_fields(one).items()
        if _says_something(value) or name in came
    ]
    who = tried.customers.get((one.customer.till_id if one.customer else None) or "")
    if who is not None:
        rows += [[f"  → {name}", text, "asked for"] for name, text in who.model_dump(exclude_none=True).items()]
    show_table([f"receipt {one.receipt_id}", "value", "from"], rows, "")
    for path in tried.traced.needed[at]:
        say(f"  {path} is needed to read it")
    say("")


def _says_something(value: Any) -> bool:
    """Whether a field is more than the nothing that it begins with."""
    return any(map(_says_something, value)) if isinstance(value, tuple) else bool(value) or isinstance(value, Money)


def _worded(value: Any, account: TillAccount) -> str:
    if isinstance(value, datetime):
        return value.astimezone(ZoneInfo(account.zone)).isoformat(sep=" ")
    if isinstance(value, tuple):
        return ", ".join(str(one) for one in value)
    return "" if value is None else str(value)


def _show_json(tried: _Tried) -> None:
    rows = [
        {"sale": one.model_dump(mode="json"), "from": dict(tried.traced.fields[at]), "needs": tried.traced.needed[at]}
        for at, one in enumerate(tried.seen.items)
        if isinstance(one, Sale)
    ]
    unreadable = [{"receipt_id": one.receipt_id, "where": one.where, "why": one.why} for one in tried.seen.unreadable]
    show_json(
        {
            "connector": tried.found.info.name,
            "account": tried.account.model_dump(mode="json"),
            "proof": tried.forged or None,
            "hints": list(tried.seen.hints),
            "ignored": tried.seen.ignored or None,
            "sales": rows,
            "unreadable": unreadable,
        }
    )
