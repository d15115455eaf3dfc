"""Raw lines as rows: one answer with its item, its annotator and what they were shown, as `raw` wrote it."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, or_, select

from tutelage.feedback.asking.answer_rows import read_answers, write_answer
from tutelage.feedback.asking.payloads import Answer, PairAnswer, Schema
from tutelage.feedback.asking.slots import to_positions
from tutelage.feedback.exports.current import EMPTIED
from tutelage.feedback.exports.raw import IMPORTED, IMPORTED_INTO
from tutelage.feedback.imports.lines import RawAnswer, RawResponse, ResponseColumns, ResponseLine
from tutelage.feedback.imports.rows import ensure_annotator, find_item, prompt_row, store_response
from tutelage.feedback.items.contents import steps_shown
from tutelage.records import Prompt
from tutelage.store.counting import recount
from tutelage.store.origins import FILE, with_origin
from tutelage.store.pairing import insert_item
from tutelage.store.schema import ITEM_TYPES, Annotation, Item, ItemResponse, PromptRow, ResponseRow
from tutelage.store.schema_feedback import Assignment, SchemaVersion, SoftVote, Withdrawal
from tutelage.store.sql import insert_one, insert_rows
from tutelage.store.voting import insert_help, insert_soft_vote


def store_answer(
    connection: Connection, key: int, row: RawAnswer, versions: dict[tuple[str, int], int]
) -> bool:
    known = _find_answer(connection, key, row.key)
    if known is not None:
        return not _is_redacted(connection, known) and _is_withdrawn_since(connection, known, row)
    item_id = _ensure_raw_item(connection, key, row)
    name = with_origin(row.annotator, row.store or FILE)
    annotator_id = ensure_annotator(connection, name, row.annotator_kind)
    supersedes = _superseded(connection, key, row)
    assignment_id = _ensure_assignment(connection, item_id, annotator_id, row, versions)
    _refuse_second(connection, item_id, annotator_id, row, supersedes)
    steps: Sequence[str] = ()
    if row.type == "step" and row.responses:
        steps = _steps(connection, assignment_id, row)
    first_shown = row.shown_order[0] if row.shown_order else 0
    answer_id = write_answer(
        connection,
        row.answer,
        steps,
        first_shown,
        item_id=item_id,
        annotator_id=annotator_id,
        assignment_id=assignment_id,
        role=row.role,
        client_key=IMPORTED_INTO.format(project_id=key) + row.key,
        supersedes_id=supersedes,
        active_ms=row.active_ms,
        submitted_at=row.submitted_at,
    )
    insert_soft_vote(connection, answer_id, row.share, row.margin)
    insert_help(connection, answer_id, row.help.to_help() if row.help else None)
    if row.withdrawn:
        insert_rows(connection, Withdrawal, [{"annotation_id": answer_id}])
    recount(connection, [item_id])
    return True


def _is_withdrawn_since(connection: Connection, known: int, row: RawAnswer) -> bool:
    """Whether a row that is there says that it no longer holds, which is noted.  Raises ValueError where it says otherwise."""
    soft = select(SoftVote.share, SoftVote.margin).where(SoftVote.annotation_id == known)
    stored = connection.execute(soft).one_or_none() or (None, None)
    there, said = read_answers(connection, [known])[known], row.answer
    if not there.reason:  # a reason can be redacted by itself
        said = said.model_copy(update={"reason": ""})
    if (there, *stored) != (said, row.share, row.margin):
        raise ValueError(f"key '{row.key}' is there with another answer")
    noted = select(Withdrawal.annotation_id).where(Withdrawal.annotation_id == known)
    if not row.withdrawn or connection.scalar(noted) is not None:
        return False
    insert_rows(connection, Withdrawal, [{"annotation_id": known}])
    return True


def _ensure_raw_item(connection: Connection, key: int, row: RawAnswer) -> int:
    if row.type not in ITEM_TYPES or row.answer.type != row.type:
        raise ValueError(f"an item of type '{row.type}' cannot have an answer of type '{row.answer.type}'")
    if sorted(row.shown_order) != list(range(len(row.responses))) and row.shown_order:
        raise ValueError("shown_order does not name every response once")
    _check_shape(row.answer, len(row.responses))
    if row.answer.type != "pair" and (row.share, row.margin, row.help) != (None, None, None):
        raise ValueError("share, margin and help are said of pairs only")
    if (
        row.answer.type == "pair"
        and row.share is not None
        and (row.share == 0.5) != (row.answer.preference == 0)
    ):
        raise ValueError(f"a share of {row.share} does not go with preference {row.answer.preference}")
    prompt = row.to_prompt()
    prompt_id = prompt_row(connection, key, prompt, row.split)
    responses = [
        store_response(connection, key, _line(prompt, row.split, response))[0] for response in row.responses
    ]
    if len(set(responses)) < len(responses):
        raise ValueError("the same response stands in two places of the item")
    there = find_item(connection, key, row.item)
    if there is None:
        item = {"project_id": key, "type": row.type, "prompt_id": prompt_id, "digest": row.item}
        return insert_item(connection, responses, **item, overlap=row.overlap)
    slots = select(ItemResponse.response_id).where(ItemResponse.item_id == there).order_by(ItemResponse.slot)
    if list(connection.scalars(slots)) != responses:
        raise ValueError(f"the item {row.item} is in the project with other responses")
    return there


def _check_shape(answer: Answer, slots: int) -> None:
    """Whether every response is spoken of: turning the answer around must be possible."""
    try:
        to_positions(answer, range(slots))
    except IndexError:
        raise ValueError("the answer is not about as many responses as there are") from None
    if isinstance(answer, PairAnswer) and slots != 2:
        raise ValueError(f"a pair has two responses, not {slots}")


def _line(prompt: Prompt, split: str, response: RawResponse) -> ResponseLine:
    said = ResponseColumns(split=split, **response.model_dump(exclude={"text", "finish"}))
    return ResponseLine(prompt, response.text, response.finish, said)


def _find_answer(connection: Connection, key: int, name: str) -> int | None:
    """The project's answer that came under this key."""
    keys = (IMPORTED_INTO.format(project_id=key) + name, IMPORTED + name)
    query = select(Annotation.id).join(Item)
    return connection.scalar(query.where(Item.project_id == key, Annotation.client_key.in_(keys)))


