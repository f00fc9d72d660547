"""Running the behaviours over a stub: one after the other, each on a fresh till, and what came of it.

Owns outcomes and how they reach pytest; printing them is the command line's.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar

from connector_sdk.connector import Connector
from connector_sdk.errors import ConnectorError
from connector_sdk.testing.behaviours import BEHAVIOURS
from connector_sdk.testing.recording import recordings_of
from connector_sdk.testing.stub import CannotShow, TillStub
from connector_sdk.testing.trial import Behaviour, Broken, Level, NotAsked, Trial

SUITE = 2
"""Raised whenever the suite demands something new."""
_PATIENCE = 60.0


class Outcome(StrEnum):
    """`not shown`: the stub cannot show what the connector claims; `not asked`: connector or till have it not."""

    passed = "passed"
    failed = "failed"
    not_shown = "not shown"
    not_asked = "not asked"


@dataclass(frozen=True, slots=True)
class Result:
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


@dataclass(frozen=True, slots=True)
class Report:
    """The results of one connector."""

    connector: str
    results: tuple[Result, ...]
    replayed: tuple[Replayed, ...] = ()

    def count(self, outcome: Outcome, level: Level | None = None) -> int:
        return Counter(one.outcome for one in self.results if level in (None, one.behaviour.level))[outcome]

    def summary(self) -> dict[str, Any]:
        """What a package may ship as `conformance.json` (under its connector's name), and the catalogue shows."""
        shown = {level: self.count(Outcome.passed, level) for level in Level}
        asked = {
            level: sum(self.count(one, level) for one in Outcome if one is not Outcome.not_asked) for level in Level
        }
        return {
            "suite": SUITE,
            "conforms": self.conforms,
            **{level.value: {"shown": shown[level], "asked": asked[level]} for level in Level},
            "recordings": sum(not one.difference for one in self.replayed),
        }

    @property
    def conforms(self) -> bool:
        """Whether everything required was shown, as far as it is claimed, and recordings are read as they were."""
        bad = (Outcome.failed, Outcome.not_shown)
        missing = any(one.outcome in bad and one.behaviour.level is Level.required for one in self.results)
        return not missing and not any(one.difference for one in self.replayed)


async def examine(stub: Callable[[], TillStub], behaviours: Iterable[Behaviour] | None = None) -> Report:
    """Run behaviours (all, by default), a fresh stub each; at most a minute each."""
    results = [await judged(stub(), one) for one in (BEHAVIOURS if behaviours is None else behaviours)]
    found = stub().connector
    return Report(found.info.name, tuple(results), await replayed(found))


async def replayed(found: type[Connector[Any]]) -> tuple[Replayed, ...]:
    """What a connector's package has recorded of real accounts, read with the connector as it is now."""
    made: list[Replayed] = []
    for name, one in recordings_of(found):
        if isinstance(one, str):
            made.append(Replayed(name, "", 0, one))
        else:
            made.append(Replayed(name, one.made, len(one.sales), await one.difference(found)))
    return tuple(made)


def unknown_excuses(stub: type[TillStub]) -> list[str]:
    """What a stub's `till_has_no` names and the suite does not know: most likely a slip."""
    known = {one.name for one in BEHAVIOURS}
    return [name for name in stub.till_has_no if name not in known]


async def judged(stub: TillStub, behaviour: Behaviour) -> Result:
    """One behaviour over one stub."""
    if behaviour.name in stub.till_has_no:
        return Result(behaviour, Outcome.not_asked, stub.till_has_no[behaviour.name])
    trial = Trial(stub)
    try:
        async with asyncio.timeout(_PATIENCE):
            await behaviour.run(trial)
    except Broken as error:
        return Result(behaviour, Outcome.failed, str(error))
    except CannotShow as error:
        return Result(behaviour, Outcome.not_shown, str(error))
    except NotAsked as error:
        return Result(behaviour, Outcome.not_asked, f"the connector has no {error}")
    except TimeoutError:
        return Result(behaviour, Outcome.failed, f"it did not end within {_PATIENCE:g} seconds")
    except ConnectorError as error:
        return Result(behaviour, Outcome.failed, f"the connector raises {type(error).__name__}: {error}")
    except Exception as error:  # noqa: BLE001 - a connector may raise anything; that is what is reported
        return Result(behaviour, Outcome.failed, f"{type(error).__name__}: {error}")
    finally:
        await trial.aclose()
    return Result(behaviour, Outcome.passed)


class Conformance:
    """The suite as a pytest class: `class TestMyTill(Conformance): stub = MyTillStub`."""

    stub: ClassVar[Callable[[], TillStub]]

    def test_excuses(self) -> None:
        """What `till_has_no` excuses is asked for by somebody."""
        import pytest

        found = unknown_excuses(type(type(self).stub()))
        if found:
            pytest.fail(f"till_has_no names no behaviour: {', '.join(found)}", pytrace=False)

    def _behaves(self, behaviour: Behaviour) -> None:
        import pytest

        result = asyncio.run(judged(type(self).stub(), behaviour))
        if result.outcome in (Outcome.not_shown, Outcome.not_asked):
            pytest.skip(f"{result.outcome}: {result.why}")
        if result.outcome is Outcome.failed:
            said = f"{behaviour.title}: {result.why}\n  guards against {behaviour.guards}\n  mend it: {behaviour.fix}"
            pytest.fail(said, pytrace=False)

    def test_recordings(self) -> None:
        """What a real account answered is read as it was when it was recorded."""
        import pytest

        found = asyncio.run(replayed(type(self).stub().connector))
        if not found:
            pytest.skip("nothing is recorded of a real account: connectors try … --record")
        wrong = [f"{one.name}: {one.difference}" for one in found if one.difference]
        if wrong:
            pytest.fail("\n".join(wrong), pytrace=False)


def _test(behaviour: Behaviour) -> Callable[[Any], None]:
    def test(self: Conformance) -> None:
        self._behaves(behaviour)

    test.__name__, test.__doc__ = f"test_{behaviour.name}", f"{behaviour.title} ({behaviour.level})."
    return test


for _one in BEHAVIOURS:
    setattr(Conformance, f"test_{_one.name}", _test(_one))
