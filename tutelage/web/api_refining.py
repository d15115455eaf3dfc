"""API: refinements: marking a round and going on from it, checks of the model, problems by authors, what experts do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated, Literal

import anyio
from fastapi import Query
from fastapi.concurrency import run_in_threadpool
from pydantic import Field
from sqlalchemy.exc import DBAPIError

from tutelage.feedback.asking.payloads import LiveResponse, Model, SubmittedAnswer, Text
from tutelage.feedback.errors import Refused
from tutelage.feedback.people import allowances
from tutelage.feedback.people.access import Member
from tutelage.feedback.refining import authoring, checking, experts, history, working
from tutelage.feedback.refining.history import Which
from tutelage.feedback.refining.judging import is_right
from tutelage.feedback.refining.rules import GoingOn
from tutelage.feedback.refining.views import ProblemLine, ProblemView
from tutelage.feedback.refining.working import Going
from tutelage.web.access import Annotator, AnyMember, Teacher, TheSite
from tutelage.web.api_work import submission
from tutelage.web.fields import Id, Key, strict_router
from tutelage.web.generation import GenerationFailed
from tutelage.web.site import Site
from tutelage.web.views import TaskView, task_view

router = strict_router("refining")

SAMPLES = 4  # answers of each model to a problem that is tried
AT_WORK = "A model is at work on this solution already: wait until it is done."
HELD = 15.0  # seconds for which one server has a solution to itself: so long it is waited for when it dies
HELD_AGAIN = 3.0  # seconds after which a server that is still at work says so


class Refining(Model):
    """The refinement that an item is a round of (null: none yet), and why one cannot go on from it ("": one can)."""

    problem: ProblemView | None
    why_not: str


class MarkedRound(SubmittedAnswer):
    """The marks of a round, and what is to come of it: a model goes on (`how`), or the experts get it (`hand_up`: why)."""

    how: GoingOn | None = None
    hand_up: Annotated[str, Field(max_length=2_000)] | None = None


class Round(Model):
    """The refinement after its marks were stored; `view` is the new round, where a model has gone on."""

    problem: ProblemView | None
    view: TaskView | None


class Verdict(Model):
    """Whether what the model answered is right."""

    right: bool


class Solution(Model):
    """A whole solution."""

    text: Text


class Why(Model):
    """A reason in words."""

    why: Annotated[str, Field(max_length=2_000)] = ""


class Answered(Model):
    """One answer to a problem that is tried."""

    text: str
    right: bool
    finish: Literal["eos", "length"]


class ModelTried(Model):
    """What one model makes of a problem."""

    model: str
    answers: tuple[Answered, ...]


class Trial(Model):
    """What the models make of a problem; `name` stands for these answers when the problem is kept."""

    name: str
    prompt: str
    models: tuple[ModelTried, ...]


class Keeping(Model):
    """A problem to keep with what was answered to it (`trial`); `anyway`: although no model fails."""

    draft: authoring.Draft
    trial: Annotated[str, Field(max_length=100)]
    whose: Literal["me", "experts"] = "me"
    anyway: bool = False


class Kept(Model):
    """The item of the problem's first round."""

    root: int


# rounds ---------------------------------------------------------------------------------------------------------------


@router.get("/projects/{project}/assignments/{assignment_id}/refinement")
def refinement(site: TheSite, who: Annotator, assignment_id: Id) -> Refining:
    """The refinement that an own item of steps is a round of."""
    problem, why_not = working.refinement_at(site.database, who, assignment_id)
    return Refining(problem=problem, why_not=why_not)


@router.post("/projects/{project}/assignments/{assignment_id}/round")
async def mark(site: TheSite, who: Annotator, assignment_id: Id, body: MarkedRound, key: Key) -> Round:
    """Store the marks of a round; with `how` a model goes on from its first wrong step, and the new round comes back.

    Again, after whatever went wrong: the marks are stored once, and there is one new round.
    """
    if body.how:
        _check_models(site)
        await run_in_threadpool(site.limits.take, "generate", site.database, who.user.name)
    async with _one_at_a_time(site, who, assignment_id):
        given = submission(body, key)
        marked = await run_in_threadpool(
            working.mark, site.database, who, assignment_id, given, body.how, body.hand_up
        )
        if marked.going is None:
            if marked.task is None:
                return Round(problem=marked.problem, view=None)
            return Round(problem=marked.problem, view=await run_in_threadpool(task_view, marked.task))
        begun, said = await _write(site, marked.going)
        problem, task = await run_in_threadpool(working.add, site.database, who, marked.going, begun, said)
        return Round(problem=problem, view=await run_in_threadpool(task_view, task))


async def _write(site: Site, going: Going) -> tuple[str, LiveResponse]:
    """How the solution begins, and what a model wrote behind that."""
    model = _served(site, going.model)
    begun = going.begun
    if going.told is not None:
        [step] = await site.generator.write(going.told, 1, model=model, one_step=going.splitter)
        try:
            begun = going.begun_with(step.text)
        except (ValueError, IndexError) as error:
            raise GenerationFailed(
                "The model wrote no step from the explanation, and your marks are stored: try again, or insert a step of "
                "your own."
            ) from error
    [said] = await site.generator.write(going.prompt, 1, begun, model=model)
    why = working.solution_end(said.finish)
    if why:
        raise GenerationFailed(why)
    return begun, said


