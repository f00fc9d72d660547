"""Run the behaviours over a stub, one after the other, each on a fresh till, and report their outcomes.

Owns outcomes and how they reach pytest; printing them is left to the command line.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, TypedDict

from pydantic import BaseModel

from connector_sdk.connector import Connector
from connector_sdk.errors import ConnectorError
from connector_sdk.rate_limit import unpaced
from connector_sdk.testing.behaviour_trial import Behaviour, Broken, Level, NotAsked, Trial
from connector_sdk.testing.behaviours import BEHAVIOURS
from connector_sdk.testing.recording import load_recordings
from connector_sdk.testing.stub import CannotShow, TillStub

SUITE = 3
"""The suite's version: raised whenever it demands something new."""
_DEADLINE_SECONDS = (
    60.0  # of one behaviour: the slowest take a few seconds, and a read that never ends must be reported
)


class Outcome(StrEnum):
    """How a behaviour ended."""

    # the connector behaves as demanded
    passed = "passed"
    # it does not, or raised, or did not end in time
    failed = "failed"
    # the connector claims the ability, and the stub cannot show it: that counts as missing
    not_shown = "not shown"
    # the connector does not claim the ability, or the stub says in `till_has_no` that the till has none
    not_asked = "not asked"


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one behaviour; `why` is empty where it passed."""

    behaviour: Behaviour
    outcome: Outcome
    why: str = ""


@dataclass(frozen=True, slots=True)
class Replayed:
    """One recording of a real account, read anew: how many receipts, and how they differ from then (empty: not)."""

    name: str
    made: str
    receipts: int
    difference: str


class LevelSummary(TypedDict):
    """How many behaviours of a level were shown, of how many that were asked for."""

    shown: int
    asked: int


class Summary(TypedDict):
    """The summary of a report, as `conformance.json` holds it."""

    suite: int
    conforms: bool
    required: LevelSummary
    recommended: LevelSummary
    recordings: int


@dataclass(frozen=True, slots=True)
class Report:
    """The results of one connector."""

    connector: str
    results: tuple[Result, ...]
    replayed: tuple[Replayed, ...] = ()

    def count(self, outcome: Outcome, level: Level | None = None) -> int:
        """Count the results with an outcome, of one level or of all."""
        return Counter(result.outcome for result in self.results if level in (None, result.behaviour.level))[outcome]

    def summary(self) -> Summary:
        """Summarise the report: a package may ship this as `conformance.json`, and the catalogue shows it."""
        return {
            "suite": SUITE,
            "conforms": self.conforms,
            "required": self._level_summary(Level.required),
            "recommended": self._level_summary(Level.recommended),
            "recordings": sum(not replay.difference for replay in self.replayed),
        }

    def _level_summary(self, level: Level) -> LevelSummary:
        asked = sum(self.count(outcome, level) for outcome in Outcome if outcome is not Outcome.not_asked)
        return {"shown": self.count(Outcome.passed, level), "asked": asked}

    @property
    def conforms(self) -> bool:
        """Whether every required behaviour was shown, as far as it is claimed, and recordings read as they did."""
        missing = any(self.count(outcome, Level.required) for outcome in (Outcome.failed, Outcome.not_shown))
        return not missing and not any(replay.difference for replay in self.replayed)


async def examine(stub: Callable[[], TillStub], behaviours: Iterable[Behaviour] | None = None) -> Report:
    """Run behaviours (all, by default) on a fresh stub each, for at most a minute each, and replay the recordings."""
    results = [await judge(stub(), behaviour) for behaviour in (BEHAVIOURS if behaviours is None else behaviours)]
    connector_class = stub().connector
    return Report(connector_class.info.name, tuple(results), await replay_recordings(connector_class))


async def replay_recordings(connector_class: type[Connector[BaseModel]]) -> tuple[Replayed, ...]:
    """Read the recordings that a connector's package ships with the connector as it is now."""
    replays: list[Replayed] = []
    for name, recording in load_recordings(connector_class):
        if isinstance(recording, str):  # why the file cannot be read
            replays.append(Replayed(name, "", 0, recording))
        else:
            difference = await recording.difference(connector_class)
            replays.append(Replayed(name, recording.made, len(recording.sales), difference))
    return tuple(replays)


ALWAYS_ASKED = frozenset(
    {
        "account",
        "every_page",
        "no_page_twice",
        "checkpoint",
        "failures",
        "reading_again",
        "exact_money",
        "same_by_every_way",
        "forged_hook",
        "unsigned_hook",
        "kept_hook",
        "odd_hook",
        "unset_secret",
        "no_secret_told",
    }
)
"""Behaviours that no till can make impossible: no stub is excused from them."""


