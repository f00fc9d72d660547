"""Messages are worded when read; secrets and people are masked wherever text leaves."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from connector_sdk.messages import Catalogue, Message
from connector_sdk.redaction import RedactingFormatter, redact

WORDS = Catalogue(["connectors"])


def test_a_message_survives_being_kept() -> None:
    inner = Message("why.by_amount", {"kept": "27.50", "amount": "10.00 UAH", "stamps": 2})
    outer = Message("sale.earned", {"receipt": "7", "amount": "27.50 UAH", "count": 2, "card": "4821", "why": inner})
    assert WORDS.word(Message.restored(outer.stored())) == (
        "Receipt 7, 27.50 UAH, earned 2 stamps for the card ending 4821: 2 × 10.00 UAH in 27.50."
    )


def test_plurals_unknown_languages_and_unknown_messages() -> None:
    params = {"receipt": "7", "amount": "1", "count": 1, "card": "4821", "why": "x"}
    assert "earned 1 stamp for" in WORDS.word(Message("sale.earned", params), "tlh-XX")
    assert WORDS.word(Message("no.such", {"a": 1})) == "no.such"
    assert WORDS.word(Message("sale.earned", {"count": 1})).startswith("Receipt {receipt}")
    # a language comes from a request's header, and must not lead out of the folder of catalogues
    assert WORDS.word(Message("why.nobody"), "../../etc") == "nobody is attached"


def test_a_plugin_that_is_a_single_module_has_no_words_and_stands_in_nobodys_way() -> None:
    words = Catalogue(["connectors", "this"])
    assert words.word(Message("why.nobody")) == "nobody is attached"
    assert words.word(Message("no.such"), "ms") == "no.such"


def test_every_message_that_is_used_has_words() -> None:
    root = Path(__file__).parents[2] / "connectors"
    used = set()
    for file in root.rglob("*.py"):
        used |= set(re.findall(r'Message\(\s*"([a-z_.]+)"', file.read_text()))
        used |= set(re.findall(r'"(why\.[a-z_]+)"', file.read_text()))
    words = (root / "locale" / "en" / "messages.po").read_text()
    assert sorted(name for name in used if f'msgid "{name}"' not in words) == []


@pytest.mark.parametrize(
    "text",
    [
        "GET https://joinposter.com/api/dash.getTransactions?token=861052:02391570ff9af128e93c5a771055ba88&a=1",
        "Authorization: Bearer 7loc_sc_abcdef",
        "key 7loc_sc_abcdef-1 refused",
        "call +380501112233 or 380501112233",
        "GET /v1/cards?phone=%2B380501112233",
        "anna.secret+x@example.co.uk wrote",
        "POST /hooks/tills/webhook/aBcD_ef-123 200",
        "password=hunter2",
        "call +380501112233.",
        "phone:380501112233, {'phone': 380501112233}",
        "+380 50 111 22 33",
        "phone_380501112233",
        "861052%3A02391570ff9af128e93c5a771055ba88 and 861052:02391570FF9AF128E93C5A771055BA88",
        '{"access_token": "861052:02391570"}',
        "anna.secret%2Bx%40cafe.com",
        "postgresql://user:hunter2@db/x",
        "7loc_sc_ab.cd+abcdef",
    ],
)
def test_what_looks_like_a_secret_or_a_person_is_masked(text: str) -> None:
    masked = redact(text)
    for part in (
        "861052:",
        "02391570",
        "abcdef",
        "380501112233",
        "secret+x",
        "secret%2Bx",
        "111 22 33",
        "aBcD_ef",
        "hunter2",
    ):
        assert part not in masked


def test_plain_text_stays_as_it_is() -> None:
    text = "2026-11-23 15:04:05,123 INFO connectors: receipt 330660, 27.50 UAH, code poster:861052:330660:1"
    assert redact(text) == text


def test_the_formatter_covers_arguments_and_tracebacks() -> None:
    try:
        raise ValueError("token=861052:02391570ff9af128e93c5a771055ba88")
    except ValueError as error:
        info = (type(error), error, error.__traceback__)
    record = logging.LogRecord("x", logging.ERROR, "f", 1, "for %s", ("+380501112233",), info)
    line = RedactingFormatter("%(message)s").format(record)
    assert "02391570" not in line
    assert "380501112233" not in line
    assert "ValueError" in line
