"""The sandbox as an ASGI application: authentication, idempotency keys, faults, and control by tests and people.

Owns what comes before an endpoint and what becomes of its answer; the endpoints themselves are in `endpoints`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qsl, unquote

from starlette.types import Receive, Scope, Send

from connectors.sevenstamp.events import EVENTS
from connectors.sevenstamp.sandbox.endpoints import Answer, Call, Endpoints, Refusal
from connectors.sevenstamp.sandbox.faults import SETTLE_MS, Faults
from connectors.sevenstamp.sandbox.state import JsonObject, State
from connectors.sevenstamp.sandbox.webhooks import Webhooks

_KEY_PREFIX = "7loc_sc_"
_LOGIN_SEPARATOR = "--"
"""Several keys of one business differ in what follows, their staff login: `7loc_sc_cafe--anna`."""
_MOST_BODY = 64 * 1024


class ConnectionCut(Exception):
    """The connection is to be closed without (the rest of) an answer."""


class Sandbox:
    """The ASGI application.

    With a `key` only that one is accepted, without one every key that looks like one. `state` is the file that keeps
    what happened. `now` gives UTC seconds; pauses go through asyncio, so a test's loop may bend time. `settled_within`
    bounds what faults do together: so many seconds after a request arrived it has taken effect and shows in the
    history, or never will.
    """

    def __init__(
        self,
        *,
        key: str | None = None,
        state: Path | None = None,
        goal: int = 8,
        allowed: int | None = None,
        now: Callable[[], float] | None = None,
        settled_within: float = math.inf,
    ) -> None:
        self.key = key
        self.settled_within = settled_within
        self.state = State(goal=goal, allowed=allowed, file=state)
        self.state.load()
        self.faults = Faults()
        self.revoked: set[str] = set()
        """Keys that are refused."""
        self._random = random.Random()  # noqa: S311 - faults, not secrets
        clock = now or _system_seconds
        # chance of its own: how webhooks are shuffled must not change which faults a seed gives
        self.webhooks = Webhooks(self.state, lambda: self.faults, clock, random.Random(1))  # noqa: S311
        self._endpoints = Endpoints(self.state, self.webhooks, clock, self._history_lag)
        self._late_writes: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the server's start and end."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        body = await _read_body(receive)
        # without a server under it (a test's transport), the cut goes up to whoever called
        try:
            answer = await self._answer(scope, body)
        except ConnectionCut:
            if await _cut_connection(receive):
                return
            raise
        await _send_answer(answer, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        """Deliver webhooks from the server's start to its end."""
        await receive()
        self.webhooks.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.webhooks.stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def _answer(self, scope: Scope, body: bytes) -> Answer:
        try:
            if scope["path"].startswith("/_sandbox/"):
                return Answer(200, self._control(scope["method"], scope["path"], body))
            return await self._answer_with_faults(scope, body)
        except Refusal as refusal:
            return Answer(refusal.status, refusal.body)

    # --- faults -------------------------------------------------------------------------------------------------

    async def _answer_with_faults(self, scope: Scope, body: bytes) -> Answer:
        """Answer a request unless a fault comes between. Raises `ConnectionCut`, `Refusal`.

        Each fault draws its chance in this order whether or not it is likely, so that a seed gives the same faults
        again: the pause, the cut before, 429, 500, the cut after (of writes only), and garbage in the answer's place.
        """
        faults, draw, arrived = self.faults, self._random.random, asyncio.get_running_loop().time()
        await asyncio.sleep(self._random.uniform(*faults.latency_ms) / 1000)
        if draw() < faults.drop_before:
            raise ConnectionCut
        if draw() < faults.status_429:
            return Answer(429, Refusal(429, "rate_limited").body, [(b"retry-after", b"1")])
        if draw() < faults.status_500:
            # an error says nothing of whether the write took effect, and a host must not believe that it does
            if draw() < 0.5:
                self._handle(scope, body, arrived)
            return Answer(500, {"title": "internal error", "status": 500, "code": "internal"})
        if scope["method"] == "POST" and draw() < faults.drop_after:
            self._apply_unanswered(scope, body, arrived)
            raise ConnectionCut
        answer = self._handle(scope, body, arrived)
        if draw() < faults.garbage:
            return replace(answer, body=b"<html>bad gateway")
        return answer

    def _apply_unanswered(self, scope: Scope, body: bytes, arrived: float) -> None:
        """Let a write take effect whose caller will not hear of it, at once or a while later."""
        late_ms = self._random.uniform(*self.faults.apply_late_ms)
        if not late_ms:
            self._handle(scope, body, arrived)
            return
        task = asyncio.get_running_loop().create_task(self._apply_later(scope, body, arrived, late_ms))
        # the loop itself holds a task only weakly
        self._late_writes.add(task)
        task.add_done_callback(self._late_writes.discard)

    async def _apply_later(self, scope: Scope, body: bytes, arrived: float, late_ms: float) -> None:
        await asyncio.sleep(late_ms / 1000)
        # nobody is there to hear of a refusal
        with contextlib.suppress(Refusal, ConnectionCut):
            self._handle(scope, body, arrived, late_ms)

    def _history_lag(self, call: Call) -> float:
        # what is applied late is visible late, but never later than `settle` after the caller gave up
        most = min(SETTLE_MS - call.late_ms, (self.settled_within - call.took) * 1000)
        return min(self._random.uniform(*self.faults.history_lag_ms), max(0.0, most))

    # --- the call -----------------------------------------------------------------------------------------------

    def _handle(self, scope: Scope, body: bytes, arrived: float, late_ms: float = 0.0) -> Answer:
        """Carry a request out. Raises `Refusal`, and `ConnectionCut` where it is too late for it to take effect.

        The order is 7stamp's: the key, the path, the body, and then the idempotency key, so that a request which is
        none is not answered from before.
        """
        took = asyncio.get_running_loop().time() - arrived
        if took > self.settled_within:
            raise ConnectionCut
        headers = _headers(scope)
        authorization = headers.get("authorization", "")
        business = self._authenticate(authorization)
        segments = _segments(scope)
        handler = self._endpoints.find(scope["method"], segments)
        call = Call(
            business=business,
            staff_login=authorization.partition(_LOGIN_SEPARATOR)[2],
            segments=segments,
            query=dict(parse_qsl(scope["query_string"].decode("latin-1"))),
            body=_parse_body(body) if scope["method"] == "POST" else {},
            idempotency_key=headers.get("idempotency-key"),
            digest=hashlib.sha256(scope["path"].encode() + body).hexdigest(),
            late_ms=late_ms,
            took=took,
        )
        return self._answer_from_before(call) or handler(call)

    def _answer_from_before(self, call: Call) -> Answer | None:
        """Return what the call's idempotency key was answered. Raises `Refusal` where that was another request."""
        if not call.idempotency_key or self.faults.ignore_idempotency_keys:
            return None
        stored = self.state.answers.get((call.business, call.idempotency_key))
        if stored is None:
            return None
        if stored.digest != call.digest:
            raise Refusal(409, "idempotency_conflict")
        return Answer(200, stored.body)

    def _authenticate(self, authorization: str) -> str:
        """Return the id of the business whose key a header holds. Raises `Refusal`."""
        scheme, _, key = authorization.partition(" ")
        is_key = key.startswith(_KEY_PREFIX) and len(key) > len(_KEY_PREFIX)
        is_accepted = key not in self.revoked and (not self.key or key == self.key)
        if scheme.lower() != "bearer" or not is_key or not is_accepted:
            raise Refusal(401, "invalid_key")
        return "b_" + hashlib.sha256(key.partition(_LOGIN_SEPARATOR)[0].encode()).hexdigest()[:10]

    # --- control ------------------------------------------------------------------------------------------------

    def _control(self, method: str, path: str, body: bytes) -> JsonObject | list[JsonObject]:
        """Do what a test or a person asks of the sandbox itself. Raises `Refusal`."""
        match (method, path):
            case ("GET", "/_sandbox/operations"):
                return [{**operation} for operation in self.state.operations]
            case ("POST", "/_sandbox/faults"):
                self._set_faults(_parse_body(body))
            case ("POST", "/_sandbox/plan"):
                self._set_plan(_parse_body(body))
            case ("POST", "/_sandbox/keys"):
                self._set_revoked(_parse_body(body))
            case ("POST", "/_sandbox/events"):
                return {"ok": True, "ids": self._emit(_parse_body(body))}
            case _:
                raise Refusal(404, "not_found")
        return {"ok": True}

    def _set_faults(self, values: JsonObject) -> None:
        try:
            self.faults = Faults.parse(values)
        except ValueError as error:
            raise Refusal(422, "invalid", detail=str(error)) from None
        if self.faults.seed is not None:
            self._random.seed(self.faults.seed)

    def _set_plan(self, values: JsonObject) -> None:
        allowed = values.get("allowed")
        if not isinstance(allowed, int | None):
            raise Refusal(422, "invalid", detail="allowed: a whole number, or null for no limit")
        self.state.allowed = allowed

    def _emit(self, values: JsonObject) -> list[str]:
        """Post an event of a card (`card_id`) to its business: for what no call of ours causes, such as a birthday."""
        card = self.state.cards.get(str(values.get("card_id")))
        event = values.get("event")
        if card is None or event not in EVENTS:
            raise Refusal(422, "invalid", detail="card_id: a card that there is; event: one of the thirteen")
        language = values.get("language", self.webhooks.language)
        if language not in ("en", "ms"):
            raise Refusal(422, "invalid", detail="language: en or ms")
        further = values.get("further", {})
        if not isinstance(further, dict):
            raise Refusal(422, "invalid", detail="further: an object")
        self.webhooks.language = language
        facts = {**self.webhooks.card_facts(card), "location_id": "loc_1", **further, "event": event}
        return [self.webhooks.emit(card.business, facts)]

    def _set_revoked(self, values: JsonObject) -> None:
        key = str(values.get("key"))
        if values.get("revoked"):
            self.revoked.add(key)
        else:
            self.revoked.discard(key)


