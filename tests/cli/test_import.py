"""`connectors import`: receipts of files, however they are written, taken in once."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

import pytest
from openpyxl import Workbook

from connectors.services import ImportWish, Refusal
from connectors.services.results import ImportResult, ProgressReport
from tests.installation import ANNA, BORYS, Installation
from tests.till_of_files import till_of_files

HEADER = "Receipt number,Closed,Total,Phone"
ROWS = [
    f"1001,2026-11-20 08:15:30,45.00,{ANNA}",
    f"1002,2026-11-20 08:20:00,30.50,{BORYS}",
    "1003,2026-11-20 08:25:00,12.00,",
]
TOTAL = "Total,,87.50,"


@pytest.fixture
async def corner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Installation]:
    async with till_of_files(tmp_path, monkeypatch) as installation:
        yield installation


async def take_in(installation: Installation, file: Path, **more: object) -> ImportResult:
    wish = ImportWish(file=file, **more)  # type: ignore[arg-type]
    return await installation.host.services.imports.run(installation.connection.id, wish, _ignore)


async def _ignore(_report: ProgressReport) -> None:
    return


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


async def test_the_receipts_of_a_file_earn_stamps_though_they_are_older_than_the_connection(
    corner: Installation, tmp_path: Path
) -> None:
    file = written(tmp_path, "november.csv", "\n".join([HEADER, *ROWS, TOTAL]))
    result = await take_in(corner, file)
    assert (result.rows, result.receipts, result.changed, result.unread) == (4, 3, 3, 1)
    assert [row.line for row in result.named] == [5]
    assert "map_closed_at" in result.named[0].why or "Closed" in result.named[0].why
    assert (corner.stamps(ANNA), corner.stamps(BORYS)) == (1, 1)


async def test_the_same_file_again_and_one_that_overlaps_change_nothing(corner: Installation, tmp_path: Path) -> None:
    await take_in(corner, written(tmp_path, "november.csv", "\n".join([HEADER, *ROWS])))
    again = await take_in(corner, tmp_path / "november.csv")
    assert (again.receipts, again.changed) == (3, 0)
    more = [*ROWS[1:], f"1004,2026-11-21 08:15:30,45.00,{ANNA}"]
    overlapping = await take_in(corner, written(tmp_path, "later.csv", "\n".join([HEADER, *more])))
    assert (overlapping.receipts, overlapping.changed) == (3, 1)
    assert (corner.stamps(ANNA), corner.stamps(BORYS)) == (2, 1)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
async def test_delimiter_and_encoding_are_found(
    corner: Installation, tmp_path: Path, delimiter: str, encoding: str
) -> None:
    text = "\n".join([HEADER, *ROWS]).replace(",", delimiter).replace("Receipt number", "Receipt number")
    file = written(tmp_path, "november.csv", f"{text}\nКав'ярня{delimiter}{delimiter}{delimiter}".encode(encoding))
    result = await take_in(corner, file)
    assert (result.receipts, result.unread) == (3, 1)


async def test_another_encoding_is_asked_for_with_what_it_would_read(corner: Installation, tmp_path: Path) -> None:
    text = "\n".join([HEADER, *ROWS, "Підсумок,,,"])
    file = written(tmp_path, "november.csv", text.encode("cp1251"))
    with pytest.raises(Refusal, match=r"(?s)not in UTF-8.*--encoding cp1251: Підсумок"):
        await take_in(corner, file)
    assert (await take_in(corner, file, encoding="cp1251")).receipts == 3
    with pytest.raises(Refusal, match="no encoding"):
        await take_in(corner, file, encoding="martian")


async def test_json_lines_are_read_as_the_till_would_send_them(corner: Installation, tmp_path: Path) -> None:
    receipts = [
        {"Receipt number": "1", "Closed": "2026-11-20T08:15:30Z", "Total": "45.00", "Phone": ANNA},
        {"Receipt number": "2", "Closed": "2026-11-20T08:15:30Z", "Total": "45.00"},
    ]
    lines = [json.dumps(receipt) for receipt in receipts]
    file = written(
        tmp_path, "november.jsonl", "\n".join([lines[0], "{broken", "[1]", "", '{"note": "\\ud83d"}', lines[1]])
    )
    result = await take_in(corner, file)
    assert (result.receipts, [row.line for row in result.named]) == (2, [2, 3, 5])
    assert corner.stamps(ANNA) == 1


async def test_a_workbook_is_read_with_its_dates_and_numbers(corner: Installation, tmp_path: Path) -> None:
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append([])
    sheet.append(["Receipt number", "Closed", "Total", "Phone"])
    sheet.append([1001, datetime(2026, 11, 20, 8, 15, 30), 45.1, ANNA])
    sheet.append(["1002", datetime(2026, 11, 20, 8, 20), 45, None])
    sheet.append(["Total", None, 90.1, None])
    book.save(tmp_path / "november.xlsx")
    result = await take_in(corner, tmp_path / "november.xlsx")
    assert (result.receipts, [row.line for row in result.named]) == (2, [5])
    assert corner.stamps(ANNA) == 1


async def test_columns_are_named_for_the_file_alone(corner: Installation, tmp_path: Path) -> None:
    file = written(tmp_path, "other.csv", f"Nr;Datum;Summe;Tel\n7;20.11.2026 09:00;12,50;{ANNA}\n")
    columns = {"receipt_id": "Nr", "closed_at": "Datum", "paid": "Summe", "phone": "Tel"}
    settings = {"dates": "pattern", "date_pattern": "%d.%m.%Y %H:%M", "decimal_sign": "comma"}
    known = set(corner.host.plugins.classes["webhook"].settings_model.model_fields)
    result = await take_in(
        corner, file, columns=columns, settings={name: value for name, value in settings.items() if name in known}
    )
    assert (result.receipts, result.unread) == (1, 0), result.named
    with pytest.raises(Refusal, match="there is no value nonsense"):
        await take_in(corner, file, columns={"nonsense": "Nr"})


async def test_bad_rows_cost_themselves_only(corner: Installation, tmp_path: Path) -> None:
    rows = [
        ROWS[0],
        f"1002,2026-11-20 08:20:00,thirty,{BORYS}",
        "1003,2026-11-20 08:25:00,12.00,,surplus",
        '1004,2026-11-20 08:25:00,"12.00,',
        "x" * 300_000,
        ROWS[1],
    ]
    result = await take_in(corner, written(tmp_path, "bad.csv", "\n".join([HEADER, *rows])))
    assert (corner.stamps(ANNA), corner.stamps(BORYS)) == (1, 1)
    assert result.receipts == 2
    assert [row.line for row in result.named] == [3, 4, 5, 6]


async def test_a_file_never_undoes_what_came_since(corner: Installation, tmp_path: Path) -> None:
    body = {"Receipt number": "1001", "Closed": "2026-11-20T08:15:30Z", "Total": "45.00", "Phone": ANNA}
    file = written(tmp_path, "november.jsonl", json.dumps(body))
    await take_in(corner, file)
    refunded = written(tmp_path, "refunds.jsonl", json.dumps({**body, "Back": "45.00"}))
    await take_in(corner, refunded, columns={"refunded": "Back", "receipt_id": "Receipt number"})
    assert corner.stamps(ANNA) == 0
    result = await take_in(corner, file)
    assert (result.changed, corner.stamps(ANNA)) == (0, 0)


async def test_a_till_that_is_read_by_itself_needs_no_file(installation: Installation, tmp_path: Path) -> None:
    await installation.connect()
    with pytest.raises(Refusal, match="connectors backfill"):
        await take_in(installation, written(tmp_path, "x.csv", HEADER))


@pytest.mark.parametrize("content", ["", "PK\x03\x04 but no workbook"])
async def test_what_is_no_file_of_receipts_is_refused_in_a_sentence(
    corner: Installation, tmp_path: Path, content: str
) -> None:
    with pytest.raises(Refusal):
        await take_in(corner, written(tmp_path, "odd.bin", content))
    with pytest.raises(Refusal, match="cannot be read"):
        await take_in(corner, tmp_path / "absent.csv")
