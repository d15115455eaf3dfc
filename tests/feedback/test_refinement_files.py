"""Refinements from files, in the store, as rows for trainers, and in files again: the worked example throughout."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from tests.feedback import seed_example as seed
from tutelage.data.reading.formats import (
    read_comparisons,
    read_demonstrations,
    read_step_marks,
)
from tutelage.feedback.exports import exporting
from tutelage.feedback.exports.exporting import Exported, ExportSpec
from tutelage.feedback.exports.marks import step_marks_from
from tutelage.feedback.imports import importing
from tutelage.feedback.imports.importing import Imported
from tutelage.feedback.people.access import Member
from tutelage.feedback.projects import projects
from tutelage.feedback.projects.projects import local_member
from tutelage.feedback.refining.reading import read_refinements
from tutelage.feedback.refining.rules import prefix_of
from tutelage.feedback.training.source import (
    comparisons_digest,
    comparisons_from,
    demonstrations_digest,
    demonstrations_from,
)
from tutelage.judges.verify.choice import choice, right_letters
from tutelage.records import Prompt, Refinement, Response
from tutelage.settings.rules import ChoiceOptions
from tutelage.store import Store
from tutelage.store.database import Database
from tutelage.store.schema import Annotator, PromptRow, now

GOLDEN = Path(__file__).parent / "golden"
PARTS = ("solutions", "steps", "marks", "pairs", "corrections")
PROMPT = Prompt(seed.PROMPT, reference={"answer": ["A", "D"]})
FIRST, SECOND = seed.text(seed.FIRST), seed.text(seed.SECOND)


@pytest.fixture
def who(database: Database) -> Member:
    return local_member(database, "main", create=True)


def take(database: Database, who: Member, *rows: dict[str, Any]) -> Imported:
    file = io.BytesIO(b"\n".join(json.dumps(row).encode() for row in rows))
    return importing.import_stream(database, who, "refinements", file, "refinements.jsonl")


def stored(database: Database, who: Member) -> list[Refinement]:
    with database.read() as connection:
        return [one.refinement for one in read_refinements(connection, who.project_id)]


def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    row = json.loads(json.dumps(seed.ROW))
    change(row)
    return row


# the worked example ---------------------------------------------------------------------------------------------------


def test_the_verifier_reads_the_answers_of_the_example() -> None:
    judge = choice("choice", ChoiceOptions())
    assert right_letters(PROMPT.reference or {}) == {"A", "D"}
    scores = judge.score([Response.written(PROMPT, text) for text in (FIRST, SECOND)])
    assert [score and score.value for score in scores] == [0.0, 1.0]


def test_the_example_becomes_a_refinement(database: Database, who: Member) -> None:
    done = take(database, who, seed.ROW)
    assert (done.new, done.there, done.bad, done.unused) == (1, 0, [], {})
    [slip] = done.mended
    assert slip.why == (
        "round 1: step 6 is said to follow from step 4, which is no wrong step before it; taken: step 5"
    )
    [found] = stored(database, who)
    one, two = found.rounds
    assert found.prompt == PROMPT and found.prompt.reference == {"answer": ["A", "D"]}
    assert [step.label for step in one.steps] == [1, 1, 1, 1, -1, -1]
    assert one.root == 4 and one.steps[5].caused_by == 4 and not one.steps[5].is_root
    assert one.steps[4].rewrite == seed.REWRITE and one.steps[4].error == "reasoning"
    assert one.steps[4].explanation.startswith("the response unreasonably assumes")
    assert one.steps[5].explanation == "due to the error in step 4."
    assert one.text == FIRST and two.text == SECOND
    assert (one.right, two.right, two.how, two.since, two.sound) == (False, True, "rewritten", 4, True)
    assert (one.by, one.role) == ("expert@import", "expert")
    assert (found.checks, found.outcome, found.solution) == ((True, True), "accepted", SECOND)
    again = take(database, who, seed.ROW)
    assert (again.new, again.there) == (0, 1) and stored(database, who) == [found]


@pytest.fixture
def exported(database: Database, who: Member, tmp_path: Path) -> Exported:
    assert take(database, who, seed.ROW).new == 1
    out = tmp_path / "refinements.jsonl"
    return exporting.export(database, who, ExportSpec(format="refinements"), out)


def test_all_that_it_teaches_is_written_at_once(exported: Exported) -> None:
    manifest = json.loads(exported.manifest.read_text())
    assert [one.file.name for one in exported.beside] == [f"refinements.{part}.jsonl" for part in PARTS]
    assert [one["file"] for one in manifest["beside"]] == [one.file.name for one in exported.beside]
    assert [one["rows"] for one in manifest["beside"]] == [1, 1, 2, 1, 1]
    for one in (exported, *exported.beside):
        part = one.file.name.split(".")[-2] if one is not exported else "records"
        golden = [json.loads(line) for line in (GOLDEN / f"refinements.{part}.jsonl").open(encoding="utf-8")]
        assert [json.loads(line) for line in one.file.open(encoding="utf-8")] == golden


def test_our_readers_read_what_was_written(exported: Exported) -> None:
    """Against the texts of the example, put together by hand."""
    at = {part: str(one.file) for part, one in zip(PARTS, exported.beside, strict=True)}
    [solution] = read_demonstrations(at["solutions"])
    assert (solution.prompt, solution.response) == (PROMPT, SECOND)  # type: ignore[union-attr]
    [step] = read_comparisons(at["steps"])
    original = seed.FIRST["steps"][4]
    assert step.chosen == f"{seed.PREFIX}{seed.REWRITE}\n\n"
    assert step.rejected == f"{seed.PREFIX}{original}\n\n"
    assert (step.chosen_finish, step.rejected_finish, step.p_chosen) == ("length", "length", 1.0)
    first, second = read_step_marks(at["marks"])
    assert first.labels == (1, 1, 1, 1, -1, None) and "".join(first.steps) == FIRST
    assert second.labels == (1,) * 8 and "".join(second.steps) == SECOND
    assert (first.outcome, second.outcome) == (False, True)
    [pair] = read_comparisons(at["pairs"])
    assert (pair.chosen, pair.rejected) == (SECOND, FIRST)
    [correction] = read_demonstrations(at["corrections"])
    asked = correction.prompt.content  # type: ignore[union-attr]
    assert correction.response == seed.REWRITE  # type: ignore[union-attr]
    assert isinstance(asked, str) and asked.startswith(
        f"{seed.PROMPT}\n{seed.PREFIX}{original}\nTeacher: step 5: the"
    )
    assert correction.prompt.reference is None  # type: ignore[union-attr]


def test_the_records_come_back(exported: Exported, database: Database, who: Member) -> None:
    rows = [json.loads(line) for line in exported.file.open(encoding="utf-8")]
    copy = local_member(database, "copy", create=True)
    assert take(database, copy, *rows).new == 1
    [ours], [theirs] = stored(database, who), stored(database, copy)
    named = tuple(replace(one, by="") for one in ours.rounds)
    assert replace(ours, rounds=named) == replace(
        theirs, rounds=tuple(replace(one, by="") for one in theirs.rounds)
    )
    assert take(database, who, *rows).there == 1  # nor is anybody's mark there twice
    assert stored(database, who) == [ours]


@pytest.mark.parametrize(
    ("format", "expected"),
    [
        ("stepwise", [[True] * 4 + [False] * 2, [True] * 8]),
        ("prm800k", [[1, 1, 1, 1, -1, -1], [1] * 8]),
        ("processbench", [4, -1]),
    ],
)
def test_forms_of_marked_steps_hold_the_rounds(
    database: Database, who: Member, tmp_path: Path, format: Any, expected: list[Any]
) -> None:
    take(database, who, seed.ROW)
    done = exporting.export(database, who, ExportSpec(format=format), tmp_path / "steps.jsonl")
    rows = [json.loads(line) for line in done.file.open(encoding="utf-8")]
    if format == "stepwise":
        said = [row["labels"] for row in rows]
    elif format == "prm800k":
        said = [[each["completions"][0]["rating"] for each in row["label"]["steps"]] for row in rows]
    else:
        said = [row["label"] for row in rows]
    assert sorted(said, key=str) == sorted(expected, key=str) and done.left_out == {}
    read = sorted(read_step_marks(str(done.file)), key=lambda one: len(one.steps))
    assert ["".join(one.steps) for one in read] == [FIRST, SECOND]
    assert [one.first_error for one in read] == [4, None]


# for trainers ---------------------------------------------------------------------------------------------------------


def test_trainers_read_what_refinements_teach(database: Database, who: Member, address: str) -> None:
    take(database, who, seed.ROW)
    [solution] = demonstrations_from("store:main", address, "solutions").train
    assert (solution.prompt, solution.response) == (PROMPT, SECOND)
    [correction] = demonstrations_from("store:main", address, "corrections").train
    assert correction.response == seed.REWRITE
    [step] = comparisons_from("store:main", address, refined="steps").train
    assert step.chosen == f"{seed.PREFIX}{seed.REWRITE}\n\n"
    [pair] = comparisons_from("store:main", address, refined="solutions").train
    assert (pair.chosen, pair.rejected) == (SECOND, FIRST)
    for reads in (
        lambda: comparisons_from("store:main", address),
        lambda: demonstrations_from("store:main", address),
    ):
        with pytest.raises(ValueError, match="yet"):
            reads()
    by = comparisons_from("store:main", address, annotators=["expert@import"], refined="steps")
    assert by.train == [step]
    with pytest.raises(ValueError, match="annotators=bob: nobody of that name has voted here"):
        comparisons_from("store:main", address, annotators=["bob"], refined="steps")
    marks = step_marks_from("store:main", address)
    assert {row.labels: (row.outcome, "".join(row.steps), row.finish) for row in marks.train} == {
        (1, 1, 1, 1, -1, -1): (False, FIRST, "eos"),
        (1,) * 8: (True, SECOND, "eos"),
    }


def test_a_stage_is_stale_when_its_refinements_change(database: Database, who: Member, address: str) -> None:
    take(database, who, changed(lambda row: row.update(outcome=None, checks=[])))
    open_ = demonstrations_digest("store:main", address, "solutions")
    before = comparisons_digest("store:main", address, refined="solutions")
    steps = comparisons_digest("store:main", address, refined="steps")
    assert (open_, before) == (None, None) and steps
    assert take(database, who, seed.ROW).new == 1
    assert demonstrations_digest("store:main", address, "solutions")
    assert comparisons_digest("store:main", address, refined="solutions") not in (None, steps)
    assert comparisons_digest("store:main", address, refined="steps") == steps


def test_a_held_out_problem_is_never_trained_on(database: Database, who: Member, address: str) -> None:
    take(database, who, changed(lambda row: row.update(split="test")))
    other = changed(lambda row: row.update(prompt="Another?"))
    assert take(database, who, other).new == 1
    for found in (
        comparisons_from("store:main", address, refined="steps"),
        comparisons_from("store:main", address, refined="solutions"),
        demonstrations_from("store:main", address, "solutions"),
        demonstrations_from("store:main", address, "corrections"),
    ):
        assert [seed.PROMPT in row.prompt.text() for row in found.train] == [False]
        assert [seed.PROMPT in row.prompt.text() for row in found.held_out] == [True]
    # In another project the same problem is trained on: of both together it is held out, in whatever words a refiner is told it.
    take(database, local_member(database, "two", create=True), seed.ROW)
    both = demonstrations_from(["store:main", "store:two"], address, "corrections")
    assert [seed.PROMPT in row.prompt.text() for row in both.train] == [False]
    assert len(both.held_out) == 2


def test_a_redacted_problem_teaches_nothing(database: Database, who: Member, address: str) -> None:
    take(database, who, seed.ROW, changed(lambda row: row.update(prompt="Another?")))
    with database.write() as connection:
        first = update(PromptRow).where(PromptRow.digest == PROMPT.id)
        connection.execute(first.values(redacted_at=now(), content="[redacted]"))
    found = comparisons_from("store:main", address, refined="steps")
    assert [row.prompt.content for row in found.train] == ["Another?"] and found.left_out == {"redacted": 1}


# what is refused, and what is mended ----------------------------------------------------------------------------------


def _set(*path: Any) -> Callable[[dict[str, Any]], object]:
    """Put the last of the path where the rest of it leads."""

    def change(row: dict[str, Any]) -> None:
        *way, last, value = path
        place: Any = row
        for key in way:
            place = place[key]
        place[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_set("rounds", 0, "steps", []), "round 1 has no step: write its steps, in order"),
        (
            _set("rounds", 0, "steps", 2, "  "),
            "round 1: step 3 is empty: write it, or leave it and its mark out",
        ),
        (
            _set("rounds", 1, "steps", 1, "One.\n\nTwo."),
            r"round 2 has 8 steps, and the project cuts the solution into 9 steps \(splitter: paragraphs\): leave no place",
        ),
        (
            _set("rounds", 0, "text", FIRST.replace("one-fourth", "a quarter")),
            "round 1: step 4 is not what stands in its text: the marks are of another version of the solution",
        ),
        (_set("rounds", 0, "feedback", ["Correct"] * 5), "round 1: feedback has 5 entries for 6 steps"),
        (
            _set("rounds", 0, "feedback", 0, "Well done"),
            "round 1: step 1: the feedback 'Well done' does not begin",
        ),
        (
            _set("rounds", 0, "feedback", 0, {"label": 3}),
            "round 1: step 1: the label is 3, and it is 1, 0 or -1",
        ),
        (
            _set("rounds", 0, "feedback", 0, {"label": 1, "caused_by": 0}),
            "round 1: step 1 is not marked wrong, and caused_by is said of wrong steps only",
        ),
        (_set("rounds", 0, "feedback", 1, None), "round 1: step 3 is marked, and step 2 before it is not"),
        (_set("rounds", 1, "since", 5), "round 2: step 5 is another than in the round before, and since=5"),
        (_set("rounds", 0, "how", "rewritten"), "round 1 is the first, before which there is no solution"),
        (_set("rounds", 0, "stepz", []), "rounds.0.stepz: Extra inputs are not permitted"),
        (
            _set("outcome", "done"),
            "outcome: Input should be 'accepted', 'sound', 'handed-up', 'written' or 'broken'",
        ),
        (_set("rounds", []), "rounds: Field required"),
    ],
)
def test_what_is_no_refinement_is_refused_in_a_sentence(
    database: Database, who: Member, change: Callable[[dict[str, Any]], object], why: str
) -> None:
    take(database, who, changed(lambda row: row.update(prompt="Sets the questions up.")))
    done = take(database, who, changed(change))
    [bad] = done.bad
    assert bad.line == 1 and done.new == 0

    assert re.match(why, bad.why), bad.why
    assert len(stored(database, who)) == 1  # nothing of the row is kept


@pytest.mark.parametrize(
    ("change", "root", "cause", "said"),
    [
        (
            _set("rounds", 0, "feedback", 5, {"label": -1, "caused_by": 4}),
            4,
            4,
            [],
        ),  # from 0, as our records count
        (
            _set("rounds", 0, "feedback", 5, {"label": "Incorrect", "caused_by": 99}),
            4,
            4,
            [
                "round 1: step 6 is said to follow from step 100, which is no wrong step before it; taken: step 5"
            ],
        ),
        (
            _set("rounds", 0, "feedback", 4, "Incorrect: see step 6, it is due to the error in step 6"),
            4,
            4,
            [
                "round 1: step 5 is said to follow from step 6, which is no wrong step before it; nothing before it is, so it is "
                "wrong by itself",
                "round 1: step 6 is said to follow from step 4, which is no wrong step before it; taken: step 5",
            ],
        ),
    ],
)
def test_false_causes_are_mended_and_said(
    database: Database,
    who: Member,
    change: Callable[[dict[str, Any]], object],
    root: int,
    cause: int,
    said: list[str],
) -> None:
    done = take(database, who, changed(change))
    assert [entry.why for entry in done.mended] == said
    [found] = stored(database, who)
    assert (found.rounds[0].root, found.rounds[0].steps[5].caused_by) == (root, cause)


def test_what_contradicts_the_store_is_refused(database: Database, who: Member) -> None:
    take(database, who, seed.ROW)
    [before] = stored(database, who)
    for change, why in (
        (_set("rounds", 0, "right", True), "round 1 is in the project with another right"),
        (_set("rounds", 1, "steps", 7, "So A and D."), "round 2 is in the project with another text"),
        (_set("rounds", 0, "feedback", 0, "Neutral"), "'expert' has marked this solution otherwise already"),
        (_set("outcome", "sound"), "it ended in the project as accepted, and the row says sound"),
        (_set("checks", [True, False]), "its checks are in the project otherwise"),
        (_set("role", "crowd"), "'expert@import' is there as expert, not as crowd"),
    ):
        row = changed(change)
        if "role" in row:
            row["rounds"][0]["feedback"][0] = "Neutral"
            row["prompt"] = "Another?"
        [bad] = take(database, who, row).bad
        assert bad.why.startswith(why), bad.why
    longer = changed(lambda row: row["rounds"].append({"steps": ["So A and D."]}))
    [bad] = take(database, who, longer).bad
    assert bad.why == "round 3 is new, and the refinement ended in the project as accepted"
    assert stored(database, who) == [before]


def test_a_refinement_goes_on_where_a_file_is_longer(database: Database, who: Member) -> None:
    take(database, who, changed(lambda row: row.update(rounds=row["rounds"][:1], outcome=None, checks=[])))
    [begun] = stored(database, who)
    assert len(begun.rounds) == 1 and begun.outcome is None
    assert take(database, who, seed.ROW).new == 1
    [found] = stored(database, who)
    assert len(found.rounds) == 2 and found.outcome == "accepted" and found.rounds[0] == begun.rounds[0]


def test_marks_are_those_of_annotators_in_their_roles(database: Database, who: Member, store: Store) -> None:
    def said(row: dict[str, Any]) -> None:
        row["rounds"][0] |= {"by": "eve", "role": "crowd", "minutes": 2.5}
        row["rounds"][1] |= {"by": "rules", "role": "verifier"}

    take(database, who, changed(said))
    [found] = stored(database, who)
    assert [(one.by, one.role) for one in found.rounds] == [
        ("eve@import", "crowd"),
        ("rules@import", "verifier"),
    ]
    assert found.rounds[0].minutes == 2.5
    with database.read() as connection:
        kinds = dict(connection.execute(select(Annotator.name, Annotator.kind)).all())
    assert kinds == {"eve@import": "human", "rules@import": "rule"}


def test_a_new_project_is_asked_as_the_file_is_cut(database: Database, who: Member) -> None:
    take(
        database,
        who,
        {"prompt": "Why?", "rounds": [{"steps": ["1. So.\n", "2. Then."], "feedback": ["ok", "ok"]}]},
    )
    info = projects.info(database, who)
    assert (info.schema.type, info.schema.splitter) == ("step", "numbered")
    [found] = stored(database, who)
    assert [step.text for step in found.rounds[0].steps] == ["1. So.\n", "2. Then."]


def test_kind_auto_knows_refinements(database: Database, who: Member) -> None:
    file = io.BytesIO(seed.FILE.read_bytes())
    done = importing.import_stream(database, who, "auto", file, "refinement.json")
    assert done.new == 1 and done.bad == []
    tried = importing.try_import(database, who, "auto", seed.FILE.read_bytes(), "refinement.json")
    assert tried.kind == "refinements" and tried.first[0]["parts"]["rounds"] == "2"


def test_a_rewrite_keeps_its_line_break(database: Database, who: Member) -> None:
    """It stands in the place of a last step: without the break, what is written behind it would be the same line."""
    steps = [{"text": "I read.\n", "label": 1}, {"text": "Answer: 5.", "label": -1, "rewrite": "3*2=6.\n"}]
    take(database, who, {"prompt": "Why?", "rounds": [{"steps": steps}]})
    [found] = stored(database, who)
    assert prefix_of(found.rounds[0], 1, found.rounds[0].steps[1].rewrite, "lines") == "I read.\n3*2=6.\n"
