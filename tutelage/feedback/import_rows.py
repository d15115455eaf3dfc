"""Imported lines as rows: prompts, responses, comparisons and scores.  Each function says whether the line was new.

Raises ValueError where a line does not fit what is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, select

from tutelage.feedback.incoming import PreferenceLine, PromptColumns, ResponseLine, ScoreLine
from tutelage.records import Prompt, Response, Vote
from tutelage.store.generations import insert_generation_run, insert_prompts, insert_responses
from tutelage.store.rows import ModelInfo, NewVote
from tutelage.store.schema import Annotator, Item, ItemResponse, PromptRow, ResponseRow, digest
from tutelage.store.schema_feedback import ResponseScore
from tutelage.store.sql import insert_one
from tutelage.store.voting import insert_votes

VOTER = "import"  # whose votes the comparisons of a preference file are


def ensure_prompt(connection: Connection, key: int, row: PromptColumns) -> Prompt:
    """The prompt of a line, in the project, in whatever split it is there."""
    prompt = row.to_prompt()
    there = select(PromptRow.id).where(PromptRow.project_id == key, PromptRow.digest == prompt.id)
    if connection.scalar(there) is None:
        insert_prompts(connection, key, [prompt], row.split)
    return prompt


def store_response(connection: Connection, key: int, row: ResponseLine) -> bool:
    prompt = ensure_prompt(connection, key, row)
    model = ModelInfo(row.model, row.model_sha256)
    run_id = insert_generation_run(connection, model, row.engine, row.params)
    index = row.sample_index
    if index is None:
        known = _indices(connection, key, prompt, run_id)
        if digest(row.response) in known.values():
            return False
        index = max(known, default=-1) + 1
    logprobs = () if row.logprob is None else (row.logprob,)
    tokens = tuple(range(row.n_tokens))  # only their number is stored
    response = Response(prompt, row.response, (), tokens, logprobs, row.finish, index)
    return bool(insert_responses(connection, key, run_id, [response]))


def _indices(connection: Connection, key: int, prompt: Prompt, run_id: int) -> dict[int, str]:
    """sample index -> digest of the text, of one run's responses to a prompt."""
    query = (
        select(ResponseRow.sample_index, ResponseRow.digest)
        .join(PromptRow, PromptRow.id == ResponseRow.prompt_id)
        .where(PromptRow.project_id == key, PromptRow.digest == prompt.id)
        .where(ResponseRow.generation_run_id == run_id)
    )
    return {row.sample_index: row.digest for row in connection.execute(query)}


def store_preference(connection: Connection, key: int, row: PreferenceLine) -> bool:
    """A pair and a vote on it: the side by p_chosen, the strength by the margin (1 is as strong as can be)."""
    sides = [_side(row.chosen, "chosen"), _side(row.rejected, "rejected")]
    prompt = ensure_prompt(connection, key, row)
    if sides[0] == sides[1]:
        raise ValueError("chosen and rejected are the same text")
    for text, finish in zip(sides, (row.chosen_finish, row.rejected_finish), strict=True):
        line = row.model_dump(include={"prompt", "task", "reference", "split"})
        store_response(connection, key, ResponseLine(**line, response=text, finish=finish))
    texts = sorted(sides, key=digest)
    item_id = ensure_item(
        connection, key, "pair", prompt, texts, digest("pair", prompt.id, *map(digest, texts)), overlap=1
    )
    side = (row.p_chosen > 0.5) - (row.p_chosen < 0.5)
    strength = max(1, min(3, round(3 * row.margin)))
    preference = side * strength * (1 if texts[1] == sides[0] else -1)
    annotator_id = ensure_annotator(connection, VOTER, "rule")
    assert annotator_id
    vote = NewVote(item_id, Vote(VOTER, preference, 0), f"{VOTER}/{item_id}")
    return bool(insert_votes(connection, key, [vote]))


def _side(value: Any, name: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        text = value[0].get("content")
        if value[0].get("role") == "assistant" and isinstance(text, str):
            return text
    raise ValueError(f"{name} must be text or one assistant message")


def store_score(connection: Connection, key: int, row: ScoreLine) -> bool:
    prompt = row.to_prompt()
    query = (
        select(ResponseRow.id)
        .join(PromptRow, PromptRow.id == ResponseRow.prompt_id)
        .where(PromptRow.project_id == key, PromptRow.digest == prompt.id)
        .where(ResponseRow.digest == digest(row.response))
    )
    found = list(connection.scalars(query))
    if not found:
        raise ValueError("this response is not in the project: import responses first")
    new = False
    for response_id in found:
        place = (ResponseScore.response_id == response_id, ResponseScore.source == row.source)
        there = connection.scalar(select(ResponseScore.value).where(*place))
        if there is None:
            insert_one(connection, ResponseScore, response_id=response_id, source=row.source, value=row.score)
            new = True
        elif there != row.score:
            raise ValueError(
                f"the response has another score by '{row.source}' ({there:g}): name another source"
            )
    return new


def ensure_item(
    connection: Connection,
    key: int,
    type: str,
    prompt: Prompt,
    texts: Sequence[str],
    item_digest: str,
    overlap: int,
) -> int:
    """The item with this digest; made with the project's responses of these texts, in this order of slots."""
    there = select(Item.id).where(Item.project_id == key, Item.digest == item_digest)
    found = connection.scalar(there)
    if found is not None:
        return found
    prompt_id = connection.scalar(
        select(PromptRow.id).where(PromptRow.project_id == key, PromptRow.digest == prompt.id)
    )
    item_id = insert_one(
        connection,
        Item,
        project_id=key,
        type=type,
        prompt_id=prompt_id,
        overlap=overlap,
        digest=item_digest,
    )
    used: list[int] = []
    for slot, text in enumerate(texts):
        same = (ResponseRow.prompt_id == prompt_id, ResponseRow.digest == digest(text))
        query = select(ResponseRow.id).where(*same, ResponseRow.id.not_in(used)).order_by(ResponseRow.id)
        response_id = connection.scalar(query.limit(1))
        assert response_id is not None
        used.append(response_id)
        insert_one(connection, ItemResponse, item_id=item_id, slot=slot, response_id=response_id)
    return item_id


def ensure_annotator(connection: Connection, name: str, kind: str) -> int:
    row = connection.execute(select(Annotator.id, Annotator.kind).where(Annotator.name == name)).one_or_none()
    if row is None:
        return insert_one(connection, Annotator, name=name, kind=kind, profile={})
    if row.kind != kind:
        raise ValueError(f"the annotator '{name}' is there as {row.kind}, not as {kind}: rename one of them")
    return row.id
