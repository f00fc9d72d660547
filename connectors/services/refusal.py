"""What is said when something cannot be done: a sentence, and the same for a reader's language."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from connector_sdk.messages import Catalogue, Message
from connectors.sync.field_errors import describe_field_errors, field_error

ENGLISH = Catalogue(["connectors"])


class Refusal(Exception):
    """Something was asked that cannot be done; the text says why and what can.

    `message` is the same for a reader's language, `field` the form field it is about.
    """

    def __init__(self, text: str, /, *, field: str | None = None, **params: Any) -> None:
        self.message = Message(text, params)
        self.field = field
        super().__init__(ENGLISH.word(self.message))


class KeyRefused(Refusal):
    """7stamp knows no such key, or does not any more."""


class WrongFields(Refusal):
    """Settings that a connector cannot take: what is wrong with each field."""

    def __init__(self, title: str, error: ValidationError, where: str) -> None:
        super().__init__("{title}: {wrong}. {where}", title=title, wrong=describe_field_errors(error), where=where)
        said = (field_error(one) for one in error.errors(include_input=False))
        self.fields: Mapping[str, Message] = {name: Message(why) for name, why in said}


class Unfit(WrongFields):
    """Settings that make no sale of what the till really sent: what is wrong with each field, and what was found."""

    def __init__(self, title: str, fields: Mapping[str, Message]) -> None:
        wrong = "; ".join(f"{name}: {ENGLISH.word(why)}" if name else ENGLISH.word(why) for name, why in fields.items())
        text = "{title}: what the till sent does not become a sale: {wrong}"
        Refusal.__init__(self, text, title=title, wrong=wrong)
        self.fields = fields
