"""What a till that is being taught has sent, as it may be shown: people masked, and what settings make of it in words.

Owns these views; what is asked and how a request is read is the connector's `teaching`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from connector_sdk.connector import Connector
from connector_sdk.hooks import HookRequest
from connector_sdk.messages import Message
from connector_sdk.redaction import masked, personal_name, personal_text
from connector_sdk.rule import StampRule
from connector_sdk.sale import Sale, SaleStatus
from connector_sdk.teaching import Leaf, Sketch, as_texts
from connectors.domain.clock import moment
from connectors.domain.stamps import stamps_for
from connectors.services import Refusal, Unfit
from connectors.store import inbox
from connectors.store.connections.drafts import Draft
from connectors.store.inbox.captured import CapturedRequest
from connectors.sync.previews import RecentReceipts, recent_of
from connectors.web.console.frame import Visit
from connectors.web.console.words import zone_of

_SHOWN_HEADERS = ("content-type", "user-agent", "content-length")
_MOST_HEADERS = 30
_LONG = 60
_SHORT, _SAYS = 16, 4
_KINDS = ("kind", "type", "key", "label")
_PLAIN_FACT = re.compile(r"[0-9]{1,6}|[0-9]+[.,][0-9]{1,3}|true|false|")
"""What says nothing of anybody, though it stands within a customer: a count, a balance, yes or no."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """A request as the page shows it: `headers` with their values masked."""

    id: str
    at: int
    size: int
    headers: tuple[tuple[str, str], ...]
    chosen: bool
    says: tuple[str, ...]
    """Some of what is in it, to know it by; empty where nothing in it can be chosen."""


@dataclass(slots=True)
class Branch:
    """A part of the tree: a value with what choosing it says, or what stands within it."""

    name: str
    leaf: Leaf | None = None
    text: str = ""
    within: dict[str | int, Branch] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Said:
    """One sale of the sample in words: how many stamps it would earn by the usual rule, and what stands against it."""

    sale: Sale
    stamps: int
    why: Message | None


def sample_of(one: Draft) -> bytes | None:
    """The request that was chosen to teach by."""
    kept = one.content.get("sample")
    return kept["body"].encode("latin-1") if kept else None


def request_of(one: Draft) -> HookRequest | None:
    """The same as a request, with its headers."""
    body = sample_of(one)
    return HookRequest("POST", one.content["sample"]["headers"], {}, body) if body is not None else None


def as_sample(body: bytes, headers: Mapping[str, str], name: str) -> dict[str, Any]:
    """A request as a draft keeps it."""
    return {"body": body.decode("latin-1"), "headers": dict(headers), "id": name}


async def arrived(visit: Visit, one: Draft) -> list[CapturedRequest]:
    """What came to the draft's address, newest first."""
    return await visit.host.store.read(lambda tx: inbox.captured.of_owner(tx, f"{inbox.captured.OF_DRAFT}{one.id}"))


