"""Files of receipts, read row by row: CSV, JSON Lines and XLSX, however large, in whatever encoding.

Owns what a row is and what is wrong with one that is none; what a row means is the connector's to say. Nothing here
holds more of a file than a row, or of a workbook more than its table of texts.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import zipfile
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from pathlib import Path

from connector_sdk.messages import Message
from connectors.services.refusal import Refusal

_SAMPLE = 256 * 1024
_LONGEST_LINE = 256 * 1024
"""Characters of a line; a row with more is no receipt."""
_MOST_LINES_OF_ROW = 20
"""Lines of one row, whose cells may hold line breaks."""
_MOST_COLUMNS, _LONGEST_NAME = 500, 200
_DELIMITERS = ",;\t|"
_SNIFFED_LINES, _SNIFFED_CHARACTERS = 20, 4000
_MOST_ROWS_OF_SHEET, _MOST_CELLS_OF_ROW = 1_048_576, 2_000
"""A workbook's own bound on rows, and ours on cells, of which one that is far to the right makes many."""
_MOST_EMPTY_ROWS = 10_000
"""Rows in succession that are empty; what comes after so many is not looked at."""
_MOST_OF_OTHER_PARTS = 8 * 1024 * 1024
"""Bytes of what a workbook holds besides its sheets and texts, such as its styles, which are read at once."""
_PARTS_OF_ANY_SIZE = ("xl/worksheets/", "xl/sharedStrings.xml", "xl/media/")
_MOST_TEXTS = 256 * 1024 * 1024
"""Bytes of a workbook's table of texts, which its reader holds in memory."""
MOST_UNPACKED = 8 * 1024 * 1024 * 1024
"""Bytes of a workbook as it is unpacked, for whoever may name a file on this machine."""
_CANDIDATES = ("cp1252", "cp1251", "cp1250", "cp1254", "iso8859-7", "gb18030", "shift_jis")
"""Encodings that a person may have to choose from, the most common first."""
_ENCODINGS = ("utf-8", "utf-16", "utf-32", "ascii", "iso8859", "cp", "koi8", "mac", "gb", "big5", "shift_jis", "euc")
"""How the names of encodings begin that texts are in; among the others are some whose work is not linear."""
FORMATS = ("csv", "jsonl", "xlsx")

Row = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class FileRow:
    """A row by its line (of a workbook: by its row), from 1; `content` by column, or why it has none.

    `position` is how far into the file it lies, from 0 to 1.
    """

    line: int
    content: Row | None
    why: Message | None
    position: float


@dataclass(frozen=True, slots=True)
class ImportFile:
    """A file to import: its format, and of a text its encoding and, of CSV, what parts its columns."""

    path: Path
    format: str
    encoding: str = "utf-8"
    delimiter: str = ","

    def rows(self) -> Iterator[FileRow]:
        """Yield the rows in their order; one that cannot be read is named and the next ones go on. Raises `Refusal`."""
        match self.format:
            case "jsonl":
                return self._json_lines()
            case "xlsx":
                return _workbook_rows(self.path)
        return self._csv_rows()

    def _json_lines(self) -> Iterator[FileRow]:
        with _LineReader(self.path, self.encoding) as lines:
            for line in lines:
                if line.why is not None:
                    yield FileRow(lines.number, None, line.why, lines.position)
                elif line.text.strip():
                    yield _json_row(line.text, lines.number, lines.position)

    def _csv_rows(self) -> Iterator[FileRow]:
        with _LineReader(self.path, self.encoding) as lines:
            yield from _CsvRows(lines, self.delimiter)


