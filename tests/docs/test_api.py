"""The API's stored description is that of the code, every body in it has an example, and the page has every call."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema

from connectors.web.api.application import openapi_description

DOCS = Path(__file__).parents[2] / "docs"
STORED: dict[str, Any] = json.loads((DOCS / "reference" / "openapi.json").read_text(encoding="utf-8"))
HOW = "write connectors.web.api.application.openapi_description() there, as JSON"


def test_the_stored_description_is_the_codes() -> None:
    assert openapi_description() == STORED, HOW
    assert STORED["openapi"].startswith("3.1")


def test_every_body_of_a_request_has_an_example_that_fits() -> None:
    for path, operations in STORED["paths"].items():
        for method, operation in operations.items():
            if "requestBody" not in operation:
                continue
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            model = STORED["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
            assert model.get("examples"), (method, path)
            for example in model["examples"]:
                jsonschema.Draft202012Validator({**model, "components": STORED["components"]}).validate(example)


def test_the_page_has_a_call_of_each() -> None:
    page = (DOCS / "api.md").read_text(encoding="utf-8")
    called = re.findall(r"\$API(/[^\s\"'?]+)", page)
    for path in STORED["paths"]:
        pattern = re.sub(r"\{[^}]+\}", "[^/]+", path)
        assert any(re.fullmatch(pattern, one) for one in called), path
