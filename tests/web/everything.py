"""A project in which everything has happened, for whatever looks at every page."""

from __future__ import annotations

from typing import Any

from tests.feedback.kit import some_answer
from tests.web.kit import ANSWERS, PROMPTS, World
from tutelage.feedback.asking.payloads import ChatAnswer, LiveResponse, PairAnswer, Submission
from tutelage.feedback.items import browsing, building, changing
from tutelage.feedback.items.browsing import AnswerRow
from tutelage.feedback.items.changing import Label, Reserve
from tutelage.feedback.items.redaction import redact
from tutelage.feedback.people.access import Member
from tutelage.feedback.people.invitations import invite
from tutelage.feedback.projects import projects, webhooks
from tutelage.feedback.work import answers, live, queue
from tutelage.feedback.work.corrections import send_back
from tutelage.records import Vote
from tutelage.store import NewVote, Question, Store

NAME = "every & thing"


def _answer_all(world: World, name: str, skip_first: bool) -> None:
    """Answer whatever comes, of every type; the first item is flagged, and skipped if asked for."""
    who = world.member(NAME, world.user(name, NAME))
    for number in range(40):
        task = queue.next_task(world.database, who)
        if task is None:
            return
        if number == 0:
            queue.flag(world.database, who, task.assignment_id, "unsure", "what is <b>this</b>?")
            if skip_first:
                queue.skip(world.database, who, task.assignment_id, "too-hard", "really")
                continue
        key = f"every/{name}/{number:06d}"
        if task.type == "chat":
            turn = live.add_turn(
                world.database, who, task.assignment_id, "Hello?", [_said("Hi."), _said("No.")]
            )
            said = Submission(client_key=f"{key}/turn", answer=PairAnswer(preference=-2))
            live.choose(world.database, who, turn.assignment_id, said)
            answer: Any = ChatAnswer(satisfied=True)
        elif task.type == "pair":
            answer = PairAnswer(preference=-3 if task.responses[0].text < task.responses[1].text else 3)
            answer = answer if name == "eve" else answer.model_copy(update={"preference": -answer.preference})
        else:
            answer = some_answer(task, name, number)
        answers.submit(world.database, who, task.assignment_id, Submission(client_key=key, answer=answer))


def _answers(world: World, owner: Member) -> list[AnswerRow]:
    rows = browsing.find(world.database, owner, browsing.Query(limit=500, type="pair")).items
    return [said for row in rows for said in browsing.detail(world.database, owner, row.item_id).answers]


def _said(text: str) -> LiveResponse:
    return LiveResponse(text=text, model="red", n_tokens=2)


def everything(world: World) -> str:
    """People's and programs' answers to items of every type, gold, flags, skips, conflicts, what is gone."""
    owner = world.project(
        NAME,
        {"acceptable": False, "confidence": True},
        {"overlap": 2, "title": "Every <thing>"},
        PROMPTS[:2],
        ANSWERS[:2],
    )
    for type in ("rank", "rate", "step", "rewrite", "chat"):
        building.build(world.database, owner, type, size={"rank": 3, "rate": 2}.get(type))  # type: ignore[arg-type]
    projects.set_guideline(world.database, owner, "# Be *fair*")
    with Store(world.path) as store:
        store.add_annotator("robot", "simulated")
        robot = [
            NewVote(pair.item_id, Vote("robot", -2, 1), f"robot/{NAME}/{pair.item_id}")
            for pair in store.pairs(NAME)
        ]
        store.add_votes(NAME, robot[:4])
        store.note_left(NAME, "llm:some & other/pair", [one.item_id for one in robot])
        store.set_budget(NAME, "llm:some & other/pair", 2.5)
        store.add_questions(NAME, [Question("e" * 64, "llm:some & other/pair", "pair", "p", 0.5)])
    _answer_all(world, "eve", skip_first=False)
    _answer_all(world, "gil", skip_first=True)
    rows = browsing.find(world.database, owner, browsing.Query(limit=500)).items
    by_type = {row.type: row for row in rows if row.answers}
    (answer, *_) = browsing.detail(world.database, owner, by_type["rate"].item_id).answers
    building.set_gold(world.database, owner, by_type["rate"].item_id, answer.answer)
    for type, what, key in (("rank", "prompt", 0), ("step", "response", 0)):
        redact(world.database, owner, by_type[type].item_id, what, key, "redact")  # type: ignore[arg-type]
    rewrite = browsing.detail(world.database, owner, by_type["rewrite"].item_id)
    redact(world.database, owner, rewrite.row.item_id, "answer", rewrite.answers[0].annotation_id, "redact")
    first = [rows[0].item_id]
    changing.change_items(world.database, owner, first, Label(what="tag", tag="näher & weiter"))
    changing.change_items(world.database, owner, first, Reserve(what="reserve", people=("eve",)))
    changing.add_note(world.database, owner, rows[0].item_id, "look <i>here</i>")
    projects.set_role(world.database, owner, "gil", None)
    events = ("complete", "conflict")
    webhook, _ = webhooks.add_webhook(world.database, owner, "https://example.org/hook", events)
    webhooks.send_test(world.database, owner, webhook)
    invite(world.database, world.owner, NAME, "expert")
    said = next(answer for answer in _answers(world, owner) if answer.annotator == "eve" and answer.current)
    send_back(world.database, owner, said.annotation_id, "Please look at the second sentence again.")
    return NAME
