"""One request to a till's OAuth endpoint: sent once, its answer a JSON object, its errors without any secret.

Owns how such an endpoint is called; its addresses and the names in its answers are the connector's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx

from connector_sdk.errors import Ambiguous, NotAuthorised, RateLimited, TillUnavailable
from connector_sdk.http import never_sent, retry_after, send
from connector_sdk.json_text import parse_json

_DEADLINE = 15.0  # seconds
_LONGEST_REASON = 200


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """The answer of an OAuth endpoint: its HTTP status and its JSON object."""

    status: int
    members: Mapping[str, object] = field(repr=False)

    def member(self, name: str) -> str:
        """Return a member that is a text. Raises `Ambiguous` where it is missing or no text: the till did answer."""
        value = self.members.get(name)
        if not isinstance(value, str) or not value:
            raise Ambiguous(f"the till's answer has no {name}")
        return value

    def refusal(self, *names: str) -> NotAuthorised:
        """Return the error of an answer that refuses, with the first of these members as the reason."""
        reasons = (self.members.get(name) for name in (*names, "error_description", "error"))
        reason = next((reason for reason in reasons if isinstance(reason, str) and reason), "")
        return NotAuthorised(reason[:_LONGEST_REASON] or f"the till answered {self.status}")


async def post(
    transport: httpx.AsyncBaseTransport,
    url: str,
    *,
    body: Mapping[str, object] | None = None,
    form: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> TokenAnswer:
    """Post a JSON `body`, or a `form`, and return the answer whatever its status below 500 says.

    It is sent once: a code, and often a refresh token, is good for one request only. Raises `RateLimited`,
    `TillUnavailable` where the till surely did nothing, and `Ambiguous` where it may have: its answer was lost, or is
    no JSON object.
    """
    content = json.dumps(body).encode() if body is not None else None
    own = {"Content-Type": "application/json"} if body is not None else {}
    try:
        reply = await send(
            transport, "POST", url, deadline=_DEADLINE, content=content, data=form, headers={**own, **(headers or {})}
        )
    except (httpx.HTTPError, TimeoutError, OSError) as error:
        # its type only: the text of an error may hold the address, and the body holds secrets
        text = f"the till did not answer ({type(error).__name__})"
        raise TillUnavailable(text) if never_sent(error) else Ambiguous(text) from None
    if reply.status_code == 429:
        raise RateLimited(retry_after(reply))
    if reply.status_code >= 500:
        # a gateway that gave up says nothing of what the till behind it did
        raise Ambiguous(f"the till answered {reply.status_code}")
    try:
        members = parse_json(reply.content)
    except ValueError:
        members = None
    if not isinstance(members, dict):
        raise Ambiguous("the till's answer is no JSON object")
    return TokenAnswer(reply.status_code, members)
