"""Web addresses as a person sets them: a judgement of their text, without looking anything up.

Owns which addresses would carry secrets unencrypted; refusing or warning about one is left to whoever read the setting.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def in_the_clear(url: str) -> bool:
    """Say whether an address is http:// and leads beyond this machine, so that others can read what goes there."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".")  # "localhost." is the same name, fully qualified
    except ValueError:
        return False
    return parts.scheme.lower() == "http" and not _is_this_machine(host)


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        # RFC 6761: these names never leave the machine
        return host == "localhost" or host.endswith(".localhost")
