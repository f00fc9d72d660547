"""`connectors new` and `check`: what an integrator asks for a connector that is being written, or was.

Owns finding the connector that is meant and showing results; what is demanded is `connector_sdk.testing`'s.
"""

from __future__ import annotations

import importlib
import inspect
import json
import keyword
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from jinja2 import Environment, PackageLoader, StrictUndefined
from rich.progress import BarColumn, Progress, TextColumn

from connector_sdk.connector import Connector
from connector_sdk.testing import BEHAVIOURS, Level, Outcome, Report, Result, TillStub
from connector_sdk.testing.recording import FOLDER, recordings_of
from connector_sdk.testing.suite import judged, replayed, unknown_excuses
from connectors.cli.output import console, escape, fail, run, say, show_json, show_table
from connectors.plugins import CONFORMANCE, Plugins
from connectors.services import Refusal, nearest

Target = Annotated[str, typer.Argument(help="A connector's name, its package, or the folder it is in.")]
_MARKS = {
    Outcome.passed: "[green]✓[/green]",
    Outcome.failed: "[red]✗[/red]",
    Outcome.not_shown: "[yellow]?[/yellow]",
    Outcome.not_asked: "[dim]–[/dim]",
}
_FILES = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "init.py": "{package}/__init__.py",
    "connector.py": "{package}/connector.py",
    "mapping.py": "{package}/mapping.py",
    "stub.py": "{package}/stub.py",
    "test_till.py": "tests/test_{package}.py",
}


_OTHERS = frozenset(
    "connectors connector_sdk poster_connector serve_connector webhook_connector tests test conftest pip setuptools "
    "pytest httpx pydantic pydantic_settings typer rich jinja2 pluggy".split()
)
"""Modules of ours, and those that a connector's own package imports: a package of that name would stand before them."""


class Shape(StrEnum):
    """How a till gives its sales: it is read, it sends, or both."""

    poll = "poll"
    push = "push"
    both = "both"


