"""The console's cookies: their names, and the attributes that keep them from scripts and other sites.

Owns how a cookie is read and set; what each one means is `auth`'s, `csrf`'s and `known_browsers`'.
"""

from __future__ import annotations

from starlette.requests import HTTPConnection
from starlette.responses import Response

from connectors.domain.clock import DAY
from connectors.web.console.clients import Clients
from connectors.web.request_input import read_cookie

REMEMBERED_FOR = 90 * DAY
"""How long a remembered session lives, and the cookies that outlive sessions; microseconds."""
_MAX_VALUE = 300


class Cookies:
    """Reads and sets cookies whose names carry the prefix `__Host-` by https.

    Browsers take a cookie of that prefix only from this very host, by https and for all paths, so that no other site
    below the same domain can plant one.
    """

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    def read(self, request: HTTPConnection, name: str, longest: int = _MAX_VALUE) -> str:
        """Return a cookie's value, cut to a bounded length; an empty text where there is none."""
        return read_cookie(request, self._full_name(request, name))[:longest]

    def set(self, request: HTTPConnection, response: Response, name: str, value: str, max_age: int | None) -> None:
        """Set a cookie for some seconds, or until the browser is closed."""
        response.set_cookie(
            self._full_name(request, name),
            value,
            max_age=max_age,
            path="/",
            secure=self._clients.is_https(request),
            httponly=True,
            samesite="lax",
        )

    def delete(self, request: HTTPConnection, response: Response, name: str) -> None:
        """Delete a cookie; browsers ask for the attributes that it was set with."""
        response.delete_cookie(
            self._full_name(request, name),
            path="/",
            secure=self._clients.is_https(request),
            httponly=True,
            samesite="lax",
        )

    def _full_name(self, request: HTTPConnection, name: str) -> str:
        return f"__Host-{name}" if self._clients.is_https(request) else name
