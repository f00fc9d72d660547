"""The search for orders at the stand-in Square: filters, sorts and their limits.

Owns what `POST /v2/orders/search` finds and refuses; pages are `sandbox_pages`'.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from square_connector.sandbox_pages import Cursors, Position
from square_connector.sandbox_seller import Seller
from square_connector.sandbox_values import JsonObject, bad_request, read_time

_MOST_LOCATIONS = 10
_MOST_ORDERS = 1000
_USUAL_ORDERS = 500
_FIELDS = ("created_at", "updated_at", "closed_at")
_FILTERS = {"state_filter", "date_time_filter"}
_CLOSED = {"COMPLETED", "CANCELED"}
_ENTRY = {"id": "order_id", "version": "version", "location_id": "location_id"}


@dataclass(frozen=True, slots=True)
class OrderSearch:
    """A search for orders as it was understood; `begin` and `end` belong to the search."""

    locations: Sequence[str]
    states: Sequence[str]
    time_field: str
    begin: datetime | None
    end: datetime | None
    descending: bool
    limit: int
    entries_only: bool

    def matches(self, order: JsonObject) -> bool:
        """Return whether an order is one that is searched for."""
        if order["location_id"] not in self.locations or (self.states and order["state"] not in self.states):
            return False
        # an order that is not closed has no such time, and no place in a list by it
        return self.time_field in order and is_between(order[self.time_field], self.begin, self.end)


def search_orders(seller: Seller, body: Mapping[str, object], cursors: Cursors) -> JsonObject:
    """Answer `POST /v2/orders/search`. Raises `SquareError`."""
    search = read_search(body)
    page = cursors.page(
        [order for order in seller.answered_orders() if search.matches(order)],
        position_by(search.time_field),
        query=body,
        limit=min(search.limit, seller.page_size),
        descending=search.descending,
    )
    name = "order_entries" if search.entries_only else "orders"
    records = [_write_entry(order) for order in page.records] if search.entries_only else page.records
    return write_page(name, records, page.cursor)


def write_page(name: str, records: Sequence[JsonObject], cursor: str | None) -> JsonObject:
    """Write one page; Square leaves out what is empty."""
    answer: JsonObject = {name: list(records)} if records else {}
    return answer if cursor is None else answer | {"cursor": cursor}


def _write_entry(order: JsonObject) -> JsonObject:
    return {name: order[member] for member, name in _ENTRY.items() if member in order}


def read_search(body: Mapping[str, object]) -> OrderSearch:
    """Read the body of a search. Raises `SquareError`."""
    query = _object(body, "query")
    filters = _object(query, "filter", "query")
    if filters.keys() - _FILTERS:
        raise bad_request("The stand-in knows no such filter.", "query.filter")
    states = _texts(_object(filters, "state_filter", "query.filter"), "states", "query.filter.state_filter")
    sort = _object(query, "sort", "query")
    time_field = _read_sort_field(sort)
    begin, end = _read_range(_object(filters, "date_time_filter", "query.filter"), time_field)
    if time_field == "closed_at" and not (states and set(states) <= _CLOSED):
        raise bad_request("CLOSED_AT needs a filter of closed states.", "query.filter.state_filter.states")
    return OrderSearch(
        locations=_read_locations(body),
        states=states,
        time_field=time_field,
        begin=begin,
        end=end,
        descending=is_descending(sort.get("sort_order"), "query.sort.sort_order"),
        limit=read_limit(body.get("limit", _USUAL_ORDERS), _MOST_ORDERS),
        entries_only=body.get("return_entries") is True,
    )


def _read_locations(body: Mapping[str, object]) -> Sequence[str]:
    locations = _texts(body, "location_ids", "")
    if not 1 <= len(locations) <= _MOST_LOCATIONS:
        raise bad_request(f"Name 1 to {_MOST_LOCATIONS} locations.", "location_ids")
    return locations


def _read_sort_field(sort: Mapping[str, object]) -> str:
    field = str(sort.get("sort_field", "CREATED_AT"))
    if field.lower() not in _FIELDS or not field.isupper():
        raise bad_request("There is no such sort field.", "query.sort.sort_field")
    return field.lower()


def _read_range(ranges: Mapping[str, object], time_field: str) -> tuple[datetime | None, datetime | None]:
    """Read the one range of times, which must be by the sort's own field. Raises `SquareError`."""
    place = "query.filter.date_time_filter"
    if len(ranges) > 1 or ranges.keys() - set(_FIELDS):
        raise bad_request("Filter by one of created_at, updated_at and closed_at.", place)
    if ranges and time_field not in ranges:
        raise bad_request("Sort field must match the time range filter.", "query.sort.sort_field")
    ends = _object(ranges, time_field, place)
    begin, end = (
        read_time(ends[name], f"{place}.{time_field}.{name}") if name in ends else None
        for name in ("start_at", "end_at")
    )
    return begin, end


def is_descending(order: object, field: str) -> bool:
    """Read a sort order, DESC where there is none. Raises `SquareError`."""
    if order not in (None, "ASC", "DESC"):
        raise bad_request("A sort order is ASC or DESC.", field)
    return order != "ASC"


def read_limit(value: object, most: int) -> int:
    """Read how many records a page may hold. Raises `SquareError` for none or too many."""
    text = str(value)
    if isinstance(value, bool) or not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= most:
        raise bad_request(f"A limit is 1 to {most}.", "limit")
    return int(text)


def is_between(text: str, begin: datetime | None, end: datetime | None) -> bool:
    """Return whether a record's time lies between two ends, both inclusive."""
    at = datetime.fromisoformat(text)
    return (begin is None or begin <= at) and (end is None or at <= end)


def position_by(time_field: str) -> Callable[[JsonObject], Position]:
    """Return the function that tells where a record stands by one of its times, which are compared as times."""
    return lambda record: (datetime.fromisoformat(record[time_field]).astimezone(UTC), record["id"])


def _object(members: Mapping[str, object], name: str, place: str = "") -> Mapping[str, object]:
    """Return an object within an object, empty where it is absent. Raises `SquareError` for anything else."""
    value = members.get(name, {})
    if not isinstance(value, dict):
        raise bad_request("This is no object.", f"{place}.{name}".lstrip("."))
    return value


def _texts(members: Mapping[str, object], name: str, place: str) -> Sequence[str]:
    value = members.get(name, [])
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise bad_request("This is no list of texts.", f"{place}.{name}".lstrip("."))
    return value
