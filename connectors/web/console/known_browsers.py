"""Browsers in which somebody signed in before, so that a crowd of strangers does not keep their owners out.

Owns the signed cookie that tells them; what it is worth when somebody signs in is `credentials`'.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from starlette.requests import HTTPConnection
from starlette.responses import Response

from connectors.domain.clock import SECOND
from connectors.store.access.sessions import OPERATOR, Principal
from connectors.store.engine import Store
from connectors.web.console.cookies import REMEMBERED_FOR, Cookies
from connectors.web.console.csrf import CsrfTokens

_OPERATOR_COOKIE = "operator-was-here"
_BUSINESS_COOKIE = "business-was-here"


@dataclass(frozen=True, slots=True)
class KnownBrowser:
    """A browser in which a business or the operator signed in; `signature` is the browser's own."""

    owner_id: str
    signature: str


class KnownBrowsers:
    """Marks the browsers in which somebody signed in, and recognises them."""

    def __init__(self, store: Store, cookies: Cookies, csrf: CsrfTokens) -> None:
        self._store = store
        self._cookies = cookies
        self._csrf = csrf

    def mark(self, request: HTTPConnection, response: Response, principal: Principal) -> None:
        """Mark this browser as one in which the business or the operator signed in; the mark outlives the session."""
        owner_id = principal.business_id or OPERATOR
        name = _OPERATOR_COOKIE if owner_id == OPERATOR else _BUSINESS_COOKIE
        mark = f"{owner_id}.{self._sign(request, owner_id)}"
        self._cookies.set(request, response, name, mark, REMEMBERED_FOR // SECOND)

    def find_operators(self, request: HTTPConnection) -> KnownBrowser | None:
        """Return this browser if the operator signed in with it before."""
        browser = self._find(request, _OPERATOR_COOKIE)
        return browser if browser is not None and browser.owner_id == OPERATOR else None

    def find_businesses(self, request: HTTPConnection) -> KnownBrowser | None:
        """Return this browser if a business signed in with it before."""
        browser = self._find(request, _BUSINESS_COOKIE)
        # the cookie's name is the client's to choose: what was signed must say whose mark it is
        return browser if browser is not None and browser.owner_id != OPERATOR else None

    def _find(self, request: HTTPConnection, name: str) -> KnownBrowser | None:
        owner_id, _, signature = self._cookies.read(request, name).rpartition(".")
        expected = self._sign(request, owner_id)
        if not expected or not hmac.compare_digest(signature.encode(), expected.encode()):
            return None
        return KnownBrowser(owner_id, expected)

    def _sign(self, request: HTTPConnection, owner_id: str) -> str:
        """Sign for the id of this browser, so that a mark that is copied to another one is worth nothing."""
        browser_id = self._csrf.browser_id(request)
        return self._store.vault.hash("signed in before", owner_id, browser_id) if browser_id else ""
