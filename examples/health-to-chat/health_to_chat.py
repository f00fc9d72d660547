"""Tell a team's chat when a till stops working, and when it works again.

Set HEALTH_TO_CHAT_URL to an incoming webhook of the chat (Slack, Mattermost and others take {"text": …}).
"""

from __future__ import annotations

import logging
import os

import httpx

from connector_sdk import hookimpl
from connector_sdk.hookspecs import ConnectionFacts

log = logging.getLogger(__name__)
MARKS = {"active": "🟢", "paused": "⏸", "failing": "🟠", "needs_authorisation": "🔴"}


@hookimpl
async def connection_health_changed(connection: ConnectionFacts, state: str, reason: str) -> None:
    """Post a connection's new state to the chat; a chat that fails is logged and nothing else."""
    url = os.environ.get("HEALTH_TO_CHAT_URL")
    if not url:
        return
    text = f"{MARKS.get(state, '•')} {connection.title}: {state.replace('_', ' ')}. {reason}".strip()
    try:
        async with httpx.AsyncClient(timeout=5) as chat:
            response = await chat.post(url, json={"text": text})
            response.raise_for_status()
    except httpx.HTTPError as error:
        # only the error's name: its text may hold the address, which is the chat's secret
        log.warning("the chat could not be told: %s", type(error).__name__)
