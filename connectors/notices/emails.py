"""Emails to a cafe: when something has needed a person for a while, when it works again, of its plan and its week.

Owns wording and sending; what is due, and that it is due once, is `connectors.store.connections.alerts`'.
"""

from __future__ import annotations

import asyncio
import logging
import smtplib
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import SecretStr

from connector_sdk.messages import Catalogue, Message
from connectors.domain.plan import local_day
from connectors.notices.week import read_week
from connectors.store import connections
from connectors.store.connections.alerts import Notification, PlanNotification, WeekNotification
from connectors.store.engine import Store, Transaction
from connectors.store.errors import StoreError

log = logging.getLogger(__name__)

_DEADLINE = 20.0
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_FIRST_PERMANENT_CODE = 500  # SMTP: 4xx is for now, 5xx for good


class NotSent(Exception):
    """The message surely did not go out."""


class Emails:
    """Sends the emails that are due; `smtp` is the mail server's address, `console_url` returns the console's."""

    def __init__(self, store: Store, words: Catalogue, smtp: SecretStr | None, console_url: Callable[[], str]) -> None:
        self._store = store
        self._words = words
        self._server = _server_of(smtp.get_secret_value()) if smtp is not None else None
        self._console_url = console_url

    async def round(self) -> int:
        """Send what is due now, and return how many messages went out."""
        if self._server is None:
            return 0
        # claimed before it is sent: a message that may have gone out is never sent again
        of_connections, of_plans, of_weeks = await self._store.write(
            lambda tx: (
                connections.alerts.take_due(tx),
                connections.alerts.take_due_plans(tx),
                connections.alerts.take_due_weeks(tx),
            )
        )
        due = [*map(self._of_connection, of_connections), *map(self._of_plan, of_plans)]
        sent = sum([await self._send(self._server, one) for one in due])
        for notification in of_weeks:  # last, and each by itself: their numbers are read first
            sent += await self._send_week(self._server, notification)
        return sent

    async def _send_week(self, server: _MailServer, notification: WeekNotification) -> bool:
        """Send a message about a week; where its numbers cannot be read, it goes out later."""
        try:
            letter = await self._of_week(notification)
        except StoreError as error:
            log.warning("connection %s: its week could not be read: %s", notification.connection.id, error)
            await self._store.write(lambda tx: connections.alerts.mark_week_unsent(tx, notification))
            return False
        return await self._send(server, letter)

    async def _send(self, server: _MailServer, letter: _Letter) -> bool:
        """Send one message and return whether it went out; whatever goes wrong, the others are sent all the same."""
        try:
            email = self._email(letter)
        except Exception as error:
            log.exception(
                "connection %s: an email could not be written: %s", letter.connection_id, type(error).__name__
            )
            return False
        try:
            await asyncio.to_thread(_send, server, email)
        except NotSent as error:
            log.warning("connection %s: an email could not be sent: %s", letter.connection_id, error)
            await self._store.write(letter.mark_unsent)
            return False
        except (OSError, smtplib.SMTPException) as error:
            # it broke while the message was under way: twice would be worse than never
            log.warning("connection %s: an email may be lost: %s", letter.connection_id, type(error).__name__)
            return False
        return True

    def _of_connection(self, notification: Notification) -> _Letter:
        return _Letter(
            connection_id=notification.connection_id,
            kind="trouble" if notification.trouble else "well",
            params={"title": _on_one_line(notification.title)},
            language=notification.language,
            email=notification.email,
            mark_unsent=lambda tx: connections.alerts.mark_unsent(tx, notification),
        )

    def _of_plan(self, notification: PlanNotification) -> _Letter:
        plan = notification.plan
        return _Letter(
            connection_id=notification.connection_id,
            kind="plan_used" if notification.used_up else "plan_near",
            params={
                "title": _on_one_line(notification.business),
                "used": plan.used,
                "allowed": plan.allowed,
                "day": local_day(plan.until, notification.zone),
            },
            language=notification.language,
            email=notification.email,
            mark_unsent=lambda tx: connections.alerts.mark_plan_unsent(tx, notification),
        )

    async def _of_week(self, notification: WeekNotification) -> _Letter:
        connection, day = notification.connection, notification.day
        params = await read_week(self._store, connection, day)
        return _Letter(
            connection_id=connection.id,
            kind="week",
            params={**params, "title": _on_one_line(connection.title)},
            language=notification.language,
            email=notification.email,
            mark_unsent=lambda tx: connections.alerts.mark_week_unsent(tx, notification),
        )

    def _email(self, letter: _Letter) -> EmailMessage:
        """Write the message in the reader's language."""
        params = {**letter.params, "url": f"{self._console_url()}/connections/{letter.connection_id}"}
        email = EmailMessage()
        email["To"] = letter.email
        email["Subject"] = self._words.word(Message(f"email.{letter.kind}.subject", params), letter.language)
        email["Date"] = formatdate()
        email["Message-ID"] = make_msgid(domain="7stamp-connectors.invalid")
        email["Auto-Submitted"] = "auto-generated"  # RFC 3834: no holiday replies to it
        email.set_content(self._words.word(Message(f"email.{letter.kind}.body", params), letter.language))
        return email


