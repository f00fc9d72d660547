"""One trial of a connector: a till or its stub is read once, and each sale's fields are followed to the wire.

Owns the reading and the recording of what the till answered; what was typed is `try_command`'s, and how a result is
shown `trial_display`'s.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from pydantic import BaseModel, JsonValue, ValidationError

from connector_sdk.authorisation import Credentials, Grant, OperatorSettings
from connector_sdk.connector import Connector, TillAccount
from connector_sdk.errors import Forged, NotConfigured, NotSupported
from connector_sdk.hooks import HookRequest
from connector_sdk.http import production_transport
from connector_sdk.money import Money
from connector_sdk.rate_limit import unpaced
from connector_sdk.sale import Customer, Sale, Unreadable
from connector_sdk.testing import CannotShow, Sold, TillStub
from connector_sdk.testing.disguise import Undisguisable
from connector_sdk.testing.field_sources import Document, Trace, trace
from connector_sdk.testing.recording import (
    Exchange,
    Recorder,
    Recording,
    Replay,
    Seen,
    make_recording,
    read_once,
    write_recording,
)
from connectors.cli.output import say
from connectors.cli.targets import connector_at, stub_of
from connectors.plugins import ConnectorClass
from connectors.services import Refusal, require_known_fields
from connectors.services.checks import require_access
from connectors.services.refusal import MissingToken
from connectors.sync.field_errors import describe_field_errors
from connectors.sync.operator_settings import app_settings

_REREAD_SECONDS = 2.0
"""The most that one reading of a changed answer may take: a value may send a connector into an endless loop."""

Till = Connector[BaseModel]
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
    app: OperatorSettings
    grant: Grant | None = None

    def till(self, transport: httpx.AsyncBaseTransport, account: TillAccount | None = None) -> Till:
        """Build the connector; without an `account` it can do no more than check which one it opens."""
        credentials = Credentials(self.grant) if self.grant is not None else None
        return self.connector_class(
            self.settings, app=self.app, account=account, credentials=credentials, transport=transport
        )


@dataclass(frozen=True, slots=True)
class _UntracedReading:
    """What was read of a till, before its fields are followed; `sales_from` and `sales_to` part the exchanges.

    The exchanges before are the check of the account, those behind ask who customers are.
    """

    account: TillAccount
    hooks: Sequence[HookRequest | None]
    forged: str
    seen: Seen
    customers: Mapping[str, Customer]
    exchanges: tuple[Exchange, ...]
    sales_from: int
    sales_to: int

    def answers(self) -> _Answers:
        """Return what sales were read from, and nothing else: only that is followed to its fields."""
        hooks = [hook for hook in self.hooks if hook is not None]
        return _Answers(hooks, self.exchanges[self.sales_from : self.sales_to])


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
    # recorded outside the replay: what came from an earlier reading belongs to this one's exchanges too
    transport = Recorder(Replay(known, stub.transport() if stub is not None else production_transport()))
    try:
        untraced = await _read_untraced(opening, request, stub, transport)
    finally:
        await transport.aclose()
    traced = await _trace_fields(opening, untraced.account, request.since, untraced.answers(), untraced.seen)
    return _reading(opening, untraced, traced)


def _reading(opening: _Opening, untraced: _UntracedReading, traced: Trace) -> Reading:
    return Reading(
        opening.connector_class,
        opening.settings,
        untraced.account,
        untraced.seen,
        traced,
        untraced.exchanges,
        untraced.customers,
        untraced.forged,
    )


async def _read_untraced(
    opening: _Opening, request: Request, stub: TillStub | None, transport: Recorder
) -> _UntracedReading:
    """Read the account, the sales, and who their customers are, in that order."""
    account = await _check_account(opening, transport)
    # only what is asked from here on is about sales
    first = len(transport.exchanges)
    till = opening.till(transport, account)
    hooks = _hooks(opening, request, stub)
    # a forged hook is read all the same: an author who has no secret yet wants to see the sale
    forged, seen = _forgery(till, hooks), await _read_all(till, request.since, hooks)
    last = len(transport.exchanges)
    customers = await _customers(till, seen.sales[: request.most])  # no more than are shown
    await till.aclose()
    return _UntracedReading(account, hooks, forged, seen, customers, tuple(transport.exchanges), first, last)


def _hooks(opening: _Opening, request: Request, stub: TillStub | None) -> Sequence[HookRequest | None]:
    """Return the hooks to read, `None` standing for a poll; a stub sells first, for it has no sales of its own."""
    if stub is None:
        return [request.hook]
    return _stub_morning(stub, opening.connector_class, request.since)


def _opening(connector_class: ConnectorClass, request: Request, stub: TillStub | None) -> _Opening:
    """Validate the settings, the stub's own where one is tried. Raises `Refusal`."""
    if stub is not None:
        grant = stub.grant()
        return _Opening(connector_class, _validated(connector_class, stub.settings(), grant), stub.app(), grant)
    return _Opening(connector_class, _validated(connector_class, request.values), app_settings(connector_class))


