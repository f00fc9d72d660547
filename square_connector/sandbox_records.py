"""The records of one seller at the stand-in Square: merchant, locations, customers, orders, and events about them.

Owns storing a record, moving its version and its time, and noting the event that Square sends of it; what a cashier
does is `sandbox_sales`' and `sandbox_seller`'s, signing and sending an event is `sandbox_webhooks`'.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from uuid import uuid4

from square_connector.sandbox_catalogue import Catalogue
from square_connector.sandbox_values import Clock, JsonObject, utc_now, write_time

MERCHANT = "MLSANDBOX0CAFE1"
_MOST_EVENTS = 5000
_MOST_PER_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Place:
    """A location as it is opened: each has a zone (IANA), a currency and a country (two letters) of its own."""

    name: str
    timezone: str
    currency: str
    country: str


PLACES = (
    Place("Dublin bar", "Europe/Dublin", "EUR", "IE"),
    Place("Paris bar", "Europe/Paris", "EUR", "FR"),
)


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a seller; `data` is the body's own, `location` the id that hooks about locations carry twice."""

    merchant_id: str
    type: str
    event_id: str
    created_at: str
    data: JsonObject
    location: str | None = None

    def body(self) -> JsonObject:
        """Return the body of the webhook."""
        body: JsonObject = {
            "merchant_id": self.merchant_id,
            "type": self.type,
            "event_id": self.event_id,
            "created_at": self.created_at,
            "data": self.data,
        }
        return body if self.location is None else body | {"location_id": self.location}


