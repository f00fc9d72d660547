"""How this connector is taught by one request: what is asked, what could be the answer, and what answers make of it.

Owns paths for what was tapped, and formats seen from it; reading by them is `mapping`'s.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import SecretStr, TypeAdapter, ValidationError

from connector_sdk.errors import BadPayload, Forged, NotConfigured
from connector_sdk.hooks import HookRequest
from connector_sdk.messages import Message
from connector_sdk.money import Money
from connector_sdk.redaction import personal_name, personal_text
from connector_sdk.signatures import StandardWebhooks, equal
from connector_sdk.teaching import Leaf, Question, Sketch, Teaching, Values
from webhook_connector import expressions, proofs
from webhook_connector.expressions import Budget, TooCostly, compiled, parsed
from webhook_connector.mapping import amount_of, examined, receipts_in, sale_of
from webhook_connector.settings import (
    SIGN_WORDS,
    UNIT_WORDS,
    Dates,
    DecimalSign,
    Proof,
    Units,
    WebhookApp,
    WebhookSettings,
)

_QUESTIONS = (
    Question("map_receipt_id", "Which of these is the number of the receipt?", needed=True),
    Question("map_paid", "Which is the sum that was paid?", needed=True),
    Question("map_closed_at", "Which is the time at which it was paid?", needed=True),
    Question("map_phone", "Which is the customer's phone?"),
    Question("map_email", "Which is the customer's email?"),
    Question("map_status", "Which says whether the receipt is open, paid or cancelled?"),
    Question("map_refunded", "Which is the sum that was given back?", skip="There is none in this sale"),
    Question("map_version", "Which changes with every change of the receipt: a revision, or a time of change?"),
    Question("map_codes", "Which is the code of a voucher that was used?", skip="There is none in this sale"),
)
_UNITS = Question("units", "How much was it?", needed=True)
_SIGN = Question("decimal_sign", "How much was it?", needed=True)
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
_LOOKS: Mapping[str, re.Pattern[str]] = {
    "map_paid": re.compile(r"[0-9][0-9 .,]*"),
    "map_refunded": re.compile(r"-?[0-9][0-9 .,]*"),
    "map_closed_at": re.compile(r"[^0-9]{0,12}[0-9]{2}.{0,48}"),
    "map_phone": re.compile(r"\+?[0-9][0-9 ()/-]{5,}"),
    "map_email": re.compile(r"[^@\s]{1,60}@[^@\s]{1,60}"),
}
_ADDED_UP = frozenset({"map_paid", "map_refunded", "map_codes"})
_TELLING = ("key", "type", "kind", "code", "name")
_DIGITS_OF_SOMEBODY = 6
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DAYS = ("%d.%m.%Y", "%d.%m.%y", "%d/%m/%Y", "%m/%d/%Y", "%d/%m/%y", "%d-%m-%Y", "%Y/%m/%d", "%Y.%m.%d", "%Y-%m-%d")
_CLOCKS = ("%H:%M:%S", "%H:%M", "%I:%M:%S %p", "%I:%M %p")
_PATTERNS = (
    *(f"{day}{between}{clock}" for day in _DAYS for between in (" ", ", ") for clock in _CLOCKS),
    "%Y%m%d%H%M%S",
    "%a, %d %b %Y %H:%M:%S %z",
)
_MOST_LEAVES = 400
_LOOKED_AT = 60  # signs of a value: more say nothing about what it is
_RECEIPT = 3  # values that an entry of a list has at least, for it to be a receipt and no key with its value
_MOST_OF_A_LIST = 3


# --- what is asked, and what could be the answer --------------------------------------------------------------------


def questions(values: Values, body: bytes) -> tuple[Question, ...]:
    """The questions that make sense of this request: of a list only where the receipts may be in one."""
    whole = _json(body)
    asked = [_SEVERAL] if values.get(_SEVERAL.field) or _may_hold_several(whole) else []
    for question in _QUESTIONS:
        asked.append(question)
        if question.field == "map_paid":
            asked += _in_doubt(values, _paid_as_sent(values, whole))
    return tuple(asked)


def _paid_as_sent(values: Values, whole: Any) -> str:
    receipt, _ = _first_receipt(values, whole)
    found = found_in(values.get("map_paid", ""), receipt)
    texts = found if isinstance(found, list) else [found]
    return next((one.strip()[:_LOOKED_AT] for one in texts if isinstance(one, str)), "")


def _in_doubt(values: Values, text: str) -> list[Question]:
    """What an amount may be is asked where it may be two things: 1250 is 1250.00 or 12.50, 1.250 is 1.25 or 1250."""
    if re.fullmatch(r"[0-9]{3,12}", text):
        return [_UNITS]
    return [_SIGN] if re.fullmatch(r"[0-9]{1,3}[.,][0-9]{3}", text) else []


def _readings(values: Values, text: str, field: str) -> tuple[Leaf, ...]:
    """An amount in doubt, both ways."""
    made: list[Leaf] = []
    for one in Units if field == "units" else DecimalSign:
        settings = _lenient({**values, "units": Units.major.value, field: one.value})
        try:
            amount = amount_of(text, settings)
        except (BadPayload, ValueError):
            continue
        made.append(Leaf((text, len(made)), one.value, str(amount)))
    return tuple(made)


def _may_hold_several(whole: Any) -> bool:
    """Whether there is a list of what may be receipts, by its name or because little stands outside of it."""
    lists = [place for place, _ in _lists_of_objects(whole, ())]
    outside = sum(1 for place, _ in _values(whole, ()) if not any(isinstance(part, int) for part in place))
    return bool(lists) and (outside <= _RECEIPT or any(_NAMES[_SEVERAL.field].search(_name(one)) for one in lists))


def leaves(values: Values, body: bytes, field: str) -> tuple[Leaf, ...]:
    """What of the request can be the answer: values, or lists where receipts are asked for."""
    whole = _json(body)
    if field == "map_receipts":
        found = [(place, _path(place, whole, field), len(several)) for place, several in _lists_of_objects(whole, ())]
        return tuple(
            Leaf(place, path, str(number), bool(_NAMES[field].search(_name(place))))
            for place, path, number in found[:_MOST_LEAVES]
            if _is_allowed(path)
        )
    if field in ("units", "decimal_sign"):
        return _readings(values, _paid_as_sent(values, whole), field)
    receipt, before = _first_receipt(values, whole)
    paths, named = _Paths(receipt, field), _NAMES.get(field)
    made: list[Leaf] = []
    for number, (place, value) in enumerate(_values(receipt, ())):
        if number >= _MOST_LEAVES:
            break
        path = paths.to(place)
        if not _is_allowed(path):  # a name that no path can say
            continue
        likely = named is not None and bool(named.search(_name(place)[:_LOOKED_AT])) and _looks(field, value)
        if field == "map_receipt_id" and any(isinstance(part, int) for part in place):
            likely = False  # the number of a line, more likely
        made.append(Leaf((*before, *place), path, value, likely))
    return tuple(made)


def _is_allowed(path: str) -> bool:
    try:
        compiled(path)
    except ValueError:
        return False
    return True


def _looks(field: str, value: str) -> bool:
    pattern = _LOOKS.get(field)
    return pattern is None or pattern.fullmatch(value.strip()[:_LOOKED_AT]) is not None


def _name(place: tuple[str | int, ...]) -> str:
    return next((one for one in reversed(place) if isinstance(one, str)), "")


def found_in(path: str, value: Any) -> Any:
    """What a path leads to; nothing where it costs too much, which `sketch` says."""
    try:
        return expressions.found_in(path, value)
    except TooCostly:
        return None


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
    """Lists of objects that stand in objects and may be receipts, outermost first."""
    if isinstance(value, dict):
        for name, one in value.items():
            if isinstance(one, list) and one and all(_is_like_a_receipt(inner) for inner in one):
                yield (*place, name), one
            yield from _lists_of_objects(one, (*place, name))


def _is_like_a_receipt(value: Any) -> bool:
    return isinstance(value, dict) and len(list(islice(_values(value, ()), _RECEIPT))) == _RECEIPT


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
    """The expression for a place."""
    return _Paths(within, field).to(place)


class _Paths:
    """Expressions for places in a receipt, as one field needs them: what is a list is added up, told apart by a text
    beside the value, or counted off.
    """

    def __init__(self, within: Any, field: str) -> None:
        self._within = within
        self._field = field
        self._telling: dict[int, dict[str, Counter[str]]] = {}  # by list: what its entries say under a telling name

    def to(self, place: tuple[str | int, ...]) -> str:
        text, value = "", self._within
        for part in place:
            if isinstance(part, int):
                text += "[]" if self._field in _ADDED_UP else self._told_apart(value, part)
            else:
                name = part if _PLAIN_NAME.fullmatch(part) else _quoted(part)
                text += f".{name}" if text else name
            value = value[part]
        return text

    def _told_apart(self, several: list[Any], at: int) -> str:
        one = several[at]
        if isinstance(one, dict) and len(several) > 1:
            seen = self._telling.setdefault(id(several), _texts_of(several))
            for name in _TELLING:
                told = one.get(name)
                if isinstance(told, str) and seen[name][told] == 1 and _tells_only_a_kind(name, told, one):
                    return f"[?{name}=='{told}']"
        return f"[{at}]"


def _quoted(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _texts_of(several: list[Any]) -> dict[str, Counter[str]]:
    entries = [one for one in several if isinstance(one, dict)]
    return {name: Counter(one[name] for one in entries if isinstance(one.get(name), str)) for name in _TELLING}


def _tells_only_a_kind(name: str, told: str, beside: Mapping[str, Any]) -> bool:
    """Whether a text names a kind of value, as in `key: phone`, and nobody: another request must have it, too."""
    if not re.fullmatch(r"[\w .:-]{1,40}", told) or personal_text(told):
        return False
    if sum(sign.isdigit() for sign in told) >= _DIGITS_OF_SOMEBODY:
        return False
    return name != "name" or not any(personal_name(other) for other in beside if other != name)


# --- answers --------------------------------------------------------------------------------------------------------


def taken(values: Values, body: bytes, field: str, path: str) -> dict[str, str]:
    """The settings with an answer, and with the format that what stands there is seen to have."""
    whole = _json(body)
    if field in ("units", "decimal_sign"):
        return {**values, field: path}
    if field == "map_receipts":
        return {**_within(values, path), field: path}
    made = {**values, field: path}
    receipt, _ = _first_receipt(made, whole)
    before = values.get(field, "")
    either = f"{before} || {path}"
    if before and before != path and not found_in(before, receipt) and _is_allowed(either):
        made[field] = either  # what was said before is of other requests: both count
    found = found_in(path, receipt)
    texts = [one.strip() for one in (found if isinstance(found, list) else [found]) if isinstance(one, str)]
    text = texts[0][:_LOOKED_AT] if texts else ""
    match field:
        case "map_paid":
            made = {name: value for name, value in made.items() if name != "units"}
            if re.fullmatch(r"-?[0-9. ]*,[0-9]{1,3}", text):
                made["decimal_sign"] = DecimalSign.comma.value
            elif re.fullmatch(r"-?[0-9, ]*\.[0-9]{1,3}", text):
                made["decimal_sign"] = DecimalSign.dot.value
            asked = _in_doubt(made, text)
            if _SIGN in asked:
                del made["decimal_sign"]
            if _UNITS not in asked:
                made["units"] = Units.major.value
        case "map_closed_at" if text:
            made |= _dates_of(text)
        case "map_status" if text:
            known = [one.strip() for one in made.get("closed_statuses", "").split(",") if one.strip()]
            made["closed_statuses"] = ", ".join(dict.fromkeys([*known, text]))  # what is shown to us was paid
    return made


def _within(values: Values, path: str) -> dict[str, str]:
    """Answers that were given before the list was named, as paths within one of its receipts."""
    made = dict(values)
    for name, value in values.items():
        for start in (f"{path}[0].", f"{path}[]."):
            if name.startswith("map_") and value.startswith(start):
                made[name] = value.removeprefix(start)
    return made


def _dates_of(text: str) -> dict[str, str]:
    """How a time is written: of all ways that fit, the one that makes it nearest to now."""
    if re.fullmatch(r"[0-9]{9,10}", text):
        return {"dates": Dates.unix.value}
    if re.fullmatch(r"[0-9]{12,13}", text):
        return {"dates": Dates.unix_ms.value}
    try:
        datetime.fromisoformat(text)
    except ValueError:
        pass
    else:
        return {"dates": Dates.iso.value}
    now, fitting = datetime.now(), []
    for pattern in _PATTERNS:
        try:
            at = datetime.strptime(text, pattern)
        except ValueError:
            continue
        fitting.append((abs(at.replace(tzinfo=None) - now), pattern))
    return {"dates": Dates.pattern.value, "date_pattern": min(fitting)[1]} if fitting else {"dates": Dates.iso.value}


# --- what they make of it -------------------------------------------------------------------------------------------


def sketch(values: Values, body: bytes) -> Sketch:
    """The sales of a request by settings that may lack anything, and what is wrong or missing, by setting."""
    settings, budget = _lenient(values), Budget(WebhookApp().path_budget)
    wrong = _missing(settings)
    try:
        receipts = receipts_in(body, settings, budget)
    except BadPayload as error:
        return Sketch(wrong={**wrong, f"map_{error.where}" if error.where == "receipts" else "": error.said})
    if not receipts:
        return Sketch(wrong={**wrong, "map_receipts": Message("the list is empty here")})
    found, bad = examined(receipts[0], settings)
    wrong |= {f"map_{name}": error.said for name, error in bad.items()}
    if _is_one_of_several(settings.map_receipt_id, receipts[0]):
        wrong["map_receipts"] = Message("say which list the receipts are: only the first of them would be read")
    read = {f"map_{name}": text for name, text in found.items()}
    for name, words in (("units", UNIT_WORDS), ("decimal_sign", SIGN_WORDS)):
        if name in values:
            read[name] = words.get(values[name], "")
    sales, others = [], dict[str, Message]()
    whole = not _missing(settings) and "map_receipts" not in wrong
    for one in receipts if whole else ():
        try:
            sales.append(sale_of(one, settings, budget))
        except BadPayload as error:
            others.setdefault(f"map_{error.where.partition('.')[0]}", error.said)
    return Sketch(tuple(sales), read, {**others, **wrong})


def _is_one_of_several(path: str, receipt: Any) -> bool:
    """Whether a receipt's number is counted off in a list whose entries are receipts themselves."""
    counted = re.match(r"(.+?)\[\d+\]", path)
    if counted is None:
        return False
    several = found_in(counted[1], receipt)
    return isinstance(several, list) and bool(several) and all(_is_like_a_receipt(one) for one in several)


