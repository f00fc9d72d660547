"""The HTTP client of a connector: one deadline, a bounded retry, a rate limit per account, nothing secret in errors.

Owns how a till is called; the paths and the meaning of their answers are the connector's.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias
from weakref import WeakValueDictionary

import httpx

from connector_sdk.errors import (
    Ambiguous,
    BadPayload,
    ConnectorError,
    NotAuthorised,
    NotFound,
    RateLimited,
    TillUnavailable,
)
from connector_sdk.http import Reply, exchange, never_sent, production_transport, retry_after
from connector_sdk.redaction import redact

# `Any` is forced by `json.loads`, and by connectors, which index an answer at once and check it while they map it: a
# union of all that JSON can be would have each of them narrow every step by hand.
Json: TypeAlias = Any
"""A parsed JSON answer of the till."""

Judge = Callable[[Json], None]
"""Inspect a parsed answer and raise a `ConnectorError` where it is a refusal."""

_BACKOFF_SECONDS = 0.4  # before the second attempt; doubled before each further one

_replaying: ContextVar[bool] = ContextVar("replaying", default=False)


@contextmanager
def unpaced() -> Iterator[None]:
    """Suspend rate limits and retries in this context, for replays: recorded answers come at once, or never."""
    token = _replaying.set(True)
    try:
        yield
    finally:
        _replaying.reset(token)


class RateLimit:
    """Allow at most `per_second` calls, evenly paced after a burst of `burst`.

    `shared` returns the same limit for the same key.
    """

    # weak, so that the limit of an account which nobody calls any more goes with its last client
    _shared: ClassVar[WeakValueDictionary[str, RateLimit]] = WeakValueDictionary()

    def __init__(self, per_second: float, burst: int = 10) -> None:
        self.per_second = per_second
        self.burst = burst
        self._next = 0.0

    @classmethod
    def shared(cls, key: str, per_second: float) -> RateLimit:
        """Return the limit of one till account, shared by everything that calls it in this process."""
        limit = cls._shared.get(key)
        if limit is None:
            limit = cls._shared[key] = cls(per_second)
        return limit

    async def turn(self, most: float = math.inf) -> float:
        """Wait for this call's turn and return the seconds waited.

        Raises `TimeoutError` at once, without taking the turn, where the wait would be `most` seconds or longer.
        """
        if _replaying.get():
            return 0.0
        now = time.monotonic()
        # Turns are evenly spaced moments. An idle limit may lag behind now by a whole burst and no further: so many
        # turns are already due, and are given without waiting.
        turn = max(self._next, now - self.burst / self.per_second) + 1 / self.per_second
        wait = max(0.0, turn - now)
        if wait >= most:
            raise TimeoutError
        # taken before the sleep, so that concurrent callers queue up one behind the other
        self._next = turn
        if wait:
            await asyncio.sleep(wait)
        return wait


@dataclass(frozen=True, slots=True)
class _Request:
    """One request to a till: a read (`GET`) or a write (`POST`), which carries a form."""

    method: Literal["GET", "POST"]
    path: str
    params: Mapping[str, str]
    form: Mapping[str, str] | None = None

    @property
    def unclear(self) -> type[Ambiguous | TillUnavailable]:
        """The error for an outcome that cannot be known: a read changed nothing, a write may have taken effect."""
        return Ambiguous if self.method == "POST" else TillUnavailable


class TillClient:
    """A JSON client over HTTP for one till account.

    `judge` inspects every parsed answer whose status is below 500 and none of 401, 404 and 429, and raises the error
    that a refusal means. `limit` paces the calls; `deadline`, in seconds, covers one call with all its `attempts`.
    `secrets` are masked in every error; `query` and `headers` go with every request. Without a `transport` the client
    makes the production one and closes it; tests pass their own.
    """

    def __init__(
        self,
        base_url: str,
        *,
        judge: Judge,
        limit: RateLimit,
        secrets: Sequence[str] = (),
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        deadline: float = 15.0,
        attempts: int = 3,
    ) -> None:
        self._judge = judge
        self._limit = limit
        self._secrets = tuple(secrets)
        self._query = dict(query or {})
        self._deadline = deadline
        self._attempts = attempts
        self._base = base_url.rstrip("/")
        # a transport passed in is the caller's to close: many accounts share one pool
        self._owns_transport = transport is None
        self._transport = transport or production_transport()
        self._headers = dict(headers or {})

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> Json:
        """Send a read and return its parsed answer; try again while the deadline lasts.

        Raises `NotAuthorised`, `NotFound`, `RateLimited`, `TillUnavailable`, `BadPayload`, or what `judge` raises.
        """
        request = _Request("GET", path, params or {})
        end = time.monotonic() + self._deadline
        attempt = 1
        while True:
            try:
                return await self._send(request, end - time.monotonic())
            except (TillUnavailable, RateLimited) as error:
                pause = _retry_pause(error, attempt)
                # a pause that would end after the deadline is not begun: the caller learns of the failure at once
                if attempt >= self._attempts or time.monotonic() + pause >= end or _replaying.get():
                    raise
                await asyncio.sleep(pause)
                attempt += 1

    async def post(self, path: str, form: Mapping[str, str], params: Mapping[str, str] | None = None) -> Json:
        """Send a write, once, and return its parsed answer. Raises `Ambiguous` where it may have taken effect."""
        return await self._send(_Request("POST", path, params or {}, form), self._deadline)

    async def _send(self, request: _Request, deadline: float) -> Json:
        """Wait for a turn, send a request and parse its answer, all within `deadline` seconds."""
        try:
            waited = await self._limit.turn(most=deadline)
            reply = await exchange(
                self._transport,
                request.method,
                f"{self._base}/{request.path}",
                deadline=deadline - waited,
                params={**self._query, **request.params},
                headers=self._headers,
                data=request.form,
            )
        except (httpx.HTTPError, TimeoutError, OSError) as error:
            # `from None`: the texts of these errors hold the address, and with it the token
            raise self._transport_failure(request, error) from None
        return self._parse(request, reply)

    def _transport_failure(self, request: _Request, error: Exception) -> ConnectorError:
        """Turn an error of the transport into one that says whether a write may have taken effect."""
        text = redact(f"{request.path}: {type(error).__name__}", self._secrets)
        return TillUnavailable(text) if never_sent(error) else request.unclear(text)

    def _parse(self, request: _Request, reply: Reply) -> Json:
        """Return the answer's JSON, or raise the error that its status, or `judge`, says it is."""
        _raise_for_status(request, reply)
        try:
            answer = json.loads(reply.content)
        except (ValueError, RecursionError):
            raise _not_json(request, reply) from None
        # before the other refusals: many tills explain a 400 in the body, and `judge` knows their words
        self._judge(answer)
        if reply.status_code >= 400:
            raise BadPayload(request.path, f"the till answered {reply.status_code}")
        return answer

    async def aclose(self) -> None:
        """Close the transport, if this client made it."""
        if self._owns_transport:
            await self._transport.aclose()


