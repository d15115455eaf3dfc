"""Tasks as pages show them: the payload of the services, and its texts as HTML that is safe to insert."""

from __future__ import annotations

from typing import Any, Literal

from fastapi.encoders import jsonable_encoder

from tutelage.feedback.asking.payloads import Model, Task
from tutelage.feedback.items.browsing import ItemDetail
from tutelage.feedback.work.answers import Conflict, Opinion, Settlement
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


class ConflictView(Model):
    """An item in conflict, or settled."""

    view: TaskView
    opinions: tuple[Opinion, ...]
    settled: Settlement | None


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
    return TaskView(task=task, **_texts(task, task.markdown))


def item_view(found: ItemDetail, as_markdown: bool, questions: dict[str, Any]) -> dict[str, Any]:
    """An item as its annotators see it, but in canonical slots: what the parts of the screens want of a task's view."""
    task = {
        "type": found.row.type,
        "thread": found.thread,
        "plain_prompt": len(found.thread) == 1,
        "responses": found.responses,
        "questions": {**questions, "instruction": ""},
    }
    return jsonable_encoder({"task": task, **_texts(found, as_markdown)})


def _texts(shown: Task | ItemDetail, as_markdown: bool) -> dict[str, Any]:
    """What a `TaskView` has beside its task."""
    return {
        "thread": tuple(rendered(turn.content, as_markdown) for turn in shown.thread),
        "responses": tuple(rendered(one.text, as_markdown) for one in shown.responses),
        "steps": tuple(tuple(rendered(step, as_markdown) for step in one.steps) for one in shown.responses),
    }


def conflict_view(conflict: Conflict) -> ConflictView:
    """The conflict with rendered texts."""
    return ConflictView(
        view=task_view(conflict.task), opinions=tuple(conflict.opinions), settled=conflict.settled
    )