@router.post("/projects/{project}/problems/{root}/check")
async def check(site: TheSite, who: Annotator, root: Id) -> ProblemView:
    """Ask the model once more, telling it nothing, where the refinement waits for that."""
    _check_models(site)
    await run_in_threadpool(site.limits.take, "generate", site.database, who.user.name)
    async with _one_at_a_time(site, who, -root):
        view, asked = await run_in_threadpool(checking.next_check, site.database, who, root)
        if asked is None:
            return view
        [said] = await site.generator.write(asked.prompt, 1, model=_served(site, asked.model))
        right = (
            False if said.finish == "length" else await run_in_threadpool(is_right, asked.prompt, said.text)
        )
        return await run_in_threadpool(checking.add_check, site.database, who, asked, said, right)


@router.post("/projects/{project}/problems/{root}/check/{n}")
def judge_check(site: TheSite, who: Annotator, root: Id, n: Id, body: Verdict) -> ProblemView:
    """Say whether the model's answer is right, where the problem has no reference that says so."""
    return checking.judge_check(site.database, who, root, n, body.right)


# problems -------------------------------------------------------------------------------------------------------------


@router.get("/projects/{project}/problems")
def problems(site: TheSite, who: AnyMember, outcome: Annotated[Which, Query()] = "") -> list[ProblemLine]:
    """The refined problems, newest first: all, or those of one outcome; annotators see their own."""
    return history.problems(site.database, who, outcome)


@router.get("/projects/{project}/problems/{root}")
def problem(site: TheSite, who: AnyMember, root: Id) -> ProblemView:
    """One refined problem with all its rounds."""
    return history.problem(site.database, who, root)


@router.post("/projects/{project}/problems/{root}/take")
def take(site: TheSite, who: Teacher, root: Id) -> TaskView:
    """Take the last round over, to mark it anew and go on from it."""
    return task_view(experts.take(site.database, who, root))


@router.post("/projects/{project}/problems/{root}/write")
def write(site: TheSite, who: Teacher, root: Id, body: Solution) -> ProblemView:
    """Write the solution; every step of it counts as right."""
    return experts.write(site.database, who, root, body.text)


@router.post("/projects/{project}/problems/{root}/broken")
def broken(site: TheSite, who: Teacher, root: Id, body: Why) -> ProblemView:
    """Say that the problem itself is broken."""
    return experts.end(site.database, who, root, body.why)


@router.post("/projects/{project}/author/try")
async def try_it(site: TheSite, who: Teacher, body: authoring.Draft) -> Trial:
    """Let every served model answer a problem four times; nothing is stored."""
    prompt = await run_in_threadpool(authoring.prompt_from, body)
    _check_models(site)
    tried: list[authoring.Tried] = []
    shown = []
    for model in site.generator.models:
        await run_in_threadpool(site.limits.take, "generate", site.database, who.user.name)
        said = await site.generator.write(prompt, SAMPLES, model=model.name)
        found = await run_in_threadpool(authoring.judged, prompt, said)
        tried += found
        answers = tuple(
            Answered(text=one.said.text, right=one.right, finish=one.said.finish) for one in found
        )
        shown.append(ModelTried(model=model.name, answers=answers))
    name = await run_in_threadpool(authoring.keep_trial, site.database, who, prompt, tried)
    return Trial(name=name, prompt=history.asked(prompt), models=tuple(shown))


@router.post("/projects/{project}/author/problems", status_code=201)
def keep(site: TheSite, who: Teacher, body: Keeping) -> Kept:
    """Keep a problem that was tried: its wrong answers are stored, and one of them is the first round."""
    prompt = authoring.prompt_from(body.draft)
    tried = authoring.trial(site.database, who, body.trial, prompt)
    root = authoring.keep(site.database, who, body.draft, tried, body.whose, body.anyway)
    authoring.drop_trial(site.database, who, body.trial)
    return Kept(root=root)


# inside ---------------------------------------------------------------------------------------------------------------


def _check_models(site: Site) -> None:
    if site.generator.why_off:
        raise Refused("conflict", site.generator.why_off)


def _served(site: Site, model: str) -> str:
    """The model that wrote the first solution where it is served, else the first that is.

    Commands name a model by its folder, in which a run folder's result is `model`.
    """
    served = site.generator.models
    same = (one.name for one in served if model in (one.name, one.path, str(Path(one.path) / "model")))
    return next(same, served[0].name)


@asynccontextmanager
async def _one_at_a_time(site: Site, who: Member, what: int) -> AsyncIterator[None]:
    """Refused: conflict, while the same is under way already, here or on another server."""
    busy = f"{who.project_id}/{what}"
    await run_in_threadpool(allowances.begin, site.database, busy, HELD, AT_WORK)
    holding = asyncio.create_task(_hold(site, busy))
    try:
        yield
    finally:
        holding.cancel()
        with anyio.CancelScope(shield=True):  # also for whoever has closed the page meanwhile
            await asyncio.wait([holding])
            await run_in_threadpool(allowances.end, site.database, busy)


async def _hold(site: Site, busy: str) -> None:
    while True:
        await asyncio.sleep(HELD_AGAIN)
        with suppress(DBAPIError):  # a store that is busy or away now: the next time is soon enough
            await run_in_threadpool(allowances.go_on, site.database, busy, HELD)
