"""Hook signatures: each scheme takes its own and refuses what was tampered with, replayed or early."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_sdk import Forged
from connector_sdk.signatures import OrderedFieldsMd5, StandardWebhooks, TimestampedHmac

NOW = 1_760_000_000


@given(st.lists(st.text()), st.text(min_size=1))
def test_ordered_fields(fields: list[str], secret: str) -> None:
    scheme = OrderedFieldsMd5(secret)
    scheme.verify(fields, scheme.sign(fields))
    with pytest.raises(Forged):
        scheme.verify([*fields, "more"], scheme.sign(fields))
    with pytest.raises(Forged):
        scheme.verify(fields, "ї")


def scheme(secret: str = "s") -> TimestampedHmac:
    return TimestampedHmac(secret, now=lambda: NOW)


def test_timestamped_hmac_and_its_rotation() -> None:
    signed = scheme().sign(b"body", NOW)
    scheme().verify(b"body", signed)
    both = f"{scheme('old').sign(b'body', NOW)},{signed.partition(',')[2]}"
    scheme().verify(b"body", both)
    for body, header in (
        (b"Body", signed),
        (b"body", signed[:-1] + "x"),
        (b"body", ""),
        (b"body", "t=,v1="),
        (b"body", "v1=a"),
    ):
        with pytest.raises(Forged):
            scheme().verify(body, header)


@pytest.mark.parametrize(("skew", "said"), [(301, "301 seconds old"), (-400, "400 seconds ahead")])
def test_timestamped_hmac_names_the_skew(skew: int, said: str) -> None:
    with pytest.raises(Forged, match=said):
        scheme().verify(b"body", scheme().sign(b"body", NOW - skew))


def test_standard_webhooks() -> None:
    one = StandardWebhooks("whsec_" + base64.b64encode(b"k" * 24).decode())
    headers = one.sign(b'{"a":1}', "msg_1", datetime.now(UTC))
    one.verify(b'{"a":1}', headers)
    stale = one.sign(b'{"a":1}', "msg_1", datetime.now(UTC) - timedelta(minutes=6))
    nonsense = {**headers, "webhook-signature": "v1"}
    for body, given_headers in ((b'{"a":2}', headers), (b'{"a":1}', {}), (b'{"a":1}', stale), (b'{"a":1}', nonsense)):
        with pytest.raises(Forged):
            one.verify(body, given_headers)
