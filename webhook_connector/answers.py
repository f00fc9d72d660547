"""What an answer to a question changes in the settings: the path, and the format that is seen from what stands there.

Owns how formats are recognised. Nothing here raises: settings and bodies may be anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

from connector_sdk.teaching import Values
from webhook_connector.places import first_receipt, follow, is_allowed, parse_request
from webhook_connector.questions import LOOKED_AT, SIGN, UNITS, ask_of_doubt, may_answer
from webhook_connector.settings import Dates, DecimalSign, Units

_COMMA = re.compile(r"-?[0-9. ]*,[0-9]{1,3}")
_DOT = re.compile(r"-?[0-9, ]*\.[0-9]{1,3}")
_SECONDS = re.compile(r"[0-9]{9,10}")
_MILLISECONDS = re.compile(r"[0-9]{12,13}")
_DAYS = ("%d.%m.%Y", "%d.%m.%y", "%d/%m/%Y", "%m/%d/%Y", "%d/%m/%y", "%d-%m-%Y", "%Y/%m/%d", "%Y.%m.%d", "%Y-%m-%d")
_CLOCKS = ("%H:%M:%S", "%H:%M", "%I:%M:%S %p", "%I:%M %p")
_PATTERNS = (
    *(f"{day}{between}{clock}" for day in _DAYS for between in (" ", ", ") for clock in _CLOCKS),
    "%Y%m%d%H%M%S",
    "%a, %d %b %Y %H:%M:%S %z",
)
"""Ways in which tills write times that are not ISO 8601."""


def add_answer(values: Values, body: bytes, field: str, path: str) -> dict[str, str]:
    """Return the settings with an answer, and with the format that what stands there is seen to have."""
    if field in ("units", "decimal_sign"):
        return {**values, field: path}
    if field == "map_receipts":
        return {**_begin_within(values, path), field: path}
    # with the new answer already in it: it may say which list the receipts are
    answered = {**values, field: path}
    receipt = first_receipt(answered, parse_request(body)).value
    if _is_of_other_requests(values.get(field, ""), path, receipt):
        answered[field] = f"{values[field]} || {path}"
    text = _first_text(follow(path, receipt))
    if not may_answer(field, text):
        return dict(values)
    see_format = _FORMATS.get(field)
    return see_format(answered, text) if see_format is not None else answered


def _is_of_other_requests(before: str, path: str, receipt: object) -> bool:
    """Say whether an earlier answer leads nowhere in this receipt: then it is about other requests, and both count.

    One that leads somewhere was a wrong tap, and is replaced.
    """
    if not before or before == path or follow(before, receipt):
        return False
    return is_allowed(f"{before} || {path}")


def _begin_within(values: Values, path: str) -> dict[str, str]:
    """Rewrite answers that were given before the list was named, as paths within one of its receipts."""
    rewritten = dict(values)
    for name, value in values.items():
        # the two ways in which a path goes into a list before anybody said that it is one of receipts
        for start in (f"{path}[0].", f"{path}[]."):
            if name.startswith("map_") and value.startswith(start):
                rewritten[name] = value.removeprefix(start)
    return rewritten


def _first_text(value: object) -> str:
    values = value if isinstance(value, list) else [value]
    return next((text.strip()[:LOOKED_AT] for text in values if isinstance(text, str)), "")


# --- formats --------------------------------------------------------------------------------------------------------


def _see_amount(values: Values, text: str) -> dict[str, str]:
    """Set the decimal sign and the units where the amount shows them; what is in doubt is left to a question."""
    # units that were told of another amount say nothing of this one
    seen = {name: value for name, value in values.items() if name != "units"}
    if _COMMA.fullmatch(text):
        seen["decimal_sign"] = DecimalSign.comma.value
    elif _DOT.fullmatch(text):
        seen["decimal_sign"] = DecimalSign.dot.value
    doubts = ask_of_doubt(text)
    # 1.250 fits a sign and may mean the other: a person says
    if SIGN in doubts:
        del seen["decimal_sign"]
    if UNITS not in doubts:
        seen["units"] = Units.major.value
    return seen


def _see_status(values: Values, text: str) -> dict[str, str]:
    """Add a status to those that mean closed: what is shown to us was paid."""
    if not text:
        return dict(values)
    known = [word.strip() for word in values.get("closed_statuses", "").split(",") if word.strip()]
    return {**values, "closed_statuses": ", ".join(dict.fromkeys([*known, text]))}


def _see_time(values: Values, text: str) -> dict[str, str]:
    return {**values, **_time_format(text)} if text else dict(values)


_FORMATS: Mapping[str, Callable[[Values, str], dict[str, str]]] = {
    "map_paid": _see_amount,
    "map_closed_at": _see_time,
    "map_status": _see_status,
}


def _time_format(text: str) -> dict[str, str]:
    """Return how a time is written, as settings: of all ways that fit, the one that makes it nearest to now."""
    if _SECONDS.fullmatch(text):
        return {"dates": Dates.unix.value}
    if _MILLISECONDS.fullmatch(text):
        return {"dates": Dates.unix_ms.value}
    if _is_iso(text):
        return {"dates": Dates.iso.value}
    # a sale that is shown to us was made lately: 05.06. is read as the fifth or the sixth, whichever is nearer
    now = datetime.now()
    distances = [(abs(at.replace(tzinfo=None) - now), pattern) for pattern, at in _fitting(text)]
    if not distances:
        return {"dates": Dates.iso.value}
    return {"dates": Dates.pattern.value, "date_pattern": min(distances)[1]}


def _is_iso(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _fitting(text: str) -> Iterator[tuple[str, datetime]]:
    """Yield each pattern that a text is written by, and the time that it says then."""
    for pattern in _PATTERNS:
        try:
            yield pattern, datetime.strptime(text, pattern)
        except ValueError:
            continue
