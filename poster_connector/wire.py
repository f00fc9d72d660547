"""Poster's own shapes: answers and errors of its API, loosely typed fields, and the hook body.

Owns how bytes become values. What a receipt means is `mapping`'s, whether a hook is genuine is `verification`'s.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from connector_sdk.errors import (
    BadPayload,
    ConnectorError,
    MissingRight,
    NotAuthorised,
    RateLimited,
    TillUnavailable,
)
from connector_sdk.numbers import whole_of

JsonObject = Mapping[str, object]
"""A parsed JSON object. Poster promises no field's type, so each value is checked where it is read."""

_DECODER = json.JSONDecoder()
_WHITE = re.compile(r"[ \t\r\n]*")
_MOST_FIELDS = 64
# What is signed is joined by ";" and says nothing of where a field ends, so that a text with another cut would have
# the same md5. Names of accounts are letters, digits and "-"; objects, actions and ids are words and numbers; a time is
# seconds. Only `data` is free text: with no ";" in any other field, and digits alone in the time after it, there is one
# cut only.
_SEPARATOR = ";"
_NEVER_SEPARATED = ("account", "object", "object_id", "action")
_NEEDED = ("object", "action", "verify")
_PLAIN_STATUSES = (401, 404, 429)
_TIME = re.compile(r"[0-9]{1,10}")
_PLAN_PAUSE = 60  # seconds: Poster's code 700 names no time after which to call again


class NoRecord(ConnectorError):
    """Poster has no such record (codes 32 and 404)."""


# --- answers --------------------------------------------------------------------------------------------------------


def judge(status: int, answer: object) -> None:
    """Raise what an error answer means, as a `ConnectorError`; an answer with a response passes."""
    if status in _PLAIN_STATUSES:
        return  # Poster's errors come with 200: these are from before its API, and say what they say
    if not isinstance(answer, dict) or ("error" not in answer and "response" not in answer):
        raise TillUnavailable("the answer has neither a response nor an error")
    error = answer.get("error")
    if error:
        # errors come with HTTP 200 and in two shapes: an object with a code, and the code itself
        raise _refusal(error.get("code") if isinstance(error, dict) else error)


def _refusal(code: object) -> ConnectorError:
    """Map a code of Poster's to the error that says what the host should do."""
    match str(code):
        case "10" | "11" | "12":
            return NotAuthorised(f"Poster refuses the token (code {code})")
        case "20" | "54":
            return MissingRight("use this part of Poster's API")
        case "32" | "404":
            return NoRecord(f"no such record (code {code})")
        case "52":
            return BadPayload("dateFrom", "Poster says that the range of days is too long")
        case "700":
            return RateLimited(_PLAN_PAUSE)
    # a code that is no number may hold anything, so it is not repeated
    return TillUnavailable(
        f"Poster answered with error {code}" if type(code) is int else "Poster answered with an error"
    )


def response_list(answer: JsonObject) -> list[object]:
    """Return the list in an answer. Raises `TillUnavailable` where there is something else."""
    response = answer.get("response")
    if not isinstance(response, list):
        raise TillUnavailable("the answer has no list")
    return response


def response_object(answer: JsonObject, method: str) -> JsonObject:
    """Return the object in a method's answer. Raises `TillUnavailable` where there is something else."""
    response = answer.get("response")
    if not isinstance(response, dict):
        raise TillUnavailable(f"{method}: the answer has no object")
    return response


# --- fields ---------------------------------------------------------------------------------------------------------


def read_whole(raw: JsonObject, name: str, default: int | None = None) -> int:
    """Read an integer however it is written; absent, null and empty are `default`. Raises `BadPayload`."""
    value = raw.get(name)
    if value is None or value == "":
        if default is None:
            raise BadPayload(name, "is missing")
        return default
    if type(value) is int:  # and not `isinstance`: true and false are integers to Python
        return value
    try:
        return whole_of(value)
    except ValueError:
        raise BadPayload(name, "is not a whole number") from None


def read_text(raw: object, name: str) -> str:
    """Read a text or number as text; absent, null, false and "0" are empty, as is a field of what is no object."""
    value = raw.get(name) if isinstance(raw, Mapping) else None
    if value is None or isinstance(value, bool | dict | list):
        return ""
    stripped = str(value).strip()
    return "" if stripped == "0" else stripped


