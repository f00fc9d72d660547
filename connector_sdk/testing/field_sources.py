"""Trace each field of a sale to its source: change one value of the till's answers at a time and see which fields move.

Owns that question only. It needs nothing from a connector's author and trusts no comment: a field that moves was read.
"""

from __future__ import annotations

import json
import re
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pydantic import JsonValue

from connector_sdk.sale import Sale, Unreadable


class Document(NamedTuple):
    """One answer of the till: its endpoint, which answers of the same kind share, and its JSON."""

    endpoint: Hashable
    content: JsonValue


Reread = Callable[[Sequence[Document]], Awaitable[Sequence[Sale | Unreadable]]]
"""Map changed answers to sales again; it raises where they cannot be read, whatever it raises."""
Path = tuple[str, ...]
"""The names that lead to a value; `LIST` stands for every element of a list."""
Value = str | int | float | bool
"""A value that can be changed: a leaf of JSON that is not null."""

LIST = "[]"
_STATUS_WORDS = ("open", "closed", "void", "voided", "cancelled", "refunded", "paid", "completed")
_ALTERNATIVES = 4 + len(_STATUS_WORDS)  # as many as `_alternatives` returns for a text, the longest list
_CLOCK = re.compile(r"(\d{1,2}:\d{2}:)(\d{2})")
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


@dataclass(slots=True)
class Trace:
    """The sources of every item that was read, by the item's position.

    `fields` maps the names of `sale_fields` to the paths from which the field was read. `needed` are paths without
    which the item could not be read, though it cannot be seen for which field.
    """

    fields: list[dict[str, list[str]]]
    needed: list[list[str]]
    whole: bool = True
    """Whether there was time to trace every path."""


def sale_fields(sale: Sale) -> dict[str, object]:
    """Return a sale's fields by the names that people read, those of customer and lines included."""
    lines = ("product_id", "category_id", "quantity", "refunded_quantity", "gift")
    customer = ("number", "phone", "email", "till_id")
    return {
        "receipt_id": sale.receipt_id,
        "version": sale.version,
        "status": sale.status.value,
        "closed_at": sale.closed_at,
        "paid": sale.paid,
        "refunded": sale.refunded,
        **{f"customer.{name}": getattr(sale.customer, name, None) for name in customer},
        **{f"lines.{name}": tuple(getattr(line, name) for line in sale.lines) for name in lines},
        "redeem_codes": sale.redeem_codes,
        "location_id": sale.location_id,
        "gift": sale.gift,
    }


async def trace(documents: Sequence[Document], reread: Reread, seconds: float = 5.0) -> Trace:
    """Trace every field of every sale that `reread` maps from these documents, for at most `seconds`."""
    tracer = _Tracer(documents, reread, list(await reread(documents)))
    await tracer.run(time.monotonic() + seconds)
    return tracer.trace


class _Effect(NamedTuple):
    """The positions of the sales of which a field moved, and of those that could not be read any more."""

    moved: set[int]
    broken: set[int]


@dataclass(slots=True)
class _Tracer:
    """One trace: the documents, what they were read as, and what is known of its sources so far."""

    documents: Sequence[Document]
    reread: Reread
    before: list[Sale | Unreadable]
    trace: Trace = field(init=False)

    def __post_init__(self) -> None:
        self.trace = Trace([defaultdict(list) for _ in self.before], [[] for _ in self.before])

    async def run(self, until: float) -> None:
        """Trace path after path, until all are done or the monotonic clock has passed `until`."""
        for (endpoint, path), values in self._values_by_path().items():
            if time.monotonic() > until:
                self.trace.whole = False
                return
            await self._trace_path(endpoint, path, values)

    def _values_by_path(self) -> dict[tuple[Hashable, Path], list[Value]]:
        """Collect the values at each path, over all documents of an endpoint: they are changed together.

        Changed one by one, a hundred receipts of forty fields would be four thousand readings instead of forty.
        """
        values: dict[tuple[Hashable, Path], list[Value]] = defaultdict(list)
        for document in self.documents:
            for path, value in _leaves(document.content):
                values[document.endpoint, path].append(value)
        return values

    async def _trace_path(self, endpoint: Hashable, path: Path, values: list[Value]) -> None:
        """Change all values at one path, in several ways, until a field moves."""
        broken: set[int] = set()
        for turn in range(_ALTERNATIVES):
            effect = await self._change(endpoint, path, values, turn)
            broken |= effect.broken
            # Two changes that neither move nor break anything show that nobody reads this path. Where one breaks the
            # reading, the value is read, and a later alternative (a word for a status, say) may be one that is valid.
            if effect.moved or (turn and not broken):
                return
        for position in broken:
            self.trace.needed[position].append(_path_text(path))

    async def _change(self, endpoint: Hashable, path: Path, values: list[Value], turn: int) -> _Effect:
        """Read the documents with the `turn`-th alternative at one path, and note which fields moved."""
        try:
            after = list(await self.reread(self._changed_documents(endpoint, path, values, turn)))
        except Exception:  # noqa: BLE001 - a connector may raise anything over an answer that is made up
            return _Effect(set(), set(range(len(self.before))))
        effect = _Effect(set(), set())
        for position, (old, new) in enumerate(self._pairs(after)):
            if not isinstance(old, Sale):
                continue
            if not isinstance(new, Sale):
                effect.broken.add(position)
            elif self._note_moved(position, old, new, path):
                effect.moved.add(position)
        return effect

    def _changed_documents(self, endpoint: Hashable, path: Path, values: list[Value], turn: int) -> list[Document]:
        return [
            document._replace(content=_with_change(document.content, path, turn, values))
            if document.endpoint == endpoint
            else document
            for document in self.documents
        ]

    def _note_moved(self, position: int, old: Sale, new: Sale, path: Path) -> bool:
        """Note a path as the source of each field in which two sales differ, and tell whether there is any."""
        new_fields = sale_fields(new)
        moved = [name for name, value in sale_fields(old).items() if new_fields[name] != value]
        for name in moved:
            sources = self.trace.fields[position][name]
            if (text := _path_text(path)) not in sources:
                sources.append(text)
        return bool(moved)

    def _pairs(self, after: list[Sale | Unreadable]) -> Iterator[tuple[Sale | Unreadable, Sale | Unreadable | None]]:
        """Pair each item read before with the one read now: by position, or by receipt where the items are others."""
        # by position first: a change of the receipt's id itself must be seen as a field that moved
        if [type(item) for item in after] == [type(item) for item in self.before]:
            yield from zip(self.before, after, strict=True)
            return
        by_receipt = {item.receipt_id: item for item in after}
        for item in self.before:
            yield item, by_receipt.get(item.receipt_id)


