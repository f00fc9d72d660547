"""The HTTP client of a connector: one deadline, a bounded retry, nothing secret in errors.

Owns how a till is called, paged through and shown its grant; the paths and the meaning of their answers are the
connector's.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal, TypeAlias
from urllib.parse import parse_qsl, urljoin, urlsplit

import httpx

from connector_sdk.authorisation import Credentials, Grant
from connector_sdk.errors import (
    Ambiguous,
    BadPayload,
    ConnectorError,
    NotAuthorised,
    NotFound,
    RateLimited,
    TillUnavailable,
)
from connector_sdk.http import Reply, never_sent, production_transport, retry_after, send
from connector_sdk.json_text import Json, parse_json
from connector_sdk.rate_limit import RateLimit, is_paced, unpaced
from connector_sdk.redaction import redact

Judge: TypeAlias = Callable[[int, Json], None]
"""Inspect an answer's status and its parsed body, and raise a `ConnectorError` where it is a refusal."""

Authenticate: TypeAlias = Callable[[Grant], Mapping[str, str]]
"""Make the request headers that show a grant to the till."""

_LONGEST_CURSOR = 4000
_MOST_PAGES = 10_000  # a read that goes on for ever must end
_BACKOFF_SECONDS = 0.4  # before the second attempt; doubled before each further one

_retries: ContextVar[bool] = ContextVar("retries", default=True)


@contextmanager
def replaying() -> Iterator[None]:
    """Suspend rate limits and retries in this context: recorded answers come at once, or never."""
    token = _retries.set(False)
    try:
        with unpaced():
            yield
    finally:
        _retries.reset(token)


def bearer(grant: Grant) -> Mapping[str, str]:
    """Show a grant's `access_token` as most tills want it: `Authorization: Bearer …`."""
    return {"Authorization": f"Bearer {grant.secret('access_token')}"}


@dataclass(frozen=True, slots=True)
class Cursor:
    """Paging by a cursor: `member` is where an answer has the next one (`meta.cursor`), `sent_as` how it is sent back.

    The last page has none there, or an empty one. Where a till repeats the cursor at the end, `until_empty` is where an
    answer has its list (`purchases`): a page whose list is empty is the last one.
    """

    member: str
    sent_as: str = "cursor"
    until_empty: str | None = None


@dataclass(frozen=True, slots=True)
class Link:
    """Paging by the address of the next page, at `member` of an answer (`links.next`), or in its `Link` header."""

    member: str | None = None


@dataclass(frozen=True, slots=True)
class _Request:
    """One request to a till: a read, which may be repeated, or a write, which must not."""

    kind: Literal["read", "write"]
    path: str
    params: tuple[tuple[str, str], ...]
    body: Json = None
    form: Mapping[str, str] | None = None
    write_method: str = "POST"

    @property
    def method(self) -> str:
        """The HTTP method: a read that carries a body is a search, which tills take by POST."""
        if self.kind == "write":
            return self.write_method
        return "GET" if self.body is None else "POST"

    @property
    def unclear(self) -> type[Ambiguous | TillUnavailable]:
        """The error for an outcome that cannot be known: a read changed nothing, a write may have taken effect."""
        return Ambiguous if self.kind == "write" else TillUnavailable


@dataclass(frozen=True, slots=True)
class _Answer:
    """A parsed answer, with the HTTP answer it is from."""

    reply: Reply
    content: Json


def accept_all(_status: int, _content: Json) -> None:
    """Find no refusal in any answer: the judge of a till that says all by its HTTP status."""


