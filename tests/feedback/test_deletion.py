"""A deleted project is hidden and whole; a purged one is gone to the last row, and nothing else is."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from tests.feedback.kit import PASSWORD, hand_in, join, start, take, vote
from tests.feedback.test_accounts import refused
from tests.feedback.test_upkeep import run
from tests.store.making import fill
from tutelage.feedback.asking.payloads import (
    Criterion,
    PairAnswer,
    ProjectSettings,
    RankAnswer,
    RateAnswer,
    RewriteAnswer,
    Schema,
    StepAnswer,
    StepMark,
)
from tutelage.feedback.imports.importing import import_stream
from tutelage.feedback.insights.census import census
from tutelage.feedback.items import building
from tutelage.feedback.people.access import Member
from tutelage.feedback.people.invitations import accept_invitation, invite
from tutelage.feedback.people.passwords import check_password
from tutelage.feedback.projects import deletion, projects
from tutelage.feedback.refining import authoring, rows
from tutelage.feedback.upkeep import examine
from tutelage.feedback.work import queue
from tutelage.records import Prompt, Response
from tutelage.settings.feedback import FeedbackDeleteSettings, FeedbackPurgeSettings, FeedbackUndeleteSettings
from tutelage.store import ModelInfo, Question, Store
from tutelage.store.database import Database
from tutelage.store.schema import Annotation, Base, PromptRow, ResponseRow
from tutelage.store.schema_feedback import (
    Assignment,
    AssignmentHelp,
    GuidelineSeen,
    GuidelineVersion,
    ItemHelp,
    ItemNote,
    ItemReserved,
    ItemTag,
    SentBack,
    Suggestion,
    VoteHelp,
    Webhook,
    WebhookDelivery,
    Withdrawal,
)
from tutelage.store.sql import insert_one

SECRET = "the whale sings at midnight"
KEPT = {
    "account",
    "annotator",
    "credential",
    "session",
    "login_failure",
    "allowance",
    "model_ref",
    "generation_run",
    "store_info",
}


def contents(database: Database) -> dict[str, list[Any]]:
    """Every row of every table."""
    with database.read() as connection:
        return {
            name: sorted(map(tuple, connection.execute(select(table))), key=repr)
            for name, table in Base.metadata.tables.items()
        }


def full_project(store: Store, database: Database, olga: Member) -> Member:
    """A second project with a row in as many tables as possible, all about the secret."""
    who = projects.create_project(database, olga.user, "private", ProjectSettings(title=SECRET))
    prompts = [Prompt(f"{SECRET} {n}?") for n in range(3)]
    store.add_prompts("private", prompts)
    run = store.add_generation_run(ModelInfo("model"), "local", {"seed": 1})
    texts = [f"{SECRET}: {word}.\n\nYes." for word in ("one", "two")]
    store.add_responses(
        "private",
        run,
        [Response(p, t, (1,), (2,), (-1.0,), "eos", i) for p in prompts for i, t in enumerate(texts)],
    )
    projects.set_guideline(database, who, SECRET)
    ben = join(database, olga.user, "private", "ben")
    schema = {"acceptable": False, "criteria": (Criterion(name="tone", title="Tone"),)}
    for kind, answer in (
        ("pair", PairAnswer(preference=1, reason=SECRET, acceptable=(True, None))),
        ("rank", RankAnswer(ranks=(1, 2))),
        ("rate", RateAnswer(ratings={"tone": (3, None)})),
        ("step", StepAnswer(marks=(StepMark(step=0, label=1), StepMark(step=1, label=-1, reason=SECRET)))),
        ("rewrite", RewriteAnswer(text=f"No, {SECRET}!")),
    ):
        asks = Schema(**{**schema, "type": kind, "acceptable": kind == "pair"})
        projects.set_schema(database, who, asks)
        size = {"rank": 2, "rate": 2, "rewrite": 1}.get(kind)
        building.build(database, who, kind, "random", 1, size)
        task = take(database, ben)
        while task.type != kind:
            queue.skip(database, ben, task.assignment_id, "other", SECRET)
            task = take(database, ben)
        if kind == "pair":
            answer = answer.model_copy(update={"acceptable": (True, False)})
        hand_in(database, ben, task, answer)
    open_task = take(database, ben)
    queue.save_draft(database, ben, open_task.assignment_id, {"reason": SECRET})
    queue.flag(database, ben, open_task.assignment_id, "unsafe", SECRET)
    invite(database, olga.user, "private", "viewer")
    furnish(database, who, ben, open_task.item_id)
    return who


def furnish(database: Database, who: Member, ben: Member, item_id: int) -> None:
    """A row in the tables that stand beside items and answers."""
    with database.write() as connection:
        answer = connection.scalar(select(func.max(Annotation.id)))
        version = connection.scalar(select(func.max(GuidelineVersion.id)))
        hook = {"project_id": who.project_id, "url": SECRET, "secret": SECRET, "events": []}
        key = insert_one(connection, Webhook, **hook)
        insert_one(connection, WebhookDelivery, webhook_id=key, event="answered", payload={"text": SECRET})
        insert_one(connection, SentBack, annotation_id=answer, note=SECRET)
        insert_one(connection, Withdrawal, annotation_id=answer)
        insert_one(connection, Suggestion, item_id=item_id, source="m", answer={"text": SECRET})
        told = {
            "first": SECRET,
            "second": SECRET,
            "argues": None,
            "template": "",
            "arm": "honest",
            "assistant": "m",
        }
        insert_one(connection, VoteHelp, annotation_id=answer, **told)
        help_id = insert_one(connection, ItemHelp, item_id=item_id, **told)
        assignment = connection.scalar(select(func.max(Assignment.id)).where(Assignment.item_id == item_id))
        insert_one(connection, AssignmentHelp, assignment_id=assignment, help_id=help_id, shown=True)
        insert_one(connection, ItemReserved, item_id=item_id, team=SECRET)
        insert_one(connection, ItemTag, item_id=item_id, tag=SECRET)
        insert_one(connection, ItemNote, item_id=item_id, text=SECRET)
        seen = {"annotator_id": ben.annotator_id, "guideline_version_id": version}
        insert_one(connection, GuidelineSeen, **seen)
        of_project = select(func.max(ResponseRow.id)).join(PromptRow)
        response = connection.scalar(of_project.where(PromptRow.project_id == who.project_id))
        root = rows.open_refinement(connection, who.project_id, rows.Written(response, False))
        rows.add_check(connection, root, 1, response, True)


def test_a_deleted_project_is_hidden_and_comes_back_whole(store: Store, database: Database) -> None:
    olga = start(store, database)
    ben = join(database, olga.user, "main", "ben")
    vote(database, ben)
    secret = invite(database, olga.user, "main", "annotator")
    before = contents(database)
    with refused("forbidden"):
        deletion.delete_project(database, ben)
    deletion.delete_project(database, olga)
    with refused("conflict"):
        deletion.delete_project(database, olga)
    for user in (olga.user, ben.user):
        with refused("not-found"):
            projects.member(database, user, "main")
        assert projects.projects_of(database, user) == []
    assert projects.names(database) == [] == store.projects() == census(database)
    with refused("gone"):
        accept_invitation(database, secret, "cat", PASSWORD)
    with refused("conflict"):
        projects.create_project(database, olga.user, "main")
    for use in (
        lambda: store.comparisons("main"),
        lambda: store.add_prompts("main", [Prompt("new")]),
        lambda: projects.local_member(database, "main", create=True),
        lambda: projects.local_member(database, "main"),
    ):
        with pytest.raises(ValueError, match="was deleted: bring it back"):
            use()
    assert [found.name for found in deletion.deleted_projects(database, olga.user)] == ["main"]
    assert deletion.deleted_projects(database, ben.user) == []
    deletion.restore_project(database, projects.member(database, olga.user, "main", deleted=True))
    after = contents(database)
    events = [row[3] for row in after.pop("audit_event")]
    before.pop("audit_event")
    assert after == before
    assert {"delete-project", "restore-project"} <= set(events)
    with refused("conflict"):
        deletion.restore_project(database, olga)


def test_a_purge_takes_everything_of_one_project(store: Store, database: Database, address: str) -> None:
    olga = start(store, database)
    vote(database, join(database, olga.user, "main", "dora"))
    main = projects.member(database, olga.user, "main")
    before = contents(database)
    private = full_project(store, database, olga)
    row = {"prompt": "soft", "chosen": "a", "rejected": "b", "p_chosen": 0.7}
    import_stream(database, private, "preference", io.BytesIO(json.dumps(row).encode()), "rows.jsonl")
    store.add_questions("private", [Question("0" * 64, "llm:x", "pair 01", "p")])
    store.set_budget("private", "llm:x", 1.0)
    store.note_left("private", "llm:x", [store.pairs("private")[0].item_id])
    authoring.keep_trial(database, private, Prompt("Is it so?"), [])
    full = contents(database)
    for name in Base.metadata.tables.keys() - KEPT - {"gold", "chat_turn", "export", "response_score"}:
        if name not in ("criterion_preference",):
            assert len(full[name]) > len(before[name]), f"the test has nothing in {name}"
    with refused("conflict"):
        deletion.purge_project(database, private, "private")
    deletion.delete_project(database, private)
    for typed in ("", "Private", "main"):
        with refused("invalid"):
            deletion.purge_project(database, private, typed)
    with refused("forbidden"):
        ben = check_password(database, "ben", PASSWORD)
        deletion.purge_project(database, projects.member(database, ben, "private", deleted=True), "private")
    done = deletion.purge_project(database, private, "private")
    assert done.answers == 6 and done.responses == 8
    after = contents(database)
    for name in Base.metadata.tables.keys() - KEPT:
        if name != "audit_event":
            assert after[name] == before[name], name
    gone = [row for row in after["audit_event"] if row not in before["audit_event"]]
    assert "purge-project" in str(gone) and SECRET not in str(after)
    assert all(finding.wrong == 0 for finding in examine(database))
    assert projects.members(database, main)
    with pytest.raises(Exception, match="append-only"), database.write() as connection:
        connection.exec_driver_sql("DELETE FROM annotation")  # the guards stand again
    with database.read() as connection:
        assert connection.scalar(select(func.count()).select_from(Base.metadata.tables["annotation"])) == 1
    with refused("gone"):
        deletion.purge_project(database, private, "private")
    if database.is_sqlite:
        for path in Path(address).parent.glob(f"{Path(address).name}*"):
            assert SECRET.encode() not in path.read_bytes(), f"{path.name} still holds what was purged"


def test_a_purge_that_fails_leaves_everything_guarded(
    store: Store, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    olga = start(store, database)
    vote(database, join(database, olga.user, "main", "ben"))
    deletion.delete_project(database, olga)
    before = contents(database)
    monkeypatch.setattr(deletion, "note", lambda *_args, **_more: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        deletion.purge_project(database, olga, "main")
    assert contents(database) == before
    with pytest.raises(Exception, match="append-only"), database.write() as connection:
        connection.exec_driver_sql("DELETE FROM annotation")


def test_there_and_back_by_command(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    with Store(path) as store:
        fill(store)
    main = {"store": str(path), "project": "main"}
    with pytest.raises(ValueError, match="is in use: delete it first"):
        run("feedback purge", FeedbackPurgeSettings(**main, confirm="main"))
    assert "`tutelage feedback undelete`" in run("feedback delete", FeedbackDeleteSettings(**main))
    with pytest.raises(ValueError, match="was deleted: bring it back"):
        run("feedback delete", FeedbackDeleteSettings(**main))
    assert "is back" in run("feedback undelete", FeedbackUndeleteSettings(**main))
    run("feedback delete", FeedbackDeleteSettings(**main))
    with pytest.raises(ValueError, match=r"type the project's name exactly"):
        run("feedback purge", FeedbackPurgeSettings(**main, confirm="yes"))
    assert "is gone: 18 items" in run("feedback purge", FeedbackPurgeSettings(**main, confirm="main"))
    with pytest.raises(ValueError, match="has no project 'main'"):
        run("feedback undelete", FeedbackUndeleteSettings(**main))


def test_every_table_is_either_purged_or_kept() -> None:
    """Whoever adds a table decides what a purge does with it."""
    owners = {"project_id", "item_id", "annotation_id", "prompt_id", "response_id", "assignment_id"}
    owners |= {"webhook_id", "guideline_version_id"}
    purged = {name for name, table in Base.metadata.tables.items() if owners & set(table.columns.keys())}
    assert purged.isdisjoint(KEPT) and purged | KEPT | {"project"} == set(Base.metadata.tables)
