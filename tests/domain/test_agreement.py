"""Till, ledger and card compared: which differences there are, which are certain, and when the night comes."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from connector_sdk.messages import Message
from connectors.domain.agreement import (
    Absence,
    Days,
    Difference,
    DifferenceKind,
    Shown,
    absence,
    compare,
    days_since,
    last_days,
    next_night,
)
from connectors.domain.clock import DAY, HOUR, MINUTE, micros
from connectors.domain.operation import State

KYIV = "Europe/Kyiv"
NOON = micros(datetime(2026, 11, 23, 12, tzinfo=UTC))
AWAY = Shown(there=False)


@pytest.mark.parametrize("state", list(State))
def test_a_card_without_a_stamp_is_wrong_only_where_the_ledger_has_it_as_applied(state: State) -> None:
    found = {absent: compare(state, 2, AWAY, absent) for absent in Absence}
    if state is not State.applied:
        assert set(found.values()) == {None}
        return
    assert found == {
        Absence.nothing: None,
        Absence.proven: DifferenceKind.not_on_card,
        Absence.repeated: DifferenceKind.still_not_on_card,
        Absence.long_past: DifferenceKind.lost_long_ago,
    }


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("stamps", [2, -2, None])
def test_a_card_with_the_stamps_shows_what_the_ledger_may_not_know(state: State, stamps: int | None) -> None:
    expected = {State.applied: None, State.cancelled: DifferenceKind.cancelled}
    for absent in Absence:
        kind = compare(state, 2, Shown(there=True, stamps=stamps), absent)
        assert kind == expected.get(state, DifferenceKind.unrecorded)


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("stamps", [0, 1, 3, -1])
def test_another_number_of_stamps_is_another_number_in_every_state(state: State, stamps: int) -> None:
    assert compare(state, 2, Shown(there=True, stamps=stamps), Absence.proven) is DifferenceKind.other_count


def test_an_absence_proves_something_only_in_a_reading_that_began_late_enough() -> None:
    sent, horizon = 0, 20
    assert absence(sent, horizon, 20, sent_again=False) is Absence.nothing
    assert absence(sent, horizon, 20, sent_again=True) is Absence.nothing
    assert absence(sent, horizon, 21, sent_again=False) is Absence.proven
    assert absence(sent, horizon, 21, sent_again=True) is Absence.repeated


def test_after_a_week_nobody_knows_whether_a_cards_history_is_still_kept() -> None:
    assert absence(0, 20, 7 * DAY, sent_again=False) is Absence.proven
    assert absence(0, 20, 7 * DAY + 1, sent_again=False) is Absence.long_past
    assert absence(0, 20, 7 * DAY + 1, sent_again=True) is Absence.repeated


def test_only_what_is_certain_is_mended_by_itself() -> None:
    mended = {kind for kind in DifferenceKind if Difference(kind, "1", None, Message("x")).is_mended}
    assert mended == {DifferenceKind.changed_unseen, DifferenceKind.unrecorded, DifferenceKind.not_on_card}


def test_the_last_three_days_that_ended_are_those_of_the_venue() -> None:
    late = micros(datetime(2026, 11, 23, 22, 30, tzinfo=UTC))  # the 24th in Kyiv
    assert last_days(late, KYIV) == Days("2026-11-21", "2026-11-23")
    assert last_days(late, "UTC") == Days("2026-11-20", "2026-11-22")
    assert days_since(date(2026, 11, 20), late, KYIV) == Days("2026-11-20", "2026-11-24")


def test_days_are_whole_from_midnight_to_midnight_of_the_venue() -> None:
    days = Days("2026-03-28", "2026-03-30")  # clocks go forward in Kyiv on the 29th
    assert days.each() == ("2026-03-28", "2026-03-29", "2026-03-30")
    assert days.start(KYIV) == datetime(2026, 3, 27, 22, tzinfo=UTC)
    assert days.end(KYIV) == datetime(2026, 3, 30, 21, tzinfo=UTC)


def test_a_venues_night_is_its_own_and_spread_over_two_hours() -> None:
    at_four = micros(datetime(2026, 11, 24, 2, tzinfo=UTC))
    assert next_night(NOON, KYIV, 0) == at_four
    assert next_night(NOON, KYIV, 119) == at_four + 119 * MINUTE
    assert next_night(NOON, KYIV, 120) == at_four
    assert next_night(NOON, KYIV, 121) == at_four + MINUTE
    # it is never now, or it would come twice
    assert next_night(at_four, KYIV, 0) == at_four + DAY
    assert next_night(at_four - 1, KYIV, 0) == at_four
    assert next_night(at_four + HOUR, KYIV, 90) == at_four + 90 * MINUTE
