"""API: text that models write on the spot in a chat."""

from __future__ import annotations

from typing import Annotated

from fastapi.concurrency import run_in_threadpool
from pydantic import Field

from tutelage.feedback.asking.payloads import Model, Receipt, SubmittedAnswer
from tutelage.feedback.projects import projects
from tutelage.feedback.work import live
from tutelage.web.access import Annotator, Reader, TheSite
from tutelage.web.api_work import submission
from tutelage.web.fields import Id, Key, strict_router
from tutelage.web.views import Rendered, TaskView, rendered, task_view

router = strict_router("live")


class Availability(Model):
    """Whether models can write here, and if not, why."""

    available: bool
    why_off: str | None


class Message(Model):
    """The annotator's next message; an empty first one lets the models answer the prompt as it is."""

    message: Annotated[str, Field(max_length=20_000)]


class Choice(SubmittedAnswer):
    """The answer to a turn; `position` continues the conversation where several are equally good."""

    position: Annotated[int, Field(ge=0, le=8)] | None = None


class TurnView(Model):
    """One turn of a chat: the message, its candidates, and the chosen one when there is one."""

    message: Rendered
    view: TaskView
    chosen: Rendered | None


@router.get("/generation")
def availability(site: TheSite, who: Reader) -> Availability:
    """Whether models can write here."""
    return Availability(available=site.generator.why_off is None, why_off=site.generator.why_off)


@router.get("/projects/{project}/assignments/{assignment_id}/turns")
def turns(site: TheSite, who: Annotator, assignment_id: Id) -> list[TurnView]:
    """The chat so far, oldest turn first."""
    return [
        TurnView(
            message=rendered(turn["message"], turn["task"].markdown),
            view=task_view(turn["task"]),
            chosen=None if turn["chosen"] is None else rendered(turn["chosen"], turn["task"].markdown),
        )
        for turn in live.turns(site.database, who, assignment_id)
    ]


@router.post("/projects/{project}/assignments/{assignment_id}/turns", status_code=201)
async def add_turn(site: TheSite, who: Annotator, assignment_id: Id, body: Message) -> TaskView:
    """Say something; models answer with candidates to choose from."""
    await run_in_threadpool(site.limits.take, "generate", site.database, who.user.name)
    prompt = await run_in_threadpool(live.chat_prompt, site.database, who, assignment_id, body.message)
    settings = await run_in_threadpool(projects.settings, site.database, who)
    candidates = await site.generator.write(prompt, settings.candidates)
    task = await run_in_threadpool(live.add_turn, site.database, who, assignment_id, body.message, candidates)
    return await run_in_threadpool(task_view, task)


@router.post("/projects/{project}/assignments/{assignment_id}/choose")
def choose(site: TheSite, who: Annotator, assignment_id: Id, body: Choice, key: Key) -> Receipt:
    """Answer a turn (the assignment is the turn's own); the best candidate continues the conversation."""
    return live.choose(site.database, who, assignment_id, submission(body, key), body.position)