def open_import_file(
    path: Path,
    *,
    encoding: str | None = None,
    delimiter: str | None = None,
    format_name: str | None = None,
    most_unpacked: int = MOST_UNPACKED,
) -> ImportFile:
    """Look at a file's beginning and say how it is read. Raises `Refusal`, which names the way out.

    A workbook has at most `most_unpacked` bytes when it is unpacked.
    """
    try:
        with path.open("rb") as file:
            sample = file.read(_SAMPLE)
    except OSError as error:
        raise Refusal("{file} cannot be read: {error}", file=str(path), error=error.strerror or "") from None
    if not sample:
        raise Refusal("{file} is empty", file=str(path))
    chosen = format_name or _format_of(path, sample)
    if chosen not in FORMATS:
        raise Refusal("{format} is no format: write {known}", format=chosen, known=", ".join(FORMATS))
    if chosen == "xlsx":
        _check_workbook(path, most_unpacked)
        return ImportFile(path, "xlsx")
    known = _checked_encoding(encoding) if encoding is not None else _encoding_of(path, sample)
    if chosen == "jsonl":
        return ImportFile(path, "jsonl", known)
    # a character may be cut at the sample's end
    text = codecs.getincrementaldecoder(known)("replace").decode(sample)
    if delimiter is not None and len(delimiter) != 1:
        raise Refusal("what parts the columns is one character, as in --delimiter ';'")
    return ImportFile(path, "csv", known, delimiter or _delimiter_of(text))


def _format_of(path: Path, sample: bytes) -> str:
    suffix = path.suffix.lower().removeprefix(".")
    if sample.startswith(b"PK\x03\x04") or suffix in ("xlsx", "xlsm"):
        return "xlsx"
    if suffix in ("jsonl", "ndjson", "json") or sample.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return "jsonl"
    return "csv"


def _checked_encoding(name: str) -> str:
    try:
        found = codecs.lookup(name).name
        if not found.startswith(_ENCODINGS):
            raise LookupError
        return found
    except LookupError:
        raise Refusal("{name} is no encoding: write one such as utf-8, cp1252 or cp1251", name=name) from None


def _encoding_of(path: Path, sample: bytes) -> str:
    """Return the encoding that the file's beginning shows. Raises `Refusal`, which shows what others would read."""
    for mark, name in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if sample.startswith(mark):
            return name
    try:
        codecs.getincrementaldecoder("utf-8")("strict").decode(sample)
    except UnicodeDecodeError as error:
        shown = "\n".join(f"  --encoding {name}: {text}" for name, text in _readings(sample, error.start))
        raise Refusal(
            "{file} is not in UTF-8. Say in which encoding it is; so a line of it would read:\n{shown}",
            file=path.name,
            shown=shown,
        ) from None
    return "utf-8"


def _readings(sample: bytes, at: int) -> Iterator[tuple[str, str]]:
    """Yield what a line that is no UTF-8 reads as in other encodings."""
    start, end = sample.rfind(b"\n", 0, at) + 1, sample.find(b"\n", at)
    line = sample[start : end if end >= 0 else len(sample)][:120]
    for name in _CANDIDATES:
        try:
            text = line.decode(name)
        except UnicodeDecodeError:
            continue
        if text.strip().isprintable():
            yield name, text.strip()


def _delimiter_of(text: str) -> str:
    """Return what parts the columns: what gives the same number of columns, and the most, in the first lines."""
    lines = [line[:_SNIFFED_CHARACTERS] for line in text.splitlines()[:_SNIFFED_LINES]]

    def rank(delimiter: str) -> tuple[int, int]:
        try:
            widths = [len(row) for row in csv.reader(lines, delimiter=delimiter) if row]
        except csv.Error:
            return (0, 0)
        usual = max(set(widths), key=widths.count) if widths else 0
        return (widths.count(usual) if usual > 1 else 0, usual)

    return max(_DELIMITERS, key=rank)


# Lines


@dataclass(frozen=True, slots=True)
class _Line:
    """A line with its end, or why it is none."""

    text: str
    why: Message | None = None


