"""`connectors check`: the conformance suite over a connector's stub, and its recordings of a real account.

Owns which behaviours are asked for, keeping the result beside the package's code, and how a report is shown; what is
demanded is `connector_sdk.testing`'s.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn

from connector_sdk.testing import BEHAVIOURS, Behaviour, Level, Outcome, Report, Result, TillStub
from connector_sdk.testing.recording import FOLDER, Recording, load_recordings
from connector_sdk.testing.suite import Replayed, judge, replay_recordings, unknown_excuses, vain_excuses
from connectors.cli.options import AsJson
from connectors.cli.output import console, escape, fail, run, say, show_json, show_table
from connectors.cli.targets import connector_at, stub_of
from connectors.plugins import CONFORMANCE, ConnectorClass
from connectors.services import Refusal, nearest

_BY_NAME = {behaviour.name: behaviour for behaviour in BEHAVIOURS}
_MARKS = {
    Outcome.passed: "[green]✓[/green]",
    Outcome.failed: "[red]✗[/red]",
    Outcome.not_shown: "[yellow]?[/yellow]",
    Outcome.not_asked: "[dim]–[/dim]",
}


def check(
    target: Annotated[str, typer.Argument(help="A connector's name, its package, or the folder it is in.")] = "",
    only: Annotated[list[str] | None, typer.Option("--only", help="Only this behaviour; may be given often.")] = None,
    write: Annotated[
        bool, typer.Option("--write", help=f"Keep the result in the package, as {CONFORMANCE}: the catalogue shows it.")
    ] = False,
    list_: Annotated[bool, typer.Option("--list", help="Only name the behaviours.")] = False,
    accept: Annotated[
        bool, typer.Option("--accept-recordings", help="What the recordings say now is right from now on.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run the conformance suite over a connector's stub; ends with 1 where something required is missing."""
    if list_:
        _list_behaviours(as_json)
        return
    if not target:
        fail("name what is to be checked: a connector, its package, or the folder it is in")
    request = _Request(target, only or (), write, accept)
    _show_outcome(run(partial(_check, request)), as_json)


@dataclass(frozen=True, slots=True)
class _Request:
    """What is checked, and what of the outcome is kept, as it was typed."""

    target: str
    only: Sequence[str]
    write: bool
    accept: bool


async def _check(request: _Request) -> Report:
    """Check a connector, and keep what is to be kept. Raises `Refusal` before any behaviour is judged."""
    connector_class = connector_at(request.target)
    stub = stub_of(connector_class)
    _require_known_excuses(stub)
    behaviours = _behaviours(request.only)
    # a part of the suite would overwrite the result of the whole, and the catalogue shows it as one
    if request.write and request.only:
        raise Refusal("a result is kept of the whole suite only: leave out --only")
    # accepted before they are replayed, so that the report shows them as they are from now on
    if request.accept:
        await _accept_recordings(connector_class)
    report = await _examine(connector_class, stub, behaviours)
    if request.write:
        _keep(connector_class, report)
    return report


def _show_outcome(report: Report, as_json: bool) -> None:
    """Show a report, and end with 1 where a connector does not conform: a build that runs this is to fail by it."""
    if as_json:
        show_json(_as_json(report))
    else:
        _show(report)
    if not report.conforms:
        raise typer.Exit(1)


def _list_behaviours(as_json: bool) -> None:
    rows = [_behaviour_row(behaviour) for behaviour in BEHAVIOURS]
    if as_json:
        show_json(rows)
    else:
        show_table(["behaviour", "level", "promise"], [list(row.values()) for row in rows], "")


def _behaviour_row(behaviour: Behaviour) -> dict[str, str]:
    return {"behaviour": behaviour.name, "level": behaviour.level.value, "title": behaviour.title}


def _require_known_excuses(stub: type[TillStub]) -> None:
    """Raise `Refusal` where a stub excuses its till from what is no behaviour: a typing error would hide a failure."""
    for name in unknown_excuses(stub):
        raise Refusal(f"the stub's till_has_no names {name!r}, which is no behaviour; nearest: {_nearest(name)}")
    for name in vain_excuses(stub):
        raise Refusal(f"the stub's till_has_no names {name!r}, from which no till is excused: take it out")


def _behaviours(names: Sequence[str]) -> Sequence[Behaviour]:
    """Return the behaviours of these names, or all of them. Raises `Refusal` for a name that is none."""
    for name in names:
        if name not in _BY_NAME:
            raise Refusal(
                f"there is no behaviour {name!r}; nearest: {_nearest(name)}; `connectors check --list` has them all"
            )
    return [_BY_NAME[name] for name in names] if names else BEHAVIOURS


def _nearest(name: str) -> str:
    return ", ".join(nearest(name, _BY_NAME)[:3])


async def _examine(connector_class: ConnectorClass, stub: type[TillStub], behaviours: Sequence[Behaviour]) -> Report:
    """Judge each behaviour at a fresh stub, with a bar on a terminal, and replay the recordings."""
    results: list[Result] = []
    with _bar() as bar:
        task = bar.add_task("check", total=len(behaviours))
        for behaviour in behaviours:
            bar.update(task, description=behaviour.title)
            # a stub of its own: what one behaviour sold or spoiled must not decide the next one
            results.append(await judge(stub(), behaviour))
            bar.advance(task)
    return Report(connector_class.info.name, tuple(results), await replay_recordings(connector_class))