async def shown(
    visit: Visit, one: Draft, found: type[Connector[Any]], values: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What the first step shows of teaching: nothing for connectors that learn nothing."""
    token, teaching = one.content.get("hook_token"), visit.teaching(found)
    if teaching is None or token is None:
        return {"teaches": False, "address": "", "requests": [], "read": None}
    chosen = (one.content.get("sample") or {}).get("id", "")
    requests = [
        Arrived(
            request.id,
            request.at,
            len(request.body),
            _headers(request.headers),
            request.id == chosen,
            tuple(hidden(leaf)[:_SHORT] for leaf in (await teaching.leaves({}, request.body, ""))[:_SAYS]),
        )
        for request in await arrived(visit, one)
    ]
    return {
        "teaches": True,
        "address": visit.services.connections.draft_hook_url(one.connector, token),
        "requests": requests,
        "read": await read(visit, one, found, values or one.content.get("values", {})),
        "lives": visit.host.store.quotas.captured,
    }


def _headers(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(
        (name, value[:_LONG] if name in _SHOWN_HEADERS else masked(value))
        for name, value in list(headers.items())[:_MOST_HEADERS]
    )


async def tried(visit: Visit, one: Draft, found: type[Connector[Any]], values: Mapping[str, Any]) -> None:
    """Nothing is saved that was not tried: on the sample, or as a ready-made mapping. Raises `Refusal`, `Unfit`."""
    teaching = visit.teaching(found)
    if teaching is None or "hook_token" not in one.content:
        return
    if any(ready.settings.items() <= values.items() for ready in found.ready_made):
        # tried on its own sample by us; and on what this one sent, if it sent anything: its currency may be another
        bodies = [request.body for request in await arrived(visit, one)]
        await visit.services.checks.check_samples(one.connector, values, bodies, tenant=visit.owner)
        return
    request = request_of(one)
    if request is None:
        raise Refusal(
            "send one sale to the address above, or paste one, and choose it: what was never tried is not saved"
        )
    await visit.services.checks.check_samples(one.connector, values, [request.body], tenant=visit.owner)
    against = await teaching.unproven(as_texts(values), request)
    if against is not None:
        raise Unfit(found.info.title, {teaching.secret: against})


async def recent(visit: Visit, one: Draft, found: type[Connector[Any]]) -> RecentReceipts:
    """The receipts that a till being taught has sent meanwhile, for the preview of a rule."""
    teaching = visit.teaching(found)
    if teaching is None:
        return RecentReceipts((), 0, "nothing")
    bodies = [request.body for request in await arrived(visit, one)]
    sample = sample_of(one)
    if sample is not None:
        bodies.append(sample)
    values = as_texts(one.content["values"])

    async def sales() -> list[Sale]:
        return [sale for body in reversed(bodies) for sale in (await teaching.sketch(values, body)).sales]

    read = await visit.console.till_reads.remembered(
        # a rule is tried at every key that is pressed: the requests are read once
        f"{one.id} {hash(tuple(bodies))} {hash(tuple(sorted(values.items())))}",
        sales,
    )
    newest = {sale.receipt_id: sale for sale in read}
    return recent_of(list(newest.values()), moment(visit.host.store.clock.now()), "hooks")


# --- what settings make of the sample -------------------------------------------------------------------------------


async def read(
    visit: Visit, one: Draft, found: type[Connector[Any]], values: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The sample by these settings, in words: what was found for each question, the sales, what is missing."""
    body = sample_of(one)
    teaching = visit.teaching(found)
    if body is None or teaching is None:
        return None
    made = await teaching.sketch(as_texts(values), body)
    fields = found.settings_model.model_fields
    asked = [question.field for question in await teaching.questions(as_texts(values), body)]
    more = [name for name in made.found if name not in asked]
    rows = [(name, fields[name].title or name, _row(name, made, values)) for name in (*asked, *more)]
    return {
        "rows": rows,
        "answered": [one for one in rows if one[2][1]],
        "said": [_said(sale, zone_of(str(values.get("zone") or "")).key) for sale in made.sales],
        "wrong": [(fields[name].title if name in fields else "", why) for name, why in made.wrong.items()],
    }


def _row(name: str, made: Sketch, values: Mapping[str, Any]) -> tuple[str, str]:
    """(what was found, by which path): people masked."""
    found = made.found.get(name, "")
    text = masked(found) if found and (personal_name(name) or personal_text(found)) else found[:_LONG]
    return text, str(values.get(name) or "")


def _said(sale: Sale, zone: str) -> Said:
    earned = stamps_for(sale, StampRule(), zone)
    if sale.status is not SaleStatus.closed:
        return Said(sale, 0, Message("It is not a paid receipt, so it earns nothing."))
    if not sale.customer:
        return Said(sale, 0, Message("Nobody is attached to it, so it earns nothing."))
    return Said(sale, earned.stamps, None)


# --- the tree -------------------------------------------------------------------------------------------------------


def tree(leaves: tuple[Leaf, ...]) -> Branch:
    """What can be chosen, as it stands in the request; people masked."""
    root = Branch("")
    for leaf in leaves:
        branch = root
        for part in leaf.place:
            branch = branch.within.setdefault(part, Branch(str(part + 1) if isinstance(part, int) else part))
        branch.leaf, branch.text = leaf, hidden(leaf)
    return root


def hidden(leaf: Leaf) -> str:
    """A value as it may be shown: somebody's own is masked."""
    named = any(isinstance(part, str) and personal_name(part) for part in leaf.place)
    kind = bool(leaf.place) and leaf.place[-1] in _KINDS
    own = named and not kind and not _PLAIN_FACT.fullmatch(leaf.value[:_LONG])
    return masked(leaf.value[:_LONG]) if own or personal_text(leaf.value) else leaf.value[:_LONG]
