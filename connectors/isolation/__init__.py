"""Runs connectors' own code on what strangers send, in worker processes with limits of time and memory.

Owns the workers, their limits, and who exceeded them how often; callers decide what is run and when.
"""

from connectors.isolation.calls import UnreadableHook
from connectors.isolation.pool import CallFailed, LimitExceeded, Limits, QueueFull
from connectors.isolation.runner import ConnectorCrashed, ConnectorSuspended, PluginRunner

__all__ = [
    "CallFailed",
    "ConnectorCrashed",
    "ConnectorSuspended",
    "LimitExceeded",
    "Limits",
    "PluginRunner",
    "QueueFull",
    "UnreadableHook",
]
