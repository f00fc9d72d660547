"""A collector of traces on the loopback, as an operator of OpenTelemetry runs one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send


@dataclass
class Collector:
    """Takes what is exported, as an OTLP collector does."""

    spans: list[Span] = field(default_factory=list)
    bodies: bytes = b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        body = await Request(scope, receive).body()
        self.bodies += body
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.spans += [span for scoped in resource.scope_spans for span in scoped.spans]
        await Response(b"", media_type="application/x-protobuf")(scope, receive, send)

    def of_receipt(self, connection: str, receipt: int | str) -> list[Span]:
        """The spans in the trace of a receipt, as the docs say how to find it."""
        wanted = hashlib.sha256(f"{connection}/{receipt}".encode()).digest()[:16]
        return sorted(
            (span for span in self.spans if span.trace_id == wanted), key=lambda span: span.start_time_unix_nano
        )
