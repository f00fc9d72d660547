"""What every call of the API has in common: a bound on what is read, problems as answers, and pages by cursor.

Owns these; the calls are in the modules beside it.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Coroutine, Sequence
from datetime import date
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Query, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, BeforeValidator, Field, StringConstraints
from starlette.requests import ClientDisconnect

from connectors.web.api.problems import Problem, ProblemBody, problem_of
from connectors.web.request_input import read_body

MOST_BODY = 256 * 1024
_LONGEST_CURSOR = 200
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_CACHE = "no-store"

Text = Annotated[str, StringConstraints(max_length=2000, pattern=r"^[^\x00]*$")]
"""A text that every database takes."""


def _day(value: object) -> object:
    # pydantic would read "0" as a number of seconds since 1970
    if isinstance(value, str) and not _DAY.fullmatch(value):
        raise ValueError("a day is written 2026-11-26")
    return value


Day = Annotated[date, BeforeValidator(_day)]
"""A calendar day."""

Limit = Annotated[int, Query(ge=1, le=200, description="The most items of a page")]
CursorText = Annotated[
    str | None, Query(alias="cursor", max_length=_LONGEST_CURSOR, description="`next` of the page before")
]


class ApiRoute(APIRoute):
    """A call: its body is read within its bound, and whatever it raises is answered as a problem."""

    # `Any` is Starlette's own type of a handler
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler that FastAPI makes, wrapped."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                await _bound_request(request)
                response = await handler(request)
            except ClientDisconnect:
                return Response(status_code=400)
            except Exception as error:  # noqa: BLE001 - a program gets a problem, whatever a handler raises
                response = problem_of(error).response()
            # what is answered is a business's: no cache on the way keeps it
            response.headers.update({"Cache-Control": _CACHE, "X-Content-Type-Options": "nosniff"})
            for name, value in getattr(request.state, "rate_headers", {}).items():
                response.headers.setdefault(name, value)
            return response

        return handle


async def _bound_request(request: Request) -> None:
    """Read a request's body within its bound. Raises `Problem`."""
    if "\x00" in request.url.path or "%00" in request.url.query:  # PostgreSQL takes no NUL in a text
        raise Problem("not_found", "there is no such address")
    body = await read_body(request, MOST_BODY)
    if body is None:
        raise Problem("too_large", f"a body has at most {MOST_BODY // 1024} KiB")
    if body and not request.headers.get("content-type", "").split(";")[0].strip().endswith("json"):
        raise Problem("unsupported_media_type", "send JSON, with Content-Type: application/json")
    # where FastAPI looks for it
    request._body = body


ItemT = TypeVar("ItemT")


class Page(BaseModel, Generic[ItemT]):
    """A page of a list, newest first."""

    items: Sequence[ItemT]
    next: str | None = Field(description="The cursor of the next page; null where this is the last")


def cursor_of(*position: str | int) -> str:
    """Make the cursor of a position in a list."""
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode().rstrip("=")


def number_from(cursor: str | None) -> int | None:
    """Return the number that a cursor of a list by numbers stands for. Raises `Problem` for one that is none."""
    if cursor is None:
        return None
    match _position(cursor):
        case [int(number)] if _is_number(number):
            return number
    raise _foreign_cursor()


def moment_and_id_from(cursor: str | None) -> tuple[int, str] | None:
    """Return the moment and the id that a cursor of a list by time stands for. Raises `Problem` for one that is none.

    The moment is in UTC microseconds.
    """
    if cursor is None:
        return None
    match _position(cursor):
        case [int(moment), str(one)] if _is_number(moment) and one.isascii() and "\x00" not in one:
            return moment, one
    raise _foreign_cursor()


def _position(cursor: str) -> object:
    try:
        return json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError):
        return None


def _is_number(number: int) -> bool:
    return not isinstance(number, bool) and 0 <= number < 2**62


def _foreign_cursor() -> Problem:
    return Problem("invalid", "this cursor is none of ours: leave it out to begin anew")


def problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Describe the statuses that a call may be refused with."""
    usual = (401, 403, 404, 413, 415, 422, 429, 503)
    return {
        status: {
            "model": ProblemBody,
            "description": "Why not",
            "content": {"application/problem+json": {}},
        }
        for status in sorted({*usual, *codes})
    }
