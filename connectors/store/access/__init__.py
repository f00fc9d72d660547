"""Who may come in: sessions and links, passkeys, the operator's password, and the security log."""

from connectors.store.access import operator_password, passkeys, security_log, sessions

__all__ = ["operator_password", "passkeys", "security_log", "sessions"]
