"""Where each field of a sale came from: one value of the till's answer is changed at a time, and what moves is seen.

Owns that question only. It asks nothing of a connector's author, and believes no comment: what moves was read.
"""

from __future__ import annotations

import json
import re
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from connector_sdk.sale import Sale, Unreadable

Document = tuple[Hashable, Any]
"""What kind of answer it is (its endpoint), and its JSON."""
Reread = Callable[[Sequence[Document]], Awaitable[Sequence[Sale | Unreadable]]]
"""Reads answers anew; whatever it raises, those answers could not be read."""
Path = tuple[str, ...]

LIST = "[]"
_STATES = ("open", "closed", "void", "voided", "cancelled", "refunded", "paid", "completed")
_TURNS = 4 + len(_STATES)
_CLOCK = re.compile(r"(\d{1,2}:\d{2}:)(\d{2})")
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


@dataclass(slots=True)
class Trace:
    """By the place of a sale in what was read: its fields, each with the paths that it came from.

    `needed` are paths without which the sale could not be read, though it cannot be seen for which field.
    """

    fields: list[dict[str, list[str]]]
    needed: list[list[str]]
    whole: bool = True
    """Whether there was time to follow everything."""


def flat(one: Sale) -> dict[str, Any]:
    """A sale's fields by the names that people read."""
    who = one.customer
    return {
        "receipt_id": one.receipt_id,
        "version": one.version,
        "status": one.status.value,
        "closed_at": one.closed_at,
        "paid": one.paid,
        "refunded": one.refunded,
        **{f"customer.{name}": getattr(who, name, None) for name in ("number", "phone", "email", "till_id")},
        "lines.product_id": tuple(line.product_id for line in one.lines),
        "lines.category_id": tuple(line.category_id for line in one.lines),
        "lines.quantity": tuple(line.quantity for line in one.lines),
        "lines.refunded_quantity": tuple(line.refunded_quantity for line in one.lines),
        "lines.gift": tuple(line.gift for line in one.lines),
        "redeem_codes": one.redeem_codes,
        "location_id": one.location_id,
        "gift": one.gift,
    }


async def trace(documents: Sequence[Document], reread: Reread, seconds: float = 5.0) -> Trace:
    """Follow every field of every sale that `reread` finds in these documents, for at most so long."""
    before = list(await reread(documents))
    work = _Tracing(documents, reread, before)
    await work.follow(time.monotonic() + seconds)
    return work.found


@dataclass(slots=True)
class _Tracing:
    documents: Sequence[Document]
    reread: Reread
    before: list[Sale | Unreadable]
    found: Trace = field(init=False)

    def __post_init__(self) -> None:
        self.found = Trace([defaultdict(list) for _ in self.before], [[] for _ in self.before])

    async def follow(self, until: float) -> None:
        values: dict[tuple[Hashable, Path], list[Any]] = defaultdict(list)
        for kind, document in self.documents:
            for path, value in _leaves(document):
                values[kind, path].append(value)
        for (kind, path), seen in values.items():
            if time.monotonic() > until:
                self.found.whole = False
                return
            await self._one(kind, path, seen)

    async def _one(self, kind: Hashable, path: Path, seen: list[Any]) -> None:
        """Change all that stands at one path, in several ways, until something moves."""
        broke: set[int] = set()
        for turn in range(_TURNS):
            moved, broken = await self._turn(kind, path, seen, turn)
            broke |= broken
            if moved or (turn and not broke):
                return
        for at in broke:
            self.found.needed[at].append(_said(path))

    async def _turn(self, kind: Hashable, path: Path, seen: list[Any], turn: int) -> tuple[set[int], set[int]]:
        """(places of sales of which a field moved, places of those that could not be read)."""
        changed = [
            (one, _changed(document, path, turn, seen) if one == kind else document) for one, document in self.documents
        ]
        try:
            after = list(await self.reread(changed))
        except Exception:  # noqa: BLE001 - a connector may raise anything over an answer that is made up
            return set(), set(range(len(self.before)))
        moved: set[int] = set()
        broken: set[int] = set()
        for at, (one, other) in enumerate(self._pairs(after)):
            if not isinstance(one, Sale):
                continue
            if not isinstance(other, Sale):
                broken.add(at)
                continue
            then = flat(other)
            for name, value in flat(one).items():
                if then[name] != value:
                    moved.add(at)
                    if _said(path) not in self.found.fields[at][name]:
                        self.found.fields[at][name].append(_said(path))
        return moved, broken

    def _pairs(self, after: list[Sale | Unreadable]) -> Iterator[tuple[Sale | Unreadable, Sale | Unreadable | None]]:
        """Each of before with what became of it: by its place, or by its receipt where there are others now."""
        if len(after) == len(self.before) and [type(one) for one in after] == [type(one) for one in self.before]:
            yield from zip(self.before, after, strict=True)
            return
        by_receipt = {one.receipt_id: one for one in after}
        for one in self.before:
            yield one, by_receipt.get(one.receipt_id)


def _said(path: Path) -> str:
    """A path as people write it: `receipts[].total`."""
    text = ""
    for part in path:
        if part == LIST:
            text += part
        else:
            name = part if _PLAIN.fullmatch(part) else json.dumps(part, ensure_ascii=False)
            text += f".{name}" if text else name
    return text


def _leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    match value:
        case dict():
            for name, one in value.items():
                yield from _leaves(one, (*path, str(name)))
        case list():
            for one in value:
                yield from _leaves(one, (*path, LIST))
        case None:
            return
        case _:
            yield path, value


def _changed(value: Any, path: Path, turn: int, seen: Sequence[Any]) -> Any:
    """A document in which whatever stands at a path is another value; nothing else of it is copied."""
    if not path:
        return _another(value, turn, seen) if value is not None and not isinstance(value, dict | list) else value
    first, rest = path[0], path[1:]
    if first == LIST and isinstance(value, list):
        return [_changed(one, rest, turn, seen) for one in value]
    if isinstance(value, dict) and first in value:
        return {**value, first: _changed(value[first], rest, turn, seen)}
    return value


def _another(value: Any, turn: int, seen: Sequence[Any]) -> Any:
    """The value's `turn`-th other value: a little more, then one seen elsewhere, then a state's word."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        others: list[Any] = [value + 1, _other_seen(value, seen), value - 1, 0, 2]
    else:
        others = [_more(value), _other_seen(value, seen), _less(value), f"x{value}", *_STATES]
    return others[turn] if turn < len(others) else value


def _other_seen(value: Any, seen: Sequence[Any]) -> Any:
    return next((one for one in seen if one != value and type(one) is type(value)), value)


def _more(text: str) -> str:
    """A text that is a little later, greater or longer."""
    clock = _CLOCK.search(text)
    if clock is not None:
        return f"{text[: clock.start(2)]}{(int(clock[2]) + 1) % 60:02}{text[clock.end(2) :]}"
    return _last_digit(text, lambda digit: (digit + 1) % 10) or f"x{text}"


def _less(text: str) -> str:
    return _last_digit(text, lambda digit: 2 if digit == 1 else 1) or text


def _last_digit(text: str, other: Callable[[int], int]) -> str | None:
    for at in range(len(text) - 1, -1, -1):
        if text[at] in "0123456789":
            return f"{text[:at]}{other(int(text[at]))}{text[at + 1 :]}"
    return None
