"""Reading a request's body and cookies, in memory and work that grow no faster than what was sent.

Owns that a body over its bound is refused before it is read where the client says its length, and while it is read
where not. What the bound is, each route says.
"""

from __future__ import annotations

from starlette.requests import HTTPConnection, Request

_MOST_DIGITS = 18
"""A length of more digits is over any bound; turning thousands of them into a number is work that grows faster."""


async def read_body(request: Request, most: int) -> bytes | None:
    """Return the body, or `None` where it has more than `most` bytes. Raises starlette's `ClientDisconnect`."""
    if _says_more_than(request.headers.get("content-length", ""), most):
        return None
    size, whole, body = 0, b"", bytearray()
    async for chunk in request.stream():
        size += len(chunk)
        if size > most:
            return None
        if size == len(chunk):
            whole = chunk  # most bodies come in one piece, which is not copied
        elif chunk:
            body += whole + chunk
            whole = b""
    return whole or bytes(body)


def _says_more_than(length: str, most: int) -> bool:
    """Tell whether a `Content-Length` is over a bound; one that is no number says nothing."""
    # `isdigit` alone takes digits of every script
    is_number = length.isascii() and length.isdigit()
    return is_number and (len(length) > _MOST_DIGITS or int(length) > most)


def read_cookie(request: HTTPConnection, name: str) -> str:
    """Return a cookie of ours, the last of that name, or an empty text.

    Starlette's own `cookies` undoes escapes with the standard library, which before Python 3.11.10 and 3.12.6 takes
    work quadratic in their number: seconds for 64 KiB of them. Our values hold nothing that is escaped.
    """
    value = ""
    for header in request.headers.getlist("cookie"):
        for pair in header.split(";"):
            pair_name, equals, text = pair.partition("=")
            if equals and pair_name.strip() == name:
                value = text.strip()
    # some clients put every value in quotes
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value
