"""The pages of a file import: a file is looked at, its columns are chosen, tried, and its receipts taken in once."""

from __future__ import annotations

import asyncio
import html
import io
import re
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openpyxl import Workbook

from connectors.domain.clock import SECOND
from connectors.store.engine import Store
from connectors.store.schema import console_item_table
from connectors.web.console.import_progress import Imports
from connectors.web.console.uploads import MOST_BYTES, MOST_UNPACKED_BYTES, Upload
from tests.installation import ANNA, BORYS, Installation
from tests.till_of_files import till_of_files
from tests.web.browser import Browser, open_browsers
from tests.web.test_voucher_at_a_till import words

FILE = f"""Receipt no;Closed;Total;Guest's phone
1001;2026-11-20 08:15:30;45,00;{ANNA}
1002;2026-11-20 08:20:00;30,50;{BORYS}
1003;2026-11-20 08:25:00;12,00;
Total;;87,50;
"""
COLUMNS = {
    "column.receipt_id": "Receipt no",
    "column.closed_at": "Closed",
    "column.paid": "Total",
    "column.phone": "Guest's phone",
    "set.decimal_sign": "comma",
}


@pytest.fixture
async def corner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Installation]:
    async with till_of_files(tmp_path, monkeypatch) as installation:
        yield installation


@pytest.fixture
async def browser(corner: Installation) -> AsyncIterator[Browser]:
    async with open_browsers(corner) as browsers:
        yield await browsers.new().sign_in()


def base(corner: Installation) -> str:
    return f"/connections/{corner.connection.id}/import"


async def upload(
    corner: Installation, browser: Browser, content: bytes | str, name: str = "a.csv", **values: str
) -> httpx.Response:
    """Choose a file, as the form sends it."""
    proof = await browser.csrf_token()
    body = content.encode() if isinstance(content, str) else content
    return await browser.client.post(
        f"{base(corner)}/file", data={"proof": proof, **values}, files={"file": (name, body, "text/csv")}
    )


async def uploaded(corner: Installation, browser: Browser, content: bytes | str, name: str = "a.csv") -> str:
    """Upload a file, and return the name that it is kept under."""
    answer = await upload(corner, browser, content, name)
    assert answer.status_code == 303, words(answer)
    return answer.headers["location"].partition("file=")[2]


async def finished(corner: Installation, browser: Browser) -> str:
    """Wait until the import has ended, and return the page."""
    for _ in range(200):
        page = await browser.get(base(corner))
        if "<progress" not in page.text:
            return words(page)
        await asyncio.sleep(0.05)
    raise AssertionError("the import does not end")


async def test_a_file_is_looked_at_tried_and_taken_in(corner: Installation, browser: Browser) -> None:
    name = await uploaded(corner, browser, FILE)
    page = await browser.get(f"{base(corner)}?file={name}")
    chosen = re.findall(r'<select id="column\.(\w+)".*?</select>', page.text, re.DOTALL)
    assert {"receipt_id", "closed_at", "paid", "phone"} <= set(chosen)
    for column in ("Receipt no", "Closed", "Total", "Guest's phone"):
        assert f'<option value="{html.escape(column).replace("&#x27;", "&#39;")}" selected>' in page.text, column
    assert "1002" in page.text
    tried = await browser.post(f"{base(corner)}/try", file=name, **COLUMNS)
    shown = words(tried)
    assert "3 receipts in the file" in shown
    assert "2 have a customer: 2 stamps, less what was given already. Nothing has been sent." in shown
    assert "1 row is no receipt Line 5" in shown
    assert corner.sevenstamp.state.cards == {}
    answer = await browser.post(f"{base(corner)}/run", file=name, **COLUMNS)
    assert answer.status_code == 303
    done = await finished(corner, browser)
    assert "3 receipts were read , 3 of them new or changed" in done
    assert "Line 5" in done
    assert (corner.stamps(ANNA), corner.stamps(BORYS)) == (1, 1)


async def test_the_same_file_again_changes_nothing(corner: Installation, browser: Browser) -> None:
    for changed in (3, 0):
        name = await uploaded(corner, browser, FILE)
        await browser.post(f"{base(corner)}/run", file=name, **COLUMNS)
        assert f"3 receipts were read , {changed} of them new or changed" in await finished(corner, browser)
    assert (corner.stamps(ANNA), corner.stamps(BORYS)) == (1, 1)