class TillClient:
    """A JSON client over HTTP for one till account; numbers with a point become `Decimal`, never a float.

    `judge` inspects every answer that is JSON and below 500, with its status, and raises the error that a refusal
    means; what it lets pass is then judged by its status. `limit` paces the calls; `deadline`, in seconds, covers one
    call with all its `attempts`. With `credentials` every request shows their grant as `authenticate` says, and one
    that is refused is sent once more with a renewed grant. `secrets` are masked in every error, as those of the grant
    are; `query` and `headers` go with every request. Without a `transport` the client makes the production one and
    closes it; tests pass their own.
    """

    def __init__(
        self,
        base_url: str,
        *,
        limit: RateLimit,
        judge: Judge = accept_all,
        credentials: Credentials | None = None,
        authenticate: Authenticate = bearer,
        secrets: Sequence[str] = (),
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        deadline: float = 15.0,
        attempts: int = 3,
    ) -> None:
        self._judge = judge
        self._limit = limit
        self._credentials = credentials
        self._authenticate = authenticate
        self._secrets = tuple(secrets)
        self._query = dict(query or {})
        self._deadline = deadline
        self._attempts = attempts
        self._base = base_url.rstrip("/")
        # a transport passed in is the caller's to close: many accounts share one pool
        self._owns_transport = transport is None
        self._transport = transport or production_transport()
        self._headers = dict(headers or {})

    async def read(self, path: str, params: Mapping[str, str] | None = None, *, body: Json = None) -> Json:
        """Ask for something, by GET, or by POST where the question is a JSON `body`; return the parsed answer.

        Tries again while the deadline lasts: only for what changes nothing at the till. Raises `NotAuthorised`,
        `NotFound`, `RateLimited`, `TillUnavailable`, `BadPayload`, or what `judge` raises.
        """
        return (await self._read(_Request("read", path, _pairs(params), body))).content

    async def write(
        self,
        path: str,
        *,
        body: Json = None,
        form: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        method: Literal["POST", "PUT", "PATCH", "DELETE"] = "POST",
    ) -> Json:
        """Change something, with a JSON `body` or a `form`, and return the parsed answer; `None` of an empty one.

        Sent once, and once more only where the till refused the grant. Raises `Ambiguous` where it may have taken
        effect.
        """
        request = _Request("write", path, _pairs(params), body, form, method)
        return (await self._authorised(request, time.monotonic() + self._deadline)).content

    async def pages(
        self, path: str, params: Mapping[str, str] | None = None, *, by: Cursor | Link, body: Json = None
    ) -> AsyncIterator[Json]:
        """Read page after page and yield each parsed answer, until one names no next page.

        Raises what `read` does, `TillUnavailable` where the pages go in a circle, and `BadPayload` after ten thousand
        of them: an end that is not reached is never a silent one.
        """
        asked = set[str]()
        request = _Request("read", path, _pairs(params), body)
        for _ in range(_MOST_PAGES):
            answer = await self._read(request)
            yield answer.content
            following = _next_page(answer, by, path)
            if following is None:
                return
            if following in asked:
                raise TillUnavailable(f"{path}: the pages go in a circle")
            asked.add(following)
            request = self._following(request, by, following)
        raise BadPayload(path, "has more pages than can be read")

    def _following(self, request: _Request, by: Cursor | Link, following: str) -> _Request:
        """Return the request for the page that an answer names."""
        if isinstance(by, Link):
            # the address comes with an answer and leads to the same till only: the grant goes with it
            target = urljoin(f"{self._base}/{request.path}", following)
            if not target.startswith(f"{self._base}/"):
                raise BadPayload(request.path, "the next page is at another address than the till's")
            parts = urlsplit(target[len(self._base) + 1 :])
            # apart from the path, which stands in errors: what comes behind may hold a token
            return _Request("read", parts.path, tuple(parse_qsl(parts.query, keep_blank_values=True)), request.body)
        if request.body is not None:
            return _Request("read", request.path, request.params, {**request.body, by.sent_as: following})
        params = [(name, value) for name, value in request.params if name != by.sent_as]
        return _Request("read", request.path, (*params, (by.sent_as, following)))

    async def _read(self, request: _Request) -> _Answer:
        """Send a read, again after a failure that may pass, while the deadline lasts."""
        end = time.monotonic() + self._deadline
        attempt = 1
        while True:
            try:
                return await self._authorised(request, end)
            except (TillUnavailable, RateLimited) as error:
                pause = _retry_pause(error, attempt)
                # a pause that would end after the deadline is not begun: the caller learns of the failure at once
                if attempt >= self._attempts or time.monotonic() + pause >= end or not _retries.get():
                    raise
                await asyncio.sleep(pause)
                attempt += 1

    async def _authorised(self, request: _Request, end: float) -> _Answer:
        """Send a request with the grant, and once more with a renewed one where the till refuses it."""
        if self._credentials is None:
            return await self._send(request, end, None)
        grant = self._credentials.grant
        try:
            return await self._send(request, end, grant)
        except NotAuthorised as error:
            # a right that the grant lacks is not gained by renewing it
            if type(error) is not NotAuthorised:
                raise
        try:
            async with asyncio.timeout(max(0.0, end - time.monotonic())):
                grant = await self._credentials.renew(grant)
        except TimeoutError:
            raise TillUnavailable(f"{request.path}: the grant could not be renewed in time") from None
        return await self._send(request, end, grant)

    async def _send(self, request: _Request, end: float, grant: Grant | None) -> _Answer:
        """Wait for a turn, send a request and parse its answer, all before `end`."""
        remaining = end - time.monotonic()
        waited = await self._limit.turn(most=remaining)
        headers = {**self._headers, **(self._authenticate(grant) if grant is not None else {})}
        content = None
        if request.body is not None:
            headers["Content-Type"] = "application/json"
            content = json.dumps(request.body).encode()
        try:
            reply = await send(
                self._transport,
                request.method,
                f"{self._base}/{request.path}",
                deadline=remaining - waited,
                content=content,
                params=self._with_query(request.params),
                headers=headers,
                data=request.form,
            )
        except (httpx.HTTPError, TimeoutError, OSError) as error:
            # `from None`: the texts of these errors hold the address, and with it the token
            raise self._transport_failure(request, error, grant) from None
        return self._judged(request, reply)

    def _with_query(self, params: tuple[tuple[str, str], ...]) -> list[tuple[str, str]]:
        """Return a request's parameters with those that go with every request, each of these once."""
        return [*self._query.items(), *((name, value) for name, value in params if name not in self._query)]

    def _transport_failure(self, request: _Request, error: Exception, grant: Grant | None) -> ConnectorError:
        """Turn an error of the transport into one that says whether a write may have taken effect."""
        secrets = [*self._secrets, *(secret.get_secret_value() for secret in (grant.secrets.values() if grant else ()))]
        text = redact(f"{request.path}: {type(error).__name__}", secrets)
        return TillUnavailable(text) if never_sent(error) else request.unclear(text)

    def _judged(self, request: _Request, reply: Reply) -> _Answer:
        """Return the parsed answer, or raise the error that `judge`, or its status, says it is."""
        if reply.status_code >= 500:
            raise request.unclear(f"{request.path}: the till answered {reply.status_code}")
        if reply.status_code == 429:
            self._limit.pause(retry_after(reply))
        content = _parsed(request, reply)
        # before the status: many tills say in the body what a refusal is about
        self._judge(reply.status_code, content)
        _raise_for_status(request, reply)
        return _Answer(reply, content)

    async def aclose(self) -> None:
        """Close the transport, if this client made it."""
        if self._owns_transport:
            await self._transport.aclose()


