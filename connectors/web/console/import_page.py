"""The pages of a file import: a file is uploaded, its columns are named, tried, and its receipts taken in.

Owns these pages and the work's progress; rows are read and taken in by `connectors.services.imports`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from starlette.responses import Response

from connector_sdk.messages import Message
from connectors.domain.connection import Connection
from connectors.services import ImportWish, ProgressReport, Refusal
from connectors.services.import_files import ImportFile, open_import_file
from connectors.services.imports import ImportPreview
from connectors.web.console.import_progress import ImportProgress, UploadGone
from connectors.web.console.routing import Role, Router
from connectors.web.console.settings_form import Field as SettingField
from connectors.web.console.settings_form import build_fields
from connectors.web.console.uploads import MOST_BYTES, MOST_UNPACKED_BYTES, Upload
from connectors.web.console.visit import PageNotFound, Visit

log = logging.getLogger(__name__)

router = Router()

_PAGE = "/connections/{connection}/import"
_ROWS_SHOWN, _ROWS_LOOKED_AT, _LONGEST_CELL = 5, 200, 100
_PREVIEW_SECONDS = 20.0
_LIKELY: Mapping[str, Sequence[str]] = {
    "receipt_id": ("receipt", "number", "invoice", "bill", "resit", "чек"),
    "closed_at": ("closed", "date", "time", "tarikh", "дата"),
    "paid": ("total", "paid", "amount", "sum", "jumlah", "сума", "сумма"),
    "phone": ("phone", "mobile", "telefon", "телефон"),
    "email": ("mail",),
}
"""What columns are often called, by value; only to choose them at first, and to show these values first."""


@dataclass(frozen=True, slots=True)
class _Column:
    """A value that the mapping has, the column that is chosen for it, and its words."""

    name: str
    title: str
    help: str
    chosen: str


@dataclass(slots=True)
class _Trial(ImportPreview):
    """What a file's rows would come to."""

    is_part: bool = False
    """Whether the time was over before the file was."""


@router.get(_PAGE, Role.manager)
async def import_page(visit: Visit) -> Response:
    """Show the form for a file, its columns where one is uploaded, or how far the import has come."""
    connection = await _importing_connection(visit)
    progress = await visit.console.imports.of(connection)
    if visit.request.query_params.get("part") == "progress":
        return visit.render("_import_progress.html", connection=connection, progress=progress)
    name = visit.request.query_params.get("file", "")
    return await _page(visit, connection, {}, name=name)


async def _importing_connection(visit: Visit) -> Connection:
    """Return the connection. Raises `PageNotFound` where its till is read by itself."""
    connection = (await visit.load_overview()).connection
    connector_class = visit.services.connector_class(connection.connector)
    if connector_class.can("poll") or connector_class.can("fetch"):
        raise PageNotFound
    return connection


async def _page(
    visit: Visit, connection: Connection, errors: Mapping[str, str], *, name: str = "", trial: _Trial | None = None
) -> Response:
    upload = await visit.console.uploads.find(name, connection.id) if name else None
    # in a thread, as all reading of files: what somebody uploads takes what it takes, and others are served meanwhile
    columns, rows = await asyncio.to_thread(_head, upload) if upload is not None else ([], [])
    return visit.render(
        "import.html",
        422 if errors else 200,
        connection=connection,
        upload=upload,
        name=name,
        columns=columns,
        rows=rows,
        fields=_columns_to_choose(visit, connection, columns) if upload is not None else [],
        often=len(_LIKELY),
        others=_other_settings(visit, connection) if upload is not None else [],
        progress=await visit.console.imports.of(connection),
        trial=trial,
        errors=errors,
        form=visit.form,
    )


def _head(upload: Upload) -> tuple[list[str], list[list[str]]]:
    """Return the columns and first rows of a file; none where it cannot be read yet."""
    try:
        with _on_disk(upload) as path:
            file = _opened(path, upload)
            contents = []
            for row in islice(file.rows(), _ROWS_LOOKED_AT):
                if row.content is not None:
                    contents.append(row.content)
                if len(contents) == _ROWS_SHOWN:
                    break
    except Refusal:
        return [], []
    columns = list(dict.fromkeys(column for content in contents for column in content))[:200]
    return columns, [[str(content.get(column, ""))[:_LONGEST_CELL] for column in columns] for content in contents]


def _opened(path: Path, upload: Upload) -> ImportFile:
    return open_import_file(path, encoding=upload.encoding, most_unpacked=MOST_UNPACKED_BYTES)


def _check(upload: Upload) -> None:
    """Look whether a file can be read at all. Raises `Refusal`."""
    with _on_disk(upload) as path:
        _opened(path, upload)


@contextmanager
def _on_disk(upload: Upload) -> Iterator[Path]:
    """Put a file where it can be read row by row, and take it away again."""
    handle, path = tempfile.mkstemp(suffix=Path(upload.name).suffix[:8], prefix="import-")  # for this user only
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(upload.content)
        yield Path(path)
    finally:
        Path(path).unlink(missing_ok=True)


