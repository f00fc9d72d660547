"""The HTTP client of a connector: one deadline, a bounded retry, a rate limit per account, nothing secret in errors.

Owns how a till is called; the paths and what their answers mean are the connector's.
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
from typing import Any, ClassVar
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

Judge = Callable[[Any], None]
"""Looks at a parsed answer and raises a `ConnectorError` where it is a refusal."""

_replaying: ContextVar[bool] = ContextVar("replaying", default=False)


@contextmanager
def unpaced() -> Iterator[None]:
    """Within it no call waits for its turn or before it is tried again: answers are replayed, and no till is asked."""
    token = _replaying.set(True)
    try:
        yield
    finally:
        _replaying.reset(token)


class RateLimit:
    """At most `per_second` calls, evenly paced after a small burst; shared by everything with the same key."""

    _shared: ClassVar[WeakValueDictionary[str, RateLimit]] = WeakValueDictionary()

    def __init__(self, per_second: float, burst: int = 10) -> None:
        self.per_second = per_second
        self.burst = burst
        self._next = 0.0

    @classmethod
    def shared(cls, key: str, per_second: float) -> RateLimit:
        """The limit of one till account, whoever calls it in this process."""
        limit = cls._shared.get(key)
        if limit is None:
            limit = cls._shared[key] = cls(per_second)
        return limit

    async def turn(self, most: float = math.inf) -> float:
        """Wait for this call's turn; the seconds waited. Raises `TimeoutError` at once where that is over `most`."""
        if _replaying.get():
            return 0.0
        now = time.monotonic()
        turn = max(self._next, now - self.burst / self.per_second) + 1 / self.per_second
        wait = max(0.0, turn - now)
        if wait >= most:
            raise TimeoutError
        self._next = turn
        if wait:
            await asyncio.sleep(wait)
        return wait


class TillClient:
    """JSON over HTTP to one till account.

    `judge` sees every parsed answer below 500 but for 401, 404 and 429, and raises what a refusal means. `limit` paces
    the calls, `deadline` is of one call with all its `attempts`, in seconds. `secrets` are masked in every error;
    `query` and `headers` go with every call. Without a `transport` the production one is made; respx and tests give
    their own.
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
        # a transport handed in is the caller's to close: many accounts share one pool
        self._owns = transport is None
        self._transport = transport or production_transport()
        self._headers = dict(headers or {})

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> Any:
        """The parsed answer of a read, tried again while the deadline lasts.

        Raises `NotAuthorised`, `NotFound`, `RateLimited`, `TillUnavailable`, `BadPayload`, or what `judge` raises.
        """
        end = time.monotonic() + self._deadline
        for attempt in range(1, self._attempts + 1):
            try:
                return await self._once("GET", path, params, None, end - time.monotonic())
            except (TillUnavailable, RateLimited) as error:
                pause = error.retry_after if isinstance(error, RateLimited) else 0.2 * 2**attempt
                pause *= random.uniform(1.0, 1.5)  # noqa: S311 - jitter, not a secret
                if attempt == self._attempts or time.monotonic() + pause >= end or _replaying.get():
                    raise
                await asyncio.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    async def post(self, path: str, form: Mapping[str, str], params: Mapping[str, str] | None = None) -> Any:
        """The parsed answer of a write, sent once; raises `Ambiguous` where it may have taken effect."""
        return await self._once("POST", path, params, form, self._deadline)

    async def _once(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        form: Mapping[str, str] | None,
        deadline: float,
    ) -> Any:
        try:
            waited = await self._limit.turn(most=deadline)
            response = await exchange(
                self._transport,
                method,
                f"{self._base}/{path}",
                deadline=deadline - waited,
                params={**self._query, **(params or {})},
                headers=self._headers,
                data=form,
            )
        except (httpx.HTTPError, TimeoutError, OSError) as error:
            raise self._failure(method, path, error) from None
        return self._read(method, path, response)

    def _failure(self, method: str, path: str, error: Exception) -> ConnectorError:
        text = redact(f"{path}: {type(error).__name__}", self._secrets)
        if method == "POST" and not never_sent(error):
            return Ambiguous(text)
        return TillUnavailable(text)

    def _read(self, method: str, path: str, response: Reply) -> Any:
        if response.status_code == 401:
            raise NotAuthorised(f"{path}: the till refuses the token")
        if response.status_code == 404:
            raise NotFound(f"{path}: the till has no such thing")
        if response.status_code == 429:
            raise RateLimited(retry_after(response))
        if response.status_code >= 500:
            unsure = Ambiguous if method == "POST" else TillUnavailable
            raise unsure(f"{path}: the till answered {response.status_code}")
        try:
            answer = json.loads(response.content)
        except (ValueError, RecursionError):
            if method == "POST":
                raise Ambiguous(f"{path}: the answer is not JSON") from None
            if response.status_code == 200:
                raise TillUnavailable(f"{path}: the answer is not JSON") from None
            raise TillUnavailable(f"{path}: the till answered {response.status_code}") from None
        self._judge(answer)
        if response.status_code >= 400:
            raise BadPayload(path, f"the till answered {response.status_code}")
        return answer

    async def aclose(self) -> None:
        """Close the transport, if it was made here."""
        if self._owns:
            await self._transport.aclose()
