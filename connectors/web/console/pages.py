"""All pages of the console, by module; the console's application mounts them.

Owns the list and nothing else: a module of pages that is missing here is not served.
"""

from __future__ import annotations

from connectors.web.console import (
    authorise_step,
    catalogue,
    connection_actions,
    connection_page,
    consent,
    diagnostics_page,
    disconnect_page,
    doors,
    forget_page,
    give_stamps,
    hook_address_page,
    key_step,
    live,
    locations_step,
    onboarding,
    operation_review,
    operator_page,
    passkeys,
    quotas_page,
    receipt_page,
    reteaching_page,
    rule_page,
    rule_step,
    security_log,
    settings_page,
    teaching_page,
    unread_page,
    welcome_page,
)

# of two routes of one shape the first counts: `mount` sorts by how many parts are open, and keeps this order else
PAGES = (
    doors.pages,
    passkeys.pages,
    security_log.pages,
    catalogue.pages,
    onboarding.pages,
    authorise_step.pages,
    consent.pages,
    key_step.pages,
    locations_step.pages,
    rule_step.pages,
    teaching_page.pages,
    reteaching_page.pages,
    live.pages,
    receipt_page.pages,
    give_stamps.pages,
    connection_page.pages,
    operation_review.pages,
    connection_actions.pages,
    welcome_page.pages,
    rule_page.pages,
    settings_page.pages,
    hook_address_page.pages,
    unread_page.pages,
    disconnect_page.pages,
    diagnostics_page.pages,
    forget_page.pages,
    operator_page.pages,
    quotas_page.pages,
)
