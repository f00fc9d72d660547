"""The spelling of a multiplier's window in commands."""

from __future__ import annotations

from datetime import date, time

import pytest

from connector_sdk.connector import Location, TillAccount
from connector_sdk.rule import Multiplier, StampRule
from connectors.cli.rules import RuleOptions
from connectors.services import Refusal

ACCOUNT = TillAccount(
    id="1", name="Cafe", currency="EUR", zone="Europe/Rome", locations=(Location(id="1", name="Bar"),)
)


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("2", Multiplier(times=2)),
        ("3x Sat,sun 8:00-11:00", Multiplier(times=3, days=frozenset({5, 6}), start=time(8), end=time(11))),
        ("2 from 2026-12-01", Multiplier(times=2, first_day=date(2026, 12, 1))),
        ("2 until 2026-12-24 at 1", Multiplier(times=2, last_day=date(2026, 12, 24), locations=frozenset({"1"}))),
    ],
)
def test_a_window_is_read(text: str, window: Multiplier) -> None:
    assert RuleOptions(multiply=(text,)).change(ACCOUNT, StampRule()).multipliers == (window,)


def test_none_takes_windows_back() -> None:
    doubled = StampRule(multipliers=(Multiplier(times=2),))
    assert RuleOptions(multiply=("none",)).change(ACCOUNT, doubled).multipliers == ()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("double tue", "write a multiplier as '2 sat,sun"),
        ("2 tuesday", "days are mon, tue"),
        ("2 tue 25:00-26:00", "times 00:00 to 23:59"),
        ("2 until 2026-13-01", "dates 2026-12-24"),
        ("2 at 1,Garden", r"no location Garden; it has 1 \(Bar\)"),
        ("99", "times"),
        ("2 from 2026-12-24 until 2026-12-01", "last_day"),
    ],
)
def test_what_is_wrong_with_a_window_is_said(text: str, reason: str) -> None:
    with pytest.raises(Refusal, match=reason):
        RuleOptions(multiply=(text,)).change(ACCOUNT, StampRule())
