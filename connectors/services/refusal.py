"""Refusals: what is answered when something cannot be done, as a sentence and as a message for a reader's language.

Owns these exceptions; their sentences stand where the check is, in the module that raises them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from pydantic import ValidationError

from connector_sdk.messages import Catalogue, Message
from connectors.sync.field_errors import NEEDED, describe_field_errors, field_errors

ENGLISH = Catalogue(["connectors"])
"""English words of every message of the host."""


class Refusal(Exception):
    """Something was asked that cannot be done; the text says why and what can.

    `message` is the same for a reader's language, `field` the form field it is about.
    """

    def __init__(self, text: str, /, *, field: str | None = None, **params: str | int | date | Message | None) -> None:
        # the English sentence is the message id: catalogues of other languages translate it
        self.message = Message(text, params)
        self.field = field
        super().__init__(ENGLISH.word(self.message))


class StillRefused(Refusal):
    """A till or 7stamp does not let a connection in, for a reason that is a message of its own."""

    def __init__(self, reason: Message) -> None:
        self.message, self.field = reason, None
        Exception.__init__(self, ENGLISH.word(reason))


class KeyRefused(Refusal):
    """7stamp knows no such key, or does not any more."""


class WrongFields(Refusal):
    """Settings that a connector cannot take; `fields` says what is wrong with each."""

    def __init__(self, title: str, error: ValidationError, where: str) -> None:
        super().__init__("{title}: {wrong}. {where}", title=title, wrong=describe_field_errors(error), where=where)
        self.fields: Mapping[str, Message] = {name: Message(why) for name, why in field_errors(error)}


class MissingToken(WrongFields):
    """Settings in which nothing lets us in: no token, and no consent beside them."""

    def __init__(self, title: str, field: str, where: str) -> None:
        # not WrongFields': its sentence is made of an error of pydantic's
        Refusal.__init__(self, "{title}: {wrong}. {where}", title=title, wrong=f"{field!r} is missing", where=where)
        self.fields = {field: Message(NEEDED)}


class UnusableSettings(WrongFields):
    """Settings that make no sale of what the till really sent; `fields` says what is wrong with each."""

    def __init__(self, title: str, fields: Mapping[str, Message]) -> None:
        reasons = ((name, ENGLISH.word(why)) for name, why in fields.items())
        wrong = "; ".join(f"{name}: {why}" if name else why for name, why in reasons)
        text = "{title}: what the till sent does not become a sale: {wrong}"
        # not WrongFields': its sentence is about a form, and is made of an error of pydantic's
        Refusal.__init__(self, text, title=title, wrong=wrong)
        self.fields = fields
