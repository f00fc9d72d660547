"""`connectors check`: the conformance suite over a connector's stub, and its recordings of a real account.

Owns which behaviours are asked for, keeping the result beside the package's code, and how a report is shown; what is
demanded is `connector_sdk.testing`'s.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn

from connector_sdk.testing import BEHAVIOURS, Behaviour, Level, Outcome, Report, Result, TillStub
from connector_sdk.testing.recording import FOLDER, load_recordings
from connector_sdk.testing.suite import judge, replay_recordings, unknown_excuses
from connectors.cli.options import AsJson
from connectors.cli.output import console, escape, fail, run, say, show_json, show_table
from connectors.cli.targets import ConnectorClass, connector_at, stub_of
from connectors.plugins import CONFORMANCE
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

    async def work() -> Report:
        connector_class = connector_at(target)
        stub = stub_of(connector_class)
        _require_known_excuses(stub)
        behaviours = _behaviours(only)
        if write and only:
            raise Refusal("a result is kept of the whole suite only: leave out --only")
        if accept:
            await _accept_recordings(connector_class)
        report = await _examine(connector_class, stub, behaviours)
        if write:
            _keep(connector_class, report)
        return report

    report = run(work)
    if as_json:
        show_json(_as_json(report))
    else:
        _show(report)
    if not report.conforms:
        raise typer.Exit(1)


def _list_behaviours(as_json: bool) -> None:
    rows = [
        {"behaviour": behaviour.name, "level": behaviour.level.value, "title": behaviour.title}
        for behaviour in BEHAVIOURS
    ]
    if as_json:
        show_json(rows)
    else:
        show_table(["behaviour", "level", "promise"], [list(row.values()) for row in rows], "")


def _require_known_excuses(stub: type[TillStub]) -> None:
    """Raise `Refusal` where a stub excuses its till from what is no behaviour: a typing error would hide a failure."""
    for name in unknown_excuses(stub):
        raise Refusal(f"the stub's till_has_no names {name!r}, which is no behaviour; nearest: {_nearest(name)}")


def _behaviours(names: Sequence[str] | None) -> Sequence[Behaviour]:
    """Return the behaviours of these names, or all of them. Raises `Refusal` for a name that is none."""
    for name in names or ():
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
    with Progress(
        TextColumn("{task.description}"), BarColumn(), console=console, disable=not sys.stdout.isatty(), transient=True
    ) as bar:
        task = bar.add_task("check", total=len(behaviours))
        for behaviour in behaviours:
            bar.update(task, description=behaviour.title)
            results.append(await judge(stub(), behaviour))
            bar.advance(task)
    return Report(connector_class.info.name, tuple(results), await replay_recordings(connector_class))


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
        try:
            file = _beside(connector_class, FOLDER) / name
            file.write_text(replace(recording, sales=sales).to_text(), encoding="utf-8")
        except OSError as error:
            raise Refusal(f"{FOLDER}/{name} cannot be written: {error.strerror}") from None


def _keep(connector_class: ConnectorClass, report: Report) -> None:
    """Write the result beside the package's code, where those of its other connectors stay. Raises `Refusal`."""
    file = _beside(connector_class, CONFORMANCE)
    try:
        results = json.loads(file.read_text()) if file.is_file() else {}
        results = {**results, report.connector: report.summary()}
        file.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n")
    except (OSError, ValueError) as error:
        raise Refusal(f"{CONFORMANCE} cannot be written: {error}") from None


# --- showing --------------------------------------------------------------------------------------------------------


def _as_json(report: Report) -> dict[str, object]:
    behaviours = [
        {
            "behaviour": result.behaviour.name,
            "level": result.behaviour.level.value,
            "outcome": result.outcome.value,
            "why": result.why,
            "guards_against": result.behaviour.guards,
            "fix": result.behaviour.fix,
        }
        for result in report.results
    ]
    recorded = [
        {"file": replay.name, "made": replay.made, "receipts": replay.receipts, "difference": replay.difference or None}
        for replay in report.replayed
    ]
    return {"connector": report.connector, **report.summary(), "behaviours": behaviours, "recorded": recorded}


def _show(report: Report) -> None:
    for result in report.results:
        _show_result(result)
    _show_recordings(report)
    counts = {outcome: report.count(outcome) for outcome in Outcome}
    say("")
    say(
        f"{report.connector}: {counts[Outcome.passed]} shown, {counts[Outcome.failed]} failed, "
        f"{counts[Outcome.not_shown]} not shown, {counts[Outcome.not_asked]} not asked."
    )
    if not report.conforms:
        say("It does not conform yet: see above.")
    elif len(report.results) < len(BEHAVIOURS):
        say(f"Only {len(report.results)} of {len(BEHAVIOURS)} behaviours were looked at.")
    else:
        say("It conforms.")


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
        if replay.difference:
            _print(f"[red]✗[/red] {escape(replay.name)}: {escape(replay.difference)}")
            _print("    if it is right now: connectors check … --accept-recordings")
        else:
            say(f"✓ {replay.name}: {replay.receipts} receipts of a real account are read as they were then")
    if not report.replayed:
        console.print(
            "[yellow]?[/yellow] Nothing is recorded of a real account: a stub that its own author wrote proves only "
            "consistency. Record some: connectors try … --record",
            highlight=False,
            soft_wrap=True,
        )


def _print(markup: str) -> None:
    """Print a line whose own marks are colours; whatever was not written here is escaped by the caller."""
    console.print(markup, highlight=False)
