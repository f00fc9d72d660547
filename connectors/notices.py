"""Emails to a cafe: one when something has needed a person for a quarter of an hour, one when it works again.

Owns wording and sending; what is due, and that it is due once, is `connectors.store.watches`'.
"""

from __future__ import annotations

import asyncio
import logging
import smtplib
import ssl
from collections.abc import Callable
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import SecretStr

from connector_sdk.messages import Catalogue, Message
from connectors.store import connections
from connectors.store.connections.alerts import Notification
from connectors.store.engine import Store

log = logging.getLogger(__name__)

_PATIENCE = 20.0


class NotSent(Exception):
    """The message surely did not go out."""


class Notices:
    """Sends what is due."""

    def __init__(self, store: Store, words: Catalogue, smtp: SecretStr | None, console: Callable[[], str]) -> None:
        self._store = store
        self._words = words
        self._smtp = smtp
        self._console = console

    async def round(self) -> int:
        """Send what is due now; how many messages went out."""
        if self._smtp is None:
            return 0
        sent = 0
        # claimed before it is sent: a message that may have gone out is never sent again
        for telling in await self._store.write(connections.alerts.claim_due):
            try:
                letter = self._letter(telling)
            except Exception as error:
                log.exception(
                    "connection %s: an email could not be written: %s", telling.connection_id, type(error).__name__
                )
                continue  # the others are written all the same
            try:
                await asyncio.to_thread(_send, self._smtp.get_secret_value(), letter)
                sent += 1
            except NotSent as error:
                log.warning("connection %s: an email could not be sent: %s", telling.connection_id, error)
                await self._store.write(lambda tx, one=telling: connections.alerts.mark_unsent(tx, one))  # type: ignore[misc]
            except (OSError, smtplib.SMTPException) as error:
                log.warning("connection %s: an email may be lost: %s", telling.connection_id, type(error).__name__)
        return sent

    def _letter(self, telling: Notification) -> EmailMessage:
        kind = "trouble" if telling.trouble else "well"
        params = {
            "title": " ".join(telling.title.split()),
            "url": f"{self._console()}/connections/{telling.connection_id}",
        }
        letter = EmailMessage()
        letter["To"] = telling.email
        letter["Subject"] = self._words.word(Message(f"email.{kind}.subject", params), telling.language)
        letter["Date"] = formatdate()
        letter["Message-ID"] = make_msgid(domain="7stamp-connectors.invalid")
        letter["Auto-Submitted"] = "auto-generated"
        letter.set_content(self._words.word(Message(f"email.{kind}.body", params), telling.language))
        return letter


def _send(url: str, letter: EmailMessage) -> None:
    """One message through the server of a `smtp://` or `smtps://` address. Raises `NotSent` where it surely was not."""
    parts = urlsplit(url)
    host = parts.hostname or "localhost"
    user = unquote(parts.username) if parts.username else ""
    sender = parse_qs(parts.query).get("from", [user])[0]
    letter["From"] = sender
    try:
        server = _connected(parts.scheme, host, parts.port, user, unquote(parts.password or ""))
    except (OSError, smtplib.SMTPException) as error:
        raise NotSent(type(error).__name__) from None
    try:
        server.send_message(letter)
    except smtplib.SMTPRecipientsRefused as error:
        codes = [code for code, _ in error.recipients.values()]
        if all(code < 500 for code in codes):
            raise NotSent(f"the server says {codes}: later") from None
        raise
    except smtplib.SMTPResponseException as error:
        if error.smtp_code < 500:
            raise NotSent(f"the server says {error.smtp_code}: later") from None
        raise
    finally:
        try:
            server.quit()
        except (OSError, smtplib.SMTPException):
            server.close()


def _connected(scheme: str, host: str, port: int | None, user: str, password: str) -> smtplib.SMTP:
    context = ssl.create_default_context()
    if scheme == "smtps":
        server: smtplib.SMTP = smtplib.SMTP_SSL(host, port or 465, timeout=_PATIENCE, context=context)
        encrypted = True
    else:
        server = smtplib.SMTP(host, port or 587, timeout=_PATIENCE)
        server.ehlo()
        encrypted = server.has_extn("starttls")
        if encrypted:
            server.starttls(context=context)
    if user:
        if not encrypted and host not in ("localhost", "127.0.0.1", "::1"):
            server.close()
            raise NotSent("the server offers no encryption, and a password does not go without")
        server.login(user, password)
    return server
