"""A stand-in Square over HTTP, and a cafe that sells, corrects and refunds at two locations of it.

Owns addresses, made-up failures, the record of calls, and what a person or script may do to the till; what is
answered is `sandbox_answers`', and OAuth without HTTP is `sandbox_application`'s.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from connector_sdk.sandbox import Post, TillSandbox
from square_connector.sandbox_answers import ENDPOINTS, ApiRequest, Endpoint
from square_connector.sandbox_application import APPLICATION_ID, SECRET, SquareApplication
from square_connector.sandbox_cafe import Cafe
from square_connector.sandbox_consent import answer_consent, show_consent
from square_connector.sandbox_control import Controls, run_command
from square_connector.sandbox_pages import Cursors
from square_connector.sandbox_seller import Seller
from square_connector.sandbox_values import Clock, JsonObject, SquareError, bad_request, lacks_scope, utc_now
from square_connector.sandbox_webhooks import NOTIFICATION_URL, SIGNATURE_KEY, SignedHook, Subscription, deliver

__all__ = [
    "APPLICATION_ID",
    "GARBAGE",
    "NOTIFICATION_URL",
    "RATE_LIMITED",
    "RATE_LIMITED_WITH_WAIT",
    "SECRET",
    "SIGNATURE_KEY",
    "UNAUTHORIZED",
    "UNAVAILABLE",
    "Call",
    "Failure",
    "SquareSandbox",
]

_MOST_CALLS = 1000


@dataclass(frozen=True, slots=True)
class Failure:
    """An answer made to fail: an HTTP status, with Square's error of a category and code, or with any body.

    Only calls whose path begins with `path` get it; `retry_after` is the header of that name.
    """

    status: int
    category: str = "API_ERROR"
    code: str = "INTERNAL_SERVER_ERROR"
    retry_after: str | None = None
    body: bytes | None = None
    path: str = ""


UNAVAILABLE = Failure(503, "API_ERROR", "SERVICE_UNAVAILABLE")
RATE_LIMITED = Failure(429, "RATE_LIMIT_ERROR", "RATE_LIMITED")
RATE_LIMITED_WITH_WAIT = Failure(429, "RATE_LIMIT_ERROR", "RATE_LIMITED", retry_after="1")
UNAUTHORIZED = Failure(401, "AUTHENTICATION_ERROR", "UNAUTHORIZED")
GARBAGE = Failure(200, body=b"<html>")


class Call(NamedTuple):
    """One call that was made of the API, whatever was answered; `square_version` is its header, or `None`."""

    method: str
    path: str
    query: Mapping[str, str]
    body: JsonObject
    square_version: str | None


class SquareSandbox(TillSandbox):
    """The sandbox as the host's commands use it. Its application holds a grant of every seller from the start."""

    def __init__(self, *sellers: Seller, now: Clock = utc_now, redirect_uri: str | None = None) -> None:
        self.sellers = sellers or (Seller(now=now),)
        self.seller = self.sellers[0]
        self.square_application = SquareApplication(*self.sellers, now=now, redirect_uri=redirect_uri)
        self.cursors = Cursors()
        self.fail_next: list[Failure] = []
        """Answers to give instead of the next ones."""
        self.calls: deque[Call] = deque(maxlen=_MOST_CALLS)
        """The calls that were made of the API and for tokens, oldest first."""
        self.subscription = Subscription()
        self._tokens = [self.square_application.grant(seller.merchant_id) for seller in self.sellers]
        self._controls = Controls(self.seller, self.square_application, self.subscription)
        self._posting: set[asyncio.Task[bool]] = set()
        self._application = Starlette(routes=self._routes())

    def application(self) -> Starlette:
        """Return the ASGI application of the API and of OAuth."""
        return self._application

    def environment(self, origin: str) -> Mapping[str, str]:
        """Return the environment variables that point the connector here."""
        return {
            "SQUARE_API_URL": origin,
            "SQUARE_APPLICATION_ID": APPLICATION_ID,
            "SQUARE_APPLICATION_SECRET": SECRET,
            "SQUARE_SIGNATURE_KEY": SIGNATURE_KEY,
        }

    def post_to(self, address: str) -> None:
        """Subscribe this address: hooks are signed for it from now on."""
        self.subscription.notification_url = address

    def settings(self) -> Mapping[str, str]:
        """Return the settings that open the first seller's account, as of an application of its own."""
        return {"access_token": str(self._tokens[0]["access_token"])}

    # --- HTTP -------------------------------------------------------------------------------------------------

    def _routes(self) -> list[Route]:
        return [
            Route("/oauth2/authorize", self._show_consent),
            Route("/oauth2/authorize/answer", self._answer_consent),
            Route("/oauth2/token", self._oauth(self._trade), methods=["POST"]),
            Route("/oauth2/revoke", self._oauth(self._revoke), methods=["POST"]),
            Route("/oauth2/token/status", self._oauth(self._status), methods=["POST"]),
            Route("/_sandbox/{command}", self._control, methods=["POST"]),
            *(Route(endpoint.path, self._endpoint(endpoint), methods=[endpoint.method]) for endpoint in ENDPOINTS),
        ]

    def _endpoint(self, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
        """Return what serves an endpoint: admitted by token and scope first, answered then."""

        async def serve(request: Request) -> Response:
            def answer(call: Call) -> JsonObject:
                token = self.square_application.authenticate(request.headers.get("authorization", ""))
                if endpoint.scope not in token.grant.scopes:
                    raise lacks_scope(endpoint.scope)
                record_id = request.path_params.get("id", "")
                return endpoint.answer(ApiRequest(token.grant.seller, self.cursors, record_id, call.query, call.body))

            return await self._serve(request, answer)

        return serve

    def _oauth(self, respond: Callable[[str, JsonObject], JsonObject]) -> Callable[[Request], Awaitable[Response]]:
        """Return what serves a call of OAuth, answered from its `Authorization` and its body."""

        async def serve(request: Request) -> Response:
            authorization = request.headers.get("authorization", "")
            return await self._serve(request, lambda call: respond(authorization, call.body))

        return serve

    async def _serve(self, request: Request, answer: Callable[[Call], JsonObject]) -> Response:
        """Record a call, and answer it or fail as was asked for."""
        try:
            body = _read_body(await request.body())
            call = self._record(request, body)
            failure = self._next_failure(call.path)
            return _fail(failure) if failure is not None else JSONResponse(answer(call))
        except SquareError as error:
            return JSONResponse(error.answer, error.status)

    def _record(self, request: Request, body: JsonObject) -> Call:
        version = request.headers.get("square-version")
        call = Call(request.method, request.url.path, dict(request.query_params), body, version)
        self.calls.append(call)
        return call

    def _next_failure(self, path: str) -> Failure | None:
        """Take the first failure that is meant for a path; `None` where there is none."""
        for number, failure in enumerate(self.fail_next):
            if path.startswith(failure.path):
                return self.fail_next.pop(number)
        return None

    # --- OAuth ------------------------------------------------------------------------------------------------

    async def _show_consent(self, request: Request) -> Response:
        return show_consent(self.square_application, request.query_params)

    async def _answer_consent(self, request: Request) -> Response:
        return answer_consent(self.square_application, request.query_params)

    def _trade(self, _authorization: str, form: JsonObject) -> JsonObject:
        return self.square_application.trade(form)

    def _revoke(self, authorization: str, form: JsonObject) -> JsonObject:
        answer = self.square_application.revoke(authorization, form)
        self.post_hooks()
        return answer

    def _status(self, authorization: str, _form: JsonObject) -> JsonObject:
        return self.square_application.status(authorization)

    # --- webhooks ---------------------------------------------------------------------------------------------

    def hook(self, order: str, key: str = SIGNATURE_KEY) -> SignedHook:
        """Return the webhook about an order of the first seller as it is now.

        That is the `payment.updated` of its first payment, or the `order.updated` of an order without any.
        """
        payments = self.seller.payments_of(order)
        event = self.seller.payment_event(payments[0]["id"]) if payments else self.seller.order_event(order)
        return self.subscription.sign(event, key)

    def take_hooks(self) -> list[SignedHook]:
        """Return the webhooks that Square would now post, oldest first, and forget their events.

        An event comes only where its seller granted its scope.
        """
        events = [event for seller in self.sellers for event in seller.take_events()]
        return self.subscription.sign_all(filter(self.square_application.may_receive, events))

    def post_hooks(self) -> None:
        """Post the webhooks that are waiting, in the background, where an address was given."""
        hooks, url = self.take_hooks(), self.subscription.delivery_url
        if url is None or not hooks:
            return
        task = asyncio.get_running_loop().create_task(self._post(hooks, url))
        self._posting.add(task)  # the loop itself holds no reference, and the task might be collected
        task.add_done_callback(self._posting.discard)

    async def _post(self, hooks: list[SignedHook], url: str) -> bool:
        async with httpx.AsyncClient(trust_env=False) as client:
            outcomes = await asyncio.gather(
                *(deliver(hook, url, self.subscription.retry_waits, client) for hook in hooks)
            )
        return all(outcomes)

    # --- for a person or script -------------------------------------------------------------------------------

    async def _control(self, request: Request) -> Response:
        """Do a command, of which `sandbox_control` has the list; 422 says what is not understood."""
        try:
            values = json.loads(await request.body() or b"{}")
            answer = run_command(self._controls, request.path_params["command"], values)
        except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError, IndexError) as error:
            return JSONResponse({"error": f"not understood: {type(error).__name__} {error}"}, 422)
        self.post_hooks()
        return JSONResponse(answer)

    # --- the cafe ---------------------------------------------------------------------------------------------

    def two_weeks(self, customers: list[str]) -> None:
        """Fill fourteen days before today at both locations; nobody is told of it by a webhook."""
        Cafe(self.seller, customers, seed=14).two_weeks()
        self.seller.take_events()

    async def busy_morning(self, customers: list[str], post: Post, pause: Callable[[], Awaitable[None]]) -> None:
        """Play a morning at both locations: most people buy a coffee; some order ahead, some get money back."""
        for _ in Cafe(self.seller, customers, seed=7).morning():
            for hook in self.take_hooks():
                await post(hook.body, hook.headers)
            await pause()


def _read_body(body: bytes) -> JsonObject:
    """Read the JSON object of a call, empty where there is none. Raises `SquareError`."""
    try:
        value = json.loads(body or b"{}")
    except ValueError:
        raise bad_request("The body is no JSON.") from None
    if not isinstance(value, dict):
        raise bad_request("The body is no object.")
    return value


def _fail(failure: Failure) -> Response:
    headers = {} if failure.retry_after is None else {"Retry-After": failure.retry_after}
    if failure.body is not None:
        return Response(failure.body, failure.status, headers=headers, media_type="application/json")
    error = SquareError(failure.status, failure.category, failure.code, "The sandbox was told to fail.")
    return JSONResponse(error.answer, failure.status, headers=headers)
