"""Pages of the stand-in Square's lists: their order, and cursors that are good for one query only.

Owns where a page begins and ends; what is listed is `sandbox_search`'s and `sandbox_answers`'.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from square_connector.sandbox_values import JsonObject, bad_request

Position = tuple[datetime, str]
"""Where a record stands in a list: its time, then its id."""


@dataclass(frozen=True, slots=True)
class Page:
    """The records of one page, and the cursor of the next; `None` on the last."""

    records: Sequence[JsonObject]
    cursor: str | None


@dataclass(slots=True)
class Cursors:
    """The cursors that were given, each with its query and the position that the next page begins after."""

    given: dict[str, tuple[str, Position]] = field(default_factory=dict)

    def forget(self) -> None:
        """Forget all cursors, so that each is answered with INVALID_CURSOR."""
        self.given.clear()

    def page(
        self,
        records: Sequence[JsonObject],
        position: Callable[[JsonObject], Position],
        *,
        query: Mapping[str, object],
        limit: int,
        descending: bool = False,
    ) -> Page:
        """Return the page that a query asks for, by its member `cursor`. Raises `SquareError`.

        A page begins after the position of the one before, so that a record that moved meanwhile may come twice or,
        in descending order, not at all.
        """
        records = sorted(records, key=position, reverse=descending)
        written = _write_query(query)
        cursor = query.get("cursor")
        if cursor:
            after = self._position_of(str(cursor), written)
            records = [record for record in records if _follows(position(record), after, descending=descending)]
        page = records[:limit]
        if len(records) <= limit:
            return Page(page, None)
        following = f"sandbox-cursor-{secrets.token_hex(8)}"
        self.given[following] = (written, position(page[-1]))
        return Page(page, following)

    def _position_of(self, cursor: str, written: str) -> Position:
        query, position = self.given.get(cursor, (None, None))
        if position is None or query != written:
            raise bad_request("The cursor is unknown, or of another query.", "cursor", "INVALID_CURSOR")
        return position


def _follows(position: Position, after: Position, *, descending: bool) -> bool:
    return position < after if descending else position > after


def _write_query(query: Mapping[str, object]) -> str:
    """Write a query without its cursor, so that two can be compared."""
    return json.dumps({name: value for name, value in query.items() if name != "cursor"}, sort_keys=True)
