"""`connectors try`: a connector over a real till or its stub, without 7stamp and without a database.

Owns what was typed, and the loop of an afternoon: read, show, and again when a file is saved. Reading is `trial`'s.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated

import httpx
import typer

from connector_sdk.errors import ConnectorError
from connector_sdk.hooks import HookRequest
from connector_sdk.redaction import redact
from connector_sdk.testing.recording import Exchange
from connectors.cli.connection import Set, SettingsFile, names_given, settings_given
from connectors.cli.options import AsJson
from connectors.cli.output import console, fail, run, say
from connectors.cli.secrets import secrets_given
from connectors.cli.targets import Target, connector_at
from connectors.cli.trial import Reading, Request, read_till, record
from connectors.cli.trial_display import show, show_as_json
from connectors.services import Refusal
from connectors.sync.tills import secret_fields

_MOST_HOOK_BYTES = 256 * 1024  # what a host takes of a hook
_LOOK_SECONDS = 0.3  # a save is read before whoever saved has turned to the terminal
_MOST_FILES = 2000  # a connector has a dozen: more is a folder named by mistake, such as a home
_SHORTEST_SECRET = 6
"""Shorter values are words that an error may rightly say."""


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
    record_to: Annotated[
        Path | None,
        typer.Option("--record", metavar="DIR", help="Keep what the till answered there, disguised."),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Again at every save, without asking the till anew.")] = (
        False
    ),
    most: Annotated[int, typer.Option(min=1, max=10_000, help="Show at most so many sales.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Read a till and show each sale, field by field, with the path on the wire that each field came from.

    Nothing is stored and nothing sent to 7stamp. Ends with 1 where something could not be read.
    """
    # said before anything is read: an option without effect would look like one that was obeyed
    if stub and (setting or settings_file or hook):
        fail("--stub brings its own settings and hooks: leave out --set and --hook")
    _refuse_unless(not header or hook is not None, "--header belongs to a hook: give its body with --hook FILE")
    _refuse_unless(not (watch and as_json), "--watch is for people: leave out --json")
    values = _settings(target, setting, settings_file)
    request = Request(target, values, _moment(since), _hook(hook, header or ()), stub, most)
    if watch:
        # Ctrl-C is the only way in which it ends, so that is success
        run(partial(_watch, request, hook, record_to), interrupted=0)
    else:
        _show_once(request, record_to, as_json)


def _show_once(request: Request, record_to: Path | None, as_json: bool) -> None:
    """Read and show once; end with 1 where something could not be read, after all of it was shown."""
    reading = run(partial(_read, request, record_to, quiet=as_json))
    if as_json:
        show_as_json(reading)
    else:
        show(reading, request.most)
    if reading.seen.unreadable or reading.forged:
        raise typer.Exit(1)


def _refuse_unless(fits: bool, sentence: str) -> None:
    if not fits:
        fail(sentence)


async def _read(request: Request, record_to: Path | None, *, quiet: bool) -> Reading:
    """Read once, and record it where asked. Raises `Refusal`, `ConnectorError`."""
    try:
        reading = await read_till(request, ())
    except (Refusal, ConnectorError):
        raise
    except Exception as error:  # noqa: BLE001 - a connector that is being written may raise anything
        line = _line_of(error, _folder_of(request.target))
        raise Refusal(f"{type(error).__name__}: {_without_secrets(error, request)}{line}") from None
    if record_to is not None:
        await record(request, reading, record_to, quiet=quiet)
    return reading


# --- what was typed -------------------------------------------------------------------------------------------------


def _settings(target: str, setting: list[str], file: Path | None) -> dict[str, str]:
    """Read the settings as they were given, with the secrets that stand in files or come by standard input."""
    values, typed = settings_given(setting, file), names_given(setting)
    # only then is the connector asked which of its fields are secret: it may be one that cannot be imported yet
    if not any(_spells_a_place(values[name]) for name in typed):
        return values
    return secrets_given(values, typed, run(partial(_secret_fields, target)))


def _spells_a_place(value: str) -> bool:
    """Tell whether a value may say where a secret is, in place of the secret."""
    return value == "-" or value.startswith("@")


async def _secret_fields(target: str) -> set[str]:
    # waits for nothing: it is a coroutine because `run` turns a connector that cannot be imported into a sentence
    return secret_fields(connector_at(target))


def _moment(text: str | None) -> datetime:
    """Read `--since`, in UTC where it names no zone; yesterday where it is left out."""
    if text is None:
        return _yesterday()
    try:
        since = datetime.fromisoformat(text)
    except ValueError:
        fail(f"{text!r} is no day: write it as 2026-11-20 or 2026-11-20T08:00")
    return since if since.tzinfo else since.replace(tzinfo=UTC)


def _yesterday() -> datetime:
    return datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)


def _hook(file: Path | None, options: Sequence[str]) -> HookRequest | None:
    """Read a hook from its body's file and `--header` options; `None` where no file is given."""
    if file is None:
        return None
    headers = dict(_name_and_value(option) for option in options)
    return HookRequest("POST", headers, {}, _body_in(file))