def _validated(connector_class: ConnectorClass, values: Mapping[str, object], grant: Grant | None = None) -> BaseModel:
    # a model ignores what it does not know: a mistyped name would look like a setting that is missing
    require_known_fields(connector_class, values)
    try:
        require_access(connector_class, values, Credentials(grant) if grant is not None else None)
        return connector_class.settings_model.model_validate(dict(values))
    except MissingToken as error:
        raise Refusal(
            f"the settings do not fit: {next(iter(error.fields))!r} is missing; say them with --set FIELD=VALUE"
        ) from None
    except ValidationError as error:
        raise Refusal(
            f"the settings do not fit: {describe_field_errors(error)}; say them with --set FIELD=VALUE"
        ) from None


async def _check_account(opening: _Opening, transport: httpx.AsyncBaseTransport) -> TillAccount:
    # a connector of its own, as in a host: one that is built without an account may not read sales
    till = opening.till(transport)
    try:
        return await till.check()
    finally:
        await till.aclose()


async def _read_all(till: Till, since: datetime, hooks: Sequence[HookRequest | None]) -> Seen:
    """Join what a poll (`None`) or some hooks give. Raises `Refusal` where the till can do neither."""
    joined = Seen()
    for hook in hooks:
        _require_able(till, hook)
        joined = _join(joined, await read_once(till, since, hook))
    return joined


def _join(before: Seen, seen: Seen) -> Seen:
    return Seen((*before.items, *seen.items), (*before.hints, *seen.hints), seen.ignored or before.ignored)


def _require_able(till: Till, hook: HookRequest | None) -> None:
    """Raise `Refusal` where a connector has no method for a poll (`None`) or a hook."""
    if hook is None and not till.can("poll"):
        raise Refusal(f"{till.info.title} cannot be polled: it sends. Give what it sent with --hook FILE, or --stub")
    if hook is not None and not till.can("receive"):
        raise Refusal(f"{till.info.title} takes no hooks: leave out --hook")


async def _customers(till: Till, sales: Sequence[Sale]) -> dict[str, Customer]:
    """Ask who the till's own customer ids are: a receipt may name nothing else."""
    if not till.can("customer"):
        return {}
    # sorted, so that reading again asks in the same order, and a recording of it stays the same
    customers = {till_id: await till.customer(till_id) for till_id in sorted(_customer_ids(sales))}
    return {till_id: customer for till_id, customer in customers.items() if customer is not None}


def _customer_ids(sales: Sequence[Sale]) -> set[str]:
    return {sale.customer.till_id for sale in sales if sale.customer and sale.customer.till_id}


def _forgery(till: Till, hooks: Sequence[HookRequest | None]) -> str:
    """Say why a hook's proof does not hold; empty where all do."""
    for hook in hooks:
        if hook is None:  # a poll's answers come from the till itself
            continue
        try:
            till.prove(hook)
        except (Forged, NotConfigured, NotSupported) as error:
            return str(error)
    return ""


def _stub_morning(stub: TillStub, connector_class: ConnectorClass, since: datetime) -> list[HookRequest | None]:
    """Sell a little at a stub; return the hooks about it where the connector has nothing to poll."""
    receipts = _sell_some(stub, since)
    # a till that knows no refunds, or cannot send what is unreadable, shows the rest
    with suppress(CannotShow):
        stub.refund(receipts[1], _money(stub, "2.00"))
    with suppress(CannotShow):
        stub.spoil(receipts[2])
    if connector_class.can("poll"):
        return [None]
    return [stub.hook(receipt) for receipt in receipts]


def _sell_some(stub: TillStub, since: datetime) -> list[str]:
    """Sell with a customer, without one, and with a redeem code; return the receipts' ids, oldest first."""
    now = datetime.now(UTC).replace(microsecond=0)
    # spread over the time that is read, and over ten minutes at least
    step = max(now - since, timedelta(minutes=10)) / 10
    customer = stub.customers[0] if stub.customers else None
    return [
        stub.sell(Sold(_money(stub, "12.50"), now - 4 * step, customer, _money(stub, "1.00"))),
        stub.sell(Sold(_money(stub, "7.00"), now - 3 * step)),
        stub.sell(Sold(_money(stub, "3.20"), now - 2 * step, redeem_code="FREECOFFEE")),
    ]


