"""Traces by OpenTelemetry, for an operator who names a collector: every step of one receipt stands in one trace.

Owns where spans go, which trace a step belongs to, and that no span holds a secret or a person. Without a collector
nothing of OpenTelemetry is loaded, and a step costs a comparison.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from threading import Thread
from typing import TYPE_CHECKING, Final

from connector_sdk.redaction import printable, redact
from connectors.log_lines import subject

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

log = logging.getLogger(__name__)

_SERVICE: Final = "7stamp-connectors"
_STOPS_WITHIN: Final = 4.0
"""Seconds for what is left to go out: a collector that is away does not keep a host from stopping."""


class TracingUnavailable(Exception):
    """A collector is named, and what speaks to it is not installed."""


class Step:
    """What a step says of itself once it is known; nothing where nobody listens."""

    def __init__(self, span: Span | None) -> None:
        self._span = span

    def say(self, **facts: str | float) -> None:
        """Add facts to the step: words of ours and numbers, nothing of a person."""
        if self._span is not None:
            self._span.set_attributes(_masked(facts))


_NOTHING: Final = Step(None)


class _Tracing:
    """The tracing of this process: off until a command begins it."""

    provider: TracerProvider | None = None
    tracer: Tracer | None = None


def is_on() -> bool:
    """Say whether somebody listens: what would be prepared for a step only need not be, otherwise."""
    return _Tracing.tracer is not None


def begin(collector: str) -> None:
    """Send the steps of this process to a collector, by OTLP over HTTP. Raises `TracingUnavailable`.

    `collector` is the address of its traces, such as `http://localhost:4318/v1/traces`. What OpenTelemetry reads from
    the environment, such as `OTEL_EXPORTER_OTLP_HEADERS` and `OTEL_TRACES_SAMPLER`, counts.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
    except ImportError:
        raise TracingUnavailable(
            "CONNECTORS_TRACES_URL is set: install what sends traces, with pip install '7stamp-connectors[tracing]'"
        ) from None

    class ReceiptIds(RandomIdGenerator):
        """Gives a receipt's steps one trace id, in whichever process they happen and however late."""

        def generate_trace_id(self) -> int:
            return _trace_of_subject() or super().generate_trace_id()

    provider = TracerProvider(resource=Resource.create({"service.name": _SERVICE}), id_generator=ReceiptIds())
    # a collector that does not answer costs no more than its queue: what does not fit is dropped
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=collector)))
    _Tracing.provider, _Tracing.tracer = provider, provider.get_tracer(_SERVICE)


def end() -> None:
    """Send what is left, and stop; it waits for the collector for some seconds at most."""
    provider = _Tracing.provider
    _Tracing.provider = _Tracing.tracer = None
    if provider is not None:
        stopping = Thread(target=provider.shutdown, name="traces", daemon=True)
        stopping.start()
        stopping.join(_STOPS_WITHIN)


@contextmanager
def step(name: str, **facts: str | float) -> Iterator[Step]:
    """Time a step of what this block is about (`log_lines.about`), with facts as `Step.say` takes them.

    A step of a receipt belongs to the receipt's own trace, and names the step that it happened in as a link: a poll
    brings many receipts, and what becomes of each is asked for by itself.
    """
    tracer = _Tracing.tracer
    if tracer is None:
        yield _NOTHING
        return
    with ExitStack() as stack:
        try:
            span = stack.enter_context(_started(tracer, name, facts))
        except Exception:
            # what a trace cannot tell must keep no receipt from its stamps
            log.exception("a step could not be traced")
            yield _NOTHING
            return
        try:
            yield Step(span)
        except BaseException as error:
            _mark_failed(span, error)
            raise


def _started(tracer: Tracer, name: str, facts: dict[str, str | float]) -> AbstractContextManager[Span]:
    """Start a span in the trace of what the block is about."""
    from opentelemetry import trace
    from opentelemetry.context import Context

    outer, own = trace.get_current_span().get_span_context(), _trace_of_subject()
    is_part = not outer.is_valid or own is None or outer.trace_id == own
    return tracer.start_as_current_span(
        name,
        context=None if is_part else Context(),
        links=[] if is_part else [trace.Link(outer)],
        attributes=_masked({**(subject() or {}), **facts}),
        record_exception=False,
        set_status_on_exception=False,
    )


def _mark_failed(span: Span, error: BaseException) -> None:
    """Note an error's kind and no more: its text may hold what a till or a person wrote."""
    from opentelemetry.trace import Status, StatusCode

    span.set_status(Status(StatusCode.ERROR, type(error).__name__))


def _trace_of_subject() -> int | None:
    """Return the trace id of the receipt that this is about; `None` where it is about none."""
    sale = (subject() or {}).get("sale")
    return int.from_bytes(hashlib.sha256(sale.encode("utf-8", "replace")).digest()[:16]) if sale is not None else None


def _masked(facts: dict[str, str | float]) -> dict[str, str | float]:
    return {name: printable(redact(fact)) if isinstance(fact, str) else fact for name, fact in facts.items()}
