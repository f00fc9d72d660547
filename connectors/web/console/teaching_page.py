"""Teaching a till that nobody knows: a request of it is chosen, and one question after another answered by a tap.

Owns these pages and the order of the questions; what is asked and what answers mean is the connector's `teaching`, how
requests look is `sample_view`'s. Saving what was taught to an existing connection is `reteaching_page`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from starlette.responses import Response

from connector_sdk.errors import BadPayload
from connector_sdk.expressions import parse_json
from connector_sdk.messages import Message
from connector_sdk.teaching import Leaf, Question, as_texts
from connectors.isolation.runner import RemoteTeaching
from connectors.store.connections.drafts import DraftContent, Sample
from connectors.web.console.onboarding import Onboarding, Step, load_onboarding, step_page
from connectors.web.console.routing import Router
from connectors.web.console.sample_view import Branch, build_tree, read_sample, shown_value
from connectors.web.console.till_step import business_defaults
from connectors.web.console.visit import PageNotFound, Visit

router = Router()

_MOST_PASTED = 200 * 1024
_PASTE = Message("Paste one request as your till sends it, of at most 200 KiB.")
_CUT = Message("This is not a whole request: something is missing in it. Copy all of it, to its last bracket.")
_LIKELY_SHOWN = 3


@dataclass(frozen=True, slots=True)
class TaughtDraft:
    """A draft of a connector that can be taught; `values` are its settings as texts."""

    onboarding: Onboarding
    teaching: RemoteTeaching
    values: Mapping[str, str]

    @property
    def content(self) -> DraftContent:
        """Everything chosen so far."""
        return self.onboarding.content

    @property
    def address(self) -> str:
        """The page of the questions."""
        return f"{self.onboarding.address}/teach"

    @property
    def summary(self) -> str:
        """The page of what all answers have come to."""
        return f"{self.address}?all=1"


@dataclass(frozen=True, slots=True)
class QuestionView:
    """A question, its place among all, and what can be tapped; `answer` is the path it was answered with."""

    question: Question
    number: int
    total: int
    previous: str
    """The field of the question before; empty for the first."""
    answer: str
    tree: Branch
    likely: tuple[tuple[Leaf, str], ...]
    """The leaves that look like the answer, each with its value as it may be shown."""


async def load_taught_draft(visit: Visit) -> TaughtDraft:
    """Return the draft of the page's address, if its connector can be taught. Raises `PageNotFound`."""
    onboarding = await load_onboarding(visit)
    teaching = visit.teaching(onboarding.connector_class)
    if teaching is None:
        raise PageNotFound
    return TaughtDraft(onboarding, teaching, as_texts(onboarding.content.values))


# --- the request ----------------------------------------------------------------------------------------------------


# a form writes most signs of JSON as three
@router.post("/connect/{draft}/sample", page="/connect/{draft}/authorise", max_bytes=4 * _MOST_PASTED)
async def choose_sample(visit: Visit) -> Response:
    """Choose the request to teach by: one that arrived, or one that was pasted."""
    draft = await load_taught_draft(visit)
    sample = await _arrived_sample(visit, draft) if visit.form.get("request") else _pasted_sample(visit)
    if sample is None:
        return visit.redirect(f"{draft.onboarding.address}/authorise", _PASTE, "bad")
    if not sample.id and _is_cut(sample.content):
        return visit.redirect(f"{draft.onboarding.address}/authorise", _CUT, "bad")
    # what was typed counts more than what the request seems to prove itself by, and that more than what is usual
    values = {
        **await business_defaults(visit, draft.onboarding.connector_class),
        **await draft.teaching.proof(sample.as_request()),
        **draft.values,
    }
    await visit.services.drafts.save(draft.onboarding.draft, draft.content.with_sample(sample, values))
    return visit.redirect(draft.address)


async def _arrived_sample(visit: Visit, draft: TaughtDraft) -> Sample:
    """Return the captured request that the form names, and have it kept. Raises `PageNotFound`."""
    request_id = visit.form.get("request")
    captured = await visit.services.drafts.captured_requests(draft.onboarding.draft)
    request = next((request for request in captured if request.id == request_id), None)
    if request is None:
        raise PageNotFound
    await visit.services.drafts.keep_request(draft.onboarding.draft, request.id)
    return Sample.from_request(request.body, request.headers, request.id)


def _pasted_sample(visit: Visit) -> Sample | None:
    """Return what was pasted as a request; `None` where it is empty or too long."""
    body = visit.form.get("pasted").strip().encode()
    # what is pasted has no headers, so a proof that stands in them cannot be tried on it
    return Sample.from_request(body, {}) if 0 < len(body) <= _MOST_PASTED else None


def _is_cut(body: bytes) -> bool:
    """Tell whether what was pasted begins as JSON and is none, as when not all of it was copied."""
    if not body.startswith((b"{", b"[")):
        return False
    try:
        parse_json(body)
    except BadPayload:
        return True
    return False


