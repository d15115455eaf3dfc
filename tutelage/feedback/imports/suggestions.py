"""Suggestions: answers that a program proposes, kept beside the items that they are about."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, select

from tutelage.feedback.asking.answer_rows import normal
from tutelage.feedback.asking.checking import check_answer
from tutelage.feedback.asking.payloads import ANSWER, Answer, ItemType
from tutelage.feedback.asking.slots import to_slots
from tutelage.feedback.imports.lines import SuggestionLine
from tutelage.feedback.items.contents import steps_shown, texts_of
from tutelage.feedback.projects.projects import current_schema
from tutelage.store.schema import Item, ItemResponse, PromptRow, ResponseRow, digest
from tutelage.store.schema_feedback import Suggestion
from tutelage.store.sql import insert_one


def store_suggestion(connection: Connection, key: int, line: SuggestionLine) -> bool:
    """Keep a suggestion, in slots; whether it was new.  Raises ValueError where it fits no item of the project."""
    said = line.said
    item_id, type, order = _find_item(connection, key, line)
    answer = normal(to_slots(_checked(connection, key, line, item_id, type), order))
    place = (Suggestion.item_id == item_id, Suggestion.source == said.source)
    there = connection.execute(select(Suggestion.answer, Suggestion.score).where(*place)).one_or_none()
    content = answer.model_dump(mode="json")
    if there is None:
        insert_one(
            connection, Suggestion, item_id=item_id, source=said.source, answer=content, score=said.score
        )
    elif (ANSWER.validate_python(there.answer), there.score) != (answer, said.score):
        raise ValueError(f"'{said.source}' has suggested something else here already: name another source")
    return there is None


def _checked(connection: Connection, key: int, line: SuggestionLine, item_id: int, type: ItemType) -> Answer:
    """The answer, which must be one that an annotator could give; nobody asks a program for its reasons."""
    answer: Answer = ANSWER.validate_python({"type": type} | line.said.answer)
    schema = current_schema(connection, key)[1]
    if schema.reason == "required":
        schema = schema.model_copy(update={"reason": "optional"})
    texts = texts_of(connection, item_id)
    steps = len(steps_shown(type, schema, texts[0])) if texts else 0
    try:
        check_answer(answer, type, schema, texts, steps)
    except ValueError as error:
        raise ValueError(str(error).removesuffix(": reload the page and answer again.")) from error
    return answer


def _find_item(connection: Connection, key: int, line: SuggestionLine) -> tuple[int, ItemType, Sequence[int]]:
    """(item, its type, the slot of each response that the line speaks of)."""
    query = select(Item.id, Item.type).where(Item.project_id == key)
    if line.prompt is None:
        found = connection.execute(query.where(Item.digest == line.said.item)).one_or_none()
        if found is None:
            raise ValueError(f"there is no item {line.said.item} in the project: build items first")
        return found.id, found.type, range(len(texts_of(connection, found.id)))
    wanted = [digest(text) for text in line.texts or ()]
    query = query.join(PromptRow).where(PromptRow.digest == line.prompt.id)
    if type := line.said.answer.get("type"):
        query = query.where(Item.type == type)
    for row in connection.execute(query.where(Item.owner_id.is_(None)).order_by(Item.id)).all():
        there = _digests(connection, row.id)
        if sorted(there) == sorted(wanted):
            return row.id, row.type, [there.index(one) for one in wanted]
    raise ValueError("no item of the project is about this prompt and these responses: build items first")


def _digests(connection: Connection, item_id: int) -> list[str]:
    """The digests of an item's responses, by slot."""
    query = select(ResponseRow.digest).join(ItemResponse)
    return list(connection.scalars(query.where(ItemResponse.item_id == item_id).order_by(ItemResponse.slot)))
