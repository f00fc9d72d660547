"""One trial of a connector: a till or its stub is read once, and each sale's fields are followed to the wire.

Owns the reading and the recording of what the till answered; what was typed is `try_command`'s, and how a result is
shown `trial_display`'s.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from pydantic import BaseModel, ValidationError

from connector_sdk.connector import Connector, TillAccount
from connector_sdk.errors import Forged, NotConfigured, NotSupported
from connector_sdk.hooks import HookRequest
from connector_sdk.http import production_transport
from connector_sdk.money import Money
from connector_sdk.sale import Customer, Sale
from connector_sdk.testing import CannotShow, Sold, TillStub
from connector_sdk.testing.disguise import Undisguisable
from connector_sdk.testing.field_sources import Document, Trace, trace
from connector_sdk.testing.recording import Exchange, Recorder, Replay, Seen, make_recording, read_once, write_recording
from connector_sdk.till_client import unpaced
from connectors.cli.output import say
from connectors.cli.targets import ConnectorClass, connector_at, stub_of
from connectors.services import Refusal, require_known_fields
from connectors.sync.field_errors import describe_field_errors
from connectors.sync.tills import app_settings

_REREAD_SECONDS = 2.0
"""The most that one reading of a changed answer may take: a value may send a connector into an endless loop."""

Till = Connector[Any]
"""A connector's instance, over whatever settings it has."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be tried, as it was typed: with a `hook` its body is read, without one the till is polled."""

    target: str
    values: Mapping[str, str]
    since: datetime
    hook: HookRequest | None
    stub: bool
    most: int


@dataclass(frozen=True, slots=True)
class _Opening:
    """What a connector needs to be built: settings of the connection, and those of the operator (`app`)."""

    connector_class: ConnectorClass
    settings: BaseModel
    app: Any  # the connector's own settings model: the SDK leaves its type to it

    def till(self, transport: httpx.AsyncBaseTransport, account: TillAccount | None = None) -> Till:
        return self.connector_class(self.settings, app=self.app, account=account, transport=transport)


@dataclass(frozen=True, slots=True)
class Reading:
    """What came of a trial; `forged` says why a hook's proof does not hold, and is empty where it does."""

    connector_class: ConnectorClass
    settings: BaseModel
    account: TillAccount
    seen: Seen
    traced: Trace
    exchanges: tuple[Exchange, ...]
    customers: Mapping[str, Customer]
    """Who the till's own customer ids are, as far as it was asked."""
    forged: str = ""


async def read_till(request: Request, known: Sequence[Exchange]) -> Reading:
    """Read once; what is `known` already is not asked again. Raises `Refusal`, `ConnectorError`."""
    connector_class = connector_at(request.target)
    stub = stub_of(connector_class)() if request.stub else None
    opening = _opening(connector_class, request, stub)
    transport = Recorder(Replay(known, stub.transport() if stub is not None else production_transport()))
    try:
        account = await _check_account(opening, transport)
        # only what is asked from here on is about sales, and only that is followed to its fields
        first = len(transport.exchanges)
        till = opening.till(transport, account)
        hooks = _stub_morning(stub, connector_class, request.since) if stub is not None else [request.hook]
        forged, seen = _forgery(till, hooks), await _read_all(till, request.since, hooks)
        last = len(transport.exchanges)
        customers = await _customers(till, seen.sales[: request.most])
        await till.aclose()
    finally:
        await transport.aclose()
    exchanges = tuple(transport.exchanges)
    answers = _Answers([hook for hook in hooks if hook is not None], exchanges[first:last])
    traced = await _trace_fields(opening, account, request.since, answers, seen)
    return Reading(connector_class, opening.settings, account, seen, traced, exchanges, customers, forged)


def _opening(connector_class: ConnectorClass, request: Request, stub: TillStub | None) -> _Opening:
    """Validate the settings, the stub's own where one is tried. Raises `Refusal`."""
    values = stub.settings() if stub is not None else request.values
    require_known_fields(connector_class, values)
    try:
        settings = connector_class.settings_model.model_validate(dict(values))
    except ValidationError as error:
        raise Refusal(
            f"the settings do not fit: {describe_field_errors(error)}; say them with --set FIELD=VALUE"
        ) from None
    return _Opening(connector_class, settings, stub.app() if stub is not None else app_settings(connector_class))


async def _check_account(opening: _Opening, transport: httpx.AsyncBaseTransport) -> TillAccount:
    till = opening.till(transport)
    try:
        return await till.check()
    finally:
        await till.aclose()


async def _read_all(till: Till, since: datetime, hooks: Sequence[HookRequest | None]) -> Seen:
    """Join what a poll (`None`) or some hooks give. Raises `Refusal` where the till can do neither."""
    joined = Seen()
    for hook in hooks:
        if hook is None and not till.can("poll"):
            raise Refusal(
                f"{till.info.title} cannot be polled: it sends. Give what it sent with --hook FILE, or --stub"
            )
        if hook is not None and not till.can("receive"):
            raise Refusal(f"{till.info.title} takes no hooks: leave out --hook")
        seen = await read_once(till, since, hook)
        joined = Seen((*joined.items, *seen.items), (*joined.hints, *seen.hints), seen.ignored or joined.ignored)
    return joined