# --- the questions --------------------------------------------------------------------------------------------------


@router.get("/connect/{draft}/teach")
async def teach_page(visit: Visit) -> Response:
    """Show the question that the address names or what all have come to; else go to the next question."""
    draft = await load_taught_draft(visit)
    sample = draft.content.sample
    if sample is None:
        return visit.redirect(f"{draft.onboarding.address}/authorise")
    questions = await draft.teaching.questions(draft.values, sample.content)
    question = _find_question(questions, visit.request.query_params.get("ask", ""))
    if question is None and not visit.request.query_params.get("all"):
        return visit.redirect(_next_page(draft, questions))
    return step_page(
        visit,
        draft.onboarding,
        Step.authorise,
        template="connect_teach.html",
        asked=await _question_view(draft, questions, question, sample.content) if question is not None else None,
        onward=_next_page(draft, questions),
        mends=draft.content.mends,
        read=await read_sample(draft.teaching, draft.onboarding.connector_class, draft.values, sample.content),
    )


def _find_question(questions: tuple[Question, ...], field: str) -> Question | None:
    return next((question for question in questions if question.field == field), None)


async def _question_view(
    draft: TaughtDraft, questions: tuple[Question, ...], question: Question, body: bytes
) -> QuestionView:
    position = questions.index(question)
    leaves = await draft.teaching.leaves(draft.values, body, question.field)
    likely = [leaf for leaf in leaves if leaf.likely]
    return QuestionView(
        question,
        number=position + 1,
        total=len(questions),
        previous=questions[position - 1].field if position else "",
        answer=draft.values.get(question.field, ""),
        tree=build_tree(leaves),
        likely=tuple((leaf, shown_value(leaf)) for leaf in likely[:_LIKELY_SHOWN]),
    )


def _next_page(draft: TaughtDraft, questions: tuple[Question, ...], *, after: str = "") -> str:
    """Return the page of the first question that has no answer yet, beginning behind that of the field `after`.

    Where all have an answer, or were skipped, it is the page of what they have come to.
    """
    # the others come round again after the last one: who skips ahead is led back to what is open
    fields = [question.field for question in questions]
    start = fields.index(after) + 1 if after in fields else 0
    for field in fields[start:] + fields[:start]:
        if not draft.values.get(field) and field not in draft.content.skipped and field != after:
            return f"{draft.address}?ask={field}"
    return draft.summary


# --- answers --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Answered:
    """The settings after an answer, and the questions that were skipped."""

    values: Mapping[str, str]
    skipped: tuple[str, ...]


@router.post("/connect/{draft}/teach", page="/connect/{draft}/teach")
async def save_answer(visit: Visit) -> Response:
    """Save an answer, a path or that there is none; the question stays where the path cannot be read."""
    draft = await load_taught_draft(visit)
    sample = draft.content.sample
    if sample is None:
        return visit.redirect(f"{draft.onboarding.address}/authorise")
    questions = await draft.teaching.questions(draft.values, sample.content)
    question = _find_question(questions, visit.form.get("field"))
    # settings change which questions there are: the page may show one that is not asked any more
    if question is None:
        raise PageNotFound
    answered = await _take_answer(visit, draft, question, sample.content)
    content = draft.content.with_answers(answered.values, answered.skipped)
    await visit.services.drafts.save(draft.onboarding.draft, content)
    return await _page_after_answer(visit, draft, content, answered, question)


async def _take_answer(visit: Visit, draft: TaughtDraft, question: Question, body: bytes) -> _Answered:
    """Return the settings with the answer of the form. Raises `PageNotFound` for what cannot have been tapped."""
    field = question.field
    skipped = tuple(name for name in draft.content.skipped if name != field)
    if "skip" in visit.form:
        if question.needed:
            raise PageNotFound
        return _Answered({**draft.values, field: ""}, (*skipped, field))
    # a path is an expression that the connector will follow: only one that it has offered is taken
    path = visit.form.get("path")
    if path not in {leaf.path for leaf in await draft.teaching.leaves(draft.values, body, field)}:
        raise PageNotFound
    return _Answered(await draft.teaching.taken(draft.values, body, field, path), skipped)


async def _page_after_answer(
    visit: Visit, draft: TaughtDraft, content: DraftContent, answered: _Answered, question: Question
) -> Response:
    body = content.sample.content if content.sample is not None else b""
    sketch = await draft.teaching.sketch(answered.values, body)
    if "skip" not in visit.form and question.field in sketch.wrong:
        return visit.redirect(f"{draft.address}?ask={question.field}", sketch.wrong[question.field], "bad")
    # an answer may bring further questions, or answer some of them: they are asked for anew
    questions = await draft.teaching.questions(answered.values, body)
    onboarding = Onboarding(replace(draft.onboarding.draft, content=content), draft.onboarding.connector_class)
    return visit.redirect(
        _next_page(TaughtDraft(onboarding, draft.teaching, answered.values), questions, after=question.field)
    )
