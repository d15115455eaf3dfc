"""What a model has written on the spot, as rows; and a prompt as its record."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select

from tutelage.feedback.asking.payloads import LiveResponse
from tutelage.records import Prompt
from tutelage.store.generations import insert_generation_run, insert_next
from tutelage.store.rows import ModelInfo
from tutelage.store.schema import PromptRow


def prompt_of(connection: Connection, prompt_id: int) -> Prompt:
    """The prompt of a row."""
    columns = (PromptRow.content, PromptRow.task, PromptRow.reference)
    row = connection.execute(select(*columns).where(PromptRow.id == prompt_id)).one()
    return Prompt.from_json(row.content, row.task, row.reference)


def store_response(connection: Connection, prompt_id: int, candidate: LiveResponse, **origin: Any) -> int:
    """Insert what a model has written; returns its row's id.  `origin`: what else its generation run says of it."""
    model = ModelInfo(candidate.model, candidate.model_sha256)
    params = {"live": True, **candidate.params, **origin}
    run_id = insert_generation_run(connection, model, candidate.engine, params)
    said = (candidate.text, candidate.finish, candidate.n_tokens, candidate.logprob)
    return insert_next(connection, run_id, prompt_id, *said)
