"""Poster's own shapes: error answers, loosely typed fields, and the hook body (`wire/poster.md`).

Owns how bytes are read; what a receipt means is `mapping`'s.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from connector_sdk.errors import (
    BadPayload,
    ConnectorError,
    MissingRight,
    NotAuthorised,
    RateLimited,
    TillUnavailable,
)
from connector_sdk.numbers import whole_of

_WHITE = re.compile(r"[ \t\r\n]*")
_MOST_FIELDS = 64
# What is signed is joined by ";" and says nothing of where a field ends, so that a text with another cut would have
# the same md5. Names of accounts are letters, digits and "-"; objects, actions and ids are words and numbers; a time is
# seconds. Only `data` is free text: with no ";" in any other field, and digits alone in the time after it, there is one
# cut only.
_SEPARATOR = ";"
_TIME = re.compile(r"[0-9]{1,10}")


class NoRecord(ConnectorError):
    """Poster has no such record (codes 32 and 404)."""


def judge(answer: Any) -> None:
    """Raise what an error answer means; errors come with HTTP 200, in two shapes."""
    if not isinstance(answer, dict) or ("error" not in answer and "response" not in answer):
        raise TillUnavailable("the answer has neither a response nor an error")
    error = answer.get("error")
    if not error:
        return
    code = error.get("code") if isinstance(error, dict) else error
    match str(code):
        case "10" | "11" | "12":
            raise NotAuthorised(f"Poster refuses the token (code {code})")
        case "20" | "54":
            raise MissingRight("use this part of Poster's API")
        case "32" | "404":
            raise NoRecord(f"no such record (code {code})")
        case "52":
            raise BadPayload("dateFrom", "Poster says that the range of days is too long")
        case "700":
            raise RateLimited(60)
    raise TillUnavailable(
        f"Poster answered with error {code}" if type(code) is int else "Poster answered with an error"
    )


def response_list(answer: Mapping[str, Any]) -> list[Any]:
    """The list in an answer; where there is something else, nothing can be said."""
    found = answer.get("response")
    if not isinstance(found, list):
        raise TillUnavailable("the answer has no list")
    return found


def whole(raw: Mapping[str, Any], field: str, default: int | None = None) -> int:
    """An integer however it is written; absent, null and empty are `default`. Raises `BadPayload`."""
    value = raw.get(field)
    if value is None or value == "":
        if default is None:
            raise BadPayload(field, "is missing")
        return default
    if type(value) is int:
        return value
    try:
        return whole_of(value)
    except ValueError:
        raise BadPayload(field, "is not a whole number") from None


def text(raw: Mapping[str, Any], field: str) -> str:
    """A text or number as text; absent, null, false and "0" are empty."""
    value = raw.get(field)
    if value is None or isinstance(value, bool | dict | list):
        return ""
    found = str(value).strip()
    return "" if found == "0" else found


@dataclass(frozen=True, slots=True)
class Hook:
    """A hook body, with `signed` the text of its fields exactly as they go into the signature."""

    account: str
    account_number: str
    object: str
    object_id: str
    action: str
    time: str
    verify: str
    data: str | None

    @property
    def is_test(self) -> bool:
        """Whether it is the developer site's "Check", which is not signed and about nothing."""
        return self.action == "test" and not self.object

    @property
    def signed(self) -> list[str]:
        fields = [self.account, self.object, self.object_id, self.action]
        return [*fields, *([self.data] if self.data is not None else []), self.time]

    def at(self) -> datetime:
        """When Poster says that it happened."""
        return datetime.fromtimestamp(int(self.time), UTC)

    def details(self) -> dict[str, Any]:
        """The object in `data`, whether it was sent as text or as itself; empty where it is neither."""
        try:
            found = json.loads(self.data or "{}")
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}


def hook(body: bytes) -> Hook:
    """Read a hook, whatever its content type says. Raises `BadPayload` that names the field."""
    fields = _fields(body)
    for name in ("object", "action", "verify"):
        if name not in fields:
            raise BadPayload(name, "is missing")
    if fields.get("data") == "null":
        del fields["data"]  # signed only when present
    values = {name: _as_signed(name, raw) for name, raw in fields.items()}
    for name in ("account", "object", "object_id", "action"):
        if _SEPARATOR in values.get(name, ""):
            raise BadPayload(name, "holds a semicolon")
    read = Hook(
        account=values.get("account", ""),
        account_number=values.get("account_number", ""),
        object=values["object"],
        object_id=values.get("object_id", ""),
        action=values["action"],
        time=values.get("time", ""),
        verify=values["verify"],
        data=values.get("data"),
    )
    if not read.is_test and not _TIME.fullmatch(read.time):
        raise BadPayload("time", "is not in seconds")
    return read


def _as_signed(name: str, raw: str) -> str:
    """A field as it was signed: the text inside a string, and anything else byte for byte."""
    if not raw.startswith('"'):
        return "" if raw == "null" else raw
    value: str = json.loads(raw)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadPayload(name[:40], "is not text") from None
    return value


def _fields(body: bytes) -> dict[str, str]:
    """The top-level members of a JSON object, each value as the bytes that were sent.

    Poster signs `data` as it sent it; parsing and printing it again would not give the same bytes.
    """
    try:
        source = body.decode("utf-8")
        return _scan(source)
    except (ValueError, RecursionError, IndexError):
        raise BadPayload("body", "is not a JSON object") from None


def _scan(source: str) -> dict[str, str]:
    decoder = json.JSONDecoder()

    def skip(at: int) -> int:
        return _WHITE.match(source, at).end()  # type: ignore[union-attr]

    def expect(at: int, sign: str) -> int:
        if source[at] != sign:
            raise ValueError(f"no {sign}")
        return skip(at + 1)

    fields: dict[str, str] = {}
    at = expect(skip(0), "{")
    while source[at] != "}":
        if fields:
            at = expect(at, ",")
        name, at = decoder.raw_decode(source, at)
        if not isinstance(name, str) or name in fields or len(fields) >= _MOST_FIELDS:
            raise ValueError("a name twice, or no name")
        start = expect(skip(at), ":")
        _, end = decoder.raw_decode(source, start)
        fields[name] = source[start:end]
        at = skip(end)
    if skip(at + 1) != len(source):
        raise ValueError("something follows")
    return fields
