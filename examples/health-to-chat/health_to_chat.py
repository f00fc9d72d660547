"""Says in a team's chat when a till stops working, and when it works again.

Set HEALTH_TO_CHAT_URL to an incoming webhook of the chat (Slack, Mattermost and others take {"text": …}).
"""

from __future__ import annotations

import logging
import os

import httpx

from connector_sdk import ConnectionFacts, hookimpl

log = logging.getLogger(__name__)
MARKS = {"active": "🟢", "paused": "⏸", "failing": "🟠", "needs_authorisation": "🔴"}


@hookimpl
async def connection_health_changed(connection: ConnectionFacts, state: str, reason: str) -> None:
    url = os.environ.get("HEALTH_TO_CHAT_URL")
    if not url:
        return
    text = f"{MARKS.get(state, '•')} {connection.title}: {state.replace('_', ' ')}. {reason}".strip()
    try:
        async with httpx.AsyncClient(timeout=5) as chat:
            answer = await chat.post(url, json={"text": text})
            answer.raise_for_status()
    except httpx.HTTPError as error:  # its text may hold the address, which is the chat's secret
        log.warning("the chat could not be told: %s", type(error).__name__)
