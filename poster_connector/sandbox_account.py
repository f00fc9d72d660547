"""One account of the stand-in Poster: its receipts, clients and menu, and the answers of its API.

Owns the till's side as Poster documents it and as it was observed; HTTP around it is `sandbox`'s.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import NamedTuple, TypedDict
from zoneinfo import ZoneInfo

from connector_sdk.signatures import OrderedFieldsMd5

TOKEN = "861052:02391570ff9af128e93c5a771055ba88"  # noqa: S105 - the documentation's own example
SECRET = "fe2bc8e865d8fc2236968ee53c3b2bd5"  # noqa: S105 - the same
_MOST_DAYS = 3
_OPEN, _CLOSED, _REMOVED = "1", "2", "3"
_FIRST_RECEIPT, _FIRST_CLIENT = 330_660, 38  # as in the documentation's samples

Failure = int | str | bytes
"""An answer made to fail: an error code of Poster's, an HTTP status as text, or a body as bytes."""


class Product(NamedTuple):
    """One product of the menu; `price` is in hundredths, as text."""

    name: str
    category: str
    price: str


MENU = {
    "161": Product("Cappuccino", "4", "1700"),
    "162": Product("Espresso", "4", "1050"),
    "24": Product("Flat white", "4", "2100"),
    "301": Product("Croissant", "7", "2400"),
    "302": Product("Cheesecake", "7", "4800"),
}
_CATEGORIES = {"4": "Coffee", "7": "Pastry"}
_UNLISTED = Product("", "", "1000")


class ReceiptLine(TypedDict):
    """A line as `dash.getTransaction` writes it."""

    product_id: str
    modification_id: str
    num: str
    product_price: str
    payed_sum: str


class Receipt(TypedDict):
    """A receipt as `dash.getTransaction` writes it: numbers as text, sums in hundredths, times in milliseconds."""

    transaction_id: str
    date_start: str
    date_close: str
    status: str
    guests_count: str
    discount: str
    pay_type: str
    payed_bonus: str
    payed_card: str
    payed_cash: str
    payed_sum: str
    payed_cert: str
    payed_third_party: str
    tip_sum: str
    sum: str
    spot_id: str
    table_id: str
    name: str
    user_id: str
    client_id: str
    transaction_comment: str | None
    reason: str
    print_fiscal: str
    products: list[ReceiptLine]


class Client(TypedDict):
    """A customer as `clients.getClient` writes it."""

    client_id: str
    firstname: str
    lastname: str
    phone: str
    phone_number: str
    email: str
    birthday: str
    card_number: str
    comment: str


