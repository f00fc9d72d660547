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


def timestamped(secret: str = "s") -> TimestampedHmac:
    """Build the scheme with a clock that stands at `NOW`."""
    return TimestampedHmac(secret, now=lambda: NOW)


def test_timestamped_hmac_and_its_rotation() -> None:
    signed = timestamped().sign(b"body", NOW)
    timestamped().verify(b"body", signed)
    by_both_secrets = f"{timestamped('old').sign(b'body', NOW)},{signed.partition(',')[2]}"
    timestamped().verify(b"body", by_both_secrets)
    for body, header in (
        (b"Body", signed),
        (b"body", signed[:-1] + "x"),
        (b"body", ""),
        (b"body", "t=,v1="),
        (b"body", "v1=a"),
    ):
        with pytest.raises(Forged):
            timestamped().verify(body, header)


@pytest.mark.parametrize(("skew", "text"), [(301, "301 seconds old"), (-400, "400 seconds ahead")])
def test_timestamped_hmac_names_the_skew(skew: int, text: str) -> None:
    with pytest.raises(Forged, match=text):
        timestamped().verify(b"body", timestamped().sign(b"body", NOW - skew))


def test_standard_webhooks() -> None:
    scheme = StandardWebhooks("whsec_" + base64.b64encode(b"k" * 24).decode())
    body = b'{"a":1}'
    signed = scheme.sign(body, "msg_1", datetime.now(UTC))
    scheme.verify(body, signed)
    stale = scheme.sign(body, "msg_1", datetime.now(UTC) - timedelta(minutes=6))
    nonsense = {**signed, "webhook-signature": "v1"}
    with pytest.raises(Forged):
        scheme.verify(b'{"a":2}', signed)
    for headers in ({}, stale, nonsense):
        with pytest.raises(Forged):
            scheme.verify(body, headers)
