"""What the stand-in Square answers to each call of its API, as a table of endpoints with the scope that each needs.

Owns methods, paths and the shapes of answers; HTTP, tokens and faults are `sandbox`'s, the search for orders is
`sandbox_search`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from square_connector.sandbox_pages import Cursors, Page
from square_connector.sandbox_search import (
    is_between,
    is_descending,
    position_by,
    read_limit,
    search_orders,
    write_page,
)
from square_connector.sandbox_seller import Seller
from square_connector.sandbox_values import JsonObject, bad_request, not_found, read_time

_MOST_ORDERS = 100
_MOST_LISTED = 100
_CATALOGUE_PAGE = 100
_SORT_FIELDS = ("CREATED_AT", "UPDATED_AT")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """One call of the API: `record_id` is the id in its path, `query` that of its address, `body` its JSON."""

    seller: Seller
    cursors: Cursors
    record_id: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    body: JsonObject = field(default_factory=dict)


class Endpoint(NamedTuple):
    """One method and path of the API, the scope without which it is refused, and what answers it."""

    method: str
    path: str
    scope: str
    answer: Callable[[ApiRequest], JsonObject]


def _list_merchants(request: ApiRequest) -> JsonObject:
    return {"merchant": [request.seller.merchant()]}


def _list_locations(request: ApiRequest) -> JsonObject:
    return {"locations": list(request.seller.locations.values())}


def _search_orders(request: ApiRequest) -> JsonObject:
    return search_orders(request.seller, request.body, request.cursors)


def _retrieve_orders(request: ApiRequest) -> JsonObject:
    """Return the orders with some ids; unknown ids are skipped."""
    order_ids = request.body.get("order_ids")
    if not isinstance(order_ids, list) or not 1 <= len(order_ids) <= _MOST_ORDERS:
        raise bad_request(f"Name 1 to {_MOST_ORDERS} orders.", "order_ids")
    orders = [request.seller.answered_order(str(order_id)) for order_id in order_ids]
    return write_page("orders", [order for order in orders if order is not None], None)


def _get_order(request: ApiRequest) -> JsonObject:
    return {"order": _known(request.seller.answered_order(request.record_id), "Order")}


def _get_payment(request: ApiRequest) -> JsonObject:
    payment = request.seller.payments.get(request.record_id)
    return {"payment": _known(payment if payment and _has_arrived(request, payment) else None, "Payment")}


def _list_payments(request: ApiRequest) -> JsonObject:
    """Return a page of the payments of one location, the main one where none is named, by when they were made."""
    seller, query = request.seller, request.query
    location = query.get("location_id", seller.main_location)
    newest = seller.now() - timedelta(seconds=seller.list_lag_seconds)
    begin, end = _read_ends(query, "begin_time", "end_time")
    payments = [
        payment
        for payment in seller.payments.values()
        if payment["location_id"] == location
        and _has_arrived(request, payment)
        and is_between(payment["created_at"], begin, end)
        and (not seller.list_lag_seconds or is_between(payment["created_at"], None, newest))
    ]
    page = _list(request, "payments", payments, "created_at")
    return write_page("payments", page.records, page.cursor)


def _has_arrived(request: ApiRequest, payment: JsonObject) -> bool:
    return payment["order_id"] not in request.seller.undelivered


def _get_refund(request: ApiRequest) -> JsonObject:
    return {"refund": _known(request.seller.refunds.get(request.record_id), "Refund")}


def _list_refunds(request: ApiRequest) -> JsonObject:
    """Return a page of refunds, by when they were made or when they last changed."""
    query = request.query
    sort_field = query.get("sort_field", _SORT_FIELDS[0])
    if sort_field not in _SORT_FIELDS:
        raise bad_request("There is no such sort field.", "sort_field")
    made_between = _read_ends(query, "begin_time", "end_time")
    changed_between = _read_ends(query, "updated_at_begin_time", "updated_at_end_time")
    refunds = [
        refund
        for refund in request.seller.refunds.values()
        if query.get("location_id") in (None, refund["location_id"])
        and query.get("status") in (None, refund["status"])
        and is_between(refund["created_at"], *made_between)
        and is_between(refund["updated_at"], *changed_between)
    ]
    page = _list(request, "refunds", refunds, sort_field.lower())
    return write_page("refunds", page.records, page.cursor)


def _get_customer(request: ApiRequest) -> JsonObject:
    return {"customer": _known(request.seller.customer(request.record_id), "Customer")}


def _list_catalogue(request: ApiRequest) -> JsonObject:
    types = [name for name in request.query.get("types", "").split(",") if name]
    objects = request.seller.catalogue.objects(types)
    positions = {entry["id"]: (_EPOCH + timedelta(seconds=place), "") for place, entry in enumerate(objects)}
    page = request.cursors.page(
        objects,
        lambda entry: positions[entry["id"]],
        query={**request.query, "list": "objects"},
        limit=_CATALOGUE_PAGE,
    )
    return write_page("objects", page.records, page.cursor)


ENDPOINTS = (
    Endpoint("GET", "/v2/merchants", "MERCHANT_PROFILE_READ", _list_merchants),
    Endpoint("GET", "/v2/locations", "MERCHANT_PROFILE_READ", _list_locations),
    Endpoint("POST", "/v2/orders/search", "ORDERS_READ", _search_orders),
    Endpoint("POST", "/v2/orders/batch-retrieve", "ORDERS_READ", _retrieve_orders),
    Endpoint("GET", "/v2/orders/{id}", "ORDERS_READ", _get_order),
    Endpoint("GET", "/v2/payments", "PAYMENTS_READ", _list_payments),
    Endpoint("GET", "/v2/payments/{id}", "PAYMENTS_READ", _get_payment),
    Endpoint("GET", "/v2/refunds", "PAYMENTS_READ", _list_refunds),
    Endpoint("GET", "/v2/refunds/{id}", "PAYMENTS_READ", _get_refund),
    Endpoint("GET", "/v2/customers/{id}", "CUSTOMERS_READ", _get_customer),
    Endpoint("GET", "/v2/catalog/list", "ITEMS_READ", _list_catalogue),
)


def _known(record: JsonObject | None, what: str) -> JsonObject:
    """Return a record that there is. Raises `SquareError`."""
    if record is None:
        raise not_found(f"{what} not found.")
    return record


def _list(request: ApiRequest, name: str, records: list[JsonObject], time_field: str) -> Page:
    """Return a page of the list of some `name`. Raises `SquareError`."""
    query = request.query
    return request.cursors.page(
        records,
        position_by(time_field),
        # a cursor of one list is none of another
        query={**query, "list": name},
        limit=min(read_limit(query.get("limit", _MOST_LISTED), _MOST_LISTED), request.seller.page_size),
        descending=is_descending(query.get("sort_order"), "sort_order"),
    )


def _read_ends(query: Mapping[str, str], begin: str, end: str) -> tuple[datetime | None, datetime | None]:
    first, last = (read_time(query[name], name) if name in query else None for name in (begin, end))
    return first, last
