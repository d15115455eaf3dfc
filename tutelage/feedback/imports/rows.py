"""Imported lines as rows: prompts, responses, comparisons and scores.  Each function says whether the line was new.

Raises ValueError where a line does not fit what is there.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection, select

from tutelage.feedback.imports.lines import PreferenceLine, ResponseColumns, ResponseLine, ScoreLine
from tutelage.records import Finish, Prompt
from tutelage.store.counting import recount
from tutelage.store.current import IS_CURRENT, IS_VOTE
from tutelage.store.generations import ensure_prompt, insert_generation_run, next_sample
from tutelage.store.origins import with_origin
from tutelage.store.pairing import insert_item
from tutelage.store.rows import LIVE, ModelInfo, is_held_out
from tutelage.store.schema import Annotation, Annotator, Item, ItemResponse, PromptRow, ResponseRow, digest
from tutelage.store.schema_feedback import ResponseScore, SoftVote
from tutelage.store.sql import insert_one, insert_rows, shown
from tutelage.store.voting import insert_soft_vote

# Whose votes the comparisons of a file are that names nobody; the next on a pair is "import 2".
VOTER = "import"
MOST_RESPONSES = 10_000  # of one generation run to one prompt, where nothing numbers them
MOST_VOTES = 200  # on one pair
_DIGEST = re.compile("[0-9a-f]{16}")


class Said(NamedTuple):
    """What a vote says: see `records.Vote`."""

    preference: int
    share: float | None
    margin: float | None


Seen = Counter[tuple[int, Said]]
"""How often a file has said this of a pair (by item), where it names nobody."""


def prompt_row(connection: Connection, key: int, prompt: Prompt, split: str) -> int:
    """The id of a prompt in the project, in whatever split it is there: but what a row holds out is not trained on."""
    row = ensure_prompt(connection, key, prompt, split)
    if is_held_out(split) and row.split != LIVE and not is_held_out(row.split):
        raise ValueError(
            f"the row is of the split '{split}', but its prompt {shown(prompt)} is in the project as '{row.split}', which "
            "is trained on: remove it from one of the two files, or use another project"
        )
    return row.id


# responses --------------------------------------------------------------------------------------------------------------


def store_response(connection: Connection, key: int, line: ResponseLine) -> tuple[int, bool]:
    """(id, whether it is new).  Without a sample index the same text with the same end is the same response."""
    return store_response_to(connection, prompt_row(connection, key, line.prompt, line.said.split), line)


def store_response_to(connection: Connection, prompt_id: int, line: ResponseLine) -> tuple[int, bool]:
    said = line.said
    model = ModelInfo(said.model, said.model_sha256)
    run_id = insert_generation_run(connection, model, said.engine, said.params)
    text, index = digest(line.text), said.sample_index
    there = (ResponseRow.prompt_id == prompt_id, ResponseRow.generation_run_id == run_id)
    same = ResponseRow.sample_index == index
    if index is None:
        same = (ResponseRow.digest == text) & (ResponseRow.finish_reason == line.finish)
    query = select(ResponseRow.id, ResponseRow.digest).where(*there, same)
    found = connection.execute(query.order_by(ResponseRow.sample_index).limit(1)).one_or_none()
    if found is not None and found.digest != text:
        raise ValueError(
            f"'{said.model}' already has another response {index} to the prompt {shown(line.prompt)}: give it "
            "another sample_index, or the run other params"
        )
    if found is not None:
        return found.id, False
    if index is None:
        index = next_sample(connection, run_id, prompt_id)
        if index >= MOST_RESPONSES:
            raise ValueError(
                f"one run has {index:,} responses to {shown(line.prompt)} and more: give it a sample_index"
            )
    response_id = insert_one(
        connection,
        ResponseRow,
        prompt_id=prompt_id,
        generation_run_id=run_id,
        sample_index=index,
        text=line.text,
        finish_reason=line.finish,
        n_tokens=said.n_tokens,
        logprob=said.logprob,
        digest=text,
    )
    return response_id, True


# comparisons ------------------------------------------------------------------------------------------------------------


def store_preference(connection: Connection, key: int, line: PreferenceLine, seen: Seen) -> bool:
    """A pair, and a vote on it that says what the row says, to the last digit."""
    pair = line.comparison
    if pair.chosen == pair.rejected:
        raise ValueError("chosen and rejected are the same text")
    item_id, slot = _ensure_pair(connection, key, line)
    said = _said(line, slot)
    voter = _voter(connection, item_id, line, said, seen)
    if voter is None:
        return False
    vote = {"item_id": item_id, "annotator_id": voter[0], "client_key": voter[1]}
    annotation_id = insert_one(connection, Annotation, **vote, preference=said.preference, first_shown=0)
    insert_soft_vote(connection, annotation_id, said.share, said.margin)
    recount(connection, [item_id])
    return True


def _said(line: PreferenceLine, chosen_slot: int) -> Said:
    """The side by p_chosen, the strength by the margin (1 is as strong as can be): the nearest of seven steps.

    Beside it both stand as they are.  A margin belongs to the pair, whichever side is the better one.
    """
    p, margin = line.comparison.p_chosen, line.comparison.margin
    better = chosen_slot if p > 0.5 else 1 - chosen_slot
    strength = max(1, min(3, round(3 * margin))) if p != 0.5 else 0
    return Said(strength if better == 1 else -strength, max(p, 1 - p) if line.counted else None, margin)


def _ensure_pair(connection: Connection, key: int, line: PreferenceLine) -> tuple[int, int]:
    """The pair's item, and the slot of the chosen response."""
    pair = line.comparison
    prompt_id = prompt_row(connection, key, pair.prompt, line.said.split)
    sides = [(pair.chosen, line.ends[0]), (pair.rejected, line.ends[1])]
    sides.sort(key=lambda side: digest(side[0]))
    item_digest = _pair_digest(line, [text for text, _ in sides])
    item_id = find_item(connection, key, item_digest)
    if item_id is None:
        slots = [_ensure_side(connection, line, prompt_id, *side) for side in sides]
        item = {
            "project_id": key,
            "type": "pair",
            "prompt_id": prompt_id,
            "digest": item_digest,
            "overlap": 1,
        }
        item_id = insert_item(connection, slots, **item)
    else:
        _check_ends(connection, item_id, [end for _, end in sides])
    return item_id, int(sides[1][0] == pair.chosen)