class _LineReader:
    """The lines of a text, each within a bound; of one that is longer only that is told."""

    def __init__(self, path: Path, encoding: str) -> None:
        self._size = max(1, path.stat().st_size)
        self._raw = path.open("rb")
        # what is in another encoding becomes a sign that no text has, so that its line can be named
        self._text = io.TextIOWrapper(self._raw, encoding, errors="replace", newline=None)
        self.number = 0

    def __enter__(self) -> _LineReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._text.close()

    @property
    def position(self) -> float:
        """How far into the file it has read, from 0 to 1."""
        return min(1.0, self._raw.tell() / self._size)

    def __iter__(self) -> _LineReader:
        return self

    def __next__(self) -> _Line:
        text = self._text.readline(_LONGEST_LINE)
        if not text:
            raise StopIteration
        self.number += 1
        if len(text) == _LONGEST_LINE and not text.endswith("\n"):
            while (rest := self._text.readline(_LONGEST_LINE)) and not rest.endswith("\n"):
                pass
            return _Line("", Message("is longer than {count} characters", {"count": _LONGEST_LINE}))
        if "\ufffd" in text:
            return _Line("", Message("is in another encoding than the file's beginning"))
        return _Line(text)


def _json_row(text: str, number: int, position: float) -> FileRow:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return FileRow(number, None, Message("is no JSON"), position)
    if not isinstance(content, dict):
        return FileRow(number, None, Message("is no JSON object"), position)
    if "\\u" in text and _has_half_a_sign(content):
        return FileRow(number, None, Message("holds a sign that is cut in half"), position)
    return FileRow(number, content, None, position)


def _has_half_a_sign(content: Row) -> bool:
    """Say whether a text of the row cannot be written down: it holds one half of a pair of surrogates."""
    try:
        json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


# CSV


@dataclass(frozen=True, slots=True)
class _Numbered:
    """A line and its number, from 1."""

    number: int
    text: str


class _CsvRows:
    """The rows of a CSV below its header; a quote that is never closed costs its own line, not the rest of the file.

    The parser asks for lines one by one. Those that it has taken for a row are remembered until the row is there: where
    it never comes, the first of them is named, and the others are read anew.
    """

    def __init__(self, lines: _LineReader, delimiter: str) -> None:
        self._lines = lines
        self._delimiter = delimiter
        self._again: deque[_Numbered] = deque()
        self._taken: list[_Numbered] = []
        self._wrong: list[FileRow] = []

    def __iter__(self) -> Iterator[FileRow]:
        header: Sequence[str] | None = None
        reader = csv.reader(self._supply(), delimiter=self._delimiter, strict=True)
        while True:
            self._taken.clear()
            try:
                cells = next(reader, None)
            except csv.Error as error:
                yield from self._give_up(str(error))
                reader = csv.reader(self._supply(), delimiter=self._delimiter, strict=True)
                continue
            yield from self._take_wrong()
            if cells is None:
                return
            if not any(cell.strip() for cell in cells):
                continue
            if header is None:
                header = column_names(cells)
                continue
            yield _row_of(header, cells, self._taken[0].number, self._lines.position)

    def _supply(self) -> Iterator[str]:
        """Give the parser its lines. Raises `csv.Error` where it takes more for one row than any row has."""
        while True:
            if self._again:
                numbered = self._again.popleft()
            else:
                line = next(self._lines, None)
                if line is None:
                    return
                if line.why is not None:
                    self._wrong.append(FileRow(self._lines.number, None, line.why, self._lines.position))
                    continue
                numbered = _Numbered(self._lines.number, line.text)
            self._taken.append(numbered)
            if len(self._taken) > _MOST_LINES_OF_ROW:
                raise csv.Error("a quote is never closed")
            yield numbered.text

    def _give_up(self, why: str) -> list[FileRow]:
        """Name the first line that was taken for a row that never came, and have the others read anew."""
        first, *others = self._taken
        self._again.extendleft(reversed(others))
        reason = Message("cannot be parted into columns ({why})", {"why": why})
        named = FileRow(first.number, None, reason, self._lines.position)
        return sorted([*self._take_wrong(), named], key=lambda row: row.line)

    def _take_wrong(self) -> list[FileRow]:
        wrong, self._wrong = self._wrong, []
        return wrong


def column_names(cells: Sequence[object]) -> list[str]:
    """Return the names of columns: one that comes twice is numbered, one without a name is called by its place."""
    names: list[str] = []
    for place, cell in enumerate(cells[:_MOST_COLUMNS], start=1):
        name = " ".join(str(cell if cell is not None else "")[:_LONGEST_NAME].split()) or f"column {place}"
        number = sum(known == name or known.startswith(f"{name} (") for known in names)
        names.append(f"{name} ({number + 1})" if number else name)
    return names


