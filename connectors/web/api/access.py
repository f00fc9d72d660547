"""Who asks: a bearer token, what it may do, and how often.

Owns the checks before a call reaches its handler. A token opens its own business and nothing else, and a call without
the right says which right is missing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, TypeVar

from fastapi import Depends, Header, Request, Response
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel

from connectors.domain.connection import Connection
from connectors.runtime.host import Host
from connectors.services import Services
from connectors.store import access
from connectors.store.access.api_tokens import ApiToken, Scope, StoredAnswer
from connectors.store.errors import NotFound
from connectors.sync.hook_rates import HookRates
from connectors.web.api.problems import Problem
from connectors.web.console.clients import Clients
from connectors.web.console.sign_in_limits import RateLimits, TooManyAttempts

_LONGEST_TOKEN = 200
_LONGEST_KEY = 255
_STRANGERS_PER_SECOND, _STRANGERS_AT_ONCE = 1.0, 20

bearer = HTTPBearer(auto_error=False, description="A token made under *API tokens*, or by `connectors token make`")
ModelT = TypeVar("ModelT", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever asks: the token, and the host's services in its name."""

    host: Host
    services: Services
    token: ApiToken

    @property
    def business_id(self) -> str:
        """The business that the token is of."""
        return self.token.business_id

    async def connection(self, connection_id: str) -> Connection:
        """Read a connection of the caller's business. Raises `NotFound`, also for another business's."""
        try:
            connection = await self.services.connections.get(connection_id)
        except NotFound:
            connection = None
        # one sentence for both: whether there is such a connection elsewhere is nobody's to know
        if connection is None or connection.business_id != self.business_id:
            raise NotFound(f"there is no connection {connection_id!r} of this business")
        return connection


class Gate:
    """Lets callers in: knows the host, and how often whom was let in lately."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._clients = Clients(host)
        quotas = host.store.quotas
        self._most = quotas.api_calls_a_minute
        self._rates = HookRates(quotas, host.store.clock.now, self._most)
        self._strangers = RateLimits(_STRANGERS_PER_SECOND, _STRANGERS_AT_ONCE)

    async def identify(self, request: Request, token_text: str) -> Caller:
        """Return who asks. Raises `Problem`."""
        token = await self._find(token_text) if token_text.startswith(access.api_tokens.PREFIX) else None
        if token is None:
            self.count_stranger(request)
            raise Problem(
                "unauthorised",
                "send a token of this business: Authorization: Bearer 7con_…",
                headers={"WWW-Authenticate": "Bearer"},
            )
        self._count(token, request)
        if access.api_tokens.is_use_news(token, self.host.store.clock.now()):
            await self.host.store.write(lambda tx: access.api_tokens.record_use(tx, token.id))
        return Caller(self.host, self.host.services.by(f"API: {token.title}"), token)

    async def _find(self, token_text: str) -> ApiToken | None:
        if len(token_text) > _LONGEST_TOKEN or not token_text.isascii():
            return None
        return await self.host.store.read(lambda tx: access.api_tokens.find(tx, token_text))

    def count_till(self, request: Request, connection_id: str) -> None:
        """Count a call that a till has signed. Raises `Problem` where there were too many."""
        self._count_call(f"till {connection_id}", request)

    def count_stranger(self, request: Request) -> None:
        """Count a wrong token against its address. Raises `Problem` where there were too many."""
        try:
            self._strangers.take(self._clients.address(request))
        except TooManyAttempts as error:
            raise Problem(
                "rate_limited",
                f"too many wrong tokens: wait {error.seconds} seconds",
                headers={"Retry-After": str(error.seconds)},
            ) from None

    def _count(self, token: ApiToken, request: Request) -> None:
        """Count a call against its token. Raises `Problem` where there were too many."""
        self._count_call(token.id, request)

    def _count_call(self, name: str, request: Request) -> None:
        wait = self._rates.wait(name)
        left = self._rates.left(name)
        limits = {"RateLimit-Limit": str(self._most), "RateLimit-Remaining": str(max(0, left - 1))}
        if wait:
            headers = {**limits, "RateLimit-Remaining": "0", "RateLimit-Reset": str(wait), "Retry-After": str(wait)}
            raise Problem("rate_limited", f"wait {wait} seconds, then send it again", headers=headers)
        self._rates.count(name, 0)
        request.state.rate_headers = {**limits, "RateLimit-Reset": "60"}


async def _caller(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
) -> Caller:
    gate: Gate = request.app.state.gate
    return await gate.identify(request, credentials.credentials if credentials is not None else "")


def _with(scope: Scope) -> Callable[[Caller], Caller]:
    def check(caller: Annotated[Caller, Depends(_caller)]) -> Caller:
        require_scope(caller, scope)
        return caller

    return check


def require_scope(caller: Caller, scope: Scope) -> None:
    """Refuse a caller whose token lacks a right. Raises `Problem`."""
    if scope not in caller.token.scopes:
        raise Problem(
            "missing_scope",
            f"this token may not do that: make one with the right '{scope}'",
            scope=scope.value,
        )


AnyCaller = Annotated[Caller, Depends(_caller)]
Reader = Annotated[Caller, Depends(_with(Scope.read))]
Actor = Annotated[Caller, Depends(_with(Scope.act))]
Subscriber = Annotated[Caller, Depends(_with(Scope.subscribe))]
Seller = Annotated[Caller, Depends(_with(Scope.sell))]

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        max_length=_LONGEST_KEY,
        description="The same key again, within a day, gets the same answer, and nothing is done twice",
    ),
]


async def once(
    caller: Caller, request: Request, key: str | None, status: int, work: Callable[[], Awaitable[BaseModel]]
) -> Response:
    """Do something that creates, or answer what the same request got under its idempotency key before.

    Only successes are kept. Raises `Problem` where the key was used for another request, or its own is still under way.
    """
    if key is None:
        return _answer(status, (await work()).model_dump_json())
    digest = hashlib.sha256(f"{request.method} {request.url.path}\n".encode() + await request.body()).hexdigest()
    store, token_id = caller.host.store, caller.token.id
    former = await store.write(lambda tx: access.api_tokens.take_key(tx, token_id, key, digest))
    if former is not None:
        if former.digest != digest:
            raise Problem("idempotency_conflict", "this key was used for another request within a day: take another")
        if former.status == access.api_tokens.UNANSWERED:
            raise Problem("refused", "the same request is being answered just now: send it again in a moment")
        return _answer(former.status, former.body, {"Idempotent-Replayed": "true"})
    try:
        body = (await work()).model_dump_json()
    except Exception:
        # not where the caller hangs up: what was under way may have been done
        await store.write(lambda tx: access.api_tokens.give_key_back(tx, token_id, key))
        raise
    answer = StoredAnswer(digest, status, body)
    await store.write(lambda tx: access.api_tokens.keep_answer(tx, token_id, key, answer))
    return _answer(status, body)


def _answer(status: int, body: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse(json.loads(body), status, headers=headers)