def _name_and_value(option: str) -> tuple[str, str]:
    name, colon, value = option.partition(":")
    if not colon or not name.strip():
        fail("--header takes 'NAME: VALUE', as in --header 'X-Signature: 9f…'")
    return name.strip().lower(), value.strip()  # a host hands connectors the names in small letters


def _body_in(file: Path) -> bytes:
    try:
        body = file.read_bytes()
    except OSError as error:
        fail(f"{file} cannot be read: {error.strerror}")
    # refused as a host would: what is tried here must not work better than in service
    if len(body) > _MOST_HOOK_BYTES:
        fail(f"{file} is over 256 KiB, more than a hook may have")
    return body


# --- again at every save --------------------------------------------------------------------------------------------


async def _watch(request: Request, hook_file: Path | None, record_to: Path | None) -> None:
    """Read, and read again what was answered whenever a file is saved, until it is interrupted."""
    sys.dont_write_bytecode = True  # a file saved twice within a second must not be read from what was compiled before
    trial = _RepeatedTrial(record_to)
    while True:
        console.rule(datetime.now().astimezone().strftime("%H:%M:%S"))
        started, folder = time.monotonic(), _folder_of(request.target)
        # before it is read: what is saved meanwhile is read again
        before = _saved(folder, hook_file)
        await trial.show(request, folder)
        say(f"{time.monotonic() - started:.1f} s. Watching {folder.name}/: save a file to read again, Ctrl-C ends it.")
        while _saved(folder, hook_file) == before:  # noqa: ASYNC110 - nothing tells us of a save
            await asyncio.sleep(_LOOK_SECONDS)
        _unload(folder)
        request = _with_hook_from(hook_file, request)


@dataclass(slots=True)
class _RepeatedTrial:
    """What stays from one reading to the next: what the till answered, so that it is asked only once."""

    record_to: Path | None
    known: Sequence[Exchange] = ()

    async def show(self, request: Request, folder: Path) -> None:
        """Read and show once; an error is a line, for the next save may mend it."""
        try:
            await self._read_and_show(request)
        except (Refusal, ConnectorError, httpx.HTTPError) as error:
            say(f"✗ {_without_secrets(error, request)}")
        except Exception as error:  # noqa: BLE001 - what is being written may raise anything
            say(f"✗ {type(error).__name__}: {_without_secrets(error, request)}{_line_of(error, folder)}")

    async def _read_and_show(self, request: Request) -> None:
        reading = await read_till(request, self.known)
        # once, with what the till itself answered: later readings are of the same answers
        if not self.known and self.record_to is not None:
            await record(request, reading, self.record_to, quiet=False)
        # a stub answers in no time, and may be what was saved
        self.known = () if request.stub else reading.exchanges
        show(reading, request.most)


def _without_secrets(error: BaseException, request: Request) -> str:
    """Word an error without whatever was given to open the account: a library may put an address in it."""
    secrets = [value for value in request.values.values() if len(value) >= _SHORTEST_SECRET]
    return redact(str(error), secrets)


def _with_hook_from(file: Path | None, request: Request) -> Request:
    if file is None or request.hook is None:
        return request
    with suppress(OSError):  # it is being saved this moment: the next look finds it
        return replace(request, hook=replace(request.hook, body=file.read_bytes()))
    return request


def _folder_of(target: str) -> Path:
    """Find the folder of a connector's files. Raises `Refusal`."""
    if Path(target).is_dir():
        return Path(target).resolve()
    # the whole package, not the connector's module: mappings and stubs in other modules are saved too
    package = connector_at(target).__module__.partition(".")[0]
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise Refusal(f"the files of {target!r} are not found: name their folder")
    return Path(spec.origin).parent


def _saved(folder: Path, hook: Path | None) -> dict[str, int]:
    """Map each of the connector's files to when it was last saved, in nanoseconds."""
    times: dict[str, int] = {}
    for file in (*_python_files(folder), *([hook] if hook else [])):
        with suppress(OSError):  # deleted since it was listed
            times[str(file)] = file.stat().st_mtime_ns
    return times


def _python_files(folder: Path) -> list[Path]:
    # bounded, and without an environment's packages: all of it is looked at three times a second
    return [file for file in folder.rglob("*.py") if ".venv" not in file.parts][:_MOST_FILES]


def _unload(folder: Path) -> None:
    """Drop whatever was imported from a folder, so that it is imported anew."""
    # a copy of the names: the table changes while it is walked
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]
    # the import system remembers what folders held, and would miss a file that was added since
    importlib.invalidate_caches()


def _line_of(error: BaseException, folder: Path) -> str:
    """Name the innermost line of the author's own files at which an error passed; empty where there is none."""
    # walked to the end: the last match is the innermost, where the mistake most likely is
    traceback, line = error.__traceback__, ""
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        if file.startswith(str(folder)):
            line = f" ({Path(file).name}, line {traceback.tb_lineno})"
        traceback = traceback.tb_next
    return line
