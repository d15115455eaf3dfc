"""What members do in refinements: rounds, ways on, checks, experts, authors; and who may see what."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import func, select, update

from tests.feedback.kit import hand_in, join, keys, start, take
from tutelage.feedback.asking.payloads import (
    LiveResponse,
    ProjectSettings,
    Schema,
    StepAnswer,
    StepMark,
    Submission,
    Task,
)
from tutelage.feedback.errors import Refused
from tutelage.feedback.imports import importing
from tutelage.feedback.items import building
from tutelage.feedback.items.changing import Reserve, change_items
from tutelage.feedback.people.access import Member
from tutelage.feedback.projects.projects import set_settings
from tutelage.feedback.refining import authoring, checking, experts, history, working
from tutelage.feedback.refining.judging import is_right
from tutelage.feedback.refining.reading import read_refinements
from tutelage.feedback.refining.views import ProblemView
from tutelage.feedback.work import answers, queue
from tutelage.records import Prompt, Response
from tutelage.store import ModelInfo, Store
from tutelage.store.database import Database
from tutelage.store.schema import Annotation, Item, ResponseRow
from tutelage.store.schema_feedback import ItemReserved

WRONG = "I read.\n\n3+2=5.\n\nAnswer: 5."
RIGHT = "I read.\n\n3*2=6.\n\nAnswer: 6."
EGGS = Prompt("3 bags with 2 eggs. How many?", reference={"answer": "6"})


def said(text: str, **more: Any) -> LiveResponse:
    return LiveResponse(text=text, model="m", n_tokens=3, **more)


def marks(*labels: int | str, **first: Any) -> StepAnswer:
    """+1, 0, -1; "f": follows from the first wrong one, which says what `first` has."""
    root = labels.index(-1) if -1 in labels else None
    return StepAnswer(
        marks=tuple(
            StepMark(step=n, label=-1, caused_by=root)
            if label == "f"
            else StepMark(step=n, label=label, **(first if n == root else {}))  # type: ignore[arg-type]
            for n, label in enumerate(labels)
        ),
        finish="solution" if root is None else "found-error",
    )


@dataclass
class School:
    """A project of steps with one problem that amy (an annotator, `ann`) has in hand; `eve` is an expert."""

    database: Database
    owner: Member
    ann: Member
    eve: Member
    task: Task

    def mark(
        self, answer: StepAnswer, task: Task | None = None, who: Member | None = None, **more: Any
    ) -> Any:
        given = Submission(client_key=next(keys), answer=answer, active_ms=60_000)
        assignment = (task or self.task).assignment_id
        return working.mark(self.database, who or self.ann, assignment, given, **more)

    def go_on(self, answer: StepAnswer, how: str, text: str, **more: Any) -> tuple[ProblemView, Task]:
        """Mark, and let `text` be what a model writes."""
        found = self.mark(answer, how=how, **more)
        who = more.get("who") or self.ann
        return working.add(self.database, who, found.going, found.going.begun, said(text))

    def view(self, root: int, who: Member | None = None) -> ProblemView:
        return history.problem(self.database, who or self.owner, root)


@pytest.fixture
def school(store: Store, database: Database) -> School:
    return make(store, database, EGGS, WRONG)


def make(store: Store, database: Database, prompt: Prompt, text: str, overlap: int = 1) -> School:
    owner = start(store, database, prompts=0, schema=Schema(type="step"), overlap=overlap)
    ann = join(database, owner.user, "main", "amy")
    eve = join(database, owner.user, "main", "eve", "expert")
    store.add_prompts("main", [prompt])
    run = store.add_generation_run(ModelInfo("m"), "local", {})
    store.add_responses("main", run, [Response(prompt, text, (), (), (), "eos")])
    building.build(database, owner, "step", per_prompt=1)
    task = take(database, ann)
    return School(database, owner, ann, eve, task)


def test_a_step_is_inserted_and_the_prefix_stays(school: School) -> None:
    answer = marks(1, -1, "f", reason="in each bag means times", rewrite="3*2=6.", error="reasoning")
    problem, task = school.go_on(answer, "rewritten", "Answer: 6.")
    assert task.responses[0].text == RIGHT and task.parent_item_id == school.task.item_id
    first, second = problem.rounds
    assert [step.label for step in first.steps] == [1, -1, -1] and first.steps[2].caused_by == 1
    assert (first.right, second.right, second.how, second.since) == (False, True, "rewritten", 1)
    assert take(school.database, school.ann).item_id == task.item_id, "a reload finds it"
    # the same once more, as after a lost reply: the same round, and no second answer
    again = school.mark(answer, how="rewritten")
    assert again.task.assignment_id == task.assignment_id and again.going is None
    with school.database.read() as connection:
        assert connection.scalar(select(func.count(Annotation.id))) == 1
        assert connection.scalar(select(func.count(ResponseRow.id))) == 2


def test_a_step_is_written_again_from_the_explanation(school: School) -> None:
    found = school.mark(marks(1, -1, "f", reason="in each bag means times"), how="explained")
    asked = found.going.told
    assert asked.content == (
        "3 bags with 2 eggs. How many?\nI read.\n\n3+2=5.\nTeacher: step 2: in each bag means times\n"
    )
    begun = found.going.begun_with("\n3*2=6.\n\nAnd then more.")
    assert begun == "I read.\n\n3*2=6.\n\n", "only the first step of what it wrote"
    problem, task = working.add(school.database, school.ann, found.going, begun, said("Answer: 6."))
    assert task.responses[0].text == RIGHT and problem.rounds[1].how == "explained"
    assert found.going.prompt == EGGS and "Teacher" not in task.thread[0].content


@pytest.mark.parametrize(
    ("answer", "how", "why"),
    [
        (marks(1, 1, 1), "regenerated", "mark the step that is wrong first"),
        (marks(1, -1, "f"), "explained", "say what is wrong with step 2 first"),
        (marks(1, -1, "f", reason="why"), "rewritten", "write the corrected step first"),
        (marks(1, -1, "f", rewrite="a\n\nb"), "rewritten", "the rewrite of step 2 has 2 steps"),
    ],
)
def test_what_cannot_be_gone_on_from_stores_nothing(
    school: School, answer: StepAnswer, how: str, why: str
) -> None:
    with pytest.raises(Refused, match=why):
        school.mark(answer, how=how)
    with school.database.read() as connection:
        assert connection.scalar(select(func.count(Annotation.id))) == 0
    assert history.problems(school.database, school.owner) == []


def test_marks_are_there_when_the_model_fails_and_can_be_changed_until_a_round_follows(
    school: School,
) -> None:
    school.mark(marks(1, -1, "f", reason="why"), how="regenerated")
    [line] = history.problems(school.database, school.ann)
    assert (line.wants, line.rounds, line.assignment_id) == ("go-on", 1, school.task.assignment_id)
    _, task = school.go_on(marks(-1, "f", "f", reason="no"), "regenerated", "Other.")
    assert task.responses[0].text == "Other."
    with pytest.raises(Refused, match="reload the page to see the new round"):
        school.mark(marks(1, 1, 1))
    revised = Submission(client_key=next(keys), answer=marks(1, 1, 1))
    with school.database.read() as connection:
        last = connection.scalar(select(func.max(Annotation.id)))
    with pytest.raises(Refused, match="has gone on from these marks"):
        answers.revise(school.database, school.ann, last, revised)
    with pytest.raises(Refused, match="reload the page"):
        working.add(
            school.database,
            school.eve,
            working.Going(task.parent_item_id, 2, "regenerated", 0, None, EGGS, None, "", "paragraphs", "m"),  # type: ignore[arg-type]
            "",
            said("x"),
        )


def test_right_twice_without_help_is_accepted(school: School) -> None:
    problem, task = school.go_on(marks(1, -1, "f", reason="w", rewrite="3*2=6."), "rewritten", "Answer: 6.")
    after = school.mark(marks(1, 1, 1), task).problem
    assert after.wants == "check" and after.outcome is None
    for n in (1, 2):
        _, asked = checking.next_check(school.database, school.ann, problem.root)
        assert (asked.n, asked.prompt, asked.model) == (n, EGGS, "m")
        right = is_right(EGGS, RIGHT)
        for _ in range(2):  # twice, as from two tabs: stored once
            after = checking.add_check(school.database, school.ann, asked, said(RIGHT), right)
        assert len(after.checks) == n
    assert (after.outcome, after.wants) == ("accepted", "nothing")
    assert checking.next_check(school.database, school.ann, problem.root)[1] is None


def test_a_wrong_check_ends_it_as_sound(school: School) -> None:
    problem, task = school.go_on(marks(1, -1, "f", reason="w", rewrite="3*2=6."), "rewritten", "Answer: 6.")
    school.mark(marks(1, 1, 1), task)
    _, asked = checking.next_check(school.database, school.ann, problem.root)
    after = checking.add_check(school.database, school.ann, asked, said(WRONG), is_right(EGGS, WRONG))
    assert (after.outcome, after.why) == ("sound", "the model is not right yet without help")


def test_without_a_reference_a_person_says_what_is_right(store: Store, database: Database) -> None:
    school = make(store, database, Prompt("Why?"), "Because.\n\nSo.")
    problem, task = school.go_on(marks(1, -1, reason="w"), "regenerated", "Then.")
    assert problem.rounds[1].right is None and problem.answer is None
    after = school.mark(marks(1, 1), task).problem
    assert after.wants == "check" and after.rounds[1].right is True, "the finish says so"
    _, asked = checking.next_check(database, school.ann, problem.root)
    after = checking.add_check(database, school.ann, asked, said("Since."), is_right(asked.prompt, "Since."))
    assert after.wants == "judge" and after.checks[0].right is None
    assert checking.next_check(database, school.ann, problem.root)[1] is None, "first a word on that one"
    assert checking.judge_check(database, school.ann, problem.root, 1, True).wants == "check"
    with pytest.raises(Refused, match="waits for nobody's word"):
        checking.judge_check(database, school.ann, problem.root, 1, False)
    with database.read() as connection:
        [found] = read_refinements(connection, school.owner.project_id)
    row = json.dumps(found.refinement.to_json()).encode()
    again = importing.import_stream(database, school.owner, "refinements", io.BytesIO(row), "r.jsonl")
    assert not again.bad, "a person's word is no contradiction to a store that knows nothing"


def test_who_cannot_tell_hands_it_up(store: Store, database: Database) -> None:
    school = make(store, database, Prompt("Why?"), "Because.\n\nSo.")
    _, task = school.go_on(marks(1, -1, reason="w"), "regenerated", "Then.")
    told = marks(1, 1).model_copy(update={"finish": "give-up"})
    after = school.mark(told, task).problem
    assert (after.outcome, after.why) == ("handed-up", "nobody can say whether the answer is right")


def test_a_solution_of_many_waits_for_all_of_them(store: Store, database: Database) -> None:
    school = make(store, database, EGGS, WRONG, overlap=2)
    assert "marks of others" in working.refinement_at(database, school.ann, school.task.assignment_id)[1]
    with pytest.raises(Refused, match="waits for the marks of others"):
        school.mark(marks(1, -1, "f", reason="w"), how="regenerated")
    assert school.mark(marks(1, -1, "f", reason="w")).problem is None  # an ordinary answer
    with database.read() as connection:
        assert connection.scalar(select(func.count(Annotation.id))) == 1


def test_a_plain_submit_closes_what_it_decides(school: School) -> None:
    """By a program, or from an outbox: a round that is broken ends the refinement."""
    problem, task = school.go_on(marks(1, -1, "f", reason="w"), "regenerated", "Answer: 7.")
    hand_in(school.database, school.ann, task, StepAnswer(marks=(), finish="bad-problem"))
    working.settle(school.database, school.ann, task.assignment_id)
    assert school.view(problem.root).outcome == "broken"


def test_an_annotator_is_stopped_and_an_expert_takes_over(school: School) -> None:
    task = school.task
    for _ in range(2):
        _, task = school.go_on(
            marks(1, -1, "f", reason="w"), "regenerated", "3+2=5.\n\nAnswer: 5.", task=task
        )
    third = school.mark(marks(1, -1, "f", reason="w"), task, how="regenerated")
    assert third.going is None and third.problem.outcome == "handed-up"
    assert third.problem.why == "step 2 was wrong 3 times, rewritten or not"
    root = third.problem.root
    assert history.waiting_for_experts(school.database, school.eve) == 1
    with pytest.raises(Refused, match="does not include to teach"):
        experts.take(school.database, school.ann, root)
    mine = experts.take(school.database, school.eve, root)
    assert [mark.label for mark in mine.answer.marks] == [1, -1, -1], "with the marks that it has"
    answer = marks(1, -1, "f", reason="times, not plus", rewrite="3*2=6.")
    problem, task = school.go_on(answer, "rewritten", "Answer: 6.", task=mine, who=school.eve)
    assert problem.outcome is None and len(problem.rounds) == 4 and problem.rounds[3].how == "rewritten"
    assert problem.rounds[2].by == "eve" and problem.rounds[2].role == "expert"
    assert take(school.database, school.eve).item_id == task.item_id
    assert queue.next_task(school.database, school.ann) is None


def test_an_expert_takes_up_what_is_their_own(school: School) -> None:
    """What they hold or have marked stays an answer of theirs; nobody has marked it yet: it is theirs like any item."""
    problem, task = school.go_on(marks(1, -1, "f", reason="w"), "regenerated", "3+2=5.\n\nAnswer: 5.")
    others = experts.take(school.database, school.eve, problem.root)
    answer = marks(1, -1, "f", reason="times", rewrite="3*2=6.")
    _, mine = school.go_on(answer, "rewritten", "Answer: 7.", task=others, who=school.eve)
    again = experts.take(school.database, school.eve, problem.root)
    assert again.assignment_id == mine.assignment_id and again.answer is None
    with pytest.raises(Refused, match="reload the page"):
        school.mark(marks(1, 1, 1), task)  # the annotator comes too late
    wrong = marks(1, 1, -1, reason="six")
    school.mark(wrong, again, who=school.eve)
    revised = experts.take(school.database, school.eve, problem.root)
    assert revised.annotation_id is not None and revised.answer == wrong
    view, _ = school.go_on(
        marks(1, 1, -1, reason="6", rewrite="Answer: 6."), "rewritten", "", task=revised, who=school.eve
    )
    assert [one.by for one in view.rounds] == ["amy", "eve", "eve", ""] and view.rounds[3].right is True


def test_an_expert_writes_the_solution(school: School) -> None:
    root = school.mark(marks(1, -1, "f", reason="w"), hand_up="I do not see it").problem.root
    [line] = history.problems(school.database, school.eve, "handed-up")
    assert (line.root, line.why) == (root, "I do not see it")
    with pytest.raises(Refused, match="is not the right one"):
        experts.write(school.database, school.eve, root, WRONG)
    with pytest.raises(Refused, match="write the solution first"):
        experts.write(school.database, school.eve, root, "  ")
    problem = experts.write(school.database, school.eve, root, RIGHT)
    assert (problem.outcome, problem.rounds[1].how, problem.rounds[1].by) == ("written", "written", "eve")
    assert [step.label for step in problem.rounds[1].steps] == [1, 1, 1]
    with pytest.raises(Refused, match="is closed"):
        experts.end(school.database, school.eve, root, "no")


def test_who_sees_which_problems(school: School) -> None:
    problem, _ = school.go_on(marks(1, -1, "f", reason="w"), "regenerated", "Answer: 7.")
    ben = join(school.database, school.owner.user, "main", "ben")
    assert history.problems(school.database, ben) == []
    with pytest.raises(Refused, match="no refined problem"):
        history.problem(school.database, ben, problem.root)
    with pytest.raises(Refused, match="no refined problem"):
        checking.next_check(school.database, ben, problem.root)
    assert school.view(problem.root, school.ann).answer is None
    assert school.view(problem.root, school.eve).answer == "6"
    viewer = join(school.database, school.owner.user, "main", "vic", "viewer")
    assert school.view(problem.root, viewer).rounds[0].by == "amy"


def test_a_project_says_how_many_corrections_and_checks(school: School) -> None:
    set_settings(school.database, school.owner, ProjectSettings(refine_rounds=1, refine_checks=1))
    wrong = marks(1, -1, "f", reason="no", rewrite="3*2=6.", error="reasoning")
    problem, task = school.go_on(wrong, "rewritten", "Answer: 7.")
    assert problem.checks_wanted == 1
    after = school.mark(marks(1, 1, -1, reason="no"), task).problem
    assert (after.outcome, after.why) == ("handed-up", "step 3 is still wrong after 1 correction")
    taken = experts.take(school.database, school.eve, problem.root)
    again, last = school.go_on(
        marks(1, 1, -1, reason="no", rewrite="Answer: 6."), "rewritten", "", task=taken, who=school.eve
    )
    assert again.outcome is None, "experts are not stopped"
    done = school.mark(marks(1, 1, 1), last, school.eve).problem
    assert (done.wants, done.checks_wanted) == ("check", 1)
    _, asked = checking.next_check(school.database, school.eve, problem.root)
    assert asked is not None
    assert (
        checking.add_check(school.database, school.eve, asked, said("Answer: 6."), True).outcome == "accepted"
    )


# authors --------------------------------------------------------------------------------------------------------------

TRICK = authoring.Draft(
    text="x^2 becomes 0.25x^2.",
    options=("compressed vertically", "stretched vertically", "compressed", "stretched horizontally"),
    right=(3, 0),
    trap="two readings",
)


def test_a_problem_is_kept_with_what_is_wrong(school: School) -> None:
    prompt = authoring.prompt_from(TRICK)
    below = "\n\nA. compressed vertically\nB. stretched vertically\nC. compressed\nD. stretched horizontally"
    assert prompt.content_json() == [{"role": "user", "content": f"x^2 becomes 0.25x^2.{below}"}], (
        "in the chat template"
    )
    inline = authoring.prompt_from(TRICK.model_copy(update={"layout": "inline"}))
    assert inline.content_json() == [
        {"role": "user", "content": f"x^2 becomes 0.25x^2.{below}".replace("\n\n", " ").replace("\n", " ")}
    ]
    assert prompt.reference == {"answer": ["A", "D"], "trap": "two readings", "error": "reasoning"}
    tried = authoring.judged(
        prompt, [said("Answer: A, D"), said("Answer: A"), said("A.\n\nAnswer: D", finish="length")]
    )
    assert [one.right for one in tried] == [True, False, False]
    root = authoring.keep(school.database, school.eve, TRICK, tried)
    problem = school.view(root)
    assert problem.prompt == f"x^2 becomes 0.25x^2.{below}", (
        "nobody reads who said it where there is one turn"
    )
    assert (problem.answer, problem.trap, problem.rounds[0].right) == (["A", "D"], "two readings", False)
    assert problem.rounds[0].steps[0].text == "Answer: A"
    assert take(school.database, school.eve).item_id == root
    hand_in(school.database, school.ann, school.task, marks(1, 1, 1))
    assert queue.next_task(school.database, school.ann) is None, "it is the author's"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"text": " "}, "write the problem first"),
        ({"right": ()}, "without a right option"),
        ({"options": ("a",), "right": (0,)}, "at least two options"),
        ({"options": ("a", "a"), "right": (0,)}, "none twice"),
        ({"right": (7,)}, "no option 8"),
        ({"options": (), "right": ()}, "needs its right answer"),
    ],
)
def test_what_is_no_problem(change: dict[str, Any], why: str) -> None:
    with pytest.raises(Refused, match=why):
        authoring.prompt_from(TRICK.model_copy(update=change))


def test_a_problem_that_no_model_fails_is_asked_about_twice(school: School) -> None:
    tried = authoring.judged(authoring.prompt_from(TRICK), [said("Answer: A, D")])
    with pytest.raises(Refused, match="none of 1 answers is wrong"):
        authoring.keep(school.database, school.eve, TRICK, tried)
    with pytest.raises(Refused, match="try the problem first"):
        authoring.keep(school.database, school.eve, TRICK, [])
    with pytest.raises(Refused, match="does not include to teach"):
        authoring.keep(school.database, school.ann, TRICK, tried)
    root = authoring.keep(school.database, school.eve, TRICK, tried, "experts", anyway=True)
    assert take(school.database, school.owner).item_id == root, (
        "whoever may do more than experts gets it, too"
    )
    assert queue.next_task(school.database, school.ann, [school.task.assignment_id]) is None
    queue.release(school.database, school.owner, take(school.database, school.owner).assignment_id)
    assert take(school.database, school.eve).item_id == root


def test_a_problem_that_is_written_twice_is_begun_with_another_answer(school: School) -> None:
    prompt = authoring.prompt_from(TRICK)
    first = authoring.judged(prompt, [said("Answer: A")])
    root = authoring.keep(school.database, school.eve, TRICK, first)
    task = take(school.database, school.eve)
    school.mark(marks(-1, reason="no", rewrite="Answer: A, D"), task, school.eve, hand_up="hard")
    with pytest.raises(Refused, match=f"there already, with these very answers \\(item {root}\\)"):
        authoring.keep(school.database, school.owner, TRICK, first)
    with school.database.read() as connection:
        assert connection.scalars(select(ItemReserved.annotator_id)).all() == [school.eve.annotator_id], (
            "it stays hers"
        )
    again = authoring.judged(prompt, [said("Answer: A"), said("Answer: B")])
    other = authoring.keep(school.database, school.eve, TRICK, again)
    assert other != root and school.view(other).rounds[0].steps[0].text == "Answer: B"
    assert school.view(other).outcome is None and take(school.database, school.eve).item_id == other


def test_items_are_reserved_for_experts(school: School) -> None:
    queue.release(school.database, school.ann, school.task.assignment_id)
    change_items(school.database, school.owner, [school.task.item_id], Reserve(what="reserve", experts=True))
    assert queue.next_task(school.database, school.ann) is None
    assert take(school.database, school.eve).item_id == school.task.item_id
    with school.database.write() as connection:
        assert connection.scalar(select(ItemReserved.role)) == "expert"
        connection.execute(update(Item).values(reserved=False))


@pytest.mark.parametrize(
    ("reference", "text", "right"),
    [
        ({"answer": ["A", "D"]}, "So.\n\nAnswer: A and D", True),
        ({"answer": ["A", "D"]}, "Answer: A", False),
        ({"answer": "1/2"}, "It is 0.5.", True),
        ({"answer": "12"}, "It is 13 - 2 = 11.", False),
        ({"answer": "x+1"}, "\\boxed{1+x}", True),
        ({"answer": "x+1"}, "I do not know.", False),
        ({}, "anything", None),
        (None, "anything", None),
    ],
)
def test_what_is_right_by_the_reference(reference: Any, text: str, right: bool | None) -> None:
    assert is_right(Prompt("?", reference=reference), text) is right
