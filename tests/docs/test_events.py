"""The published schema is that of the code, and every example fits it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
from pydantic import TypeAdapter

from connectors.relay import bodies
from connectors.services.subscriptions import KNOWN_EVENTS

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
SCHEMA = json.loads((REFERENCE / "events.schema.json").read_text(encoding="utf-8"))


def test_the_published_schema_is_the_codes() -> None:
    assert TypeAdapter(bodies.Body).json_schema() == SCHEMA, "write TypeAdapter(Body).json_schema() there"


def test_every_example_fits_the_schema() -> None:
    for event in KNOWN_EVENTS:
        jsonschema.Draft202012Validator(SCHEMA).validate(bodies.example(event, "b_1"))


def test_the_page_names_every_event_and_its_example_fits() -> None:
    page = (REFERENCE / "events.md").read_text(encoding="utf-8")
    assert [event for event in KNOWN_EVENTS if f"`{event}`" not in page] == []
    (example,) = re.findall(r"```json\n(.+?)```", page, re.DOTALL)
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(example))
