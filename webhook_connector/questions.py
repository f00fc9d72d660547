"""The questions by which a cafe teaches its till from one request, and what in the request may answer them.

Owns which question makes sense of which request, and which values look like an answer; what an answer changes is
`answers`'.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice

from connector_sdk.errors import BadPayload
from connector_sdk.teaching import Leaf, Question, Values
from webhook_connector.lenient_settings import lenient_settings
from webhook_connector.places import (
    FEWEST_OF_A_RECEIPT,
    PathWriter,
    Place,
    Text,
    find_receipt_lists,
    find_texts,
    first_receipt,
    follow,
    is_allowed,
    last_name,
    parse_request,
    path_to,
)
from webhook_connector.settings import DecimalSign, Units
from webhook_connector.value_formats import parse_amount

_QUESTIONS = (
    Question("map_receipt_id", "Which of these is the number of the receipt?", needed=True),
    Question("map_paid", "Which is the sum that was paid?", needed=True),
    Question("map_closed_at", "Which is the time at which it was paid?", needed=True),
    Question("map_phone", "Which is the customer's phone?"),
    Question("map_email", "Which is the customer's email?"),
    Question("map_status", "Which says whether the receipt is open, paid or cancelled?"),
    Question("map_refunded", "Which is the sum that was given back?", skip="There is none in this sale"),
    Question(
        "map_version",
        "Which one changes every time the receipt is changed? Often it counts up, or is the time of the last change.",
    ),
    Question("map_codes", "Which is the code of a voucher that was used?", skip="There is none in this sale"),
)
UNITS = Question("units", "How much was it?", needed=True)
SIGN = Question("decimal_sign", "How much was it?", needed=True)
_SEVERAL = Question(
    "map_receipts", "One request may hold several receipts. Which list are they?", skip="It is one receipt only"
)
_NAMES: Mapping[str, re.Pattern[str]] = {
    "map_receipts": re.compile(r"(?i)receipt|order|sale|check|transaction|bon|ticket"),
    "map_receipt_id": re.compile(r"(?i)^(id|number|no|nr)$|receipt|order_?(id|no|num)|check_?(id|no)|transaction_?id"),
    "map_paid": re.compile(r"(?i)total|amount|sum|paid|gross|grand"),
    "map_closed_at": re.compile(r"(?i)closed|paid_?(at|on)|date|time|created|completed|finished"),
    "map_phone": re.compile(r"(?i)phone|mobile|\btel"),
    "map_email": re.compile(r"(?i)e?-?mail"),
    "map_status": re.compile(r"(?i)status|state"),
    "map_refunded": re.compile(r"(?i)refund|return"),
    "map_version": re.compile(r"(?i)revision|version|updated|modified|changed"),
    "map_codes": re.compile(r"(?i)code|coupon|voucher|promo"),
}
"""How tills call what a question is about."""
_LOOKS: Mapping[str, re.Pattern[str]] = {
    "map_paid": re.compile(r"[0-9][0-9 .,]*"),
    "map_refunded": re.compile(r"-?[0-9][0-9 .,]*"),
    "map_closed_at": re.compile(r"[^0-9]{0,12}[0-9]{2}.{0,48}"),
    "map_phone": re.compile(r"\+?[0-9][0-9 ()/-]{5,}"),
    "map_email": re.compile(r"[^@\s]{1,60}@[^@\s]{1,60}"),
}
"""How a value is written that may be the answer."""
_DIGITS_OF_NO_STATUS = 4
_DECIMAL = re.compile(r"-?[0-9]+[.,][0-9]+")
_MOST_LEAVES = 400
LOOKED_AT = 60  # characters of a value or a name: more say nothing about what it is


def ask(values: Values, body: bytes) -> tuple[Question, ...]:
    """Return the questions that make sense of this request: of a list only where the receipts may be in one."""
    request = parse_request(body)
    questions = [_SEVERAL] if values.get(_SEVERAL.field) or _may_hold_several(request) else []
    for question in _QUESTIONS:
        questions.append(question)
        if question.field == "map_paid":
            questions += ask_of_doubt(_amount_as_sent(values, request))
    return tuple(questions)


def ask_of_doubt(amount: str) -> list[Question]:
    """Ask where an amount may be two: 1250 is 1250.00 or 12.50, 1.250 is 1.25 or 1250."""
    if re.fullmatch(r"[0-9]{3,12}", amount):
        return [UNITS]
    return [SIGN] if re.fullmatch(r"[0-9]{1,3}[.,][0-9]{3}", amount) else []


def _amount_as_sent(values: Values, request: object) -> str:
    """Return the sum that was paid as the till wrote it, by the settings as they are; empty where there is none."""
    amount = follow(values.get("map_paid", ""), first_receipt(values, request).value)
    amounts = amount if isinstance(amount, list) else [amount]
    return next((text.strip()[:LOOKED_AT] for text in amounts if isinstance(text, str)), "")


def _may_hold_several(request: object) -> bool:
    """Say whether there is a list of what may be receipts, by its name or because little stands outside of it."""
    places = [receipts.place for receipts in find_receipt_lists(request)]
    outside = sum(not _is_in_list(text.place) for text in find_texts(request))
    names_receipts = _NAMES[_SEVERAL.field].search
    return bool(places) and (
        outside <= FEWEST_OF_A_RECEIPT or any(names_receipts(last_name(place)) for place in places)
    )


def _is_in_list(place: Place) -> bool:
    return any(isinstance(part, int) for part in place)


# --- what may answer ------------------------------------------------------------------------------------------------


def find_leaves(values: Values, body: bytes, field: str) -> tuple[Leaf, ...]:
    """Find what of a request may answer a question: values, or lists where receipts are asked for."""
    request = parse_request(body)
    match field:
        case "map_receipts":
            return tuple(_list_leaves(request))
        case "units" | "decimal_sign":
            return _amount_leaves(values, _amount_as_sent(values, request), field)
    return tuple(_text_leaves(values, request, field))


def _list_leaves(request: object) -> Iterator[Leaf]:
    """Offer each list whose entries may be receipts, with their number."""
    for place, entries in islice(find_receipt_lists(request), _MOST_LEAVES):
        path = path_to(place, request, _SEVERAL.field)
        if is_allowed(path):
            yield Leaf(place, path, str(len(entries)), bool(_NAMES[_SEVERAL.field].search(last_name(place))))


def _amount_leaves(values: Values, amount: str, field: str) -> tuple[Leaf, ...]:
    """Offer both ways of reading an amount that is in doubt."""
    leaves: list[Leaf] = []
    for reading in Units if field == "units" else DecimalSign:
        # one reading at a time: the other of the two formats is as usual meanwhile
        settings = lenient_settings({**values, "units": Units.major.value, field: reading.value})
        try:
            money = parse_amount(amount, "paid", settings)
        except (BadPayload, ValueError):
            continue
        leaves.append(Leaf((amount, len(leaves)), reading.value, str(money)))
    return tuple(leaves)


def _text_leaves(values: Values, request: object, field: str) -> Iterator[Leaf]:
    """Offer each value of the first receipt to which a path can lead."""
    receipt = first_receipt(values, request)
    writer = PathWriter(receipt.value, field)
    # more of them than a person looks at, and few enough for a page
    for text in islice(find_texts(receipt.value), _MOST_LEAVES):
        path = writer.path_to(text.place)
        if is_allowed(path) and may_answer(field, text.text):
            yield Leaf((*receipt.place, *text.place), path, text.text, _is_likely(field, text))


def may_answer(field: str, text: str) -> bool:
    """Say whether a value can be the answer at all: a status is a word or a short code.

    An amount, a time, an id or a phone number is another one in the next receipt: taken for the word that means
    "paid", it would have that receipt not read.
    """
    if field != "map_status":
        return True
    shown = text.strip()[:LOOKED_AT]
    digits = sum(character.isdigit() for character in shown)
    return digits < _DIGITS_OF_NO_STATUS and "@" not in shown and not _DECIMAL.fullmatch(shown)


def _is_likely(field: str, text: Text) -> bool:
    """Say whether a value looks like the answer, by its name and by how it is written."""
    # a receipt has one number, and its lines have theirs
    if field == "map_receipt_id" and _is_in_list(text.place):
        return False  # the number of a line, more likely
    names, looks = _NAMES.get(field), _LOOKS.get(field)
    if names is None or not names.search(last_name(text.place)[:LOOKED_AT]):
        return False
    return looks is None or looks.fullmatch(text.text.strip()[:LOOKED_AT]) is not None