def _pairs(params: Mapping[str, str] | None) -> tuple[tuple[str, str], ...]:
    return tuple((params or {}).items())


def _next_page(answer: _Answer, by: Cursor | Link, path: str) -> str | None:
    """Return the cursor or address of the page after an answer's; `None` on the last one."""
    if isinstance(by, Link) and by.member is None:
        link = answer.reply.headers.get("link", "")
        # httpx reads the header as the standard has it, with several links in any order
        links = httpx.Response(200, headers={"link": link}).links if link else {}
        return links.get("next", {}).get("url") or None
    if isinstance(by, Cursor) and by.until_empty is not None and _member(answer.content, by.until_empty) == []:
        return None
    value = _member(answer.content, by.member or "")
    if value is None or value == "" or value is False:
        return None
    # a cursor that cannot be used must not look like the last page: what follows would be missed
    if isinstance(value, bool) or not isinstance(value, str | int) or len(str(value)) > _LONGEST_CURSOR:
        raise TillUnavailable(f"{path}: the next page cannot be understood")
    return str(value)


def _member(content: Json, path: str) -> Json:
    """Return the value at a path of names with dots between them; `None` where there is none."""
    for name in path.split("."):
        content = content.get(name) if isinstance(content, Mapping) else None
    return content


def _retry_pause(error: TillUnavailable | RateLimited, attempt: int) -> float:
    """Return the seconds to wait after a failed attempt, at random up to half longer than they must be."""
    if not is_paced():
        return 0.0
    seconds = error.retry_after if isinstance(error, RateLimited) else _BACKOFF_SECONDS * 2 ** (attempt - 1)
    return seconds * random.uniform(1.0, 1.5)  # noqa: S311 - jitter, so that clients do not return all at once


def _raise_for_status(request: _Request, reply: Reply) -> None:
    """Raise the error that a status means where nothing better is known."""
    match reply.status_code:
        case 401:
            raise NotAuthorised(f"{request.path}: the till refuses the token")
        case 404:
            raise NotFound(f"{request.path}: the till has no such thing")
        case 429:
            raise RateLimited(retry_after(reply))
        case status if status >= 400:
            raise BadPayload(request.path, f"the till answered {status}")


def _parsed(request: _Request, reply: Reply) -> Json:
    """Parse an answer; where it is no JSON, its status is the better reason if that is not 200."""
    if request.kind == "write" and reply.status_code < 300 and not reply.content:
        return None  # as a DELETE is often answered
    try:
        return parse_json(reply.content)
    except ValueError:
        if reply.status_code in (401, 404, 429):
            _raise_for_status(request, reply)
        if request.kind == "write" or reply.status_code == 200:
            raise request.unclear(f"{request.path}: the answer is not JSON") from None
        raise TillUnavailable(f"{request.path}: the till answered {reply.status_code}") from None