def _pair_digest(line: PreferenceLine, texts: Sequence[str]) -> str:
    """Which item a pair is.  A row of our own export that comes from another item (ranks, a rewrite, a chat) is one of its
    own beside the pair of the same texts: they were two rows, and stay two."""
    content = ("pair", line.comparison.prompt.id, *map(digest, texts))
    usual, origin = digest(*content), line.said.item
    ours = isinstance(origin, str) and _DIGEST.fullmatch(origin)
    return digest(*content, origin) if ours and origin != usual else usual


def _ensure_side(
    connection: Connection, line: PreferenceLine, prompt_id: int, text: str, end: Finish | None
) -> int:
    """The id of the project's response of this text (that ended so, where that is said); made where there is none."""
    same = [ResponseRow.prompt_id == prompt_id, ResponseRow.digest == digest(text)]
    if end is not None:
        same.append(ResponseRow.finish_reason == end)
    found = connection.scalar(select(ResponseRow.id).where(*same).order_by(ResponseRow.id).limit(1))
    if found is not None:
        return found
    said = ResponseColumns(split=line.said.split)
    response = ResponseLine(line.comparison.prompt, text, end or "eos", said)
    return store_response_to(connection, prompt_id, response)[0]


def _check_ends(connection: Connection, item_id: int, ends: Sequence[Finish | None]) -> None:
    query = select(ResponseRow.finish_reason).join(ItemResponse)
    there = connection.scalars(query.where(ItemResponse.item_id == item_id).order_by(ItemResponse.slot)).all()
    for end, stored in zip(ends, there, strict=True):
        if end is not None and end != stored:
            raise ValueError(
                f"a response ended by '{end}', but in the project's pair of these texts by '{stored}': mend one of them"
            )