def _money(stub: TillStub, text: str) -> Money:
    return Money.from_decimal(text, stub.currency)


# --- where fields come from -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Answers:
    """All that sales were read from: hooks that arrived, and what the till answered."""

    hooks: Sequence[HookRequest]
    exchanges: Sequence[Exchange]

    def bodies(self) -> list[bytes]:
        """Return every body, those of hooks first; `documents` and `with_bodies` keep this order."""
        return [*(hook.body for hook in self.hooks), *(exchange.body for exchange in self.exchanges)]

    def documents(self) -> list[Document]:
        """Parse every body; each is named by its place among the hooks or by its endpoint."""
        contents = map(_parsed, self.bodies())
        return [Document(name, content) for name, content in zip(self._names(), contents, strict=True)]

    def _names(self) -> list[Hashable]:
        # pages of one endpoint share its name, and so the paths found in them; each hook stands for itself
        hooks = [("hook", str(place)) for place in range(len(self.hooks))]
        return [*hooks, *(exchange.endpoint for exchange in self.exchanges)]

    def with_bodies(self, documents: Sequence[Document]) -> _Answers:
        """Return the same answers with changed documents; a body that is no JSON stays as it is."""
        bodies = map(_changed, self.bodies(), documents)
        # one iterator for both: the exchanges go on where the hooks stop
        return _Answers(
            [replace(hook, body=next(bodies)) for hook in self.hooks],
            [replace(exchange, body=next(bodies)) for exchange in self.exchanges],
        )


def _changed(body: bytes, document: Document) -> bytes:
    return body if document.content is None else json.dumps(document.content).encode()


async def _trace_fields(
    opening: _Opening, account: TillAccount, since: datetime, answers: _Answers, seen: Seen
) -> Trace:
    """Find where each field came from: what was answered is read again with one value changed at a time."""
    if not seen.sales:
        return Trace([{} for _ in seen.items], [[] for _ in seen.items])

    async def reread(documents: Sequence[Document]) -> Sequence[Sale | Unreadable]:
        return await _reread(opening, account, since, answers.with_bodies(documents))

    return await trace(answers.documents(), reread)


async def _reread(
    opening: _Opening, account: TillAccount, since: datetime, answers: _Answers
) -> Sequence[Sale | Unreadable]:
    """Read changed answers, without the till: what was not asked before is an error, and the change is given up."""
    till = opening.till(Replay(answers.exchanges), account)
    try:
        async with asyncio.timeout(_REREAD_SECONDS):
            with unpaced():  # nobody is asked, so a till's limits of requests would only make it slow
                return (await _read_all(till, since, answers.hooks or [None])).items
    finally:
        await till.aclose()


def _parsed(body: bytes) -> JsonValue:
    """Parse a body's JSON, whatever its shape; `None` where it has none."""
    try:
        content: JsonValue = json.loads(body)
    except (ValueError, RecursionError):  # no JSON, or nested deeper than Python follows
        return None
    return content


# --- recording ------------------------------------------------------------------------------------------------------


async def record(request: Request, reading: Reading, folder: Path, *, quiet: bool) -> None:
    """Keep what the till answered as a recording, with secrets and people disguised. Raises `Refusal`."""
    if request.stub:
        raise Refusal("a stub's answers prove nothing about the till: record a real account's, without --stub")
    recording = await _disguised(request, reading)
    try:
        file = write_recording(recording, folder)
    except OSError as error:
        raise Refusal(f"{folder} cannot be written: {error.strerror}") from None
    if not quiet:  # `--json` leaves stdout to the reading
        _say_recorded(file, recording, reading)


async def _disguised(request: Request, reading: Reading) -> Recording:
    try:
        return await make_recording(
            reading.connector_class,
            reading.settings,
            app_settings(reading.connector_class),
            reading.account,
            reading.exchanges,
            request.since,
            request.hook.body if request.hook is not None else None,
        )
    except Undisguisable as error:
        # all or nothing: a half disguised file would be committed by somebody
        raise Refusal(f"nothing is recorded: {error}") from None


def _say_recorded(file: Path, recording: Recording, reading: Reading) -> None:
    say(
        f"✓ {file}: {len(recording.exchanges)} answers, secrets and people disguised. "
        "Look it through before you commit it."
    )
    if len(recording.sales) != len(reading.seen.sales):
        say(f"  Disguised, only {len(recording.sales)} of {len(reading.seen.sales)} receipts can still be read.")
