"""The rows of a rule's form for days and hours with more stamps: a multiplier each, read and shown again.

Owns the fields of a row and their checks; when a window applies is `connectors.domain.rule_windows`'.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, time

from pydantic import ValidationError

from connector_sdk.connector import TillAccount
from connector_sdk.messages import Message
from connector_sdk.rule import Multiplier
from connectors.web.console.posted_form import PostedForm

TIMES = range(2, 11)
_USUAL_TIMES = "2"
_BLANK_ROWS = 2
MOST_ROWS = 20
"""Rows that a form has; a rule that a command made may have more windows."""
_DAYS = {str(day): day for day in range(7)}


@dataclass(frozen=True, slots=True)
class WindowRow:
    """A row of the form as it was filled in; of every day it needs a last day, and with nothing it is no window."""

    number: int
    times: str
    days: Sequence[str]
    start: str
    end: str
    first_day: str
    last_day: str
    locations: Sequence[str]
    removed: bool = False
    """Whether the window of the rule in force that the row shows is to be taken away."""

    @property
    def is_used(self) -> bool:
        """Whether anything is chosen."""
        chosen = (self.days, self.start, self.end, self.first_day, self.last_day, self.locations)
        return not self.removed and (any(chosen) or self.times != _USUAL_TIMES)


def window_values(windows: Sequence[Multiplier]) -> dict[str, list[str]]:
    """Return windows as the form's values, with rows to fill in after them."""
    # two where there is none yet: the second is for who begins with two
    values = {"windows": [str(len(windows) + 1 if windows else _BLANK_ROWS)]}
    for number, window in enumerate(windows):
        values |= {
            f"times_{number}": [str(window.times)],
            f"days_{number}": [str(day) for day in sorted(window.days)],
            f"start_{number}": [_time_text(window.start)],
            f"end_{number}": [_time_text(window.end)],
            f"first_day_{number}": [window.first_day.isoformat() if window.first_day else ""],
            f"last_day_{number}": [window.last_day.isoformat() if window.last_day else ""],
            f"locations_{number}": sorted(window.locations),
        }
    return values


def _time_text(moment: time) -> str:
    # midnight is the least that a window can begin or end at, and an empty field means the same
    return moment.strftime("%H:%M") if moment != time(0) else ""


def window_rows(form: PostedForm) -> list[WindowRow]:
    """Return the rows of a form, within a bound: as many as it says it has, or a few to fill in."""
    count = form.get("windows")
    rows = int(count) if count.isascii() and count.isdigit() and len(count) < 4 else _BLANK_ROWS
    return [_row(form, number) for number in range(min(rows, MOST_ROWS))]


def _row(form: PostedForm, number: int) -> WindowRow:
    return WindowRow(
        number,
        form.get(f"times_{number}", _USUAL_TIMES),
        form.all(f"days_{number}"),
        form.get(f"start_{number}").strip(),
        form.get(f"end_{number}").strip(),
        form.get(f"first_day_{number}").strip(),
        form.get(f"last_day_{number}").strip(),
        form.all(f"locations_{number}"),
        bool(form.get(f"removed_{number}")),
    )


@dataclass(slots=True)
class WindowReader:
    """Reads the rows of a form one by one, and gathers what is wrong by the names of their fields."""

    form: PostedForm
    account: TillAccount
    current: Sequence[Multiplier]
    """The windows in force: those for which the form has no row stay."""
    errors: dict[str, Message] = field(default_factory=dict)

    def read(self) -> tuple[Multiplier, ...]:
        """Return the windows of the rows in which something is chosen; none of a row with an error."""
        rows = [row for row in window_rows(self.form) if row.is_used]
        windows = tuple(window for row in rows if (window := self._window(row)) is not None)
        return windows + tuple(self.current[MOST_ROWS:])

    def _window(self, row: WindowRow) -> Multiplier | None:
        before = len(self.errors)
        if not row.days and not row.last_day:
            # a slip would have every receipt earn more, until somebody sees it
            self.errors[f"days_{row.number}"] = Message(
                "choose days of the week, all seven for every day, or a last day: without both it would never end"
            )
        values: dict[str, object] = {
            "times": self._times(row),
            "days": frozenset(_DAYS[day] for day in row.days or _DAYS if day in _DAYS),
            "start": self._time(f"start_{row.number}", row.start),
            "end": self._time(f"end_{row.number}", row.end),
            "first_day": self._date(f"first_day_{row.number}", row.first_day),
            "last_day": self._date(f"last_day_{row.number}", row.last_day),
            "locations": self._locations(row),
        }
        if len(self.errors) > before:
            return None
        try:
            return Multiplier.model_validate(values)
        except ValidationError:
            # each value is right by itself: only their order can be wrong
            self.errors[f"last_day_{row.number}"] = Message("choose the first day or a later one")
            return None

    def _times(self, row: WindowRow) -> int:
        if row.times in {str(times) for times in TIMES}:
            return int(row.times)
        self.errors[f"times_{row.number}"] = Message("choose how many times as many stamps")
        return TIMES.start

    def _locations(self, row: WindowRow) -> frozenset[str]:
        """Return the chosen locations: of the till, or of the rule in force though the till has them no more."""
        known = {location.id for location in self.account.locations}
        known.update(*(window.locations for window in self.current))
        locations = known.intersection(row.locations)
        if row.locations and not locations:
            # without any the window would be for all of them
            self.errors[f"locations_{row.number}"] = Message("choose a location that the till has")
        return frozenset(locations)

    def _time(self, name: str, text: str) -> time:
        try:
            # 8:00 is 08:00; seconds and zones are no time of the day here
            typed = time.fromisoformat(text.zfill(5)) if text else time(0)
            return typed.replace(second=0, microsecond=0, tzinfo=None)
        except ValueError:
            self.errors[name] = Message("write a time as 14:00")
            return time(0)

    def _date(self, name: str, text: str) -> date | None:
        try:
            return date.fromisoformat(text) if text else None
        except ValueError:
            self.errors[name] = Message("write a day as 2026-12-24")
            return None