def _columns_to_choose(visit: Visit, connection: Connection, columns: Sequence[str]) -> list[_Column]:
    connector_class = visit.services.connector_class(connection.connector)
    fields = connector_class.settings_model.model_fields
    chosen: list[_Column] = []
    for field_name, info in fields.items():
        if field_name.startswith("map_"):
            name = field_name.removeprefix("map_")
            typed = visit.form.get(f"column.{name}") if f"column.{name}" in visit.form else _likely(name, columns)
            chosen.append(_Column(name, info.title or name, info.description or "", typed))
    # what every till's file has comes first; the page folds up the others
    return sorted(chosen, key=lambda column: column.name not in _LIKELY)


def _likely(name: str, columns: Sequence[str]) -> str:
    """Return the column that is probably meant; an empty text where none is."""
    words = _LIKELY.get(name, ())
    return next((column for word in words for column in columns if word in column.casefold()), "")


def _other_settings(visit: Visit, connection: Connection) -> list[SettingField]:
    """Return what else says how texts are meant: the decimal sign, how times are written."""
    connector_class = visit.services.connector_class(connection.connector)
    stored = dict(visit.services.connections.settings_of(connection))
    typed = {
        name.removeprefix("set."): values[-1] for name, values in visit.form.values.items() if name.startswith("set.")
    }
    fields = build_fields(connector_class, {**stored, **typed}, str(visit.localizer.locale))
    return [one for one in fields if one.taught and not one.name.startswith("map_")]


@router.post(f"{_PAGE}/file", Role.manager, page=_PAGE, max_bytes=MOST_BYTES + 64 * 1024, takes_file=True)
async def upload(visit: Visit) -> Response:
    """Keep a file while its columns are named."""
    connection = await _importing_connection(visit)
    file = visit.form.files.get("file")
    if file is None or not file.content:
        return await _page(visit, connection, {"file": visit.localizer.text("Choose a file.")})
    encoding = visit.form.get("encoding") or None
    kept = Upload(connection.id, file.name[-120:], file.content, encoding)
    try:
        await asyncio.to_thread(_check, kept)
    except Refusal as error:
        return await _page(visit, connection, {"file": visit.localizer.sentence(error.message)})
    name = await visit.console.uploads.keep(kept)
    await visit.console.imports.forget(connection)
    return visit.redirect(f"/connections/{connection.id}/import?file={name}")


@router.post(f"{_PAGE}/try", Role.manager, page=_PAGE)
async def try_out(visit: Visit) -> Response:
    """Show what the file would come to; nothing is stored or sent."""
    connection = await _importing_connection(visit)
    name = visit.form.get("file")
    kept = await visit.console.uploads.find(name, connection.id)
    if kept is None:
        return await _page(visit, connection, {"file": visit.localizer.text("Choose the file once more.")})
    trial = _Trial()
    try:
        with _on_disk(kept) as path:
            async with asyncio.timeout(_PREVIEW_SECONDS):
                async for row, receipts in visit.services.imports.preview(connection.id, _wish(visit, kept, path)):
                    trial.add(row, receipts)
    except TimeoutError:
        trial.is_part = True
    except Refusal as error:
        return await _page(visit, connection, {"columns": visit.localizer.sentence(error.message)}, name=name)
    return await _page(visit, connection, {}, name=name, trial=trial)


def _wish(visit: Visit, kept: Upload, path: Path) -> ImportWish:
    columns = {
        name.removeprefix("column."): values[-1]
        for name, values in visit.form.values.items()
        if name.startswith("column.") and values[-1]
    }
    settings = {
        name.removeprefix("set."): values[-1] for name, values in visit.form.values.items() if name.startswith("set.")
    }
    return ImportWish(
        path, encoding=kept.encoding, columns=columns, settings=settings, most_unpacked=MOST_UNPACKED_BYTES
    )


@router.post(f"{_PAGE}/run", Role.manager, page=_PAGE)
async def run(visit: Visit) -> Response:
    """Take the receipts in; the page shows how far that has come, also to whoever comes back."""
    connection = await _importing_connection(visit)
    name = visit.form.get("file")
    try:
        kept, progress = await visit.console.imports.begin(connection, name)
    except UploadGone:
        return await _page(visit, connection, {"file": visit.localizer.text("Choose the file once more.")})
    except Refusal as error:
        return await _page(visit, connection, {"columns": visit.localizer.sentence(error.message)}, name=name)
    tasks = visit.console.import_tasks
    task = asyncio.create_task(_take_in(visit, connection, kept, progress), name="import")
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return visit.redirect(f"/connections/{connection.id}/import")


async def _take_in(visit: Visit, connection: Connection, kept: Upload, progress: ImportProgress) -> None:
    async def report(now: ProgressReport) -> None:
        progress.done, progress.receipts = now.done, now.sales_seen or 0

    def name(line: int, why: Message) -> None:
        progress.named.append((line, why))

    async with visit.console.imports.telling(connection, progress):
        try:
            with _on_disk(kept) as path:
                progress.result = await visit.services.imports.run(
                    connection.id, _wish(visit, kept, path), report, name
                )
        except Refusal as error:
            progress.error = error.message
        except Exception as error:  # whoever waits is told; what was taken in stays
            log.exception("connection %s: an import raised %s", connection.id, type(error).__name__)
            progress.stop()