def _retry_pause(error: TillUnavailable | RateLimited, attempt: int) -> float:
    """Return the seconds to wait after a failed attempt, at random up to half longer than they must be."""
    seconds = error.retry_after if isinstance(error, RateLimited) else _BACKOFF_SECONDS * 2 ** (attempt - 1)
    return seconds * random.uniform(1.0, 1.5)  # noqa: S311 - jitter, so that clients do not return all at once


def _raise_for_status(request: _Request, reply: Reply) -> None:
    """Raise the error of a status that means the same for every till: 401, 404, 429, and 500 and above."""
    if reply.status_code == 401:
        raise NotAuthorised(f"{request.path}: the till refuses the token")
    if reply.status_code == 404:
        raise NotFound(f"{request.path}: the till has no such thing")
    if reply.status_code == 429:
        raise RateLimited(retry_after(reply))
    if reply.status_code >= 500:
        raise request.unclear(f"{request.path}: the till answered {reply.status_code}")


def _not_json(request: _Request, reply: Reply) -> ConnectorError:
    """Return the error for an answer that is no JSON; its status is the better reason where it is not 200."""
    if request.method == "POST" or reply.status_code == 200:
        return request.unclear(f"{request.path}: the answer is not JSON")
    return TillUnavailable(f"{request.path}: the till answered {reply.status_code}")
