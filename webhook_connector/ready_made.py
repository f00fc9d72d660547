"""Mappings that are ready: only for tills of which one signed request carries number, sum, refunds and customer.

Owns their paths and where those are from; the samples are composed by us from documented fields, and nothing in them is
anybody's.
"""

from __future__ import annotations

from importlib import resources

from connector_sdk.teaching import ReadyMade


def _sample(name: str) -> bytes:
    # a resource of the package, for an installed one need not lie in a folder
    return (resources.files("webhook_connector") / "samples" / f"{name}.json").read_bytes()


ALL = (
    ReadyMade(
        name="woocommerce",
        title="WooCommerce",
        settings={
            "proof": "hmac",
            "proof_header": "X-WC-Webhook-Signature",
            "proof_encoding": "base64",
            "map_receipt_id": "id",
            "map_version": "date_modified_gmt",
            "map_status": "status",
            "closed_statuses": "processing, completed",
            "open_statuses": "pending, on-hold, checkout-draft, auto-draft",
            "refunded_statuses": "refunded",
            "voided_statuses": "cancelled, failed, trash",
            "map_closed_at": "date_paid_gmt || date_completed_gmt",
            # what ends in _gmt is written without a zone, and in UTC wherever the shop is
            "dates_zone": "UTC",
            "map_paid": "total",
            # WooCommerce writes what went back with a minus, which `mapping` takes off
            "map_refunded": "refunds[].total",
            "map_currency": "currency",
            "map_phone": "billing.phone",
            "map_email": "billing.email",
            "map_codes": "coupon_lines[].code",
            "map_lines": "line_items",
            "map_product": "product_id",
            "map_quantity": "quantity",
        },
        sample=_sample("woocommerce"),
        source="WooCommerce REST API documentation, “Order properties” and “Webhooks”",
        steps=(
            "In WordPress: WooCommerce → Settings → Advanced → Webhooks → Add webhook.",
            "Topic: Order updated. Delivery URL: the address below. Secret: one that you make up; type it here too.",
            "Finish here within a day: WooCommerce gives a webhook up after five answers that refuse it.",
        ),
    ),
    ReadyMade(
        name="shopify",
        title="Shopify",
        settings={
            "proof": "hmac",
            "proof_header": "X-Shopify-Hmac-Sha256",
            "proof_encoding": "base64",
            "map_receipt_id": "id",
            "map_version": "updated_at",
            "map_status": "financial_status",
            "closed_statuses": "paid, partially_refunded",
            "open_statuses": "pending, authorized, partially_paid, expired",
            "refunded_statuses": "refunded",
            "voided_statuses": "voided",
            "map_closed_at": "processed_at || created_at",
            "map_paid": "total_price",
            "map_tip": "total_tip_received",
            # an order's refunds name what was attempted, too: only what succeeded went back
            "map_refunded": "refunds[].transactions[?kind=='refund' && status=='success'].amount[]",
            "map_currency": "currency",
            "map_phone": "phone || customer.phone || billing_address.phone",
            "map_email": "email || contact_email || customer.email",
            "map_codes": "discount_codes[].code",
            "map_location": "location_id",
            "map_lines": "line_items",
            "map_product": "product_id || id",
            "map_quantity": "quantity",
        },
        sample=_sample("shopify"),
        source="Shopify Admin REST API documentation, “Order” and “Webhooks”",
        steps=(
            "In Shopify: Settings → Notifications → Webhooks → Create webhook: JSON, and the address below.",
            "Make one for Order payment and one for Order update.",
            "Copy the secret that Shopify shows under the list, and paste it here.",
        ),
    ),
)