def _headers(scope: Scope) -> Mapping[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


def _segments(scope: Scope) -> tuple[str, ...]:
    """Return the segments of a path, each unescaped by itself: a redeem code may hold a slash."""
    # servers send the path as it came; a test's transport may only have it unescaped
    path = scope.get("raw_path", scope["path"].encode()).split(b"?")[0].decode("latin-1")
    return tuple(unquote(segment) for segment in path.strip("/").split("/"))


def _system_seconds() -> float:
    return datetime.now(UTC).timestamp()


def _parse_body(body: bytes) -> JsonObject:
    """Parse a JSON object. Raises `Refusal`."""
    try:
        values: object = json.loads(body)
    except (ValueError, RecursionError):
        values = None
    if len(body) > _MOST_BODY or not isinstance(values, dict):
        raise Refusal(422, "invalid", detail="the body is a JSON object of at most 64 KiB")
    return values


# --- ASGI ---------------------------------------------------------------------------------------------------------


async def _send_answer(answer: Answer, send: Send) -> None:
    content = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
    content_type = b"application/json" if answer.status < 400 else b"application/problem+json"
    headers = [
        (b"content-type", content_type),
        (b"content-length", str(len(content)).encode()),
        *answer.headers,
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


async def _read_body(receive: Receive) -> bytes:
    """Read a request's body, and of one that is too long a little more than may be."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body") or len(body) > _MOST_BODY:
            return bytes(body)


async def _cut_connection(receive: Receive) -> bool:
    """Close the server's connection abruptly; return whether there was one.

    ASGI has no word for that, so uvicorn's transport is reached through the object that `receive` is a method of. A
    test that calls the application without a server has none.
    """
    transport = getattr(getattr(receive, "__self__", None), "transport", None)
    if transport is None:
        return False
    transport.abort()
    # uvicorn logs an error where an application ends without an answer while its client seems to be there
    while (await receive())["type"] != "http.disconnect":
        pass
    return True
