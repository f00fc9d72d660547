"""Running connectors' own code on what strangers send: in worker processes, with limits of time and memory.

Owns the workers, their limits, and who exceeded them how often; what is run is the connector's, when the caller's.
"""

from connectors.isolation.pool import Busy, Limits, NoAnswer, TooSlow
from connectors.isolation.runner import PluginRunner, SetAside, Stumbled
from connectors.isolation.work import Unread

__all__ = ["Busy", "Limits", "NoAnswer", "PluginRunner", "SetAside", "Stumbled", "TooSlow", "Unread"]
