"""Writing prompts, generation runs and responses, inside a write transaction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, func, select

from tutelage.records import Finish, Prompt, Response
from tutelage.store.rows import LIVE, ModelInfo
from tutelage.store.schema import GenerationRun, ModelRef, PromptRow, ResponseRow, digest
from tutelage.store.sql import CHUNK, chunks, insert_one, insert_rows, is_storable, shown, storable


def insert_prompts(connection: Connection, project_id: int, prompts: Iterable[Prompt], split: str) -> int:
    """Insert the prompts that the project does not have; see `Store.add_prompts`."""
    wanted = {}
    for prompt in prompts:
        if not is_storable([prompt.content_json(), prompt.reference, prompt.task]):
            raise ValueError(
                f"the prompt {shown(prompt)} holds a NUL or half a character (a lone surrogate), which no database "
                "keeps: take it out of the file."
            )
        wanted[prompt.id] = prompt
    there = _known_prompts(connection, project_id, list(wanted))
    for key, (_, other) in there.items():
        if other != split:
            raise ValueError(
                f"the prompt {shown(wanted[key])} is already in the project as '{other}', not as '{split}': "
                "remove it from one of the two files, or use another project."
            )
    new = [
        {
            "project_id": project_id,
            "content": prompt.content_json(),
            "task": prompt.task,
            "reference": None if prompt.reference is None else dict(prompt.reference),
            "split": split,
            "digest": key,
        }
        for key, prompt in wanted.items()
        if key not in there
    ]
    insert_rows(connection, PromptRow, new)
    return len(new)


def ensure_prompt(connection: Connection, project_id: int, prompt: Prompt, split: str) -> Any:
    """The row (id, split) of a prompt, in whatever split it is there; in `split` where it is new."""
    same = (PromptRow.project_id == project_id, PromptRow.digest == prompt.id)
    there = select(PromptRow.id, PromptRow.split).where(*same)
    row = connection.execute(there).one_or_none()
    if row is None:
        insert_prompts(connection, project_id, [prompt], split)
        row = connection.execute(there).one()
    return row


def insert_generation_run(
    connection: Connection, model: ModelInfo, engine: str, params: Mapping[str, Any]
) -> int:
    """The id of the run with this content, made if new; see `Store.add_generation_run`."""
    identity = digest(model.name, model.sha256, engine, dict(params))
    found = connection.scalar(select(GenerationRun.id).where(GenerationRun.digest == identity))
    if found is not None:
        return found
    same = select(ModelRef.id).where(ModelRef.name == model.name, ModelRef.sha256 == model.sha256)
    model_id = connection.scalar(same) or insert_one(
        connection, ModelRef, name=model.name, sha256=model.sha256
    )
    return insert_one(
        connection, GenerationRun, model_ref_id=model_id, engine=engine, params=dict(params), digest=identity
    )


def insert_responses(
    connection: Connection, project_id: int, run_id: int, responses: Sequence[Response]
) -> int:
    """Insert the responses that the run does not have, as `storable` text; see `Store.add_responses`."""
    prompts = _known_prompts(connection, project_id, [response.prompt.id for response in responses])
    there = _known_responses(connection, run_id, [row_id for row_id, _ in prompts.values()])
    new = []
    for response in responses:
        if response.prompt.id not in prompts:
            raise ValueError(
                f"the prompt {shown(response.prompt)} is not in the project: add the prompts first."
            )
        text = storable(response.text)
        prompt_id, text_digest = prompts[response.prompt.id][0], digest(text)
        place = (prompt_id, response.sample_index)
        if place not in there:
            there[place] = text_digest
            new.append(_values(response, run_id, prompt_id, text, text_digest))
        elif there[place] != text_digest:
            raise ValueError(
                f"generation run {run_id} already has another response {response.sample_index} to the prompt "
                f"{shown(response.prompt)}: the model has changed under its name, use another project or seed."
            )
    insert_rows(connection, ResponseRow, new)
    return len(new)


def next_sample(connection: Connection, run_id: int, prompt_id: int) -> int:
    """The first sample index that a run has free behind its responses to a prompt."""
    own = (ResponseRow.generation_run_id == run_id, ResponseRow.prompt_id == prompt_id)
    last = connection.scalar(select(func.max(ResponseRow.sample_index)).where(*own))
    return 0 if last is None else last + 1


def insert_next(
    connection: Connection,
    run_id: int,
    prompt_id: int,
    text: str,
    finish: Finish,
    n_tokens: int,
    logprob: float | None = None,
) -> int:
    """A response of a generation run to a prompt (rows), as `storable` text, behind those that are there; returns its row."""
    kept = storable(text)
    return insert_one(
        connection,
        ResponseRow,
        prompt_id=prompt_id,
        generation_run_id=run_id,
        sample_index=next_sample(connection, run_id, prompt_id),
        text=kept,
        finish_reason=finish,
        n_tokens=n_tokens,
        logprob=logprob,
        digest=digest(kept),
    )


def _values(response: Response, run_id: int, prompt_id: int, text: str, text_digest: str) -> dict[str, Any]:
    return {
        "prompt_id": prompt_id,
        "generation_run_id": run_id,
        "sample_index": response.sample_index,
        "text": text,
        "finish_reason": response.finish,
        "n_tokens": len(response.ids),
        "logprob": sum(response.logprobs) if response.logprobs else None,
        "digest": text_digest,
    }


def _known_prompts(
    connection: Connection, project_id: int, digests: Sequence[str]
) -> dict[str, tuple[int, str]]:
    """digest -> (row id, split) for those prompts of the project that are there."""
    known: dict[str, tuple[int, str]] = {}
    for some in chunks(sorted(set(digests))):
        rows = select(PromptRow.digest, PromptRow.id, PromptRow.split).where(
            PromptRow.project_id == project_id, PromptRow.digest.in_(some)
        )
        known |= {row.digest: (row.id, row.split) for row in connection.execute(rows)}
    return known


def _known_responses(
    connection: Connection, run_id: int, prompt_ids: Sequence[int]
) -> dict[tuple[int, int], str]:
    """(prompt row id, sample index) -> digest of the text, for those responses of the run that are there."""
    known: dict[tuple[int, int], str] = {}
    for some in chunks(prompt_ids):
        rows = select(ResponseRow.prompt_id, ResponseRow.sample_index, ResponseRow.digest).where(
            ResponseRow.generation_run_id == run_id, ResponseRow.prompt_id.in_(some)
        )
        known |= {(row.prompt_id, row.sample_index): row.digest for row in connection.execute(rows)}
    return known


def response_digests(connection: Connection, project_id: int) -> Iterator[tuple[str, str]]:
    """What a project holds to compare: (`Prompt.id`, digest of the response's text), sorted."""
    last = ""
    while True:
        query = select(PromptRow.id, PromptRow.digest).where(PromptRow.project_id == project_id)
        query = query.where(PromptRow.split != LIVE, PromptRow.digest > last)
        prompts = connection.execute(query.order_by(PromptRow.digest).limit(CHUNK)).all()
        if not prompts:
            return
        found: dict[int, list[str]] = defaultdict(list)
        texts = select(ResponseRow.prompt_id, ResponseRow.digest)
        for row in connection.execute(texts.where(ResponseRow.prompt_id.in_([one.id for one in prompts]))):
            found[row.prompt_id].append(row.digest)
        for one in prompts:
            yield from ((one.digest, text) for text in sorted(found[one.id]))
        last = prompts[-1].digest