def _missing(settings: WebhookSettings) -> dict[str, Message]:
    wrong = {
        f"map_{field}": Message("nothing says yet where it is")
        for field in ("receipt_id", "paid", "closed_at")
        if not getattr(settings, f"map_{field}")
    }
    if not (settings.map_phone or settings.map_email or settings.map_number):
        wrong["map_phone"] = Message("say where the customer's phone, email or number is: stamps need somebody")
    return wrong


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
        except ValueError:
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
    """What stands against a request's proof by these settings, its age aside; `None` for one that was pasted."""
    settings = _lenient(values)
    secret, headers = values.get("secret", ""), request.headers
    if not headers or settings.proof is Proof.address:
        return None
    wanted = {Proof.standard: "webhook-signature", Proof.basic: "authorization"}.get(
        settings.proof, settings.proof_header.lower()
    )
    if wanted and not headers.get(wanted):
        text = "the request that you chose has no header {header}: choose another proof, or let your till send it"
        return Message(text, {"header": wanted})
    try:
        match settings.proof:
            case Proof.standard:
                at = datetime.fromtimestamp(int(headers.get("webhook-timestamp", "")), UTC)
                signed = StandardWebhooks(secret).sign(request.body, headers.get("webhook-id", ""), at)
                good = any(equal(signed["webhook-signature"], one) for one in headers["webhook-signature"].split())
                return None if good else _OTHER_SECRET
            case Proof.hmac | Proof.header | Proof.basic:
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
    named=lambda where: f"map_{where.partition('.')[0]}",
)