def _voter(
    connection: Connection, item_id: int, line: PreferenceLine, said: Said, seen: Seen
) -> tuple[int, str] | None:
    """Whose vote this is (their id), and under which key; None where it is stored already.

    An annotator votes once on a pair.  Lines that name nobody are told apart by what they say and how often: so a file
    that is imported again, mended or longer, adds only what it did not say before.
    """
    votes = _votes_on(connection, item_id)
    if line.said.annotator:
        return _named_voter(connection, item_id, line, said, votes)
    seen[item_id, said] += 1
    ours = [vote for vote in votes if vote.annotator == VOTER or vote.annotator.startswith(f"{VOTER} ")]
    if sum(_same(vote.said, said) for vote in ours) >= seen[item_id, said]:
        return None
    _refuse_more(votes)
    taken = {vote.annotator for vote in ours}
    names = (VOTER if n == 1 else f"{VOTER} {n}" for n in range(1, len(votes) + 2))
    free = next(name for name in names if name not in taken)
    client_key = f"{VOTER}/{item_id}" if free == VOTER else f"{VOTER}/{item_id}/{free}"
    return ensure_annotator(connection, free, "rule"), client_key


def _named_voter(
    connection: Connection, item_id: int, line: PreferenceLine, said: Said, votes: Sequence[_There]
) -> tuple[int, str] | None:
    """The voter whom a line names, under a name that says that they came with a file."""
    plain = line.said.annotator
    name = with_origin(plain)
    annotator_id = ensure_annotator(connection, name, line.said.annotator_kind)
    # Before names had origins, a vote of a file stood under the plain one: its key tells it from a person's.
    keys = (f"{VOTER}/{item_id}/{name}", f"{VOTER}/{item_id}/{plain}")
    there = next((vote for vote in votes if vote.client_key in keys or vote.annotator == name), None)
    if there is None:
        _refuse_more(votes)
        return annotator_id, keys[0]
    if not _same(there.said, said):
        raise ValueError(f"'{plain}' has voted otherwise on this pair already, and votes once")
    return None


def _refuse_more(votes: Sequence[_There]) -> None:
    if len(votes) >= MOST_VOTES:
        raise ValueError(f"a pair has at most {MOST_VOTES:,} votes: count them before, and write p_chosen")


class _There(NamedTuple):
    """A vote on a pair that is stored."""

    annotator: str
    client_key: str
    said: Said


def _votes_on(connection: Connection, item_id: int) -> list[_There]:
    """The current votes on a pair."""
    query = (
        select(Annotator.name, Annotation.client_key, Annotation.preference, SoftVote.share, SoftVote.margin)
        .join(Annotator)
        .outerjoin(SoftVote)
        .where(Annotation.item_id == item_id, IS_VOTE, IS_CURRENT)
        .order_by(Annotation.id)
    )
    return [
        _There(row.name, row.client_key, Said(row.preference, row.share, row.margin))
        for row in connection.execute(query)
    ]


def _same(stored: Said, said: Said) -> bool:
    """Whether a stored vote is this one.  Without a margin it is one of seven steps: it says as much as it can."""
    if stored.margin is None:
        return stored.preference == said.preference and said.share in (None, 0.5, 1.0)
    return stored == said


# scores -----------------------------------------------------------------------------------------------------------------


def store_score(connection: Connection, key: int, line: ScoreLine) -> bool:
    said, same = line.said, (PromptRow.digest == line.prompt.id, ResponseRow.digest == digest(line.text))
    query = select(ResponseRow.id).join(PromptRow).where(PromptRow.project_id == key, *same)
    found = list(connection.scalars(query))
    if not found:
        raise ValueError("this response is not in the project: import responses first")
    own = (ResponseScore.response_id.in_(found), ResponseScore.source == said.source)
    values = select(ResponseScore.response_id, ResponseScore.value).where(*own)
    there = dict(connection.execute(values).all())
    for value in there.values():
        if value != said.score:
            raise ValueError(
                f"the response has another score by '{said.source}' ({value:g}): name another source"
            )
    score = {"source": said.source, "value": said.score}
    insert_rows(
        connection, ResponseScore, [score | {"response_id": one} for one in found if one not in there]
    )
    return len(there) < len(found)


# items and annotators ---------------------------------------------------------------------------------------------------


def find_item(connection: Connection, key: int, item_digest: str) -> int | None:
    """The id of the project's item with this digest."""
    return connection.scalar(select(Item.id).where(Item.project_id == key, Item.digest == item_digest))


def ensure_annotator(connection: Connection, name: str, kind: str) -> int:
    row = connection.execute(select(Annotator.id, Annotator.kind).where(Annotator.name == name)).one_or_none()
    if row is None:
        return insert_one(connection, Annotator, name=name, kind=kind, profile={})
    if row.kind != kind:
        raise ValueError(f"the annotator '{name}' is there as {row.kind}, not as {kind}: rename one of them")
    return row.id
