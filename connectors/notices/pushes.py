"""Messages to phones: of trouble and its end, of a plan, and of a week, worded and sent to each device that chose them.

Owns wording and what follows from an answer; what is due is `connectors.store.connections.push_alerts`', and how a
message reaches a browser `web_push`'.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from connector_sdk.messages import Catalogue, Message
from connectors.domain.clock import DAY, HOUR
from connectors.domain.plan import local_day
from connectors.notices.web_push import Outcome, PushMessage, Sent, WebPush
from connectors.notices.week import read_week
from connectors.store import access, connections
from connectors.store.access.push_devices import PushDevice
from connectors.store.connections.push_alerts import PushAlert, PushPlan, PushWeek
from connectors.store.engine import Store, Transaction
from connectors.store.errors import StoreError

log = logging.getLogger(__name__)

_AT_ONCE = 16
_TEST_LIVES = HOUR
_WEEK_LIVES = 2 * DAY


@dataclass(frozen=True, slots=True)
class _Due:
    """A message that is taken, and what undoes that."""

    device: PushDevice
    message: PushMessage
    mark_unsent: Callable[[Transaction], None]


class Pushes:
    """Sends what is due to phones."""

    def __init__(self, store: Store, words: Catalogue, push: WebPush) -> None:
        self._store = store
        self._words = words
        self.push = push

    async def round(self) -> int:
        """Send what is due now, and return how many messages went out; a phone out of reach delays no other."""
        alerts, plans = await self._store.write(
            lambda tx: (connections.push_alerts.take_due(tx), connections.push_alerts.take_due_plans(tx))
        )
        weeks = await self._store.write(connections.push_alerts.take_due_weeks)
        due = [*map(self._of_alert, alerts), *map(self._of_plan, plans)]
        due += [message for week in weeks if (message := await self._of_week(week)) is not None]
        by_device: dict[str, list[_Due]] = {}
        for one in due:
            by_device.setdefault(one.device.id, []).append(one)
        limit = asyncio.Semaphore(_AT_ONCE)
        return sum(await asyncio.gather(*(self._send_each(limit, messages) for messages in by_device.values())))

    async def test(self, device: PushDevice) -> Sent:
        """Send a message that says that messages arrive, in quiet hours too."""
        title, text = Message("push.test.title"), Message("push.test.body")
        message = PushMessage(
            self._words.word(title, device.language),
            self._words.word(text, device.language),
            "/messages",
            "test",
            urgent=True,
            lives=_TEST_LIVES,
        )
        sent = await self.push.send(device.address, message)
        await self._store.write(lambda tx: _note_outcome(tx, device, sent))
        return sent

    async def _send_each(self, limit: asyncio.Semaphore, messages: list[_Due]) -> int:
        """Send a device's messages up to the first that does not go out; it and those behind it are taken again."""
        count, sent = 0, Sent(Outcome.sent)
        async with limit:
            while count < len(messages) and sent.outcome is Outcome.sent:
                sent = await self._send(messages[count])
                count += sent.outcome is Outcome.sent
        await self._store.write(lambda tx: _note(tx, messages, count, sent))
        return count

    async def _send(self, due: _Due) -> Sent:
        try:
            return await self.push.send(due.device.address, due.message)
        except Exception as error:
            log.exception("device %s: a message could not be made: %s", due.device.id, type(error).__name__)
            return Sent(Outcome.later, said=type(error).__name__)

    def _of_alert(self, alert: PushAlert) -> _Due:
        kind, page = ("trouble", f"/connections/{alert.connection_id}") if alert.trouble else ("well", "/")
        message = self._message(alert.device, kind, {"title": alert.title}, page)
        # the end of a trouble takes its message's place
        message = replace(message, topic=f"till {alert.connection_id}", urgent=alert.trouble)
        return _Due(alert.device, message, lambda tx: connections.push_alerts.mark_unsent(tx, alert))

    def _of_plan(self, plan: PushPlan) -> _Due:
        params = {
            "title": plan.business,
            "used": plan.plan.used,
            "allowed": plan.plan.allowed,
            "day": local_day(plan.plan.until, plan.zone),
        }
        message = self._message(plan.device, "plan_used" if plan.used_up else "plan_near", params, "/")
        return _Due(
            plan.device,
            replace(message, topic="plan"),
            lambda tx: connections.push_alerts.mark_plan_unsent(tx, plan),
        )

    async def _of_week(self, week: PushWeek) -> _Due | None:
        """Word a week; where its numbers cannot be read it is taken again, and `None` returned."""
        try:
            numbers = [await read_week(self._store, connection, week.day) for connection in week.connections]
        except StoreError as error:
            log.warning("device %s: its week could not be read: %s", week.device.id, error)
            await self._store.write(lambda tx: connections.push_alerts.mark_week_unsent(tx, week))
            return None
        device, alone = week.device, len(numbers) == 1
        # of several tills each has its line
        texts = [self._words.word(Message("push.week.body", params), device.language) for params in numbers]
        lines = texts if alone else [f"{one['title']}: {text}" for one, text in zip(numbers, texts, strict=True)]
        title = {"title": ", ".join(str(one["title"]) for one in numbers)}
        message = PushMessage(
            self._words.word(Message("email.week.subject", title), device.language),
            "\n".join(lines),
            f"/connections/{week.connections[0].id}/numbers" if alone else "/",
            "week",
            lives=_WEEK_LIVES,
        )
        return _Due(device, message, lambda tx: connections.push_alerts.mark_week_unsent(tx, week))

    def _message(self, device: PushDevice, kind: str, params: dict[str, object], page: str) -> PushMessage:
        """Word a message in the device's language; its title is the subject of an email of the same kind."""
        title = self._words.word(Message(f"email.{kind}.subject", params), device.language)
        text = self._words.word(Message(f"push.{kind}.body", params), device.language)
        return PushMessage(title, text, page, kind)


def _note(tx: Transaction, messages: list[_Due], count: int, sent: Sent) -> None:
    """Note what became of a device's messages: so many went out, and then one came to `sent`."""
    if sent.outcome is not Outcome.gone:
        for left in messages[count:]:
            left.mark_unsent(tx)
    _note_outcome(tx, messages[0].device, sent)


def _note_outcome(tx: Transaction, device: PushDevice, sent: Sent) -> None:
    """Note what became of a message; a browser that is gone is told nothing any more, and nothing is taken again."""
    if sent.outcome is Outcome.sent:
        access.push_devices.mark_told(tx, device.id)
    elif sent.outcome is Outcome.gone:
        access.push_devices.remove(tx, device.id)
    else:
        log.warning("device %s: a message could not be sent: %s", device.id, sent.said)
        access.push_devices.mark_failed(tx, device, sent.wait)