@dataclass(frozen=True, slots=True)
class _Letter:
    """A message that is claimed: its wording's name and parameters, and what undoes the claim."""

    connection_id: str
    kind: str
    params: Mapping[str, object]
    language: str
    email: str = field(repr=False)
    mark_unsent: Callable[[Transaction], None]


def _on_one_line(text: str) -> str:
    return " ".join(text.split())  # a header has no other


@dataclass(frozen=True, slots=True)
class _MailServer:
    """A mail server as `CONNECTORS_SMTP_URL` names it, and who writes."""

    tls: bool
    """Whether it speaks TLS from the first byte (`smtps`); otherwise it is asked for STARTTLS."""
    host: str
    port: int | None
    user: str
    password: str = field(repr=False)
    sender: str


def _server_of(url: str) -> _MailServer:
    """Read a `smtp://` or `smtps://` address, which the settings have validated."""
    parts = urlsplit(url)
    user = unquote(parts.username) if parts.username else ""
    return _MailServer(
        tls=parts.scheme == "smtps",
        host=parts.hostname or "localhost",
        port=parts.port,
        user=user,
        password=unquote(parts.password or ""),
        sender=parse_qs(parts.query).get("from", [user])[0],
    )


def _send(server: _MailServer, email: EmailMessage) -> None:
    """Send one message. Raises `NotSent` where it surely was not, `OSError` or `SMTPException` where it may have been.

    Until the server has taken the message, an error means that it did not. Once it has begun to take it, only a code
    below 500 says for sure that it did not, and that it may be sent later.
    """
    email["From"] = server.sender
    try:
        smtp = _connect(server)
    except (OSError, smtplib.SMTPException) as error:
        raise NotSent(type(error).__name__) from None
    try:
        smtp.send_message(email)
    except smtplib.SMTPRecipientsRefused as error:
        codes = [code for code, _ in error.recipients.values()]
        if all(code < _FIRST_PERMANENT_CODE for code in codes):
            raise NotSent(f"the server says {codes}: later") from None
        raise
    except smtplib.SMTPResponseException as error:
        if error.smtp_code < _FIRST_PERMANENT_CODE:
            raise NotSent(f"the server says {error.smtp_code}: later") from None
        raise
    finally:
        try:
            smtp.quit()
        except (OSError, smtplib.SMTPException):
            smtp.close()


def _connect(server: _MailServer) -> smtplib.SMTP:
    """Connect, encrypted where the server can, and sign in.

    Raises `NotSent` before a password would go in the clear, `OSError` or `SMTPException` where the server fails.
    """
    context = ssl.create_default_context()
    if server.tls:
        smtp: smtplib.SMTP = smtplib.SMTP_SSL(server.host, server.port or 465, timeout=_DEADLINE, context=context)
        encrypted = True
    else:
        smtp = smtplib.SMTP(server.host, server.port or 587, timeout=_DEADLINE)
        smtp.ehlo()
        encrypted = smtp.has_extn("starttls")
        if encrypted:
            smtp.starttls(context=context)
    if server.user:
        if not encrypted and server.host not in _LOOPBACK:
            smtp.close()
            raise NotSent("the server offers no encryption, and a password does not go without")
        smtp.login(server.user, server.password)
    return smtp
