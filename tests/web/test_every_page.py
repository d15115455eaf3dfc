"""Every page of a project in which everything has happened: each opens, and every link on it leads somewhere."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
from fastapi.testclient import TestClient

from tests.feedback.kit import some_answer
from tests.web.conftest import Running
from tests.web.kit import ANSWERS, PASSWORD, PROMPTS, World
from tests.web.people import settled, visitor
from tutelage.feedback.asking.payloads import ChatAnswer, LiveResponse, PairAnswer, Submission
from tutelage.feedback.items import browsing, building, changing
from tutelage.feedback.items.changing import Label, Reserve
from tutelage.feedback.items.redaction import redact
from tutelage.feedback.projects import projects
from tutelage.feedback.work import answers, live, queue
from tutelage.records import Vote
from tutelage.store import NewVote, Store
from tutelage.web.app import build_app
from tutelage.web.site import Site

NAME = "every & thing"
AWAY = re.compile(r"^/(static|api)/|^/(login|join)|^#|^mailto:")


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


def _said(text: str) -> LiveResponse:
    return LiveResponse(text=text, model="red", n_tokens=2)


@pytest.fixture(scope="module")
def labelled(world: World) -> str:
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
    return NAME


def _links(html: str) -> set[str]:
    found = {match.replace("&amp;", "&") for match in re.findall(r'(?:href|action)="([^"]+)"', html)}
    return {link for link in found if not AWAY.match(link) and not urlsplit(link).netloc}


def test_every_link_leads_to_a_page(world: World, site: Site, labelled: str) -> None:
    """From the start page on, whatever a page links to: nothing breaks, nothing is missing."""
    with TestClient(build_app(site), base_url="http://localhost") as client:
        form = {"name": "ann", "password": PASSWORD}
        client.post("/login", data=form, headers={"Origin": "http://localhost"})
        todo, seen = {link for link in _links(client.get("/").text) if link.startswith("/p/every")}, set()
        while todo:
            path = todo.pop()
            seen.add(path)
            answer = client.get(path)
            assert answer.status_code == 200, f"{path}: {answer.text[-300:]}"
            links = {
                urlsplit(urljoin(path, link))._replace(fragment="").geturl() for link in _links(answer.text)
            }
            todo |= {link for link in links if link.startswith("/p/every")} - seen
    opened = {path.rpartition("/")[2].partition("?")[0] for path in seen}
    assert {"data", "insights", "export", "manage", "guidelines", "adjudicate", "work"} <= opened
    items = {
        row.item_id
        for row in browsing.find(world.database, world.member(NAME), browsing.Query(limit=500)).items
    }
    assert {int(end) for path in seen if (end := path.rpartition("/")[2]).isdigit()} == items


@pytest.mark.slow
def test_every_page_in_a_browser(world: World, server: Running, browser: Any, labelled: str) -> None:
    """No error of a script, no refusal by the security policy, no 500: on any page, seen by its owner."""
    with visitor(browser, server.url, "ann") as page:
        page.on(
            "response",
            lambda answer: answer.status >= 400 and page.faults.append(f"{answer.status} {answer.url}"),
        )
        todo, seen = {"/", "/account", "/new"}, set()
        while todo:
            path = todo.pop()
            seen.add(path)
            page.goto(path)
            settled(page)
            links = page.eval_on_selector_all("a[href]", "all => all.map(link => link.getAttribute('href'))")
            local = {urlsplit(urljoin(path, link))._replace(fragment="").geturl() for link in links}
            todo |= {link for link in local if link.startswith("/p/every")} - seen
    assert len(seen) > 20