def _bar() -> Progress:
    # not `progress.counted_bar`: the text that changes, the behaviour, stands before the bar here
    columns = (TextColumn("{task.description}"), BarColumn())
    return Progress(*columns, console=console, disable=not sys.stdout.isatty(), transient=True)


# --- files beside the package's code --------------------------------------------------------------------------------


def _beside(connector_class: ConnectorClass, name: str) -> Path:
    package = importlib.import_module(connector_class.__module__.partition(".")[0])
    return Path(str(package.__file__)).with_name(name)


async def _accept_recordings(connector_class: ConnectorClass) -> None:
    """Write into every recording what is read from it now. Raises `Refusal`."""
    for name, recording in load_recordings(connector_class):
        if isinstance(recording, str):  # the reason why the file is no recording
            raise Refusal(f"{FOLDER}/{name}: {recording}")
        reading = await recording.read(connector_class)
        sales = tuple(sale.model_dump(mode="json") for sale in reading.sales)
        _write_recording(_beside(connector_class, FOLDER) / name, replace(recording, sales=sales))


def _write_recording(file: Path, recording: Recording) -> None:
    try:
        file.write_text(recording.to_text(), encoding="utf-8")
    except OSError as error:
        raise Refusal(f"{FOLDER}/{file.name} cannot be written: {error.strerror}") from None


def _keep(connector_class: ConnectorClass, report: Report) -> None:
    """Write the result beside the package's code, where those of its other connectors stay. Raises `Refusal`."""
    file = _beside(connector_class, CONFORMANCE)
    try:
        results = json.loads(file.read_text()) if file.is_file() else {}
        results = {**results, report.connector: report.summary()}
        # sorted, so that checking again without a change leaves no difference to commit
        file.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n")
    except (OSError, ValueError) as error:
        raise Refusal(f"{CONFORMANCE} cannot be written: {error}") from None


# --- showing --------------------------------------------------------------------------------------------------------


def _as_json(report: Report) -> dict[str, object]:
    behaviours = [_result_as_json(result) for result in report.results]
    recorded = [_replay_as_json(replay) for replay in report.replayed]
    return {"connector": report.connector, **report.summary(), "behaviours": behaviours, "recorded": recorded}


def _result_as_json(result: Result) -> dict[str, str]:
    return {
        "behaviour": result.behaviour.name,
        "level": result.behaviour.level.value,
        "outcome": result.outcome.value,
        "why": result.why,
        "guards_against": result.behaviour.guards,
        "fix": result.behaviour.fix,
    }


def _replay_as_json(replay: Replayed) -> dict[str, str | int | None]:
    difference = replay.difference or None
    return {"file": replay.name, "made": replay.made, "receipts": replay.receipts, "difference": difference}


def _show(report: Report) -> None:
    for result in report.results:
        _show_result(result)
    _show_recordings(report)
    say("")
    say(_counts_in_words(report))
    say(_verdict(report))


def _counts_in_words(report: Report) -> str:
    counts = {outcome: report.count(outcome) for outcome in Outcome}
    return (
        f"{report.connector}: {counts[Outcome.passed]} shown, {counts[Outcome.failed]} failed, "
        f"{counts[Outcome.not_shown]} not shown, {counts[Outcome.not_asked]} not asked."
    )


def _verdict(report: Report) -> str:
    if not report.conforms:
        return "It does not conform yet: see above."
    # after `--only`, nobody may read that the connector conforms
    if len(report.results) < len(BEHAVIOURS):
        return f"Only {len(report.results)} of {len(BEHAVIOURS)} behaviours were looked at."
    return "It conforms."


def _show_result(result: Result) -> None:
    """Print a behaviour with its mark, and below it what its author needs: why, against what, and how to mend it."""
    behaviour = result.behaviour
    level = "" if behaviour.level is Level.required else " [dim](recommended)[/dim]"
    _print(f"{_MARKS[result.outcome]} {escape(behaviour.title)}{level}")
    if result.outcome is not Outcome.passed:
        _print(f"    {result.outcome.value}: {escape(result.why)}")
    if result.outcome is Outcome.not_shown:
        _print(f"    [dim]({behaviour.name})[/dim]")
    if result.outcome is Outcome.failed:
        _print(f"    guards against {escape(behaviour.guards)}")
        _print(f"    mend it: {escape(behaviour.fix)} [dim]({behaviour.name})[/dim]")


def _show_recordings(report: Report) -> None:
    for replay in report.replayed:
        _show_replay(replay)
    if not report.replayed:
        console.print(
            "[yellow]?[/yellow] Nothing is recorded of a real account: a stub that its own author wrote proves only "
            "consistency. Record some: connectors try … --record",
            highlight=False,
            soft_wrap=True,
        )


def _show_replay(replay: Replayed) -> None:
    if replay.difference:
        _print(f"[red]✗[/red] {escape(replay.name)}: {escape(replay.difference)}")
        # only a person can say whether the mapping was mended or broken
        _print("    if it is right now: connectors check … --accept-recordings")
    else:
        say(f"✓ {replay.name}: {replay.receipts} receipts of a real account are read as they were then")


def _print(markup: str) -> None:
    """Print a line whose own marks are colours; whatever was not written here is escaped by the caller."""
    console.print(markup, highlight=False)
