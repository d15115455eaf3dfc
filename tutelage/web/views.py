"""Tasks as pages show them: the payload of the services, and its texts as HTML that is safe to insert."""

from __future__ import annotations

from typing import Any, Literal

from tutelage.feedback.asking.payloads import (
    Answer,
    Model,
    PairAnswer,
    RankAnswer,
    RateAnswer,
    RewriteAnswer,
    StepAnswer,
    Task,
)
from tutelage.feedback.items.browsing import ItemDetail
from tutelage.feedback.work.answers import Conflict
from tutelage.web.render import laid_out, plain


class Rendered(Model):
    """One text, twice: `html` as sanitised Markdown (null where it is shown as written), `raw` as written.

    `note`: the text is shown as written because Markdown would lose some of it ("text"); formulas in it stand as their
    source ("formulas").
    """

    html: str | None
    raw: str
    note: Literal["", "text", "formulas"] = ""


class TaskView(Model):
    """A task with its texts rendered, in the same order; `steps` by response."""

    task: Task
    thread: tuple[Rendered, ...]
    responses: tuple[Rendered, ...]
    steps: tuple[tuple[Rendered, ...], ...]


class OpinionView(Model):
    """One answer to an item in conflict, its author hidden."""

    label: str
    kind: str
    answer: dict
    submitted_at: str


class SettlementView(Model):
    """How an item was settled."""

    by: str
    at: str
    answer: dict


class ConflictView(Model):
    """An item in conflict, or settled."""

    view: TaskView
    opinions: tuple[OpinionView, ...]
    settled: SettlementView | None


def rendered(text: str, as_markdown: bool) -> Rendered:
    """A text in both ways."""
    raw = str(plain(text))
    if not as_markdown:
        return Rendered(html=None, raw=raw)
    shown = laid_out(text)
    if shown.html is None:
        return Rendered(html=None, raw=raw, note="text")
    return Rendered(html=str(shown.html), raw=raw, note="formulas" if shown.undrawn else "")


def task_view(task: Task) -> TaskView:
    """The task with rendered texts."""
    return TaskView(
        task=task,
        thread=tuple(rendered(turn.content, task.markdown) for turn in task.thread),
        responses=tuple(rendered(shown.text, task.markdown) for shown in task.responses),
        steps=tuple(tuple(rendered(step, task.markdown) for step in shown.steps) for shown in task.responses),
    )


def item_view(found: ItemDetail, as_markdown: bool, questions: dict[str, Any]) -> dict[str, Any]:
    """An item as its annotators see it, but in canonical slots: what the parts of the screens want of a task's view."""
    return {
        "task": {
            "type": found.row.type,
            "thread": [turn.model_dump() for turn in found.thread],
            "plain_prompt": len(found.thread) == 1,
            "responses": [shown.model_dump() for shown in found.responses],
            "questions": {**questions, "instruction": ""},
        },
        "thread": [rendered(turn.content, as_markdown).model_dump() for turn in found.thread],
        "responses": [rendered(shown.text, as_markdown).model_dump() for shown in found.responses],
        "steps": [
            [rendered(step, as_markdown).model_dump() for step in shown.steps] for shown in found.responses
        ],
    }


def conflict_view(conflict: Conflict) -> ConflictView:
    """The conflict with rendered texts."""
    was = conflict.settled
    return ConflictView(
        view=task_view(conflict.task),
        opinions=tuple(
            OpinionView(
                label=opinion.label,
                kind=opinion.kind,
                answer=opinion.answer.model_dump(),
                submitted_at=opinion.submitted_at.isoformat(),
            )
            for opinion in conflict.opinions
        ),
        settled=was
        and SettlementView(by=was.by, at=was.at.isoformat(), answer=was.answer.model_dump(mode="json")),
    )


def summary(answer: Answer, share: float | None = None, margin: float | None = None) -> str:
    """An answer in a few words; responses are A, B, ... in the order that the answer counts them.

    share, margin: what a vote from a file says beside (`records.Vote`).
    """
    match answer:
        case PairAnswer(preference=0):
            return "equal"
        case PairAnswer():
            better = _LETTERS[answer.preference > 0]
            if margin is None:
                return f"{better} {('slightly better', 'better', 'much better')[abs(answer.preference) - 1]}"
            said = f"{better} better" + ("" if share is None else f", by {share:.0%} of votes")
            return said + (f", margin {margin:g}" if margin else "")
        case RankAnswer():
            tiers = [
                " = ".join(_LETTERS[slot] for slot, own in enumerate(answer.ranks) if own == rank)
                for rank in sorted(set(answer.ranks))
            ]
            return " > ".join(tiers)
        case RateAnswer():
            rated = answer.ratings.items()
            return ", ".join(
                f"{name} {'/'.join('n/a' if v is None else str(v) for v in values)}" for name, values in rated
            )
        case StepAnswer():
            marks = {1: "+", 0: "0", -1: "-"}
            return " ".join(f"{mark.step + 1}{marks[mark.label]}" for mark in answer.marks)
        case RewriteAnswer():
            return f"a text of {len(answer.text)} characters"
    return "the end of a chat"


_LETTERS = "ABCDEFGHI"
