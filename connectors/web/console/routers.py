"""All pages of the console, by module; the console's application mounts them.

Owns the list and nothing else: a module of pages that is missing here is not served.
"""

from __future__ import annotations

from connectors.web.console import (
    connection_actions,
    connection_page,
    consent,
    diagnostics_page,
    disconnect_page,
    forget_page,
    give_stamps,
    home_page,
    hook_address_page,
    key_step,
    live,
    locations_step,
    login,
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
    till_step,
    unread_page,
    welcome_page,
)

# of two routes of one shape the first counts: `mount` sorts by how many parts are open, and keeps this order else
ROUTERS = (
    login.router,
    passkeys.router,
    security_log.router,
    home_page.router,
    onboarding.router,
    till_step.router,
    consent.router,
    key_step.router,
    locations_step.router,
    rule_step.router,
    teaching_page.router,
    reteaching_page.router,
    live.router,
    receipt_page.router,
    give_stamps.router,
    connection_page.router,
    operation_review.router,
    connection_actions.router,
    welcome_page.router,
    rule_page.router,
    settings_page.router,
    hook_address_page.router,
    unread_page.router,
    disconnect_page.router,
    diagnostics_page.router,
    forget_page.router,
    operator_page.router,
    quotas_page.router,
)