class PosterError(Exception):
    """Poster refuses a call; `answer` is the body, in the one of its two shapes that the code has."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.answer: dict[str, object] = {"error": {"code": code, "message": message}}
        if code in (32, 404):  # the other of the two shapes
            self.answer = {"error": code, "message": message}


@dataclass(slots=True)
class Account:
    """One Poster account. `newest_first` and `page_size` are how its lists come; neither is documented."""

    token: str = TOKEN
    name: str = "api-demo"
    zone: str = "Europe/Kyiv"
    currency: str = "UAH"
    newest_first: bool = False
    page_size: int = 50
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    receipts: dict[int, Receipt] = field(default_factory=dict)
    clients: dict[int, Client] = field(default_factory=dict)
    offline: set[int] = field(default_factory=set)
    """Receipts of a tablet that has not reached the API yet."""
    spots: list[str] = field(default_factory=lambda: ["Main hall", "Terrace"])
    """The names of the venues, whose ids are their places in this list, from 1 on."""
    calls: int = 0
    comments_written: int = 0
    echoes: list[int] = field(default_factory=list)
    """Clients of whose change a hook would tell, for whoever made it did not ask for none."""
    fail_next: list[Failure] = field(default_factory=list)
    """Answers to give instead of the next ones."""

    @property
    def number(self) -> str:
        """The account's number, with which its token begins."""
        return self.token.partition(":")[0]

    # --- what a cashier does ----------------------------------------------------------------------------------

    def client(self, phone: str, *, email: str = "", card_number: str = "") -> int:
        """Return the id of the client with this phone (E.164), made where there is none."""
        digits = phone.lstrip("+")
        for client_id, client in self.clients.items():
            if client["phone_number"] == digits:
                return client_id
        # ids grow and are never given again, as no client is ever removed
        client_id = _FIRST_CLIENT + len(self.clients)
        self.clients[client_id] = {
            "client_id": str(client_id),
            "firstname": "Demo",
            "lastname": f"{client_id:06d}",
            "phone": phone,
            "phone_number": digits,
            "email": email,
            "birthday": "0000-00-00",
            "card_number": card_number or "0",
            "comment": "",
        }
        return client_id

    def open(self, client_id: int = 0, *, spot: int = 1) -> int:
        """Open a table and return the receipt's id, which Poster gives now and not when it is closed."""
        # receipts may be put in by a test, so the next id is found and not counted
        receipt_id = max(self.receipts, default=_FIRST_RECEIPT - 1) + 1
        self.receipts[receipt_id] = {
            "transaction_id": str(receipt_id),
            "date_start": self._milliseconds(),
            "date_close": "0",
            "status": _OPEN,
            "guests_count": "1",
            "discount": "0",
            "pay_type": "0",
            "payed_bonus": "0",
            "payed_card": "0",
            "payed_cash": "0",
            "payed_sum": "0",
            "payed_cert": "0",
            "payed_third_party": "0",
            "tip_sum": "0",
            "sum": "0",
            "spot_id": str(spot),
            "table_id": "94",
            "name": "Demo",
            "user_id": "1",
            "client_id": str(client_id),
            "transaction_comment": None,
            "reason": "",
            "print_fiscal": "0",
            "products": [],
        }
        return receipt_id

    def add(self, receipt: int, product: str, *, quantity: str = "1", gift: bool = False) -> None:
        """Add a product to a receipt; a gift is a line that nothing is paid for."""
        price = MENU.get(product, _UNLISTED).price
        paid = "0" if gift else str(int(int(price) * float(quantity)))
        lines = self.receipts[receipt]["products"]
        lines.append(
            {
                "product_id": product,
                "modification_id": "0",
                "num": quantity,
                "product_price": price,
                "payed_sum": paid,
            }
        )
        self.receipts[receipt]["sum"] = str(sum(int(line["payed_sum"]) for line in lines))

    def close(self, receipt: int, *, paid: int | None = None, comment: str | None = None) -> None:
        """Take the money (`paid` in hundredths, or what the lines come to) and close."""
        record = self.receipts[receipt]
        total = str(paid) if paid is not None else record["sum"]
        record.update(
            {
                "status": _CLOSED,
                "date_close": self._milliseconds(),
                "pay_type": "1",
                "payed_cash": total,
                "payed_sum": total,
            }
        )
        if comment is not None:
            record["transaction_comment"] = comment

    def sell(self, client_id: int = 0, paid: int = 2750, *, comment: str | None = None) -> int:
        """Open, add one coffee, close; return the receipt's id. `paid` is in hundredths."""
        receipt = self.open(client_id)
        self.add(receipt, "161")
        self.close(receipt, paid=paid, comment=comment)
        return receipt

    def correct(self, receipt: int, paid: int) -> None:
        """Give a closed receipt another sum, in hundredths."""
        self.receipts[receipt].update({"payed_cash": str(paid), "payed_sum": str(paid)})

    def attach(self, receipt: int, client_id: int) -> None:
        """Attach a client to a receipt."""
        self.receipts[receipt]["client_id"] = str(client_id)

    def reopen(self, receipt: int) -> None:
        """Open a closed receipt again."""
        self.receipts[receipt].update({"status": _OPEN, "date_close": "0"})

    def refund(self, receipt: int) -> None:
        """Give all money back, by a fiscal return."""
        self.receipts[receipt]["print_fiscal"] = "2"

    def remove(self, receipt: int) -> None:
        """Remove a receipt, as if it had never been."""
        self.receipts[receipt]["status"] = _REMOVED

    def _milliseconds(self) -> str:
        return str(int(self.now().timestamp() * 1000))

    # --- what the API answers ---------------------------------------------------------------------------------

    def answer(self, method: str, query: Mapping[str, str]) -> object:
        """Return the `response` of a method. Raises `PosterError`."""
        # counted before the token is looked at: a refused call is one, too
        self.calls += 1
        if query.get("token") != self.token:
            raise PosterError(11 if query.get("token") else 10, "Bad access token")
        respond = _METHODS.get(method)
        if respond is None:
            raise PosterError(30, "Method doesn't exist")
        return respond(self, query)

    def _settings(self, _query: Mapping[str, str]) -> object:
        return {
            "COMPANY_ID": self.name,
            "company_name": "Cafe Lviv",
            "timezones": self.zone,
            "lang": "uk",
            "currency": {"currency_id": 1, "currency_code_iso": self.currency},
        }

    def _info(self, _query: Mapping[str, str]) -> object:
        return {"ownerInfo": {"country": "UA", "name": "Demo", "company_name": "Cafe Lviv"}}

    def _spots(self, _query: Mapping[str, str]) -> object:
        return [
            {"spot_id": str(number), "spot_name": name, "spot_adress": ""}
            for number, name in enumerate(self.spots, start=1)
        ]

    def _products(self, _query: Mapping[str, str]) -> object:
        return [
            {"product_id": product_id, "product_name": product.name, "menu_category_id": product.category}
            for product_id, product in MENU.items()
        ]

    def _categories(self, _query: Mapping[str, str]) -> object:
        return [{"category_id": category_id, "category_name": name} for category_id, name in _CATEGORIES.items()]

    def _find_client(self, query: Mapping[str, str]) -> object:
        client = self.clients.get(_number(query, "client_id"))
        if client is None:
            raise PosterError(32, "Client not found")
        return [client]

    def _find_clients(self, query: Mapping[str, str]) -> object:
        # only in international form, as the wire says
        phone = query.get("phone", "")
        digits = phone.removeprefix("+") if phone.startswith("+") else "none"
        return [client for client in self.clients.values() if client["phone_number"] == digits]

    def _update_client(self, query: Mapping[str, str]) -> object:
        client_id = _number(query, "client_id")
        client = self.clients.get(client_id)
        if client is None:
            raise PosterError(32, "Client not found")
        if "comment" in query:
            client["comment"] = query["comment"]
            self.comments_written += 1
        if query.get("block_webhook") != "true":
            self.echoes.append(client_id)
        return client_id

    def _find_receipt(self, query: Mapping[str, str]) -> object:
        receipt_id = _number(query, "transaction_id")
        if receipt_id not in self.receipts or receipt_id in self.offline:
            return []
        # read by its id, a receipt carries more than in a list
        return [{**self.receipts[receipt_id], "history": []}]

    def _list_receipts(self, query: Mapping[str, str]) -> object:
        """Return a page of receipts with a greater id than `next_tr`, of some business days, by status."""
        # Poster limits days and not receipts, so the days are looked at before anything else
        first, last = _days(query)
        if (last - first).days >= _MOST_DAYS:
            raise PosterError(52, "Date range is too long")
        status, after = query.get("status", "0"), _number(query, "next_tr")
        matches = [
            receipt
            for receipt_id, receipt in self._arrived_after(after)
            if status in ("0", receipt["status"]) and first <= self._business_day(receipt) <= last
        ]
        # the cut is by id in both orders: the cursor asks for greater ids
        page = matches[: self.page_size]
        return page[::-1] if self.newest_first else page

    def _arrived_after(self, receipt_id: int) -> list[tuple[int, Receipt]]:
        """Return receipts with a greater id that have reached the API, the smallest id first."""
        return [
            (number, receipt)
            for number, receipt in sorted(self.receipts.items(), key=lambda item: item[0])
            if number > receipt_id and number not in self.offline
        ]

    def _business_day(self, receipt: Receipt) -> date:
        """Return the day on which a receipt was closed (or opened, while it is open), in the account's zone."""
        milliseconds = int(receipt["date_close"]) or int(receipt["date_start"])
        return datetime.fromtimestamp(milliseconds / 1000, UTC).astimezone(ZoneInfo(self.zone)).date()

    # --- hooks ------------------------------------------------------------------------------------------------

    def hook(self, receipt: int, action: str, *, data: object = None, secret: str = SECRET) -> bytes:
        """Return a signed hook about a receipt."""
        return self.signed_hook("transaction", receipt, action, data=data, secret=secret)

    def signed_hook(
        self,
        object_: str,
        object_id: int,
        action: str,
        *,
        data: object = None,
        secret: str = SECRET,
        at: int | None = None,
    ) -> bytes:
        """Return a signed hook; `data` is sent as a string of JSON where it is given as text, else as itself."""
        # signed as sent: as text, and in seconds
        time = str(at if at is not None else int(self.now().timestamp()))
        fields = [self.name, object_, str(object_id), action]
        if data is not None:
            fields.append(_as_sent(data))
        body: dict[str, object] = {
            "account": self.name,
            "account_number": self.number,
            "object": object_,
            "object_id": object_id,
            "action": action,
            "time": time,
            "verify": OrderedFieldsMd5(secret).sign([*fields, time]),
        }
        if data is not None:
            body["data"] = data
        return json.dumps(body).encode()


_METHODS: Mapping[str, Callable[[Account, Mapping[str, str]], object]] = {
    "settings.getAllSettings": Account._settings,
    "application.getInfo": Account._info,
    "access.getSpots": Account._spots,
    "menu.getProducts": Account._products,
    "menu.getCategories": Account._categories,
    "clients.getClient": Account._find_client,
    "clients.getClients": Account._find_clients,
    "clients.updateClient": Account._update_client,
    "dash.getTransaction": Account._find_receipt,
    "dash.getTransactions": Account._list_receipts,
}


def _as_sent(data: object) -> str:
    """Return `data` byte for byte as the hook holds it, which is what Poster signs."""
    return data if isinstance(data, str) else json.dumps(data)


def _number(query: Mapping[str, str], name: str) -> int:
    value = query.get(name, "0")
    return int(value) if value.isascii() and value.isdigit() else 0


def _days(query: Mapping[str, str]) -> tuple[date, date]:
    """Read the first and the last day that are asked for. Raises `PosterError`."""
    try:
        first, last = (datetime.strptime(query[name], "%Y%m%d").date() for name in ("dateFrom", "dateTo"))
    except (KeyError, ValueError):
        raise PosterError(42, "Wrong dates") from None
    return first, last
