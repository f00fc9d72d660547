"""Posted forms that are saved while somebody signs in again, so that nothing has to be typed twice.

Owns which forms are saved and for which page; that they are encrypted, and for how long, is
`connectors.store.console_items`'.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping

from connectors.store import console_items
from connectors.store.console_items import ItemKind
from connectors.store.engine import Store
from connectors.web.console.sign_in_limits import RateLimits, TooManyAttempts

_MAX_FORM_BYTES = 32 * 1024
_SAVED_PER_SECOND, _SAVED_AT_ONCE = 0.5, 20


class SavedForms:
    """Saves forms under random names, of which a network may save so many, whoever it is.

    A form may hold secrets, such as a till's token. Callers save only forms whose CSRF token is right.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        # a form is saved for whoever is signed out, too: each costs a write of the database
        self._limits = RateLimits(_SAVED_PER_SECOND, _SAVED_AT_ONCE)

    async def save(self, page: str, values: Mapping[str, list[str]], network: str) -> str:
        """Save the values for the page at a path; return their name.

        An empty one where they are too large, or the network has saved too many lately.
        """
        content = json.dumps(values)
        if len(content) > _MAX_FORM_BYTES:
            return ""
        try:
            self._limits.take(network)
        except TooManyAttempts:
            return ""
        name = secrets.token_urlsafe(18)
        await self._store.write(lambda tx: console_items.put(tx, ItemKind.form, name, page, content))
        return name

    async def take(self, name: str, page: str) -> dict[str, list[str]]:
        """Return the values saved under a name for this page; nothing where the name is unknown, too old or another's.

        The form stays saved until it expires, so that the page can be loaded again.
        """
        if not name:
            return {}
        form = await self._store.read(lambda tx: console_items.find(tx, ItemKind.form, name))
        if form is None or form.subject != page:
            return {}
        values: dict[str, list[str]] = json.loads(form.content)
        return values
