"""Confirmation by a secret: whoever asks for what cannot be undone shows a key, or the operator's password, once more.

Owns whose secret counts; the tries and their limits are the sign-in's.
"""

from __future__ import annotations

from connectors.domain.connection import Connection
from connectors.services import Refusal
from connectors.web.console.attempts import TooMany
from connectors.web.console.frame import Visit


async def confirmation_error(visit: Visit, connection: Connection) -> str | None:
    """Check the secret in the form; return what is wrong with it in words, `None` where nothing is."""
    secret = visit.form.get("secret")
    try:
        if visit.me.operator:
            await visit.console.gate.check_password(visit.request, secret, session=visit.me)
            return None
        me = await visit.console.gate.check_key(visit.request, secret.strip(), session=visit.me)
    except (Refusal, TooMany) as error:
        return visit.why(error)
    if me.business.id != connection.business_id:
        await visit.console.gate.failed(visit.request, "foreign", connection.business_id)
        return visit.words.text("This key is of another business.")
    return None
