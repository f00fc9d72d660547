"""Forms restored as they were typed before somebody had to sign in again, or left the page for another.

Owns only the reading back; the forms are saved where `Visit.save_form` and the sign-in page save them.
"""

from __future__ import annotations

from connectors.web.console.posted_form import PostedForm
from connectors.web.console.visit import Visit


async def restored_form(visit: Visit) -> PostedForm:
    """Return the form saved under the address's `kept` for this very page; an empty one where there is none."""
    # the name is bound to the page: a form saved for another page is not shown here
    saved_name = visit.request.query_params.get("kept", "")
    return PostedForm(await visit.console.saved_forms.take(saved_name, visit.request.url.path))
