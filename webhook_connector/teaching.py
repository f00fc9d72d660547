"""How this connector is taught by one request: what is asked, what could be the answer, and what answers make of it.

Owns paths for what was tapped, and formats seen from it; reading by them is `mapping`'s.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import SecretStr, TypeAdapter, ValidationError

from connector_sdk.errors import BadPayload, Forged, NotConfigured
from connector_sdk.hooks import HookRequest
from connector_sdk.messages import Message
from connector_sdk.money import Money
from connector_sdk.signatures import StandardWebhooks, equal
from connector_sdk.teaching import Leaf, Offer, Question, Sketch, Teaching, Values
from webhook_connector import proofs
from webhook_connector.expressions import compiled, found_in, parsed
from webhook_connector.mapping import examined, receipts_in, sale_of
from webhook_connector.settings import Dates, DecimalSign, Proof, Units, WebhookSettings

_QUESTIONS = (
    Question("map_receipt_id", "Which of these is the number of the receipt?", needed=True),
    Question("map_paid", "Which is the sum that was paid?", needed=True),
    Question("map_closed_at", "Which is the time at which it was paid?", needed=True),
    Question("map_phone", "Which is the customer's phone?"),
    Question("map_email", "Which is the customer's email?"),
    Question("map_status", "Which says whether the receipt is open, paid or cancelled?"),
    Question("map_refunded", "Which is the sum that was given back?"),
    Question("map_version", "Which changes with every change of the receipt: a revision, or a time of change?"),
    Question("map_codes", "Which is the code of a voucher that was used?"),
)
_SEVERAL = Question("map_receipts", "One request may hold several receipts. Which list are they?")
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
_LOOKS: Mapping[str, re.Pattern[str]] = {
    "map_paid": re.compile(r"[0-9][0-9 .,]*"),
    "map_refunded": re.compile(r"-?[0-9][0-9 .,]*"),
    "map_closed_at": re.compile(r".*[0-9]{2}.*[0-9]{2}.*"),
    "map_phone": re.compile(r"\+?[0-9][0-9 ()/-]{5,}"),
    "map_email": re.compile(r"[^@\s]+@[^@\s]+"),
}
_ADDED_UP = frozenset({"map_paid", "map_refunded", "map_codes"})
_TELLING = ("key", "name", "type", "kind", "code")
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PATTERNS = (
    (re.compile(r"\d{1,2}\.\d{1,2}\.\d{4} \d{1,2}:\d{2}:\d{2}"), "%d.%m.%Y %H:%M:%S"),
    (re.compile(r"\d{1,2}\.\d{1,2}\.\d{4} \d{1,2}:\d{2}"), "%d.%m.%Y %H:%M"),
    (re.compile(r"\d{1,2}/\d{1,2}/\d{4} \d{1,2}:\d{2}:\d{2}"), "%d/%m/%Y %H:%M:%S"),
    (re.compile(r"\d{1,2}/\d{1,2}/\d{4} \d{1,2}:\d{2}"), "%d/%m/%Y %H:%M"),
)
_MOST_LEAVES = 400
_MOST_OF_A_LIST = 3


# --- what is asked, and what could be the answer --------------------------------------------------------------------


def questions(values: Values, body: bytes) -> tuple[Question, ...]:
    """The questions that make sense of this request."""
    whole = _json(body)
    named = _NAMES[_SEVERAL.field]
    several = values.get(_SEVERAL.field) or any(
        named.search(str(place[-1])) for place, _ in _lists_of_objects(whole, ())
    )
    return (_SEVERAL, *_QUESTIONS) if several else _QUESTIONS


def leaves(values: Values, body: bytes, field: str) -> tuple[Leaf, ...]:
    """What of the request can be the answer: values, or lists where receipts are asked for."""
    whole = _json(body)
    if field == "map_receipts":
        return tuple(
            Leaf(place, _path(place, whole, field), str(len(found)), bool(_NAMES[field].search(str(place[-1]))))
            for place, found in _lists_of_objects(whole, ())
            if _is_allowed(_path(place, whole, field))
        )
    receipt, before = _first_receipt(values, whole)
    made: list[Leaf] = []
    for place, value in _values(receipt, ()):
        path = _path(place, receipt, field)
        if not _is_allowed(path):  # a name that no path can say
            continue
        likely = bool(_NAMES[field].search(_name(place))) and _looks(field, value)
        made.append(Leaf((*before, *place), path, value, likely))
        if len(made) >= _MOST_LEAVES:
            break
    return tuple(made)


def _is_allowed(path: str) -> bool:
    try:
        compiled(path)
    except ValueError:
        return False
    return True


def _looks(field: str, value: str) -> bool:
    pattern = _LOOKS.get(field)
    return pattern is None or pattern.fullmatch(value.strip()) is not None


def _name(place: tuple[str | int, ...]) -> str:
    return next((one for one in reversed(place) if isinstance(one, str)), "")


def _json(body: bytes) -> Any:
    try:
        return parsed(body)
    except BadPayload:
        return None


def _first_receipt(values: Values, whole: Any) -> tuple[Any, tuple[str | int, ...]]:
    """The receipt that questions are about, and where it stands in the request."""
    path = values.get("map_receipts", "")
    if path:
        found = found_in(path, whole)
        place = next((one for one, _ in _lists_of_objects(whole, ()) if _path(one, whole, "map_receipts") == path), ())
        return (found[0], (*place, 0)) if isinstance(found, list) and found else (found, place)
    return (whole[0], (0,)) if isinstance(whole, list) and whole else (whole, ())


def _lists_of_objects(value: Any, place: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], list[Any]]]:
    """Lists of objects that stand in objects, outermost first."""
    if isinstance(value, dict):
        for name, one in value.items():
            if isinstance(one, list) and one and all(isinstance(inner, dict) for inner in one):
                yield (*place, name), one
            yield from _lists_of_objects(one, (*place, name))


def _values(value: Any, place: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    match value:
        case dict():
            for name, one in value.items():
                yield from _values(one, (*place, name))
        case list():
            for at, one in enumerate(value[:_MOST_OF_A_LIST]):
                yield from _values(one, (*place, at))
        case bool() if place:
            yield place, "true" if value else "false"
        case str() if place:
            yield place, value


# --- paths ----------------------------------------------------------------------------------------------------------


def _path(place: tuple[str | int, ...], within: Any, field: str) -> str:
    """The expression for a place: what is a list is added up, told apart by a text beside the value, or counted off."""
    text, value = "", within
    for part in place:
        if isinstance(part, int):
            text += "[]" if field in _ADDED_UP else _told_apart(value, part)
            value = value[part]
        else:
            name = part if _PLAIN_NAME.fullmatch(part) else '"' + part.replace("\\", "\\\\").replace('"', '\\"') + '"'
            text += f".{name}" if text else name
            value = value[part]
    return text


def _told_apart(several: list[Any], at: int) -> str:
    one = several[at]
    for name in _TELLING if isinstance(one, dict) else ():
        texts = [other.get(name) for other in several if isinstance(other, dict)]
        told = one.get(name)
        if isinstance(told, str) and texts.count(told) == 1 and len(several) > 1 and re.fullmatch(r"[\w .:-]+", told):
            return f"[?{name}=='{told}']"
    return f"[{at}]"


# --- answers --------------------------------------------------------------------------------------------------------


def taken(values: Values, body: bytes, field: str, path: str) -> dict[str, str]:
    """The settings with an answer, and with the format that what stands there is seen to have."""
    made = {**values, field: path}
    receipt, _ = _first_receipt(made, _json(body))
    found = found_in(path, receipt)
    texts = [one.strip() for one in (found if isinstance(found, list) else [found]) if isinstance(one, str)]
    text = texts[0] if texts else ""
    match field:
        case "map_paid":
            if re.fullmatch(r"-?[0-9. ]*,[0-9]{1,3}", text):
                made["decimal_sign"] = DecimalSign.comma.value
            elif re.fullmatch(r"-?[0-9, ]*\.[0-9]{1,3}", text):
                made["decimal_sign"] = DecimalSign.dot.value
            if not re.fullmatch(r"[0-9]+", text):
                made["units"] = Units.major.value
        case "map_closed_at" if text:
            made |= _dates_of(text)
        case "map_status" if text:
            known = [one.strip() for one in made.get("closed_statuses", "").split(",") if one.strip()]
            made["closed_statuses"] = ", ".join(dict.fromkeys([*known, text]))  # what is shown to us was paid
    return made


def _dates_of(text: str) -> dict[str, str]:
    if re.fullmatch(r"[0-9]{9,10}", text):
        return {"dates": Dates.unix.value}
    if re.fullmatch(r"[0-9]{12,13}", text):
        return {"dates": Dates.unix_ms.value}
    for pattern, words in _PATTERNS:
        if pattern.fullmatch(text):
            return {"dates": Dates.pattern.value, "date_pattern": words}
    return {"dates": Dates.iso.value}


# --- what they make of it -------------------------------------------------------------------------------------------


def sketch(values: Values, body: bytes) -> Sketch:
    """The sales of a request by settings that may lack anything, and what is wrong or missing, by setting."""
    settings = _lenient(values)
    wrong = _missing(settings)
    try:
        receipts = receipts_in(body, settings)
    except BadPayload as error:
        return Sketch(wrong={**wrong, f"map_{error.where}" if error.where == "receipts" else "": error.said})
    if not receipts:
        return Sketch(wrong={**wrong, "map_receipts": Message("the list is empty here")})
    found, bad = examined(receipts[0], settings)
    wrong |= {f"map_{name}": error.said for name, error in bad.items()}
    offers = tuple(_other_units(receipts[0], settings))
    read = {f"map_{name}": text for name, text in found.items()}
    sales, others = [], dict[str, Message]()
    for one in receipts if not _missing(settings) else ():
        try:
            sales.append(sale_of(one, settings))
        except BadPayload as error:
            others.setdefault(f"map_{error.where.partition('.')[0]}", error.said)
    return Sketch(tuple(sales), read, {**others, **wrong}, offers)


def _missing(settings: WebhookSettings) -> dict[str, Message]:
    wrong = {
        f"map_{field}": Message("nothing says yet where it is")
        for field in ("receipt_id", "paid", "closed_at")
        if not getattr(settings, f"map_{field}")
    }
    if not (settings.map_phone or settings.map_email or settings.map_number):
        wrong["map_phone"] = Message("say where the customer's phone, email or number is: stamps need somebody")
    return wrong


def _other_units(receipt: Any, settings: WebhookSettings) -> Iterator[Offer]:
    """A whole number may be either: 1250 is 1250.00, or 12.50."""
    found = found_in(settings.map_paid, receipt) if isinstance(receipt, dict) else None
    if not isinstance(found, str) or not re.fullmatch(r"[0-9]{1,15}", found.strip()):
        return
    minor = settings.units is not Units.minor
    other = Money(int(found), settings.currency) if minor else Money.from_decimal(found.strip(), settings.currency)
    units = Units.minor if minor else Units.major
    yield Offer(Message("It was {amount}", {"amount": other}), {"units": units.value})


def _lenient(values: Values) -> WebhookSettings:
    """Settings with whatever of these makes sense by itself, and what is usual for the rest."""
    made: dict[str, Any] = {"till_name": "?", "currency": "EUR", "zone": "UTC", "proof": Proof.address}
    for name, info in WebhookSettings.model_fields.items():
        if name not in made:
            made[name] = "" if info.is_required() else info.get_default(call_default_factory=True)
    for name, value in values.items():
        if name not in WebhookSettings.model_fields or name in ("secret", "till_id"):
            continue
        info = WebhookSettings.model_fields[name]
        try:
            made[name] = TypeAdapter[Any](info.annotation).validate_python(value)  # type: ignore[arg-type]
        except ValidationError:
            continue
    try:
        Money.zero(made["currency"])
    except ValueError:
        made["currency"] = "EUR"
    for name, usual in (("zone", "UTC"), ("dates_zone", "")):
        made[name] = made[name] if _is_zone(made[name]) else usual
    return WebhookSettings.model_construct(**made)


def _is_zone(name: str) -> bool:
    try:
        return bool(name) and bool(ZoneInfo(name))
    except (KeyError, ValueError, OSError):
        return False


# --- proofs ---------------------------------------------------------------------------------------------------------

_SIGNED = re.compile(r"(?i)sign|hmac|digest")
_SHOWN = re.compile(r"(?i)token|secret|api-?key|auth")
_DIGEST = 32  # bytes of SHA-256
_HEX = re.compile(r"(?i)(sha256=)?[0-9a-f]{64}")


def proof(request: HookRequest) -> dict[str, str]:
    """Settings that fit how this request seems to prove itself; none where nothing is seen."""
    headers = request.headers
    if {"webhook-id", "webhook-timestamp", "webhook-signature"} <= headers.keys():
        return {"proof": Proof.standard.value}
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            user = base64.b64decode(given.strip(), validate=True).decode().partition(":")[0]
        except (binascii.Error, UnicodeDecodeError):
            user = ""
        return {"proof": Proof.basic.value, "proof_user": user}
    for name, value in headers.items():
        if _SIGNED.search(name) and (encoding := _encoding(value)):
            return {"proof": Proof.hmac.value, "proof_header": name, "proof_encoding": encoding}
    for name in headers:
        if _SHOWN.search(name) and name != "authorization":
            return {"proof": Proof.header.value, "proof_header": name}
    return {}


def _encoding(value: str) -> str:
    if _HEX.fullmatch(value):
        return "hex"
    try:
        return "base64" if len(base64.b64decode(value.removeprefix("sha256="), validate=True)) == _DIGEST else ""
    except (binascii.Error, ValueError):
        return ""


_OTHER_SECRET = Message(
    "the request that you chose does not prove itself with this; if you changed it since, send another sale and choose "
    "that one"
)


def unproven(values: Values, request: HookRequest) -> Message | None:
    """What stands against a request's proof by these settings, its age aside; `None` where it shows none at all."""
    settings = _lenient(values)
    secret, headers = values.get("secret", ""), request.headers
    shown = headers.get(settings.proof_header.lower(), "")
    try:
        match settings.proof:
            case Proof.standard if headers.get("webhook-signature"):
                at = datetime.fromtimestamp(int(headers.get("webhook-timestamp", "")), UTC)
                signed = StandardWebhooks(secret).sign(request.body, headers.get("webhook-id", ""), at)
                good = any(equal(signed["webhook-signature"], one) for one in headers["webhook-signature"].split())
                return None if good else _OTHER_SECRET
            case Proof.basic if headers.get("authorization"):
                proofs.prove(request, settings.model_copy(update={"secret": SecretStr(secret)}))
            case Proof.hmac | Proof.header if shown:
                proofs.prove(request, settings.model_copy(update={"secret": SecretStr(secret)}))
    except (Forged, NotConfigured, ValueError, OverflowError, OSError):
        return _OTHER_SECRET
    return None


TEACHING = Teaching(
    questions=questions,
    leaves=leaves,
    taken=taken,
    sketch=sketch,
    proof=proof,
    unproven=unproven,
    secret="secret",  # noqa: S106 - the name of the field
)
