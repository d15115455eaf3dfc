"""What becomes a row: held-out prompts, redacted texts, settled and open disputes, experts; in exports and for trainers."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy import select, update

from tests.feedback.kit import hand_in, join, make_busy, start, take
from tests.store.making import fill, new_vote, prompt, response
from tutelage.feedback.asking.payloads import (
    PairAnswer,
    ProjectSettings,
    RateAnswer,
    RewriteAnswer,
    Schema,
    Submission,
)
from tutelage.feedback.exports import exporting
from tutelage.feedback.exports.exporting import ExportSpec
from tutelage.feedback.imports import importing
from tutelage.feedback.imports.importing import Imported, Kind
from tutelage.feedback.items import building
from tutelage.feedback.people.access import Member
from tutelage.feedback.projects import projects
from tutelage.feedback.training.source import comparisons_digest, comparisons_from, demonstrations_from
from tutelage.feedback.work import answers, queue
from tutelage.store import ModelInfo, Store
from tutelage.store.comparing import EXPERT_WEIGHT
from tutelage.store.database import Database
from tutelage.store.schema import Annotation, Item, PromptRow, ResponseRow, now
from tutelage.store.schema_feedback import Gold, Withdrawal
from tutelage.store.sql import insert_one, insert_rows

PREFERENCES = ("preference", "hh")


def rows(database: Database, who: Member, **spec: object) -> tuple[list[dict], dict[str, int]]:
    found = exporting.preview(database, who, ExportSpec(**spec), limit=100)
    assert found.rows == len(found.first)
    return found.first, found.left_out


@pytest.fixture
def split(store: Store, database: Database) -> Member:
    """Two prompts to train on and one of the split `test`, each with a vote on every pair."""
    olga = start(store, database, prompts=2)
    store.add_prompts("main", [prompt(9)], split="test")
    run = store.add_generation_run(ModelInfo("runs/dpo", "cd34"), "local", {"seed": 1})
    store.add_responses("main", run, [response(prompt(9), index) for index in range(2)])
    store.build_pairs("main", 0, overlap=1)
    store.add_votes("main", [new_vote(pair.item_id, "ann", -1) for pair in store.pairs("main")])
    return olga


def test_held_out_prompts_are_never_trained_on(
    split: Member, store: Store, database: Database, address: str
) -> None:
    held_out = prompt(9).id
    assert sum(pair.prompt.id == held_out for pair in store.pairs("main")) == 1
    found = comparisons_from("store:main", address)
    assert held_out not in {row.prompt.id for row in found.train}
    assert {row.prompt.id for row in found.held_out} == {held_out}
    assert held_out not in {row.prompt.id for row in store.comparisons("main")}
    written, left_out = rows(database, split, format="preference")
    assert {row["split"] for row in written} == {"train"} and left_out == {"split 'test'": 1}
    assert [row["split"] for row in rows(database, split, split="test")[0]] == ["test"]
    both = rows(database, split, split="all")[0]
    assert len(both) == len(written) + 1
    raw = rows(database, split, format="raw")[0]
    assert {row["split"] for row in raw if row["kind"] == "answer"} == {"train", "test"}


def test_a_chat_about_a_held_out_prompt_is_held_out(split: Member, store: Store, database: Database) -> None:
    everything = len(store.comparisons("main"))
    held_out = next(pair for pair in store.pairs("main") if pair.prompt.id == prompt(9).id)
    turn = next(pair for pair in store.pairs("main") if pair.prompt.id != prompt(9).id)
    with database.write() as connection:
        connection.execute(update(Item).where(Item.id == turn.item_id).values(parent_id=held_out.item_id))
        connection.execute(update(PromptRow).where(PromptRow.digest == turn.prompt.id).values(split="live"))
    assert len(store.comparisons("main")) == everything - 1
    assert turn.texts[0] in {
        text for row in store.comparisons("main", held_out=True) for text in (row.chosen, row.rejected)
    }


def test_a_chat_about_a_held_out_prompt_is_held_out_in_a_copy(
    split: Member, store: Store, database: Database
) -> None:
    held_out = next(pair for pair in store.pairs("main") if pair.prompt.id == prompt(9).id)
    turn = next(pair for pair in store.pairs("main") if pair.prompt.id != prompt(9).id)
    with database.write() as connection:
        connection.execute(update(Item).where(Item.id == turn.item_id).values(parent_id=held_out.item_id))
        connection.execute(update(PromptRow).where(PromptRow.digest == turn.prompt.id).values(split="live"))
    raw = rows(database, split, format="raw")[0]
    bring(database, "copy", "raw", raw)
    assert turn.prompt.id in {row.prompt.id for row in store.comparisons("copy", held_out=True)}
    assert turn.prompt.id not in {row.prompt.id for row in store.comparisons("copy")}


def bring(database: Database, project: str, kind: Kind, lines: Sequence[dict]) -> Imported:
    content = "".join(json.dumps(row) + "\n" for row in lines).encode()
    who = projects.local_member(database, project, create=True)
    return importing.import_stream(database, who, kind, io.BytesIO(content), "rows.jsonl")


def test_rows_of_a_held_out_split_are_not_added_to_a_prompt_that_is_trained_on(
    split: Member, store: Store, database: Database
) -> None:
    before = store.comparisons("main")
    asked = {"prompt": prompt(0).content_json(), "task": "maths", "reference": {"answer": 0}}
    row = asked | {"chosen": "held", "rejected": "out"}
    done = bring(database, "main", "preference", [row | {"split": "test"}, row | {"chosen": "in"}])
    (bad,) = done.bad
    assert done.new == 1 and "is in the project as 'train', which is trained on" in bad.why
    assert {one.chosen for one in store.comparisons("main")} - {one.chosen for one in before} == {"in"}


def test_a_verdict_withdrawn_since_the_last_import_is_withdrawn(
    split: Member, store: Store, database: Database
) -> None:
    pair = store.pairs("main")[0]
    with database.write() as connection:
        values = {"item_id": pair.item_id, "annotator_id": 1, "preference": 2, "first_shown": 0}
        verdict = insert_one(connection, Annotation, role="adjudication", client_key="a verdict", **values)
    bring(database, "copy", "raw", rows(database, split, format="raw")[0])
    assert store.any_settled("copy")
    with database.write() as connection:
        insert_rows(connection, Withdrawal, [{"annotation_id": verdict}])
    again = rows(database, split, format="raw")[0]
    assert bring(database, "copy", "raw", again).new == 1 and not store.any_settled("copy")
    assert bring(database, "copy", "raw", again).new == 0


def test_held_out_demonstrations_are_never_trained_on(store: Store, database: Database, address: str) -> None:
    olga = start(store, database, prompts=1, schema=Schema(type="rewrite"))
    store.add_prompts("main", [prompt(9)], split="validation")
    building.build(database, olga, "rewrite", size=0)
    while (task := queue.next_task(database, olga)) is not None:
        asked = task.thread[-1].content
        rewrite = RewriteAnswer(text=f"mine to {asked}")
        hand_in(database, olga, task, rewrite if task.type == "rewrite" else PairAnswer(preference=0))
    found = demonstrations_from("store:main", address)
    assert (
        [row.response for row in found.train]
        == ["mine to question 0"]
        == [row.response for row in store.demonstrations("main")]
    )
    assert [row.response for row in found.held_out] == ["mine to question 9"]
    written, left_out = rows(database, olga, format="sft")
    assert [row["split"] for row in written] == ["train"] and left_out == {"split 'validation'": 1}


def test_better_responses_are_positive_examples(store: Store, address: str) -> None:
    """By the majority; ties are none, held-out prompts stay held out, and nothing of it comes unasked."""
    for number in range(3):
        store.add_prompts("main", [prompt(number)], split="test" if number == 2 else "train")
    run = store.add_generation_run(ModelInfo("m"), "local", {})
    store.add_responses("main", run, [response(prompt(n), index) for n in range(3) for index in range(2)])
    store.build_pairs("main", 0, overlap=1)
    store.add_annotator("ann", "simulated")
    pairs = {pair.prompt.id: pair for pair in store.pairs("main")}
    said = {0: 2, 1: 0, 2: -1}
    for number, preference in said.items():
        store.add_votes("main", [new_vote(pairs[prompt(number).id].item_id, "ann", preference)])
    found = demonstrations_from("store:main", address, preferred=True)
    assert [(row.prompt, row.response) for row in found.train] == [(prompt(0), pairs[prompt(0).id].texts[1])]
    assert [(row.prompt, row.response) for row in found.held_out] == [
        (prompt(2), pairs[prompt(2).id].texts[0])
    ]
    assert found.left_out == {"tie": 1}
    with pytest.raises(ValueError, match="nobody has rewritten"):
        demonstrations_from("store:main", address)


def test_a_project_of_held_out_prompts_trains_nothing(store: Store, address: str) -> None:
    store.add_prompts("main", [prompt(9)], split="test")
    run = store.add_generation_run(ModelInfo("m"), "local", {})
    store.add_responses("main", run, [response(prompt(9), index) for index in range(2)])
    store.build_pairs("main", 0, overlap=1)
    store.add_annotator("ann", "simulated")
    store.add_votes("main", [new_vote(store.pairs("main")[0].item_id, "ann", 1)])
    with pytest.raises(ValueError, match="all 1 rows are of held-out splits"):
        comparisons_from("store:main", address)
    assert comparisons_digest("store:main", address) is None


@pytest.mark.parametrize("table", [PromptRow, ResponseRow])
def test_redacted_texts_are_no_rows(
    split: Member, store: Store, database: Database, address: str, table: type[PromptRow] | type[ResponseRow]
) -> None:
    before = comparisons_from("store:main", address)
    with database.write() as connection:
        first = update(table).where(table.id == 1)
        gone = {"content": ""} if table is PromptRow else {"text": ""}
        connection.execute(first.values(redacted_at=now(), **gone))
    after = comparisons_from("store:main", address)
    lost = 6 if table is PromptRow else 3  # all pairs of four responses, or those of one
    assert after.left_out == {"redacted": lost} and len(after.train) == len(before.train) - lost
    for format in (*PREFERENCES, "raw"):
        assert rows(database, split, format=format)[1]["redacted"] == lost
    written = rows(database, split, format="preference")[0]
    assert all(row["prompt"] and row["chosen"][0]["content"] for row in written)
    assert len(store.comparisons("main")) == len(after.train)


# disputes -------------------------------------------------------------------------------------------------------------


def test_what_was_settled_is_used_once_anything_was(store: Store, database: Database, address: str) -> None:
    olga = start(store, database, prompts=1, overlap=2)
    for pair in store.pairs("main")[:2]:
        store.add_votes("main", [new_vote(pair.item_id, "ann", -1), new_vote(pair.item_id, "bob", 1)])
    pair_of = {"format": "preference"}
    by_majority = rows(database, olga, **pair_of)[1]
    conflict = answers.next_conflict(database, olga)
    assert conflict is not None
    said = Submission(client_key="settle-1", answer=PairAnswer(preference=-3))
    receipt = answers.adjudicate(database, olga, conflict.task.assignment_id, said)
    written, left_out = rows(database, olga, **pair_of)
    better = conflict.task.responses[0].text
    assert [row["chosen"][0]["content"] for row in written if row["margin"] == 1.0] == [better]
    assert (left_out, by_majority) == ({"unsettled dispute": 1}, {"tie": 2})
    found = comparisons_from("store:main", address)
    assert [row.chosen for row in found.train] == [row["chosen"][0]["content"] for row in written]
    assert found.left_out["unsettled dispute"] == left_out["unsettled dispute"]
    with database.write() as connection:
        insert_rows(connection, Withdrawal, [{"annotation_id": receipt.annotation_id}])
    assert rows(database, olga, **pair_of)[1] == by_majority  # it does not hold any more
    assert store.comparisons("main", ties="drop") == []


def test_ratings_use_what_was_settled(store: Store, database: Database) -> None:
    olga = start(store, database, prompts=1, overlap=2, schema=Schema(type="rate"))
    ben, eve = (join(database, olga.user, "main", name) for name in ("ben", "eve"))
    building.build(database, olga, "rate", size=1, per_prompt=2)

    def rate(value: int) -> RateAnswer:
        names = ("overall", "accuracy", "coverage", "coherence")
        return RateAnswer(ratings=dict.fromkeys(names, (value,)))

    for who, value in ((ben, 1), (eve, 7)):
        for _ in range(2):
            task = next(one for one in iter(lambda who=who: take(database, who), None) if one.type == "rate")
            hand_in(database, who, task, rate(value))
    assert {row["values"]["overall"] for row in rows(database, olga, format="ratings")[0]} == {4.0}
    conflict = answers.next_conflict(database, olga)
    assert conflict is not None
    said = Submission(client_key="settle-1", answer=rate(6))
    answers.adjudicate(database, olga, conflict.task.assignment_id, said)
    written, left_out = rows(database, olga, format="ratings")
    assert [(row["values"]["overall"], row["n"]) for row in written] == [(6.0, 1)]
    assert left_out == {"unsettled dispute": 1}


# experts --------------------------------------------------------------------------------------------------------------


def test_an_expert_counts_as_often_as_the_project_says(
    store: Store, database: Database, address: str
) -> None:
    olga = start(store, database, prompts=1, overlap=3)
    xena = join(database, olga.user, "main", "xena", "expert")
    others = [join(database, olga.user, "main", name) for name in ("ben", "eve")]
    first = take(database, xena)
    better = first.responses[0].text
    hand_in(database, xena, first, PairAnswer(preference=-1))
    for who in others:
        task = take(database, who)
        while task.item_id != first.item_id:
            hand_in(database, who, task, PairAnswer(preference=0))
            task = take(database, who)
        chosen = -1 if task.responses[0].text == better else 1
        hand_in(database, who, task, PairAnswer(preference=-chosen))

    def share(aggregation: str) -> tuple[str, float]:
        (row,) = [
            row
            for row in comparisons_from("store:main", address, aggregation, ties="keep").train  # type: ignore[arg-type]
            if better in (row.chosen, row.rejected)
            and {row.chosen, row.rejected} == {one.text for one in first.responses}
        ]
        return row.chosen, row.p_chosen

    assert ProjectSettings().expert_weight == EXPERT_WEIGHT == 3
    assert share("majority") == (better, 1.0)  # three against two
    assert share("all") == (better, pytest.approx(3 / 5))
    projects.set_settings(database, olga, ProjectSettings(overlap=3, expert_weight=1.5))
    assert share("majority")[0] != better and share("all")[1] == pytest.approx(2 / 3.5)


# where rows come from ---------------------------------------------------------------------------------------------------


def test_provenance_on_request(split: Member, store: Store, database: Database, tmp_path: Path) -> None:
    plain = rows(database, split, split="all")[0]
    assert "annotators" not in plain[0] and set(plain[0]) >= {"item", "split"}
    found = rows(database, split, split="all", provenance=True)[0]
    newer = [row for row in found if row["split"] == "test"]
    assert [(row["chosen_model"], row["rejected_model_sha256"], row["round"]) for row in newer] == [
        ("runs/dpo", "cd34", 2)
    ]
    assert all(row["annotators"] == ["annotator-1"] and row["agreement"] == 1.0 for row in found)
    named = rows(database, split, provenance=True, names=True)[0]
    assert named[0]["annotators"] == ["ann"] and named[0]["round"] == 1 and not named[0]["settled"]
    for kind in ("parquet", "csv"):
        spec = ExportSpec(file_format=kind, provenance=True)  # type: ignore[arg-type]
        assert exporting.export(database, split, spec, tmp_path / f"rows.{kind}").rows == len(named)
    with pytest.raises(ValueError, match="is for format=preference"):
        exporting.preview(database, split, ExportSpec(format="hh", provenance=True))


def test_other_projects_stay_out(split: Member, store: Store, address: str) -> None:
    fill(store, "other", prompts=1)
    assert "other" in store.projects() and len(comparisons_from("store:main", address).train) == 12


def test_rows_and_what_is_left_out_add_up(store: Store, database: Database) -> None:
    """Whatever is asked for, every pair, response or item is a row or is counted as left out."""
    olga = make_busy(store, database)
    item = next(iter(store.pairs("main")))
    with database.write() as connection:
        ranked = connection.scalars(select(Item.id).where(Item.type == "rank")).all()
        gold = [{"item_id": one, "answer": {}} for one in (item.item_id, *ranked[:1])]
        insert_rows(connection, Gold, gold)
    specs: list[dict] = [{}, {"aggregation": "adjudicated"}, {"gold": False}, {"split": "test"}]
    more: dict[str, list[dict]] = {
        "stepwise": [{"neutral": "true"}],
        "preference": [{"ties": "keep"}, {"aggregation": "all"}],
    }
    for format in ("preference", "unpaired", "ranked", "stepwise", "ratings"):
        asked = [*specs, *more.get(format, [])]
        counted = [rows(database, olga, format=format, **spec) for spec in asked]
        assert len({len(found) + sum(left_out.values()) for found, left_out in counted}) == 1, format
        assert counted[3][0] == [] and counted[0][0]
