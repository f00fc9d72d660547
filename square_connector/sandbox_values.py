"""Values as Square writes them in JSON: sums of money, times and errors.

Owns how one value is written and read; which values an order or a hook is made of is theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

JsonObject = dict[str, Any]
"""One JSON object; its members are whatever JSON allows."""

Clock = Callable[[], datetime]
"""The current time, aware."""

_MICROSECOND_DIGITS = 6


class SquareError(Exception):
    """Square refuses a call; `status` is the HTTP status, `answer` the body."""

    def __init__(self, status: int, category: str, code: str, detail: str, field: str | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.answer: JsonObject = {"errors": [{"category": category, "code": code, "detail": detail}]}
        if field is not None:
            self.answer["errors"][0]["field"] = field


def bad_request(detail: str, field: str | None = None, code: str = "BAD_REQUEST") -> SquareError:
    """Return the error of a request that Square does not understand; `field` names the member at fault."""
    return SquareError(400, "INVALID_REQUEST_ERROR", code, detail, field)


def not_found(detail: str) -> SquareError:
    """Return the error of an address or id that nothing has."""
    return SquareError(404, "INVALID_REQUEST_ERROR", "NOT_FOUND", detail)


def refused(code: str, detail: str) -> SquareError:
    """Return the error of a token, code or secret that opens nothing."""
    return SquareError(401, "AUTHENTICATION_ERROR", code, detail)


def lacks_scope(scope: str) -> SquareError:
    """Return the error of a token whose seller did not grant `scope`."""
    return SquareError(403, "AUTHENTICATION_ERROR", "INSUFFICIENT_SCOPES", f"This seller did not grant {scope}.")


def money(amount: int, currency: str) -> JsonObject:
    """Write a sum, given in the currency's smallest unit."""
    return {"amount": amount, "currency": currency}


def write_time(at: datetime, digits: int = 3) -> str:
    """Write a time in UTC with so many digits of a second's fraction, 0 to 6; Square itself is not consistent."""
    text = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
    # what is cut off is lost: a time is never written later than it is
    cut = len(text) - _MICROSECOND_DIGITS + digits if digits else len(text) - _MICROSECOND_DIGITS - 1
    return f"{text[:cut]}Z"


def read_time(text: object, field: str) -> datetime:
    """Read a time of a request, at the member `field`. Raises `SquareError`."""
    try:
        at = datetime.fromisoformat(str(text))
    except ValueError:
        raise bad_request("This is not a time of RFC 3339.", field) from None
    if at.tzinfo is None:
        raise bad_request("This time has no zone.", field)
    return at


def utc_now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)