class SellerRecords:
    """What is stored of one seller. `page_size` bounds its pages below what a call asks for.

    `fraction_digits` is how many digits of a second's fraction the times of orders have, 0 to 6.
    """

    def __init__(
        self,
        merchant_id: str = MERCHANT,
        name: str = "Sandbox Coffee",
        places: Sequence[Place] = PLACES,
        *,
        now: Clock = utc_now,
        page_size: int = _MOST_PER_PAGE,
    ) -> None:
        self.merchant_id = merchant_id
        self.name = name
        self.now = now
        self.page_size = page_size
        self.fraction_digits = 3
        self.list_lag_seconds = 0
        """How long a payment is missing from the list of payments, which lags at Square."""
        self.catalogue = Catalogue(places[0].currency)
        self.locations: dict[str, JsonObject] = {}
        self.customers: dict[str, JsonObject] = {}
        self.orders: dict[str, JsonObject] = {}
        self.payments: dict[str, JsonObject] = {}
        self.refunds: dict[str, JsonObject] = {}
        self.merged: dict[str, str] = {}
        """Ids of merged customers, each with the id that took its place."""
        self.undelivered: set[str] = set()
        """Orders of a till without a connection, which Square does not know yet."""
        self.hidden_lines: set[str] = set()
        """Orders whose `line_items` Square does not show yet."""
        self.events: deque[Event] = deque(maxlen=_MOST_EVENTS)
        """Events that nobody has taken yet, oldest first."""
        for place in places:
            self._add_location(place)
        self.main_location = next(iter(self.locations))
        self.created_at = write_time(now(), 0)

    # --- merchant and locations -------------------------------------------------------------------------------

    def merchant(self) -> JsonObject:
        """Return the merchant as `GET /v2/merchants` writes it."""
        main = self.locations[self.main_location]
        return {
            "id": self.merchant_id,
            "business_name": self.name,
            "country": main["country"],
            "language_code": main["language_code"],
            "currency": main["currency"],
            "status": "ACTIVE",
            "main_location_id": self.main_location,
            "created_at": self.created_at,
        }

    def open_location(self, place: Place) -> str:
        """Open a location and return its id."""
        location = self._add_location(place)
        self._note_location("location.created", location)
        return location

    def close_location(self, location: str) -> None:
        """Close a location: it stays in the list, INACTIVE."""
        self.locations[location]["status"] = "INACTIVE"
        self._note_location("location.updated", location)

    def rename_location(self, location: str, name: str) -> None:
        """Give a location another name."""
        self.locations[location]["name"] = name
        self._note_location("location.updated", location)

    def currency_of(self, location: str) -> str:
        """Return the currency of a location."""
        return str(self.locations[location]["currency"])

    def _add_location(self, place: Place) -> str:
        location = f"L{self.merchant_id[-5:]}{len(self.locations) + 1:04d}"
        self.locations[location] = {
            "id": location,
            "name": place.name,
            "address": {"locality": place.timezone.rpartition("/")[2].replace("_", " "), "country": place.country},
            "timezone": place.timezone,
            "capabilities": ["CREDIT_CARD_PROCESSING"],
            "status": "ACTIVE",
            "created_at": write_time(self.now(), 0),
            "merchant_id": self.merchant_id,
            "country": place.country,
            "language_code": f"en-{place.country}",
            "currency": place.currency,
            "business_name": self.name,
            "type": "PHYSICAL",
            "business_hours": {},
        }
        return location

    def _note_location(self, kind: str, location: str) -> None:
        self._note(Event(**self._envelope(kind), data={"type": "location", "id": location}, location=location))

    # --- customers --------------------------------------------------------------------------------------------

    def add_customer(
        self,
        phone: str | None = None,
        *,
        email: str | None = None,
        reference_id: str | None = None,
        creation_source: str = "DIRECTORY",
    ) -> str:
        """Make a customer and return the id; `phone` is stored as it is given, in no promised format."""
        customer = f"SBXCUST{self.merchant_id[-5:]}{len(self.customers) + 1:04d}"
        at = self.now()
        profile = {
            "id": customer,
            "created_at": write_time(at, 2),
            "updated_at": write_time(at, 0),
            "phone_number": phone,
            "email_address": email,
            "reference_id": reference_id,
            "preferences": {"email_unsubscribed": False},
            "creation_source": creation_source,
            "version": 0,
        }
        self.customers[customer] = {name: value for name, value in profile.items() if value is not None}
        self._note_customer("customer.created", customer)
        return customer

    def add_instant_profile(self) -> str:
        """Make the profile that Square makes of a payment card, without any contact; return its id."""
        return self.add_customer(creation_source="INSTANT_PROFILE")

    def customer_of(self, phone: str | None, email: str | None = None) -> str:
        """Return the id of the customer with this phone, or this email where no phone is given; made if need be."""
        name, value = ("phone_number", phone) if phone is not None else ("email_address", email)
        for customer, profile in self.customers.items():
            if value is not None and profile.get(name) == value:
                return customer
        return self.add_customer(phone, email=email)

    def merge_customers(self, *customers: str) -> str:
        """Merge profiles to a new one with the contacts of the first that has each; return the new id.

        From then on an old id answers with the new profile; orders keep the id that they have.
        """
        contacts: JsonObject = {}
        for name in ("phone_number", "email_address", "reference_id"):
            values = [self.customers[customer].get(name) for customer in customers]
            contacts[name] = next((value for value in values if value is not None), None)
        merged = self.add_customer(
            contacts["phone_number"],
            email=contacts["email_address"],
            reference_id=contacts["reference_id"],
            creation_source="MERGE",
        )
        self.events.pop()  # the event of an ordinary new customer, which says nothing of the merge
        context: JsonObject = {"merge": {"from_customer_ids": list(customers), "to_customer_id": merged}}
        self._note_customer("customer.created", merged, context)
        for customer in customers:
            self.merged[customer] = merged
            self._note_customer("customer.deleted", customer, context)
        return merged

    def customer(self, customer: str) -> JsonObject | None:
        """Return the profile that an id answers with, the new one after a merge; `None` where there is none."""
        while customer in self.merged:
            customer = self.merged[customer]
        return self.customers.get(customer)

    def _note_customer(self, kind: str, customer: str, context: JsonObject | None = None) -> None:
        members = {"customer": self.customers[customer]}
        if context is not None:
            members["event_context"] = context
        self._note(self.event(kind, "customer", customer, members))

    # --- orders -----------------------------------------------------------------------------------------------

    def answered_orders(self) -> list[JsonObject]:
        """Return the orders that Square knows, as it shows them."""
        return [self._show(order) for order in self.orders.values() if order["id"] not in self.undelivered]

    def answered_order(self, order: str) -> JsonObject | None:
        """Return one order as Square shows it; `None` where it knows none."""
        record = self.orders.get(order)
        return None if record is None or order in self.undelivered else self._show(record)

    def _show(self, record: JsonObject) -> JsonObject:
        if record["id"] not in self.hidden_lines:
            return record
        return {name: value for name, value in record.items() if name != "line_items"}

    def _order_time(self) -> str:
        return write_time(self.now(), self.fraction_digits)

    def _next_order_id(self, kind: str) -> str:
        return f"sbxOrder{len(self.orders) + 1:05d}{kind}{self.merchant_id[-5:]}"

    def _change(self, order: str) -> None:
        """Move an order's version and time; Square sends an event of it unless the till made the order."""
        record = self.orders[order]
        # orders that the API did not make may have no version at all
        if "version" in record:
            record["version"] += 1
        record["updated_at"] = self._order_time()
        if record.get("source"):
            self._note(self.order_event(order))

    def order_event(self, order: str) -> Event:
        """Return an `order.updated` about an order as it is now, without noting it."""
        record = self.orders[order]
        thin_names = ("version", "location_id", "state", "created_at", "updated_at")
        members = {"order_id": order} | {name: record[name] for name in thin_names if name in record}
        return self.event("order.updated", "order_updated", order, {"order_updated": members})

    # --- events -----------------------------------------------------------------------------------------------

    def event(self, kind: str, record_type: str, record_id: str, members: JsonObject) -> Event:
        """Return an event about one record, without noting it; `members` are copied as they are now."""
        data = {"type": record_type, "id": record_id, "object": deepcopy(members)}
        return Event(**self._envelope(kind), data=data)

    def take_events(self) -> list[Event]:
        """Return the events that nobody has taken yet, oldest first, and forget them."""
        events = list(self.events)
        self.events.clear()
        return events

    def _envelope(self, kind: str) -> dict[str, str]:
        return {
            "merchant_id": self.merchant_id,
            "type": kind,
            "event_id": str(uuid4()),
            "created_at": write_time(self.now()),
        }

    def _note(self, event: Event) -> None:
        self.events.append(event)

    def note_revocation(self, revoker_type: str) -> None:
        """Note that MERCHANT, APPLICATION or SQUARE ended the application's access."""
        revocation = {"revoked_at": write_time(self.now()), "revoker_type": revoker_type}
        members = {"revocation": revocation}
        self._note(self.event("oauth.authorization.revoked", "revocation", str(uuid4()), members))
