"""Holds exchanges against the OpenAPI file: a transport that checks every request and answer that passes."""

from __future__ import annotations

import json
import re
from importlib import resources
from typing import Any

import httpx
import jsonschema
import yaml

SPEC: dict[str, Any] = yaml.safe_load((resources.files("connectors.sevenstamp") / "openapi.yaml").read_text())


class Contract(httpx.AsyncBaseTransport):
    """Passes requests on, checking both ways; `used` names the operations and statuses seen."""

    def __init__(self, inner: httpx.AsyncBaseTransport, spec: dict[str, Any] = SPEC) -> None:
        self.inner = inner
        self.spec = spec
        self.used: set[tuple[str, int]] = set()

    def _resolved(self, node: dict[str, Any]) -> dict[str, Any]:
        if "$ref" not in node:
            return node
        target: Any = self.spec
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        return dict(target)

    def operation_for(self, method: str, path: str) -> tuple[dict[str, Any], str]:
        """The operation a request is meant for; the most literal path wins."""
        paths = self.spec["paths"]
        for template in sorted(paths, key=lambda template: template.count("{")):
            pattern = re.sub(r"\{[^}]+\}", "[^/]+", template)
            if re.fullmatch(pattern, path) and method.lower() in paths[template]:
                operation = paths[template][method.lower()]
                return operation, operation["operationId"]
        raise AssertionError(f"{method} {path} is not in the contract")

    def validate(self, value: Any, schema: dict[str, Any], what: str) -> None:
        base = {"$defs": {}, "components": self.spec["components"]}
        try:
            jsonschema.Draft202012Validator({**base, **schema}).validate(value)
        except jsonschema.ValidationError as error:
            raise AssertionError(f"{what}: {error.json_path}: {error.message}") from None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path.split(b"?")[0].decode()
        operation, name = self.operation_for(request.method, path)
        self._check_request(request, operation, name)
        response = await self.inner.handle_async_request(request)
        body = await response.aread()
        self._check_response(response.status_code, response.headers, body, operation, name)
        self.used.add((name, response.status_code))
        return httpx.Response(response.status_code, headers=response.headers, content=body)

    def _check_request(self, request: httpx.Request, operation: dict[str, Any], name: str) -> None:
        assert request.headers["authorization"].startswith("Bearer "), name
        parameters = [self._resolved(parameter) for parameter in operation.get("parameters", [])]
        known = {parameter["name"] for parameter in parameters if parameter["in"] == "query"}
        assert set(request.url.params) <= known, f"{name}: unknown query {set(request.url.params) - known}"
        if "requestBody" in operation:
            assert request.headers["content-type"] == "application/json"
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            self.validate(json.loads(request.content), schema, f"{name} request")
        else:
            assert not request.content, f"{name}: takes no body"

    def _check_response(
        self, status: int, headers: httpx.Headers, body: bytes, operation: dict[str, Any], name: str
    ) -> None:
        assert str(status) in operation["responses"], f"{name}: status {status} is not in the contract"
        answer = self._resolved(operation["responses"][str(status)])
        ((kind, media),) = answer["content"].items()
        assert headers["content-type"] == kind, name
        for header, facts in answer.get("headers", {}).items():
            assert not facts.get("required") or header in headers, f"{name}: {header} is missing"
        self.validate(json.loads(body), media["schema"], f"{name} {status}")
