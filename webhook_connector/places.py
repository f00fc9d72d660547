"""Places in what a till sent, and the paths that lead to them.

Owns how a request is walked, within bounds, and how a place becomes an expression. Nothing here raises: a body and a
path may be anything. What the path is for is `questions`' and `answers`'.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import NamedTuple

from connector_sdk import expressions
from connector_sdk.errors import BadPayload
from connector_sdk.expressions import TooCostly, compile_path, parse_json
from connector_sdk.redaction import personal_name, personal_text
from connector_sdk.teaching import Values

Place = tuple[str | int, ...]
"""The names and positions that lead to a value, from the outside in."""

_ADDED_UP = frozenset({"map_paid", "map_refunded", "map_codes"})
"""Settings of which a list is taken as a whole: amounts are added up, and every code counts."""
_TELLING = ("key", "type", "kind", "code", "name")
"""Names beside a value that may say what kind of value it is."""
_DIGITS_OF_SOMEBODY = 6
_KIND = re.compile(r"[\w .:-]{1,40}")
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
FEWEST_OF_A_RECEIPT = 3  # values that an entry of a list has, for it to be a receipt and no key with its value
_MOST_OF_A_LIST = 3  # entries that are looked into: the others are like them


class Receipt(NamedTuple):
    """The receipt that questions are about, and where it stands in the request."""

    value: object
    place: Place


class ReceiptList(NamedTuple):
    """A list whose entries may be receipts, and where it stands."""

    place: Place
    entries: list[object]


class Text(NamedTuple):
    """A value as text, and where it stands."""

    place: Place
    text: str


# --- what was sent --------------------------------------------------------------------------------------------------


def parse_request(body: bytes) -> object:
    """Parse a request; `None` where it is no JSON, in which there is nothing to choose."""
    try:
        return parse_json(body)
    except BadPayload:
        return None


def follow(path: str, value: object) -> object:
    """Return what a path leads to; `None` where it costs too much, of which the sketch tells."""
    try:
        return expressions.follow_path(path, value)
    except TooCostly:
        return None


def first_receipt(values: Values, request: object) -> Receipt:
    """Find the first receipt: in the list that an answer named, in a request that is a list, or the request itself."""
    path = values.get("map_receipts", "")
    if not path:
        return Receipt(request[0], (0,)) if isinstance(request, list) and request else Receipt(request, ())
    value = follow(path, request)
    lists = (receipts.place for receipts in find_receipt_lists(request))
    place = next((place for place in lists if path_to(place, request, "map_receipts") == path), ())
    return Receipt(value[0], (*place, 0)) if isinstance(value, list) and value else Receipt(value, place)


def find_receipt_lists(value: object, place: Place = ()) -> Iterator[ReceiptList]:
    """Find lists that stand in objects and whose entries may all be receipts, outermost first."""
    if not isinstance(value, dict):
        return
    for name, member in value.items():
        if isinstance(member, list) and member and all(is_like_a_receipt(entry) for entry in member):
            yield ReceiptList((*place, name), member)
        yield from find_receipt_lists(member, (*place, name))


def is_like_a_receipt(value: object) -> bool:
    """Say whether it is an object with enough values; no more of them are looked at than that needs."""
    return isinstance(value, dict) and len(list(islice(find_texts(value), FEWEST_OF_A_RECEIPT))) == FEWEST_OF_A_RECEIPT


def find_texts(value: object, place: Place = ()) -> Iterator[Text]:
    """Find every value as text, in the order in which it was sent; null and what is not within something are none."""
    match value:
        case dict():
            for name, member in value.items():
                yield from find_texts(member, (*place, name))
        case list():
            for at, entry in enumerate(value[:_MOST_OF_A_LIST]):
                yield from find_texts(entry, (*place, at))
        case bool() if place:
            yield Text(place, "true" if value else "false")
        case str() if place:
            yield Text(place, value)


def last_name(place: Place) -> str:
    """Return the innermost name of a place; empty where it has positions only."""
    return next((part for part in reversed(place) if isinstance(part, str)), "")


# --- paths ----------------------------------------------------------------------------------------------------------


def is_allowed(path: str) -> bool:
    """Say whether a path may be a setting: some names cannot be written in one."""
    try:
        compile_path(path)
    except ValueError:
        return False
    return True


def path_to(place: Place, within: object, field: str) -> str:
    """Return the path that leads to a place, as a setting needs it."""
    return PathWriter(within, field).path_to(place)


class PathWriter:
    """Writes paths to places in a receipt, as one setting needs them.

    An entry of a list is added up with the others, told apart from them by a text beside the value, or else counted
    off: the next request may hold another number of entries, in another order.
    """

    def __init__(self, within: object, field: str) -> None:
        self._within = within
        self._field = field
        # by the identity of a list, for many places go through the same one: how often its entries say something
        # under a telling name
        self._telling: dict[int, dict[str, Counter[str]]] = {}

    def path_to(self, place: Place) -> str:
        """Return the path to a place, which must be there."""
        path, value = "", self._within
        for part in place:
            if isinstance(part, str):
                path += f"{'.' if path else ''}{_write_name(part)}"
                value = value[part] if isinstance(value, dict) else None
            elif isinstance(value, list):
                path += "[]" if self._field in _ADDED_UP else self._tell_apart(value, part)
                value = value[part]
        return path

    def _tell_apart(self, entries: list[object], at: int) -> str:
        """Return what chooses an entry: a filter by a text that no other entry has, or its position."""
        entry = entries[at]
        if isinstance(entry, dict) and len(entries) > 1:
            # not counted anew for each of its values: a long list would cost its square
            counts = self._telling.setdefault(id(entries), _count_telling(entries))
            for name in _TELLING:
                text = entry.get(name)
                if isinstance(text, str) and counts[name][text] == 1 and _says_only_a_kind(name, text, entry):
                    return f"[?{name}=='{text}']"
        return f"[{at}]"


def _write_name(name: str) -> str:
    if _PLAIN_NAME.fullmatch(name):
        return name
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _count_telling(entries: list[object]) -> dict[str, Counter[str]]:
    """Count, by telling name, how many entries of a list say each text."""
    objects = [entry for entry in entries if isinstance(entry, dict)]
    return {name: Counter(entry[name] for entry in objects if isinstance(entry.get(name), str)) for name in _TELLING}


def _says_only_a_kind(name: str, text: str, beside: Mapping[str, object]) -> bool:
    """Say whether a text names a kind of value, as in `key: phone`, and nobody: another request must have it, too.

    What may be somebody's name, number or email would match this customer's requests only, and would be kept among
    the settings.
    """
    if not _KIND.fullmatch(text) or personal_text(text):
        return False
    if sum(sign.isdigit() for sign in text) >= _DIGITS_OF_SOMEBODY:
        return False
    return name != "name" or not any(personal_name(other) for other in beside if other != name)