async def _customers(till: Till, sales: Sequence[Sale]) -> dict[str, Customer]:
    """Ask who the till's own customer ids are: a receipt may name nothing else."""
    if not till.can("customer"):
        return {}
    ids = {sale.customer.till_id for sale in sales if sale.customer and sale.customer.till_id}
    customers = {till_id: await till.customer(till_id) for till_id in sorted(ids)}
    return {till_id: customer for till_id, customer in customers.items() if customer is not None}


def _forgery(till: Till, hooks: Sequence[HookRequest | None]) -> str:
    """Say why a hook's proof does not hold; empty where all do."""
    for hook in hooks:
        if hook is None:
            continue
        try:
            till.prove(hook)
        except (Forged, NotConfigured, NotSupported) as error:
            return str(error)
    return ""


def _stub_morning(stub: TillStub, connector_class: ConnectorClass, since: datetime) -> list[HookRequest | None]:
    """Sell a little at a stub; return the hooks about it where the connector has nothing to poll."""
    now = datetime.now(UTC).replace(microsecond=0)
    step = max(now - since, timedelta(minutes=10)) / 10

    def money(text: str) -> Money:
        return Money.from_decimal(text, stub.currency)

    customer = stub.customers[0] if stub.customers else None
    receipts = [
        stub.sell(Sold(money("12.50"), now - 4 * step, customer, money("1.00"))),
        stub.sell(Sold(money("7.00"), now - 3 * step)),
        stub.sell(Sold(money("3.20"), now - 2 * step, redeem_code="FREECOFFEE")),
    ]
    with suppress(CannotShow):
        stub.refund(receipts[1], money("2.00"))
    with suppress(CannotShow):
        stub.spoil(receipts[2])
    if connector_class.can("poll"):
        return [None]
    return [stub.hook(receipt) for receipt in receipts]


# --- where fields come from -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Answers:
    """All that sales were read from: hooks that arrived, and what the till answered."""

    hooks: Sequence[HookRequest]
    exchanges: Sequence[Exchange]

    def bodies(self) -> list[bytes]:
        return [*(hook.body for hook in self.hooks), *(exchange.body for exchange in self.exchanges)]

    def documents(self) -> list[Document]:
        """Parse every body; each is named by its place among the hooks or by its endpoint."""
        hooks = [("hook", str(place)) for place in range(len(self.hooks))]
        endpoints = [exchange.endpoint for exchange in self.exchanges]
        names = [*hooks, *endpoints]
        return [Document(*pair) for pair in zip(names, map(_parsed, self.bodies()), strict=True)]

    def with_bodies(self, documents: Sequence[Document]) -> _Answers:
        """Return the same answers with changed documents; a body that is no JSON stays as it is."""
        bodies = [
            body if document is None else json.dumps(document).encode()
            for body, (_, document) in zip(self.bodies(), documents, strict=True)
        ]
        count = len(self.hooks)
        return _Answers(
            [replace(hook, body=body) for hook, body in zip(self.hooks, bodies[:count], strict=True)],
            [replace(each, body=body) for each, body in zip(self.exchanges, bodies[count:], strict=True)],
        )


async def _trace_fields(
    opening: _Opening, account: TillAccount, since: datetime, answers: _Answers, seen: Seen
) -> Trace:
    """Find where each field came from: what was answered is read again with one value changed at a time."""
    if not seen.sales:
        return Trace([{} for _ in seen.items], [[] for _ in seen.items])

    async def reread(documents: Sequence[Document]) -> Sequence[Any]:  # the SDK's tracing compares whatever is read
        changed = answers.with_bodies(documents)
        till = opening.till(Replay(changed.exchanges), account)
        try:
            async with asyncio.timeout(_REREAD_SECONDS):
                with unpaced():
                    return (await _read_all(till, since, changed.hooks or [None])).items
        finally:
            await till.aclose()

    return await trace(answers.documents(), reread)


def _parsed(body: bytes) -> Any:
    """Parse a body's JSON, whatever its shape; `None` where it has none."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


# --- recording ------------------------------------------------------------------------------------------------------


async def record(request: Request, reading: Reading, folder: Path, *, quiet: bool) -> None:
    """Keep what the till answered as a recording, with secrets and people disguised. Raises `Refusal`."""
    if request.stub:
        raise Refusal("a stub's answers prove nothing about the till: record a real account's, without --stub")
    try:
        recording = await make_recording(
            reading.connector_class,
            reading.settings,
            app_settings(reading.connector_class),
            reading.account,
            reading.exchanges,
            request.since,
            request.hook.body if request.hook is not None else None,
        )
    except Undisguisable as error:
        raise Refusal(f"nothing is recorded: {error}") from None
    try:
        file = write_recording(recording, folder)
    except OSError as error:
        raise Refusal(f"{folder} cannot be written: {error.strerror}") from None
    if quiet:
        return
    say(
        f"✓ {file}: {len(recording.exchanges)} answers, secrets and people disguised. "
        "Look it through before you commit it."
    )
    if len(recording.sales) != len(reading.seen.sales):
        say(f"  Disguised, only {len(recording.sales)} of {len(reading.seen.sales)} receipts can still be read.")