def new(
    name: Annotated[str, typer.Argument(help="Of the till, as in my-till.")],
    shape: Annotated[Shape, typer.Option(help="The till can be read, sends by itself, or both.")] = Shape.both,
    folder: Annotated[
        Path | None, typer.Option(help="Where to make it; a folder of its name here, by default.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Make a connector's package: it works, and passes the conformance suite, before a line is changed."""
    made: list[Path] = []

    async def work() -> None:
        made.extend(_scaffold(name, shape, folder or Path(name)))

    run(work)
    if as_json:
        show_json({"folder": str(made[0].parent), "files": [str(one) for one in made]})
        return
    for one in made:
        say(f"  {one}")
    where = made[0].parent
    first = "" if where.resolve() == Path.cwd() else f"cd {where} && "
    say(f"✓ {where.resolve().name} is ready. Next: {first}connectors check .")


def _scaffold(name: str, shape: Shape, folder: Path) -> list[Path]:
    """Write the files of a new package. Raises `Refusal`."""
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    if not re.fullmatch(r"[a-z][a-z0-9-]{1,31}", name) or not re.fullmatch(r"[a-z][a-z0-9]{1,31}", plain):
        raise Refusal(f"{name!r} is no name: small letters, digits and -, a letter first, as in my-till")
    package = name.replace("-", "_")
    if keyword.iskeyword(package):
        raise Refusal(f"{name!r} is a word of Python's own, so nothing could import it: add to it, as in {name}-till")
    if package in _OTHERS or package in sys.stdlib_module_names:
        raise Refusal(f"{name!r} is the name of a module that is there already: add to it, as in {name}-till")
    if plain in Plugins().classes:
        raise Refusal(f"there is a connector named {plain!r} already: choose another name")
    if folder.exists() and any(folder.iterdir()):
        raise Refusal(f"{folder} is not empty: nothing is written over")
    words = [one for one in name.split("-") if one]
    values = {
        "project": f"{name}-connector",
        "package": name.replace("-", "_"),
        "name": plain,
        "title": " ".join(one.capitalize() for one in words),
        "class_name": "".join(one.capitalize() for one in words),
        "version": version("sevenstamp-connectors"),
        "poll": shape is not Shape.push,
        "push": shape is not Shape.poll,
    }
    templates = Environment(  # noqa: S701 - it writes Python, not pages
        loader=PackageLoader("connector_sdk", "scaffold"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    made: list[Path] = []
    for template, target in _FILES.items():
        file = folder / target.format(**values)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(templates.get_template(f"{template}.jinja").render(**values), encoding="utf-8")
        made.append(file)
    return made


def connector_at(target: str) -> type[Connector[Any]]:
    """The connector that a name, a package or a folder means. Raises `Refusal`."""
    found = Plugins().classes
    if target in found:
        return found[target]
    made = list(_connectors_of(_module_at(target, found)))
    if not made:
        raise Refusal(f"the package {target!r} registers no connector: does it have `register_connectors`?")
    return made[0]


def _module_at(target: str, found: Any) -> Any:
    folder = Path(target)
    name = target
    if folder.is_dir():
        name = _package_in(folder.resolve())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name == name:
            known = ", ".join(nearest(target, found))
            raise Refusal(f"there is no connector, package or folder {target!r}; known: {known}") from None
        raise Refusal(f"{target} needs the module {error.name!r}: install what it depends on") from None
    except Exception as error:
        raise Refusal(f"{target} cannot be imported: {type(error).__name__}: {error}") from error


def _package_in(folder: Path) -> str:
    """The package that a folder is, or the one in it; it can be imported then. Raises `Refusal`."""
    if (folder / "__init__.py").is_file():
        sys.path.insert(0, str(folder.parent))
        return folder.name
    inside = [one.parent for one in sorted(folder.glob("*/__init__.py")) if one.parent.name != "tests"]
    if len(inside) != 1:
        if not inside:
            raise Refusal(f"{folder.name} holds no package: a folder with an __init__.py is meant")
        raise Refusal(f"{folder.name} holds {len(inside)} packages: name the one that is meant")
    sys.path.insert(0, str(folder))
    return inside[0].name


def _connectors_of(module: Any) -> Iterator[type[Connector[Any]]]:
    made: list[type[Connector[Any]]] = []
    register = getattr(module, "register_connectors", None)
    if register is not None:
        register(register=made.append)
    yield from (one for one in made if inspect.isclass(one) and issubclass(one, Connector))


def stub_of(found: type[Connector[Any]]) -> type[TillStub]:
    """The stub that a connector names. Raises `Refusal`."""
    if not found.info.stub:
        raise Refusal(f'{found.info.name} names no stub: add `stub="package.stub:MyStub"` to its ConnectorInfo')
    module, _, attribute = found.info.stub.partition(":")
    try:
        stub = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise Refusal(f"the stub {found.info.stub!r} cannot be loaded: {error}") from None
    if not (inspect.isclass(stub) and issubclass(stub, TillStub)):
        raise Refusal(f"{found.info.stub} is no TillStub")
    return stub


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
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Run the conformance suite over a connector's stub; ends with 1 where something required is missing."""
    if list_:
        _list(as_json)
        return
    if not target:
        fail("name what is to be checked: a connector, its package, or the folder it is in")
    names = {one.name: one for one in BEHAVIOURS}
    reports: list[Report] = []

    async def work() -> None:
        connector = connector_at(target)
        stub = stub_of(connector)
        for one in unknown_excuses(stub):
            near = ", ".join(nearest(one, names)[:3])
            raise Refusal(f"the stub's till_has_no names {one!r}, which is no behaviour; nearest: {near}")
        for one in only or ():
            if one not in names:
                near = ", ".join(nearest(one, names)[:3])
                raise Refusal(f"there is no behaviour {one!r}; nearest: {near}; `connectors check --list` has them all")
        if write and only:
            raise Refusal("a result is kept of the whole suite only: leave out --only")
        if accept:
            await _accept(connector)
        wanted = [names[one] for one in only] if only else BEHAVIOURS
        reports.append(await _examined(connector, stub, wanted))
        if write:
            _keep(connector, reports[0])

    run(work)
    (report,) = reports
    _show(report, as_json)
    if not report.conforms:
        raise typer.Exit(1)


def _list(as_json: bool) -> None:
    rows = [{"behaviour": one.name, "level": one.level.value, "title": one.title} for one in BEHAVIOURS]
    if as_json:
        show_json(rows)
    else:
        show_table(["behaviour", "level", "promise"], [list(row.values()) for row in rows], "")


async def _examined(connector: type[Connector[Any]], stub: type[TillStub], wanted: list[Any]) -> Report:
    results: list[Result] = []
    with Progress(
        TextColumn("{task.description}"), BarColumn(), console=console, disable=not sys.stdout.isatty(), transient=True
    ) as bar:
        task = bar.add_task("check", total=len(wanted))
        for one in wanted:
            bar.update(task, description=one.title)
            results.append(await judged(stub(), one))
            bar.advance(task)
    return Report(connector.info.name, tuple(results), await replayed(connector))


def _beside(connector: type[Connector[Any]], name: str) -> Path:
    """A file of that name beside the package's code."""
    package = importlib.import_module(connector.__module__.partition(".")[0])
    return Path(str(package.__file__)).with_name(name)


async def _accept(connector: type[Connector[Any]]) -> None:
    """Write into every recording what is read from it now. Raises `Refusal`."""
    for name, one in recordings_of(connector):
        if isinstance(one, str):
            raise Refusal(f"{FOLDER}/{name}: {one}")
        sales = tuple(sale.model_dump(mode="json") for sale in (await one.read(connector)).sales)
        try:
            (_beside(connector, FOLDER) / name).write_text(replace(one, sales=sales).written(), encoding="utf-8")
        except OSError as error:
            raise Refusal(f"{FOLDER}/{name} cannot be written: {error.strerror}") from None


def _keep(connector: type[Connector[Any]], report: Report) -> None:
    """Write the result beside the package's code. Raises `Refusal`."""
    file = _beside(connector, CONFORMANCE)
    kept: dict[str, Any] = {}
    try:
        if file.is_file():
            kept = json.loads(file.read_text())
        file.write_text(json.dumps({**kept, report.connector: report.summary()}, indent=2, sort_keys=True) + "\n")
    except (OSError, ValueError) as error:
        raise Refusal(f"{CONFORMANCE} cannot be written: {error}") from None


def _show(report: Report, as_json: bool) -> None:
    if as_json:
        rows = [
            {
                "behaviour": one.behaviour.name,
                "level": one.behaviour.level.value,
                "outcome": one.outcome.value,
                "why": one.why,
                "guards_against": one.behaviour.guards,
                "fix": one.behaviour.fix,
            }
            for one in report.results
        ]
        recorded = [
            {"file": one.name, "made": one.made, "receipts": one.receipts, "difference": one.difference or None}
            for one in report.replayed
        ]
        show_json({"connector": report.connector, **report.summary(), "behaviours": rows, "recorded": recorded})
        return
    for one in report.results:
        level = "" if one.behaviour.level is Level.required else " [dim](recommended)[/dim]"
        console.print(f"{_MARKS[one.outcome]} {escape(one.behaviour.title)}{level}", highlight=False)
        if one.outcome is not Outcome.passed:
            console.print(f"    {one.outcome.value}: {escape(one.why)}", highlight=False)
        if one.outcome is Outcome.not_shown:
            console.print(f"    [dim]({one.behaviour.name})[/dim]", highlight=False)
        if one.outcome is Outcome.failed:
            console.print(f"    guards against {escape(one.behaviour.guards)}", highlight=False)
            console.print(
                f"    mend it: {escape(one.behaviour.fix)} [dim]({one.behaviour.name})[/dim]", highlight=False
            )
    for recording in report.replayed:
        if recording.difference:
            console.print(f"[red]✗[/red] {escape(recording.name)}: {escape(recording.difference)}", highlight=False)
            console.print("    if it is right now: connectors check … --accept-recordings", highlight=False)
        else:
            say(f"✓ {recording.name}: {recording.receipts} receipts of a real account are read as they were then")
    if not report.replayed:
        console.print(
            "[yellow]?[/yellow] Nothing is recorded of a real account: a stub that its own author wrote proves only "
            "consistency. Record some: connectors try … --record",
            highlight=False,
            soft_wrap=True,
        )
    shown, failed = report.count(Outcome.passed), report.count(Outcome.failed)
    hidden, not_asked = report.count(Outcome.not_shown), report.count(Outcome.not_asked)
    say("")
    say(f"{report.connector}: {shown} shown, {failed} failed, {hidden} not shown, {not_asked} not asked.")
    if not report.conforms:
        say("It does not conform yet: see above.")
    elif len(report.results) < len(BEHAVIOURS):
        say(f"Only {len(report.results)} of {len(BEHAVIOURS)} behaviours were looked at.")
    else:
        say("It conforms.")
