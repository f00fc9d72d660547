"""No address that a cafe typed reaches anything but the public internet, whatever it is spelled or resolves like."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from aiohappyeyeballs import AddrInfoType

from connectors.relay.addresses import AddressPolicy, Refused, is_public, parse_hosts
from connectors.relay.posting import SubscriberClient
from tests.relay.subscriber import subscribing

PRIVATE = [
    "127.0.0.1",
    "127.1.2.3",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.5.4",
    "192.168.1.1",
    "169.254.169.254",  # where clouds keep their secrets
    "100.64.0.1",
    "192.0.0.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "fc00::1",
    "fd00:ec2::254",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::a00:1",
    "2002:7f00:1::",
    "2001:0:7f00:1::80ff:fffe",  # Teredo, whose server is ours
    "2001:db8::1",
]
PUBLIC = ["93.184.216.34", "8.8.8.8", "2606:2800:220:1:248:1893:25c8:1946", "64:ff9b::808:808", "::ffff:8.8.8.8"]


@pytest.mark.parametrize("address", PRIVATE)
def test_what_is_not_public_is_not(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_what_is_public_is(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


SPELLINGS = [
    *(f"https://[{address}]/" if ":" in address else f"https://{address}/" for address in PRIVATE),
    "https://localhost/",
    "https://LOCALHOST./",
    "https://2130706433/",  # one number
    "https://0177.0.0.1/",  # octal
    "https://0x7f.1/",
    "https://0x7f000001/",
    "https://127.1/",
    "https://[::1%25lo]/",
    "https://169.254.169.254/latest/meta-data/",
    "https://a@127.0.0.1/",
    "https://93.184.216.34@127.0.0.1/",
    "https://127.0.0.1\\@93.184.216.34/",
    "https://①②⑦.⓪.⓪.①/",
    "https://127.0.0.1\t/",
    "http://93.184.216.34/",
    "ftp://93.184.216.34/",
    "file:///etc/passwd",
    "gopher://93.184.216.34/",
    "https:///hook",
    "https://",
    "//93.184.216.34/",
    "https://no-such-host.invalid/",
    "https://93.184.216.34:99999/",
    "https://" + "a" * 3000 + ".com/",
]


@pytest.mark.parametrize("url", SPELLINGS)
async def test_no_spelling_of_a_private_address_can_be_set(url: str) -> None:
    with pytest.raises(Refused):
        await AddressPolicy().check(url)


async def test_a_public_address_can_be_set() -> None:
    assert (await AddressPolicy().check("https://93.184.216.34/hook")).port == 443
    assert (await AddressPolicy().check("https://[2606:2800:220:1:248:1893:25c8:1946]:8443/hook")).port == 8443


def resolving(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Have names resolve to these addresses, one look-up after another (the last again); return who was asked for."""
    asked: list[str] = []
    left = list(answers)

    async def getaddrinfo(_loop: Any, host: str, port: int, **_more: Any) -> list[Any]:
        asked.append(host)
        addresses = left.pop(0) if len(left) > 1 else left[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(type(asyncio.get_running_loop()), "getaddrinfo", getaddrinfo, raising=False)
    return asked


async def test_a_name_that_leads_to_a_private_address_beside_a_public_one_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolving(monkeypatch, ["93.184.216.34", "10.0.0.1"])
    with pytest.raises(Refused):
        await AddressPolicy().check("https://mixed.test/")


async def test_a_name_that_changes_between_check_and_use_reaches_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    async with subscribing() as inside:
        port = inside.origin.rpartition(":")[2]
        policy = AddressPolicy()
        asked = resolving(monkeypatch, ["93.184.216.34"], ["127.0.0.1"])
        url = f"https://rebinding.test:{port}/hook"
        await policy.check(url)
        client = SubscriberClient(policy)
        reply = await client.post(url, b"{}", [])
        await client.aclose()
        assert (reply.status, reply.error) == (None, "the address leads into a private network")
        assert asked == ["rebinding.test", "rebinding.test"]
        assert inside.received == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0177.0.0.1", "0x7f.1"])
async def test_nobody_inside_is_even_connected_to(host: str) -> None:
    """What was an allowed host when the subscription was made may be none any more."""
    connected: list[object] = []
    server = await asyncio.start_server(lambda _reader, writer: connected.append(writer), "127.0.0.1", 0)
    async with server:
        client = SubscriberClient(AddressPolicy())
        port = server.sockets[0].getsockname()[1]
        reply = await client.post(f"https://{host}:{port}/", b"{}", [])
        await client.aclose()
    assert reply.error == "the address leads into a private network"
    assert connected == []


async def test_whoever_answers_at_the_other_end_is_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A route, a proxy of the machine or a resolver inside a library may lead a public address to a private peer."""

    async def connect_elsewhere(addr_infos: Sequence[AddrInfoType], **_: Any) -> socket.socket:
        family, kind, protocol, _name, (_host, port, *_more) = addr_infos[0]
        other = socket.socket(family, kind, protocol)
        other.setblocking(False)
        await asyncio.get_running_loop().sock_connect(other, ("127.0.0.1", port))
        return other

    async with subscribing() as inside:
        monkeypatch.setattr("aiohttp.connector.aiohappyeyeballs.start_connection", connect_elsewhere)
        # without TLS, which would end the connection before the check does
        monkeypatch.setattr(AddressPolicy, "parse", lambda _policy, _url: None)
        client = SubscriberClient(AddressPolicy())
        reply = await client.post(f"http://93.184.216.34:{inside.origin.rpartition(':')[2]}/", b"{}", [])
        await client.aclose()
        assert reply.error == "the address leads into a private network"
        assert inside.received == []


async def test_a_redirect_into_the_network_is_not_followed() -> None:
    async with subscribing() as inside:
        leads = [(b"location", f"{inside.origin}/secret".encode())]
        async with subscribing(answer=lambda _one: 307, headers=leads) as outside:
            policy = AddressPolicy(parse_hosts(outside.origin.removeprefix("http://")))
            client = SubscriberClient(policy)
            reply = await client.post(f"{outside.origin}/hook", b"{}", [])
            await client.aclose()
        assert reply.status == 307
        assert inside.received == []


@pytest.mark.parametrize("allowed", [lambda host: host, lambda host: host.partition(":")[0]])
async def test_a_host_that_the_operator_allows_works_and_no_other(allowed: Callable[[str], str]) -> None:
    async with subscribing() as inside:
        host = inside.origin.removeprefix("http://")
        policy = AddressPolicy(parse_hosts(f"n8n.internal, {allowed(host)}"))
        await policy.check(f"{inside.origin}/hook")
        client = SubscriberClient(policy)
        reply = await client.post(f"{inside.origin}/hook", b"{}", [("content-type", "application/json")])
        await client.aclose()
        assert (reply.status, reply.text) == (200, "thanks")
        for other in ("https://127.0.0.2/", "https://localhost/", "http://10.0.0.1/"):
            with pytest.raises(Refused):
                await policy.check(other)


async def test_an_endpoint_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.relay.posting._DEADLINE", 0.2)
    async with subscribing(seconds=30.0) as endless:
        client = SubscriberClient(AddressPolicy(parse_hosts(endless.origin.removeprefix("http://"))))
        reply = await asyncio.wait_for(client.post(f"{endless.origin}/hook", b"{}", []), 20)
        await client.aclose()
    assert (reply.status, reply.error) == (None, "no answer within 0.2 seconds")