async def test_two_presses_of_the_button_are_one_import(corner: Installation, browser: Browser) -> None:
    name = await uploaded(corner, browser, FILE)
    answers = await asyncio.gather(*(browser.post(f"{base(corner)}/run", file=name, **COLUMNS) for _ in range(2)))
    assert sorted(answer.status_code for answer in answers) == [303, 422]
    await finished(corner, browser)
    assert corner.stamps(ANNA) == 1


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        (b"", "a.csv", "Choose a file."),
        ("Kava;Гість".encode("cp1251"), "a.csv", "encoding cp1251: Kava;Гість"),
        (b"PK\x03\x04 no workbook", "a.xlsx", "is no workbook that can be read"),
    ],
)
async def test_a_file_that_cannot_be_read_says_why_beside_the_field(
    corner: Installation, browser: Browser, content: bytes, name: str, said: str
) -> None:
    answer = await upload(corner, browser, content, name)
    assert (answer.status_code, said in words(answer)) == (422, True), words(answer)


async def test_another_encoding_is_chosen_in_the_form(corner: Installation, browser: Browser) -> None:
    file = FILE.replace("Guest's phone", "Телефон").encode("cp1251")
    answer = await upload(corner, browser, file, encoding="cp1251")
    assert answer.status_code == 303
    page = await browser.get(answer.headers["location"])
    assert '<option value="Телефон" selected>' in page.text
    name = re.search(r'name="file" value="([^"]+)"', page.text)
    assert name
    columns = {**COLUMNS, "column.phone": "Телефон"}
    await browser.post(f"{base(corner)}/run", file=name[1], **columns)
    assert "3 receipts were read" in await finished(corner, browser)


async def test_columns_that_make_no_receipt_are_told_and_nothing_is_stored(
    corner: Installation, browser: Browser
) -> None:
    name = await uploaded(corner, browser, FILE)
    answer = await browser.post(f"{base(corner)}/try", file=name, **{**COLUMNS, "column.nothing": "Total"})
    assert (answer.status_code, "There is no value nothing to read" in words(answer)) == (422, True)
    answer = await browser.post(f"{base(corner)}/try", file=name, **{**COLUMNS, "column.paid": "Closed"})
    assert "0 receipts in the file" in words(answer)
    assert "4 rows are no receipts" in words(answer)
    assert f"{base(corner)}/run" not in answer.text


async def test_a_file_that_is_too_large_or_no_form_is_refused(corner: Installation, browser: Browser) -> None:
    answer = await upload(corner, browser, b"a" * (MOST_BYTES + 128 * 1024))
    assert answer.status_code == 413
    kept: Any = await browser.client.post(
        f"{base(corner)}/file",
        content=b"--x\r\nnonsense",
        headers={"content-type": "multipart/form-data; boundary=x", "content-length": "13"},
    )
    assert kept.status_code in (403, 413)
    forged = await browser.client.post(
        f"{base(corner)}/file", data={"proof": "forged"}, files={"file": ("a.csv", FILE.encode(), "text/csv")}
    )
    assert forged.status_code == 403


async def test_a_workbook_that_fills_the_memory_when_it_is_unpacked_is_refused(
    corner: Installation, browser: Browser
) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", b"<c/>" * (MOST_UNPACKED_BYTES // 4 + 1))
    answer = await upload(corner, browser, packed.getvalue(), "a.xlsx")
    assert (answer.status_code, "too large for a workbook" in words(answer)) == (422, True), words(answer)


async def test_a_till_that_is_asked_has_no_such_page(installation: Installation) -> None:
    await installation.connect()
    async with open_browsers(installation) as browsers:
        mine = await browsers.new().sign_in()
        assert (await mine.get(f"/connections/{installation.connection.id}/import")).status_code == 404


async def test_a_host_that_ends_does_not_wait_for_an_import_that_goes_on(
    corner: Installation, browser: Browser
) -> None:
    store = Store(str(corner.settings.database_url), corner.host.store.vault)
    await store.open()
    _, progress = await Imports(store).begin(corner.connection, await uploaded(corner, browser, FILE))
    goes_on = asyncio.Event()

    async def take_in() -> None:
        async with Imports(store).telling(corner.connection, progress):
            goes_on.set()
            await asyncio.Event().wait()

    importing = asyncio.create_task(take_in())
    await goes_on.wait()
    await store.close()
    importing.cancel()
    async with asyncio.timeout(10):
        await asyncio.gather(importing, return_exceptions=True)


async def test_an_import_whose_host_was_killed_says_so_and_can_be_begun_again(
    corner: Installation, browser: Browser
) -> None:
    name = await uploaded(corner, browser, FILE)
    await Imports(corner.host.store).begin(corner.connection, name)
    assert "<progress" in (await browser.get(base(corner))).text
    again = await uploaded(corner, browser, FILE)
    answer = await browser.post(f"{base(corner)}/run", file=again, **COLUMNS)
    assert (answer.status_code, "Another file is being taken in" in words(answer)) == (422, True)
    silent = console_item_table.update().where(console_item_table.c.kind == "import")
    earlier = console_item_table.c.created_at - 31 * SECOND
    await corner.host.store.write(lambda tx: tx.run(silent.values(created_at=earlier)))
    assert "The import stopped. Start it again: what was taken in stays." in words(await browser.get(base(corner)))
    await browser.post(f"{base(corner)}/run", file=again, **COLUMNS)
    assert "3 receipts were read" in await finished(corner, browser)