# --- hooks ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hook:
    """A hook body, each field as it goes into the signature; `verify` is the signature itself.

    `account` is the account's name and signed, `account_number` is not signed. `time` is in seconds since 1970.
    """

    account: str
    account_number: str
    object: str
    object_id: str
    action: str
    time: str
    verify: str
    data: str | None = field(repr=False)

    @property
    def is_test(self) -> bool:
        """Whether it is the developer site's "Check", which is not signed and about nothing."""
        return self.action == "test" and not self.object

    @property
    def signed(self) -> list[str]:
        """The fields that Poster signs, in its order; `data` only where it was sent."""
        fields = [self.account, self.object, self.object_id, self.action]
        return [*fields, *([self.data] if self.data is not None else []), self.time]

    def at(self) -> datetime:
        """Return when Poster says that it happened, in UTC."""
        return datetime.fromtimestamp(int(self.time), UTC)

    def details(self) -> JsonObject:
        """Parse the object in `data`, sent as text or as itself; empty where it is neither."""
        try:
            details = json.loads(self.data or "{}")
        except (ValueError, RecursionError):
            return {}
        return details if isinstance(details, dict) else {}


class _Member(NamedTuple):
    """A value of a JSON object: the text that was sent, and what it says."""

    sent: str
    value: object


def parse_hook(body: bytes) -> Hook:
    """Parse a hook, whatever its content type says. Raises `BadPayload` that names the field."""
    values = _signed_values(_members(body))
    hook = Hook(
        account=values.get("account", ""),
        account_number=values.get("account_number", ""),
        object=values["object"],
        object_id=values.get("object_id", ""),
        action=values["action"],
        time=values.get("time", ""),
        verify=values["verify"],
        data=values.get("data"),
    )
    if not hook.is_test and not _TIME.fullmatch(hook.time):
        raise BadPayload("time", "is not in seconds")
    return hook


def _signed_values(members: dict[str, _Member]) -> dict[str, str]:
    """Turn the members of a hook into the texts that were signed. Raises `BadPayload` that names the field."""
    for name in _NEEDED:
        if name not in members:
            raise BadPayload(name, "is missing")
    if "data" in members and members["data"].value is None:
        del members["data"]  # signed only when present
    values = {name: _as_signed(name, member) for name, member in members.items()}
    for name in _NEVER_SEPARATED:
        if _SEPARATOR in values.get(name, ""):
            raise BadPayload(name, "holds a semicolon")
    return values


def _as_signed(name: str, member: _Member) -> str:
    """Return a field as it was signed: the text inside a string, and anything else byte for byte."""
    if not isinstance(member.value, str):
        return "" if member.value is None else member.sent
    try:
        member.value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair: it parses, and no md5 can be taken of it
        raise BadPayload(name[:40], "is not text") from None
    return member.value


def _members(body: bytes) -> dict[str, _Member]:
    """Map the names of a JSON object to their values. Raises `BadPayload`.

    Poster signs `data` as it sent it; parsing and printing it again would not give the same bytes.
    """
    try:
        return _scan(body.decode("utf-8"))
    except (ValueError, RecursionError, IndexError):
        raise BadPayload("body", "is not a JSON object") from None


def _scan(source: str) -> dict[str, _Member]:
    """Walk over the members of one JSON object. Raises `ValueError` or `IndexError` for any other text.

    The decoder of `json` finds where each value ends; only the braces, colons and commas between are read here.
    """
    members: dict[str, _Member] = {}
    at = _expect(source, _skip_white(source, 0), "{")
    while source[at] != "}":
        if members:
            at = _expect(source, at, ",")
        name, at = _DECODER.raw_decode(source, at)
        # a name that stands twice is refused: which of the two was signed cannot be told
        if not isinstance(name, str) or name in members or len(members) >= _MOST_FIELDS:
            raise ValueError("a name twice, or no name")
        start = _expect(source, _skip_white(source, at), ":")
        value, end = _DECODER.raw_decode(source, start)
        members[name] = _Member(source[start:end], value)
        at = _skip_white(source, end)
    if _skip_white(source, at + 1) != len(source):
        raise ValueError("something follows")
    return members


def _skip_white(source: str, at: int) -> int:
    """Return the first position from `at` that is no white space."""
    white = _WHITE.match(source, at)
    return white.end() if white is not None else at


def _expect(source: str, at: int, sign: str) -> int:
    """Step over one sign and the white space after it. Raises `ValueError` where another sign stands there."""
    if source[at] != sign:
        raise ValueError(f"no {sign}")
    return _skip_white(source, at + 1)
