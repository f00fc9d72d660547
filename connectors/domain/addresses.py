"""Web addresses as a person sets them: whether what goes there can be read on the way."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def in_the_clear(url: str) -> bool:
    """Whether an address is http:// and leads beyond this machine."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".")
    except ValueError:
        return False
    if parts.scheme.lower() != "http":
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host != "localhost" and not host.endswith(".localhost")
