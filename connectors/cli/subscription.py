"""`connectors subscription …`: who is told of a business's events, and how that goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Annotated

import typer

from connectors.cli.options import AsJson, Yes
from connectors.cli.output import confirm, run_with_host, say, show_json, show_table
from connectors.domain.clock import micros
from connectors.domain.relay import DeliveryState
from connectors.runtime.host import Host
from connectors.services import Refusal, SubscriptionRequest
from connectors.services.shapes import DeliveryShape, NewSubscriptionShape, SubscriptionShape
from connectors.services.subscriptions import NewSubscription, TriedDelivery
from connectors.store.relay.subscriptions import Subscription

app = typer.Typer(no_args_is_help=True, help="Tell others of events: Zapier, Make, Slack, or any address.")

Connection = Annotated[str, typer.Argument(help="A connection of the business.")]
Id = Annotated[str, typer.Argument(metavar="SUBSCRIPTION", help="As `connectors subscription list` shows it.")]
Url = Annotated[str, typer.Option("--url", help="Where events are posted: https://…")]
Events = Annotated[list[str] | None, typer.Option("--event", metavar="EVENT", help="Only this event; may be repeated.")]
Personal = Annotated[
    bool, typer.Option("--personal", help="With phones, emails, card numbers and codes that can still be used.")
]
ShapeOption = Annotated[str, typer.Option("--shape", metavar="standard|slack", help="How a body looks.")]
Title = Annotated[str, typer.Option(help="How people call it; the address's host by default.")]


@app.command()
def add(
    connection_id: Connection,
    url: Url,
    event: Events = None,
    filter_: Annotated[
        str | None, typer.Option("--filter", metavar="CONDITION", help="Only bodies like this: data.channel=='push'.")
    ] = None,
    personal: Personal = False,
    shape: ShapeOption = "standard",
    title: Title = "",
    as_json: AsJson = False,
) -> None:
    """Subscribe an address; prints the secret that proves deliveries, which is shown only now."""
    request = SubscriptionRequest(url, tuple(event or ()), title, filter_, personal, shape)
    run_with_host(partial(_add, connection_id=connection_id, request=request, as_json=as_json))


async def _add(host: Host, connection_id: str, request: SubscriptionRequest, as_json: bool) -> None:
    business = await _business(host, connection_id)
    _show_new(await host.services.subscriptions.create(business, request), as_json)


def _show_new(made: NewSubscription, as_json: bool) -> None:
    if as_json:
        show_json(NewSubscriptionShape.of_new(made).model_dump())
        return
    say(f"✓ {made.subscription.id}: {made.subscription.title}")
    say(f"  The secret that proves deliveries, shown only now: {made.secret}")


async def _business(host: Host, connection_id: str) -> str:
    return (await host.services.connections.get(connection_id)).business_id


@app.command("list")
def list_(connection_id: Connection, as_json: AsJson = False) -> None:
    """The subscriptions of a connection's business."""
    run_with_host(partial(_list, connection_id=connection_id, as_json=as_json))


async def _list(host: Host, connection_id: str, as_json: bool) -> None:
    subscriptions = await host.services.subscriptions.list_all(await _business(host, connection_id))
    if as_json:
        show_json([SubscriptionShape.of(subscription).model_dump() for subscription in subscriptions])
        return
    cells = [
        [one.id, one.title, one.host, one.state.value, str(one.pending), _word(host, one)] for one in subscriptions
    ]
    show_table(["id", "title", "host", "state", "waiting", "why"], cells, "No subscriptions.")


def _word(host: Host, subscription: Subscription) -> str:
    return host.words.word(subscription.reason) if subscription.reason else ""


@app.command()
def show(
    connection_id: Connection,
    subscription_id: Id,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="The newest so many deliveries.")] = 20,
    as_json: AsJson = False,
) -> None:
    """A subscription with its newest deliveries, and what each try was answered."""
    run_with_host(
        partial(_show, connection_id=connection_id, subscription_id=subscription_id, limit=limit, as_json=as_json)
    )


async def _show(host: Host, connection_id: str, subscription_id: str, limit: int, as_json: bool) -> None:
    business = await _business(host, connection_id)
    service = host.services.subscriptions
    subscription = await service.get(business, subscription_id)
    deliveries = await service.deliveries(business, subscription_id, limit=limit)
    if as_json:
        shown = [DeliveryShape.of(one).model_dump() for one in deliveries]
        show_json({**SubscriptionShape.of(subscription).model_dump(), "deliveries": shown})
        return
    say(f"{subscription.title} ({subscription.host}): {subscription.state.value}, {subscription.pending} waiting")
    _show_deliveries(deliveries)


def _show_deliveries(deliveries: Sequence[TriedDelivery]) -> None:
    cells = [
        [str(one.delivery.seq), one.delivery.event, one.delivery.state.value, str(len(one.attempts)), _last(one)]
        for one in deliveries
    ]
    show_table(["id", "event", "state", "tries", "last answer"], cells, "Nothing was sent yet.")


def _last(tried: TriedDelivery) -> str:
    if not tried.attempts:
        return ""
    last = tried.attempts[-1]
    return " ".join(str(part) for part in (last.status, last.error) if part is not None)