def _path_text(path: Path) -> str:
    """Write a path as people do: `receipts[].total`."""
    text = ""
    for part in path:
        if part == LIST:
            text += part
        else:
            name = part if _PLAIN_NAME.fullmatch(part) else json.dumps(part, ensure_ascii=False)
            text += f".{name}" if text else name
    return text


def _leaves(content: JsonValue, path: Path = ()) -> Iterator[tuple[Path, Value]]:
    """Yield every value that is not null, with its path."""
    match content:
        case dict():
            for name, member in content.items():
                yield from _leaves(member, (*path, str(name)))
        case list():
            for element in content:
                yield from _leaves(element, (*path, LIST))
        case None:
            return
        case _:
            yield path, content


def _with_change(content: JsonValue, path: Path, turn: int, values: Sequence[Value]) -> JsonValue:
    """Return the document with another value at a path; it shares with the original all that is not on the path."""
    if not path:
        return content if content is None or isinstance(content, dict | list) else _alternative(content, turn, values)
    first, rest = path[0], path[1:]
    if first == LIST and isinstance(content, list):
        return [_with_change(element, rest, turn, values) for element in content]
    if isinstance(content, dict) and first in content:
        return {**content, first: _with_change(content[first], rest, turn, values)}
    return content


def _alternative(value: Value, turn: int, values: Sequence[Value]) -> Value:
    """Return the value's `turn`-th alternative, or the value itself where it has fewer."""
    if isinstance(value, bool):
        return not value
    alternatives = _alternatives(value, values)
    return alternatives[turn] if turn < len(alternatives) else value


def _alternatives(value: str | int | float, values: Sequence[Value]) -> list[Value]:
    """Return other values, the likeliest to be valid first: a little more, one seen elsewhere, a little less."""
    if isinstance(value, int | float):
        return [value + 1, _other_value(value, values), value - 1, 0, 2]
    return [_greater_text(value), _other_value(value, values), _lesser_text(value), f"x{value}", *_STATUS_WORDS]


def _other_value(value: Value, values: Sequence[Value]) -> Value:
    """Return a value of the same type that stands at this path elsewhere, or the value itself."""
    return next((other for other in values if other != value and type(other) is type(value)), value)


def _greater_text(text: str) -> str:
    """Return a text that is a little later, greater or longer."""
    # the seconds of a time come first: its last digit may belong to a zone, or to a date that would leave the window
    clock = _CLOCK.search(text)
    if clock is not None:
        return f"{text[: clock.start(2)]}{(int(clock[2]) + 1) % 60:02}{text[clock.end(2) :]}"
    return _replace_last_digit(text, lambda digit: (digit + 1) % 10) or f"x{text}"


def _lesser_text(text: str) -> str:
    """Return a text whose last digit is 1, or 2 where it was 1; the text itself where it has no digit."""
    return _replace_last_digit(text, lambda digit: 2 if digit == 1 else 1) or text


def _replace_last_digit(text: str, replacement: Callable[[int], int]) -> str | None:
    """Replace the last ASCII digit of a text; `None` where it has none."""
    for position in range(len(text) - 1, -1, -1):
        if text[position] in "0123456789":
            return f"{text[:position]}{replacement(int(text[position]))}{text[position + 1 :]}"
    return None
