"""Problems: every refusal of the API as RFC 9457 has it, with a stable code for programs and a sentence for people.

Owns the codes; which of them a call answers with stands in its description.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from connector_sdk.errors import ConnectorError
from connectors.services import Refusal
from connectors.store.errors import NotFound, StoreError

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
_LONGEST_VALUE = 200
_PLACES = ("body", "query", "path", "header")


class FieldProblem(BaseModel):
    """What is wrong with one field of a request."""

    field: str = Field(description="Where it stands, such as `sale.paid`", examples=["sale.paid"])
    problem: str = Field(examples=["not an amount such as 12.50"])


class ProblemBody(BaseModel):
    """Why a request was refused (RFC 9457)."""

    type: str = Field(default="about:blank")
    title: str = Field(examples=["Not found"])
    status: int = Field(examples=[404])
    code: str = Field(description="Stable: programs compare it", examples=["not_found"])
    detail: str = Field(description="A sentence for people", examples=["there is no connection 'poster-1a2b3c'"])
    errors: list[FieldProblem] | None = Field(default=None, description="Of `invalid`: what is wrong where")
    scope: str | None = Field(default=None, description="Of `missing_scope`: the right that is missing")


TITLES: Mapping[str, tuple[int, str]] = {
    "unauthorised": (401, "No valid token"),
    "missing_scope": (403, "The token lacks a right"),
    "not_found": (404, "Not found"),
    "method_not_allowed": (405, "No such method here"),
    "refused": (409, "It cannot be done now"),
    "idempotency_conflict": (409, "The key was used for another request"),
    "too_large": (413, "The body is too large"),
    "unsupported_media_type": (415, "The body is no JSON"),
    "invalid": (422, "The request is not valid"),
    "rate_limited": (429, "Too many requests"),
    "unavailable": (503, "Not possible just now"),
    "internal": (500, "Something went wrong here"),
}
"""Code → status and title."""


class Problem(Exception):
    """A request is refused."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        errors: Sequence[FieldProblem] | None = None,
        scope: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.errors = list(errors) if errors is not None else None
        self.scope = scope
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """Return it as an answer."""
        status, title = TITLES[self.code]
        body = ProblemBody(
            title=title, status=status, code=self.code, detail=self.detail, errors=self.errors, scope=self.scope
        )
        return JSONResponse(body.model_dump(exclude_none=True), status, headers=self.headers, media_type=MEDIA_TYPE)


def problem_of(error: Exception) -> Problem:
    """Return the problem that an error of ours is."""
    match error:
        case Problem():
            return error
        case NotFound():
            return Problem("not_found", str(error))
        case Refusal(field=str(field)):
            return Problem("invalid", str(error), errors=[FieldProblem(field=field, problem=str(error))])
        case Refusal():
            return Problem("refused", str(error))
        case RequestValidationError():
            return _invalid(error)
        case HTTPException(status_code=405):
            return Problem("method_not_allowed", "there is no such method here", headers=dict(error.headers or {}))
        case HTTPException(status_code=404):
            return Problem("not_found", "there is no such address")
        case HTTPException(status_code=status) if 400 <= status < 500:
            return Problem("invalid", "the request cannot be understood")
        case ConnectorError():
            return Problem("unavailable", "the till cannot be asked right now", headers={"Retry-After": "60"})
        case StoreError():
            log.error("the API: %s", error)
            return Problem("unavailable", "the database cannot be used right now", headers={"Retry-After": "10"})
    log.error("the API: %s", type(error).__name__, exc_info=error)
    return Problem("internal", "something went wrong here: it is in the log of whoever runs this host")


def _methods_at(routers: Sequence[APIRouter], path: str) -> list[str]:
    """List all methods of an address: each call is a route of its own, which knows its own method only."""
    # a mounted application is asked with the whole path
    below = path.removeprefix("/api/v1")
    routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
    return sorted({method for route in routes if route.path_regex.match(below) for method in route.methods or ()})


def _invalid(error: RequestValidationError) -> Problem:
    """Return what is wrong with each field; never the value, which may be a phone."""
    errors = [
        FieldProblem(
            field=".".join(str(part)[:_LONGEST_VALUE] for part in detail["loc"] if part not in _PLACES) or "body",
            problem=str(detail["msg"])[:_LONGEST_VALUE],
        )
        for detail in error.errors()[:20]
    ]
    return Problem("invalid", "; ".join(f"{one.field}: {one.problem}" for one in errors[:3]), errors=errors)


def invalid(field: str, problem: str) -> Problem:
    """Return the problem of one field."""
    return Problem("invalid", f"{field}: {problem}", errors=[FieldProblem(field=field, problem=problem)])


def handle_problems(app: FastAPI, routers: Sequence[APIRouter]) -> None:
    """Have every error of an application answered as a problem."""

    async def answer(request: Request, error: Exception) -> Response:
        response = problem_of(error).response()
        if response.status_code == 405:
            response.headers["Allow"] = ", ".join(_methods_at(routers, request.scope.get("path", "")))
        return response

    for kind in (Problem, NotFound, Refusal, RequestValidationError, HTTPException, ConnectorError, StoreError):
        app.add_exception_handler(kind, answer)