def vain_excuses(stub: type[TillStub]) -> list[str]:
    """Return the names in a stub's `till_has_no` from which no till is excused."""
    return sorted(ALWAYS_ASKED & set(stub.till_has_no))


def unknown_excuses(stub: type[TillStub]) -> list[str]:
    """Return the names in a stub's `till_has_no` that are no behaviour of the suite: most likely slips."""
    known = {behaviour.name for behaviour in BEHAVIOURS}
    return [name for name in stub.till_has_no if name not in known]


async def judge(stub: TillStub, behaviour: Behaviour) -> Result:
    """Run one behaviour over one stub, within a minute; no error escapes it."""
    if behaviour.name in stub.till_has_no and behaviour.name not in ALWAYS_ASKED:
        return Result(behaviour, Outcome.not_asked, stub.till_has_no[behaviour.name])
    trial = Trial(stub)
    try:
        # a stand-in needs no protection: the till's pace would only make the suite slow. Retries go on.
        with unpaced():
            async with asyncio.timeout(_DEADLINE_SECONDS):
                await behaviour.run(trial)
    except Exception as error:  # noqa: BLE001 - a connector may raise anything: it is what is reported
        return _result_of_error(behaviour, error)
    finally:
        await trial.aclose()
    return Result(behaviour, Outcome.passed)


def _result_of_error(behaviour: Behaviour, error: Exception) -> Result:
    """Turn the error that ended a behaviour into its outcome."""
    match error:
        case Broken():
            return Result(behaviour, Outcome.failed, str(error))
        case CannotShow():
            return Result(behaviour, Outcome.not_shown, str(error))
        case NotAsked():
            return Result(behaviour, Outcome.not_asked, f"the connector has no {error}")
        case TimeoutError():
            return Result(behaviour, Outcome.failed, f"it did not end within {_DEADLINE_SECONDS:g} seconds")
        case ConnectorError():
            return Result(behaviour, Outcome.failed, f"the connector raises {type(error).__name__}: {error}")
    return Result(behaviour, Outcome.failed, f"{type(error).__name__}: {error}")


class Conformance:
    """The suite as a pytest class: `class TestMyTill(Conformance): stub = MyTillStub`.

    It has a test for each behaviour, which is skipped where the behaviour is not shown or not asked.
    """

    stub: ClassVar[Callable[[], TillStub]]

    # pytest is imported where it is needed: the command line runs the suite where it is not installed

    def test_excuses(self) -> None:
        """Every excuse in `till_has_no` names a behaviour, and one that a till may lack."""
        import pytest

        stub = type(type(self).stub())
        if unknown := unknown_excuses(stub):
            pytest.fail(f"till_has_no names no behaviour: {', '.join(unknown)}", pytrace=False)
        if vain := vain_excuses(stub):
            pytest.fail(f"till_has_no names what every till has: {', '.join(vain)}", pytrace=False)

    def test_recordings(self) -> None:
        """Every recording of a real account reads as it did when it was recorded."""
        import pytest

        replays = asyncio.run(replay_recordings(type(self).stub().connector))
        if not replays:
            pytest.skip("nothing is recorded of a real account: connectors try … --record")
        differences = [f"{replay.name}: {replay.difference}" for replay in replays if replay.difference]
        if differences:
            pytest.fail("\n".join(differences), pytrace=False)

    def _test_behaviour(self, behaviour: Behaviour) -> None:
        import pytest

        result = asyncio.run(judge(type(self).stub(), behaviour))
        if result.outcome in (Outcome.not_shown, Outcome.not_asked):
            pytest.skip(f"{result.outcome}: {result.why}")
        if result.outcome is Outcome.failed:
            text = f"{behaviour.title}: {result.why}\n  guards against {behaviour.guards}\n  mend it: {behaviour.fix}"
            pytest.fail(text, pytrace=False)


def _test_of(behaviour: Behaviour) -> Callable[[Conformance], None]:
    """Make the test method of one behaviour."""

    def test(self: Conformance) -> None:
        self._test_behaviour(behaviour)

    test.__name__, test.__doc__ = f"test_{behaviour.name}", f"{behaviour.title} ({behaviour.level})."
    return test


# methods, not a parametrized test: authors select, skip and mark each behaviour by its name, without our ids
for _behaviour in BEHAVIOURS:
    setattr(Conformance, f"test_{_behaviour.name}", _test_of(_behaviour))
