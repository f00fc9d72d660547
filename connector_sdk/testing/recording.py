"""Record what a real till answered and replay it for ever, with secrets and people disguised before anything is stored.

Owns recording and replaying exchanges, and the file that holds them; `disguise` owns what is hidden and how.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple, TypedDict, cast

import httpx
from pydantic import BaseModel, JsonValue, SecretStr

from connector_sdk.connector import Connector, TillAccount
from connector_sdk.errors import ConnectorError
from connector_sdk.hooks import Hints, HookRequest, Sales
from connector_sdk.http import bounded_body
from connector_sdk.sale import Sale, Unreadable
from connector_sdk.testing.disguise import Disguise, Undisguisable
from connector_sdk.till_client import replaying

FOLDER = "recordings"
"""The folder of a connector's package that holds its recordings."""
_RECORDED_HEADERS = ("content-type", "retry-after")  # those that change how an answer is read; others may hold cookies
_MOST_PAGES = 1000  # a connector under development may go round in a circle


class Endpoint(NamedTuple):
    """A method and a path without the host: exchanges of the same endpoint are answers of the same kind."""

    method: str
    path: str


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its answer; `path` is without the host, and the request's headers are not stored."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint that was asked."""
        return Endpoint(self.method, self.path)

    def answer(self) -> httpx.Response:
        """Return the answer again."""
        return httpx.Response(self.status, headers=dict(self.headers), content=self.body)


class Recorder(httpx.AsyncBaseTransport):
    """A transport that passes requests on and collects the `exchanges`, in their order."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner
        self.exchanges: list[Exchange] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Pass a request on, and record it with its whole answer."""
        response = await self._inner.handle_async_request(request)
        try:
            body = await bounded_body(response)
        finally:
            await response.aclose()
        exchange = Exchange(
            request.method,
            request.url.path,
            tuple(request.url.params.multi_items()),
            response.status_code,
            {name: response.headers[name] for name in _RECORDED_HEADERS if name in response.headers},
            body,
        )
        self.exchanges.append(exchange)
        # the stream of the original is used up: the recorded answer goes on in its place
        return exchange.answer()

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()


class Replay(httpx.AsyncBaseTransport):
    """A transport that answers as was recorded: by the same query if there is one, or the endpoint's next answer.

    A request to an endpoint that was never recorded goes to `fallback`, and fails where there is none.
    """

    def __init__(self, exchanges: Iterable[Exchange], fallback: httpx.AsyncBaseTransport | None = None) -> None:
        self._fallback = fallback
        self._unused: dict[Endpoint, list[Exchange]] = defaultdict(list)
        for exchange in exchanges:
            self._unused[exchange.endpoint].append(exchange)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request. Raises `httpx.ConnectError` where nothing was recorded for it."""
        exchange = self._take(request)
        if exchange is not None:
            return exchange.answer()
        if self._fallback is not None:
            return await self._fallback.handle_async_request(request)
        raise httpx.ConnectError(f"nothing was recorded for {request.method} {request.url.path}")

    def _take(self, request: httpx.Request) -> Exchange | None:
        """Take the exchange that answers a request; an endpoint's last one stays, and answers for ever."""
        unused = self._unused.get(Endpoint(request.method, request.url.path))
        if not unused:
            return None
        # a query may hold today's date, which no recording has: then the order of the requests decides
        query = tuple(request.url.params.multi_items())
        exchange = next((candidate for candidate in unused if candidate.query == query), unused[0])
        if len(unused) > 1:
            unused.remove(exchange)
        return exchange

    async def aclose(self) -> None:
        """Close the fallback."""
        if self._fallback is not None:
            await self._fallback.aclose()


# --- one reading ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Seen:
    """The receipts that one read, or one hook, gave, in their order.

    `hints` are the ids that a thin hook named; `ignored` is the reason for which a hook was ignored, or what else it
    was.
    """

    items: tuple[Sale | Unreadable, ...] = ()
    hints: tuple[str, ...] = ()
    ignored: str = ""

    @property
    def sales(self) -> list[Sale]:
        """The receipts that could be mapped."""
        return [item for item in self.items if isinstance(item, Sale)]

    @property
    def unreadable(self) -> list[Unreadable]:
        """The receipts that could not."""
        return [item for item in self.items if isinstance(item, Unreadable)]


async def read_once(connector: Connector[BaseModel], since: datetime, hook: HookRequest | None = None) -> Seen:
    """Poll a till from a moment, or receive a hook and fetch the receipts that it names. Raises `ConnectorError`."""
    if hook is None:
        return Seen(tuple([item async for item in _poll(connector, since)]))
    match connector.receive(hook):
        case Sales(sales, unreadable):
            return Seen((*sales, *unreadable))
        case Hints(hints):
            return await _fetch_hinted(connector, tuple(hint.receipt_id for hint in hints))
        # `Ignored` says why; of `AccountChanged` only its name can be told, for it may carry a token
        case other:
            return Seen(ignored=getattr(other, "why", type(other).__name__))