def test_what_is_uploaded_is_shown_in_no_log() -> None:
    assert "x" * 8 not in repr(Upload("a", "1.csv", b"x" * 8))


SHEET = '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>{rows}</sheetData></worksheet>'


def workbook(rows: str) -> bytes:
    """A workbook whose sheet was written by hand."""
    packed = io.BytesIO()
    book = Workbook()
    book.save(packed)
    with zipfile.ZipFile(packed) as source:
        parts = {entry.filename: source.read(entry) for entry in source.infolist()}
    parts["xl/worksheets/sheet1.xml"] = SHEET.format(rows=rows).encode()
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return written.getvalue()


def row(number: int, *cells: str) -> str:
    texts = "".join(f'<c t="inlineStr"><is><t>{cell}</t></is></c>' for cell in cells)
    return f'<row r="{number}">{texts}</row>'


async def test_a_row_that_lies_far_below_the_others_keeps_nobody_waiting(
    corner: Installation, browser: Browser
) -> None:
    rows = row(1, *FILE.splitlines()[0].split(";")) + row(2, "1001", "2026-11-20 08:15:30", "45,00", ANNA)
    name = await uploaded(corner, browser, workbook(rows + row(2_000_000_000, "1002")), "a.xlsx")
    assert "1001" in (await browser.get(f"{base(corner)}?file={name}")).text
    tried = words(await browser.post(f"{base(corner)}/try", file=name, **COLUMNS))
    assert "1 receipt in the file" in tried


async def test_a_row_of_more_than_any_row_has_is_named(corner: Installation, browser: Browser) -> None:
    head = row(1, *FILE.splitlines()[0].split(";"))
    name = await uploaded(corner, browser, workbook(head + row(2, "1001", "x" * 300_000)), "a.xlsx")
    tried = words(await browser.post(f"{base(corner)}/try", file=name, **COLUMNS))
    assert "Line 2 : is longer than 262144 characters" in tried.replace("2:", "2 :")
    wide = row(1, *(["a"] * 2_500))
    name = await uploaded(corner, browser, workbook(wide), "a.xlsx")
    answer = await browser.post(f"{base(corner)}/try", file=name, **COLUMNS)
    assert (answer.status_code, "has too many columns" in words(answer)) == (422, True)


async def test_only_encodings_that_texts_are_in_can_be_chosen(corner: Installation, browser: Browser) -> None:
    for encoding in ("punycode", "zlib", "idna", "unicode_escape"):
        answer = await upload(corner, browser, FILE, encoding=encoding)
        assert (answer.status_code, "is no encoding" in words(answer)) == (422, True)


async def test_what_a_sender_says_of_a_forms_encoding_is_not_listened_to(
    corner: Installation, browser: Browser
) -> None:
    proof = await browser.csrf_token()
    part = 'content-disposition: form-data; name="{}"'
    file = part.format("file") + '; filename="a.csv"'
    body = f"--x\r\n{part.format('proof')}\r\n\r\n{proof}\r\n--x\r\n{file}\r\n\r\n{FILE}\r\n--x--\r\n"
    for kind, status in (("multipart/form-data; boundary=x; charset=punycode", 303), ("multipart/form-data", 413)):
        answer = await browser.client.post(
            f"{base(corner)}/file", content=body.encode(), headers={"content-type": kind}
        )
        assert answer.status_code == status
    # and no other form is read so at all
    answer = await browser.client.post(
        "/sign-in", content=body.encode(), headers={"content-type": "multipart/form-data; boundary=x"}
    )
    assert answer.status_code == 403


async def test_one_file_of_a_business_is_taken_in_at_a_time(corner: Installation, browser: Browser) -> None:
    first = await uploaded(corner, browser, FILE)
    hindered = asyncio.Event()
    ingest = corner.host.ingestor.ingest

    async def wait(snapshots: Any) -> Any:
        await hindered.wait()
        return await ingest(snapshots)

    corner.host.ingestor.ingest = wait  # type: ignore[method-assign]
    assert (await browser.post(f"{base(corner)}/run", file=first, **COLUMNS)).status_code == 303
    second = await uploaded(corner, browser, FILE)
    answer = await browser.post(f"{base(corner)}/run", file=second, **COLUMNS)
    assert (answer.status_code, "Another file is being taken in" in words(answer)) == (422, True)
    hindered.set()
    assert "3 receipts were read" in await finished(corner, browser)
