"""What a real till answered, kept once and replayed for ever: secrets and people made unrecognisable first.

Owns keeping and replaying exchanges, and the file they are kept in; `disguise` owns what is hidden and how.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

import httpx
from pydantic import BaseModel, SecretStr

from connector_sdk.connector import Connector, TillAccount
from connector_sdk.errors import ConnectorError
from connector_sdk.hooks import Hints, HookRequest, Sales
from connector_sdk.http import bounded_body
from connector_sdk.sale import Checkpoint, Sale, Unreadable
from connector_sdk.testing.disguise import Disguise, Undisguisable
from connector_sdk.till_client import unpaced

FOLDER = "recordings"
"""Where a connector's package keeps its recordings."""
_KEPT_HEADERS = ("content-type", "retry-after")
_MOST_PAGES = 1000


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its answer; `path` is without the host, and nothing of the request's headers is kept."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def endpoint(self) -> tuple[str, str]:
        return self.method, self.path

    def answer(self) -> httpx.Response:
        return httpx.Response(self.status, headers=dict(self.headers), content=self.body)


class Recorder(httpx.AsyncBaseTransport):
    """Passes calls on, and keeps what was said."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner
        self.exchanges: list[Exchange] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        try:
            body = await bounded_body(response)
        finally:
            await response.aclose()
        headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
        query = tuple(request.url.params.multi_items())
        self.exchanges.append(
            Exchange(request.method, request.url.path, query, response.status_code, headers, bytes(body))
        )
        return self.exchanges[-1].answer()

    async def aclose(self) -> None:
        await self._inner.aclose()


class Replay(httpx.AsyncBaseTransport):
    """Answers as was recorded: by the same query where there is one, or else by what was asked next of that path.

    What was never recorded is asked of `otherwise`, and fails where there is none.
    """

    def __init__(self, exchanges: Iterable[Exchange], otherwise: httpx.AsyncBaseTransport | None = None) -> None:
        self._otherwise = otherwise
        self._left: dict[tuple[str, str], list[Exchange]] = defaultdict(list)
        for one in exchanges:
            self._left[one.endpoint].append(one)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        left = self._left.get((request.method, request.url.path), [])
        query = tuple(request.url.params.multi_items())
        found = next((one for one in left if one.query == query), left[0] if left else None)
        if found is None:
            if self._otherwise is not None:
                return await self._otherwise.handle_async_request(request)
            raise httpx.ConnectError(f"nothing was recorded for {request.method} {request.url.path}")
        if len(left) > 1:  # the last answer goes on being given
            left.remove(found)
        return found.answer()

    async def aclose(self) -> None:
        if self._otherwise is not None:
            await self._otherwise.aclose()


# --- one reading ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Seen:
    """What one read, or one hook, gave, in its order; `hints` are receipts that a thin hook named."""

    items: tuple[Sale | Unreadable, ...] = ()
    hints: tuple[str, ...] = ()
    ignored: str = ""

    @property
    def sales(self) -> list[Sale]:
        return [one for one in self.items if isinstance(one, Sale)]

    @property
    def unreadable(self) -> list[Unreadable]:
        return [one for one in self.items if isinstance(one, Unreadable)]


async def read_once(till: Connector[Any], since: datetime, hook: HookRequest | None = None) -> Seen:
    """Poll a till from a moment, or read a hook and whatever receipts it names. Raises `ConnectorError`."""
    if hook is None:
        items = [one async for one in _polled(till, since)]
        return Seen(tuple(items))
    match till.receive(hook):
        case Sales(sales, unreadable):
            return Seen((*sales, *unreadable))
        case Hints(hints):
            names = tuple(one.receipt_id for one in hints)
            found = [await till.fetch(one) for one in names] if till.can("fetch") else []
            return Seen(tuple(one for one in found if one is not None), names)
        case other:
            return Seen(ignored=getattr(other, "why", type(other).__name__))


async def _polled(till: Connector[Any], since: datetime) -> AsyncIterator[Sale | Unreadable]:
    number = 0
    async for page in till.poll(Checkpoint(at=since)):
        for sale in page.sales:
            yield sale
        for unreadable in page.unreadable:
            yield unreadable
        number += 1
        if number >= _MOST_PAGES:
            return


# --- the file -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Recording:
    """One reading of a real account: what was asked and answered, and the sales that were read from it then."""

    connector: str
    made: str
    since: str
    settings: Mapping[str, Any]
    app: Mapping[str, Any]
    account: Mapping[str, Any]
    exchanges: tuple[Exchange, ...]
    hook: bytes | None = field(default=None, repr=False)
    sales: tuple[Mapping[str, Any], ...] = ()

    async def read(self, found: type[Connector[Any]]) -> Seen:
        """Read it anew with a connector as it is now."""
        app = found.app_model(**self.app) if found.app_model is not None else None
        till = found(
            found.settings_model.model_validate(dict(self.settings)),
            app=app,
            account=TillAccount.model_validate(dict(self.account)),
            transport=Replay(self.exchanges),
        )
        hook = HookRequest("POST", {}, {}, self.hook) if self.hook is not None else None
        try:
            with unpaced():
                return await read_once(till, datetime.fromisoformat(self.since), hook)
        finally:
            await till.aclose()

    async def difference(self, found: type[Connector[Any]]) -> str:
        """How what is read now differs from what was read then, in a sentence; empty where it does not."""
        try:
            now = [one.model_dump(mode="json") for one in (await self.read(found)).sales]
        except (ConnectorError, httpx.HTTPError) as error:
            return f"it cannot be read any more: {type(error).__name__}: {error}"
        except ValueError as error:
            return f"its settings do not fit any more: {error}"
        if len(now) != len(self.sales):
            return f"{len(self.sales)} receipts were read from it, and {len(now)} are now"
        for then, one in zip(self.sales, now, strict=True):
            for name in one:
                if then.get(name) != one[name]:
                    return f"receipt {one['receipt_id']}: {name} was {then.get(name)}, and is {one[name]}"
        return ""

    def written(self) -> str:
        """The file's text: for people to look through before they commit it."""
        rows = {
            "connector": self.connector,
            "made": self.made,
            "since": self.since,
            "settings": dict(self.settings),
            "app": dict(self.app),
            "account": dict(self.account),
            "hook": _lines(self.hook) if self.hook is not None else None,
            "exchanges": [
                {
                    "method": one.method,
                    "path": one.path,
                    "query": [list(pair) for pair in one.query],
                    "status": one.status,
                    "headers": dict(one.headers),
                    "body": _lines(one.body),
                }
                for one in self.exchanges
            ],
            "sales": [dict(one) for one in self.sales],
        }
        return json.dumps(rows, ensure_ascii=False, indent=1) + "\n"

    @classmethod
    def of(cls, text: str) -> Recording:
        """A recording from its file's text. Raises `ValueError`."""
        try:
            raw = json.loads(text)
            exchanges = tuple(
                Exchange(
                    one["method"],
                    one["path"],
                    tuple((name, value) for name, value in one["query"]),
                    one["status"],
                    one["headers"],
                    _body(one["body"]),
                )
                for one in raw["exchanges"]
            )
            return cls(
                connector=raw["connector"],
                made=raw["made"],
                since=raw["since"],
                settings=raw["settings"],
                app=raw["app"],
                account=raw["account"],
                exchanges=exchanges,
                hook=_body(raw["hook"]) if raw["hook"] is not None else None,
                sales=tuple(raw["sales"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"this is no recording: {error}") from None


def _lines(body: bytes) -> list[str]:
    """A body as people can look it through, and as it was to the last sign."""
    return body.decode("utf-8", "replace").split("\n")


def _body(lines: Iterable[str]) -> bytes:
    return "\n".join(lines).encode()


async def recorded(
    found: type[Connector[Any]],
    settings: BaseModel,
    app: BaseModel | None,
    account: TillAccount,
    exchanges: Iterable[Exchange],
    since: datetime,
    hook: bytes | None = None,
) -> Recording:
    """A recording of a reading, disguised, with the sales that are read from the disguised answers.

    Raises `Undisguisable` where something cannot be looked through, or still tells a secret.
    """
    hide = Disguise([*_secrets(settings), *_secrets(app)])
    made = Recording(
        connector=found.info.name,
        made=datetime.now(UTC).date().isoformat(),
        since=since.isoformat(),
        settings=_plain(settings, hide),
        app=_plain(app, hide),
        account=hide.value(account.model_dump(mode="json")),
        exchanges=tuple(
            replace(
                one,
                path=hide.text(one.path),
                query=tuple((name, hide.value(value, name)) for name, value in one.query),
                body=hide.body(one.body),
            )
            for one in exchanges
        ),
        hook=hide.body(hook) if hook is not None else None,
    )
    if hide.tells(made.written()):
        raise Undisguisable("a secret of the settings is still in it, written in a way that we do not know")
    seen = await made.read(found)
    return replace(made, sales=tuple(one.model_dump(mode="json") for one in seen.sales))


def _secrets(model: BaseModel | None) -> list[str]:
    values = [getattr(model, name) for name in type(model).model_fields] if model is not None else []
    return [one.get_secret_value() for one in values if isinstance(one, SecretStr)]


def _plain(model: BaseModel | None, hide: Disguise) -> dict[str, Any]:
    """Settings as they can be given again, secrets disguised."""
    if model is None:
        return {}
    found = model.model_dump(mode="json")
    for name in found:
        value = getattr(model, name)
        if isinstance(value, SecretStr):
            found[name] = hide.text(value.get_secret_value())
        elif isinstance(value, str):
            found[name] = hide.text(value)
    return found


def recordings_of(found: type[Connector[Any]]) -> list[tuple[str, Recording | str]]:
    """The recordings that a connector's package ships, by file name; a sentence for one that cannot be read."""
    package = found.__module__.partition(".")[0]
    try:
        folder = resources.files(package) / FOLDER
        files = sorted((one for one in folder.iterdir() if one.name.endswith(".json")), key=lambda one: one.name)
    except (OSError, ModuleNotFoundError, NotADirectoryError):
        return []
    made: list[tuple[str, Recording | str]] = []
    for file in files:
        try:
            one = Recording.of(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            made.append((file.name, str(error)))
            continue
        if one.connector == found.info.name:
            made.append((file.name, one))
    return made


def keep(recording: Recording, folder: Path) -> Path:
    """Write a recording into a folder, under a name that is free. Raises `OSError`."""
    folder.mkdir(parents=True, exist_ok=True)
    kind = "hook" if recording.hook is not None else "poll"
    number = 1
    while (file := folder / f"{recording.made}-{kind}-{number}.json").exists():
        number += 1
    file.write_text(recording.written(), encoding="utf-8")
    return file
