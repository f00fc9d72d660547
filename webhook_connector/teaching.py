"""How this connector is taught by one request of the till: the parts of the SDK's `Teaching`, put together.

Owns nothing but that; questions, answers, the sketch and the recognition of proofs are in the modules beside.
"""

from __future__ import annotations

from connector_sdk.teaching import Teaching
from webhook_connector.answers import add_answer
from webhook_connector.proof_recognition import explain_unproven, recognise_proof
from webhook_connector.questions import ask, find_leaves
from webhook_connector.sketching import setting_of, sketch

TEACHING = Teaching(
    questions=ask,
    leaves=find_leaves,
    taken=add_answer,
    sketch=sketch,
    proof=recognise_proof,
    unproven=explain_unproven,
    secret="secret",  # noqa: S106 - the name of the field
    named=setting_of,
)