def _row_of(header: Sequence[str], cells: Sequence[str], number: int, position: float) -> FileRow:
    if len(cells) > len(header) and any(cell.strip() for cell in cells[len(header) :]):
        columns = {"columns": len(cells), "expected": len(header)}
        return FileRow(number, None, Message("has {columns} columns, and the header {expected}", columns), position)
    # a row that ends early, such as a line of totals, lacks the values and is told so by the field
    content = {name: cell.strip() for name, cell in zip(header, cells, strict=False)}
    return FileRow(number, content, None, position)


# XLSX


def _workbook_rows(path: Path) -> Iterator[FileRow]:
    """Yield the rows of a workbook's first sheet. Raises `Refusal` for what is none, or would fill the memory."""
    # the library's import takes longer than most commands: only who imports a workbook waits for it
    from openpyxl import load_workbook

    unreadable = Refusal("{file} is no workbook that can be read: save it as CSV", file=path.name)
    try:
        book = load_workbook(path, read_only=True, data_only=True)
    except Exception:  # noqa: BLE001 - the library raises whatever its parsers do
        raise unreadable from None
    try:
        sheet = book.worksheets[0]
        total = min(max(1, sheet.max_row or 1), _MOST_ROWS_OF_SHEET)
        # what the sheet says of its own size is not believed: rows would be filled up to it
        sheet.reset_dimensions()
        rows = sheet.iter_rows(values_only=True)
        header: Sequence[str] | None = None
        empty = 0
        for number in range(1, _MOST_ROWS_OF_SHEET + 1):
            try:
                values = next(rows, None)
            except Exception:  # noqa: BLE001
                raise unreadable from None
            if values is None:
                return
            if len(values) > _MOST_CELLS_OF_ROW:
                raise Refusal("row {row} of {file} has too many columns", row=number, file=path.name)
            if all(value is None for value in values):
                empty += 1
                if empty > _MOST_EMPTY_ROWS:  # a row's number may be anything: the library counts up to it
                    return
                continue
            empty = 0
            if header is None:
                header = column_names(values)
                continue
            yield _workbook_row(header, values, number, min(1.0, number / total))
    finally:
        book.close()


def _workbook_row(header: Sequence[str], values: Sequence[object], number: int, position: float) -> FileRow:
    """Return a row; one text may stand in a thousand cells, so a row is bounded as a line is."""
    content: dict[str, object] = {}
    characters = 0
    for name, value in zip(header, values, strict=False):
        if value is not None:
            content[name] = cell = _cell(value)
            characters += len(cell) if isinstance(cell, str) else 0
            if characters > _LONGEST_LINE:
                return FileRow(
                    number, None, Message("is longer than {count} characters", {"count": _LONGEST_LINE}), position
                )
    return FileRow(number, content, None, position)


def _check_workbook(path: Path, most_unpacked: int) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
    except (zipfile.BadZipFile, OSError):
        raise Refusal("{file} is no workbook that can be read: save it as CSV", file=path.name) from None
    texts = sizes.get("xl/sharedStrings.xml", 0)
    others = (size for name, size in sizes.items() if not name.startswith(_PARTS_OF_ANY_SIZE))
    if texts > _MOST_TEXTS or sum(sizes.values()) > most_unpacked or max(others, default=0) > _MOST_OF_OTHER_PARTS:
        raise Refusal("{file} is too large for a workbook: save it as CSV, of which any size is read", file=path.name)


def _cell(value: object) -> object:
    """Return a cell's value as JSON has it: times as ISO 8601, numbers as people read them."""
    match value:
        case bool() | int():
            return value
        case float():
            # 12.5 and 12.0 as a spreadsheet shows them, never 12.500000000000002
            return str(int(value)) if value.is_integer() else f"{value:.10g}"
        case datetime() | date() | time():
            return value.isoformat()
    return str(value)
