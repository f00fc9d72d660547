"""The client behind a request: its address, whether it came by https, and the name of its browser.

Owns which headers of proxies are believed; limits by address are `sign_in_limits`' and the pages'.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from connectors.runtime.host import Host

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_WITH_PORT = re.compile(r"\[?(?P<v6>[0-9a-fA-F:.]+)\](:\d+)?|(?P<v4>[0-9.]+)(:\d+)?")
_MAX_ADDRESS = 80  # characters; the longest address with a port has fewer
_HOME_PREFIX = 48  # providers give a home up to a /48 of IPv6, so one person has 2^80 addresses


class Clients:
    """Reads what a request tells about its client, believing only the proxies that the operator trusts."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def address(self, request: HTTPConnection) -> str:
        """Return the client's IPv4 address or IPv6 network (/48), or an empty text where it is unknown."""
        address = self._forwarded_address(request)
        if address is None:
            return ""
        if address.version == 6:
            return str(ipaddress.ip_network((address, _HOME_PREFIX), strict=False))
        return str(address)

    def _forwarded_address(self, request: HTTPConnection) -> _Address | None:
        """Walk back from the peer through the proxies that are trusted.

        Each proxy appends the address that it was called from, so the list is read from its end, and no further than
        the first address that is no trusted proxy: whatever stands before it, the client itself may have written.
        """
        address = _parse_address(request.client.host if request.client else "")
        # a proxy may add a header line of its own: together they are one list
        forwarded = ",".join(request.headers.getlist("x-forwarded-for")).split(",")
        for text in reversed(forwarded):
            previous = _parse_address(text)
            if not self._is_trusted_proxy(address) or previous is None:
                break
            address = previous
        return address

    def _is_trusted_proxy(self, address: _Address | None) -> bool:
        return address is not None and any(address in network for network in self._host.settings.proxies)

    def is_https(self, request: HTTPConnection) -> bool:
        """Tell whether the browser came by https, to this process or to the proxy before it."""
        if request.client and self._is_trusted_proxy(_parse_address(request.client.host)):
            forwarded = request.headers.get("x-forwarded-proto", "").split(",")[0].strip()
            if forwarded:
                return forwarded == "https"
        return request.url.scheme == "https" or urlsplit(self._host.public_url).scheme == "https"


def _parse_address(text: str) -> _Address | None:
    """Parse an address as proxies write it, with or without a port; `None` where it is none."""
    text = text.strip()[:_MAX_ADDRESS]
    match = _WITH_PORT.fullmatch(text)
    try:
        address = ipaddress.ip_address((match["v6"] or match["v4"]) if match else text)
    except ValueError:
        return None
    # a dual-stack socket shows IPv4 clients as `::ffff:…`: they are counted as what they are
    return address.ipv4_mapped or address if isinstance(address, ipaddress.IPv6Address) else address


# in this order, because each browser's text names those after it: Edge says Chrome and Safari as well
_BROWSERS = (("Edg/", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari"))
_SYSTEMS = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("Mac OS", "Mac"),
    ("Linux", "Linux"),
)


def device_name(request: HTTPConnection) -> str:
    """Name the client's browser and system as people know them (`Firefox · Android`), as far as they are known."""
    user_agent = request.headers.get("user-agent", "")
    names = [next((name for sign, name in known if sign in user_agent), "") for known in (_BROWSERS, _SYSTEMS)]
    return " · ".join(name for name in names if name)