async def _fetch_hinted(connector: Connector[BaseModel], receipt_ids: tuple[str, ...]) -> Seen:
    """Fetch the receipts of a thin hook, where the connector can; those that the till does not know are left out."""
    fetched = [await connector.fetch(receipt_id) for receipt_id in receipt_ids] if connector.can("fetch") else []
    return Seen(tuple(sale for sale in fetched if sale is not None), receipt_ids)


async def _poll(connector: Connector[BaseModel], since: datetime) -> AsyncIterator[Sale | Unreadable]:
    pages = 0
    async for page in connector.poll(since):
        for sale in page.sales:
            yield sale
        for unreadable in page.unreadable:
            yield unreadable
        pages += 1
        if pages >= _MOST_PAGES:
            return


# --- the file ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Recording:
    """One reading of a real account: the exchanges, and the sales that were read from them then.

    `made` is the day (ISO 8601, UTC) and `since` the moment from which the till was polled; `hook` is the body of the
    hook that was received instead, where it was one. The fields are those of the file.
    """

    connector: str
    made: str
    since: str
    settings: Mapping[str, JsonValue]
    # `Any` is forced by pydantic-settings, whose initialiser mixes options of its own with the model's fields
    app: Mapping[str, Any]
    account: Mapping[str, JsonValue]
    exchanges: tuple[Exchange, ...]
    hook: bytes | None = field(default=None, repr=False)
    sales: tuple[Mapping[str, JsonValue], ...] = ()

    async def read(self, connector_class: type[Connector[BaseModel]]) -> Seen:
        """Read the recording with a connector as it is now. Raises what the connector raises."""
        app = connector_class.app_model(**self.app) if connector_class.app_model is not None else None
        connector = connector_class(
            connector_class.settings_model.model_validate(dict(self.settings)),
            app=app,
            account=TillAccount.model_validate(dict(self.account)),
            transport=Replay(self.exchanges),
        )
        hook = HookRequest("POST", {}, {}, self.hook) if self.hook is not None else None
        try:
            # no rate limit and no retries: a recorded 429 would otherwise be waited for
            with replaying():
                return await read_once(connector, datetime.fromisoformat(self.since), hook)
        finally:
            await connector.aclose()

    async def difference(self, connector_class: type[Connector[BaseModel]]) -> str:
        """Say in a sentence how the sales read now differ from those read then; empty where they do not."""
        try:
            now = _sales_to_json(await self.read(connector_class))
        except (ConnectorError, httpx.HTTPError) as error:
            return f"it cannot be read any more: {type(error).__name__}: {error}"
        except ValueError as error:
            return f"its settings do not fit any more: {error}"
        if len(now) != len(self.sales):
            return f"{len(self.sales)} receipts were read from it, and {len(now)} are now"
        for old, new in zip(self.sales, now, strict=True):
            for name in new:
                if old.get(name) != new[name]:
                    return f"receipt {new['receipt_id']}: {name} was {old.get(name)}, and is {new[name]}"
        return ""

    def to_text(self) -> str:
        """Return the file's text, a line for each value: people look it through before they commit it."""
        rows = {
            "connector": self.connector,
            "made": self.made,
            "since": self.since,
            "settings": dict(self.settings),
            "app": dict(self.app),
            "account": dict(self.account),
            "hook": _body_to_lines(self.hook) if self.hook is not None else None,
            "exchanges": [_exchange_to_json(exchange) for exchange in self.exchanges],
            "sales": [dict(sale) for sale in self.sales],
        }
        return json.dumps(rows, ensure_ascii=False, indent=1) + "\n"

    @classmethod
    def from_text(cls, text: str) -> Recording:
        """Parse a file's text. Raises `ValueError`."""
        try:
            rows = json.loads(text)
            return cls(
                connector=rows["connector"],
                made=rows["made"],
                since=rows["since"],
                settings=rows["settings"],
                app=rows["app"],
                account=rows["account"],
                exchanges=tuple(map(_exchange_from_json, rows["exchanges"])),
                hook=_body_from_lines(rows["hook"]) if rows["hook"] is not None else None,
                sales=tuple(rows["sales"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"this is no recording: {error}") from None


class _ExchangeRow(TypedDict):
    """An exchange in the file."""

    method: str
    path: str
    query: list[list[str]]
    status: int
    headers: dict[str, str]
    body: list[str]


def _exchange_to_json(exchange: Exchange) -> _ExchangeRow:
    return {
        "method": exchange.method,
        "path": exchange.path,
        "query": [list(pair) for pair in exchange.query],
        "status": exchange.status,
        "headers": dict(exchange.headers),
        "body": _body_to_lines(exchange.body),
    }


def _exchange_from_json(row: _ExchangeRow) -> Exchange:
    return Exchange(
        row["method"],
        row["path"],
        tuple((name, value) for name, value in row["query"]),
        row["status"],
        row["headers"],
        _body_from_lines(row["body"]),
    )


# A body is stored as its lines, so that people can look it through and a diff shows the line that changed; joined again
# it is the same to the last byte.


def _body_to_lines(body: bytes) -> list[str]:
    return body.decode("utf-8", "replace").split("\n")


def _body_from_lines(lines: Iterable[str]) -> bytes:
    return "\n".join(lines).encode()


def _sales_to_json(seen: Seen) -> tuple[dict[str, JsonValue], ...]:
    return tuple(sale.model_dump(mode="json") for sale in seen.sales)


async def make_recording(
    connector_class: type[Connector[BaseModel]],
    settings: BaseModel,
    app: BaseModel | None,
    account: TillAccount,
    exchanges: Iterable[Exchange],
    since: datetime,
    hook: bytes | None = None,
) -> Recording:
    """Make a recording of a reading: disguise it, and read the sales from the disguised answers.

    Raises `Undisguisable` where a body cannot be understood, or a secret still stands in the result.
    """
    disguise = Disguise([*_secrets_of(settings), *_secrets_of(app)])
    recording = Recording(
        connector=connector_class.info.name,
        made=datetime.now(UTC).date().isoformat(),
        since=since.isoformat(),
        settings=_disguise_settings(settings, disguise),
        app=_disguise_settings(app, disguise),
        account=cast(Mapping[str, JsonValue], disguise.value(account.model_dump(mode="json"))),
        exchanges=tuple(_disguise_exchange(exchange, disguise) for exchange in exchanges),
        hook=disguise.body(hook) if hook is not None else None,
    )
    # the last line of defence, over the very text that would be written
    if disguise.holds_secret(recording.to_text()):
        raise Undisguisable("a secret of the settings is still in it, written in a way that we do not know")
    # read from the disguised answers, not taken from the reading itself: its sales hold real people
    return replace(recording, sales=_sales_to_json(await recording.read(connector_class)))


def _disguise_exchange(exchange: Exchange, disguise: Disguise) -> Exchange:
    return replace(
        exchange,
        path=disguise.text(exchange.path),
        query=tuple((name, str(disguise.value(value, name))) for name, value in exchange.query),
        body=disguise.body(exchange.body),
    )


def _secrets_of(model: BaseModel | None) -> list[str]:
    """Return the values of a model's secret fields."""
    values = [getattr(model, name) for name in type(model).model_fields] if model is not None else []
    return [value.get_secret_value() for value in values if isinstance(value, SecretStr)]


def _disguise_settings(model: BaseModel | None, disguise: Disguise) -> dict[str, JsonValue]:
    """Dump settings so that they validate again, with secrets and people disguised."""
    if model is None:
        return {}
    dump: dict[str, JsonValue] = model.model_dump(mode="json")
    for name in dump:
        value = getattr(model, name)
        if isinstance(value, SecretStr):  # its dump is a row of asterisks, which a connector would refuse
            dump[name] = disguise.text(value.get_secret_value())
        elif isinstance(value, str):
            dump[name] = disguise.text(value)
    return dump


class RecordingFile(NamedTuple):
    """A file of a package's recordings: its name, and the recording or a sentence why it cannot be read."""

    name: str
    content: Recording | str


def load_recordings(connector_class: type[Connector[BaseModel]]) -> list[RecordingFile]:
    """Load a connector's recordings from its package, by file name; those of the package's others are left out."""
    package = connector_class.__module__.partition(".")[0]
    try:
        folder = resources.files(package) / FOLDER
        paths = sorted((path for path in folder.iterdir() if path.name.endswith(".json")), key=lambda path: path.name)
    except (OSError, ModuleNotFoundError, NotADirectoryError):  # it ships none
        return []
    files: list[RecordingFile] = []
    for path in paths:
        try:
            recording = Recording.from_text(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            files.append(RecordingFile(path.name, str(error)))
            continue
        if recording.connector == connector_class.info.name:
            files.append(RecordingFile(path.name, recording))
    return files


def write_recording(recording: Recording, folder: Path) -> Path:
    """Write a recording into a folder, under a name that is free, and return the path. Raises `OSError`."""
    folder.mkdir(parents=True, exist_ok=True)
    kind = "hook" if recording.hook is not None else "poll"
    number = 1
    while (path := folder / f"{recording.made}-{kind}-{number}.json").exists():
        number += 1
    path.write_text(recording.to_text(), encoding="utf-8")
    return path