def _is_redacted(connection: Connection, annotation_id: int) -> bool:
    """Whether some text of an answer, or of what it is about, is gone: then it is there, whatever the file says."""
    prompts = select(Annotation.id).join(Item)
    prompts = prompts.join(PromptRow).where(PromptRow.redacted_at.is_not(None))
    responses = select(Annotation.id).join(ItemResponse, ItemResponse.item_id == Annotation.item_id)
    responses = responses.join(ResponseRow)
    responses = responses.where(ResponseRow.redacted_at.is_not(None))
    gone = or_(*(Annotation.id.in_(query) for query in (prompts, responses, EMPTIED)))
    return connection.scalar(select(Annotation.id).where(Annotation.id == annotation_id, gone)) is not None


def _superseded(connection: Connection, key: int, row: RawAnswer) -> int | None:
    if row.supersedes is None:
        return None
    found = _find_answer(connection, key, row.supersedes)
    if found is None:
        raise ValueError(f"it revises '{row.supersedes}', which is not there: keep the order of the file")
    return found


def _refuse_second(
    connection: Connection, item_id: int, annotator_id: int, row: RawAnswer, supersedes: int | None
) -> None:
    """What the database would refuse, in words."""
    if supersedes is not None:
        if connection.scalar(select(Annotation.id).where(Annotation.supersedes_id == supersedes)):
            raise ValueError("it revises an answer that was revised already")
        return
    same = (Annotation.item_id == item_id, Annotation.supersedes_id.is_(None))
    if row.role == "adjudication":
        taken = select(Annotation.id).where(*same, Annotation.role == "adjudication")
    else:
        own = Annotation.annotator_id == annotator_id
        taken = select(Annotation.id).where(*same, own, Annotation.role != "adjudication")
    if connection.scalar(taken) is not None:
        raise ValueError(f"'{row.annotator}' has answered this item here already, under another key")


def _ensure_assignment(
    connection: Connection,
    item_id: int,
    annotator_id: int,
    row: RawAnswer,
    versions: dict[tuple[str, int], int],
) -> int | None:
    """What the annotator was shown; None for programs, which are shown nothing."""
    if row.questions is None:
        return None
    place = (Assignment.item_id == item_id, Assignment.annotator_id == annotator_id)
    found = connection.scalar(select(Assignment.id).where(*place))
    if found is not None:
        return found
    if ("questions", row.questions) not in versions:
        raise ValueError(f"version {row.questions} of the questions is not in the file before this line")
    return insert_one(
        connection,
        Assignment,
        item_id=item_id,
        annotator_id=annotator_id,
        status="review" if row.role == "adjudication" else "done",
        lease_expires_at=row.submitted_at,
        assigned_at=row.submitted_at,
        presented_order=row.shown_order,
        order_seed=0,
        schema_version_id=versions["questions", row.questions],
        guideline_version_id=versions.get(("guidelines", row.guidelines or 0)),
    )


def _steps(connection: Connection, assignment_id: int | None, row: RawAnswer) -> Sequence[str]:
    content = connection.scalar(
        select(SchemaVersion.content).join(Assignment).where(Assignment.id == assignment_id)
    )
    schema = Schema() if content is None else Schema.model_validate(content)
    steps = steps_shown("step", schema, row.responses[0].text)
    assert row.answer.type == "step"
    if any(mark.step >= len(steps) for mark in row.answer.marks):
        raise ValueError(f"a step is marked that is not there: the response has {len(steps)}")
    return steps
