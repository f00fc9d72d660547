"""Posted forms that are saved while somebody signs in again, so that nothing has to be typed twice.

Owns the forms in memory, encrypted and for half an hour; `visit` and the pages decide what is saved and where it is
shown again.
"""

from __future__ import annotations

import json
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.fernet import Fernet

_LIFETIME = 1800.0  # seconds
_MAX_FORMS = 500
_MAX_FORM_BYTES = 32 * 1024


@dataclass(frozen=True, slots=True)
class _SavedForm:
    """The encrypted values of one form, and the path of the page that may show them."""

    expires_at: float
    page: str
    encrypted: bytes


class SavedForms:
    """Saves forms under random names, which are all of them that leaves this process.

    A form may hold secrets, such as a till's token. Callers save only forms whose CSRF token is right, so that a
    stranger cannot push out the forms of others.
    """

    def __init__(self) -> None:
        self._forms: OrderedDict[str, _SavedForm] = OrderedDict()
        # the key lives as long as this process: whatever else is kept of a form can be read by nobody after it
        self._cipher = Fernet(Fernet.generate_key())

    def save(self, page: str, values: Mapping[str, list[str]]) -> str:
        """Save the values for the page at a path; return their name, or an empty text where they are too large."""
        plain = json.dumps(values, ensure_ascii=False).encode()
        if len(plain) > _MAX_FORM_BYTES:
            return ""
        name = secrets.token_urlsafe(18)
        self._forms[name] = _SavedForm(time.monotonic() + _LIFETIME, page, self._cipher.encrypt(plain))
        self._drop_old_forms()
        return name

    def _drop_old_forms(self) -> None:
        # all forms live equally long, so the first in the order of saving is also the first to expire
        while len(self._forms) > _MAX_FORMS or next(iter(self._forms.values())).expires_at < time.monotonic():
            self._forms.popitem(last=False)

    def take(self, name: str, page: str) -> dict[str, list[str]]:
        """Return the values saved under a name for this page; nothing where the name is unknown, too old or another's.

        The form stays saved until it expires, so that the page can be loaded again.
        """
        form = self._forms.get(name)
        if form is None or form.expires_at < time.monotonic() or form.page != page:
            return {}
        values: dict[str, list[str]] = json.loads(self._cipher.decrypt(form.encrypted))
        return values