@app.command()
def edit(
    connection_id: Connection,
    subscription_id: Id,
    url: Annotated[str | None, typer.Option("--url", help="Another address.")] = None,
    event: Events = None,
    filter_: Annotated[
        str | None, typer.Option("--filter", metavar="CONDITION", help="Another filter; '' for none.")
    ] = None,
    personal: Annotated[
        bool | None, typer.Option("--personal/--no-personal", help="With personal data, or not.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Another name.")] = None,
    as_json: AsJson = False,
) -> None:
    """Change a subscription; what waits goes to the new address at once."""
    changes = {
        "url": url,
        "events": tuple(event) if event else None,
        "filter": filter_,
        "personal": personal,
        "title": title,
    }
    given = {name: value for name, value in changes.items() if value is not None}
    run_with_host(
        partial(_edit, connection_id=connection_id, subscription_id=subscription_id, given=given, as_json=as_json)
    )


async def _edit(
    host: Host, connection_id: str, subscription_id: str, given: Mapping[str, object], as_json: bool
) -> None:
    business = await _business(host, connection_id)
    changed = await host.services.subscriptions.edit(business, subscription_id, **given)
    if as_json:
        show_json(SubscriptionShape.of(changed).model_dump())
    else:
        say("✓ Changed.")


@app.command("test")
def send_test(connection_id: Connection, subscription_id: Id, as_json: AsJson = False) -> None:
    """Send a test now and show how it was answered; ends with 1 where it was not taken."""
    if not run_with_host(partial(_test, connection_id=connection_id, subscription_id=subscription_id, as_json=as_json)):
        raise typer.Exit(1)


async def _test(host: Host, connection_id: str, subscription_id: str, as_json: bool) -> bool:
    business = await _business(host, connection_id)
    tried = await host.services.subscriptions.send_test(business, subscription_id)
    if as_json:
        show_json(DeliveryShape.of(tried).model_dump())
    else:
        taken = "✓ Taken" if tried.delivery.state is DeliveryState.delivered else "Not taken"
        say(f"{taken}: {_last(tried) or 'it waits for its turn'}")
    return tried.delivery.state is DeliveryState.delivered


@app.command()
def replay(
    connection_id: Connection,
    subscription_id: Id,
    delivery: Annotated[int | None, typer.Option(metavar="ID", help="One delivery, as `show` lists it.")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Everything that was given up.")] = False,
    since: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="From then on, in UTC.")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="Before then; now by default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Deliver again: one delivery, all that failed, or a time."""
    run_with_host(
        partial(
            _replay,
            connection_id=connection_id,
            subscription_id=subscription_id,
            delivery=delivery,
            failed=failed,
            times=(since, until),
            as_json=as_json,
        )
    )


async def _replay(
    host: Host,
    connection_id: str,
    subscription_id: str,
    delivery: int | None,
    failed: bool,
    times: tuple[datetime | None, datetime | None],
    as_json: bool,
) -> None:
    business, service = await _business(host, connection_id), host.services.subscriptions
    since, until = times
    if [delivery is not None, failed, since is not None].count(True) != 1:
        raise Refusal("say what to deliver again: one of --delivery, --failed or --since")
    if delivery is not None:
        number = await service.replay(business, subscription_id, delivery)
    elif failed:
        number = await service.replay_failed(business, subscription_id)
    else:
        start = micros((since or datetime.now()).replace(tzinfo=UTC))
        end = micros(until.replace(tzinfo=UTC)) if until is not None else host.store.clock.now() + 1
        number = await service.replay_range(business, subscription_id, start, end)
    if as_json:
        show_json({"replayed": number})
    else:
        say(f"✓ {number} events go out again: by itself where a host runs.")


@app.command("renew-secret")
def renew_secret(connection_id: Connection, subscription_id: Id, as_json: AsJson = False) -> None:
    """Make another secret; deliveries are signed with the one before as well, for a day longer."""
    run_with_host(partial(_renew_secret, connection_id=connection_id, subscription_id=subscription_id, as_json=as_json))


async def _renew_secret(host: Host, connection_id: str, subscription_id: str, as_json: bool) -> None:
    business = await _business(host, connection_id)
    _show_new(await host.services.subscriptions.renew_secret(business, subscription_id), as_json)


@app.command()
def stop(connection_id: Connection, subscription_id: Id) -> None:
    """Record and send nothing more; what waits is kept."""
    run_with_host(partial(_set_active, connection_id=connection_id, subscription_id=subscription_id, active=False))


@app.command()
def resume(connection_id: Connection, subscription_id: Id) -> None:
    """Go on with a subscription that was stopped, or failed too long."""
    run_with_host(partial(_set_active, connection_id=connection_id, subscription_id=subscription_id, active=True))


async def _set_active(host: Host, connection_id: str, subscription_id: str, active: bool) -> None:
    business = await _business(host, connection_id)
    await host.services.subscriptions.set_active(business, subscription_id, active=active)
    say("✓ It goes on with what waits." if active else "✓ Stopped.")


@app.command()
def remove(connection_id: Connection, subscription_id: Id, yes: Yes = False) -> None:
    """Remove a subscription with what waits for it."""
    confirm(f"Remove {subscription_id}? What waits for it is not sent.", yes)
    run_with_host(partial(_remove, connection_id=connection_id, subscription_id=subscription_id))


async def _remove(host: Host, connection_id: str, subscription_id: str) -> None:
    await host.services.subscriptions.remove(await _business(host, connection_id), subscription_id)
    say("✓ Removed.")
