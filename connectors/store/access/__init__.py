"""Access to the console: sessions and links, colleagues, passkeys, the operator's password, and the security log.

Owns who is let in and what ends together; what a person may see is the console's.
"""

from connectors.store.access import (
    api_tokens,
    colleagues,
    operator_password,
    passkeys,
    push_devices,
    security_log,
    sessions,
)

__all__ = ["api_tokens", "colleagues", "operator_password", "passkeys", "push_devices", "security_log", "sessions"]
