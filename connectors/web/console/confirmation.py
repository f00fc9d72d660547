"""Confirmation by a secret: whoever asks for what cannot be undone shows a key, or the operator's password, once more.

Owns whose secret counts; the tries and their limits are the sign-in's.
"""

from __future__ import annotations

from connectors.domain.connection import Connection
from connectors.services import Refusal
from connectors.web.console.sign_in_limits import TooManyAttempts
from connectors.web.console.visit import Visit


async def confirmation_error(visit: Visit, connection: Connection) -> str | None:
    """Check the secret in the form; return what is wrong with it in words, `None` where nothing is."""
    # a session lives for weeks, and its device may be in other hands: what cannot be undone asks for the secret itself
    secret = visit.form.get("secret")
    try:
        if visit.signed_in_session.operator:
            await visit.console.credentials.check_password(visit.request, secret, session=visit.signed_in_session)
            return None
        me = await visit.console.credentials.check_key(visit.request, secret.strip(), session=visit.signed_in_session)
    except (Refusal, TooManyAttempts) as error:
        return visit.explain(error)
    # the key is right, but not here: the business whose connection it is reads of it in its security log
    if me.business.id != connection.business_id:
        await visit.console.security_events.record_failed_sign_in(visit.request, "foreign", connection.business_id)
        return visit.localizer.text("This key is of another business.")
    return None
