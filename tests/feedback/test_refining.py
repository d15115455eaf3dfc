"""Refinements: what comes next, and how they stand in the store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tutelage.feedback.asking.answer_rows import write_answer
from tutelage.feedback.asking.payloads import StepAnswer, StepMark
from tutelage.feedback.errors import Refused
from tutelage.feedback.refining import rows
from tutelage.feedback.refining.reading import Standing, read_refinements
from tutelage.feedback.refining.rules import Next, Rules, next_of, prefix_of, right_in_a_row
from tutelage.feedback.refining.telling import told
from tutelage.records import MarkedStep, Message, Prompt, Refinement, Response, Round
from tutelage.store import ModelInfo, Store
from tutelage.store.schema import now

PROMPT = Prompt("3 bags with 2 eggs. How many?", reference={"answer": "6"})
RIGHT = (MarkedStep("1. 3*2=6.\n\n", 1), MarkedStep("Answer: 6.", 1))
WRONG = (
    MarkedStep("1. I read.\n\n", 1),
    MarkedStep("2. 3+2=5.\n\n", -1, "in each bag means times", "2. 3*2=6.", error="reasoning"),
    MarkedStep("Answer: 5.", -1, caused_by=1),
)


def refinement(*rounds: Round, checks: tuple[bool, ...] = ()) -> Refinement:
    return Refinement(PROMPT, rounds, checks)


def marked(*steps: MarkedStep, right: bool | None = False, **more: object) -> Round:
    return Round(steps, right=right, by="ann", role="expert", **more)  # type: ignore[arg-type]


def test_the_first_root_is_gone_on_from() -> None:
    assert next_of(refinement(Round(WRONG)), Rules()) == Next("mark")  # nobody has said anything yet
    assert next_of(refinement(marked(*WRONG)), Rules()) == Next("go on", "rewritten", 1)
    bare = replace(WRONG[1], rewrite=None)
    for fallback, explanation, how in (
        ("explained", "why", "explained"),
        ("explained", "", "regenerated"),
        ("regenerated", "why", "regenerated"),
    ):
        step = replace(bare, explanation=explanation)
        rules = Rules(fallback=fallback)  # type: ignore[arg-type]
        assert next_of(refinement(marked(WRONG[0], step)), rules) == Next("go on", how, 1)  # type: ignore[arg-type]
    found = next_of(refinement(marked(WRONG[0], bare)), Rules(fallback="never"))
    assert found and found.outcome == "handed-up" and found.why == "nobody has rewritten step 2"


def test_right_twice_in_a_row_is_accepted() -> None:
    done = marked(*RIGHT, right=True)
    assert next_of(refinement(done), Rules()) == Next("check")
    assert next_of(refinement(done, checks=(True,)), Rules()) == Next("check")
    assert next_of(refinement(done, checks=(True, True)), Rules()) == Next("close", outcome="accepted")
    assert next_of(refinement(done), Rules(checks=0)) == Next("close", outcome="accepted")
    lost = next_of(refinement(done, checks=(True, False)), Rules())
    assert lost and lost.outcome == "sound"
    assert [right_in_a_row(c) for c in ((), (True, False), (False, True), (True, True))] == [0, 0, 1, 2]


@pytest.mark.parametrize(
    ("last", "why"),
    [
        (marked(*RIGHT, right=False), "every step is marked right, but the answer is wrong"),
        (marked(*RIGHT, right=True, finish="length"), "the solution does not end"),
        (marked(RIGHT[0], replace(RIGHT[1], label=None), right=True), "not every step was marked"),
    ],
)
def test_what_no_rewrite_can_mend_is_handed_up(last: Round, why: str) -> None:
    assert next_of(refinement(last), Rules()) == Next("close", outcome="handed-up", why=why)


def test_a_root_that_does_not_move_is_handed_up() -> None:
    again = refinement(marked(*WRONG), marked(*WRONG), marked(*WRONG))
    found = next_of(again, Rules(stuck=2))
    assert found and found.why == "step 2 was wrong 3 times, rewritten or not"
    on = (MarkedStep("a\n\n", 1), MarkedStep("b\n\n", 1), MarkedStep("c", -1, rewrite="d"))
    assert next_of(refinement(marked(*WRONG), marked(*WRONG), marked(*on)), Rules(stuck=2)) == Next(
        "go on", "rewritten", 2
    )
    many = refinement(*(marked(*on) for _ in range(5)))
    found = next_of(many, Rules(rounds=4, stuck=9))
    assert found and found.why == "step 3 is still wrong after 4 corrections"


def test_the_prefix_is_kept_word_for_word() -> None:
    last = marked(*WRONG)
    assert prefix_of(last, 1, "2. 3*2=6.", "paragraphs") == "1. I read.\n\n2. 3*2=6.\n\n"
    assert prefix_of(last, 1, None, "paragraphs") == "1. I read.\n\n"
    assert prefix_of(last, 2, " Answer: 6. ", "paragraphs") == "1. I read.\n\n2. 3+2=5.\n\nAnswer: 6."
    with pytest.raises(ValueError, match=r"the rewrite of step 2 has 2 steps, and must be one"):
        prefix_of(last, 1, "2. 3*2=6.\n\n3. Done.", "paragraphs")
    with pytest.raises(ValueError, match="write the corrected step first"):
        prefix_of(last, 1, "  ", "paragraphs")
    with pytest.raises(ValueError, match="there is no step 9: the solution has 3"):
        prefix_of(last, 8, None, "paragraphs")


def test_records_come_back() -> None:
    one = Refinement(PROMPT, (marked(*WRONG), marked(*RIGHT, right=True)), (True,), "sound", "not yet")
    assert Refinement.from_json(one.to_json()) == one
    assert one.solution == "1. 3*2=6.\n\nAnswer: 6." and one.rounds[0].root == 1 and one.rounds[1].sound


# in the store ---------------------------------------------------------------------------------------------------------


def stored(store: Store, texts: list[str]) -> list[int]:
    """Rows of responses to one prompt."""
    store.add_prompts("maths", [PROMPT])
    run = store.add_generation_run(ModelInfo("m"), "local", {})
    wrote = [Response(PROMPT, text, (), (), (), "eos", number) for number, text in enumerate(texts)]
    store.add_responses("maths", run, wrote)
    return list(range(1, len(texts) + 1))


def mark(store: Store, item: int, by: str, labels: list[int], **first: object) -> None:
    """`first`: what is said of the first wrong step."""
    wrong = labels.index(-1) if -1 in labels else None
    marks = tuple(
        StepMark.model_validate({"step": n, "label": label} | (first if n == wrong else {}))
        for n, label in enumerate(labels)
    )
    with store.writing("maths") as (connection, _):
        who = connection.exec_driver_sql(f"SELECT id FROM annotator WHERE name = '{by}'").scalar()
        write_answer(
            connection,
            StepAnswer(marks=marks),
            ["x"] * len(labels),
            0,
            item_id=item,
            annotator_id=who,
            role="answer",
            client_key=f"{item}/{by}",
            submitted_at=now(),
            active_ms=90_000,
        )


def standing(store: Store) -> Standing:
    with store.reading("maths") as (connection, key):
        [found] = read_refinements(connection, key)
    return found


def test_rounds_checks_and_outcome_are_kept(tmp_path: Path) -> None:
    with Store(tmp_path / "s.sqlite") as store:
        first, second, check = stored(store, ["One.\n\nTwo.", "One.\n\nThree.", "check"])
        store.add_annotator("ann", "simulated", {"role": "expert"})
        with store.writing("maths") as (connection, key):
            root = rows.open_refinement(connection, key, rows.Written(first, False))
            assert rows.open_refinement(connection, key, rows.Written(first, False)) == root
        assert standing(store).refinement.rounds[0].role is None
        mark(store, root, "ann", [1, -1], reason="why", rewrite="Three.", error="calculation")
        with store.writing("maths") as (connection, _):
            item = rows.add_round(connection, root, 2, rows.Written(second, True), "rewritten", 1)
            with pytest.raises(Refused, match="gone on from meanwhile"):
                rows.add_round(connection, root, 2, rows.Written(check, True), "rewritten", 1)
            rows.add_check(connection, root, 1, check, False)
            rows.add_check(connection, root, 1, check, False)
            rows.close(connection, root, "sound", "not yet")
        found = standing(store)
        [one, two] = found.refinement.rounds
        assert found.items == (root, item) and found.refinement.checks == (False,)
        assert (found.refinement.outcome, found.refinement.why) == ("sound", "not yet")
        assert one.steps[1] == MarkedStep("Two.", -1, "why", "Three.", None, "calculation")
        assert (one.right, one.by, one.role, one.calls, one.minutes) == (False, "ann", "expert", 2, 1.5)
        assert (two.how, two.since, two.right, two.role) == ("rewritten", 1, True, None)


def test_the_majority_speaks_with_the_words_of_who_agrees_with_it(tmp_path: Path) -> None:
    with Store(tmp_path / "s.sqlite") as store:
        [first] = stored(store, ["One.\n\nTwo.\n\nThree."])
        for name in "abc":
            store.add_annotator(name, "simulated", {"role": "crowd"})
        with store.writing("maths") as (connection, key):
            root = rows.open_refinement(connection, key, rows.Written(first, False), overlap=3)
        mark(store, root, "a", [-1, 1, 1], reason="a's")
        mark(store, root, "b", [1, -1, 1], reason="b's")
        assert standing(store).refinement.rounds[0].role is None  # the third is waited for
        mark(store, root, "c", [1, -1, 1], reason="c's")
        [found] = standing(store).refinement.rounds
        assert (found.root, found.steps[1].explanation, found.by, found.role) == (1, "b's", "b", "crowd")
        assert found.calls == 3 and found.minutes == 4.5


def test_what_a_model_is_told_of_a_wrong_step() -> None:
    steps = (MarkedStep("1. One.\n"), MarkedStep("2. Two.\n"), MarkedStep("3. Three."))
    plain = told(Prompt("Why?"), steps, 1, "in each bag means times.")
    assert plain.content == "Why?\n1. One.\n2. Two.\nTeacher: step 2: in each bag means times.\n"
    chat = told(Prompt((Message("user", "Why?"),), reference={"answer": "6"}), steps, 0, "")
    assert chat.text() == "user: Why?\n1. One.\nTeacher: step 1 is wrong." and chat.reference is None
